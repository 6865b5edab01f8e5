package events

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// isDirect reports whether a room is between two users.
func isDirect(roomID string) bool { return strings.HasPrefix(roomID, chat.DirectPrefix) }

// createPrivateChat opens the direct room of the sender and another user, who is invited. Whom the payload calls
// the initiator does not matter.
func (s *Service) createPrivateChat(ctx context.Context, a *act) error {
	targetID, err := a.id("targetUserId")
	if err != nil {
		return err
	}
	target, err := s.other(ctx, a, targetID)
	if err != nil {
		return err
	}
	room, created, err := s.store.DirectRoom(ctx, s.cfg.Tenant, a.user.ID, target.ID)
	if errors.Is(err, chat.ErrForbidden) {
		return refuse(http.StatusForbidden, "no private chat with this person is possible: one of you has blocked the other")
	}
	if err != nil {
		return err
	}
	return s.openDirect(ctx, a, target, room, created)
}

// other returns a user who is known and is not the sender.
func (s *Service) other(ctx context.Context, a *act, id string) (chat.User, error) {
	if id == a.user.ID {
		return chat.User{}, refuse(http.StatusBadRequest, "this is you; choose somebody else")
	}
	user, err := s.store.User(ctx, s.cfg.Tenant, id)
	if errors.Is(err, chat.ErrNotFound) {
		return user, refuse(http.StatusNotFound, "there is nobody with this user id")
	}
	return user, err
}

// openDirect lets both users into the room and then tells their pages to show it.
func (s *Service) openDirect(ctx context.Context, a *act, target chat.User, room chat.Room, created bool) error {
	if err := s.enterAll(ctx, room.ID, a.user.ID); err != nil {
		return err
	}
	if err := s.enterAll(ctx, room.ID, target.ID); err != nil {
		return err
	}
	if !created { // asking back has accepted the other's invitation, or is a return
		joined := member{ChatID: room.ID, UserID: a.user.ID, UserName: a.user.Name, State: chat.StateJoined}
		if err := s.tellRoom(ctx, room.ID, a.user.ID, "memberJoined", joined); err != nil {
			return err
		}
	}
	there, _ := room.Member(target.ID)
	if err := s.tellUser(ctx, a.user.ID, "joinPrivateChat", privateChat(room.ID, target, true, chat.StateJoined)); err != nil {
		return err
	}
	if err := s.tellUser(ctx, target.ID, "joinPrivateChat", privateChat(room.ID, a.user, false, there.State)); err != nil || !created {
		return err
	}
	return s.notice(ctx, room.ID, a.user.Name, "wants to chat")
}

// invitation is the data of joinPrivateChat, as one of the two sees the room.
type invitation struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	GrabFocus bool             `json:"grabFocus"`
	Kind      chat.Kind        `json:"kind"`
	Peer      member           `json:"peer"`
	State     chat.MemberState `json:"state"`
}

func privateChat(id string, peer chat.User, focus bool, state chat.MemberState) invitation {
	return invitation{id, "Chat with " + peer.Name, focus, chat.KindDirect, member{UserID: peer.ID, UserName: peer.Name}, state}
}

// blockUser silences the direct room of two users, for both, and keeps a new one from being opened.
func (s *Service) blockUser(ctx context.Context, a *act) error {
	id, err := a.id("userId")
	if err != nil {
		return err
	}
	other, err := s.other(ctx, a, id)
	if err != nil {
		return err
	}
	if err := s.store.Block(ctx, s.cfg.Tenant, a.user.ID, other.ID); err != nil {
		return err
	}
	room, err := s.directWith(ctx, a.user.ID, other.ID)
	if err != nil {
		return err
	}
	if room != "" {
		if err := s.muteAll(ctx, room, a.user.ID); err != nil {
			return err
		}
		if err := s.muteAll(ctx, room, other.ID); err != nil {
			return err
		}
	}
	return s.tellUser(ctx, a.user.ID, "userBlocked", other.ID)
}

// unblockUser ends that, unless the other one blocks too.
func (s *Service) unblockUser(ctx context.Context, a *act) error {
	id, err := a.id("userId")
	if err != nil {
		return err
	}
	other, err := s.other(ctx, a, id)
	if err != nil {
		return err
	}
	if err := s.store.Unblock(ctx, s.cfg.Tenant, a.user.ID, other.ID); err != nil {
		return err
	}
	if err := s.unmute(ctx, a, other.ID); err != nil {
		return err
	}
	return s.tellUser(ctx, a.user.ID, "userUnblocked", other.ID)
}

func (s *Service) unmute(ctx context.Context, a *act, otherID string) error {
	room, err := s.directWith(ctx, a.user.ID, otherID)
	if err != nil || room == "" {
		return err
	}
	if err := s.enterAll(ctx, room, a.user.ID); err != nil {
		return err
	}
	return s.enterAll(ctx, room, otherID)
}

// directWith returns the id of the direct room that a user is in with another, or "".
func (s *Service) directWith(ctx context.Context, userID, otherID string) (string, error) {
	rooms, err := s.store.Memberships(ctx, s.cfg.Tenant, userID)
	if err != nil {
		return "", err
	}
	for _, id := range rooms {
		if !isDirect(id) {
			continue
		}
		room, err := s.store.Room(ctx, s.cfg.Tenant, id)
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			return "", err
		}
		if _, there := room.Member(otherID); there {
			return id, nil
		}
	}
	return "", nil
}
