package events

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/testkit"
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

// Whoever signs out, or is removed, and is back before that is paid, has other connections then, which stay.
func TestWhoIsBackIsNotPutOff(t *testing.T) {
	for how, leave := range map[string]func(w *world){
		"signed out": func(w *world) {
			if err := w.store.SignOut(w.t.Context(), "default", "bob"); err != nil {
				w.t.Fatal(err)
			}
		},
		"removed": func(w *world) { w.mustRequest(http.StatusNoContent, "DELETE", "users/bob", nil) },
	} {
		t.Run(how, func(t *testing.T) {
			w, _, _, _ := chatWorld(t)
			w.away(true)
			leave(w)
			w.away(false)
			back := w.openSigned("bob2", "bob", time.Now().Add(2*time.Second))
			w.payAll()
			w.mu.Lock()
			defer w.mu.Unlock()
			equal(t, "the connections from before and from after", []bool{w.conns["bob1"] != nil, w.conns["bob2"] == back}, []bool{false, true})
		})
	}
}

// Whoever is back with more connections than one call to a gateway can name does not keep those from before by that.
func TestSignedOutIsOutHoweverManyHaveComeSince(t *testing.T) {
	w, _, _, _ := chatWorld(t)
	w.away(true)
	if err := w.store.SignOut(t.Context(), "default", "bob"); err != nil {
		t.Fatal(err)
	}
	for n := range 2000 {
		if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: fmt.Sprintf("a-connection-of-bobs-%d", n), UserID: "bob"}); err != nil {
			t.Fatal(err)
		}
	}
	w.away(false)
	w.payAll()
	w.mu.Lock()
	defer w.mu.Unlock()
	equal(t, "the connection from before", w.conns["bob1"] == nil, true)
}

// A connection that has been let in, and is not known yet when its user signs out, ends by that, too.
func TestSignedOutBetweenConnectAndConnected(t *testing.T) {
	w := newWorld(t, Config{})
	late := w.connect("a1", "guest_ada", time.Now())
	if err := w.store.SignOut(t.Context(), "default", "guest_ada"); err != nil {
		t.Fatal(err)
	}
	w.payAll() // before the gateway has the connection
	w.mu.Lock()
	w.conns["a1"] = late
	w.mu.Unlock()
	late.post(cloudevents.Connected, "connected", cloudevents.TypeSystem, `{}`)
	w.payAll()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns["a1"] != nil {
		t.Error("a connection is left whose user had signed out before it was there")
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

// A gateway that does not know our key, our tenant or our address yet, or is asked too often, has refused nothing for good: what was
// to be told is told, and nobody stays in a room, when it does. One that cannot take an event holds up no other.
func TestGatewayThatDoesNotKnowUs(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusRequestEntityTooLarge} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			w, ana, bob, eve := chatWorld(t)
			ana.mustInvoke("chat.createRoom", object{"title": "Den", "roomId": "den", "members": []string{"bob", "eve"}})
			w.says = status
			w.away(true)
			ana.send("den", "while it does not")
			ana.mustInvoke("chat.manageRoomMember", object{"roomId": "den", "operation": "Delete", "userId": "eve"})
			w.payOwed()
			w.away(false)
			ana.send("den", "when it does")
			w.payAll()
			w.goneFrom("den", eve)
			want := []string{"1 while it does not", "2 when it does"}
			if status == http.StatusRequestEntityTooLarge {
				want = want[1:]
			}
			same(t, "told", texts(bob.notified("MessageCreated")), want)
		})
	}
}

// Whose room was deleted, and is there again without them before they could be told, is out of it.
func TestRoomDeletedAndMadeAnewWhileGatewaysAreAway(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Den", "roomId": "den", "members": []string{"bob"}})
	w.away(true)
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/den", nil)
	w.away(false)
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den", object{"title": "Den"})
	w.payAll()
	w.goneFrom("den", bob)
	equal(t, "told to be out of it", len(bob.notified("RoomLeft")), 1)
}

// Of a room that is made anew nobody can be told what had not been told before; what happens in it from then on is.
func TestRoomMadeAnewIsTold(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Den", "roomId": "den", "members": []string{"bob"}})
	w.away(true)
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/den", nil)
	testkit.Eventually(t, 0, func() bool { // as soon as the service, which reaches no gateway, has given it back
		held, err := w.store.ClaimTellings(t.Context(), "default", []string{"den"}, "a process that dies", 300*time.Millisecond)
		return err == nil && held["den"].Held
	}, "the telling is claimed")
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den", object{"title": "Den"})
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den/members/bob", object{"roleName": "room.member"})
	joined := len(bob.notified("RoomJoined"))
	w.away(false)
	w.payAll()
	if len(bob.notified("RoomJoined")) == joined {
		t.Error("who was put into it is not told")
	}
}
