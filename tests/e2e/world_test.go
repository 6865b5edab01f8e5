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
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/api"
	"github.com/chatr-dev/chatr/services/events"
	"github.com/chatr-dev/chatr/services/gateway"
	"github.com/chatr-dev/chatr/tests/people"
)

const (
	accessKey  = "an access key for tests, long enough"
	sessionKey = "a session key for tests, long enough"
)

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
	guests   int        // who have signed in
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
	var all []service
	for range w.processes() {
		services, more := w.startProcess()
		for _, s := range services {
			running.Go(func() {
				if err := s.Run(ctx); err != nil {
					t.Errorf("run: %v", err)
				}
			})
		}
		all, closers = append(all, services...), append(closers, more...)
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
	for _, s := range all { // as a load balancer does: nobody is sent to a process that is not ready
		testkit.Eventually(t, people.Patience, func() bool { return s.Ready(t.Context()) == nil }, "every service is ready")
	}
	return w
}

// service is what runs until it is told to stop, and is ready for people some time after it has begun.
type service interface {
	Run(ctx context.Context) error
	Ready(ctx context.Context) error
}

func (w *world) processes() int {
	if w.settings.redis != "" {
		return 2
	}
	return 1
}

// startProcess makes all services behind one listener, as standalone does, and returns what has to run and what has
// to be closed in the end.
func (w *world) startProcess() (services []service, closers []io.Closer) {
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
			Chat:      server.URL,
			Handlers: []tenant.Handler{{
				URL: server.URL + "/eventhandler/{event}", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"},
			}},
		}},
	}))(t)
	g := must(gateway.New(config, gateway.Deps{Tenants: tenants, Log: log, Logger: logger, Metrics: metrics}))(t)
	e := must(events.New(
		events.Config{Tenant: "default", Hub: "chat", Origins: []string{"*"}, OfflineGrace: s.grace, CheckInterval: 200 * time.Millisecond, LegacyGuests: s.legacy, EventsPerSecond: 1000},
		events.Deps{Store: store, Log: log, Gateway: client, Keys: func() []string { return []string{accessKey} }, Logger: logger, Metrics: metrics}))(t)
	a := must(api.New(
		api.Config{Tenant: "default", Hub: "chat", SessionKey: sessionKey, SessionTime: time.Hour, IdleAfter: time.Minute, LegacyGuests: s.legacy},
		api.Deps{
			Store: store, Gateway: client, Keys: func() tenant.Keys { return tenant.Keys{Primary: accessKey} },
			Web: fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}}, Logger: logger, Metrics: metrics,
		}))(t)
	gatewayHandler, eventsHandler, apiHandler = g.Handler(), e.Handler(), a.Handler()
	return []service{g, e}, []io.Closer{closer(server.CloseClientConnections), closer(server.Close), log, store}
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
		return must(sqlstore.OpenSQLite(filepath.Join(s.data, "chat.db")))(t),
			must(sqlitelog.Open(filepath.Join(s.data, "log.db"), sqlitelog.Options{Logger: logger}))(t)
	}
	client := must(redisconn.Open(redisconn.Config{URL: s.redis, Prefix: "test"}))(t)
	return must(sqlstore.OpenPostgres(t.Context(), s.postgres))(t),
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

// signIn makes a guest. In a deployment of several processes people are spread over them.
func (w *world) signIn(name string) *people.Person {
	w.t.Helper()
	p := people.SignIn(w.t, w.urls[w.guests%len(w.urls)], name)
	w.guests++
	return p
}

// come signs a guest in and opens a page.
func (w *world) come(name string) *people.Person {
	w.t.Helper()
	p := w.signIn(name)
	p.Open(people.Reliable)
	return p
}

// move brings people of an earlier world here, each to the process that serves the same people as before.
func (w *world) move(all ...*people.Person) {
	for i, p := range all {
		p.Front = w.urls[i%len(w.urls)]
	}
}

// texts waits until a chat's history has n messages, and returns "author: text" of each.
func texts(p *people.Person, chatID string, n int) (lines []string) {
	p.T.Helper()
	testkit.Eventually(p.T, people.Patience, func() bool {
		lines = nil
		all, _ := p.History(chatID)
		for _, m := range all {
			lines = append(lines, m.UserName+": "+m.Text)
		}
		return len(lines) >= n
	}, fmt.Sprintf("%d messages in the history that %s reads", n, p.Name))
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
