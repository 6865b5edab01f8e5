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
// and may be tried again.
func TestSlowSaysNotReady(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *Store{
		"postgres": func(t *testing.T) *Store { return openPostgres(t, testkit.Postgres(t, MigratePostgres)) },
		"sqlite":   func(t *testing.T) *Store { return openSQLite(t, filepath.Join(t.TempDir(), "chat.db")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			ann := chat.User{ID: "ann", Name: "Ann"}
			if err := s.SaveUser(t.Context(), "tenant", ann); err != nil {
				t.Fatal(err)
			}
			err := s.driver.write(t.Context(), func(tx tx) error {
				if _, err := collect(t.Context(), tx, scanString, `UPDATE users SET name = name WHERE tenant = $1 RETURNING id`, "tenant"); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				err := s.SaveUser(ctx, "tenant", ann)
				var not *chat.NotReady
				if !errors.As(err, &not) || not.Reason != chat.ReasonSlow {
					t.Errorf("error of a call whose time is over: got %v, want one that says that the store is slow", err)
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
