package presence

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/services/events/effects"
)

// Sweep turns those offline whose last connection has been gone for the grace period.
func (p *Presence) Sweep(ctx context.Context) error {
	users, err := p.Store.SweepOffline(ctx, p.Tenant, time.Now().Add(-p.OfflineGrace))
	for _, u := range users {
		p.Effects.Presence(ctx, u.ID, effects.OnlyComing)
	}
	return err
}
