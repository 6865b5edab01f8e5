package effects

import (
	"context"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Look lets a connection hear who is typing in a room that its user hears, and say so if the user may speak there. What the
// user may is looked at again afterwards, as in align, and whenever that changes: see lookNoMore.
func (l *Live) Look(ctx context.Context, roomID, userID, conn string) error {
	group := telling.TypingGroup(roomID)
	is, err := l.standing(ctx, roomID, userID)
	for err == nil && is.hears {
		if is.speaks {
			err = l.gateway.Grant(ctx, conn, webpubsub.SendToGroup, group)
		}
		if err == nil {
			err = l.gateway.AddConnectionToGroup(ctx, group, conn)
		}
		was := is
		if err == nil {
			is, err = l.standing(ctx, roomID, userID)
		}
		if err != nil || is == was {
			return err
		}
		err = l.lookNoMore(ctx, roomID, conn, is)
	}
	return err
}

// LookAway ends what Look has begun.
func (l *Live) LookAway(ctx context.Context, roomID, conn string) error {
	return l.lookNoMore(ctx, roomID, conn, standing{})
}

// lookNoMore takes from a connection what Look has given it and its user may not have any more.
func (l *Live) lookNoMore(ctx context.Context, roomID, conn string, is standing) error {
	group := telling.TypingGroup(roomID)
	if !is.speaks {
		if err := taken(l.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, group)); err != nil {
			return err
		}
	}
	if !is.hears {
		return taken(l.gateway.RemoveConnectionFromGroup(ctx, group, conn))
	}
	return nil
}
