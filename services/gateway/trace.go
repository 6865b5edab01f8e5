package gateway

import (
	"context"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/gateway/internal/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// tracePath is where operators watch what happens (service-limits-and-ops.md section 6).
const tracePath = "/livetrace"

// lookForListeners is how often a node asks whether anybody watches a tenant. Until it knows, it tells nobody.
const lookForListeners = time.Second

// traces are the live traces of this node's tenants.
type traces struct {
	hub    *livetrace.Hub
	wanted atomic.Pointer[map[traced]bool] // nil: none
	look   chan struct{}                   // asks to look for listeners at once

	life context.Context // ends when the node begins to drain: nobody is waited for who only watches
	stop context.CancelFunc
}

// traced is a category of a tenant that somebody watches, on this node or another.
type traced struct{ tenant, category string }

func newTraces() *traces {
	t := &traces{hub: livetrace.NewHub(), look: make(chan struct{}, 1)}
	t.life, t.stop = context.WithCancel(context.Background())
	return t
}

// wants reports whether anybody watches. It is asked about each message.
func (t *traces) wants(tenant, category string) bool {
	wanted := t.wanted.Load()
	return wanted != nil && (*wanted)[traced{tenant, category}]
}

// watchTraces keeps in mind who is watched until ctx ends.
func (g *Gateway) watchTraces(ctx context.Context) error {
	tick := time.NewTicker(lookForListeners)
	defer tick.Stop()
	for {
		var wanted map[traced]bool
		for _, t := range g.tenants.All() {
			if !t.LiveTrace.Enabled || !g.node.TraceHeld(ctx, t.Name) {
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
			g.traces.wanted.Store(nil)
		} else {
			g.traces.wanted.Store(&wanted)
		}
		select {
		case <-tick.C:
		case <-g.traces.look:
		case <-ctx.Done():
			return nil
		}
	}
}

// serveTrace answers the handshake of one who wants to watch, and talks to it.
func (g *Gateway) serveTrace(w http.ResponseWriter, r *http.Request) {
	if !socket.CheckHandshake(w, r) {
		return
	}
	t, f := g.admitTrace(r)
	if f == nil && !g.traces.hub.Enter(t.Name) {
		f = refuse(http.StatusTooManyRequests, "%d are watching already, as many as may on one node", livetrace.MaxListeners)
	}
	if f != nil {
		if f.status != http.StatusTooManyRequests { // which would look like that of clients
			g.tellRefusal(r, f)
		}
		f.write(w)
		return
	}
	defer g.traces.hub.Leave(t.Name)
	g.sockets.Add(1)
	defer g.sockets.Done()
	sock, err := socket.Accept(w, r, "", false)
	if err != nil {
		return // w has been answered
	}
	err = g.traces.hub.Serve(g.traces.life, sock, t.Name, func(ctx context.Context) (func(), error) {
		release, err := g.node.HoldTrace(ctx, t.Name)
		select {
		case g.traces.look <- struct{}{}:
		default:
		}
		return release, err
	})
	if err != nil {
		g.log.Debug("live trace ended", "tenant", t.Name, "error", err)
	}
}

// admitTrace finds out whom the client may watch.
func (g *Gateway) admitTrace(r *http.Request) (*tenant.Tenant, *refusal) {
	t := g.tenants.ByHost(r.Host)
	switch {
	case t == nil:
		return nil, refuse(http.StatusNotFound, "no tenant has the host %.100q", r.Host)
	case !t.Permits(tenant.Trace, g.proxies.ClientAddr(r)):
		return nil, refuse(http.StatusForbidden, "the service does not allow live trace from your network")
	case !t.LiveTrace.Enabled:
		return nil, refuse(http.StatusNotFound, "live trace is off; the service's setting liveTrace.enabled turns it on")
	case g.draining.Load():
		return nil, refuseForNow()
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query string is malformed")
	}
	claims, err := token.NewKeyVerifier(t.TokenKeys()...).Verify(r.Context(), accessToken(r, query))
	if err == nil {
		err = token.CheckRESTAudience(claims, r, t.AcceptedEndpoints(g.cfg.AcceptedEndpoints))
	}
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, "live trace needs a token that is signed with an access key, in the query parameter access_token or as Authorization: Bearer: %v", err)
	}
	return t, nil
}
