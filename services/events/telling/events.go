package telling

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// event tells everybody who may know of an event of a room. A client's connection that has its answer is left out where
// Connection names it.
func (s *sender) event(ctx context.Context, e chat.Event) error {
	roomID, topicID := chat.SplitTopic(e.RoomID)
	if e.ToldBefore() {
		if n := (notification{Event: wire(e)}); n.Event != nil {
			return s.room(ctx, roomID, "", n)
		}
		return nil
	}
	switch e.Kind {
	case chat.EventMessage:
		return s.message(ctx, e)
	case chat.EventEdited:
		if e.Message == nil { // deleted by now, which another event says
			return nil
		}
		return s.room(ctx, roomID, "", notification{Type: "MessageUpdated", Body: messageCreated{conversationIn(e.RoomID), InfoOf(*e.Message)}, Event: wire(e)})
	case chat.EventDeleted:
		return s.room(ctx, roomID, "", notification{Type: "MessageDeleted", Body: messageDeleted{conversationIn(e.RoomID), MessageID(e.Seq)}, Event: wire(e)})
	}
	if topicID != "" { // of topics clients know what they ask for
		return nil
	}
	if e.Kind == chat.EventClosed {
		return s.closed(ctx, e)
	}
	m, err := s.Store.Membership(ctx, s.Tenant, e.RoomID, chat.ServiceUser)
	if errors.Is(err, chat.ErrNotFound) { // it has been deleted since, which is all there is to tell but to who had left
		if e.Kind == chat.EventLeft {
			return s.gone(ctx, chat.Room{ID: e.RoomID}, e)
		}
		return nil
	}
	if err != nil {
		return err
	}
	switch e.Kind {
	case chat.EventCreated, chat.EventInvited, chat.EventJoined: // who has come hears of it, and whoever is told may speak at once
		if err := s.Align(ctx, e.RoomID); err != nil {
			return err
		}
	}
	switch room := m.Room; e.Kind {
	case chat.EventCreated:
		return s.created(ctx, room, e)
	case chat.EventInvited:
		return s.invited(ctx, room, e)
	case chat.EventJoined:
		return s.joined(ctx, room, e)
	case chat.EventLeft:
		return s.left(ctx, room, e)
	case chat.EventTitle:
		return s.room(ctx, room.ID, "", notification{Type: "RoomUpdated", Body: roomNamed{room.ID, e.Title}, Event: wire(e)})
	case chat.EventRole:
		return s.room(ctx, room.ID, "", notification{Type: "RoomMemberUpdated", Body: roomMember{room.ID, room.Title, e.UserID}, Event: wire(e)})
	}
	return nil
}

// wire is an event as a notification carries it; of topics, of which pages know nothing, none.
func wire(e chat.Event) *chat.WireEvent {
	if _, topicID := chat.SplitTopic(e.RoomID); topicID != "" {
		return nil
	}
	w := e.Wire()
	return &w
}

// message tells everybody in a room what somebody has said there: one frame for clients of all kinds.
func (s *sender) message(ctx context.Context, e chat.Event) error {
	m := e.Message
	if m == nil { // deleted by now, which another event says
		return nil
	}
	n := notification{Type: "MessageCreated", Body: messageCreated{conversationIn(m.RoomID), InfoOf(*m)}, Event: wire(e)}
	if n.Event != nil && !e.Heard { // who has heard it must not draw it again
		n.Event.Text, n.Event.Key = "", ""
		n.said = &said{m.Text, m.AuthorID, e.UserName, m.Key}
	}
	roomID, _ := chat.SplitTopic(m.RoomID)
	return s.room(ctx, roomID, e.Connection, n)
}

// created tells of a new room: of a public one everybody, of a private one its members but for the connection that has its
// answer. The members that it begins with have joined by that, and nobody is told of each.
func (s *sender) created(ctx context.Context, room chat.Room, e chat.Event) error {
	if room.Kind == chat.KindDirect { // who is invited is told so
		return s.room(ctx, room.ID, e.Connection, notification{Type: "RoomUpdated", Body: roomNamed{RoomID: room.ID}, Event: wire(e)})
	}
	whole, err := s.Store.Room(ctx, s.Tenant, room.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	n := roomJoined(whole)
	n.Event = wire(e)
	if err := s.room(ctx, room.ID, e.Connection, n); err != nil {
		return err
	}
	if room.Kind == chat.KindPublic {
		return s.All(ctx, chatCreated(whole))
	}
	return s.members(ctx, room.ID, chatCreated(whole))
}

// invited shows a direct room to who is invited to it.
func (s *sender) invited(ctx context.Context, room chat.Room, e chat.Event) error {
	whole, err := s.Store.Room(ctx, s.Tenant, room.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var from chat.User
	for _, m := range whole.Members {
		if m.UserID != e.UserID {
			from = chat.User{ID: m.UserID, Name: m.Name}
		}
	}
	n := notification{Type: "RoomMemberUpdated", Body: roomMember{RoomID: room.ID, UserID: e.UserID}, Event: wire(e)}
	if err := s.room(ctx, room.ID, "", n); err != nil || from.ID == "" {
		return err
	}
	there, _ := whole.Member(e.UserID)
	// Both have the chat before the notice: pages of the original draw a line only where they have a tab.
	if err := s.User(ctx, from.ID, invitation(room.ID, chat.User{ID: e.UserID, Name: there.Name}, true, chat.StateJoined)); err != nil {
		return err
	}
	if err := s.User(ctx, e.UserID, invitation(room.ID, from, false, there.State)); err != nil {
		return err
	}
	return s.notice(ctx, room.ID, from.Name, "wants to chat")
}

// joined tells everybody that a user is in a room now: pages, and the clients of the chat protocol, of whom the user's own
// come last. Who has been told may speak at once.
func (s *sender) joined(ctx context.Context, room chat.Room, e chat.Event) error {
	user := chat.User{ID: e.UserID, Name: e.UserName}
	if room.Kind == chat.KindDirect {
		if err := s.roomAnd(ctx, room.ID, user.ID, memberJoined(room.ID, user)); err != nil {
			return err
		}
		return s.room(ctx, room.ID, "", notification{Type: "RoomMemberUpdated", Body: roomMember{RoomID: room.ID, UserID: user.ID}, Event: wire(e)})
	}
	if founder, err := s.isFounder(ctx, e); err != nil || founder { // everybody has been told of the room, and by that of these
		return err
	}
	if room.Kind == chat.KindPrivate { // the user's pages cannot know it
		whole, err := s.Store.Room(ctx, s.Tenant, room.ID)
		if errors.Is(err, chat.ErrNotFound) { // deleted by now, which is told next
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.User(ctx, user.ID, chatCreated(whole)); err != nil {
			return err
		}
	}
	if err := s.roomAnd(ctx, room.ID, user.ID, memberJoined(room.ID, user)); err != nil {
		return err
	}
	if err := s.notice(ctx, room.ID, user.Name, "has joined the chat"); err != nil {
		return err
	}
	err := s.others(ctx, room.ID, user.ID, notification{Type: "RoomMemberJoined", Body: roomMember{room.ID, room.Title, user.ID}, Event: wire(e)})
	if err != nil {
		return err
	}
	n := roomJoined(room)
	n.Event = wire(e)
	return s.User(ctx, user.ID, n.data())
}

// isFounder reports whether somebody has joined a room by being named when it was created: the same has caused both.
func (s *sender) isFounder(ctx context.Context, joined chat.Event) (bool, error) {
	if joined.Cause == "" {
		return false, nil
	}
	first, _, err := s.Store.Events(ctx, s.Tenant, joined.RoomID, 0, 1)
	if err != nil && !errors.Is(err, chat.ErrGone) {
		return false, err
	}
	return len(first) > 0 && first[0].Kind == chat.EventCreated && first[0].Cause == joined.Cause, nil
}

// left tells everybody that a user is in a room no longer.
func (s *sender) left(ctx context.Context, room chat.Room, e chat.Event) error {
	if err := s.roomAnd(ctx, room.ID, e.UserID, memberLeft(room.ID, e.UserID)); err != nil {
		return err
	}
	if err := s.notice(ctx, room.ID, e.UserName, "has left the chat"); err != nil {
		return err
	}
	if room.Kind == chat.KindDirect {
		n := notification{Type: "RoomMemberUpdated", Body: roomMember{RoomID: room.ID, UserID: e.UserID}, Event: wire(e)}
		if err := s.room(ctx, room.ID, "", n); err != nil {
			return err
		}
		return s.User(ctx, e.UserID, n.data())
	}
	err := s.others(ctx, room.ID, e.UserID, notification{Type: "RoomMemberLeft", Body: roomMember{room.ID, room.Title, e.UserID}, Event: wire(e)})
	if err != nil {
		return err
	}
	return s.gone(ctx, room, e)
}

// gone tells who has left a room.
func (s *sender) gone(ctx context.Context, room chat.Room, e chat.Event) error {
	return s.User(ctx, e.UserID, notification{Type: "RoomLeft", Body: roomNamed{room.ID, room.Title}, Event: wire(e)}.data())
}

// closed tells everybody who knew of a deleted room. Clients of the chat protocol are told when they are put out (Standing),
// which nobody misses.
func (s *sender) closed(ctx context.Context, e chat.Event) error {
	deleted := Message("chatDeleted", e.RoomID)
	if e.RoomKind == chat.KindPublic {
		return s.All(ctx, deleted)
	}
	return s.members(ctx, e.RoomID, deleted)
}

// Invited shows a direct room that was there already to somebody who has asked for it, and to the other one, unless the one who
// asked has left it by now and been told so.
func (s *sender) Invited(ctx context.Context, roomID string, from, to chat.User) error {
	room, err := s.Store.Room(ctx, s.Tenant, roomID)
	if _, in := room.Member(from.ID); err != nil || !in {
		return err
	}
	if err := s.User(ctx, from.ID, invitation(room.ID, to, true, chat.StateJoined)); err != nil {
		return err
	}
	there, _ := room.Member(to.ID)
	return s.User(ctx, to.ID, invitation(room.ID, from, false, there.State))
}
