package presence

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
)

const (
	// checkBatch is how many connections are claimed for checking at a time: with the default interval, 66 a second of one
	// process. Gateways tell the end of those that a dead one had; what is left to find is rare.
	checkBatch = 100

	width = 8 // calls to the gateway at a time
)

// Check asks the gateway for the connections that nobody has asked for the longest, so that one whose gateway died,
// or that was live when everything stopped, does not stay in the store for good. Where there are ghosts there may
// be more, so it goes on; else the rest can wait for the next round.
func (p *Presence) Check(ctx context.Context) error {
	for {
		conns, err := p.Store.ClaimConnections(ctx, p.Tenant, time.Now().Add(-p.CheckInterval), checkBatch)
		if err != nil {
			return err
		}
		ghosts, err := p.dropGhosts(ctx, conns)
		if err != nil || ghosts == 0 || len(conns) < checkBatch {
			return err
		}
	}
}

// dropGhosts drops those of conns that two looks in a row do not find, and returns how many: a gateway that has just
// come back to its bus may miss one for a moment.
func (p *Presence) dropGhosts(ctx context.Context, conns []chat.Connection) (int, error) {
	missing, err := p.missing(ctx, conns)
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	select {
	case <-time.After(p.CheckInterval / 2):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if missing, err = p.missing(ctx, missing); err != nil {
		return 0, err
	}
	p.ghosts.Add(float64(len(missing)))
	var failed []error
	for _, c := range missing {
		failed = append(failed, p.Gone(ctx, c))
	}
	return len(missing), errors.Join(failed...)
}

// missing returns those of conns that the gateway says are not there.
func (p *Presence) missing(ctx context.Context, conns []chat.Connection) ([]chat.Connection, error) {
	gone := make([]bool, len(conns))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for i, c := range conns {
		group.Go(func() error {
			there, err := p.Gateway.ConnectionExists(ctx, c.ID)
			gone[i] = !there
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var missing []chat.Connection
	for i, c := range conns {
		if gone[i] {
			missing = append(missing, c)
		}
	}
	return missing, nil
}
