package events

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
)

// An answer, and what is said only to who has asked, comes after everybody has been told. What another process has changed
// and told meanwhile is newer, and has the last word. Here it is changed back as soon as it is committed.

// overtaken is a store in which somebody is faster than whoever has made a change.
type overtaken struct {
	chat.Store
	t *testing.T
}

func (s *overtaken) meanwhile(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *overtaken) CreateRoom(ctx context.Context, tenant string, r chat.Room) (chat.Room, error) {
	made, err := s.Store.CreateRoom(ctx, tenant, r)
	_, left := s.Store.Leave(context.WithoutCancel(ctx), tenant, made.ID, r.OwnerID)
	s.meanwhile(left)
	return made, err
}

func (s *overtaken) Leave(ctx context.Context, tenant, roomID, userID string) (bool, error) {
	left, err := s.Store.Leave(ctx, tenant, roomID, userID)
	_, added := s.Store.AddMember(context.Background(), tenant, roomID, userID)
	s.meanwhile(added)
	return left, err
}

func (s *overtaken) DirectRoom(ctx context.Context, tenant, by, other string) (chat.Room, bool, error) {
	made, created, err := s.Store.DirectRoom(ctx, tenant, by, other)
	_, left := s.Store.Leave(ctx, tenant, made.ID, by)
	s.meanwhile(left)
	return made, created, err
}

func (s *overtaken) Block(ctx context.Context, tenant, by, other string) error {
	err := s.Store.Block(ctx, tenant, by, other)
	s.meanwhile(s.Store.Unblock(ctx, tenant, by, other))
	return err
}

func TestRoomCreatedAndLeftBeforeTheAnswer(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	w.swap.Store = &overtaken{w.store, t}
	_, code := ana.invoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	equal(t, "the answer to who is out of the room", code, invoke.CodeNotInRoom)
}

func TestRoomCreatedAndPutOutOfBeforeTheAnswer(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	data := object{"title": "Tea", "roomId": "r1"}
	w.mu.Lock()
	before := ana.nextID
	w.mu.Unlock()
	ana.mustInvoke("chat.createRoom", data) // of which the gateway does not hear
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/r1/members/ana", nil)
	equal(t, "told", len(ana.notified("RoomLeft")), 1)
	ana.nextID = before
	_, code := ana.invoke("chat.createRoom", data)
	equal(t, "the answer to the same event, posted again", code, invoke.CodeNotInRoom)
}

func TestRoomLeftAndAddedToBeforeTheAnswer(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	w.swap.Store = &overtaken{w.store, t}
	_, code := bob.invoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	equal(t, "the answer to who is in the room again", code, invoke.CodeAlreadyInRoom)
	_, code = ana.invoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	equal(t, "to somebody else, whose client knows of it by what it is told", code, "")
}

func TestDirectChatOpenedAndLeftBeforeItIsShown(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.swap.Store = &overtaken{w.store, t}
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	equal(t, "shown to who has left it", len(ada.told("joinPrivateChat")), 0)
}

func TestBlockedAndUnblockedBeforeItIsSaid(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.swap.Store = &overtaken{w.store, t}
	ada.must("blockUser", object{"userId": "guest_bob"})
	equal(t, "said to be blocked", len(ada.told("userBlocked")), 0)
	equal(t, "said to be unblocked", len(ada.told("userUnblocked")), 1)
}

// What a gateway posts again has been done, whatever the rules say by now, and whatever others have changed since.
func TestPostedAgainWhenItWouldBeRefused(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	again := func(name string, data object, meanwhile func()) (first, second string, code string) {
		t.Helper()
		w.mu.Lock()
		before := ana.nextID
		w.mu.Unlock()
		first, _ = ana.mustInvoke(name, data)["roomId"].(string)
		meanwhile()
		ana.nextID = before
		result, code := ana.invoke(name, data)
		second, _ = result["roomId"].(string)
		return first, second, code
	}
	_, _, code := again("chat.createRoom", object{"title": "Tea", "roomId": "r1"}, func() {
		w.mustRequest(http.StatusCreated, "PUT", "roles/user.normal", object{"permissions": []string{}})
	})
	equal(t, "a room by who may not create any more", code, "")
	w.mustRequest(http.StatusNoContent, "DELETE", "roles/user.normal", nil)

	first, second, code := again("chat.createRoom", object{"title": "Tea", "members": []string{"eve"}}, func() {
		w.mustRequest(http.StatusNoContent, "DELETE", "users/eve", nil)
	})
	equal(t, "a room without an id", []string{second, code}, []string{first, ""})

	_, _, code = again("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "bob"}, func() {
		bob.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	})
	equal(t, "who has left since", code, "")
	equal(t, "members", w.members("r1"), []string{"ana"})

	ana.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "bob"})
	_, _, code = again("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"}, func() {
		w.mustRequest(http.StatusCreated, "PUT", "rooms/r1/members/bob", object{"roleName": "room.member"})
	})
	equal(t, "who has been added since", code, "")
	equal(t, "members", w.members("r1"), []string{"ana", "bob"})
}

// The same for what a page does.
func TestPageEventPostedAgain(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	again := func(c *conn, name string, data any, meanwhile func()) {
		t.Helper()
		w.mu.Lock()
		before := c.nextID
		w.mu.Unlock()
		c.must(name, data)
		meanwhile()
		c.nextID = before
		c.must(name, data)
	}
	again(bob, "joinChat", room1, func() {
		w.mustRequest(http.StatusNoContent, "DELETE", "rooms/"+room1+"/members/guest_bob", nil)
	})
	equal(t, "members when who has joined was put out", w.members(room1), []string{"guest_ada"})
	bob.must("joinChat", room1)
	again(bob, "leaveChat", object{"chatId": room1}, func() {
		w.mustRequest(http.StatusCreated, "PUT", "rooms/"+room1+"/members/guest_bob", object{"roleName": "room.member"})
	})
	equal(t, "members when who has left was put back", w.members(room1), []string{"guest_ada", "guest_bob"})
	again(ada, "deleteChat", room1, func() {})
	equal(t, "told once", len(bob.told("chatDeleted")), 1)
}

// Pages of the original draw a line only where they have a tab: both have the chat before they are told that one wants it.
func TestBothHaveAPrivateChatBeforeItsNotice(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	for _, c := range []*conn{ada, bob} {
		var got []string
		for _, f := range c.frames() {
			for _, what := range []string{"joinPrivateChat", "wants to chat"} {
				if strings.Contains(f.body, what) {
					got = append(got, what)
				}
			}
		}
		equal(t, c.id+" is told", got, []string{"joinPrivateChat", "wants to chat"})
	}
}
