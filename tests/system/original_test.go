package system_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// original is a page of the original Chatr: it has no session, makes up its id, and sends events without ackIds.
type original struct{ *people.Person }

// originalID is the id that a page makes for a guest out of the typed name: a number that a JavaScript number can be.
func originalID(name string) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	return strconv.FormatUint(h.Sum64()>>11, 10)
}

// number is the page's id as it stands in its frames, where it is a number.
func (p *original) number() json.Number { return json.Number(p.ID) }

// openOriginal does what the original page does when it is opened, call by call, and returns when it is usable.
func openOriginal(t *testing.T, front, name string) *original {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	p := &original{&people.Person{T: t, Name: name, ID: originalID(name), Front: front, HTTP: &http.Client{Jar: jar}}}
	if status, me := p.Call("GET", "/.auth/me", nil); status != http.StatusOK || !reflect.DeepEqual(me, people.Object{"clientPrincipal": nil}) {
		t.Errorf("/.auth/me of a stranger: got %d %v, want 200 and a clientPrincipal of null", status, me)
	}
	for _, list := range []string{"chats", "users"} {
		if status, body := p.Call("GET", "/api/"+list, nil); status != http.StatusOK || body[list] == nil {
			t.Fatalf("%s: got %d %v, want 200 and %s", list, status, body, list)
		}
	}
	status, body := p.Call("GET", "/api/getToken?userId="+p.ID, nil)
	base := "ws" + strings.TrimPrefix(front, "http") + "/client/hubs/chat"
	token, _ := body["token"].(string)
	if want := (people.Object{"baseUrl": base, "url": base + "?access_token=" + token, "token": token}); status != http.StatusOK || token == "" || !reflect.DeepEqual(body, want) {
		t.Fatalf("getToken: got %d %v, want 200 and a token for %s", status, body, base)
	}
	var err error
	if p.Page, err = people.Dial(t, body["url"].(string), people.Plain); err != nil {
		t.Fatal(err)
	}
	p.event("userConnected", people.Object{"userName": name, "userProvider": "fake"}) // a hint; a person without a session is a guest
	p.Await("itself online", people.Is("userOnline", p.asOnline()))
	return p
}

// asOnline is the data of userOnline for p.
func (p *original) asOnline() string {
	return fmt.Sprintf(`{"userId":%q,"userName":%q,"userProvider":"guest","idle":false}`, p.ID, p.Name)
}

// frame sends a frame as the original spells it.
func (p *original) frame(v people.Object) {
	p.T.Helper()
	b, _ := json.Marshal(v)
	p.Frame(string(b))
}

// event sends an event; a page sends its id as text, and yet it is a number in the frame.
func (p *original) event(name string, data any) {
	p.T.Helper()
	kind := "json"
	switch data.(type) {
	case string, json.Number:
		kind = "text"
	}
	p.frame(people.Object{"type": "event", "event": name, "dataType": kind, "data": data})
}

func (p *original) text(chatID, message string) {
	p.T.Helper()
	p.frame(people.Object{"type": "sendToGroup", "group": chatID, "dataType": "json",
		"data": people.Object{"message": message, "fromUserId": p.number(), "fromUserName": p.Name}})
}

// notice matches what the server says in a group.
func notice(chatID, text string) func(people.Event) bool {
	return func(e people.Event) bool {
		return e.Group == chatID && e.From == "" && strings.Contains(e.Data, text)
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
	ada, bob := openOriginal(t, top.A, "Ada"), openOriginal(t, top.B, "Bob O'Hara")
	ada.Await("Bob online", func(e people.Event) bool { return e.Name == "userOnline" && sameJSON(e.Data, bob.asOnline()) })
	_, users := ada.Call("GET", "/api/users", nil)
	want := people.Object{"users": people.Object{
		ada.ID: people.Object{"userName": "Ada", "userProvider": "guest", "idle": false},
		bob.ID: people.Object{"userName": "Bob O'Hara", "userProvider": "guest", "idle": false},
	}}
	if !reflect.DeepEqual(users, want) {
		t.Errorf("users: got %v, want %v", users, want)
	}

	tea := people.UUID(1)
	ada.event("createChat", people.Object{"id": tea, "name": "Tea"})
	ada.event("joinChat", tea)
	ada.text(tea, "anybody here?")
	ada.Await("the echo of the first line", people.Line("anybody here?"))
	created := bob.Await("the chat", people.Named("chatCreated"))
	var chat struct {
		ID, Name, Owner string
		Members         map[string]any
	}
	if err := json.Unmarshal([]byte(created.Data), &chat); err != nil || chat.ID != tea || chat.Name != "Tea" || chat.Owner != ada.ID || chat.Members == nil {
		t.Errorf("chatCreated: got %s, want Tea of %s", created.Data, ada.ID)
	}
	bob.text(tea, "may I come in?") // a token alone opens no room
	bob.event("joinChat", tea)
	ada.Await("that Bob has joined, in text that is inert as HTML", notice(tea, "Bob O&#39;Hara has joined"))
	bob.Await("that he has joined", notice(tea, "Bob O&#39;Hara has joined"))
	bob.text(tea, "hello Ada")
	for _, p := range []*original{ada, bob} {
		e := p.Await("what Bob says", people.Line("hello Ada"))
		var said struct { // what the original page reads
			Message, FromUserID, FromUserName string
		}
		err := json.Unmarshal([]byte(e.Data), &said)
		if err != nil || e.Group != tea || e.Author() != bob.ID || said.Message != "hello Ada" || said.FromUserID != bob.ID || said.FromUserName != "Bob O'Hara" {
			t.Errorf("what %s gets: %+v, want it from Bob in the chat, with the members that the page reads", p.Name, e)
		}
		if heard := p.All(people.Line("may I come in?")); heard != nil {
			t.Errorf("Bob is heard by %s before he has joined: %+v", p.Name, heard)
		}
	}
	_, chats := bob.Call("GET", "/api/chats", nil)
	listed, _ := chats["chats"].(people.Object)[tea].(people.Object)
	if listed["id"] != tea || listed["name"] != "Tea" || listed["owner"] != ada.ID {
		t.Errorf("chats: got %v, want Tea of %s", chats, ada.ID)
	}

	ada.event("createPrivateChat", people.Object{"initiatorUserId": ada.number(), "targetUserId": bob.ID})
	private := ""
	for p, other := range map[*original]*original{ada: bob, bob: ada} {
		var invitation struct {
			ID, Name  string
			GrabFocus bool
		}
		e := p.Await("the private chat", people.Named("joinPrivateChat"))
		if err := json.Unmarshal([]byte(e.Data), &invitation); err != nil || invitation.GrabFocus != (p == ada) ||
			!strings.HasPrefix(invitation.ID, "private_") || invitation.Name != "Chat with "+other.Name {
			t.Errorf("joinPrivateChat to %s: got %s, want a private id, the name of %s, and grabFocus %v", p.Name, e.Data, other.Name, p == ada)
		}
		private = invitation.ID
	}
	for _, p := range []*original{ada, bob} {
		p.Await("that Ada wants to chat", notice(private, "Ada wants to chat"))
	}
	bob.text(private, "between us")
	ada.text(private, "of course")
	for _, p := range []*original{ada, bob} {
		p.Await("what Bob says in private", people.Line("between us"))
		p.Await("what Ada says in private", people.Line("of course"))
	}

	ada.event("userEnterIdle", ada.number())
	bob.Await("that Ada is idle", people.Is("userIsIdle", ada.ID))
	if _, body := bob.Call("GET", "/api/users", nil); body["users"].(people.Object)[ada.ID].(people.Object)["idle"] != true {
		t.Errorf("users while Ada is idle: got %v", body)
	}
	ada.event("userExitIdle", ada.number())
	bob.Await("that Ada is back", people.Is("userNotIdle", ada.ID))

	bob.event("leaveChat", people.Object{"chatId": tea, "userName": "Mallory"}) // whose name counts is the connection's
	ada.Await("that Bob has left", notice(tea, "Bob O&#39;Hara has left"))
	ada.text(tea, "a pity")
	ada.Await("the echo", people.Line("a pity"))
	bob.text(tea, "I hear nothing")
	ada.event("deleteChat", tea)
	for _, p := range []*original{ada, bob} {
		p.Await("that the chat is deleted", people.Is("chatDeleted", tea))
	}
	ada.event("leaveChat", people.Object{"chatId": tea, "userName": "Ada"}) // as the page does for a chat that was deleted
	if heard := bob.All(people.Line("a pity")); heard != nil {
		t.Errorf("Bob has left and hears: %+v", heard)
	}
	if heard := ada.All(people.Line("I hear nothing")); heard != nil {
		t.Errorf("Bob has left and is heard: %+v", heard)
	}
	if _, body := ada.Call("GET", "/api/chats", nil); body["chats"].(people.Object)[tea] != nil {
		t.Errorf("chats afterwards: got %v, want Tea deleted", body)
	}
	for _, p := range []*original{ada, bob} {
		if told := p.All(people.Named("error")); told != nil {
			t.Errorf("%s is told of errors: %+v", p.Name, told)
		}
	}

	bob.Conn.Drop()
	ada.Await("that Bob is gone", people.Is("userOffline", bob.ID))
	testkit.Eventually(t, people.Patience, func() bool {
		_, body := ada.Call("GET", "/api/users", nil)
		return slices.Equal(ids(body), []string{ada.ID})
	}, "Ada alone is online")
	if ada.Closed() {
		t.Error("Ada's connection has ended")
	}
}

// sameJSON reports whether two texts are one value.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// TestOriginalREST asks what the original's pages ask, with a session and without.
func TestOriginalREST(t *testing.T) {
	t.Parallel()
	top := topology.Standalone(t, topology.Options{Env: []string{"CHATR_AUTH_LEGACY_GUESTS=true"}})
	stranger, ada := &http.Client{CheckRedirect: stay}, people.SignIn(t, top.A, "Ada")
	get := func(client *http.Client, path string) (status int, kind, location, body string) {
		t.Helper()
		res, err := client.Get(top.A + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Content-Type"), res.Header.Get("Location"), string(text)
	}

	_, _, _, me := get(ada.HTTP, "/.auth/me")
	if want := fmt.Sprintf(`{"clientPrincipal":{"identityProvider":"guest","userId":%q,"userDetails":"Ada","userRoles":["anonymous","authenticated"],"claims":[]}}`, ada.ID); !sameJSON(me, want) {
		t.Errorf("/.auth/me: got %s, want %s", me, want)
	}
	for _, c := range []struct {
		name   string
		client *http.Client
		id     string
		want   int
	}{
		{"no id", stranger, "", http.StatusBadRequest},
		{"a guest of its own making", stranger, originalID("Grace"), http.StatusOK},
		{"the id of a person with a session", stranger, ada.ID, http.StatusUnauthorized},
		{"an id with the prefix of a provider", stranger, "github_1", http.StatusUnauthorized},
		{"one's own", ada.HTTP, ada.ID, http.StatusOK},
		{"another with a session", ada.HTTP, originalID("Grace"), http.StatusForbidden},
	} {
		status, kind, _, body := get(c.client, "/api/getToken?userId="+c.id)
		if status != c.want {
			t.Errorf("getToken for %s: got %d %s, want %d", c.name, status, body, c.want)
		}
		if status != http.StatusOK && (!strings.HasPrefix(kind, "text/plain") || strings.TrimSpace(body) == "") {
			t.Errorf("getToken for %s: got %s %q, want a people.Plain text to show", c.name, kind, body)
		}
	}
	for target, want := range map[string]string{
		"/login.html": "/login.html", "/somewhere": "/somewhere", "https://elsewhere.example/": "/login.html", "//elsewhere.example": "/login.html",
	} {
		status, _, location, _ := get(stranger, "/.auth/logout?post_logout_redirect_uri="+url.QueryEscape(target))
		if status != http.StatusFound || location != want {
			t.Errorf("logout to %s: got %d to %q, want 302 to %q", target, status, location, want)
		}
	}
	get(ada.HTTP, "/.auth/logout?post_logout_redirect_uri=/login.html")
	if _, _, _, me := get(ada.HTTP, "/.auth/me"); !sameJSON(me, `{"clientPrincipal":null}`) {
		t.Errorf("/.auth/me after the logout: got %s, want null", me)
	}
}

// stay keeps a client from following redirects.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
