package events

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const (
	room1 = "3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77"
	room2 = "9a1d2c3b-4e5f-4a6b-8c7d-1e2f3a4b5c6d"
)

type object = map[string]any

// in decodes JSON that a test expects to be fine.
func in[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

func TestStoryOfTheOriginal(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("c1", "guest_ada")
	equal(t, "own userOnline", ada.told("userOnline"), []string{`{"userId":"guest_ada","userName":"Ada","userProvider":"guest","idle":false}`})
	bob := w.open("c2", "guest_bob")
	equal(t, "Ada hears of Bob", ada.told("userOnline")[1:], []string{`{"userId":"guest_bob","userName":"Bob \u0026 Co","userProvider":"guest","idle":false}`})

	// The page sends the first two together and does not wait.
	ada.must("createChat", object{"id": room1, "name": " Tea "})
	ada.must("joinChat", room1)
	created := in[object](t, bob.told("chatCreated")[0])
	equal[any](t, "chat's name", created["name"], "Tea")
	equal[any](t, "chat's owner", created["owner"], "guest_ada")
	hear, speak := ada.may(room1)
	equal(t, "owner hears and speaks", []bool{hear, speak}, []bool{true, true})
	equal(t, "no notice of the owner's own joining", ada.notices(room1), nil)

	bob.must("joinChat", room1)
	bob.must("joinChat", room1)
	equal(t, "one notice, inert as HTML", ada.notices(room1), []string{"Bob &amp; Co has joined the chat"})
	equal(t, "one memberJoined", ada.told("memberJoined"), []string{`{"chatId":"` + room1 + `","userId":"guest_bob","userName":"Bob \u0026 Co","state":"joined"}`})
	equal(t, "members", w.members(room1), []string{"guest_ada", "guest_bob"})

	bob.must("leaveChat", object{"chatId": room1, "userName": "Ada"})
	equal(t, "leaving has the real name", ada.notices(room1)[1:], []string{"Bob &amp; Co has left the chat"})
	equal(t, "who left is told", bob.told("memberLeft"), []string{`{"chatId":"` + room1 + `","userId":"guest_bob"}`})
	hear, speak = bob.may(room1)
	equal(t, "who left neither hears nor speaks", []bool{hear, speak}, []bool{false, false})
	equal(t, "members after leaving", w.members(room1), []string{"guest_ada"})

	ada.must("createPrivateChat", object{"initiatorUserId": 4711, "targetUserId": "guest_bob"})
	mine, theirs := in[object](t, ada.told("joinPrivateChat")[0]), in[object](t, bob.told("joinPrivateChat")[0])
	equal(t, "one room for both", mine["id"], theirs["id"])
	equal(t, "what they see", []any{mine["name"], mine["grabFocus"], theirs["name"], theirs["grabFocus"], theirs["state"]},
		[]any{"Chat with Bob & Co", true, "Chat with Ada", false, "invited"})
	private := mine["id"].(string)
	if !strings.HasPrefix(private, "private_") {
		t.Errorf("private chat's id: got %q, want prefix private_", private)
	}
	equal(t, "notice", bob.notices(private), []string{"Ada wants to chat"})
	bob.must("acceptChat", private)
	equal(t, "acceptance is told", len(ada.told("memberJoined")), 2)

	ada.must("deleteChat", room1)
	equal(t, "deletion is told", bob.told("chatDeleted"), []string{room1})
	ada.must("leaveChat", object{"chatId": room1, "userName": "Ada"}) // as the page does on chatDeleted
	equal(t, "errors told", append(ada.told("error"), bob.told("error")...), nil)
}

func TestIdleIsOfAllConnections(t *testing.T) {
	w := newWorld(t, Config{})
	bob := w.open("b", "guest_bob")
	one, two := w.open("a1", "guest_ada"), w.open("a2", "guest_ada")
	one.must("userEnterIdle", "guest_ada")
	equal(t, "idle with one tab in use", bob.told("userIsIdle"), nil)
	two.must("userEnterIdle", "guest_ada")
	two.must("userEnterIdle", "guest_ada")
	equal(t, "idle with none in use", bob.told("userIsIdle"), []string{"guest_ada"})
	three := w.open("a3", "guest_ada")
	equal(t, "a new tab is in use", bob.told("userNotIdle"), []string{"guest_ada"})
	three.close()
	equal(t, "closing the one in use", bob.told("userIsIdle"), []string{"guest_ada", "guest_ada"})
	one.must("userExitIdle", "guest_ada")
	equal(t, "back in use", bob.told("userNotIdle"), []string{"guest_ada", "guest_ada"})
}

func TestEveryTabHasEveryRoom(t *testing.T) {
	w := newWorld(t, Config{})
	one, two := w.open("a1", "guest_ada"), w.open("a2", "guest_ada")
	one.must("createChat", object{"id": room1, "name": "Tea"})
	hear, speak := two.may(room1)
	equal(t, "an open tab", []bool{hear, speak}, []bool{true, true})
	three := w.open("a3", "guest_ada")
	hear, speak = three.may(room1)
	equal(t, "a new tab", []bool{hear, speak}, []bool{true, true})
	two.must("leaveChat", room1)
	for _, c := range []*conn{one, two, three} {
		hear, speak = c.may(room1)
		equal(t, c.id+" after leaving", []bool{hear, speak}, []bool{false, false})
	}
}

func TestBlocking(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	private := in[object](t, bob.told("joinPrivateChat")[0])["id"].(string)
	bob.must("blockUser", object{"userId": "guest_ada"})
	later := w.open("a2", "guest_ada")
	for _, c := range []*conn{ada, bob, later} {
		if _, speak := c.may(private); speak {
			t.Errorf("%s may speak after blocking", c.id)
		}
	}
	ada.must("joinChat", private) // does not bring the right back
	if _, speak := ada.may(private); speak {
		t.Error("joining again ends the block")
	}
	equal(t, "asking again", ada.event("createPrivateChat", object{"targetUserId": "guest_bob"}), http.StatusForbidden)
	bob.must("unblockUser", object{"userId": "guest_ada"})
	for _, c := range []*conn{ada, bob, later} {
		if _, speak := c.may(private); !speak {
			t.Errorf("%s may not speak after unblocking", c.id)
		}
	}
	equal(t, "Bob's pages are told", [][]string{bob.told("userBlocked"), bob.told("userUnblocked")}, [][]string{{"guest_ada"}, {"guest_ada"}})
	equal(t, "and whom he blocks", bob.told("blocked"), []string{`["guest_ada"]`, `[]`})
	equal(t, "Ada's are not", append(ada.told("userBlocked"), ada.told("blocked")...), nil)
}

func TestMarkRead(t *testing.T) {
	w := newWorld(t, Config{})
	one, two := w.open("a1", "guest_ada"), w.open("a2", "guest_ada")
	one.must("createChat", object{"id": room1, "name": "Tea"})
	bob := w.open("b1", "guest_bob")
	bob.must("joinChat", room1)
	for range 3 {
		bob.send(room1, "hello")
	}
	for _, seq := range []int{2, 1, 9} { // of a lower one there is nothing to tell, and nobody has read what is not there
		one.must("markRead", object{"chatId": room1, "seq": seq})
	}
	equal(t, "told", two.told("chatRead"), []string{`{"chatId":"` + room1 + `","seq":2}`, `{"chatId":"` + room1 + `","seq":3}`})
	equal(t, "others are not", bob.told("chatRead"), nil)
	equal(t, "a stranger", w.open("e", "guest_eve").event("markRead", object{"chatId": room1, "seq": 1}), http.StatusNotFound)
}

func TestRefusalsSayWhatWouldBeRight(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob := w.open("b", "guest_bob")
	for name, c := range map[string]struct {
		event  string
		data   any
		status int
		text   string
	}{
		"no event":         {"dance", "x", 404, `there is no event "dance"`},
		"no JSON":          {"createChat", "{", 400, "JSON object"},
		"wrong type":       {"createChat", object{"id": 7, "name": "x"}, 400, "JSON object"},
		"id no UUID":       {"createChat", object{"id": "lobby", "name": "x"}, 400, "UUID"},
		"private id":       {"createChat", object{"id": "private_a_b", "name": "x"}, 400, "UUID"},
		"empty title":      {"createChat", object{"id": room2, "name": "  "}, 400, "title is empty"},
		"markup":           {"createChat", object{"id": room2, "name": "<b>x"}, 400, "may not contain <"},
		"used id":          {"createChat", object{"id": room1, "name": "Coffee"}, 409, "used before"},
		"unknown room":     {"joinChat", room2, 404, "no such chat"},
		"id too long":      {"joinChat", strings.Repeat("x", 200), 400, "1 to 128"},
		"empty id":         {"joinChat", "", 400, "1 to 128"},
		"zero in an id":    {"joinChat", "a\x00b", 400, "1 to 128"},
		"not the owner":    {"deleteChat", room1, 403, "only the owner"},
		"nothing to go":    {"deleteChat", room2, 404, "no such chat"},
		"with oneself":     {"createPrivateChat", object{"targetUserId": "guest_bob"}, 400, "this is you"},
		"with nobody":      {"createPrivateChat", object{"targetUserId": "guest_x"}, 404, "nobody"},
		"no target":        {"createPrivateChat", object{"initiatorUserId": "guest_ada"}, 400, "targetUserId"},
		"target no text":   {"createPrivateChat", object{"targetUserId": object{}}, 400, "targetUserId"},
		"read without seq": {"markRead", object{"chatId": room1}, 400, "seq"},
		"look at nothing":  {"lookAt", object{"looking": true}, 400, "1 to 128"},
		"look away of it":  {"lookAt", object{"looking": false}, 400, "1 to 128"},
		"look, too long":   {"lookAt", object{"chatId": strings.Repeat("x", 1100), "looking": false}, 400, "1 to 128"},
		"look or not":      {"lookAt", object{"chatId": room1}, 400, "looking"},
		"look, a stranger": {"lookAt", object{"chatId": room1, "looking": true}, 404, "no such chat"},
		"block oneself":    {"blockUser", object{"userId": "guest_bob"}, 400, "this is you"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(bob.told("error"))
			equal(t, "status", bob.event(c.event, c.data), c.status)
			told := bob.told("error")[before:]
			if len(told) != 1 || !strings.Contains(told[0], strings.ReplaceAll(strings.ReplaceAll(c.text, "<", `\u003c`), `"`, `\"`)) {
				t.Errorf("told: got %q, want one with %q", told, c.text)
			}
		})
	}
	equal(t, "others are told", ada.told("error"), nil)
	if _, err := w.store.Room(t.Context(), "default", room1); err != nil {
		t.Errorf("the room after all that: %v", err)
	}
}

func TestTooManyRulesOnOneConnection(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.mu.Lock()
	for i := range webpubsub.MaxRules {
		ada.rights[strconv.Itoa(i)] = true
	}
	w.mu.Unlock()
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns["a"] != nil {
		t.Error("a connection that can have no more rights is left without them; it has to connect again")
	}
}

func TestRetriedEventIsDoneOnce(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	ada.must("createChat", object{"id": room1, "name": "Tea"}) // the gateway did not get the answer
	bob.must("joinChat", room1)
	w.gateway.mu.Lock()
	w.down = true
	w.gateway.mu.Unlock()
	bob.must("joinChat", room1) // what the gateway is not told now is owed
	w.gateway.mu.Lock()
	w.down = false
	w.gateway.mu.Unlock()
	bob.must("joinChat", room1)
	equal(t, "members", w.members(room1), []string{"guest_ada", "guest_bob"})
	hear, speak := bob.may(room1)
	equal(t, "whoever tries again is let in at once", []bool{hear, speak}, []bool{true, true})
}

func TestLegacyGuests(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	bob := w.open("b", "guest_bob")
	c := w.open("c", "8437591842")
	c.must("userConnected", object{"userName": "<b>", "userProvider": "aad"})
	c.must("userConnected", object{"userName": "Grace", "userProvider": "aad"})
	equal(t, "others hear of a name that cannot be", in[object](t, bob.told("userOnline")[1])["userName"], any("Guest 1842"))
	equal(t, "others hear the name", in[object](t, bob.told("userOnline")[2]), object{"userId": "8437591842", "userName": "Grace", "userProvider": "guest", "idle": false})
	c.must("userConnected", object{"userName": "Ada", "userProvider": "aad"})
	user, err := w.store.User(t.Context(), "default", "8437591842")
	if err != nil || user.Name != "Grace" || user.Provider != "guest" {
		t.Errorf("after a second name: got %+v, %v, want Grace, a guest", user, err)
	}
	equal(t, "own userOnline each time", len(c.told("userOnline")), 3)
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, Config{EventsPerSecond: 1})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	last := 0
	for range 10 {
		last = ada.event("leaveChat", room1)
	}
	equal(t, "ten at once", last, http.StatusTooManyRequests)
	equal(t, "somebody else", bob.event("leaveChat", room1), http.StatusNoContent)
}

func TestGraceAndSweep(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Hour})
	bob := w.open("b", "guest_bob")
	ada := w.open("a1", "guest_ada")
	ada.close()
	w.keepPresence()
	equal(t, "within the grace", w.online(), []string{"guest_ada", "guest_bob"})
	again := w.open("a2", "guest_ada")
	w.s.presence.OfflineGrace = time.Nanosecond
	w.keepPresence()
	equal(t, "back within the grace", w.online(), []string{"guest_ada", "guest_bob"})
	again.close()
	w.keepPresence()
	equal(t, "after the grace", w.online(), []string{"guest_bob"})
	equal(t, "told once", bob.told("userOffline"), []string{"guest_ada"})
	equal(t, "came online once before that", len(bob.told("userOnline")), 2)
}
