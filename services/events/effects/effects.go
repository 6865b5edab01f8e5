package effects

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Effects is what follows from each change, in order: connections are brought in line, and then everybody is told.
type Effects struct {
	live   *Live
	tell   *telling.Teller
	store  chat.Store
	tenant string

	mu      sync.Mutex           // guards the following
	pending map[string]chat.Room // rooms that are deleted and whose members could not all be silenced, or told
}

// New returns the effects of changes in a tenant's chat.
func New(live *Live, tell *telling.Teller) *Effects {
	return &Effects{live: live, tell: tell, store: live.store, tenant: live.tenant, pending: map[string]chat.Room{}}
}

// Created lets all members of a new room in and tells who may know of it, but for one connection of a client, which is
// told by its answer.
func (e *Effects) Created(ctx context.Context, room chat.Room, except string) error {
	var ids []string
	for _, m := range room.Members {
		ids = append(ids, m.UserID)
	}
	if err := each(ctx, ids, func(ctx context.Context, id string) error { return e.live.enterAll(ctx, room.ID, id) }); err != nil {
		return err
	}
	return e.tell.Created(ctx, room, except)
}

// Joined lets a member in, and tells everybody if that is new.
func (e *Effects) Joined(ctx context.Context, roomID string, user chat.User, isNew bool) error {
	if err := e.live.enterAll(ctx, roomID, user.ID); err != nil || !isNew {
		return err
	}
	return e.of(ctx, roomID, user, e.tell.Joined)
}

// Put is Joined for somebody whom others have put into a room: the user's pages are shown a private one, which they cannot
// know.
func (e *Effects) Put(ctx context.Context, room chat.Room, userID string) error {
	user, err := e.store.User(ctx, e.tenant, userID)
	if err != nil {
		return err
	}
	if err := e.live.enterAll(ctx, room.ID, userID); err != nil {
		return err
	}
	if room.Kind == chat.KindPrivate {
		whole, err := e.store.Room(ctx, e.tenant, room.ID)
		if err != nil {
			return err
		}
		if err := e.tell.Put(ctx, whole, userID); err != nil {
			return err
		}
	}
	return e.tell.Joined(ctx, room, user)
}

// Left puts a former member out, and tells everybody if that is new.
func (e *Effects) Left(ctx context.Context, roomID string, user chat.User, isNew bool) error {
	if err := e.live.exitAll(ctx, roomID, user.ID); err != nil || !isNew {
		return err
	}
	return e.of(ctx, roomID, user, e.tell.Left)
}

// Removed is Left for somebody whom others have taken out.
func (e *Effects) Removed(ctx context.Context, room chat.Room, userID string) error {
	user, err := e.store.User(ctx, e.tenant, userID)
	if err != nil {
		return err
	}
	if err := e.live.exitAll(ctx, room.ID, userID); err != nil {
		return err
	}
	return e.tell.Left(ctx, room, user)
}

// UserRemoved puts a user out of the rooms that the user was in, and ends the user's connections.
func (e *Effects) UserRemoved(ctx context.Context, userID string, rooms []string) error {
	for _, roomID := range rooms {
		room, err := e.store.Room(ctx, e.tenant, roomID)
		if errors.Is(err, chat.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := e.Removed(ctx, room, userID); err != nil {
			return err
		}
	}
	return e.live.gateway.CloseUser(ctx, userID, "the user was removed from the chat")
}

// RoleGiven gives a member's connections what the member's role allows now.
func (e *Effects) RoleGiven(ctx context.Context, roomID, userID string) error {
	if err := e.live.muteAll(ctx, roomID, userID); err != nil {
		return err
	}
	return e.live.enterAll(ctx, roomID, userID)
}

// DirectOpened lets both people into their room, and then shows it to them.
func (e *Effects) DirectOpened(ctx context.Context, room chat.Room, from, to chat.User, created bool) error {
	for _, id := range []string{from.ID, to.ID} {
		if err := e.live.enterAll(ctx, room.ID, id); err != nil {
			return err
		}
	}
	return e.tell.Invited(ctx, room, from, to, created)
}

// Blocked silences two people in their room, if they have one, and tells the pages of the one who blocks.
func (e *Effects) Blocked(ctx context.Context, roomID, byID, otherID string) error {
	return e.setBlocked(ctx, roomID, byID, otherID, true, e.live.muteAll)
}

// Unblocked lets them speak again, as far as they may.
func (e *Effects) Unblocked(ctx context.Context, roomID, byID, otherID string) error {
	return e.setBlocked(ctx, roomID, byID, otherID, false, e.live.enterAll)
}

func (e *Effects) setBlocked(ctx context.Context, roomID, byID, otherID string, blocked bool, each func(context.Context, string, string) error) error {
	for _, id := range []string{byID, otherID} {
		if roomID == "" {
			break
		}
		if err := each(ctx, roomID, id); err != nil {
			return err
		}
	}
	return e.tell.User(ctx, byID, telling.Blocked(otherID, blocked))
}

// RoomDeleted tells everybody who knew of a deleted room, and silences it. What fails is done later: when the event is
// tried again there is nothing left to delete, and nobody would be silenced by it.
func (e *Effects) RoomDeleted(ctx context.Context, room chat.Room) error {
	err := errors.Join(e.tell.Closed(ctx, room), e.live.closeGroup(ctx, room.ID))
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.pending[room.ID] = room
	} else {
		delete(e.pending, room.ID)
	}
	return err
}

// Pay does what could not be done before, until something fails again.
func (e *Effects) Pay(ctx context.Context) error {
	e.mu.Lock()
	rooms := slices.Collect(maps.Values(e.pending))
	e.mu.Unlock()
	for _, room := range rooms {
		if err := e.RoomDeleted(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

// of tells something about a user and a room. Of one that has just been deleted there is nothing left to tell.
func (e *Effects) of(ctx context.Context, roomID string, user chat.User, tell func(context.Context, chat.Room, chat.User) error) error {
	m, err := e.store.Membership(ctx, e.tenant, roomID, user.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tell(ctx, m.Room, user)
}
