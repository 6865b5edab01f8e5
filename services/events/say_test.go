package events

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
)

// publish asks about a message to a group as a gateway does before it publishes it.
func (c *conn) publish(group, contentType, body, ackID string) *httptest.ResponseRecorder {
	c.g.t.Helper()
	c.nextID++
	r, err := cloudevents.NewRequest(c.g.t.Context(), "http://events/eventhandler/beforePublish", cloudevents.Event{
		Type: cloudevents.BeforePublish, Name: cloudevents.BeforePublishName, Hub: "chat", ConnectionID: c.id, UserID: c.user, State: c.state,
		ID: c.nextID, Time: time.Now(), Origin: "gateway", ContentType: contentType, Body: []byte(body), Group: group, AckID: ackID,
	}, testKey)
	if err != nil {
		c.g.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	c.g.events.ServeHTTP(w, r)
	return w
}

// heard returns the lines that a page draws: what has come from the room's group with a message, and by whom.
func (c *conn) heard(room string) []string {
	var lines []string
	for _, m := range c.frames() {
		var v struct {
			Message    *string `json:"message"`
			FromUserID string  `json:"fromUserId"`
		}
		if m.group == room && json.Unmarshal([]byte(m.body), &v) == nil && v.Message != nil {
			lines = append(lines, v.FromUserID+": "+*v.Message)
		}
	}
	return lines
}

// Whatever door something is said by, everybody hears it in one frame and in the order of the history: pages of the
// original, ours, and clients of the chat protocol.
func TestOneOrderBehindAllDoors(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	original, ada, ada2 := w.open("o", "guest_eve"), w.open("ada1", "guest_ada"), w.open("ada2", "guest_ada")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob", "guest_ada", "guest_eve"}})

	ana.send("r1", "by the protocol")
	first := ada.mustInvoke("sendMessage", object{"chatId": "r1", "text": "by our page", "key": "k1"})
	equal(t, "its place", []any{first["seq"], first["number"]}, []any{2, 6}) // after created, three joined and a message
	if _, err := time.Parse(time.RFC3339, first["at"].(string)); err != nil {
		t.Errorf("at: %v", err)
	}
	same(t, "the same key", ada2.mustInvoke("sendMessage", object{"chatId": "r1", "text": "by our page", "key": "k1"}), first)
	answer := original.publish("r1", cloudevents.TypeJSON, `{"message":"by the original","fromUserId":"guest_ada","fromUserName":"Ada"}`, "7")
	equal(t, "taken", answer.Code, http.StatusAccepted)
	equal(t, "the same ackId", original.publish("r1", cloudevents.TypeJSON, `{"message":"by the original","fromUserId":"guest_ada"}`, "7").Code, http.StatusAccepted)
	equal(t, "plain", original.publish("r1", cloudevents.TypeText, `plain`, "8").Code, http.StatusAccepted)

	all := []string{"ana: by the protocol", "guest_ada: by our page", "guest_eve: by the original", "guest_eve: plain"}
	equal(t, "a page of the original hears all, its own too", original.heard("r1"), all)
	equal(t, "our page hears all but its own", ada.heard("r1"), []string{all[0], all[2], all[3]})
	equal(t, "the person's other page hears all", ada2.heard("r1"), all)
	same(t, "a client of the protocol", texts(bob.notified("MessageCreated")), []string{"1 by the protocol", "2 by our page", "3 by the original", "4 plain"})
	same(t, "the sending client", texts(ana.notified("MessageCreated")), []string{"2 by our page", "3 by the original", "4 plain"})
	equal(t, "history", len(w.lines("r1")), 4)
	var numbers []float64
	for _, m := range bob.frames() {
		var v struct{ Event struct{ Number float64 } }
		if json.Unmarshal([]byte(m.body), &v) == nil && v.Event.Number > 0 {
			numbers = append(numbers, v.Event.Number)
		}
	}
	equal(t, "event numbers", numbers, []float64{1, 5, 6, 7, 8})
}

// What nobody may say is refused at each door by the same rule, is heard by nobody and is in no history.
func TestWhatIsNotSaid(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	text := func(s string) string { b, _ := json.Marshal(object{"message": s}); return string(b) }
	for what, c := range map[string]struct {
		from       *conn
		room, body string
		status     int
	}{
		"a notification":     {bob, "r1", `{"message":"x","notificationType":"RoomLeft","body":{"roomId":"r1"}}`, 403},
		"a server message":   {bob, "r1", `{"message":"x","chatEvent":"chatDeleted","data":"r1"}`, 403},
		"an event":           {bob, "r1", `{"message":"x","event":{"number":9}}`, 403},
		"null for one":       {bob, "r1", `{"message":"x","notificationType":null}`, 403},
		"two messages":       {bob, "r1", `{"message":"innocent","message":"evil"}`, 400},
		"another case":       {bob, "r1", `{"Message":"evil"}`, 400},
		"NUL":                {bob, "r1", `{"message":"a\u0000b"}`, 400},
		"NUL in the key":     {bob, "r1", `{"message":"a","key":"k\u0000"}`, 400},
		"not UTF-8":          {bob, "r1", "{\"message\":\"a\xff\"}", 400},
		"a long key":         {bob, "r1", `{"message":"a","key":"` + strings.Repeat("k", chat.MaxKeyBytes+1) + `"}`, 400},
		"no text":            {bob, "r1", `{"text":"x"}`, 400},
		"a number":           {bob, "r1", `{"message":1}`, 400},
		"a list":             {bob, "r1", `["x"]`, 400},
		"white space":        {bob, "r1", text(" \n"), 400},
		"too long":           {bob, "r1", text(strings.Repeat("x", chat.MaxTextRunes+1)), 400},
		"too large":          {bob, "r1", text(strings.Repeat("x", 1<<20)), 413},
		"a stranger":         {eve, "r1", text("x"), 403},
		"a room of nobody's": {bob, "nowhere", text("x"), 403},
		"a topic":            {bob, "topic_r1.t1", text("x"), 403},
	} {
		answer := c.from.publish(c.room, cloudevents.TypeJSON, c.body, "")
		equal(t, what+": "+answer.Body.String(), answer.Code, c.status)
	}
	equal(t, "binary", bob.publish("r1", cloudevents.TypeBinary, "x", "").Code, http.StatusBadRequest)
	for what, text := range map[string]string{"text with NUL": "a\x00b", "text that is no UTF-8": "a\xff", "white space": " "} {
		equal(t, what, bob.publish("r1", cloudevents.TypeText, text, "").Code, http.StatusBadRequest)
	}
	for what, data := range map[string]object{
		"NUL": {"chatId": "r1", "text": "a\x00b", "key": "k"}, "NUL in the key": {"chatId": "r1", "text": "a", "key": "k\x00"},
		"white space": {"chatId": "r1", "text": " "}, "no text": {"chatId": "r1"}, "no room": {"chatId": "nowhere", "text": "x"},
		"too long": {"chatId": "r1", "text": strings.Repeat("x", chat.MaxTextRunes+1)},
	} {
		if result, code := bob.invoke("sendMessage", data); code == "" {
			t.Errorf("sendMessage: %s: got %v, want a refusal", what, result)
		}
	}
	if result, code := eve.invoke("sendMessage", object{"chatId": "r1", "text": "x"}); code != "Forbidden" || !strings.Contains(result["message"].(string), "member") {
		t.Errorf("sendMessage by a stranger: got %v, want a refusal that says why", result)
	}
	equal(t, "heard", ana.heard("r1"), nil)
	equal(t, "history", len(w.lines("r1")), 0)
}

// Who may not speak may not by any door, also after leaving and coming back; who may again, may by all.
func TestWhoIsMutedIsMutedAtEveryDoor(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	w.mustRequest(201, "PUT", "roles/room.reader", object{"permissions": []string{"room.history", "room.invite"}})
	ana.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	say := func() (accepted []string) {
		if bob.publish(room1, cloudevents.TypeJSON, `{"message":"x"}`, "").Code == http.StatusAccepted {
			accepted = append(accepted, "to the group")
		}
		if _, code := bob.invoke("sendMessage", object{"chatId": room1, "text": "x"}); code == "" {
			accepted = append(accepted, "by the page")
		}
		if _, code := bob.invoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c." + room1}, "content": "x"}); code == "" {
			accepted = append(accepted, "by the protocol")
		}
		return accepted
	}
	equal(t, "a member", len(say()), 3)
	w.mustRequest(200, "PUT", "rooms/"+room1+"/members/bob", object{"roleName": "room.reader"})
	equal(t, "muted", say(), nil)
	bob.must("leaveChat", room1)
	equal(t, "out", say(), nil)
	bob.must("joinChat", room1)
	equal(t, "muted, left, and back", say(), nil)
	hear, speak := bob.may(room1)
	equal(t, "hears and speaks", []bool{hear, speak}, []bool{true, false})
	w.mustRequest(200, "PUT", "rooms/"+room1+"/members/bob", object{"roleName": "room.member"})
	equal(t, "may again", len(say()), 3)
	w.mustRequest(201, "PUT", "roles/room.member", object{"permissions": []string{"room.history"}})
	equal(t, "the role itself is changed", say(), nil)
	w.payAll()
	if _, speak := bob.may(room1); speak {
		t.Error("the live right stays when the role is changed")
	}
}

// Everything that changes in a room is an event with the next number, that all pages of the room are told of.
func TestEveryChangeIsToldWithItsNumber(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	page := w.open("p", "guest_ada")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"guest_ada"}})
	ana.send("r1", "one")
	ana.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "bob"})
	w.mustRequest(200, "PATCH", "conversations/c.r1/messages/1", object{"content": object{"text": "other"}})
	w.mustRequest(204, "DELETE", "conversations/c.r1/messages/1", nil)
	w.mustRequest(200, "PUT", "rooms/r1", object{"title": "Coffee"})
	w.mustRequest(200, "PUT", "rooms/r1/members/bob", object{"roleName": "room.operator"})
	bob.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	w.mustRequest(204, "DELETE", "rooms/r1", nil)
	w.payAll()
	var got []string
	for _, m := range page.frames() {
		var v struct{ Event *chat.WireEvent }
		if json.Unmarshal([]byte(m.body), &v) == nil && v.Event != nil {
			e := v.Event
			got = append(got, strings.TrimSpace(strings.Join([]string{string(e.Kind), string(rune('0' + e.Number%10)), e.UserID, e.Text, e.Title, e.Role}, " ")))
		}
	}
	equal(t, "events", got, []string{
		"created 1 ana  Tea", "message 3 ana", "joined 4 bob", "edited 5 ana other", "deleted 6 ana", "title 7 chatr.service  Coffee",
		"role 8 bob   room.operator", "left 9 bob", "closed 0 chatr.service  Coffee",
	})
}

// One's own words are read by saying them, when all before was read, whatever door they are said by.
func TestOwnWordsAreRead(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob", "guest_ada"}})
	ada := w.open("ada1", "guest_ada")
	read := func(user string) int64 {
		room, err := w.store.Room(t.Context(), "default", "r1")
		if err != nil {
			t.Fatal(err)
		}
		m, _ := room.Member(user)
		return m.ReadSeq
	}
	for range 5 {
		ana.send("r1", "by the protocol")
	}
	equal(t, "five of one's own", read("ana"), 5)
	ada.mustInvoke("sendMessage", object{"chatId": "r1", "text": "by the page"})
	equal(t, "with five of others before", read("guest_ada"), 0)
	ada.must("markRead", object{"chatId": "r1", "seq": 6})
	ada.mustInvoke("sendMessage", object{"chatId": "r1", "text": "by the page"})
	equal(t, "with all read before", read("guest_ada"), 7)
	bob.must("markRead", object{"chatId": "r1", "seq": 7})
	bob.publish("r1", cloudevents.TypeJSON, `{"message":"to the group"}`, "1")
	equal(t, "by the original", read("bob"), 8)
	if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{said1("1", "r1", "bob", `{"message":"by an older gateway"}`)}); err != nil {
		t.Fatal(err)
	}
	equal(t, "from the log", read("bob"), 9)
}
