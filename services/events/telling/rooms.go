package telling

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

// Created tells of a new room: of a public one everybody, of a private one its members but for one connection of a
// client, which is told by the answer to what it asked.
func (t *Teller) Created(ctx context.Context, room chat.Room, except string) error {
	if room.Kind == chat.KindPublic {
		return t.All(ctx, chatCreated(room))
	}
	if err := t.notifyRoom(ctx, room.ID, roomJoined(room), dataplane.Except(except)); err != nil {
		return err
	}
	return t.members(ctx, room.ID, chatCreated(room))
}

// Put shows a room to the pages of somebody who has been put into it.
func (t *Teller) Put(ctx context.Context, room chat.Room, userID string) error {
	return t.User(ctx, userID, chatCreated(room))
}

// Joined tells everybody that a user is in a room now: pages, and the clients of the chat protocol, of whom the user's
// own come last. Who has been told may speak at once.
func (t *Teller) Joined(ctx context.Context, room chat.Room, user chat.User) error {
	if err := t.roomAnd(ctx, room.ID, user.ID, memberJoined(room.ID, user)); err != nil || room.Kind == chat.KindDirect {
		return err
	}
	if err := t.notice(ctx, room.ID, user.Name, "has joined the chat"); err != nil {
		return err
	}
	if there, err := t.hasChatUsers(ctx, room.ID); err != nil || !there {
		return err
	}
	err := t.notifyOthers(ctx, room.ID, user.ID, notification{Type: "RoomMemberJoined", Body: roomMember{room.ID, room.Title, user.ID}})
	if err != nil {
		return err
	}
	return t.User(ctx, user.ID, roomJoined(room).data())
}

// Left tells everybody that a user is in a room no longer.
func (t *Teller) Left(ctx context.Context, room chat.Room, user chat.User) error {
	if err := t.roomAnd(ctx, room.ID, user.ID, memberLeft(room.ID, user.ID)); err != nil {
		return err
	}
	if err := t.notice(ctx, room.ID, user.Name, "has left the chat"); err != nil || room.Kind == chat.KindDirect {
		return err
	}
	there, err := t.hasChatUsers(ctx, room.ID)
	if err == nil && there {
		err = t.notifyOthers(ctx, room.ID, user.ID, notification{Type: "RoomMemberLeft", Body: roomMember{room.ID, room.Title, user.ID}})
	}
	if err != nil {
		return err
	}
	return t.User(ctx, user.ID, notification{Type: "RoomLeft", Body: roomNamed{room.ID, room.Title}}.data())
}

// Invited shows a direct room to the two people of it.
func (t *Teller) Invited(ctx context.Context, room chat.Room, from, to chat.User, created bool) error {
	if !created { // asking back has accepted the other's invitation, or is a return
		if err := t.roomAnd(ctx, room.ID, from.ID, memberJoined(room.ID, from)); err != nil {
			return err
		}
	}
	there, _ := room.Member(to.ID)
	if err := t.User(ctx, from.ID, invitation(room.ID, to, true, chat.StateJoined)); err != nil {
		return err
	}
	if err := t.User(ctx, to.ID, invitation(room.ID, from, false, there.State)); err != nil || !created {
		return err
	}
	return t.notice(ctx, room.ID, from.Name, "wants to chat")
}

// Closed tells everybody who knew of a deleted room.
func (t *Teller) Closed(ctx context.Context, room chat.Room) error {
	deleted := Message("chatDeleted", room.ID)
	var err error
	if room.Kind == chat.KindPrivate {
		err = t.members(ctx, room.ID, deleted)
	} else {
		err = t.All(ctx, deleted)
	}
	return errors.Join(err, t.notifyRoom(ctx, room.ID, notification{Type: "RoomClosed", Body: roomNamed{room.ID, room.Title}}))
}
