package events

import (
	"net/http"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// A removal whose effect fails is not undone by trying again: that finds it done. It is finished all the same: by the second
// attempt at once, and without one by any process.

func (w *world) away(now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = now
}

func (w *world) goneFrom(room string, c *conn) {
	w.t.Helper()
	if hear, speak := c.may(room); hear || speak {
		w.t.Errorf("%s hears %s: %v, speaks: %v; want neither", c.id, room, hear, speak)
	}
}

func TestMemberRemovedByRESTWhileGatewaysAreAway(t *testing.T) {
	w, _, bob, _ := chatWorld(t)
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den", object{"title": "Den"})
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den/members/bob", object{"roleName": "room.member"})
	w.away(true)
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/den/members/bob", nil)
	w.away(false)
	w.mustRequest(http.StatusNotFound, "DELETE", "rooms/den/members/bob", nil)
	w.goneFrom("den", bob)
}

func TestUserRemovedByRESTWhileGatewaysAreAway(t *testing.T) {
	w, _, bob, _ := chatWorld(t)
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den", object{"title": "Den"})
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den/members/bob", object{"roleName": "room.member"})
	w.away(true)
	w.mustRequest(http.StatusNoContent, "DELETE", "users/bob", nil)
	w.away(false)
	w.mustRequest(http.StatusNotFound, "DELETE", "users/bob", nil)
	w.goneFrom("den", bob)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns["bob1"] != nil {
		t.Error("the socket of a user who was removed is open")
	}
}

func TestMemberRemovedByInvocationWhileGatewaysAreAway(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Den", "roomId": "den", "members": []string{"bob"}})
	const data = `{"roomId":"den","operation":"Delete","userId":"bob"}`
	w.away(true)
	answer := ana.post(cloudevents.UserPrefix+"chat.manageRoomMember", "chat.manageRoomMember", cloudevents.TypeJSON, data)
	equal(t, "while the gateways are away", answer.Code, http.StatusOK)
	w.away(false)
	answer = ana.post(cloudevents.UserPrefix+"chat.manageRoomMember", "chat.manageRoomMember", cloudevents.TypeJSON, data)
	equal(t, "the person tries again", answer.Code, http.StatusNotFound)
	w.goneFrom("den", bob)
}

func TestChatDeletedByAProcessThatEnds(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	w.away(true)
	ada.must("deleteChat", room1)
	w.replace()
	w.away(false)
	equal(t, "tried again", ada.event("deleteChat", room1), http.StatusNotFound)
	w.payAll()
	w.goneFrom(room1, bob)
	equal(t, "told", bob.told("chatDeleted"), []string{room1})
}

// What is owed is about how things are, not about how they were changed: an owed "put Bob out" that is paid when Bob has
// come back puts nobody out.
func TestEffectPaidLateSeesHowItIsNow(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	w.away(true)
	bob.must("leaveChat", room1)
	bob.must("joinChat", room1)
	w.away(false)
	w.payAll()
	hear, speak := bob.may(room1)
	equal(t, "hears and speaks", []bool{hear, speak}, []bool{true, true})
}
