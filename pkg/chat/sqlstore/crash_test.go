package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

var errCrash = errors.New("the process ends here")

// crashing is a driver whose transactions end at their nth step; the end, before COMMIT, is a step too.
type crashing struct {
	driver
	left *int // steps to go
}

func (c crashing) write(ctx context.Context, f func(tx) error) error {
	return c.driver.write(ctx, func(t tx) error {
		if err := f(crashingTx{t, c.left}); err != nil {
			return err
		}
		return step(c.left)
	})
}

func step(left *int) error {
	if *left--; *left < 0 {
		return errCrash
	}
	return nil
}

type crashingTx struct {
	tx
	left *int
}

func (c crashingTx) query(ctx context.Context, query string, args ...any) rows {
	if err := step(c.left); err != nil {
		return failed{err}
	}
	return c.tx.query(ctx, query, args...)
}

func (c crashingTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := step(c.left); err != nil {
		return 0, err
	}
	return c.tx.exec(ctx, query, args...)
}

// send runs the statement at once, so that everything before the crash has happened.
func (c crashingTx) send(query string, args ...any) {
	if *c.left--; *c.left >= 0 {
		if _, err := c.tx.exec(context.Background(), query, args...); err != nil {
			panic(fmt.Sprint(err, " of ", query))
		}
	}
}

// changes are all that a change may do beside the change itself: events, as eventList has them without numbers, and
// effects owed. Each begins with what the ones before have left.
var changes = []struct {
	name   string
	do     func(ctx context.Context, s *Store) error
	events string // "room: kind user …"
	owed   string // "kind room user"
}{
	{"create a room", func(ctx context.Context, s *Store) error {
		return second(s.CreateRoom(ctx, "t", chat.Room{ID: "r", Title: "Room", OwnerID: "ann"}))
	}, "r: created ann Room", "member r ann"},
	{"create a private room", func(ctx context.Context, s *Store) error {
		return second(s.CreateRoom(ctx, "t", chat.Room{ID: "p", Title: "Ours", OwnerID: "ann", Kind: chat.KindPrivate, Members: []chat.Member{{UserID: "bob"}}}))
	}, "p: created ann Ours, joined bob", "member p ann, member p bob"},
	{"join", func(ctx context.Context, s *Store) error { return second(s.Join(ctx, "t", "r", "bob")) }, "r: joined bob", "member r bob"},
	{"join again", func(ctx context.Context, s *Store) error { return second(s.Join(ctx, "t", "r", "bob")) }, "", ""},
	{"add a member", func(ctx context.Context, s *Store) error { return second(s.AddMember(ctx, "t", "p", "cid")) }, "p: joined cid", "member p cid"},
	{"put a member", func(ctx context.Context, s *Store) error {
		return second(s.PutMember(ctx, "t", "r", "cid", chat.RoleOperator, chat.Condition{}))
	}, "r: joined cid, role cid room.operator", "member r cid"},
	{"put the member again", func(ctx context.Context, s *Store) error {
		return second(s.PutMember(ctx, "t", "r", "cid", chat.RoleOperator, chat.Condition{}))
	}, "", ""},
	{"store a role", func(ctx context.Context, s *Store) error {
		return second(s.PutRole(ctx, "t", chat.Role{Name: "room.mute"}, chat.Condition{}))
	}, "", ""},
	{"give a role", func(ctx context.Context, s *Store) error {
		return second(s.PutMember(ctx, "t", "r", "cid", "room.mute", chat.Condition{}))
	}, "r: role cid room.mute", "member r cid"},
	{"give somebody else the role", func(ctx context.Context, s *Store) error {
		return second(s.PutMember(ctx, "t", "r", "bob", "room.mute", chat.Condition{}))
	}, "r: role bob room.mute", "member r bob"},
	{"come online", func(ctx context.Context, s *Store) error {
		return second(s.Connect(ctx, "t", chat.Connection{ID: "c1", UserID: "cid"}))
	}, "", "presence  cid"},
	{"a name", func(ctx context.Context, s *Store) error {
		return s.SaveUser(ctx, "t", chat.User{ID: "cid", Name: "Cid"})
	}, "", "presence  cid"},
	{"a name by an application", func(ctx context.Context, s *Store) error {
		return second(s.PutProfile(ctx, "t", chat.Profile{User: chat.User{ID: "cid", Name: "Sid"}, Role: chat.RoleUser}, chat.Condition{}))
	}, "", "presence  cid"},
	{"a name of one who is offline", func(ctx context.Context, s *Store) error {
		return s.SaveUser(ctx, "t", chat.User{ID: "bob", Name: "Bob"})
	}, "", ""},
	{"come again", func(ctx context.Context, s *Store) error {
		return second(s.Connect(ctx, "t", chat.Connection{ID: "c2", UserID: "cid"}))
	}, "", ""},
	{"store the role again", func(ctx context.Context, s *Store) error {
		return second(s.PutRole(ctx, "t", chat.Role{Name: "room.mute", Permissions: []chat.Permission{chat.RoomHistory}}, chat.Condition{}))
	}, "", "member r cid"}, // bob learns it on coming
	{"delete a role", func(ctx context.Context, s *Store) error {
		return s.DeleteRole(ctx, "t", "room.mute", chat.Condition{})
	}, "", "member r cid"},
	{"give another role", func(ctx context.Context, s *Store) error {
		return second(s.PutMember(ctx, "t", "r", "bob", chat.RoleMember, chat.Condition{}))
	}, "r: role bob room.member", "member r bob"},
	{"one idle", func(ctx context.Context, s *Store) error {
		return third(s.SetIdle(ctx, "t", chat.Connection{ID: "c1", UserID: "cid"}, true))
	}, "", ""},
	{"all idle", func(ctx context.Context, s *Store) error {
		return third(s.SetIdle(ctx, "t", chat.Connection{ID: "c2", UserID: "cid"}, true))
	}, "", "presence  cid"},
	{"disconnect", func(ctx context.Context, s *Store) error {
		return errors.Join(s.Disconnect(ctx, "t", "c1"))
	}, "", ""},
	{"disconnect the last", func(ctx context.Context, s *Store) error {
		return errors.Join(s.Disconnect(ctx, "t", "c2"))
	}, "", ""},
	{"sweep", func(ctx context.Context, s *Store) error {
		return second(s.SweepOffline(ctx, "t", time.Now().Add(time.Hour)))
	}, "", "presence  cid"},
	{"say", func(ctx context.Context, s *Store) error {
		return third(s.AddMessage(ctx, "t", chat.Message{RoomID: "r", AuthorID: "ann", Text: "hello", Key: "k"}))
	}, "r: message ann 1 hello", ""},
	{"say again", func(ctx context.Context, s *Store) error {
		return third(s.AddMessage(ctx, "t", chat.Message{RoomID: "r", AuthorID: "ann", Text: "hello", Key: "k"}))
	}, "", ""},
	{"say in two rooms", func(ctx context.Context, s *Store) error {
		return second(s.AddMessages(ctx, "t", []chat.Message{{RoomID: "r", AuthorID: "bob", Text: "hi"}, {RoomID: "p", AuthorID: "bob", Text: "ho"}}))
	}, "p: message bob 1 ho; r: message bob 2 hi", ""},
	{"read", func(ctx context.Context, s *Store) error { return s.MarkRead(ctx, "t", "r", "cid", 1) }, "", "read r cid"},
	{"edit", func(ctx context.Context, s *Store) error {
		return second(s.EditMessage(ctx, "t", chat.Message{RoomID: "r", Seq: 1, Text: "HELLO"}, chat.Condition{}))
	}, "r: edited ann 1 HELLO", ""},
	{"delete a message", func(ctx context.Context, s *Store) error {
		return s.DeleteMessage(ctx, "t", "r", 2, chat.Condition{})
	}, "r: deleted bob 2", ""},
	{"open a direct room", func(ctx context.Context, s *Store) error { return third(s.DirectRoom(ctx, "t", "ann", "bob")) },
		"direct: created ann, invited bob", "member direct ann, member direct bob"},
	{"accept", func(ctx context.Context, s *Store) error { return third(s.DirectRoom(ctx, "t", "bob", "ann")) },
		"direct: joined bob", "member direct bob"},
	{"block", func(ctx context.Context, s *Store) error { return s.Block(ctx, "t", "bob", "ann") }, "", "blocked  bob, member direct ann, member direct bob"},
	{"block again", func(ctx context.Context, s *Store) error { return s.Block(ctx, "t", "bob", "ann") }, "", ""},
	{"unblock", func(ctx context.Context, s *Store) error { return s.Unblock(ctx, "t", "bob", "ann") }, "", "blocked  bob, member direct ann, member direct bob"},
	{"leave", func(ctx context.Context, s *Store) error { return second(s.Leave(ctx, "t", "r", "cid")) }, "r: left cid", "member r cid"},
	{"leave again", func(ctx context.Context, s *Store) error { return second(s.Leave(ctx, "t", "r", "cid")) }, "", ""},
	{"remove a member", func(ctx context.Context, s *Store) error {
		return s.RemoveMember(ctx, "t", "p", "cid", chat.Condition{})
	}, "p: left cid", "member p cid"},
	{"sign out", func(ctx context.Context, s *Store) error { return s.SignOut(ctx, "t", "ann") }, "", "user  ann"},
	{"remove a user", func(ctx context.Context, s *Store) error {
		return second(s.RemoveProfile(ctx, "t", "bob", chat.Condition{}))
	}, "direct: left bob; p: left bob; r: left bob", "member direct bob, member p bob, member r bob, user  bob"},
	{"a room of nobody's", func(ctx context.Context, s *Store) error {
		return third(s.PutRoom(ctx, "t", chat.Room{ID: "app", Title: "App"}, chat.Condition{}))
	}, "app: created chatr.service App", ""},
	{"a topic", func(ctx context.Context, s *Store) error {
		return third(s.PutRoom(ctx, "t", chat.Room{ID: chat.TopicRoom("app", "x"), Title: "X"}, chat.Condition{}))
	}, "topic_app.x: created chatr.service X", ""},
	{"a title", func(ctx context.Context, s *Store) error {
		return third(s.PutRoom(ctx, "t", chat.Room{ID: "app", Title: "New"}, chat.Condition{}))
	}, "app: title chatr.service New", ""},
	{"the same title", func(ctx context.Context, s *Store) error {
		return third(s.PutRoom(ctx, "t", chat.Room{ID: "app", Title: "New"}, chat.Condition{}))
	}, "", ""},
	{"remove a room", func(ctx context.Context, s *Store) error {
		return second(s.RemoveRoom(ctx, "t", "app", chat.Condition{}))
	}, "app: closed chatr.service New", "room app "},
	{"create it anew", func(ctx context.Context, s *Store) error {
		return third(s.PutRoom(ctx, "t", chat.Room{ID: "app", Title: "Anew"}, chat.Condition{}))
	}, "app: created chatr.service Anew", ""},
	{"delete a room", func(ctx context.Context, s *Store) error { return second(s.DeleteRoom(ctx, "t", "r", "ann")) },
		"r: closed ann Room", "room r "},
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// TestCrash ends each change at each of its steps: nothing of it has happened then, and when it ends, its events are
// there and what has to follow is owed, all by one COMMIT.
func TestCrash(t *testing.T) {
	t.Run("Postgres", func(t *testing.T) { crash(t, openPostgres(t, testkit.Postgres(t, MigratePostgres))) })
	t.Run("SQLite", func(t *testing.T) { crash(t, openSQLite(t, filepath.Join(t.TempDir(), "chat.db"))) })
}

func crash(t *testing.T, s *Store) {
	ctx := t.Context()
	for _, id := range []string{"ann", "bob", "cid"} {
		if err := s.SaveUser(ctx, "t", chat.User{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	direct := ""
	lastEvents := map[string]int64{}
	for _, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			before := dump(t, s)
			for steps := 0; ; steps++ {
				left := steps
				err := change.do(ctx, newStore(crashing{s.driver, &left}))
				if err == nil && left >= 0 {
					break
				}
				if !errors.Is(err, errCrash) {
					t.Fatalf("ended at step %d: got %v, want %v", steps, err, errCrash)
				}
				if now := dump(t, s); now != before {
					t.Fatalf("ended at step %d: got\n%s\nwant as before\n%s", steps, now, before)
				}
			}
			if direct == "" {
				ids, err := s.Memberships(ctx, "t", "ann")
				if err != nil {
					t.Fatal(err)
				}
				if i := slices.IndexFunc(ids, func(id string) bool { return strings.HasPrefix(id, chat.DirectPrefix) }); i >= 0 {
					direct = ids[i]
				}
			}
			var got []string
			for _, room := range []string{"app", direct, "p", "r", chat.TopicRoom("app", "x")} {
				if room == "" {
					continue
				}
				events, last, err := s.Events(ctx, "t", room, lastEvents[room], 0)
				if errors.Is(err, chat.ErrNotFound) {
					continue
				}
				if errors.Is(err, chat.ErrGone) && room == chat.TopicRoom("app", "x") {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				lastEvents[room] = last
				if room == direct {
					room = "direct"
				}
				var list []string
				for _, e := range events {
					number := e.Number
					e.Number = 0
					list = append(list, strings.TrimPrefix(eventList([]chat.Event{e}), "0 "))
					if number != last-int64(len(events)-len(list)) {
						t.Errorf("number of %s: got %d, last is %d", eventList([]chat.Event{e}), number, last)
					}
				}
				if len(list) > 0 {
					got = append(got, room+": "+strings.Join(list, ", "))
				}
			}
			slices.Sort(got)
			if got := strings.Join(got, "; "); got != change.events {
				t.Errorf("events: got %q, want %q", got, change.events)
			}
			effects, err := s.ClaimEffects(ctx, "t", 100, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			var owed []string
			for _, e := range effects {
				if e.RoomID == direct && direct != "" {
					e.RoomID = "direct"
				}
				owed = append(owed, fmt.Sprintf("%s %s %s", e.Kind, e.RoomID, e.UserID))
			}
			for _, e := range effects {
				if err := s.EffectPaid(ctx, "t", e); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(owed)
			if got := strings.Join(owed, ", "); got != change.owed {
				t.Errorf("owed: got %q, want %q", got, change.owed)
			}
		})
	}
}

// dump returns all that is stored, as text.
func dump(t *testing.T, s *Store) string {
	t.Helper()
	var all []string
	for _, table := range []string{"users", "connections", "rooms", "members", "departures", "messages", "message_events", "blocks", "roles", "room_events", "effects"} {
		query := `SELECT x::text FROM ` + table + ` x ORDER BY 1`
		if db, ok := s.driver.(*sqliteDB); ok {
			columns, err := collect(t.Context(), db, scanString, `SELECT name FROM pragma_table_info('`+table+`')`)
			if err != nil {
				t.Fatal(err)
			}
			query = `SELECT json_array(` + strings.Join(columns, ", ") + `) FROM ` + table + ` ORDER BY 1`
		}
		lines, err := collect(t.Context(), s.driver, scanString, query)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, table)
		all = append(all, lines...)
	}
	return strings.Join(all, "\n")
}

// TestDumpSeesEverything keeps dump whole when tables come.
func TestDumpSeesEverything(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "chat.db"))
	tables, err := collect(t.Context(), s.driver, scanString, `SELECT name FROM sqlite_schema WHERE type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(dump(t, s), "\n") {
		seen[line] = true
	}
	for _, table := range tables {
		if !seen[table] && !strings.HasPrefix(table, "sqlite_") {
			t.Errorf("table %s is not dumped; dumped are %v", table, slices.Sorted(maps.Keys(seen)))
		}
	}
}
