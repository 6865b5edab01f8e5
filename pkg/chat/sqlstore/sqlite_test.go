package sqlstore

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/chattest"
)

func TestSQLite(t *testing.T) {
	chattest.Run(t, func(t *testing.T) func() chat.Store {
		path := filepath.Join(t.TempDir(), "chat ?#%.db") // a path is not a URL
		return func() chat.Store { return openSQLite(t, path) }
	})
}

func openSQLite(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLiteSchemaVersions(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "chat.db")
	s, err := OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "run chatr migrate") {
		t.Errorf("ready without a schema: got %v, want advice to migrate", err)
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("ready after migrating: %v", err)
	}
	if _, err := s.driver.exec(ctx, `PRAGMA user_version = 1000`); err != nil {
		t.Fatal(err)
	}
	s.checkedAt = time.Time{} // look again
	for what, err := range map[string]error{"ready": s.Ready(ctx), "migrate": s.Migrate(ctx)} {
		if err == nil || !strings.Contains(err.Error(), "run a newer chatr") {
			t.Errorf("%s with a newer schema: got %v, want advice to update the program", what, err)
		}
	}
}

func TestSQLiteOpenReportsABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "chat.db")
	if s, err := OpenSQLite(path); err == nil {
		s.Close()
		t.Fatal("opened a file in a folder that does not exist")
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("error: got %v, want it to name %s", err, path)
	}
}

// TestStoredMessagesSurviveKill kills a process while it stores messages and looks for every one it had reported.
func TestStoredMessagesSurviveKill(t *testing.T) {
	if path := os.Getenv("SQLITE_CHILD"); path != "" {
		storeForever(t, path)
	}
	path := filepath.Join(t.TempDir(), "chat.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoredMessagesSurviveKill$")
	cmd.Env = append(os.Environ(), "SQLITE_CHILD="+path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var stored int64
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		fmt.Sscanf(lines.Text(), "stored %d", &stored) //nolint:errcheck // other lines, and the last half one
		if stored == 300 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if stored < 300 {
		t.Fatalf("messages stored before the kill: got %d, want 300 or more", stored)
	}
	page, err := openSQLite(t, path).History(t.Context(), "tenant", "r", "ann", stored+1, chat.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	if len(page) != chat.MaxPage || page[len(page)-1].Seq != stored {
		t.Errorf("history up to message %d: got %d messages, want %d", stored, len(page), chat.MaxPage)
	}
}

func storeForever(t *testing.T, path string) {
	s := openSQLite(t, path)
	if err := s.SaveUser(t.Context(), "tenant", chat.User{ID: "ann", Name: "Ann"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateRoom(t.Context(), "tenant", chat.Room{ID: "r", Title: "Room", OwnerID: "ann"}); err != nil {
		t.Fatal(err)
	}
	for {
		m, _, err := s.AddMessage(t.Context(), "tenant", chat.Message{RoomID: "r", AuthorID: "ann", Text: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("stored", m.Seq)
	}
}

// TestSQLiteLooksUpWhatIsGiven: what a statement changes of the rooms that it is given takes no longer for there being others.
func TestSQLiteLooksUpWhatIsGiven(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "chat.db"))
	table, args := s.driver.given(2, column{"room_id", "text", []string{"r"}}, column{"number", "bigint", []int64{1}})
	var plan []string
	err := s.driver.write(t.Context(), func(tx tx) (err error) {
		plan, err = collect(t.Context(), tx, func(row rows) (detail string, err error) {
			var id, parent, unused int
			return detail, row.Scan(&id, &parent, &unused, &detail)
		}, `EXPLAIN QUERY PLAN UPDATE rooms SET last_event = given.number FROM `+table+` WHERE tenant = $1 AND id = given.room_id`,
			append([]any{"tenant"}, args...)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(plan, "\n"); !strings.Contains(got, "SEARCH rooms USING PRIMARY KEY (tenant=? AND id=?)") {
		t.Errorf("got the plan\n%s\nwant that rooms are looked up by their ids", got)
	}
}
