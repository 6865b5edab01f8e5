package audit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// lookForListeners is how often a node asks whether anybody watches a tenant. Until it knows, it tells nobody.
const lookForListeners = time.Second

// traces are the live traces of this node's tenants.
type traces struct {
	hub    *livetrace.Hub
	wanted atomic.Pointer[map[traced]bool] // nil: none
	look   chan struct{}                   // asks to look for listeners at once
}

// traced is a category of a tenant that somebody watches, on this node or another.
type traced struct{ tenant, category string }

func newTraces(hub *livetrace.Hub) traces { return traces{hub: hub, look: make(chan struct{}, 1)} }

// wants reports whether anybody watches. It is asked about each message.
func (t *traces) wants(tenant, category string) bool {
	wanted := t.wanted.Load()
	return wanted != nil && (*wanted)[traced{tenant, category}]
}

// Watch keeps in mind who is watched until ctx ends.
func (l *Log) Watch(ctx context.Context) error {
	tick := time.NewTicker(lookForListeners)
	defer tick.Stop()
	for {
		var wanted map[traced]bool
		for _, t := range l.tenants.All() {
			if !t.LiveTrace.Enabled || !l.node.TraceHeld(ctx, t.Name) {
				continue
			}
			if wanted == nil {
				wanted = map[traced]bool{}
			}
			for category, name := range categoryNames {
				wanted[traced{t.Name, category}] = t.Traces(name)
			}
		}
		if wanted == nil {
			l.traces.wanted.Store(nil)
		} else {
			l.traces.wanted.Store(&wanted)
		}
		select {
		case <-tick.C:
		case <-l.traces.look:
		case <-ctx.Done():
			return nil
		}
	}
}

// EnterTrace reports whether one more may watch a tenant on this node, and counts it. LeaveTrace counts it out.
func (l *Log) EnterTrace(tenant string) bool { return l.traces.hub.Enter(tenant) }

// LeaveTrace counts somebody out who has watched a tenant.
func (l *Log) LeaveTrace(tenant string) { l.traces.hub.Leave(tenant) }

// ServeTrace talks to somebody who watches a tenant, until that one leaves or ctx ends.
func (l *Log) ServeTrace(ctx context.Context, sock *socket.Socket, tenant string) error {
	return l.traces.hub.Serve(ctx, sock, tenant, func(ctx context.Context) (func(), error) {
		release, err := l.node.HoldTrace(ctx, tenant)
		select {
		case l.traces.look <- struct{}{}: // so that the node tells it what happens at once
		default:
		}
		return release, err
	})
}
