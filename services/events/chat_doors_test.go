package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
)

// What a gateway posts again, not knowing that it was done, is done once and answered alike.
func TestChatInvocationsPostedAgain(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	twice := func(name string, data any) map[string]any {
		t.Helper()
		w.mu.Lock()
		before := ana.nextID
		w.mu.Unlock()
		first := ana.mustInvoke(name, data)
		ana.nextID = before
		same(t, name+" again", ana.mustInvoke(name, data), first)
		return first
	}
	twice("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	twice("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "bob"})
	same(t, "message", twice("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "content": "hi"})["id"], "1")
	same(t, "heard once", texts(bob.notified("MessageCreated")), []string{"1 hi"})
	same(t, "the next", ana.send("r1", "ho"), "2")
	twice("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	_, code := ana.invoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	same(t, "another event with the same data", code, invoke.CodeRoomExists)
}

func TestChatWhenSomethingIsAway(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	down := func(is bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.down = is
	}
	down(true)
	same(t, "what is stored is said to be, although nobody heard it", ana.send("r1", "hello?"), "1")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r2"}) // what the gateway is not told is owed
	down(false)
	ana.nextID-- // the gateway has not got the answer, and tries again
	same(t, "tried again", ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r2"})["roomId"], "r2")
	page := bob.mustInvoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1"}})
	same(t, "history has it", len(page["messages"].([]any)), 1)

	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]object{"chat.login": {}, "chat.getRoom": {"id": "r1"}} {
		result, code := ana.invoke(name, data)
		same(t, name+" without a store", code, invoke.CodeStorageUnavailable)
		if text := fmt.Sprint(result["message"]); strings.Contains(text, "sql") {
			t.Errorf("the fault tells of the inside: %s", text)
		}
	}
}

// A page says something by sending to the group, and clients of the chat protocol hear it when it has its place in the
// history; what they say pages hear as if another page had said it. Each line is in the history once.
//
// checklist:H07
func TestChatOneTruthBehindTheDoors(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ada := w.open("ada1", "guest_ada")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob", "guest_ada"}})
	same(t, "a page is shown the room", len(ada.told("chatCreated")), 1)
	if !strings.Contains(ada.told("chatCreated")[0], `"kind":"private"`) {
		t.Errorf("chatCreated: got %s, want a private room", ada.told("chatCreated")[0])
	}
	if hear, speak := ada.may("r1"); !hear || !speak {
		t.Error("the page may not hear or speak")
	}

	ana.send("r1", "from a client")
	entry := messagelog.Entry{ID: "e1", Hub: hubKey, Group: "r1", ConnectionID: ada.id, FromUserID: "guest_ada", Time: time.Now(),
		Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"message":"from a page","key":"k1"}`)}}
	for range 2 { // the log hands it over at least once
		if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{entry}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "bob hears both, in order, once", texts(bob.notified("MessageCreated")), []string{"1 from a client", "2 from a page"})
	same(t, "the page hears the client's line", texts(ada.notified("MessageCreated")), []string{"1 from a client"})
	frames := ada.frames()
	line := frames[len(frames)-1]
	var said struct{ Message, FromUserID, FromUserName, Key string }
	if err := json.Unmarshal([]byte(line.body), &said); err != nil || line.group != "r1" {
		t.Fatalf("line: got %+v, %v", line, err)
	}
	stored, err := w.store.History(t.Context(), "default", "r1", "guest_ada", 0, 10)
	if err != nil || len(stored) != 2 {
		t.Fatalf("history: got %v, %v, want 2 lines", stored, err)
	}
	same(t, "as a line of a page", []string{said.Message, said.FromUserID, said.FromUserName, said.Key},
		[]string{"from a client", "ana", "ana", stored[0].Key})

	// The other way: a public chat of a page is a room of who joins it.
	ada.must("createChat", object{"id": room1, "name": "Open"})
	ana.mustInvoke("chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "ana"})
	same(t, "joined", rooms(ana.notified("RoomJoined")), []string{room1})
	same(t, "the page sees who", len(ada.told("memberJoined")), 1)
	same(t, "its title", ana.mustInvoke("chat.getRoom", object{"id": room1})["title"], "Open")
	w.conns["ada1"].must("leaveChat", object{"chatId": room1})
	same(t, "the client sees who left", ana.notified("RoomMemberLeft"), []object{{"roomId": room1, "title": "Open", "userId": "guest_ada"}})
	bob.must("joinChat", room1)
	same(t, "the client sees who joined", ana.notified("RoomMemberJoined"), []object{{"roomId": room1, "title": "Open", "userId": "bob"}})
	ada.must("deleteChat", room1)
	same(t, "closed", ana.notified("RoomClosed"), []object{{"roomId": room1, "title": "Open"}})
}

var hubKey = webpubsub.HubKey{Tenant: "default", Hub: "chat"}

// What an older gateway's page has said, all pages have heard as they said it themselves: they are told its place in the
// room, and not to draw it again.
func TestChatPagesAreToldThePlaceOfWhatTheyHeard(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	entry := messagelog.Entry{ID: "e1", Hub: hubKey, Group: room1, ConnectionID: "a", FromUserID: "guest_ada", Time: time.Now(), Data: webpubsub.Text("hi")}
	if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	same(t, "notified", texts(bob.notified("MessageCreated")), []string{"1 hi"})
	frames := bob.frames()
	last := in[object](t, frames[len(frames)-1].body)
	event, _ := last["event"].(map[string]any)
	same(t, "the event", []any{event["number"], event["kind"], event["seq"], event["text"]}, []any{3, "message", 1, "hi"})
	same(t, "a line to draw", last["message"], nil)
}

// What a process of the version before has stored, it has told everybody itself: they are told its place, and nothing that a
// client of the chat protocol or an older page would take for a second message.
func TestChatOfTheVersionBeforeIsToldOnce(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	before := len(bob.frames())
	if _, _, err := w.store.AddMessage(t.Context(), "default", chat.Message{RoomID: "r1", AuthorID: "ana", Text: "hi", Heard: true}); err != nil {
		t.Fatal(err)
	}
	w.payAll()
	frames := bob.frames()[before:]
	if len(frames) != 1 {
		t.Fatalf("got %d frames, want one", len(frames))
	}
	got := in[object](t, frames[0].body)
	event, _ := got["event"].(map[string]any)
	same(t, "the event", []any{event["kind"], event["seq"], event["text"]}, []any{"message", 1, "hi"})
	same(t, "anything else", len(got), 1)
}

// A client that comes back under another connection id does not log in again, and misses nothing.
func TestChatToleratesALoginThatIsMissing(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	bob.close()
	back := w.open("bob2", "bob")
	ana.send("r1", "still there?")
	same(t, "hears", texts(back.notified("MessageCreated")), []string{"1 still there?"})
	same(t, "speaks", back.send("r1", "yes"), "2")
}

// Where pages of the original may be, which draw whatever comes from a group, notifications come from the server.
func TestChatBesidePagesOfTheOriginal(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	ana, page := w.open("a1", "ana"), w.open("p1", "0123456789")
	same(t, "nobody is called Guest who logs in", ana.mustInvoke("chat.login", "")["userId"], "ana")
	user, err := w.store.User(t.Context(), "default", "ana")
	if err != nil || user.Name != "ana" {
		t.Errorf("name: got %q, %v, want ana", user.Name, err)
	}
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"0123456789"}})
	ana.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "zoe"})
	ana.send("r1", "hello")
	for _, m := range page.frames() {
		var line struct{ Message, FromUserName string }
		if m.group == "" || strings.HasPrefix(m.kind, "text/plain") {
			continue
		}
		if err := json.Unmarshal([]byte(m.body), &line); err != nil || line.Message != "hello" || line.FromUserName != "ana" {
			t.Errorf("the page is given %s to draw", m.body)
		}
	}
	same(t, "notified all the same", len(page.notified("RoomJoined")), 1)
}

// A room that was deleted and made anew does not begin with its first event.
func TestChangesOfARoomMadeAnew(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/r1", nil)
	w.mustRequest(http.StatusCreated, "PUT", "rooms/r1", object{"title": "Tea"})
	for _, user := range []string{"ana", "bob"} {
		w.mustRequest(http.StatusCreated, "PUT", "rooms/r1/members/"+user, object{"roleName": "room.operator"})
	}
	manage := func(operation, user string) string {
		_, code := ana.invoke("chat.manageRoomMember", object{"roomId": "r1", "operation": operation, "userId": user})
		return code
	}
	same(t, "adding whoever is there", manage("Add", "bob"), invoke.CodeAlreadyInRoom)
	same(t, "removing", manage("Delete", "bob"), "")
	same(t, "removing whoever is gone", manage("Delete", "bob"), invoke.CodeNotInRoom)
	ana.nextID -= 2 // the gateway has not got the answer to the first
	same(t, "the same event again", manage("Delete", "bob"), "")
}
