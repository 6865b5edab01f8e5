// Package effects brings the world in line with the store after a change: who hears a room and may speak in it, and whose
// connections end.
package effects

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/rules"
)

// width bounds the calls to the gateway that one change makes at a time.
const width = 8

// Live is the groups and rights of live connections.
type Live struct {
	store   chat.Store
	tenant  string
	rules   *rules.Rules
	gateway *dataplane.Client
}

// NewLive returns the live connections of a tenant's hub.
func NewLive(store chat.Store, tenant string, r *rules.Rules, gateway *dataplane.Client) *Live {
	return &Live{store, tenant, r, gateway}
}

// connections returns the ids of a user's connections as they are now. It is asked after a change, never before: a
// connection that is missing then is not connected yet, and finds out by itself when it is.
func (l *Live) connections(ctx context.Context, userID string) ([]string, error) {
	conns, err := l.store.Connections(ctx, l.tenant, userID)
	ids := make([]string, len(conns))
	for i, c := range conns {
		ids[i] = c.ID
	}
	return ids, err
}

// enterAll is Enter for the connections that the user has now.
func (l *Live) enterAll(ctx context.Context, roomID, userID string) error {
	conns, err := l.connections(ctx, userID)
	if err != nil || len(conns) == 0 {
		return err
	}
	return l.Enter(ctx, roomID, userID, conns)
}

// Enter lets connections of a user hear a room and speak in it, as far as the user may. What the user may is looked
// at again afterwards: who is blocked or taken out of the room in between must not get in by hurrying.
func (l *Live) Enter(ctx context.Context, roomID, userID string, conns []string) error {
	before, err := l.rules.Access(ctx, userID)
	if err != nil {
		return err
	}
	err = each(ctx, conns, func(ctx context.Context, conn string) error {
		if before.Speaks(roomID) {
			if err := l.gateway.Grant(ctx, conn, webpubsub.SendToGroup, roomID); err != nil {
				return err
			}
		}
		return l.gateway.AddConnectionToGroup(ctx, roomID, conn)
	})
	if err != nil {
		return err
	}
	after, err := l.rules.Access(ctx, userID)
	switch {
	case err != nil:
		return err
	case !after.Hears(roomID):
		return l.exit(ctx, roomID, conns)
	case before.Speaks(roomID) && !after.Speaks(roomID):
		return l.mute(ctx, roomID, conns)
	}
	return nil
}

// exitAll takes both away from the connections that the user has now.
func (l *Live) exitAll(ctx context.Context, roomID, userID string) error {
	conns, err := l.connections(ctx, userID)
	if err != nil {
		return err
	}
	return l.exit(ctx, roomID, conns)
}

func (l *Live) exit(ctx context.Context, roomID string, conns []string) error {
	if err := l.mute(ctx, roomID, conns); err != nil {
		return err
	}
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		return l.gateway.RemoveConnectionFromGroup(ctx, roomID, conn)
	})
}

// muteAll takes the right to speak away from the connections that the user has now.
func (l *Live) muteAll(ctx context.Context, roomID, userID string) error {
	conns, err := l.connections(ctx, userID)
	if err != nil {
		return err
	}
	return l.mute(ctx, roomID, conns)
}

func (l *Live) mute(ctx context.Context, roomID string, conns []string) error {
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		return l.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, roomID)
	})
}

// closeGroup takes everybody who is there out of a room's group, also connections that the store does not know.
func (l *Live) closeGroup(ctx context.Context, roomID string) error {
	members, err := l.gateway.ListConnections(ctx, roomID)
	if err != nil {
		return err
	}
	conns := make([]string, len(members))
	for i, m := range members {
		conns[i] = m.ConnectionID
	}
	return l.exit(ctx, roomID, conns)
}

// each does work for every id, several at a time, and returns the first error. A connection that has gone meanwhile is
// none.
func each(ctx context.Context, ids []string, work func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, id := range ids {
		group.Go(func() error {
			if err := work(ctx, id); !errors.Is(err, dataplane.ErrNotFound) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}
