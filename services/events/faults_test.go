package events

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/services/events/rules"
)

// These tests try the faults of the original Chatr, by the numbers of the project's list.

func TestFault02NoBlanketRoles(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	private := in[object](t, bob.told("joinPrivateChat")[0])["id"].(string)
	eve := w.open("e", "guest_eve")
	equal(t, "rights of a stranger", len(eve.rights)+len(eve.groups), 0)
	equal(t, "joining a private chat of others", eve.event("joinChat", private), http.StatusNotFound)
	hear, speak := eve.may(private)
	equal(t, "hears or speaks", []bool{hear, speak}, []bool{false, false})
	if strings.Contains(private, "ada") || strings.Contains(private, "bob") {
		t.Errorf("the private chat's id %q can be computed", private)
	}
}

func TestFault05NamesInNoticesAreInert(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	bob.must("leaveChat", room1)
	for _, text := range ada.notices(room1) {
		if strings.ContainsAny(text, "<>\"'") || !strings.HasPrefix(text, "Bob &amp; Co ") {
			t.Errorf("got notice %q, want the escaped name", text)
		}
	}
}

func TestFault07And44OnlySignedEvents(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	good := func() *http.Request {
		r, err := cloudevents.NewRequest(t.Context(), "http://events/eventhandler/deleteChat", cloudevents.Event{
			Type: cloudevents.UserPrefix + "deleteChat", Name: "deleteChat", Hub: "chat", ConnectionID: "a", UserID: "guest_ada",
			ID: 9, Time: time.Now(), Origin: "gateway", ContentType: "text/plain", Body: []byte(room1),
		}, testKey)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, spoil := range map[string]func(*http.Request){
		"unsigned": func(r *http.Request) { r.Header.Del("ce-signature") },
		"other key": func(r *http.Request) {
			r.Header.Set("ce-signature", cloudevents.Signature("a", strings.Repeat("x", 40)))
		},
		"other connection": func(r *http.Request) { r.Header.Set("ce-connectionId", "b") },
		"other hub":        func(r *http.Request) { r.Header.Set("ce-hub", "other") },
		"by GET":           func(r *http.Request) { r.Method = http.MethodGet },
		"other origin":     func(r *http.Request) { r.Header.Set("WebHook-Request-Origin", "evil") },
		"replayed when its connection is closed": func(r *http.Request) {
			r.Header.Set("ce-connectionId", "old")
			r.Header.Set("ce-signature", cloudevents.Signature("old", testKey))
		},
		"another user on a live connection": func(r *http.Request) {
			w.open("b", "guest_bob")
			r.Header.Set("ce-connectionId", "b")
			r.Header.Set("ce-signature", cloudevents.Signature("b", testKey))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			spoil(r)
			answer := httptest.NewRecorder()
			w.events.ServeHTTP(answer, r)
			if answer.Code < 400 {
				t.Errorf("got %d, want a refusal", answer.Code)
			}
			equal(t, "members", w.members(room1), []string{"guest_ada"})
		})
	}
	answer := httptest.NewRecorder()
	w.events.ServeHTTP(answer, good())
	equal(t, "the unspoiled event", answer.Code, http.StatusNoContent)
}

func TestFault09OnlyConfiguredOriginsAttach(t *testing.T) {
	w := newWorld(t, Config{})
	for origin, want := range map[string]string{"gateway": "gateway", "evil.example": ""} {
		r := httptest.NewRequest(http.MethodOptions, "/eventhandler/validate", nil)
		r.Header.Set("WebHook-Request-Origin", origin)
		r.Header.Set("ce-awpsversion", "1.0")
		r.Header.Set("ce-hub", "chat")
		answer := httptest.NewRecorder()
		w.events.ServeHTTP(answer, r)
		equal(t, "allowed for "+origin, answer.Header().Get("WebHook-Allowed-Origin"), want)
	}
}

func TestFault10ChatTakeover(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	eve := w.open("e", "guest_eve")
	equal(t, "creating it again", eve.event("createChat", object{"id": room1, "name": "Tea"}), http.StatusConflict)
	room, err := w.store.Room(t.Context(), "default", room1)
	if err != nil || room.OwnerID != "guest_ada" {
		t.Errorf("owner: got %q, %v, want guest_ada", room.OwnerID, err)
	}
	if hear, speak := eve.may(room1); hear || speak {
		t.Error("the attempt lets eve in")
	}
}

func TestFault11And35PrivateTakeover(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.open("a", "guest_ada"), w.open("b", "guest_bob"), w.open("e", "guest_eve")
	for _, id := range []string{"private_guest_ada_guest_bob", "private_" + room1} {
		equal(t, "public chat "+id, eve.event("createChat", object{"id": id, "name": "x"}), http.StatusBadRequest)
	}
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	ada.must("createPrivateChat", object{"targetUserId": "guest_eve"})
	bob.must("createPrivateChat", object{"targetUserId": "guest_ada"})
	withBob, withEve := in[object](t, bob.told("joinPrivateChat")[0])["id"], in[object](t, eve.told("joinPrivateChat")[0])["id"]
	if withBob == withEve {
		t.Errorf("two pairs share the room %v", withBob)
	}
	equal(t, "one room per pair, whoever asks", in[object](t, bob.told("joinPrivateChat")[1])["id"], withBob)
}

func TestFault12OnlyTheOwnerDeletes(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	eve.must("joinChat", room1)
	equal(t, "a member", eve.event("deleteChat", room1), http.StatusForbidden)
	equal(t, "of nothing", eve.event("deleteChat", room2), http.StatusNotFound)
	equal(t, "announced", ada.told("chatDeleted"), nil)
}

func TestFault13FailingPrivateChatEvictsNobody(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada")
	eve := w.open("e", "guest_eve")
	for _, data := range []object{
		{"initiatorUserId": "guest_ada", "targetUserId": "nobody"},
		{"initiatorUserId": "nobody", "targetUserId": "nobody"},
	} {
		equal(t, "status", eve.event("createPrivateChat", data), http.StatusNotFound)
	}
	equal(t, "online", w.online(), []string{"guest_ada", "guest_eve"})
}

func TestFault14InitiatorIsTheSender(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.open("a", "guest_ada"), w.open("b", "guest_bob"), w.open("e", "guest_eve")
	eve.must("createPrivateChat", object{"initiatorUserId": "guest_ada", "targetUserId": "guest_bob"})
	equal(t, "Ada is dragged in", ada.told("joinPrivateChat"), nil)
	equal(t, "Bob sees who asks", in[object](t, bob.told("joinPrivateChat")[0])["name"], "Chat with Eve")
}

func TestFault15ConsentBlockAndSelf(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	equal(t, "with oneself", eve.event("createPrivateChat", object{"targetUserId": "guest_eve"}), http.StatusBadRequest)
	ada.must("blockUser", object{"userId": "guest_eve"})
	equal(t, "with who has blocked", eve.event("createPrivateChat", object{"targetUserId": "guest_ada"}), http.StatusForbidden)
	equal(t, "Ada hears of it", ada.told("joinPrivateChat"), nil)
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	room, err := w.store.Room(t.Context(), "default", in[object](t, ada.told("joinPrivateChat")[0])["id"].(string))
	bob, _ := room.Member("guest_bob")
	if err != nil || bob.State != "invited" {
		t.Errorf("Bob's state: got %q, %v, want invited until he agrees", bob.State, err)
	}
}

func TestFault34DeletingSilencesTheRoom(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	notices := len(ada.notices(room1))
	ada.must("deleteChat", room1)
	for _, c := range []*conn{ada, bob} {
		hear, speak := c.may(room1)
		equal(t, c.id+" hears or speaks", []bool{hear, speak}, []bool{false, false})
		c.must("leaveChat", object{"chatId": room1, "userName": "x"})
	}
	equal(t, "leave notices", len(ada.notices(room1)), notices)
	equal(t, "joining it again", bob.event("joinChat", room1), http.StatusNotFound)
	equal(t, "creating it again", ada.event("createChat", object{"id": room1, "name": "Tea"}), http.StatusConflict)
}

// TestFault34DeletingSilencesTheRoomLater deletes while the gateways are away, with the gateway's second attempt.
func TestFault34DeletingSilencesTheRoomLater(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	down := func(now bool) { w.mu.Lock(); w.down = now; w.mu.Unlock() }
	down(true)
	ada.must("deleteChat", room1) // what is left to do is owed
	down(false)
	equal(t, "tried again", ada.event("deleteChat", room1), http.StatusNotFound)
	w.payAll()
	hear, speak := bob.may(room1)
	equal(t, "hears and speaks", []bool{hear, speak}, []bool{false, false})
	equal(t, "told", bob.told("chatDeleted"), []string{room1})
}

func TestFault37Limits(t *testing.T) {
	w := newWorld(t, Config{})
	eve := w.open("e", "guest_eve")
	equal(t, "a title of 500 kB", eve.event("createChat", object{"id": room1, "name": strings.Repeat("x", 500<<10)}), http.StatusRequestEntityTooLarge)
	equal(t, "a title of 101 characters", eve.event("createChat", object{"id": room1, "name": strings.Repeat("x", 101)}), http.StatusBadRequest)
	equal(t, "announced", eve.told("chatCreated"), nil)
}

func TestFault37NobodyUsesUpTheConnections(t *testing.T) {
	w := newWorld(t, Config{})
	for i := range rules.MaxConnections {
		if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: fmt.Sprint(i), UserID: "guest_eve"}); err != nil {
			t.Fatal(err)
		}
	}
	connect := func(user string) int {
		c := &conn{g: w.gateway, id: "new", user: user}
		return c.post(cloudevents.Connect, "connect", cloudevents.TypeSystem, `{}`).Code
	}
	equal(t, "one page too many", connect("guest_eve"), http.StatusTooManyRequests)
	equal(t, "somebody else's page", connect("guest_ada"), http.StatusOK)
	if err := w.store.Disconnect(t.Context(), "default", "0"); err != nil {
		t.Fatal(err)
	}
	equal(t, "after closing one", connect("guest_eve"), http.StatusOK)
}

func TestFault42TokensEndWithTheSession(t *testing.T) {
	w := newWorld(t, Config{})
	connect := func(claims string) int {
		c := &conn{g: w.gateway, id: "new", user: "guest_ada"}
		return c.post(cloudevents.Connect, "connect", cloudevents.TypeSystem, `{"claims":{`+claims+`}}`).Code
	}
	made := func(at time.Time) string { return fmt.Sprintf(`"iat":["%d"]`, at.Unix()) }
	old := made(time.Now())
	equal(t, "a token", connect(old), http.StatusOK)
	if err := w.store.SignOut(t.Context(), "default", "guest_ada"); err != nil {
		t.Fatal(err)
	}
	equal(t, "a token from before signing out", connect(old), http.StatusUnauthorized)
	equal(t, "one that does not say", connect(``), http.StatusUnauthorized)
	equal(t, "one that says nonsense", connect(`"iat":["soon"]`), http.StatusUnauthorized)
	equal(t, "one from afterwards", connect(made(time.Now().Add(2*time.Second))), http.StatusOK)
}

func TestFault41ErrorsHoldNothingInternal(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.store.Close()
	answer := ada.post(cloudevents.UserPrefix+"joinChat", "joinChat", "text/plain", room1)
	equal(t, "status", answer.Code, http.StatusServiceUnavailable)
	if body := answer.Body.String(); strings.Contains(body, "sql") || strings.Contains(body, "database") {
		t.Errorf("got %q, want nothing internal", body)
	}
	if logs := w.logs.String(); !strings.Contains(logs, "event not handled") || strings.Contains(logs, room1) {
		t.Errorf("log: got %q, want the failure without its payload", logs)
	}
}
