package sqlstore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestSlowSaysNotReady has somebody else hold what a call waits for until its time is over: that is no error of the program's,
// and may be tried again. The store itself says so, too.
func TestSlowSaysNotReady(t *testing.T) {
	for name, c := range map[string]struct {
		open func(t *testing.T) *Store
		hold string // what Ready writes, besides
	}{
		"postgres": {func(t *testing.T) *Store { return openPostgres(t, testkit.Postgres(t, MigratePostgres)) }, `LOCK TABLE chatr_schema IN EXCLUSIVE MODE`},
		"sqlite":   {func(t *testing.T) *Store { return openSQLite(t, filepath.Join(t.TempDir(), "chat.db")) }, `SELECT 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.open(t)
			ann := chat.User{ID: "ann", Name: "Ann"}
			if err := s.SaveUser(t.Context(), "tenant", ann); err != nil {
				t.Fatal(err)
			}
			err := s.driver.write(t.Context(), func(tx tx) error {
				tx.send(c.hold)
				if _, err := collect(t.Context(), tx, scanString, `UPDATE users SET name = name WHERE tenant = $1 RETURNING id`, "tenant"); err != nil {
					return err
				}
				for what, call := range map[string]func(context.Context) error{
					"a call": func(ctx context.Context) error { return s.SaveUser(ctx, "tenant", ann) },
					"Ready":  s.Ready,
				} {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					err := call(ctx)
					cancel()
					var not *chat.NotReady
					if !errors.As(err, &not) || not.Reason != chat.ReasonSlow {
						t.Errorf("error of %s whose time is over: got %v, want one that says that the store is slow", what, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SaveUser(t.Context(), "tenant", ann); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestConnectionsToPostgresDoNotLast: one that is kept for ever leads to where its server was found first.
func TestConnectionsToPostgresDoNotLast(t *testing.T) {
	for url, want := range map[string]time.Duration{
		"postgres://u:p@127.0.0.1:1/db":                           connLifetime,
		"postgres://u:p@127.0.0.1:1/db?pool_max_conn_lifetime=2h": 2 * time.Hour,
	} {
		s, err := OpenPostgres(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.driver.(*postgresDB).pool.Config().MaxConnLifetime; got != want {
			t.Errorf("%s: got %v, want %v", url, got, want)
		}
		_ = s.Close()
	}
}
