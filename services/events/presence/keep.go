package presence

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/chatr-dev/chatr/services/events/telling"
)

// Keep turns those offline who have been gone for long enough, and tells what could not be told before.
func (p *Presence) Keep(ctx context.Context) error {
	return errors.Join(p.tellPending(ctx), p.sweep(ctx))
}

// sweep turns those offline whose last connection has been gone for the grace period.
func (p *Presence) sweep(ctx context.Context) error {
	users, err := p.Store.SweepOffline(ctx, p.Tenant, time.Now().Add(-p.OfflineGrace))
	for _, u := range users {
		if err != nil { // the gateway is away: no use trying for each
			p.later(u.ID, true)
			continue
		}
		err = p.tellOffline(ctx, u.ID)
	}
	return err
}

func (p *Presence) later(userID string, offline bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[userID] = offline
}

// tellOffline tells that a user has gone. Who has come back meanwhile has told so already, maybe too early to be
// heard last, so that is told again.
func (p *Presence) tellOffline(ctx context.Context, userID string) error {
	if err := p.tell(ctx, userID, true, telling.Offline(userID)); err != nil {
		return err
	}
	conns, err := p.Store.Connections(ctx, p.Tenant, userID)
	if err != nil {
		p.later(userID, false)
		return err
	}
	if len(conns) == 0 {
		return nil
	}
	return p.tellOnline(ctx, userID)
}

// tellPending tells how those users are now of whom a change could not be told, until one cannot be told either.
func (p *Presence) tellPending(ctx context.Context) error {
	p.mu.Lock()
	pending := maps.Clone(p.pending)
	p.mu.Unlock()
	for id, offline := range pending {
		conns, err := p.Store.Connections(ctx, p.Tenant, id)
		switch {
		case err != nil:
		case len(conns) > 0:
			err = p.tellOnline(ctx, id)
		case offline:
			err = p.tellOffline(ctx, id)
		default: // about to go offline, which sweep will tell
			p.mu.Lock()
			delete(p.pending, id)
			p.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Presence) tellOnline(ctx context.Context, userID string) error {
	user, err := p.Store.User(ctx, p.Tenant, userID)
	if err != nil {
		return err
	}
	idle, _, err := p.Store.RefreshIdle(ctx, p.Tenant, userID)
	if err != nil {
		return err
	}
	return p.announce(ctx, user, idle)
}
