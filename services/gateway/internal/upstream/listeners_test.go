package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/messagelog/redislog"
	"github.com/chatr-dev/chatr/pkg/messagelog/sqlitelog"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// fakeLog notes what it is given, unless it is down.
type fakeLog struct {
	mu   sync.Mutex
	down bool
	got  []string // log, event, ce-id and data
}

func (l *fakeLog) Append(name string, e messagelog.Entry, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		done(errors.New("the log is down"))
		return
	}
	l.got = append(l.got, fmt.Sprintf("%s %s %s/%d %s %q", name, e.ConnectionID, e.Event.Name, e.Event.ID, e.FromUserID, e.Data.Bytes))
	done(nil)
}

func (l *fakeLog) Consume(ctx context.Context, _, _ string, _ func(context.Context, []messagelog.Entry) error) error {
	<-ctx.Done()
	return nil
}

func (l *fakeLog) Ready(context.Context) error { return nil }

func (l *fakeLog) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *fakeLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// listening runs f with an Upstream in fake time whose hub has listeners, and handlers that are a script.
func listening(t *testing.T, cfg Config, log messagelog.Log, hub tenant.Hub, answer func(n int, r *http.Request) (int, error), f func(t *testing.T, u *Upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hub.Name = "chat"
		tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}, Hubs: []tenant.Hub{hub}})
		if err != nil {
			t.Fatal(err)
		}
		u := New(cfg, tenants, log, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		u.client.Transport = &script{answer: answer, start: time.Now()}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); u.Run(ctx) }() //nolint:errcheck // always nil
		f(t, u)
		stop()
		<-ended
	})
}

// Each listener that matches gets its copy, whatever the handler does; a listener alone is enough for a user event, not
// for an invocation.
//
// checklist:E13
func TestListenersGetCopies(t *testing.T) {
	log := &fakeLog{}
	hub := tenant.Hub{
		Handlers: []tenant.Handler{{URL: "http://app.example/{event}", UserEvents: "handled", SystemEvents: []string{"connected"}, SkipValidation: true}},
		EventListeners: []tenant.Listener{
			{Log: "all", UserEvents: "*", SystemEvents: []string{"connected", "disconnected"}},
			{Log: "all", UserEvents: "a"}, // once all the same
			{Log: "some", UserEvents: "a, B", SystemEvents: []string{"Disconnected"}},
		},
	}
	listening(t, Config{}, log, hub, func(int, *http.Request) (int, error) { return 400, nil }, func(t *testing.T, u *Upstream) {
		s := u.Open(chat, connID)
		s.setAccepted(nil)
		s.Established("ana", "p")
		if d, err := s.Event("b", webpubsub.Text("x")).Put(t.Context()); d != nil || err != nil {
			t.Errorf("an event with listeners only: got %v %v, want neither answer nor error", d, err)
		}
		if _, err := s.Event("handled", webpubsub.Text("y")).Put(t.Context()); err == nil {
			t.Error("an event whose handler refuses: got no error, though a listener has it")
		}
		if _, err := s.Invocation("b", webpubsub.Text("z")).Put(t.Context()); !errors.Is(err, ErrNoHandler) {
			t.Errorf("an invocation: got %v, want ErrNoHandler: listeners do not answer", err)
		}
		s.Closed("bye")
		want := []string{
			`default/all c-81f2 connected/1 ana "{}"`, `default/all c-81f2 b/2 ana "x"`, `default/some c-81f2 b/2 ana "x"`,
			`default/all c-81f2 handled/3 ana "y"`,
			`default/all c-81f2 disconnected/5 ana "{\"reason\":\"bye\"}"`, `default/some c-81f2 disconnected/5 ana "{\"reason\":\"bye\"}"`,
		}
		if got := log.take(); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A log that is down fails what has nobody else, and nothing else; what nobody waits for comes later, in order.
//
// checklist:E13
func TestListenersWhoseLogIsDown(t *testing.T) {
	log := &fakeLog{down: true}
	hub := tenant.Hub{
		Handlers:       []tenant.Handler{{URL: "http://app.example/{event}", UserEvents: "handled", SkipValidation: true}},
		EventListeners: []tenant.Listener{{Log: "all", UserEvents: "*", SystemEvents: []string{"connected", "disconnected"}}},
	}
	cfg := Config{LifecycleQueue: 5, LifecycleKeep: time.Hour}
	listening(t, cfg, log, hub, func(int, *http.Request) (int, error) { return 204, nil }, func(t *testing.T, u *Upstream) {
		connect := func(id string) *Session {
			s := u.Open(chat, id)
			s.setAccepted(nil)
			s.Established("ana", "")
			return s
		}
		s := connect("c1")
		f := new(Failure)
		if _, err := s.Event("b", webpubsub.Text("x")).Put(t.Context()); !errors.As(err, &f) || f.Reason != ReasonLog {
			t.Errorf("an event with listeners only: got %v, want reason %s", err, ReasonLog)
		}
		if _, err := s.Event("handled", webpubsub.Text("y")).Put(t.Context()); err != nil {
			t.Errorf("an event with a handler: got %v, want none", err)
		}
		s.Closed("bye")
		connect("c2")
		time.Sleep(time.Minute)
		if got := testutil.ToFloat64(u.metrics.waiting); got != 3 {
			t.Errorf("%v events wait, want 3", got)
		}
		log.set(false)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := u.Drain(ctx); err != nil {
			t.Error(err)
		}
		want := []string{`default/all c1 connected/1 ana "{}"`, `default/all c1 disconnected/4 ana "{\"reason\":\"bye\"}"`, `default/all c2 connected/1 ana "{}"`}
		if got := log.take(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}

		log.set(true)
		for i := range 8 {
			connect(fmt.Sprint("d", i))
		}
		wantDropped(t, u, reasonOverflow, 3)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		wantDropped(t, u, reasonExpired, 5)
	})
}

// sink is a webhook that notes what it has accepted, each event once: delivery is at least once, and source and id tell.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	got     []string // connection, event and data
	known   map[string]bool
	batches []int
	answer  func(events []map[string]any) int // nil: 204
	fault   string
}

func newSink(t *testing.T) *sink {
	s := &sink{known: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	body, _ := io.ReadAll(r.Body)
	var events []map[string]any
	if err := json.Unmarshal(body, &events); err != nil || !cloudevents.VerifyBatch(body, r.Header, key) || r.Header.Get("Content-Type") != cloudevents.TypeBatch || r.URL.RawQuery != "code=s3cr3t" {
		s.fault = fmt.Sprintf("got %s %v %.200s", r.URL, r.Header, body)
	}
	if s.answer != nil {
		if status := s.answer(events); status != 204 {
			w.WriteHeader(status)
			return
		}
	}
	s.batches = append(s.batches, len(events))
	for _, e := range events {
		if known := fmt.Sprint(e["source"], e["id"]); !s.known[known] {
			s.known[known] = true
			s.got = append(s.got, fmt.Sprint(e["connectionid"], " ", e["eventname"], "/", e["id"], " ", e["data"]))
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *sink) set(answer func(events []map[string]any) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *sink) wantGot(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("got %q", got)
		}
	}()
	testkit.Eventually(t, 30*time.Second, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = slices.Clone(s.got)
		return slices.Equal(got, want) && s.fault == ""
	}, fmt.Sprintf("the webhook has %q", want))
}

// A webhook gets all that its log holds, in batches, in order; over its own failures, and over the end of the process.
//
// checklist:E13
func TestWebhooksGetBatches(t *testing.T) {
	t.Parallel()
	logs := map[string]func(t *testing.T) func() messagelog.Log{
		"sqlite": func(t *testing.T) func() messagelog.Log {
			file := filepath.Join(t.TempDir(), "log.db")
			return func() messagelog.Log {
				l, err := sqlitelog.Open(file, sqlitelog.Options{Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				return l
			}
		},
		"redis": func(t *testing.T) func() messagelog.Log {
			server := testkit.Redis(t)
			return func() messagelog.Log {
				client, err := redisconn.Open(redisconn.Config{URL: server.URL, Prefix: "test"})
				if err != nil {
					t.Fatal(err)
				}
				l := redislog.New(client, redislog.Options{Prefix: "test", Logger: slog.New(slog.DiscardHandler)})
				t.Cleanup(func() { l.Close() })
				return l
			}
		},
	}
	for name, database := range logs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := database(t)
			webhook := newSink(t)
			tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}, Hubs: []tenant.Hub{{
				Name: "Chat",
				EventListeners: []tenant.Listener{{Log: "audit", UserEvents: "*", SystemEvents: []string{"connected", "disconnected"},
					Webhook: tenant.Webhook{URL: webhook.URL + "/{hub}?code=s3cr3t"}}},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			run := func() (u *Upstream, stop func()) {
				log := open()
				u = New(Config{}, tenants, log, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() { defer close(ended); u.Run(ctx) }() //nolint:errcheck // always nil
				stop = sync.OnceFunc(func() {
					cancel()
					<-ended
					if c, ok := log.(io.Closer); ok {
						c.Close()
					}
				})
				t.Cleanup(stop)
				return u, stop
			}
			u, stop := run()
			say := func(u *Upstream, id string, texts ...string) {
				s := u.Open(chat, id)
				for _, text := range texts {
					if _, err := s.Event("said", webpubsub.Text(text)).Put(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			say(u, "c1", "one", "two")
			webhook.wantGot(t, "c1 said/1 one", "c1 said/2 two")

			webhook.set(func([]map[string]any) int { return 503 })
			say(u, "c2", "three", "four")
			stop()
			webhook.set(func(events []map[string]any) int { // a poisoned event does not hold up the others
				if slices.ContainsFunc(events, func(e map[string]any) bool { return e["data"] == "four" }) {
					return 422
				}
				return 204
			})
			u, _ = run()
			webhook.wantGot(t, "c1 said/1 one", "c1 said/2 two", "c2 said/1 three")
			testkit.Eventually(t, 20*time.Second, func() bool { return testutil.ToFloat64(u.metrics.webhooks.WithLabelValues("refused")) == 1 }, "the poisoned event is given up")
			webhook.set(nil)
			say(u, "c3", "five")
			webhook.wantGot(t, "c1 said/1 one", "c1 said/2 two", "c2 said/1 three", "c3 said/1 five")
		})
	}
}

// Two processes that share a log deliver each event once between them, each connection's in order; also when one of them ends
// meanwhile, and when Redis is away while a batch is with the webhook.
//
// checklist:E13
func TestWebhookOfTwoProcesses(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	webhook := newSink(t)
	tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}, Hubs: []tenant.Hub{{
		Name: "chat", EventListeners: []tenant.Listener{{Log: "audit", UserEvents: "*", Webhook: tenant.Webhook{URL: webhook.URL + "?code=s3cr3t"}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*Upstream
	var stop [2]func()
	for i := range both {
		client, err := redisconn.Open(redisconn.Config{URL: server.URL, Prefix: "test"})
		if err != nil {
			t.Fatal(err)
		}
		l := redislog.New(client, redislog.Options{Prefix: "test", Logger: slog.New(slog.DiscardHandler)})
		both[i] = New(Config{}, tenants, l, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); both[i].Run(ctx) }() //nolint:errcheck // always nil
		stop[i] = sync.OnceFunc(func() { cancel(); <-ended; l.Close() })
		t.Cleanup(stop[i])
	}
	var want []string
	say := func(which int, id string, n int) {
		s, tried := both[which].Open(chat, id), 0
		for i := range n {
			// A connection that was open when Redis stopped may be found broken only now; whoever is told so tries again.
			testkit.Eventually(t, 20*time.Second, func() bool {
				tried++
				_, err := s.Event("said", webpubsub.Text(fmt.Sprint(i))).Put(t.Context())
				return err == nil
			}, "the event is taken")
			want = append(want, fmt.Sprintf("%s said/%d %d", id, tried, i))
		}
	}
	wantOnce := func() {
		t.Helper()
		webhook.wantGot(t, want...)
		webhook.mu.Lock()
		defer webhook.mu.Unlock()
		delivered := 0
		for _, n := range webhook.batches {
			delivered += n
		}
		if delivered != len(want) {
			t.Errorf("%d events were delivered, want each of %d once", delivered, len(want))
		}
	}
	for round := range 5 {
		say(round%2, fmt.Sprint("c", round), 20)
	}
	wantOnce()

	var once sync.Once
	webhook.set(func([]map[string]any) int { once.Do(server.Stop); return 204 })
	say(0, "taken while Redis was away", 1)
	wantOnce()
	webhook.set(nil)
	server.Start()
	testkit.Eventually(t, 20*time.Second, func() bool {
		return both[0].messages.Ready(t.Context()) == nil && both[1].messages.Ready(t.Context()) == nil
	}, "the log is back")
	say(1, "back", 20)
	wantOnce()

	stop[0]()
	say(1, "alone", 20)
	wantOnce()
}

// A webhook that fails gets the events of a batch that it has not taken, and a batch is bounded.
func TestBatchesAreBounded(t *testing.T) {
	webhook := newSink(t)
	hub := tenant.Hub{Name: "chat", EventListeners: []tenant.Listener{{Log: "audit", UserEvents: "*", Webhook: tenant.Webhook{URL: webhook.URL + "?code=s3cr3t"}}}}
	tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}, Hubs: []tenant.Hub{hub}})
	if err != nil {
		t.Fatal(err)
	}
	u := New(Config{}, tenants, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); u.Run(ctx) }() //nolint:errcheck // always nil
	t.Cleanup(func() { stop(); <-ended })

	var batch []messagelog.Entry
	for i := range 250 {
		e := messagelog.Entry{ID: fmt.Sprint(i), Hub: chat, ConnectionID: "c", Data: webpubsub.Text("x"), Event: &messagelog.Event{Name: "e", Type: cloudevents.UserPrefix + "e", ID: uint64(i)}}
		if i >= 200 {
			e.Data.Bytes = bytes.Repeat([]byte("x"), 600<<10)
		}
		batch = append(batch, e)
	}
	d := &delivery{u: u, webhookKey: webhookKey{chat, "audit"}}
	requests := 0
	webhook.set(func([]map[string]any) int {
		if requests++; requests == 2 {
			return 500
		}
		return 204
	})
	if err := d.handle(t.Context(), batch[:203]); err == nil {
		t.Error("got no error from a webhook that fails")
	}
	if err := d.handle(t.Context(), batch[:203]); err != nil {
		t.Errorf("got %v from a webhook that works again", err)
	}
	if got := fmt.Sprint(webhook.batches); got != "[100 100 1 1 1]" || webhook.fault != "" {
		t.Errorf("got batches of %s, want [100 100 1 1 1], none twice; %s", got, webhook.fault)
	}
}
