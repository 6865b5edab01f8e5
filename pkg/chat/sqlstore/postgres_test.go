package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/chattest"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

func TestPostgres(t *testing.T) {
	chattest.Run(t, func(t *testing.T) func() chat.Store {
		url := testkit.Postgres(t, MigratePostgres)
		return func() chat.Store { return openPostgres(t, url) }
	})
}

func openPostgres(t *testing.T, url string) *Store {
	t.Helper()
	s, err := OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPostgresSchemaVersions(t *testing.T) {
	ctx := t.Context()
	s := openPostgres(t, testkit.Postgres(t, nil))
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
	if _, err := s.driver.exec(ctx, `INSERT INTO chatr_schema VALUES (1000)`); err != nil {
		t.Fatal(err)
	}
	s.checkedAt = time.Time{} // look again
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
	s := openPostgres(t, server.URL)
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

// TestLostConnectionsSayNotReady has calls under way while the server goes: what each of them meets says that the store cannot be
// used, whatever another connection would find at that moment.
func TestLostConnectionsSayNotReady(t *testing.T) {
	server := testkit.NewPostgresServer(t)
	s := openPostgres(t, server.URL)
	ann := chat.User{ID: "ann", Name: "Ann"}
	if err := errors.Join(s.Migrate(t.Context()), s.SaveUser(t.Context(), "tenant", ann)); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	busy := make(chan struct{}, 8)
	for i := range cap(busy) {
		running.Go(func() {
			for n := 0; ; n++ {
				_, err := s.User(t.Context(), "tenant", "ann")
				if i%2 == 0 && err == nil {
					err = s.SaveUser(t.Context(), "tenant", ann)
				}
				if err != nil {
					if !chat.IsNotReady(err) {
						t.Errorf("error of a lost connection: got %v, want one that says that the store is not ready", err)
					}
					return
				}
				if n == 0 {
					busy <- struct{}{}
				}
			}
		})
	}
	for range cap(busy) {
		<-busy
	}
	server.Stop()
	running.Wait()
}

func TestPostgresOpenReportsABadAddress(t *testing.T) {
	_, err := OpenPostgres(t.Context(), "postgres://ann:secret@host:port/x")
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
	wrong := openPostgres(t, strings.Replace(url, "/postgres?", "/nothing?", 1))
	if err := wrong.Migrate(t.Context()); err == nil || Unreachable(err) {
		t.Errorf("an unknown database: got %v, want an error that waiting does not mend", err)
	}
	server.Stop()
	if err := openPostgres(t, url).Migrate(t.Context()); !Unreachable(err) {
		t.Errorf("a stopped server: got %v, want unreachable", err)
	}
}

// TestPostgresReadOnly has a server that stops taking writes, as after a switchover, and takes them again: by a setting
// that running connections see, and by one that each connection has from its start to its end.
func TestPostgresReadOnly(t *testing.T) {
	server := testkit.NewPostgresServer(t)
	s := openPostgres(t, server.URL)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	operator, err := pgx.Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close(context.Background())
	operate := func(statements ...string) {
		t.Helper()
		for _, statement := range append([]string{`SET default_transaction_read_only = off`}, statements...) {
			if _, err := operator.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	save := func() error {
		return s.SaveUser(t.Context(), "tenant", chat.User{ID: "ann", Name: "Ann" + rand.Text()[:5]})
	}
	for _, test := range []struct {
		name    string
		on, off []string
	}{
		{"running connections",
			[]string{`ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`},
			[]string{`ALTER SYSTEM RESET default_transaction_read_only`, `SELECT pg_reload_conf()`}},
		{"new connections",
			[]string{`ALTER DATABASE postgres SET default_transaction_read_only = on`},
			[]string{`ALTER DATABASE postgres RESET default_transaction_read_only`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := save(); err != nil {
				t.Fatal(err)
			}
			operate(test.on...)
			s.driver.(*postgresDB).pool.Reset() // as when the old server goes
			testkit.Eventually(t, 10*time.Second, func() bool { return stateOf(save()) == readOnly }, "writes are refused")
			if _, err := s.User(t.Context(), "tenant", "ann"); err != nil {
				t.Errorf("reading goes on: %v", err)
			}
			var notReady *chat.NotReady
			testkit.Eventually(t, 10*time.Second, func() bool { return errors.As(s.Ready(t.Context()), &notReady) }, "the store is not ready")
			if notReady.Reason != chat.ReasonReadOnly {
				t.Errorf("reason: got %q (%v), want %q", notReady.Reason, notReady, chat.ReasonReadOnly)
			}
			operate(test.off...)
			testkit.Eventually(t, 10*time.Second, func() bool { return s.Ready(t.Context()) == nil }, "the store is ready again")
			testkit.Eventually(t, 10*time.Second, func() bool { return save() == nil }, "writes are taken again")
			for range 20 { // by every connection
				if err := save(); err != nil {
					t.Errorf("a write after the recovery: %v", err)
				}
			}
		})
	}
}

// TestPostgresLearns has the planner know the tables of a new store before it has filled.
func TestPostgresLearns(t *testing.T) {
	url := testkit.Postgres(t, MigratePostgres)
	s, err := OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveUser(t.Context(), "tenant", chat.User{ID: "ann", Name: "Ann"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateRoom(t.Context(), "tenant", chat.Room{ID: "r", Title: "Room", OwnerID: "ann"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		batch := make([]chat.Message, 250)
		for i := range batch {
			batch[i] = chat.Message{RoomID: "r", AuthorID: "ann", Text: "hello"}
		}
		if _, err := s.AddMessages(t.Context(), "tenant", batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // waits for what is still being done
		t.Fatal(err)
	}
	var messages int
	err = get(t.Context(), openPostgres(t, url).driver, into{&messages}, `SELECT reltuples::int FROM pg_class WHERE oid = 'messages'::regclass`)
	if err != nil || messages != 500 {
		t.Errorf("messages that the planner knows of: got %d, %v, want 500", messages, err)
	}
}
