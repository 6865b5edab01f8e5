package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/chattest"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

func TestStore(t *testing.T) {
	chattest.Run(t, func(t *testing.T) func() chat.Store {
		url := testkit.Postgres(t, Migrate)
		return func() chat.Store { return open(t, url) }
	})
}

func open(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSchemaVersions(t *testing.T) {
	ctx := t.Context()
	s := open(t, testkit.Postgres(t, nil))
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "run chatr migrate") {
		t.Errorf("ready without a schema: got %v, want advice to migrate", err)
	}
	done := make(chan error)
	for range 5 { // at once
		go func() { done <- s.Migrate(ctx) }()
	}
	for range 5 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("ready after migrating: %v", err)
	}
	if _, err := s.pool.Exec(ctx, `INSERT INTO chatr_schema VALUES (1000)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("ready with a newer schema: got %v, want the last release to go on during an upgrade", err)
	}
	if err := s.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "run a newer chatr") {
		t.Errorf("migrate with a newer schema: got %v, want advice to update the program", err)
	}
}

// TestServerGoesAndReturns has a store open before its server runs, and outlive a crash of it.
func TestServerGoesAndReturns(t *testing.T) {
	server := testkit.NewPostgresServer(t)
	s := open(t, server.URL)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ann := chat.User{ID: "ann", Name: "Ann"}
	if err := s.SaveUser(t.Context(), "tenant", ann); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err == nil {
		t.Error("ready while the server is down")
	}
	if err := s.SaveUser(ctx, "tenant", ann); err == nil {
		t.Error("saved a user while the server is down")
	}
	server.Start()
	testkit.Eventually(t, 10*time.Second, func() bool { return s.Ready(t.Context()) == nil }, "the store is ready again")
	got, err := s.User(t.Context(), "tenant", "ann")
	if err != nil || got != ann {
		t.Errorf("user after the server's return: got %v, %v, want %v", got, err, ann)
	}
}

func TestOpenReportsABadAddress(t *testing.T) {
	_, err := Open(t.Context(), "postgres://ann:secret@host:port/x")
	if err == nil {
		t.Fatal("opened a store at a bad address")
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

// TestUnreachable tells a server that is not there yet from one that refuses.
func TestUnreachable(t *testing.T) {
	server := testkit.NewPostgresServer(t)
	url := server.URL
	wrong := open(t, strings.Replace(url, "/postgres?", "/nothing?", 1))
	if err := wrong.Migrate(t.Context()); err == nil || Unreachable(err) {
		t.Errorf("an unknown database: got %v, want an error that waiting does not mend", err)
	}
	server.Stop()
	if err := open(t, url).Migrate(t.Context()); !Unreachable(err) {
		t.Errorf("a stopped server: got %v, want unreachable", err)
	}
}
