// Package people has somebody use Chatr as its page does: over HTTP with a cookie, and over a WebSocket on which the page
// Is told things. What it is told stays, so a test asks for what must have happened and not when.
package people

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// Subprotocols of pages.
const (
	Plain    = "json.webpubsub.azure.v1"
	Reliable = "json.reliable.webpubsub.azure.v1"
)

// Patience is how long something may take that must happen: long, for a busy machine. Only a failing test waits for it.
const Patience = time.Minute

// Object is a JSON object.
type Object = map[string]any

// Person is somebody with a session, and a page once one is open.
type Person struct {
	*Page
	T     *testing.T
	HTTP  *http.Client // with the person's cookies
	ID    string
	Name  string
	Front string // where the person's requests go
}

// SignIn makes a guest.
func SignIn(t *testing.T, front, name string) *Person {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	p := &Person{T: t, Name: name, Front: front, HTTP: &http.Client{Jar: jar, Timeout: Patience, CheckRedirect: stay}}
	status, body := p.Call("POST", "/.auth/login/guest", Object{"name": name})
	if status != http.StatusOK {
		t.Fatalf("sign in as %s: got %d %v, want 200", name, status, body)
	}
	p.ID = body["clientPrincipal"].(Object)["userId"].(string)
	return p
}

// stay shows where a redirect leads instead of going there.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Come signs a guest in and opens a page.
func Come(t *testing.T, front, name, subprotocol string) *Person {
	t.Helper()
	p := SignIn(t, front, name)
	p.Open(subprotocol)
	return p
}

// Call makes an HTTP request of p's browser. Without an answer the status is 0.
func (p *Person) Call(method, path string, body any) (int, Object) {
	p.T.Helper()
	var text io.Reader
	if body != nil {
		b, _ := json.Marshal(body)
		text = bytes.NewReader(b)
	}
	r, err := http.NewRequest(method, p.Front+path, text)
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := p.HTTP.Do(r)
	if err != nil {
		return 0, Object{"error": err.Error()}
	}
	defer res.Body.Close()
	answer := Object{}
	_ = json.NewDecoder(res.Body).Decode(&answer) // what is no JSON has a status all the same
	return res.StatusCode, answer
}

// Open opens a new page in place of the one before and returns when it is usable.
func (p *Person) Open(subprotocol string) {
	p.T.Helper()
	p.Page = p.Tab(subprotocol)
}

// Tab opens one more page and returns it when it is usable.
func (p *Person) Tab(subprotocol string) *Page {
	p.T.Helper()
	g, err := p.connect(subprotocol)
	if err != nil {
		p.T.Fatalf("open a page for %s: %v", p.Name, err)
	}
	g.Await("own userOnline", p.Online())
	return g
}

// TryOpen is Open for a page that may not come up. It does not wait until that is usable.
func (p *Person) TryOpen(subprotocol string) error {
	g, err := p.connect(subprotocol)
	if err == nil {
		p.Page = g
	}
	return err
}

func (p *Person) connect(subprotocol string) (*Page, error) {
	status, body := p.Call("POST", "/api/negotiate", nil)
	address, _ := body["url"].(string)
	if status != http.StatusOK || address == "" {
		return nil, fmt.Errorf("negotiate: %d %v", status, body)
	}
	return Dial(p.T, address, subprotocol)
}

// Online matches what tells that p is there.
func (p *Person) Online() func(Event) bool {
	return func(e Event) bool { return e.Name == "userOnline" && strings.Contains(e.Data, p.ID) }
}

// Page is a connection and what it has been told, in order.
type Page struct {
	t    *testing.T
	Conn *wsclient.Client

	mu   sync.Mutex // guards the following
	told []Event
	more chan struct{} // closed and replaced when told grows
}

// Event is something a page is told: a server message by its name, or text in a group.
type Event struct {
	Name  string // chatEvent, or "" for text of a group
	Group string
	From  string // user id stamped by the gateway
	Data  string
	At    time.Time
}

// Author returns the user id of who has said what stands in a group: the service tells of it, in a frame that no client can make.
func (e Event) Author() string {
	var told struct {
		NotificationType string `json:"notificationType"`
		FromUserID       string `json:"fromUserId"`
	}
	if e.From != "" || json.Unmarshal([]byte(e.Data), &told) != nil || told.NotificationType != "MessageCreated" {
		return ""
	}
	return told.FromUserID
}

// Dial opens a page at the address that a person or an application was given.
func Dial(t *testing.T, address, subprotocol string) (*Page, error) {
	g := &Page{t: t, more: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	conn, err := wsclient.Dial(ctx, address, wsclient.Options{Subprotocols: []string{subprotocol}, OnMessage: g.take})
	if err != nil {
		return nil, err
	}
	g.Conn = conn
	t.Cleanup(conn.Drop)
	return g, nil
}

func (g *Page) take(m wsclient.Message) {
	e := Event{Group: m.Group, From: m.FromUserID, Data: string(m.Data.Bytes), At: time.Now()}
	var v struct{ ChatEvent, Data string }
	if m.Group == "" && m.Data.Type == webpubsub.DataJSON && json.Unmarshal(m.Data.Bytes, &v) == nil {
		e.Name, e.Data = v.ChatEvent, v.Data
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, e)
	close(g.more)
	g.more = make(chan struct{})
}

// All returns what g has been told that matches.
func (g *Page) All(match func(Event) bool) (found []Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.told {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// Forget drops what g has been told, for what is awaited next to be new.
func (g *Page) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = nil
}

// Await returns the first thing g is told, or has been told, that matches.
func (g *Page) Await(what string, match func(Event) bool) Event {
	g.t.Helper()
	return g.AwaitFor(Patience, what, match)
}

// AwaitFor is Await for what is promised within a time.
func (g *Page) AwaitFor(within time.Duration, what string, match func(Event) bool) Event {
	g.t.Helper()
	timeout := time.After(within)
	for {
		g.mu.Lock()
		more := g.more
		g.mu.Unlock()
		if found := g.All(match); len(found) > 0 {
			return found[0]
		}
		select {
		case <-more:
		case <-timeout:
			g.t.Fatalf("not told within %v: %s; told %+v", within, what, g.All(func(Event) bool { return true }))
		}
	}
}

// Named matches a server message by its name.
func Named(name string) func(Event) bool { return func(e Event) bool { return e.Name == name } }

// Is matches a server message by its name and data.
func Is(name, data string) func(Event) bool {
	return func(e Event) bool { return e.Name == name && e.Data == data }
}

// Line matches something said.
func Line(text string) func(Event) bool {
	return func(e Event) bool { return e.Name == "" && strings.Contains(e.Data, fmt.Sprintf("%q", text)) }
}

// Text matches what is said in a group.
func Text(group, part string) func(Event) bool {
	return func(e Event) bool { return e.Name == "" && e.Group == group && strings.Contains(e.Data, part) }
}

// Send sends an event and returns what the ack says. data is sent as text if it is a string, else as JSON.
func (g *Page) Send(name string, data any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), Patience)
	defer cancel()
	if text, ok := data.(string); ok {
		return g.Conn.SendEvent(ctx, name, webpubsub.Text(text))
	}
	body, _ := json.Marshal(data)
	return g.Conn.SendEvent(ctx, name, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body})
}

// Do is Send for an event that must succeed.
func (g *Page) Do(name string, data any) {
	g.t.Helper()
	if err := g.Send(name, data); err != nil {
		g.t.Fatalf("%s %v: %v; told %+v", name, data, err, g.All(Named("error")))
	}
}

// Say sends a text to a chat, under itself as key, and returns what the ack says. more are further members of the payload.
func (g *Page) Say(chatID, text string, more ...Object) error {
	payload := Object{"message": text, "key": text}
	for _, m := range more {
		maps.Copy(payload, m)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), Patience)
	defer cancel()
	body, _ := json.Marshal(payload)
	return g.Conn.SendToGroup(ctx, chatID, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}, wsclient.SendOptions{})
}

// Frame sends text as a frame, whatever it says.
func (g *Page) Frame(text string) {
	g.t.Helper()
	if err := g.Conn.SendFrame(g.t.Context(), false, []byte(text)); err != nil {
		g.t.Fatal(err)
	}
}

// Context is for what g is asked to do; it ends with the test.
func (g *Page) Context() context.Context { return g.t.Context() }

// Closed reports whether g's socket has ended.
func (g *Page) Closed() bool {
	select {
	case <-g.Conn.Done():
		return true
	default:
		return false
	}
}

// IsNack reports whether the server said no on a connection that goes on.
func IsNack(err error) bool {
	var nack *wsclient.AckError
	return errors.As(err, &nack)
}

// Stored is a message of a chat's history.
type Stored struct {
	Seq      int
	UserID   string
	UserName string
	Text     string
}

// History reads all that is stored of a chat.
func (p *Person) History(chatID string) (all []Stored, err error) {
	before := ""
	for {
		r, err := p.HTTP.Get(p.Front + "/api/chats/" + chatID + "/messages?limit=200" + before)
		if err != nil {
			return nil, err
		}
		var got struct {
			Messages []Stored
			Next     int
		}
		err = json.NewDecoder(r.Body).Decode(&got)
		r.Body.Close()
		if r.StatusCode != http.StatusOK || err != nil {
			return nil, fmt.Errorf("history of %s: %d %v", chatID, r.StatusCode, err)
		}
		all = append(got.Messages, all...)
		if got.Next == 0 {
			return all, nil
		}
		before = fmt.Sprintf("&before=%d", got.Next)
	}
}

// Keeps checks that a chat's history has each of the texts exactly once, nothing twice, and sequences without gaps.
// Texts may take a while to arrive there.
func (p *Person) Keeps(chatID string, texts []string) {
	p.T.Helper()
	var all []Stored
	count := map[string]int{}
	testkit.Eventually(p.T, Patience, func() bool {
		var err error
		if all, err = p.History(chatID); err != nil {
			return false
		}
		clear(count)
		for _, m := range all {
			count[m.Text]++
		}
		return !slices.ContainsFunc(texts, func(text string) bool { return count[text] == 0 })
	}, fmt.Sprintf("all of %d acked messages are in the history of %s", len(texts), chatID))
	for i, m := range all {
		if m.Seq != i+1 {
			p.T.Errorf("history of %s: message %d has sequence %d", chatID, i+1, m.Seq)
			break
		}
	}
	for text, n := range count {
		if n > 1 {
			p.T.Errorf("history of %s: %q is there %d times", chatID, text, n)
		}
	}
}

// UUID returns a chat id that nobody has used.
func UUID(n int) string { return fmt.Sprintf("7d44b8a6-3d0e-4c1f-9a57-%012x", n) }
