package events

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/messagelog"
)

type world struct {
	*gateway
	t     testing.TB
	s     *Service
	store chat.Store
	swap  *swap // what the service has for a store
	logs  *bytes.Buffer

	metrics *prometheus.Registry
}

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

type swap struct{ chat.Store }

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	store, err := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context()); err != nil {
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
	for id, name := range map[string]string{"guest_ada": "Ada", "guest_bob": "Bob & Co", "guest_eve": "Eve"} {
		if err := store.SaveUser(t.Context(), "default", chat.User{ID: id, Name: name, Provider: "guest"}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

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

func (w *world) keepPresence() { _ = w.s.presence.Keep(w.t.Context()) }

func (w *world) check() { _ = w.s.presence.Check(w.t.Context()) }

type noLog struct{}

func (noLog) Append(string, messagelog.Entry, func(error)) {}

func (noLog) Ready(context.Context) error { return nil }

func (noLog) Consume(ctx context.Context, _, _ string, _ func(context.Context, []messagelog.Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if !bytes.Equal(g, w) {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}
