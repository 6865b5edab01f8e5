// Package gateway is the platform: it holds the clients' WebSockets and serves the data-plane REST API.
//
// A gateway is one of any number of nodes that share a bus; none keeps state that a client would have to come back
// for, but the connections themselves. What clients send goes to groups over the bus, to applications over HTTP
// (package upstream), and, for hubs with listeners, to message logs.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/memlimit"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
	"github.com/chatr-dev/chatr/services/gateway/internal/front"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/orphans"
	"github.com/chatr-dev/chatr/services/gateway/internal/overload"
	"github.com/chatr-dev/chatr/services/gateway/internal/repeat"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// Deps is what a gateway works with.
type Deps struct {
	Tenants tenant.Source
	Log     messagelog.Log // nil when no hub has listeners
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Bus     cluster.Bus // nil: by Config.Redis
	Records io.Writer   // where Config.Records go; nil: standard error
}

// Gateway is one node. It serves after New and does so until Run's context ends.
type Gateway struct {
	cfg       Config
	tenants   tenant.Source
	messages  messagelog.Log
	log       *slog.Logger
	bus       cluster.Bus
	conns     *hub.Registry
	node      *node.Node
	upstream  *upstream.Upstream
	admission *front.Admission
	front     *front.Front
	clients   *session.Clients
	audit     *audit.Log
	watchers  *livetrace.Hub
	orphans   *orphans.Orphans
	guard     *overload.Guard
	rest      http.Handler

	store      redis.UniversalClient // nil: without Redis
	userGroups *asrs.UserGroups

	// Moments of the drain, counted from its beginning. Tests that do not want to wait have them early, which leaves
	// the rest of the drain time to what the drain then waits for.
	leaveSpan   time.Duration // all clients have been asked to leave
	giveUpAfter time.Duration // reliable connections that no other node has taken over are closed

	sockets sync.WaitGroup // goroutines that have a socket in their hands
	work    sync.WaitGroup // others, which end with Run
}

// New returns a gateway. Run must run for it to work.
func New(cfg Config, d Deps) (*Gateway, error) {
	config.Defaults(&cfg)
	if d.Records == nil {
		d.Records = os.Stderr
	}
	var err error
	bus := d.Bus
	switch {
	case bus != nil:
	case cfg.Redis.URL == "":
		bus = membus.New()
	default:
		if bus, err = redisbus.New(cfg.Redis, cfg.Backlog, d.Logger, d.Metrics); err != nil {
			return nil, fmt.Errorf("open the bus: %w", err)
		}
	}
	g := &Gateway{cfg: cfg, tenants: d.Tenants, messages: d.Log, log: d.Logger, bus: bus, watchers: livetrace.NewHub(),
		leaveSpan: cfg.DrainTime / 2, giveUpAfter: cfg.DrainTime * 4 / 5}
	g.conns = hub.NewRegistry(hub.Options{Recovery: cfg.RecoveryTime}, d.Metrics)
	g.node = node.New(bus, g.conns, node.Options{Handoff: session.Hooks(), Traced: g.watchers.Deliver, Keeps: g.keeps,
		Unresponsive: func(ctx context.Context) ([]string, error) { return g.orphans.Unresponsive(ctx) },
		Living:       func(ctx context.Context) ([]string, error) { return g.orphans.Living(ctx) },
		Dead:         func() []string { return g.orphans.Dead() }}, d.Logger, d.Metrics)
	g.upstream = upstream.New(cfg.Upstream, d.Tenants, d.Log, d.Logger, d.Metrics)
	if g.audit, err = audit.New(cfg.Records, d.Records, audit.Deps{Tenants: d.Tenants, Node: g.node, Traces: g.watchers, TrustedProxies: cfg.TrustedProxies,
		Metrics: d.Metrics}); err != nil {
		return nil, err
	}
	if g.orphans, err = orphans.New(cfg.Redis, cfg.Lease, orphans.Deps{Node: g.node, Conns: g.conns, Upstream: g.upstream,
		Log: d.Logger, Metrics: d.Metrics, Address: cfg.PeerAddress,
		Fence: orphans.Fence{Close: g.closeCutOff, Open: func() { g.front.Open() }}}); err != nil {
		return nil, err
	}
	if g.store, err = openStore(cfg.Redis); err != nil {
		return nil, err
	}
	g.userGroups = asrs.NewUserGroups(g.store, cfg.Redis.Prefix)
	g.guard = overload.New(overload.Deps{Conns: g.conns, Limit: memlimit.Find(cfg.MemoryLimit), Log: d.Logger, Metrics: d.Metrics})
	g.admission = front.NewAdmission(d.Tenants, cfg.Handshakes, cfg.HandshakeRate)
	g.clients = session.NewClients(session.Deps{Tenants: d.Tenants, Messages: d.Log, Bus: bus, Conns: g.conns, Node: g.node, Audit: g.audit,
		Log: d.Logger, Metrics: d.Metrics, Sockets: &g.sockets, Ended: g.admission.RemoveConnection})
	g.front = front.New(front.Deps{Tenants: d.Tenants, Node: g.node, Conns: g.conns, Upstream: g.upstream, UserGroups: g.userGroups,
		Admission: g.admission, Clients: g.clients, Audit: g.audit, Log: d.Logger, Metrics: d.Metrics,
		AcceptedHosts: cfg.AcceptedHosts, TrustedProxies: cfg.TrustedProxies, Sockets: &g.sockets, Admit: g.guard.Admit})
	g.rest = httpx.WithRequestID(rest.New(g.node, d.Tenants, rest.Options{UserGroups: g.userGroups, Repeats: repeat.New(g.store, cfg.Redis.Prefix),
		AcceptedHosts: cfg.AcceptedHosts, PublicURL: cfg.PublicURL, TrustedProxies: cfg.TrustedProxies,
		OnAnswered: func(d rest.AnsweredRequest) { g.audit.RequestAnswered(audit.Request(d)) }}, d.Logger, d.Metrics))
	return g, nil
}

// openStore returns a client of Redis for what nodes share besides the bus; nil without Redis.
func openStore(cfg redisbus.Config) (redis.UniversalClient, error) {
	if cfg.URL == "" {
		return nil, nil
	}
	client, err := redisconn.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open what nodes share: %w", err)
	}
	return client, nil
}

// Handler serves /client…, /clients…, /ws/…, /livetrace, /api/hubs/… and the health routes. It must get the raw path, so it
// must not stand behind a mux that cleans paths.
func (g *Gateway) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/client" || strings.HasPrefix(path, "/client/"), path == "/ws/client" || strings.HasPrefix(path, "/ws/client/"):
			g.front.ServeClient(w, r)
		case strings.HasPrefix(path, "/clients/"):
			g.front.ServeUnknown(w, r)
		case path == front.TracePath:
			g.front.ServeTrace(w, r)
		default:
			g.rest.ServeHTTP(w, r)
		}
	})
}

// Listener returns l, by which clients come in one after the other while they are only to be refused.
func (g *Gateway) Listener(l net.Listener) net.Listener { return g.guard.Listener(l) }

// Run works until ctx ends, then lets connections leave and returns when everything has stopped.
func (g *Gateway) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx, so that a drain can still be told of
	defer stop()
	group, inner := errgroup.WithContext(inner)
	group.Go(func() error { return g.node.Run(inner) })
	group.Go(func() error { return g.conns.Run(inner) })
	group.Go(func() error { return g.upstream.Run(inner) })
	group.Go(func() error { return g.watchBus(inner) })
	group.Go(func() error { return g.watchTenants(inner) })
	group.Go(func() error { return g.orphans.Run(inner) })
	group.Go(func() error { return g.freeMemory(inner) })
	group.Go(func() error { return g.guard.Run(inner) })
	group.Go(func() error { return g.audit.Watch(inner) })
	group.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
			g.drain()
		case <-inner.Done(): // something has failed
		}
		return nil
	})
	err := group.Wait()
	g.front.Drain()
	g.clients.Stop()
	g.work.Wait()
	g.sockets.Wait()
	g.clients.Wait()
	_ = g.userGroups.Close() // closes the store with it; nothing waits in it
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watchTenants ends the connections of tenants that are not served any more: their keys and limits are gone, and nobody
// could end them by REST.
func (g *Gateway) watchTenants(ctx context.Context) error {
	return every(ctx, watchInterval, func() {
		removed := g.admission.Removed()
		if len(removed) == 0 {
			return
		}
		ended := 0
		for _, c := range g.conns.Conns() {
			if removed[c.Hub.Tenant] {
				ended++
				g.conns.Close(c, hub.ReasonRemoved.Closing("This service has been removed."))
			}
		}
		if ended > 0 {
			g.log.Info("connections of removed tenants ended", "ended", ended)
		}
	})
}

// watchInterval is how often a node looks for what it has to do about its connections.
const watchInterval = 250 * time.Millisecond

// every calls look at each interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, look func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			look()
		case <-ctx.Done():
			return nil
		}
	}
}
