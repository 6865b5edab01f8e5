package sqlstore

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// What was given after a backup, which has been put back, is not given again for something else, and whoever knows it is told
// to begin again, however much has happened since.
func TestRestored(t *testing.T) {
	t.Run("Postgres", func(t *testing.T) { restored(t, openPostgres(t, testkit.Postgres(t, MigratePostgres))) })
	t.Run("SQLite", func(t *testing.T) { restored(t, openSQLite(t, filepath.Join(t.TempDir(), "chat.db"))) })
}

func restored(t *testing.T, s *Store) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	say := func(text string) chat.Message {
		t.Helper()
		m, _, err := s.AddMessage(ctx, "t", chat.Message{RoomID: "r", AuthorID: "ann", Text: text})
		must(err)
		return m
	}
	for _, id := range []string{"ann", "bob"} {
		must(s.SaveUser(ctx, "t", chat.User{ID: id, Name: id}))
	}
	_, err := s.CreateRoom(ctx, "t", chat.Room{ID: "r", Title: "Tea", OwnerID: "ann"})
	must(err)
	_, err = s.Join(ctx, "t", "r", "bob")
	must(err)
	last := say("before")
	was, err := s.OwnRooms(ctx, "t", "bob", chat.Place{}, 0)
	must(err)

	must(s.Restored(ctx)) // what was said and done after that is lost: numbers up to some more are known to clients
	known := last.Number
	must(s.MarkRead(ctx, "t", "r", "bob", 1))
	next := say("after")
	if next.Number <= known+1000 || next.Seq != last.Seq+1 {
		t.Errorf("the next message is event %d and message %d, want one far above %d, and %d", next.Number, next.Seq, known, last.Seq+1)
	}
	for _, after := range []int64{0, known, known + 1, known + 1000} {
		if _, _, err := s.Events(ctx, "t", "r", after, 0); !errors.Is(err, chat.ErrGone) {
			t.Errorf("events after %d: got %v, want to begin again", after, err)
		}
		if _, err := s.ChangedRooms(ctx, "t", "bob", was.Revision+after, 0); !errors.Is(err, chat.ErrGone) {
			t.Errorf("changes since %d: got %v, want to begin again", was.Revision+after, err)
		}
	}
	events, _, err := s.Events(ctx, "t", "r", next.Number-1, 0)
	must(err)
	if len(events) != 1 || events[0].Number != next.Number {
		t.Errorf("events from the next on: got %v", events)
	}
	now, err := s.OwnRooms(ctx, "t", "bob", chat.Place{}, 0)
	must(err)
	changed, err := s.ChangedRooms(ctx, "t", "bob", now.Revision-1, 0)
	must(err)
	if len(changed.Rooms) != 1 || changed.Rooms[0].LastEvent != next.Number || changed.Rooms[0].ReadSeq != 1 {
		t.Errorf("what has changed since: got %+v", changed)
	}
	window, err := s.MessageWindow(ctx, "t", "r", chat.Window{Seq: 10, Before: 10})
	must(err)
	if len(window.Messages) != 2 || window.LastEvent != next.Number {
		t.Errorf("messages: got %+v", window)
	}
	untold, err := s.Untold(ctx, "t", 10)
	must(err)
	if len(untold) != 1 {
		t.Errorf("rooms to tell: got %q, want the one that was spoken in since", untold)
	}
}
