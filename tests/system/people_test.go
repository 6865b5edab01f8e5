// Package system_test takes a running Chatr apart: real processes are killed, stopped, hung and fed with bad input
// while people use them, and what was promised to the people is counted.
package system_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

const (
	plain    = "json.webpubsub.azure.v1"
	reliable = "json.reliable.webpubsub.azure.v1"
)

// presenceTime is how soon who is gone is shown as gone (design, section 4). Only there a limit is a promise;
// elsewhere patience is for a busy machine.
const (
	presenceTime = 15 * time.Second
	patience     = 30 * time.Second
)

type object = map[string]any

// person is somebody with a session, and a page once one is open.
type person struct {
	*page
	t     *testing.T
	http  *http.Client
	id    string
	name  string
	front string // where the person's requests go
}

// signIn makes a guest.
func signIn(t *testing.T, front, name string) *person {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	p := &person{t: t, name: name, front: front, http: &http.Client{Jar: jar, Timeout: 20 * time.Second}}
	status, body := p.call("POST", "/.auth/login/guest", object{"name": name})
	if status != http.StatusOK {
		t.Fatalf("sign in as %s: got %d %v, want 200", name, status, body)
	}
	p.id = body["clientPrincipal"].(object)["userId"].(string)
	return p
}

// come signs a guest in and opens a page.
func come(t *testing.T, front, name, subprotocol string) *person {
	t.Helper()
	p := signIn(t, front, name)
	p.open(subprotocol)
	return p
}

// call makes an HTTP request of p's browser. Without an answer the status is 0.
func (p *person) call(method, path string, body any) (int, object) {
	p.t.Helper()
	var text io.Reader
	if body != nil {
		b, _ := json.Marshal(body)
		text = bytes.NewReader(b)
	}
	r, err := http.NewRequest(method, p.front+path, text)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := p.http.Do(r)
	if err != nil {
		return 0, object{"error": err.Error()}
	}
	defer res.Body.Close()
	answer := object{}
	_ = json.NewDecoder(res.Body).Decode(&answer) // what is no JSON has a status all the same
	return res.StatusCode, answer
}

// open opens a new page in place of the one before and returns when it is usable.
func (p *person) open(subprotocol string) {
	p.t.Helper()
	if err := p.tryOpen(subprotocol); err != nil {
		p.t.Fatalf("open a page for %s: %v", p.name, err)
	}
	p.await("own userOnline", p.online())
}

// tryOpen negotiates and connects.
func (p *person) tryOpen(subprotocol string) error {
	status, body := p.call("POST", "/api/negotiate", nil)
	address, _ := body["url"].(string)
	if status != http.StatusOK || address == "" {
		return fmt.Errorf("negotiate: %d %v", status, body)
	}
	g, err := dial(p.t, address, subprotocol)
	if err == nil {
		p.page = g
	}
	return err
}

// online matches what tells that p is there.
func (p *person) online() func(event) bool {
	return func(e event) bool { return e.name == "userOnline" && strings.Contains(e.data, p.id) }
}

// page is a connection and what it has been told, in order.
type page struct {
	t    *testing.T
	conn *wsclient.Client

	mu   sync.Mutex // guards the following
	told []event
	more chan struct{} // closed and replaced when told grows
}

// event is something a page is told: a server message by its name, or text in a group.
type event struct {
	name  string // chatEvent, or "" for text of a group
	group string
	from  string // user id stamped by the gateway
	data  string
	at    time.Time
}

func dial(t *testing.T, address, subprotocol string) (*page, error) {
	g := &page{t: t, more: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := wsclient.Dial(ctx, address, wsclient.Options{Subprotocols: []string{subprotocol}, OnMessage: g.take})
	if err != nil {
		return nil, err
	}
	g.conn = conn
	t.Cleanup(conn.Drop)
	return g, nil
}

func (g *page) take(m wsclient.Message) {
	e := event{group: m.Group, from: m.FromUserID, data: string(m.Data.Bytes), at: time.Now()}
	var v struct{ ChatEvent, Data string }
	if m.Group == "" && m.Data.Type == webpubsub.DataJSON && json.Unmarshal(m.Data.Bytes, &v) == nil {
		e.name, e.data = v.ChatEvent, v.Data
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, e)
	close(g.more)
	g.more = make(chan struct{})
}

// all returns what g has been told that matches.
func (g *page) all(match func(event) bool) (found []event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.told {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// await returns the first thing g is told, or has been told, that matches.
func (g *page) await(what string, match func(event) bool) event {
	g.t.Helper()
	return g.awaitFor(patience, what, match)
}

func (g *page) awaitFor(within time.Duration, what string, match func(event) bool) event {
	g.t.Helper()
	timeout := time.After(within)
	for {
		g.mu.Lock()
		more := g.more
		g.mu.Unlock()
		if found := g.all(match); len(found) > 0 {
			return found[0]
		}
		select {
		case <-more:
		case <-timeout:
			g.t.Fatalf("not told within %v: %s; told %+v", within, what, g.all(func(event) bool { return true }))
		}
	}
}

func named(name string) func(event) bool { return func(e event) bool { return e.name == name } }

func is(name, data string) func(event) bool {
	return func(e event) bool { return e.name == name && e.data == data }
}

// line matches something said.
func line(text string) func(event) bool {
	return func(e event) bool { return e.name == "" && strings.Contains(e.data, fmt.Sprintf("%q", text)) }
}

// send sends an event and returns what the ack says. data is sent as text if it is a string, else as JSON.
func (g *page) send(name string, data any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	if text, ok := data.(string); ok {
		return g.conn.SendEvent(ctx, name, webpubsub.Text(text))
	}
	body, _ := json.Marshal(data)
	return g.conn.SendEvent(ctx, name, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body})
}

// do is send for an event that must succeed.
func (g *page) do(name string, data any) {
	g.t.Helper()
	if err := g.send(name, data); err != nil {
		g.t.Fatalf("%s %v: %v; told %+v", name, data, err, g.all(named("error")))
	}
}

// say sends a text to a chat, under itself as key, and returns what the ack says.
func (g *page) say(chatID, text string) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	body, _ := json.Marshal(object{"message": text, "key": text})
	return g.conn.SendToGroup(ctx, chatID, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}, wsclient.SendOptions{})
}

// closed reports whether g's socket has ended.
func (g *page) closed() bool {
	select {
	case <-g.conn.Done():
		return true
	default:
		return false
	}
}

// isNack reports whether the server said no on a connection that goes on.
func isNack(err error) bool {
	var nack *wsclient.AckError
	return errors.As(err, &nack)
}

// stored is a message of a chat's history.
type stored struct {
	Seq    int
	UserID string
	Text   string
}

// history reads all that is stored of a chat.
func (p *person) history(chatID string) (all []stored, err error) {
	before := ""
	for {
		r, err := p.http.Get(p.front + "/api/chats/" + chatID + "/messages?limit=200" + before)
		if err != nil {
			return nil, err
		}
		var got struct {
			Messages []stored
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

// keeps checks that a chat's history has each of the texts exactly once, nothing twice, and sequences without gaps.
// Texts may take a while to arrive there.
func (p *person) keeps(chatID string, texts []string) {
	p.t.Helper()
	var all []stored
	count := map[string]int{}
	testkit.Eventually(p.t, patience, func() bool {
		var err error
		if all, err = p.history(chatID); err != nil {
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
			p.t.Errorf("history of %s: message %d has sequence %d", chatID, i+1, m.Seq)
			break
		}
	}
	for text, n := range count {
		if n > 1 {
			p.t.Errorf("history of %s: %q is there %d times", chatID, text, n)
		}
	}
}

// uuid returns a chat id that nobody has used.
func uuid(n int) string { return fmt.Sprintf("7d44b8a6-3d0e-4c1f-9a57-%012x", n) }

// hostOf is the host and port of an address.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // made by package topology
	}
	return u.Host
}
