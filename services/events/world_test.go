package events

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// world is the service with a real store and a gateway that is not one.
type world struct {
	*gateway
	t      testing.TB
	s      *Service
	store  chat.Store
	swap   *swap // what the service has for a store
	logs   *bytes.Buffer
	direct string // a direct room of guest_ada and guest_bob, in a crowd

	metrics *prometheus.Registry
}

// counted returns a counter's value for one value of its label.
func (w *world) counted(name, label string) int {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// swap is a store that tests may put another in front of.
type swap struct{ chat.Store }

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	store, err := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, cfg, store)
}

// newWorldOn is newWorld with a store.
func newWorldOn(t testing.TB, cfg Config, store *sqlstore.Store) *world {
	t.Helper()
	t.Cleanup(func() { store.Close() })
	err := store.Migrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t)
	w := &world{gateway: g, t: t, store: store, swap: &swap{store}, logs: &bytes.Buffer{}, metrics: prometheus.NewRegistry()}
	cfg.Tenant, cfg.Hub, cfg.Origins = cmp.Or(cfg.Tenant, "default"), cmp.Or(cfg.Hub, "chat"), []string{"gateway"}
	w.s, err = New(cfg, Deps{
		Store: w.swap, Log: noLog{}, Gateway: g.client(), Keys: func() []string { return []string{testKey} },
		Logger: slog.New(slog.NewTextHandler(w.logs, nil)), Metrics: w.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.events = w.s.Handler()
	g.quiet = func() { w.s.tell.Wait() }
	for id, name := range map[string]string{"guest_ada": "Ada", "guest_bob": "Bob & Co", "guest_eve": "Eve"} {
		if err := store.SaveUser(t.Context(), "default", chat.User{ID: id, Name: name, Provider: "guest"}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// members returns the ids of a room's members, sorted.
func (w *world) members(room string) []string {
	w.t.Helper()
	r, err := w.store.Room(w.t.Context(), "default", room)
	if err != nil {
		w.t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, m := range r.Members {
		ids[m.UserID] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// online returns the ids of who is online, sorted.
func (w *world) online() []string {
	w.t.Helper()
	list, err := w.store.Online(w.t.Context(), "default")
	if err != nil {
		w.t.Fatal(err)
	}
	ids := []string{}
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	slices.Sort(ids)
	return ids
}

// keepPresence does what the service does each second. It may fail: the gateway can be down.
func (w *world) keepPresence() {
	_ = w.s.presence.Sweep(w.t.Context())
	w.payOwed()
}

// payOwed does what a worker of any process does. It may fail: the gateway can be down.
func (w *world) payOwed() {
	_ = w.s.effects.Work(w.t.Context())
	_ = w.s.tell.Work(w.t.Context())
	w.s.tell.Wait()
}

// payAll does so until nothing is owed: what has failed is tried again after a while.
func (w *world) payAll() {
	w.t.Helper()
	var state string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s; log: %s", state, w.logs)
		}
	}()
	testkit.Eventually(w.t, 0, func() bool {
		errPay := w.s.effects.Work(w.t.Context())
		errTell := w.s.tell.Work(w.t.Context())
		w.s.tell.Wait()
		n, _, err := w.store.EffectsOwed(w.t.Context(), "default")
		untold := w.untold()
		state = fmt.Sprintf("owed: %d effects (%v, %v), untold %q (%v)", n, err, errPay, untold, errTell)
		return err == nil && n == 0 && len(untold) == 0
	}, "nothing is owed any more")
}

// untold returns those rooms of the tests that have events to tell.
func (w *world) untold() (list []string) {
	w.t.Helper()
	for _, id := range []string{"den", "r1", "r2", "r9", room1, room2, w.direct} {
		told, err := w.s.tell.IsTold(w.t.Context(), id)
		if err != nil && !errors.Is(err, chat.ErrNotFound) && !errors.Is(err, chat.ErrInvalid) {
			w.t.Fatal(err)
		}
		if !told {
			list = append(list, id)
		}
	}
	return list
}

// check does what the service does each half check interval.
func (w *world) check() { _ = w.s.presence.Check(w.t.Context()) }

// noLog is a message log that nothing is ever in.
type noLog struct{}

func (noLog) Append(string, messagelog.Entry, func(error)) {}

func (noLog) Ready(context.Context) error { return nil }

func (noLog) Consume(ctx context.Context, _, _ string, _ func(context.Context, []messagelog.Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// equal fails the test unless got is want.
func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if !bytes.Equal(g, w) {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}
