// Package effects brings the world in line with the store after a change: who hears a room and may speak in it, whose
// connections end, who is known to be here.
//
// What follows from a change is owed by the store, in the change's own transaction. It is paid at once by who made the
// change, if that goes well, and otherwise by a worker of any process. An effect names what is to be brought in line;
// how, is read from the store when it is paid. So paying late, twice, or in another order does no harm.
package effects

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// width bounds the calls to the gateway that one effect makes at a time.
const width = 8

// Live is the groups and rights of live connections.
type Live struct {
	store   chat.Store
	tenant  string
	gateway *dataplane.Client
	tell    *telling.Teller
}

// NewLive returns the live connections of a tenant's hub.
func NewLive(store chat.Store, tenant string, gateway *dataplane.Client, tell *telling.Teller) *Live {
	return &Live{store, tenant, gateway, tell}
}

// standing is how a user stands to a room.
type standing struct {
	hears, speaks bool
	deleted       bool // the room is
}

func (l *Live) standing(ctx context.Context, roomID, userID string) (standing, error) {
	m, err := l.store.Membership(ctx, l.tenant, roomID, userID)
	if errors.Is(err, chat.ErrNotFound) {
		return standing{deleted: true}, nil
	}
	return standing{hears: m.In, speaks: m.In && m.MaySpeak}, err
}

// member brings the connections that a user has now in line with how the user stands to a room, and tells them. A connection that the
// store does not know yet finds out by itself, when it is connected, what it hears. It may have been told already that the user is
// in a room, as all connections of the user are, so these are told of being out of it, too.
func (l *Live) member(ctx context.Context, roomID, userID string) error {
	conns, err := l.connections(ctx, userID)
	if err == nil && len(conns) == 0 {
		var is standing
		if is, err = l.standing(ctx, roomID, userID); is.hears {
			return err
		}
	}
	if err != nil {
		return err
	}
	is, news, err := l.bring(ctx, roomID, userID, conns)
	switch {
	case err != nil || news.Bytes == nil:
		return err
	case !is.hears:
		return l.tell.User(ctx, userID, news)
	}
	return l.send(ctx, conns, news)
}

// Bring brings connections of a user in line with how the user stands to a room, and tells them.
func (l *Live) Bring(ctx context.Context, roomID, userID string, conns []string) error {
	_, news, err := l.bring(ctx, roomID, userID, conns)
	if err != nil || news.Bytes == nil {
		return err
	}
	return l.send(ctx, conns, news)
}

func (l *Live) send(ctx context.Context, conns []string, d webpubsub.Data) error {
	return each(ctx, conns, func(ctx context.Context, conn string) error { return l.gateway.SendToConnection(ctx, conn, d) })
}

// bring brings connections in line, and returns how the user stands to the room, and what they are to be told of that, if anything.
func (l *Live) bring(ctx context.Context, roomID, userID string, conns []string) (standing, webpubsub.Data, error) {
	is, err := l.align(ctx, roomID, userID, conns)
	for err == nil && is.deleted {
		if err := l.tell.ToTheEnd(ctx, roomID); err != nil { // who has heard the room hears it to its end
			return is, webpubsub.Data{}, err
		}
		if err := l.setAll(ctx, roomID, conns, is); err != nil {
			return is, webpubsub.Data{}, err
		}
		was := is
		if is, err = l.standing(ctx, roomID, userID); is == was {
			break
		}
		is, err = l.align(ctx, roomID, userID, conns)
	}
	if err != nil {
		return is, webpubsub.Data{}, err
	}
	news, err := l.tell.Standing(ctx, roomID, userID)
	return is, news, err
}

// align gives connections of a user what the user may have in a room, unless that is deleted, and returns how the user stands to
// it. That is looked at again afterwards: whoever did this so slowly that it has changed meanwhile must not have the last word.
func (l *Live) align(ctx context.Context, roomID, userID string, conns []string) (standing, error) {
	is, err := l.standing(ctx, roomID, userID)
	for err == nil && !is.deleted {
		if err := l.setAll(ctx, roomID, conns, is); err != nil {
			return is, err
		}
		was := is
		if is, err = l.standing(ctx, roomID, userID); is == was {
			break
		}
	}
	return is, err
}

// AlignOwed gives the connections of those users who are owed something in a room what they may have there, before more is told
// there: whoever has claimed these effects may not have come to them yet. It pays none.
func (l *Live) AlignOwed(ctx context.Context, roomID string) error {
	users, err := l.store.MembersOwed(ctx, l.tenant, roomID)
	if err != nil {
		return err
	}
	return each(ctx, users, func(ctx context.Context, userID string) error {
		conns, err := l.connections(ctx, userID)
		if err == nil && len(conns) > 0 {
			_, err = l.align(ctx, roomID, userID, conns)
		}
		return err
	})
}

func (l *Live) setAll(ctx context.Context, roomID string, conns []string, is standing) error {
	return each(ctx, conns, func(ctx context.Context, conn string) error { return l.set(ctx, roomID, conn, is) })
}

// connections returns the ids of the connections that a user has now.
func (l *Live) connections(ctx context.Context, userID string) ([]string, error) {
	conns, err := l.store.Connections(ctx, l.tenant, userID)
	ids := make([]string, len(conns))
	for i, c := range conns {
		ids[i] = c.ID
	}
	return ids, err
}

// mostSpared is how many connections one call can leave out: their ids are in its address, and a gateway reads 64 KiB of that.
const mostSpared = 500

// closeUser closes the connections that a user had who has signed out or was removed, also those that the store does not
// know, but not those that have come since, unless that are more than mostSpared: then some have to come again.
func (l *Live) closeUser(ctx context.Context, userID string) error {
	conns, err := l.store.Connections(ctx, l.tenant, userID)
	if err != nil {
		return err
	}
	var later []string
	for _, c := range conns {
		if !c.Ended {
			later = append(later, c.ID)
		}
	}
	return l.gateway.CloseUser(ctx, userID, "the user has signed out, or was removed from the chat", later[:min(len(later), mostSpared)]...)
}

// set gives a connection what a user who stands so to a room may have there, and takes the rest. One that has been in too
// many rooms for one more has to connect again.
func (l *Live) set(ctx context.Context, roomID, conn string, is standing) error {
	var err error
	if is.speaks {
		err = l.gateway.Grant(ctx, conn, webpubsub.SendToGroup, roomID)
	} else {
		err = taken(l.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, roomID))
	}
	switch {
	case err != nil:
	case is.hears:
		err = l.gateway.AddConnectionToGroup(ctx, roomID, conn)
	default:
		err = taken(l.gateway.RemoveConnectionFromGroup(ctx, roomID, conn))
	}
	if err == nil {
		err = l.lookNoMore(ctx, roomID, conn, is)
	}
	var g *dataplane.Error
	if errors.As(err, &g) && g.Status == http.StatusConflict { // webpubsub.MaxRules
		return l.gateway.CloseConnection(ctx, conn, "this page has been in too many chats; connect again")
	}
	return err
}

// taken is the error of taking something from a connection. That succeeds also when the connection has gone: not found is then
// the gateways, or our tenant, and nothing was taken.
func taken(err error) error {
	if errors.Is(err, dataplane.ErrNotFound) {
		return fmt.Errorf("no gateway was reached: %s", err)
	}
	return err
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
	return each(ctx, conns, func(ctx context.Context, conn string) error { return l.set(ctx, roomID, conn, standing{}) })
}

// each does work for every connection, several at a time, and returns the first error. A connection that has gone
// meanwhile is none.
func each(ctx context.Context, conns []string, work func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, id := range conns {
		group.Go(func() error {
			if err := work(ctx, id); !errors.Is(err, dataplane.ErrNotFound) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}
