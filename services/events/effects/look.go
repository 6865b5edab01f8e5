package effects

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Look lets a connection hear who is typing in a room, and say so if its user may speak there, or ends both. What the user
// may is looked at again when that changes: see lookNoMore.
func (l *Live) Look(ctx context.Context, roomID, conn string, looks, speaks bool) error {
	group := telling.TypingGroup(roomID)
	if !looks {
		return errors.Join(l.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, group), l.gateway.RemoveConnectionFromGroup(ctx, group, conn))
	}
	if speaks {
		if err := l.gateway.Grant(ctx, conn, webpubsub.SendToGroup, group); err != nil {
			return err
		}
	}
	return l.gateway.AddConnectionToGroup(ctx, group, conn)
}

// lookNoMore takes from a connection what Look has given it and its user may not have any more.
func (l *Live) lookNoMore(ctx context.Context, roomID, conn string, is standing) error {
	group := telling.TypingGroup(roomID)
	if !is.speaks {
		if err := l.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, group); err != nil {
			return err
		}
	}
	if !is.hears {
		return l.gateway.RemoveConnectionFromGroup(ctx, group, conn)
	}
	return nil
}
