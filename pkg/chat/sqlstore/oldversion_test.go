package sqlstore

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// oldVersion writes as the version before did that knew migrations 1 to 5: by its own statements, on connections of its own.
type oldVersion struct {
	t    *testing.T
	conn *pgx.Conn
}

func (o oldVersion) exec(statement string, args ...any) {
	o.t.Helper()
	if _, err := o.conn.Exec(o.t.Context(), statement, args...); err != nil {
		o.t.Errorf("%v, of the version before: %s", err, statement)
	}
}

func (o oldVersion) transaction(steps func()) {
	o.t.Helper()
	o.exec(`BEGIN`)
	steps()
	o.exec(`COMMIT`)
}

func (o oldVersion) saveUser(id string) {
	o.exec(`
		INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, id) DO UPDATE SET name = $3, provider = $4 WHERE users.name <> $3 OR users.provider <> $4`,
		"tenant", id, strings.ToUpper(id), "guest")
}

func (o oldVersion) addMember(room, user, state string) {
	o.exec(`
		INSERT INTO members (tenant, room_id, user_id, state, joined_at, read_seq)
		SELECT tenant, id, $3, $4, $5, last_seq FROM rooms WHERE tenant = $1 AND id = $2`,
		"tenant", room, user, state, time.Now())
}

func (o oldVersion) createRoom(id, owner string) {
	o.transaction(func() {
		o.exec(`
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant, id) DO NOTHING`, "tenant", id, "Room "+id, "public", owner, time.Now())
		o.addMember(id, owner, "joined")
	})
}

func (o oldVersion) directRoom(id, from, to string) {
	o.transaction(func() {
		o.exec(`
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at, low_id, high_id)
			VALUES ($1, $2, '', 'direct', $3, $4, $5, $6) ON CONFLICT (tenant, low_id, high_id) DO NOTHING`,
			"tenant", id, from, time.Now(), min(from, to), max(from, to))
		o.addMember(id, from, "joined")
		o.addMember(id, to, "invited")
	})
}

// addMessages stores texts with the sequences that follow.
func (o oldVersion) addMessages(room, author string, texts ...string) {
	o.transaction(func() {
		o.exec(`SELECT FROM rooms WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE`, "tenant", []string{room})
		var last int64
		if err := o.conn.QueryRow(o.t.Context(), `SELECT last_seq FROM rooms WHERE tenant = 'tenant' AND id = $1`, room).Scan(&last); err != nil {
			o.t.Fatal(err)
		}
		var rooms, authors, keys []string
		var seqs, refs []int64
		var sent []time.Time
		for i := range texts {
			rooms, authors, keys = append(rooms, room), append(authors, author), append(keys, "")
			seqs, refs, sent = append(seqs, last+int64(i)+1), append(refs, 0), append(sent, time.Now())
		}
		o.exec(`
		WITH stored AS (
			INSERT INTO messages (tenant, room_id, seq, author_id, text, key, sent_at, ref)
			SELECT $1, room_id, seq, author_id, text, nullif(key, ''), sent_at, nullif(ref, 0)
			FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bigint[])
				AS given (room_id, seq, author_id, text, key, sent_at, ref)
			RETURNING room_id, seq
		), newest AS (SELECT room_id, max(seq) AS seq FROM stored GROUP BY room_id)
		UPDATE rooms SET last_seq = newest.seq FROM newest WHERE tenant = $1 AND id = newest.room_id`,
			"tenant", rooms, seqs, authors, texts, keys, sent, refs)
	})
}

// leave is done again when somebody else changed the same membership, as the person does who is told that it has failed.
func (o oldVersion) leave(room, user string) {
	const leave = `
		WITH gone AS (DELETE FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3 RETURNING room_id)
		INSERT INTO departures (tenant, room_id, user_id, left_at) SELECT $1, room_id, $3, $4 FROM gone
		ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET left_at = excluded.left_at`
	for {
		_, err := o.conn.Exec(o.t.Context(), leave, "tenant", room, user, time.Now())
		if stateOf(err) == deadlock {
			continue
		}
		if err != nil {
			o.t.Error(err)
		}
		return
	}
}

func (o oldVersion) removeMember(room, user string) {
	o.transaction(func() {
		o.exec(`DELETE FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, "tenant", room, user)
		o.exec(`
		INSERT INTO departures (tenant, room_id, user_id, left_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET left_at = excluded.left_at`,
			"tenant", room, user, time.Now())
	})
}

func (o oldVersion) giveRole(room, user, role string) {
	o.exec(`UPDATE members SET role = $4 WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, "tenant", room, user, role)
}

func (o oldVersion) accept(room, user string) {
	o.exec(`UPDATE members SET state = 'joined' WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, "tenant", room, user)
}

func (o oldVersion) markRead(room, user string, seq int) {
	o.exec(`
		UPDATE members SET read_seq = greatest(read_seq, least($4, last_seq)) FROM rooms
		WHERE members.tenant = $1 AND room_id = $2 AND user_id = $3
		AND rooms.tenant = $1 AND rooms.id = $2 AND deleted_at IS NULL`, "tenant", room, user, seq)
}

func (o oldVersion) edit(room string, seq int, text string) {
	o.exec(`UPDATE messages SET text = $4, binary_text = nullif($5, '') WHERE tenant = $1 AND room_id = $2 AND seq = $3`,
		"tenant", room, seq, text, "")
}

func (o oldVersion) deleteMessage(room string, seq int) {
	o.exec(`UPDATE messages SET deleted_at = $4 WHERE tenant = $1 AND room_id = $2 AND seq = $3`, "tenant", room, seq, time.Now())
}

func (o oldVersion) giveTitle(room, title string) {
	o.exec(`UPDATE rooms SET title = $3 WHERE tenant = $1 AND id = $2`, "tenant", room, title)
}

func (o oldVersion) deleteRoom(room, by string) {
	o.transaction(func() {
		o.exec(`UPDATE rooms SET deleted_at = $3, deleted_by = $4 WHERE tenant = $1 AND id = $2`, "tenant", room, time.Now(), by)
		o.exec(`DELETE FROM members WHERE tenant = $1 AND room_id = $2`, "tenant", room)
	})
}

func (o oldVersion) block(by, other string) {
	o.exec(`INSERT INTO blocks (tenant, by_id, other_id, blocked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		"tenant", by, other, time.Now())
}

func (o oldVersion) createAnew(room string) {
	o.transaction(func() {
		o.exec(`INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, 'Service', 'service') ON CONFLICT (tenant, id) DO NOTHING`, "tenant", chat.ServiceUser)
		o.exec(`DELETE FROM messages WHERE tenant = $1 AND room_id = $2`, "tenant", room)
		o.exec(`DELETE FROM messages WHERE tenant = $1 AND starts_with(room_id, $2)`, "tenant", chat.TopicRoom(room, ""))
		o.exec(`DELETE FROM rooms WHERE tenant = $1 AND starts_with(id, $2)`, "tenant", chat.TopicRoom(room, ""))
		o.exec(`DELETE FROM departures WHERE tenant = $1 AND room_id = $2`, "tenant", room)
		o.exec(`INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES ($1, $2, $3, 'private', $4, $5)
			ON CONFLICT (tenant, id) DO UPDATE SET title = $3, kind = 'private', owner_id = $4, created_at = $5, last_seq = 0, deleted_at = NULL, deleted_by = NULL`,
			"tenant", room, "Anew", chat.ServiceUser, time.Now())
	})
}

// TestPostgresOldVersion fills a store as the version before did, migrates it, and goes on writing by both versions in
// turn: every step is an event, in one sequence, and the new version reads what the old one has written.
func TestPostgresOldVersion(t *testing.T) {
	ctx := t.Context()
	url := testkit.Postgres(t, nil)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	old := oldVersion{t, conn}
	list, err := scripts("postgres")
	if err != nil {
		t.Fatal(err)
	}
	old.exec(`CREATE TABLE chatr_schema (version integer NOT NULL)`)
	for i, script := range list[:5] {
		old.exec(script)
		old.exec(`INSERT INTO chatr_schema (version) VALUES ($1)`, i+1)
	}
	for _, id := range []string{"ann", "bob", "cid", "dan"} {
		old.saveUser(id)
	}
	old.createRoom("r", "ann")
	old.addMember("r", "bob", "joined")
	old.directRoom("private_x", "ann", "bob")
	old.addMessages("r", "ann", "one", "two", "three")
	old.addMessages("private_x", "bob", "hello")
	old.deleteMessage("r", 2)
	old.createRoom("empty", "ann")

	s := openPostgres(t, url)
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	wantEvents := func(room string, after int64, want ...string) {
		t.Helper()
		events, last, err := s.Events(ctx, "tenant", room, after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := eventList(events); got != strings.Join(want, ", ") {
			t.Errorf("events of %s: got  %s\nwant %s", room, got, strings.Join(want, ", "))
		}
		if last != after+int64(len(want)) {
			t.Errorf("last event of %s: got %d, want %d", room, last, after+int64(len(want)))
		}
	}
	wantEvents("r", 0, "1 message ann 1 one", "2 message ann 2", "3 message ann 3 three")
	wantEvents("private_x", 0, "1 message bob 1 hello")
	wantEvents("empty", 0)
	if untold, err := s.Untold(ctx, "tenant", 10); err != nil || len(untold) > 0 {
		t.Errorf("rooms to tell after the migration: got %v, %v, want none", untold, err)
	}

	say := func(room, author, text string) {
		t.Helper()
		if _, _, err := s.AddMessage(ctx, "tenant", chat.Message{RoomID: room, AuthorID: author, Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	join := func(room, user string) {
		t.Helper()
		if _, err := s.Join(ctx, "tenant", room, user); err != nil {
			t.Fatal(err)
		}
	}
	say("r", "ann", "four")
	old.addMessages("r", "bob", "five", "six")
	join("r", "cid")
	old.addMember("r", "dan", "joined")
	old.addMessages("r", "dan", "seven")
	say("r", "cid", "eight")
	old.edit("r", 1, "ONE")
	old.deleteMessage("r", 3)
	old.giveTitle("r", "New")
	old.giveRole("r", "bob", "room.mute")
	old.leave("r", "bob")
	old.removeMember("r", "dan")
	old.markRead("r", "cid", 3)
	wantEvents("r", 3, "4 message ann 4 four", "5 message bob 5 five heard", "6 message bob 6 six heard", "7 joined cid",
		"8 joined dan heard", "9 message dan 7 seven heard", "10 message cid 8 eight", "11 edited ann 1 ONE heard",
		"12 deleted ann 3 heard", "13 title chatr.service New heard", "14 role bob room.mute heard", "15 left bob heard", "16 left dan heard")
	join("r", "bob")
	m, err := s.Membership(ctx, "tenant", "r", "bob")
	if err != nil || m.Role.Name != "room.mute" || m.MaySpeak {
		t.Errorf("who left by the old version with a role and is back: got %v, %v", m, err)
	}

	before := revisions(t, s, "ann", "bob", "cid", "dan")
	old.accept("private_x", "bob")
	old.block("ann", "bob")
	old.markRead("r", "cid", 8)
	old.deleteRoom("r", "ann")
	after := revisions(t, s, "ann", "bob", "cid", "dan")
	for i, wantRaised := range []bool{true, true, true, false} {
		if raised := after[i] > before[i]; raised != wantRaised {
			t.Errorf("revision of list %d raised: got %v, want %v", i, raised, wantRaised)
		}
	}
	wantEvents("r", 16, "17 joined bob", "18 closed ann New heard")
	wantEvents("private_x", 1, "2 joined bob heard")
	old.createAnew("r")
	old.addMember("r", "ann", "joined")
	old.addMessages("r", "ann", "again")
	say("r", "ann", "and again")
	wantEvents("r", 18, "19 created chatr.service Anew heard", "20 joined ann heard", "21 message ann 1 again heard", "22 message ann 2 and again")
	if _, _, err := s.Events(ctx, "tenant", "r", 17, 0); err == nil {
		t.Error("events of before a room was created anew are listed")
	}
	old.createRoom("another", "bob")
	wantEvents("another", 0, "1 created bob Room another heard", "2 joined bob heard")
}

// join is what the version before does for its Join; it reports whether the user was none before.
func (o oldVersion) join(room, user string) {
	o.transaction(func() {
		o.exec(`SELECT id FROM users WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE`, "tenant", []string{user})
		o.exec(`SELECT kind, owner_id FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE`, "tenant", room)
		var in bool
		err := o.conn.QueryRow(o.t.Context(), `SELECT EXISTS (SELECT FROM members WHERE tenant = 'tenant' AND room_id = $1 AND user_id = $2)`, room, user).Scan(&in)
		if err != nil {
			o.t.Error(err)
		}
		if !in {
			o.addMember(room, user, "joined")
		}
	})
}

// TestPostgresVersionsAtOnce has both versions change the same room at the same time: nobody is in the other's way, and the
// events are one sequence that tells how the room has become what it is.
func TestPostgresVersionsAtOnce(t *testing.T) {
	ctx := t.Context()
	url := testkit.Postgres(t, MigratePostgres)
	s := openPostgres(t, url)
	users := []string{"ann", "bob", "cid"}
	for _, id := range users {
		if err := s.SaveUser(ctx, "tenant", chat.User{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateRoom(ctx, "tenant", chat.Room{ID: "r", Title: "Room", OwnerID: "ann"}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	const rounds = 30
	for i := range 3 {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(t.Context()) })
		old := oldVersion{t, conn}
		user := users[i]
		all.Go(func() {
			for n := range rounds {
				switch n % 5 {
				case 0:
					old.join("r", user)
				case 1, 2:
					old.addMessages("r", "ann", "from the old", "and more")
				case 3:
					old.markRead("r", user, n)
				case 4:
					if user != "ann" {
						old.leave("r", user)
					}
				}
			}
		})
		all.Go(func() {
			for n := range rounds {
				var err error
				switch n % 5 {
				case 0:
					_, err = s.Join(ctx, "tenant", "r", user)
				case 1, 2:
					_, _, err = s.AddMessage(ctx, "tenant", chat.Message{RoomID: "r", AuthorID: "ann", Text: "from the new"})
				case 3:
					_, err = s.PutMember(ctx, "tenant", "r", user, []string{chat.RoleMember, chat.RoleOperator}[n%2], chat.Condition{})
				case 4:
					if user != "ann" {
						_, err = s.Leave(ctx, "tenant", "r", user)
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	in, seq := map[string]bool{"ann": true}, int64(0)
	for last := int64(0); ; {
		events, newest, err := s.Events(ctx, "tenant", "r", last, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if last++; e.Number != last {
				t.Fatalf("event %d follows %d", e.Number, last-1)
			}
			switch e.Kind {
			case chat.EventJoined:
				in[e.UserID] = true
			case chat.EventLeft:
				in[e.UserID] = false
			case chat.EventMessage:
				if seq++; e.Seq != seq {
					t.Errorf("message %d follows %d", e.Seq, seq-1)
				}
			}
		}
		if last == newest {
			break
		}
	}
	room, err := s.Room(ctx, "tenant", "r")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range users {
		if _, is := room.Member(id); is != in[id] {
			t.Errorf("%s is in: %v, the events say %v", id, is, in[id])
		}
	}
	if room.LastSeq != seq || seq != 3*2*rounds/5*3 {
		t.Errorf("last sequence: got %d, want %d, the events say %d", room.LastSeq, 3*2*rounds/5*3, seq)
	}
}

func revisions(t *testing.T, s *Store, users ...string) (list []int64) {
	t.Helper()
	for _, id := range users {
		own, err := s.OwnRooms(t.Context(), "tenant", id, chat.Place{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, own.Revision)
	}
	return list
}

// eventList says what has happened, in a few words.
func eventList(events []chat.Event) string {
	var list []string
	for _, e := range events {
		words := fmt.Sprint(e.Number, " ", e.Kind, " ", e.UserID)
		if e.Seq > 0 {
			words += fmt.Sprint(" ", e.Seq)
		}
		if e.Message != nil {
			words += " " + e.Message.Text
		}
		for _, more := range []string{e.Title, e.Role} {
			if more != "" {
				words += " " + more
			}
		}
		if e.Heard {
			words += " heard"
		}
		list = append(list, words)
	}
	return strings.Join(list, ", ")
}
