// Package e2e runs the services together, in one process as standalone does and as two on Redis and Postgres, and
// drives them as browsers do: over HTTP with cookies, and over WebSockets.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/postgres"
	"github.com/chatr-dev/chatr/pkg/chat/sqlite"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/api"
	"github.com/chatr-dev/chatr/services/events"
	"github.com/chatr-dev/chatr/services/gateway"
)

const (
	accessKey  = "an access key for tests, long enough"
	sessionKey = "a session key for tests, long enough"
	patience   = 10 * time.Second // for anything that must happen; only a failing test waits this long
)

type object = map[string]any

// settings are what tests change about a deployment. The zero value is one process, as standalone is.
type settings struct {
	data   string // folder of the SQLite stores; empty: a new one
	legacy bool   // the original's guests
	grace  time.Duration

	redis, postgres string // URLs; with them there are two processes, each with all services
}

// world is a running deployment.
type world struct {
	t        *testing.T
	settings settings
	urls     []string   // the front door of each process
	store    chat.Store // as the processes see it
	stop     func()     // ends everything, once
	people   int        // who have signed in
}

func start(t *testing.T, s settings) *world {
	t.Helper()
	if s.data == "" {
		s.data = t.TempDir()
	}
	if s.grace == 0 {
		s.grace = 100 * time.Millisecond
	}
	w := &world{t: t, settings: s}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	var closers []io.Closer
	for range w.processes() {
		runs, more := w.startProcess()
		for _, run := range runs {
			running.Go(func() {
				if err := run(ctx); err != nil {
					t.Errorf("run: %v", err)
				}
			})
		}
		closers = append(closers, more...)
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		for _, c := range closers {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *world) processes() int {
	if w.settings.redis != "" {
		return 2
	}
	return 1
}

// startProcess makes all services behind one listener, as standalone does, and returns what has to run and what has
// to be closed in the end.
func (w *world) startProcess() (runs []func(context.Context) error, closers []io.Closer) {
	w.t.Helper()
	t, s := w.t, w.settings
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	metrics := prometheus.NewRegistry()
	var gatewayHandler, eventsHandler, apiHandler http.Handler // set before the first request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/client"), strings.HasPrefix(path, "/api/hubs/"):
			gatewayHandler.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/eventhandler"):
			eventsHandler.ServeHTTP(w, r)
		default:
			apiHandler.ServeHTTP(w, r)
		}
	}))
	w.urls = append(w.urls, server.URL)
	client := dataplane.New(server.URL, accessKey, "chat", dataplane.Options{})
	store, log := w.openStores(logger, metrics)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.store = store

	config := gateway.Config{DrainTime: 100 * time.Millisecond}
	config.Redis.URL, config.Redis.Prefix = s.redis, "test"
	tenants := must(tenant.NewStatic(tenant.Tenant{
		Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: accessKey},
		Hubs: []tenant.Hub{{
			Name:      "chat",
			Listeners: []string{"history"},
			Handlers: []tenant.Handler{{
				URL: server.URL + "/eventhandler/{event}", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"},
			}},
		}},
	}))(t)
	g := must(gateway.New(config, gateway.Deps{Tenants: tenants, Log: log, Logger: logger, Metrics: metrics}))(t)
	e := must(events.New(
		events.Config{Origins: []string{"*"}, OfflineGrace: s.grace, CheckInterval: 200 * time.Millisecond, LegacyGuests: s.legacy, EventsPerSecond: 1000},
		events.Deps{Store: store, Log: log, Gateway: client, Keys: func() []string { return []string{accessKey} }, Logger: logger, Metrics: metrics}))(t)
	a := must(api.New(
		api.Config{SessionKey: sessionKey, LegacyGuests: s.legacy},
		api.Deps{
			Store: store, Gateway: client, Keys: func() tenant.Keys { return tenant.Keys{Primary: accessKey} },
			Web: fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}}, Logger: logger, Metrics: metrics,
		}))(t)
	gatewayHandler, eventsHandler, apiHandler = g.Handler(), e.Handler(), a.Handler()
	return []func(context.Context) error{g.Run, e.Run}, []io.Closer{closer(server.CloseClientConnections), closer(server.Close), log, store}
}

// closer is a Close that cannot fail.
type closer func()

func (c closer) Close() error { c(); return nil }

// closingLog is a message log that holds something open.
type closingLog interface {
	messagelog.Log
	io.Closer
}

// openStores opens what a process keeps things in.
func (w *world) openStores(logger *slog.Logger, metrics prometheus.Registerer) (chat.Store, closingLog) {
	w.t.Helper()
	t, s := w.t, w.settings
	if s.redis == "" {
		return must(sqlite.Open(filepath.Join(s.data, "chat.db")))(t),
			must(sqlitelog.Open(filepath.Join(s.data, "log.db"), sqlitelog.Options{Logger: logger}))(t)
	}
	client := must(redisconn.Open(redisconn.Config{URL: s.redis, Prefix: "test"}))(t)
	return must(postgres.Open(t.Context(), s.postgres))(t),
		redislog.New(client, redislog.Options{Prefix: "test", Logger: logger, Metrics: metrics})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// person is somebody with a browser and, once connected, a page.
type person struct {
	*page
	w    *world
	http *http.Client
	at   int // the process that serves this person
	id   string
	name string
}

// signIn makes a guest. In a deployment of several processes people are spread over them.
func (w *world) signIn(name string) *person {
	w.t.Helper()
	jar, _ := cookiejar.New(nil)
	p := &person{w: w, name: name, at: w.people % len(w.urls), http: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	w.people++
	status, body := p.call("POST", "/.auth/login/guest", object{"name": name})
	if status != http.StatusOK {
		w.t.Fatalf("sign in as %s: got %d %v, want 200", name, status, body)
	}
	p.id = body["clientPrincipal"].(object)["userId"].(string)
	return p
}

// call makes an HTTP request of p's browser.
func (p *person) call(method, path string, body any) (int, object) {
	p.w.t.Helper()
	var text io.Reader
	if body != nil {
		b, _ := json.Marshal(body)
		text = strings.NewReader(string(b))
	}
	r, err := http.NewRequestWithContext(p.w.t.Context(), method, p.w.urls[p.at]+path, text)
	if err != nil {
		p.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := p.http.Do(r)
	if err != nil {
		p.w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer := object{}
	_ = json.NewDecoder(res.Body).Decode(&answer)
	return res.StatusCode, answer
}

// come signs a guest in and opens a page.
func (w *world) come(name string) *person {
	w.t.Helper()
	p := w.signIn(name)
	p.page = p.open()
	return p
}

// open opens a page: another tab, if there is one already. It returns when the page is usable.
func (p *person) open() *page {
	p.w.t.Helper()
	status, body := p.call("POST", "/api/negotiate", nil)
	if status != http.StatusOK {
		p.w.t.Fatalf("negotiate for %s: got %d %v, want 200", p.name, status, body)
	}
	g := p.w.dial(body["url"].(string), "json.reliable.webpubsub.azure.v1")
	g.await("own userOnline", func(e event) bool { return e.name == "userOnline" && strings.Contains(e.data, p.id) })
	return g
}

// page is a connection and what it has been told, in order.
type page struct {
	w    *world
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
}

func (w *world) dial(url, subprotocol string) *page {
	w.t.Helper()
	g := &page{w: w, more: make(chan struct{})}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	conn, err := wsclient.Dial(ctx, url, wsclient.Options{Subprotocols: []string{subprotocol}, OnMessage: g.take})
	if err != nil {
		w.t.Fatal(err)
	}
	g.conn = conn
	w.t.Cleanup(conn.Drop)
	return g
}

func (g *page) take(m wsclient.Message) {
	e := event{group: m.Group, from: m.FromUserID, data: string(m.Data.Bytes)}
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

// forget drops what g has been told, for what is awaited next to be new.
func (g *page) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = nil
}

// await returns the first thing g is told, or has been told, that matches.
func (g *page) await(what string, match func(event) bool) event {
	g.w.t.Helper()
	timeout := time.After(patience)
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
			g.w.t.Fatalf("not told in time: %s; told %+v", what, g.all(func(event) bool { return true }))
		}
	}
}

func named(name string) func(event) bool { return func(e event) bool { return e.name == name } }

func is(name, data string) func(event) bool {
	return func(e event) bool { return e.name == name && e.data == data }
}

func text(group, part string) func(event) bool {
	return func(e event) bool { return e.name == "" && e.group == group && strings.Contains(e.data, part) }
}

// send sends an event and returns what the ack says. data is sent as text if it is a string, else as JSON.
func (g *page) send(event string, data any) error {
	g.w.t.Helper()
	ctx, cancel := context.WithTimeout(g.w.t.Context(), patience)
	defer cancel()
	d, plain := data.(string)
	if plain {
		return g.conn.SendEvent(ctx, event, webpubsub.Text(d))
	}
	body, _ := json.Marshal(data)
	return g.conn.SendEvent(ctx, event, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body})
}

// do is send for an event that must succeed.
func (g *page) do(event string, data any) {
	g.w.t.Helper()
	if err := g.send(event, data); err != nil {
		g.w.t.Fatalf("%s %v: %v; told %+v", event, data, err, g.all(named("error")))
	}
}

// say sends a line to a chat and returns what the ack says.
func (g *page) say(chatID, key, line string, more ...object) error {
	g.w.t.Helper()
	ctx, cancel := context.WithTimeout(g.w.t.Context(), patience)
	defer cancel()
	payload := object{"message": line, "key": key}
	for _, m := range more {
		for k, v := range m {
			payload[k] = v
		}
	}
	body, _ := json.Marshal(payload)
	return g.conn.SendToGroup(ctx, chatID, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}, wsclient.SendOptions{})
}

// texts waits until a chat's history has n messages, and returns "author: text" of each.
func (p *person) texts(chatID string, n int) []string {
	p.w.t.Helper()
	var lines []string
	testkit.Eventually(p.w.t, patience, func() bool {
		lines = nil
		_, body := p.call("GET", "/api/chats/"+chatID+"/messages", nil)
		list, _ := body["messages"].([]any)
		for _, m := range list {
			lines = append(lines, fmt.Sprintf("%s: %s", m.(object)["userName"], m.(object)["text"]))
		}
		return len(lines) >= n
	}, fmt.Sprintf("%d messages in the history that %s reads", n, p.name))
	return lines
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}
