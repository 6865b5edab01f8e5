package events

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// types says to a room's typing group that c's user is typing, as far as gateways would let it.
func (c *conn) types(room string, typing bool) int {
	c.g.t.Helper()
	group := telling.TypingGroup(room)
	if _, speak := c.may(group); !speak {
		return http.StatusForbidden
	}
	return c.publish(group, cloudevents.TypeJSON, fmt.Sprintf(`{"typing":%v}`, typing), "").Code
}

func typed(c *conn) (list []string) {
	for _, n := range c.notified("RoomMemberTyping") {
		list = append(list, fmt.Sprint(n["userId"], " ", n["typing"]))
	}
	return list
}

func TestTyping(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	ana.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	bob2 := w.open("bob2", "bob") // does not look
	look := func(c *conn, looking bool) int { return c.event("lookAt", object{"chatId": room1, "looking": looking}) }
	equal(t, "a stranger looks", look(eve, true), http.StatusNotFound)
	equal(t, "who does not look cannot say so", bob.types(room1, true), http.StatusForbidden)
	equal(t, "looking", []int{look(ana, true), look(bob, true)}, []int{http.StatusNoContent, http.StatusNoContent})

	equal(t, "typing", bob.types(room1, true), http.StatusAccepted)
	equal(t, "and no longer", bob.types(room1, false), http.StatusAccepted)
	equal(t, "who looks is told", typed(ana), []string{"bob true", "bob false"})
	equal(t, "oneself and who does not look are not", append(typed(bob), append(typed(bob2), typed(eve)...)...), nil)
	equal(t, "nothing is stored", len(w.lines(room1)), 0)

	for what, body := range map[string]string{"text": `{"typing":true,"typing":false}`, "a message": `{"message":"x"}`, "no JSON": `x`} {
		if got := bob.publish(telling.TypingGroup(room1), cloudevents.TypeJSON, body, "").Code; got != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", what, got)
		}
	}
	equal(t, "looking away", look(ana, false), http.StatusNoContent)
	bob.types(room1, true)
	equal(t, "then nothing is told", len(typed(ana)), 2)

	// Who may not speak, or is out, neither hears nor says who is typing.
	w.mustRequest(201, "PUT", "roles/room.reader", object{"permissions": []string{"room.history"}})
	w.mustRequest(200, "PUT", "rooms/"+room1+"/members/bob", object{"roleName": "room.reader"})
	hear, speak := bob.may(telling.TypingGroup(room1))
	equal(t, "muted", []bool{hear, speak}, []bool{true, false})
	look(ana, true)
	ana.must("deleteChat", room1)
	w.payAll()
	for _, c := range []*conn{ana, bob} {
		hear, speak := c.may(telling.TypingGroup(room1))
		equal(t, c.id+" in a deleted room", []bool{hear, speak}, []bool{false, false})
	}
}

// Of a room where everybody is typing, three are told of; others when these have ended.
func TestThreeAreToldToBeTyping(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	ana.must("createChat", object{"id": room1, "name": "Tea"})
	var typists []*conn
	for i := range 5 {
		c := w.open(fmt.Sprintf("t%d", i), fmt.Sprintf("typist%d", i))
		c.must("joinChat", room1)
		c.must("lookAt", object{"chatId": room1, "looking": true})
		typists = append(typists, c)
	}
	ana.must("lookAt", object{"chatId": room1, "looking": true})
	for _, c := range typists {
		c.types(room1, true)
	}
	typists[1].types(room1, true) // again: it goes on
	typists[0].types(room1, false)
	typists[4].types(room1, true)
	equal(t, "told", typed(ana), []string{"typist0 true", "typist1 true", "typist2 true", "typist1 true", "typist0 false", "typist4 true"})
}
