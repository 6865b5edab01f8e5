// Package presence keeps who is here, idle or gone: it is recorded in the store, and told.
package presence

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Config is what a Presence works with. All is required.
type Config struct {
	Store   chat.Store
	Tenant  string
	Rules   *rules.Rules
	Gateway *dataplane.Client
	Tell    *telling.Teller
	Effects *effects.Effects
	Metrics prometheus.Registerer

	OfflineGrace  time.Duration // from losing the last connection to being offline
	CheckInterval time.Duration // how often a connection is checked to be still there
}

// Presence is who is here. It is safe for concurrent use.
type Presence struct {
	Config
	ghosts prometheus.Counter

	mu   sync.Mutex             // guards the following
	live map[liveness]time.Time // when it was seen; see WasLive
}

// liveness is that a connection is a user's.
type liveness struct{ userID, conn string }

const (
	liveTime = 5 * time.Second // for which it is not looked at again
	liveMost = 100_000
)

// New returns the presence of a tenant's chat.
func New(cfg Config) *Presence {
	ghosts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "events_stale_connections_total",
		Help: "Connections that had ended without a disconnected event and were found by looking for them.",
	})
	cfg.Metrics.MustRegister(ghosts)
	return &Presence{Config: cfg, ghosts: ghosts, live: map[liveness]time.Time{}}
}

// Came records a connection and tells who has come. The connection itself always hears of its own user: pages wait for it.
func (p *Presence) Came(ctx context.Context, user chat.User, conn string) error {
	cameOnline, err := p.Store.Connect(ctx, p.Tenant, chat.Connection{ID: conn, UserID: user.ID})
	if err != nil {
		return err
	}
	news := effects.Everything // in use again, if not here again
	if cameOnline {
		news = effects.OnlyComing
	}
	p.Effects.Presence(ctx, user.ID, news)
	if p.Rules.IsUnnamed(user) { // its page, which is about to tell a name, waits for that
		return nil
	}
	if cameOnline {
		return nil
	}
	return p.TellOwn(ctx, user, conn)
}

// TellOwn tells a connection that its own user is online.
func (p *Presence) TellOwn(ctx context.Context, user chat.User, conn string) error {
	idle, err := p.refreshIdle(ctx, user.ID)
	if err != nil {
		return err
	}
	return p.Tell.Connection(ctx, conn, telling.Online(user, idle))
}

// Name gives a guest of the original the name that its page tells, once, and by that everybody is told that the guest is
// here.
func (p *Presence) Name(ctx context.Context, user chat.User, name string) error {
	named := p.Rules.Named(user, name)
	if named == user { // it cannot be; but the page waits to be told of itself
		return p.Tell.All(ctx, telling.Online(user, false))
	}
	if err := p.Store.SaveUser(ctx, p.Tenant, named); err != nil {
		return err
	}
	p.Effects.Presence(ctx, user.ID, effects.OnlyComing)
	return nil
}

// Gone forgets a connection. With it may go the only one in use. Its user goes offline by Keep, unless another connection
// comes in time.
func (p *Presence) Gone(ctx context.Context, c chat.Connection) error {
	p.mu.Lock()
	delete(p.live, liveness{c.UserID, c.ID})
	p.mu.Unlock()
	if err := p.Store.Disconnect(ctx, p.Tenant, c.ID); err != nil || c.UserID == "" {
		return err
	}
	p.Effects.Presence(ctx, c.UserID, effects.Everything)
	return nil
}

// SetIdle notes that somebody's connection is idle, or in use again. The user is idle when all connections are.
func (p *Presence) SetIdle(ctx context.Context, a rules.Actor, idle bool) error {
	_, changed, err := p.Store.SetIdle(ctx, p.Tenant, chat.Connection{ID: a.Connection, UserID: a.User.ID}, idle)
	if err == nil && changed {
		p.Effects.Presence(ctx, a.User.ID, effects.OnlyIdleness)
	}
	return err
}

func (p *Presence) refreshIdle(ctx context.Context, userID string) (idle bool, err error) {
	idle, changed, err := p.Store.RefreshIdle(ctx, p.Tenant, userID)
	if err == nil && changed {
		p.Effects.Presence(ctx, userID, effects.OnlyIdleness)
	}
	return idle, err
}

// Live makes sure that conn is one of the user's connections: a signature only proves that a gateway once knew the
// connection (event-handler.md section 4.1), so an old request could be played again.
func (p *Presence) Live(ctx context.Context, user chat.User, conn string) error {
	conns, err := p.Store.Connections(ctx, p.Tenant, user.ID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(conns, func(c chat.Connection) bool { return c.ID == conn }) {
		p.saw(liveness{user.ID, conn})
		return nil
	}
	there, err := p.Gateway.ConnectionExists(ctx, conn)
	if err != nil {
		return err
	}
	if !there {
		return rules.Refuse(rules.NotConnected, "this connection is closed")
	}
	return p.Came(ctx, user, conn)
}

func (p *Presence) saw(l liveness) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.live) >= liveMost {
		clear(p.live)
	}
	p.live[l] = time.Now()
}

// WasLive reports whether Live has found a connection to be the user's within the last seconds, in this process. It is a
// memory of what was asked, no promise: for what does no harm when the connection has just ended.
func (p *Presence) WasLive(userID, conn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.live[liveness{userID, conn}]
	if ok && time.Since(at) > liveTime {
		delete(p.live, liveness{userID, conn})
		return false
	}
	return ok
}
