//go:build !race

package session

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// newSender returns a reader of a connection whose socket is left out, in a hub that has a handler which is not asked before messages are
// published.
func newSender(t testing.TB) *reader {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	source, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: "0123456789abcdef0123456789abcdef"},
		Hubs: []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{{URL: "http://127.0.0.1:1/", UserEvents: "*"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	bus, conns := membus.New(), hub.NewRegistry(hub.Options{Recovery: time.Second}, reg)
	n := node.New(bus, conns, node.Options{}, log, reg)
	records, err := audit.New(nil, io.Discard, audit.Deps{Tenants: source, Node: n, Traces: livetrace.NewHub(), Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	clients := NewClients(Deps{Tenants: source, Bus: bus, Conns: conns, Node: n, Audit: records, Log: log, Metrics: reg, Sockets: new(sync.WaitGroup),
		Ended: func(string) {}})
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = conns.Run(ctx) })
	work.Go(func() { _ = n.Run(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, time.Minute, func() bool { return n.Ready() == nil }, "the node is ready")
	key := webpubsub.HubKey{Tenant: "default", Hub: "chat"}
	permissions, _ := webpubsub.ParseRoles([]string{"webpubsub.sendToGroup"})
	c := clients.New(upstream.New(upstream.Config{}, source, nil, log, prometheus.NewRegistry()).Open(key, "c"), "default", Mode{})
	if err := c.Open(ctx, hub.ConnOptions{ID: n.NewConnectionID(), Hub: key, UserID: "ben", Codec: protocol.JSON, Permissions: permissions}, nil); err != nil {
		t.Fatal(err)
	}
	return newReader(c, nil)
}

// sendFrame is a message to a group where nobody is.
var sendFrame = []byte(`{"type":"sendToGroup","group":"room-7","dataType":"text","data":"a message as people write it","noEcho":false}`)

// send does what the reader does with one frame.
func (r *reader) send(t testing.TB) {
	r.limitRate()
	if _, ok := r.handle(false, sendFrame); !ok {
		t.Fatal("the frame was refused")
	}
}

// TestSendingCostsOneAllocation where no handler is asked: what travels over the bus.
func TestSendingCostsOneAllocation(t *testing.T) {
	r := newSender(t)
	for range 10 {
		r.send(t)
	}
	if allocs := testing.AllocsPerRun(1000, func() { r.send(t) }); allocs > 1 {
		t.Errorf("got %v allocations for each message, want one", allocs)
	}
}

// BenchmarkSendToGroup is what a message costs its sender's goroutine, from the frame to the bus.
func BenchmarkSendToGroup(b *testing.B) {
	r := newSender(b)
	b.ReportAllocs()
	for b.Loop() {
		r.send(b)
	}
}
