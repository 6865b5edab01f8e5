package system_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/topology"
)

// original is a page of the original Chatr: it has no session, makes up its id, and sends events without ackIds.
type original struct{ *person }

// openOriginal does what the original page does when it is opened, call by call, and returns when it is usable.
func openOriginal(t *testing.T, front, id, name string) *original {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	p := &original{&person{t: t, name: name, id: id, front: front, http: &http.Client{Jar: jar}}}
	if _, me := p.call("GET", "/.auth/me", nil); me["clientPrincipal"] != nil {
		t.Errorf("/.auth/me of a stranger: got %v, want a clientPrincipal of null", me)
	}
	for _, list := range []string{"chats", "users"} {
		if status, body := p.call("GET", "/api/"+list, nil); status != http.StatusOK || body[list] == nil {
			t.Fatalf("%s: got %d %v, want 200 and %s", list, status, body, list)
		}
	}
	status, body := p.call("GET", "/api/getToken?userId="+id, nil)
	address, _ := body["url"].(string)
	if status != http.StatusOK || !strings.HasPrefix(address, "ws"+strings.TrimPrefix(front, "http")+"/client/hubs/chat?access_token=") {
		t.Fatalf("getToken: got %d %v, want 200 and a WebSocket URL", status, body)
	}
	var err error
	if p.page, err = dial(t, address, plain); err != nil {
		t.Fatal(err)
	}
	p.event("userConnected", object{"userName": name, "userProvider": "fake"})
	p.await("itself online, by its name", func(e event) bool { return p.online()(e) && strings.Contains(e.data, fmt.Sprintf("%q", name)) })
	return p
}

// frame sends a frame as the original spells it.
func (p *original) frame(v object) {
	p.t.Helper()
	b, _ := json.Marshal(v)
	if err := p.conn.SendFrame(p.t.Context(), false, b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *original) event(name string, data any) {
	p.t.Helper()
	kind := "json"
	if _, ok := data.(string); ok {
		kind = "text"
	}
	p.frame(object{"type": "event", "event": name, "dataType": kind, "data": data})
}

func (p *original) text(chatID, message string) {
	p.t.Helper()
	p.frame(object{"type": "sendToGroup", "group": chatID, "dataType": "json",
		"data": object{"message": message, "fromUserId": p.id, "fromUserName": p.name}})
}

// notice matches what the server says in a group.
func notice(chatID, text string) func(event) bool {
	return func(e event) bool {
		return e.group == chatID && e.from == "" && strings.Contains(e.data, text)
	}
}

// TestOriginalClient makes the calls of the original's browser client, the whole story of two people.
func TestOriginalClient(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, topology.Options) *topology.Topology{
		"standalone": topology.Standalone, "services": topology.Services,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tellOriginal(t, start(t, topology.Options{Env: []string{"CHATR_AUTH_LEGACY_GUESTS=true"}}))
		})
	}
}

func tellOriginal(t *testing.T, top *topology.Topology) {
	ada, bob := openOriginal(t, top.A, "100001", "Ada"), openOriginal(t, top.B, "100002", "Bob")
	ada.await("Bob, by his name", func(e event) bool { return bob.online()(e) && strings.Contains(e.data, `"Bob"`) })

	tea := uuid(1)
	ada.event("createChat", object{"name": "Tea", "id": tea})
	ada.event("joinChat", tea)
	ada.text(tea, "anybody here?")
	ada.await("the echo of the first line", line("anybody here?"))
	created := bob.await("the chat", named("chatCreated"))
	var chat struct {
		ID, Name, Owner string
		Members         map[string]any
	}
	if err := json.Unmarshal([]byte(created.data), &chat); err != nil || chat.ID != tea || chat.Name != "Tea" || chat.Owner != ada.id || chat.Members == nil {
		t.Errorf("chatCreated: got %s, want Tea of %s", created.data, ada.id)
	}
	bob.event("joinChat", tea)
	ada.await("that Bob has joined", notice(tea, "Bob has joined"))
	bob.await("that he has joined", notice(tea, "Bob has joined"))
	bob.text(tea, "hello Ada")
	for _, p := range []*original{ada, bob} {
		if e := p.await("what Bob says", line("hello Ada")); e.group != tea || e.from != bob.id || !strings.Contains(e.data, `"fromUserName":"Bob"`) {
			t.Errorf("what %s gets: %+v, want it from Bob in the chat, as he sent it", p.name, e)
		}
	}

	ada.event("createPrivateChat", object{"initiatorUserId": ada.id, "targetUserId": bob.id})
	private := ""
	for p, focus := range map[*original]bool{ada: true, bob: false} {
		var invitation struct {
			ID, Name  string
			GrabFocus bool
		}
		e := p.await("the private chat", named("joinPrivateChat"))
		if err := json.Unmarshal([]byte(e.data), &invitation); err != nil || invitation.GrabFocus != focus ||
			!strings.HasPrefix(invitation.ID, "private_") || !strings.HasPrefix(invitation.Name, "Chat with ") {
			t.Errorf("joinPrivateChat to %s: got %s, want a private id, a name, and grabFocus %v", p.name, e.data, focus)
		}
		private = invitation.ID
	}
	bob.text(private, "between us")
	ada.text(private, "of course")
	for _, p := range []*original{ada, bob} {
		p.await("what Bob says in private", line("between us"))
		p.await("what Ada says in private", line("of course"))
	}

	ada.frame(object{"type": "event", "event": "userEnterIdle", "dataType": "text", "data": json.Number(ada.id)}) // a number, as its pages spell it
	bob.await("that Ada is idle", is("userIsIdle", ada.id))
	if _, body := bob.call("GET", "/api/users", nil); body["users"].(object)[ada.id].(object)["idle"] != true {
		t.Errorf("users while Ada is idle: got %v", body)
	}
	ada.event("userExitIdle", ada.id)
	bob.await("that Ada is back", is("userNotIdle", ada.id))

	bob.event("leaveChat", object{"chatId": tea, "userName": "Bob"})
	ada.await("that Bob has left", notice(tea, "Bob has left"))
	ada.text(tea, "a pity")
	ada.await("the echo", line("a pity"))
	bob.text(tea, "I hear nothing")
	ada.event("deleteChat", tea)
	for _, p := range []*original{ada, bob} {
		p.await("that the chat is deleted", is("chatDeleted", tea))
	}
	ada.event("leaveChat", object{"chatId": tea, "userName": "Ada"}) // as the page does for a chat that was deleted
	if heard := bob.all(line("a pity")); heard != nil {
		t.Errorf("Bob has left and hears: %+v", heard)
	}
	if heard := ada.all(line("I hear nothing")); heard != nil {
		t.Errorf("Bob has left and is heard: %+v", heard)
	}
	if _, body := ada.call("GET", "/api/chats", nil); body["chats"].(object)[tea] != nil {
		t.Errorf("chats afterwards: got %v, want Tea deleted", body)
	}
	if status, _ := ada.call("GET", "/api/getToken", nil); status != http.StatusBadRequest {
		t.Errorf("getToken without userId: got %d, want 400", status)
	}

	bob.conn.Drop()
	ada.await("that Bob is gone", is("userOffline", bob.id))
	testkit.Eventually(t, patience, func() bool {
		_, body := ada.call("GET", "/api/users", nil)
		return slices.Equal(ids(body), []string{ada.id})
	}, "Ada alone is online")
	if ada.closed() {
		t.Error("Ada's connection has ended")
	}
}
