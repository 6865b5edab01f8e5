// Package presence keeps who is here, idle or gone: it is recorded in the store, and told.
package presence

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
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
	Metrics prometheus.Registerer

	OfflineGrace  time.Duration // from losing the last connection to being offline
	CheckInterval time.Duration // how often a connection is checked to be still there
}

// Presence is who is here. It is safe for concurrent use.
type Presence struct {
	Config
	ghosts prometheus.Counter

	mu      sync.Mutex      // guards the following
	pending map[string]bool // users of whose presence a change could not be told; true: they went offline by it
}

// New returns the presence of a tenant's chat.
func New(cfg Config) *Presence {
	ghosts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "events_stale_connections_total",
		Help: "Connections that had ended without a disconnected event and were found by looking for them.",
	})
	cfg.Metrics.MustRegister(ghosts)
	return &Presence{Config: cfg, ghosts: ghosts, pending: map[string]bool{}}
}

// Came records a connection and tells who has come. The connection itself always hears of its own user: pages wait for it.
func (p *Presence) Came(ctx context.Context, user chat.User, conn string) error {
	cameOnline, err := p.Store.Connect(ctx, p.Tenant, chat.Connection{ID: conn, UserID: user.ID})
	if err != nil {
		return err
	}
	if p.Rules.IsUnnamed(user) { // the page, which follows with its name, is announced by that
		return nil
	}
	if cameOnline {
		return p.announce(ctx, user, false)
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

// Announce tells everybody that a user is online, who has got a name just now.
func (p *Presence) Announce(ctx context.Context, user chat.User) error {
	return p.announce(ctx, user, false)
}

// Gone forgets a connection. With it may go the only one in use. Its user goes offline by Keep, unless another connection
// comes in time.
func (p *Presence) Gone(ctx context.Context, c chat.Connection) error {
	if err := p.Store.Disconnect(ctx, p.Tenant, c.ID); err != nil || c.UserID == "" {
		return err
	}
	_, err := p.refreshIdle(ctx, c.UserID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	return err
}

// SetIdle notes that somebody's connection is idle, or in use again. The user is idle when all connections are.
func (p *Presence) SetIdle(ctx context.Context, a rules.Actor, idle bool) error {
	now, changed, err := p.Store.SetIdle(ctx, p.Tenant, chat.Connection{ID: a.Connection, UserID: a.User.ID}, idle)
	if err != nil || !changed {
		return err
	}
	return p.tell(ctx, a.User.ID, false, telling.Idle(a.User.ID, now))
}

func (p *Presence) refreshIdle(ctx context.Context, userID string) (idle bool, err error) {
	idle, changed, err := p.Store.RefreshIdle(ctx, p.Tenant, userID)
	if err != nil || !changed {
		return idle, err
	}
	return idle, p.tell(ctx, userID, false, telling.Idle(userID, idle))
}

// Live makes sure that conn is one of the user's connections: a signature only proves that a gateway once knew the
// connection (event-handler.md section 4.1), so an old request could be played again.
func (p *Presence) Live(ctx context.Context, user chat.User, conn string) error {
	conns, err := p.Store.Connections(ctx, p.Tenant, user.ID)
	if err != nil || slices.ContainsFunc(conns, func(c chat.Connection) bool { return c.ID == conn }) {
		return err
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

// announce tells everybody that a user is online.
func (p *Presence) announce(ctx context.Context, user chat.User, idle bool) error {
	return p.tell(ctx, user.ID, false, telling.Online(user, idle))
}

// tell tells everybody about a user, who is offline now or not. If that fails it is done later, by Keep: presence changes
// also when nobody can be told, and there is no second event.
func (p *Presence) tell(ctx context.Context, userID string, offline bool, d webpubsub.Data) error {
	err := p.Tell.All(ctx, d)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.pending[userID] = offline
	} else {
		delete(p.pending, userID)
	}
	return err
}
