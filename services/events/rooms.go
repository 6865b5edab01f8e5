package events

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// roomID is a UUID in lower case. It can be neither a direct room's id nor a name with a meaning elsewhere.
var roomID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

var errNoRoom = refuse(http.StatusNotFound, "there is no such chat, or it is not yours to see; it may have been deleted")

// createChat creates a public room under the id that the page made, once and for all.
func (s *Service) createChat(ctx context.Context, a *act) error {
	var in struct{ ID, Name string }
	if err := a.decode(&in); err != nil {
		return err
	}
	if !roomID.MatchString(in.ID) {
		return refuse(http.StatusBadRequest, "id must be a new random UUID in lower case, such as 3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77")
	}
	title, err := chat.CheckTitle(in.Name)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	room := chat.Room{ID: in.ID, Title: title, Kind: chat.KindPublic, OwnerID: a.user.ID}
	if err := s.create(ctx, room); err != nil {
		return err
	}
	if err := s.enterAll(ctx, room.ID, a.user.ID); err != nil {
		return err
	}
	room.Members = []chat.Member{{UserID: a.user.ID, Name: a.user.Name, State: chat.StateJoined}}
	return s.tellAll(ctx, "chatCreated", chatCreatedOf(room))
}

// create inserts a room. An event that a gateway posts again, not knowing that it was done, finds it done.
func (s *Service) create(ctx context.Context, room chat.Room) error {
	_, err := s.store.CreateRoom(ctx, s.cfg.Tenant, room)
	if !errors.Is(err, chat.ErrExists) {
		return err
	}
	there, err := s.store.Room(ctx, s.cfg.Tenant, room.ID)
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return err
	}
	if err != nil || there.OwnerID != room.OwnerID || there.Title != room.Title {
		return refuse(http.StatusConflict, "this chat id has been used before; make a new random one")
	}
	return nil
}

// joinChat makes the user a member of a public room, or accepts the invitation to a direct one.
func (s *Service) joinChat(ctx context.Context, a *act) error {
	id, err := a.id("chatId")
	if err != nil {
		return err
	}
	changed, err := s.store.Join(ctx, s.cfg.Tenant, id, a.user.ID)
	if errors.Is(err, chat.ErrNotFound) || errors.Is(err, chat.ErrForbidden) {
		return errNoRoom
	}
	if err != nil {
		return err
	}
	if err := s.enterAll(ctx, id, a.user.ID); err != nil || !changed {
		return err
	}
	return s.tellOf(ctx, id, a.user, s.tellJoined)
}

// tellOf tells something about a user and a room. Of one that has just been deleted there is nothing left to tell.
func (s *Service) tellOf(ctx context.Context, roomID string, user chat.User, tell func(context.Context, chat.Room, chat.User) error) error {
	m, err := s.store.Membership(ctx, s.cfg.Tenant, roomID, user.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tell(ctx, m.Room, user)
}

// leaveChat ends a membership. Pages of the original leave a chat that has just been deleted, so having nothing to
// leave is fine; the gateway's side is put right all the same.
func (s *Service) leaveChat(ctx context.Context, a *act) error {
	id, err := a.id("chatId")
	if err != nil {
		return err
	}
	left, err := s.store.Leave(ctx, s.cfg.Tenant, id, a.user.ID)
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return err
	}
	if err := s.exitAll(ctx, id, a.user.ID); err != nil || !left {
		return err
	}
	return s.tellOf(ctx, id, a.user, s.tellLeft)
}

// deleteChat deletes a room for its owner, and silences those who are in it.
func (s *Service) deleteChat(ctx context.Context, a *act) error {
	id, err := a.id("chatId")
	if err != nil {
		return err
	}
	room, err := s.store.DeleteRoom(ctx, s.cfg.Tenant, id, a.user.ID)
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return errNoRoom
	case errors.Is(err, chat.ErrForbidden):
		return refuse(http.StatusForbidden, "only the owner of a chat may delete it")
	case err != nil:
		return err
	}
	return s.bury(ctx, room)
}

// bury tells everybody who knew of a deleted room, and silences it. What fails is owed, and made good later: when the
// event is tried again there is nothing left to delete, and nobody would be silenced by it.
func (s *Service) bury(ctx context.Context, room chat.Room) error {
	tell := s.tellAll
	if room.Kind == chat.KindPrivate {
		tell = func(ctx context.Context, event string, value any) error {
			return s.tellMembers(ctx, room.ID, event, value)
		}
	}
	err := errors.Join(tell(ctx, "chatDeleted", room.ID), s.tellClosed(ctx, room), s.closeGroup(ctx, room.ID))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.unburied[room.ID] = room
	} else {
		delete(s.unburied, room.ID)
	}
	return err
}

// tellClosed notifies clients of the chat protocol that are still in the room's group.
func (s *Service) tellClosed(ctx context.Context, room chat.Room) error {
	return s.notifyRoom(ctx, room.ID, notification{Type: "RoomClosed", Body: roomNamed{room.ID, room.Title}})
}

// buryOwed makes good what bury could not do, until that fails again.
func (s *Service) buryOwed(ctx context.Context) error {
	s.mu.Lock()
	owed := slices.Collect(maps.Values(s.unburied))
	s.mu.Unlock()
	for _, room := range owed {
		if err := s.bury(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

// closeGroup takes everybody who is there out of a room's group, also connections that the store does not know.
func (s *Service) closeGroup(ctx context.Context, roomID string) error {
	members, err := s.gateway.ListConnections(ctx, roomID)
	if err != nil {
		return err
	}
	conns := make([]string, len(members))
	for i, m := range members {
		conns[i] = m.ConnectionID
	}
	return s.exit(ctx, roomID, conns)
}

// markRead remembers how far the user has read, and tells the user's other pages.
func (s *Service) markRead(ctx context.Context, a *act) error {
	var in struct {
		ChatID string
		Seq    *int64
	}
	if err := a.decode(&in); err != nil {
		return err
	}
	if in.Seq == nil || *in.Seq < 0 {
		return refuse(http.StatusBadRequest, `the data must be {"chatId": id, "seq": number of the newest message read}`)
	}
	err := s.store.MarkRead(ctx, s.cfg.Tenant, in.ChatID, a.user.ID, *in.Seq)
	if errors.Is(err, chat.ErrNotFound) || errors.Is(err, chat.ErrForbidden) {
		return errNoRoom
	}
	if err != nil {
		return err
	}
	return s.tellUser(ctx, a.user.ID, "chatRead", struct {
		ChatID string `json:"chatId"`
		Seq    int64  `json:"seq"`
	}{in.ChatID, *in.Seq})
}
