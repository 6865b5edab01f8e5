package events

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
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

// said1 is a log entry as a gateway would make it.
func said1(id, room, user, data string) messagelog.Entry {
	return messagelog.Entry{
		ID: id, Hub: webpubsub.HubKey{Tenant: "default", Hub: "chat"}, Group: room, ConnectionID: "c", FromUserID: user,
		Time: time.Now(), Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(data)},
	}
}

func TestFault16And38HistoryNamesTheRealSender(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	eve.must("joinChat", room1)
	other := said1("9", room1, "guest_ada", `{"message":"other tenant"}`)
	other.Hub.Tenant = "other"
	binary := said1("10", room1, "guest_ada", "x")
	binary.Data.Type = webpubsub.DataBinary
	plain := said1("11", room1, "guest_ada", "plain text")
	plain.Data.Type = webpubsub.DataText
	batch := []messagelog.Entry{
		said1("1", room1, "guest_eve", `{"message":"I am Ada","fromUserId":"guest_ada","fromUserName":"Ada","key":"k1"}`),
		said1("2", room1, "guest_eve", `{"message":"I am Ada","key":"k1"}`),
		said1("3", room1, "guest_bob", `{"message":"not a member"}`),
		said1("4", room1, "", `{"message":"nobody"}`),
		said1("5", room2, "guest_ada", `{"message":"no room"}`),
		said1("6", room1, "guest_ada", `{"message":" "}`),
		said1("7", room1, "guest_ada", `{"message":"`+strings.Repeat("x", 8001)+`"}`),
		said1("8", room1, "guest_ada", `{"message":"zero \u0000"}`),
		other, binary, plain,
		said1("12", room1, "guest_ada", `[1,2]`),
		said1("13", room1, "guest_ada", `{"message":"two","key":7}`),
		said1("14", room1, "guest_ada", `{"message":"three","key":"`+strings.Repeat("k", 200)+`"}`),
	}
	for range 2 { // at least once: the log may hand a batch over again
		if err := w.s.remember(t.Context(), batch); err != nil {
			t.Fatalf("remember: %v", err)
		}
	}
	stored, err := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	if err != nil {
		t.Fatal(err)
	}
	got := [][]any{}
	for _, m := range stored {
		got = append(got, []any{m.Seq, m.AuthorID, m.AuthorName, m.Text, m.Key})
	}
	equal(t, "history", got, [][]any{
		{1, "guest_eve", "Eve", "I am Ada", "k1"},
		{2, "guest_ada", "Ada", "plain text", "11"},
		{3, "guest_ada", "Ada", "two", "13"},
		{4, "guest_ada", "Ada", "three", "14"},
	})
}

// TestFault38HistoryIsTakenByItsOwnServiceOnly has two chats behind the same gateways, of two tenants or of two hubs.
func TestFault38HistoryIsTakenByItsOwnServiceOnly(t *testing.T) {
	for name, other := range map[string]webpubsub.HubKey{
		"tenants": {Tenant: "two", Hub: "chat"},
		"hubs":    {Tenant: "default", Hub: "team"},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := sqlitelog.Open(filepath.Join(t.TempDir(), "log.db"), sqlitelog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { log.Close() })
			said := func(h webpubsub.HubKey, text string) {
				e := said1("", room1, "guest_ada", text)
				e.Hub, e.Data.Type = h, webpubsub.DataText
				log.Append(messagelog.Name(h.Tenant, "history"), e, func(err error) {
					if err != nil {
						t.Errorf("append %s: got %v", text, err)
					}
				})
			}
			// start runs the service of a chat until a text is in its history.
			start := func(h webpubsub.HubKey, text string) {
				w := newWorld(t, Config{Tenant: h.Tenant, Hub: h.Hub})
				w.s.log = log
				ada := chat.User{ID: "guest_ada", Name: "Ada", Provider: "guest"}
				if err := w.store.SaveUser(t.Context(), h.Tenant, ada); err != nil {
					t.Fatal(err)
				}
				if _, err := w.store.CreateRoom(t.Context(), h.Tenant, chat.Room{ID: room1, Title: "Tea", OwnerID: ada.ID}); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				var work sync.WaitGroup
				work.Go(func() { _ = w.s.keepHistory(ctx) })
				t.Cleanup(func() {
					stop()
					work.Wait()
				})
				testkit.Eventually(t, 10*time.Second, func() bool {
					lines, _ := w.store.History(t.Context(), h.Tenant, room1, ada.ID, 0, 50)
					return len(lines) > 0 && lines[len(lines)-1].Text == text
				}, text+" is in the history")
			}
			said(other, "theirs")
			said(webpubsub.HubKey{Tenant: "default", Hub: "chat"}, "ours")
			start(webpubsub.HubKey{Tenant: "default", Hub: "chat"}, "ours")
			start(other, "theirs")
		})
	}
}

func TestFault38NothingIsLostWhileTheStoreIsAway(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the store refuses
	batch := []messagelog.Entry{said1("1", room1, "guest_ada", `{"message":"one"}`)}
	if err := w.s.remember(ctx, batch); err == nil {
		t.Fatal("a batch that was not stored is confirmed")
	}
	if err := w.s.remember(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	stored, _ := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	equal(t, "stored", len(stored), 1)
}

func TestFault19And20IdleIsTheSendersOwn(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	eve.must("userEnterIdle", "guest_ada")
	eve.must("userExitIdle", "phantom")
	eve.must("userEnterIdle", "phantom")
	equal(t, "told idle", ada.told("userIsIdle"), []string{"guest_eve", "guest_eve"})
	equal(t, "told back", ada.told("userNotIdle"), []string{"guest_eve"})
}

func TestFault21NamesAreNotSelfDeclared(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		w := newWorld(t, Config{LegacyGuests: legacy})
		ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
		eve.must("userConnected", object{"userName": "Ada", "userProvider": "aad"})
		user, err := w.store.User(t.Context(), "default", "guest_eve")
		if err != nil || user.Name != "Eve" || user.Provider != "guest" {
			t.Errorf("legacy %v: got %+v, %v, want Eve, a guest", legacy, user, err)
		}
		equal(t, "others are told nothing", len(ada.told("userOnline")), 2)
	}
}

func TestFault22LeavingWhereOneIsNot(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	eve.must("leaveChat", object{"chatId": room1, "userName": "Ada"})
	equal(t, "notices", ada.notices(room1), nil)
	equal(t, "members", w.members(room1), []string{"guest_ada"})
}

func TestFault23UserEventsAreNoSystemEvents(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	eve := w.open("e", "guest_eve")
	for _, name := range []string{"disconnected", "connected", "connect"} {
		equal(t, name, eve.event(name, object{"reason": "x"}), http.StatusNotFound)
	}
	w.keepPresence()
	equal(t, "online", w.online(), []string{"guest_eve"})
}

func TestFault24PresenceNeedsNoCourtesy(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.open("e", "guest_eve") // never sends userConnected
	equal(t, "Ada is told", len(ada.told("userOnline")), 2)
	equal(t, "online", w.online(), []string{"guest_ada", "guest_eve"})
}

func TestFault26And27ConnectionsAreCounted(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	bob := w.open("b", "guest_bob")
	one, two := w.open("a1", "guest_ada"), w.open("a2", "guest_ada")
	one.close()
	w.keepPresence()
	equal(t, "one tab of two", w.online(), []string{"guest_ada", "guest_bob"})
	two.close()
	two.close() // told twice
	w.keepPresence()
	w.keepPresence()
	equal(t, "told once", bob.told("userOffline"), []string{"guest_ada"})
	three := w.open("a3", "guest_ada")
	two.close() // late
	w.keepPresence()
	equal(t, "a late disconnected of an old socket", w.online(), []string{"guest_ada", "guest_bob"})
	three.close()
}

func TestFault28GhostsGo(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond, CheckInterval: time.Nanosecond})
	bob := w.open("b", "guest_bob")
	ada := w.open("a", "guest_ada")
	ada.vanish() // its gateway died, nobody says disconnected
	eve := w.open("e", "guest_eve")
	w.check()
	w.keepPresence()
	equal(t, "online", w.online(), []string{"guest_bob", "guest_eve"})
	equal(t, "told", bob.told("userOffline"), []string{"guest_ada"})
	equal(t, "what happens while the gateway cannot say", func() []string {
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		w.check()
		return w.online()
	}(), []string{"guest_bob", "guest_eve"})
	_ = eve
}

func TestFault29DisconnectLeavesMembershipsAlone(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	ada := w.open("a", "guest_ada")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	ada.close()
	w.keepPresence()
	equal(t, "members", w.members(room1), []string{"guest_ada"})
	back := w.open("a2", "guest_ada")
	hear, speak := back.may(room1)
	equal(t, "back in the room", []bool{hear, speak}, []bool{true, true})
}

func TestFault30ConcurrentJoins(t *testing.T) {
	w := newWorld(t, Config{})
	owner := w.open("a", "guest_ada")
	owner.must("createChat", object{"id": room1, "name": "Tea"})
	bob, eve := w.open("b", "guest_bob"), w.open("e", "guest_eve")
	var wg sync.WaitGroup
	for range 4 {
		for _, c := range []*conn{bob, eve} {
			wg.Go(func() {
				joined := &conn{g: w.gateway, id: c.id, user: c.user} // its own event counter
				joined.event("joinChat", room1)
			})
		}
	}
	wg.Wait()
	equal(t, "members", w.members(room1), []string{"guest_ada", "guest_bob", "guest_eve"})
	equal(t, "notices", len(owner.notices(room1)), 2)
}

func TestFault31PresenceIsToldLate(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	down := func(now bool) { w.mu.Lock(); w.down = now; w.mu.Unlock() }
	bob, ada := w.open("b", "guest_bob"), w.open("a", "guest_ada")
	down(true)
	ada.vanish()
	ada.post(cloudevents.Disconnected, "disconnected", "application/json", `{}`)
	w.keepPresence()
	w.keepPresence()
	equal(t, "while the gateway is away", bob.told("userOffline"), nil)
	down(false)
	w.keepPresence()
	w.keepPresence()
	equal(t, "once, when it is back", bob.told("userOffline"), []string{"guest_ada"})
}

func TestFault33UnknownUserJoinsNothing(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	ghost := &conn{g: w.gateway, id: "g", user: "guest_ghost", groups: map[string]bool{}, rights: map[string]bool{}}
	w.mu.Lock()
	w.conns["g"] = ghost
	w.mu.Unlock()
	equal(t, "joinChat", ghost.event("joinChat", room1), http.StatusUnauthorized)
	hear, speak := ghost.may(room1)
	equal(t, "hears or speaks", []bool{hear, speak}, []bool{false, false})
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
	equal(t, "while the gateway is away", ada.event("deleteChat", room1), http.StatusInternalServerError)
	down(false)
	equal(t, "tried again", ada.event("deleteChat", room1), http.StatusNotFound)
	for range 2 { // what is done is not done again
		if err := w.s.buryOwed(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
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
	for i := range maxConnections {
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

// TestFault38HubInCapitals is configured with another spelling of the hub than gateways use.
func TestFault38HubInCapitals(t *testing.T) {
	w := newWorld(t, Config{Hub: "Chat"})
	ada := w.open("a", "guest_ada")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	if err := w.s.remember(t.Context(), []messagelog.Entry{said1("1", room1, "guest_ada", `{"message":"kept"}`)}); err != nil {
		t.Fatal(err)
	}
	stored, err := w.store.History(t.Context(), "default", room1, "guest_ada", 0, 50)
	if err != nil || len(stored) != 1 {
		t.Errorf("got %d messages, %v; want the one that was sent", len(stored), err)
	}
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
