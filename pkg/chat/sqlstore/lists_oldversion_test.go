package sqlstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestPostgresListsOfTwoVersions has both versions change somebody's memberships at the same time, while that person follows
// the own list by nothing but its revisions: what the triggers of the version before note is as complete.
func TestPostgresListsOfTwoVersions(t *testing.T) {
	ctx := t.Context()
	url := testkit.Postgres(t, MigratePostgres)
	s := openPostgres(t, url)
	for _, id := range []string{"ann", "bob"} {
		if err := s.SaveUser(ctx, "tenant", chat.User{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	rooms := []string{"r0", "r1", "r2", "r3"}
	for _, id := range rooms {
		if _, err := s.CreateRoom(ctx, "tenant", chat.Room{ID: id, Title: id, OwnerID: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	fact := func(v chat.RoomView) string { return fmt.Sprint(v.State, v.Role.Name, v.ReadSeq) }
	known, revision := map[string]string{}, int64(0)
	follow := func() error {
		for {
			c, err := s.ChangedRooms(ctx, "tenant", "bob", revision, 1)
			if err != nil {
				return err
			}
			for _, v := range c.Rooms {
				known[v.Room.ID] = fact(v)
			}
			for _, id := range c.Gone {
				delete(known, id)
			}
			if revision = c.Revision; !c.More {
				return nil
			}
		}
	}

	var writers, reader sync.WaitGroup
	for i := range 2 {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		old := oldVersion{t, conn}
		mine := rooms[2*i : 2*i+2]
		writers.Go(func() {
			for range 60 {
				switch room := mine[rand.IntN(len(mine))]; rand.IntN(4) {
				case 0:
					old.join(room, "bob")
				case 1:
					old.leave(room, "bob")
				case 2:
					old.addMessages(room, "ann", "more")
					old.markRead(room, "bob", 1_000)
				default:
					old.transaction(func() { // with its locks
						old.exec(`SELECT id FROM users WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE`, "tenant", []string{"bob"})
						old.exec(`SELECT kind FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE`, "tenant", room)
						old.giveRole(room, "bob", []string{chat.RoleMember, chat.RoleOperator}[rand.IntN(2)])
					})
				}
			}
			for _, room := range mine { // whatever was last
				old.join(room, "bob")
				old.addMessages(room, "ann", "the end")
				old.markRead(room, "bob", 1_000)
			}
		})
		writers.Go(func() {
			for range 60 {
				var err error
				switch room := rooms[rand.IntN(len(rooms))]; rand.IntN(3) {
				case 0:
					_, err = s.Join(ctx, "tenant", room, "bob")
				case 1:
					_, err = s.Leave(ctx, "tenant", room, "bob")
				default:
					_, err = s.PutMember(ctx, "tenant", room, "bob", chat.RoleMember, chat.Condition{})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	working, done := context.WithCancel(ctx)
	reader.Go(func() {
		for working.Err() == nil {
			if err := follow(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	done()
	reader.Wait()
	if err := follow(); err != nil {
		t.Fatal(err)
	}
	own, err := s.OwnRooms(ctx, "tenant", "bob", chat.Place{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, v := range own.Rooms {
		want[v.Room.ID] = fact(v)
	}
	if fmt.Sprint(known) != fmt.Sprint(want) || revision != own.Revision {
		t.Errorf("got %v at revision %d by changes, want %v at %d", known, revision, want, own.Revision)
	}
}
