package chattest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// events lists what happened in a room and checks that the numbers have no gap.
func (s *suite) events(room string, after int64) (list []chat.Event) {
	s.Helper()
	for {
		page, last, err := s.store.Events(s.ctx, tenant, room, after, 0)
		s.must(err)
		for _, e := range page {
			after++
			equal(s, "number", e.Number, after)
			equal(s, "room", e.RoomID, room)
		}
		list = append(list, page...)
		if after == last {
			return list
		}
		if len(page) == 0 {
			s.Fatalf("events of %s end at %d, the last is %d", room, after, last)
		}
	}
}

func kinds(list []chat.Event) string {
	var words []string
	for _, e := range list {
		words = append(words, fmt.Sprint(e.Kind, " ", e.UserID))
	}
	return strings.Join(words, ", ")
}

func events(s *suite) {
	s.users("ann", "bob")
	list, last, err := s.store.Events(s.ctx, tenant, "nowhere", 0, 0)
	wantError(s, "events of an unknown room", err, chat.ErrNotFound)
	equal(s, "events", len(list)+int(last), 0)
	s.room("r", "ann")
	good := s.ctx
	s.ctx = chat.CausedBy(good, "bobs-connection", "bobs-event")
	_, err = s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	s.ctx = good
	sent := chat.Message{RoomID: "r", AuthorID: "ann", Text: "hello", Key: "k", Connection: "c", Binary: "AAECAw==", Heard: true,
		SentAt: time.Now().UTC().Add(-time.Minute).Truncate(time.Microsecond)}
	stored, _, err := s.store.AddMessage(s.ctx, tenant, sent)
	s.must(err)
	sent.AuthorName, sent.Seq, sent.Number = "ANN", 1, 3
	equal(s, "stored", stored, sent)
	again, isNew, err := s.store.AddMessage(s.ctx, tenant, sent)
	s.must(err)
	equal(s, "resent", again, sent)
	equal(s, "new by a resend", isNew, false)
	s.message("r", "bob", "so it is", "")
	_, err = s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 1, Text: "HELLO"}, chat.Condition{})
	s.must(err)
	s.must(s.store.DeleteMessage(s.ctx, tenant, "r", 2, chat.Condition{}))
	list = s.events("r", 0)
	equal(s, "events", kinds(list), "created ann, joined bob, message ann, message bob, edited ann, deleted bob")
	for i, want := range []chat.Event{
		{Title: "Room r", UserName: "ANN"},
		{UserName: "BOB", Connection: "bobs-connection", Cause: "bobs-event"},
		{UserName: "ANN", Seq: 1, Connection: "c", Heard: true, At: sent.SentAt},
		{UserName: "BOB", Seq: 2},
		{UserName: "ANN", Seq: 1},
		{UserName: "BOB", Seq: 2},
	} {
		got := list[i]
		if age := time.Since(got.At); age > time.Hour || age < -time.Minute {
			s.Errorf("time of event %d: got %v", got.Number, got.At)
		}
		if want.At.IsZero() {
			want.At = got.At
		}
		want.RoomID, want.RoomKind, want.Number, want.Kind, want.UserID = "r", chat.KindPublic, got.Number, got.Kind, got.UserID
		got.Message = nil
		equal(s, fmt.Sprint("event ", got.Number), got, want)
	}
	// A message is shown as it is now, by its own event too.
	sent.Text, sent.Binary = "HELLO", ""
	for _, i := range []int{2, 4} {
		if m := list[i].Message; m == nil || *m != sent {
			s.Errorf("message of event %d: got %v, want %v", i+1, m, sent)
		}
	}
	for _, i := range []int{0, 1, 3, 5} {
		if list[i].Message != nil {
			s.Errorf("event %d has a message: %v", i+1, list[i].Message)
		}
	}
	for where, want := range map[string]bool{"r bobs-event": true, "r another": false, "nowhere bobs-event": false} {
		room, cause, _ := strings.Cut(where, " ")
		caused, err := s.store.Caused(s.ctx, tenant, room, cause)
		s.must(err)
		equal(s, "caused in "+where, caused, want)
	}
	page, last, err := s.store.Events(s.ctx, tenant, "r", 2, 2)
	s.must(err)
	equal(s, "a page", kinds(page), "message ann, message bob")
	equal(s, "last", last, 6)
	page, _, err = s.store.Events(s.ctx, tenant, "r", 6, 2)
	s.must(err)
	equal(s, "nothing new", len(page), 0)
	for _, after := range []int64{7, 1 << 40, -1} {
		_, _, err = s.store.Events(s.ctx, tenant, "r", after, 2)
		wantError(s, fmt.Sprint("events after ", after), err, chat.ErrGone)
	}
	equal(s, "messages of the history", s.message("r", "bob", "more", "").Number, 7)
	history, err := s.store.History(s.ctx, tenant, "r", "ann", 0, 10)
	s.must(err)
	equalList(s, "numbers of the history", []int64{history[0].Number, history[1].Number}, 3, 7)

	_, err = s.store.DeleteRoom(s.ctx, tenant, "r", "ann")
	s.must(err)
	equal(s, "of a deleted room", kinds(s.events("r", 6)), "message bob, closed ann")
	_, created, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: "Anew"}, chat.Condition{})
	s.must(err)
	equal(s, "created anew", created, true)
	equal(s, "of a room created anew", kinds(s.events("r", 8)), "created chatr.service")
	_, _, err = s.store.Events(s.ctx, tenant, "r", 7, 0)
	wantError(s, "events of before", err, chat.ErrGone)
}

// topicEvents are a sequence of their own.
func topicEvents(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	topic := chat.TopicRoom("r", "x")
	_, _, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: topic, Title: "X"}, chat.Condition{})
	s.must(err)
	m := s.message(topic, "bob", "hello", "")
	equal(s, "sequence and number", [2]int64{m.Seq, m.Number}, [2]int64{1, 2})
	equal(s, "events of the topic", kinds(s.events(topic, 0)), "created chatr.service, message bob")
	equal(s, "events of the room", kinds(s.events("r", 0)), "created ann, joined bob")

	// Who may not speak in the room may not in its topics.
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.mute"}, chat.Condition{})
	s.must(err)
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", "room.mute", chat.Condition{})
	s.must(err)
	for _, id := range []string{"r", topic} {
		_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: id, AuthorID: "bob", Text: "hello"})
		wantError(s, "message of a muted member in "+id, err, chat.ErrMuted)
	}
	_, err = s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{})
	s.must(err)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: topic, AuthorID: "ann", Text: "hello?"})
	wantError(s, "message in a topic of a deleted room", err, chat.ErrNotFound)
	_, _, err = s.store.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: "Anew"}, chat.Condition{})
	s.must(err)
	_, err = s.store.Room(s.ctx, tenant, topic)
	wantError(s, "a topic of a room created anew", err, chat.ErrNotFound)
	_, _, err = s.store.PutRoom(s.ctx, tenant, chat.Room{ID: topic, Title: "X"}, chat.Condition{})
	s.must(err)
	equal(s, "events of the topic created anew", kinds(s.events(topic, 2)), "created chatr.service")
}

// speaking is decided in one place: what a role or a block forbids is forbidden, also to who has left and come back.
func speaking(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann", "bob")
	pair := s.direct("ann", "bob").ID
	_, err := s.store.Join(s.ctx, tenant, pair, "bob")
	s.must(err)
	may := func(room, user string, want error) {
		s.Helper()
		_, _, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: user, Text: "hello"})
		wantError(s, "message of "+user, err, want)
		m, err := s.store.Membership(s.ctx, tenant, room, user)
		s.must(err)
		equal(s, user+" may speak, says the membership", m.MaySpeak, want == nil)
		access, err := s.store.Access(s.ctx, tenant, user)
		s.must(err)
		for _, a := range access.Rooms {
			if a.RoomID == room {
				equal(s, user+" may speak, says the access", a.MaySpeak, want == nil)
			}
		}
	}
	may("r", "bob", nil)
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.mute", Permissions: []chat.Permission{chat.RoomHistory}}, chat.Condition{})
	s.must(err)
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", "room.mute", chat.Condition{})
	s.must(err)
	may("r", "bob", chat.ErrMuted)
	for round := range 2 {
		if round == 0 {
			_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
		} else {
			err = s.store.RemoveMember(s.ctx, tenant, "r", "bob", chat.Condition{})
		}
		s.must(err)
		_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "bob", Text: "late", SentAt: time.Now().Add(-time.Minute)})
		wantError(s, "message of a muted one who has left", err, chat.ErrMuted)
		_, err = s.store.Join(s.ctx, tenant, "r", "bob")
		s.must(err)
		may("r", "bob", chat.ErrMuted)
		m, _ := s.loadRoom("r").Member("bob")
		equal(s, "role", m.Role, "room.mute")
	}
	// Blocking and unblocking somebody gives nothing back that a role takes.
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	may(pair, "ann", chat.ErrMuted)
	may(pair, "bob", chat.ErrMuted)
	s.must(s.store.Unblock(s.ctx, tenant, "ann", "bob"))
	may(pair, "bob", nil)
	may("r", "bob", chat.ErrMuted)
	// Nor does deleting the role: a role that is not there allows nothing.
	s.must(s.store.DeleteRole(s.ctx, tenant, "room.mute", chat.Condition{}))
	may("r", "bob", chat.ErrMuted)
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", chat.RoleMember, chat.Condition{})
	s.must(err)
	may("r", "bob", nil)
	// A stored role replaces what everybody has without one.
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: chat.RoleMember}, chat.Condition{})
	s.must(err)
	may("r", "bob", chat.ErrMuted)
	may("r", "ann", nil) // room.operator
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "cid", Text: "hello"})
	wantError(s, "message of a stranger", err, chat.ErrForbidden)
	equal(s, "a stranger is muted", errors.Is(err, chat.ErrMuted), false)
}

// ownWords are read by who says them, if all before was.
func ownWords(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	wantRead := func(user string, want int64) {
		s.Helper()
		m, _ := s.loadRoom("r").Member(user)
		equal(s, "read by "+user, m.ReadSeq, want)
	}
	s.message("r", "ann", "one", "k1")
	wantRead("ann", 1)
	s.message("r", "bob", "two", "k2") // has not read the first
	wantRead("bob", 0)
	wantRead("ann", 1)
	batch := []chat.Message{{RoomID: "r", AuthorID: "bob", Text: "three"}, {RoomID: "r", AuthorID: "bob", Text: "four"}, {RoomID: "r", AuthorID: "ann", Text: "five", Key: "k5"}}
	s.must(s.store.MarkRead(s.ctx, tenant, "r", "bob", 2))
	_, err := s.store.AddMessages(s.ctx, tenant, batch)
	s.must(err)
	wantRead("bob", 4)
	wantRead("ann", 1)
	s.must(s.store.MarkRead(s.ctx, tenant, "r", "ann", 4))
	s.message("r", "ann", "five", "k5") // the answer was lost
	wantRead("ann", 5)
	s.message("r", "ann", "one", "k1")
	wantRead("ann", 5)
	topic := chat.TopicRoom("r", "x")
	_, _, err = s.store.PutRoom(s.ctx, tenant, chat.Room{ID: topic, Title: "X"}, chat.Condition{})
	s.must(err)
	for range 6 {
		s.message(topic, "bob", "elsewhere", "")
	}
	wantRead("bob", 4)
}

// tellings of several rooms are claimed and noted together, each as it would be alone.
func tellings(s *suite) {
	s.users("ann")
	for _, id := range []string{"a", "b", "c"} {
		s.room(id, "ann")
	}
	_, err := s.store.ClaimTellings(s.ctx, tenant, []string{"b"}, "other", time.Hour)
	s.must(err)
	held, err := s.store.ClaimTellings(s.ctx, tenant, []string{"c", "b", "nowhere", "a"}, "one", time.Hour)
	s.must(err)
	fresh := chat.Telling{Told: 0, Last: 1, Held: true}
	equal(s, "claimed", fmt.Sprint(held), fmt.Sprint(map[string]chat.Telling{"a": fresh, "c": fresh}))
	s.message("c", "ann", "hello", "")
	held, err = s.store.Told(s.ctx, tenant, "one", map[string]int64{"a": 1, "b": 1, "c": 1, "nowhere": 1}, time.Hour)
	s.must(err)
	equal(s, "more to tell", fmt.Sprint(held), fmt.Sprint(map[string]chat.Telling{"c": {Told: 1, Last: 2, Held: true}}))
	held, err = s.store.ClaimTellings(s.ctx, tenant, []string{"a", "b", "c"}, "one", time.Hour)
	s.must(err)
	equal(s, "nothing to tell, another's, its own", fmt.Sprint(held), fmt.Sprint(map[string]chat.Telling{"c": {Told: 1, Last: 2, Held: true}}))
	held, err = s.store.ClaimTellings(s.ctx, tenant, []string{"b"}, "other", time.Hour)
	s.must(err)
	equal(s, "another's is untouched", held["b"], chat.Telling{Told: 0, Last: 1, Held: true})
}

// telling is with one process at a time, and nothing is left untold.
func telling(s *suite) {
	s.users("ann")
	// as is how the owner has it or, when the owner has not got the lease, how it is.
	as := func(held map[string]chat.Telling, err error) chat.Telling {
		s.Helper()
		s.must(err)
		t, ok := held["r"]
		if !ok {
			t, err = s.store.TellingOf(s.ctx, tenant, "r")
			s.must(err)
			t.Held = false
		}
		return t
	}
	claim := func(owner string, ttl time.Duration) chat.Telling {
		s.Helper()
		return as(s.store.ClaimTellings(s.ctx, tenant, []string{"r"}, owner, ttl))
	}
	told := func(owner string, upTo int64) chat.Telling {
		s.Helper()
		return as(s.store.Told(s.ctx, tenant, owner, map[string]int64{"r": upTo}, time.Hour))
	}
	untold := func(want ...string) {
		s.Helper()
		ids, err := s.store.Untold(s.ctx, tenant, 10)
		s.must(err)
		equalList(s, "untold", ids, want...)
	}
	s.room("r", "ann")
	untold("r")
	how := func(want chat.Telling) {
		s.Helper()
		t, err := s.store.TellingOf(s.ctx, tenant, "r")
		s.must(err)
		equal(s, "how it is", t, want)
	}
	how(chat.Telling{Last: 1})
	equal(s, "the first", claim("one", time.Hour), chat.Telling{Told: 0, Last: 1, Held: true})
	how(chat.Telling{Last: 1, Held: true})
	untold()
	equal(s, "another", claim("two", time.Hour), chat.Telling{Told: 0, Last: 1})
	equal(s, "another has told", told("two", 1), chat.Telling{Told: 0, Last: 1})
	equal(s, "the first again", claim("one", time.Hour), chat.Telling{Told: 0, Last: 1, Held: true})
	s.message("r", "ann", "hello", "")
	equal(s, "told the first, with more to tell", told("one", 1), chat.Telling{Told: 1, Last: 2, Held: true})
	untold()
	equal(s, "told less", told("one", 0), chat.Telling{Told: 1, Last: 2, Held: true})
	equal(s, "told all, and more", told("one", 100), chat.Telling{Told: 2, Last: 2})
	untold()
	equal(s, "nothing to tell", claim("one", time.Hour), chat.Telling{Told: 2, Last: 2})
	equal(s, "told again", told("one", 1), chat.Telling{Told: 2, Last: 2})
	how(chat.Telling{Told: 2, Last: 2})
	s.message("r", "ann", "more", "")
	untold("r")
	// A process ends whose lease is over: another tells, and the first, if it is still there, learns it.
	equal(s, "claimed for no time", claim("one", -time.Second).Held, true)
	untold("r")
	equal(s, "claimed after its end", claim("two", time.Hour), chat.Telling{Told: 2, Last: 3, Held: true})
	equal(s, "told too late", told("one", 3), chat.Telling{Told: 2, Last: 3})
	equal(s, "told", told("two", 3), chat.Telling{Told: 3, Last: 3})
	// A deleted room's end is told too.
	_, err := s.store.DeleteRoom(s.ctx, tenant, "r", "ann")
	s.must(err)
	untold("r")
	equal(s, "the end", claim("one", time.Hour), chat.Telling{Told: 3, Last: 4, Held: true})
}

// concurrentEvents has processes change a room at once, while others follow it and tell it: every follower sees the same
// sequence without a gap, however late a change commits, and everything is told once and in order.
func concurrentEvents(s *suite) {
	store := s.processes()
	ids := numbered("user", 6)
	s.users("ann")
	s.users(ids...)
	s.room("r", "ann", ids[:3]...)
	var mu sync.Mutex
	var told []int64
	tell := func(st chat.Store, owner string) error {
		held, err := st.ClaimTellings(s.ctx, tenant, []string{"r"}, owner, time.Hour)
		for err == nil && held["r"].Held {
			var page []chat.Event
			if page, _, err = st.Events(s.ctx, tenant, "r", held["r"].Told, rand.IntN(4)+1); err != nil {
				break
			}
			mu.Lock()
			for _, e := range page {
				told = append(told, e.Number)
			}
			mu.Unlock()
			held, err = st.Told(s.ctx, tenant, owner, map[string]int64{"r": page[len(page)-1].Number}, time.Hour)
		}
		return err
	}
	const writers, followers, each1 = 6, 2, 15
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Add(writers)
	go func() { running.Wait(); close(done) }()
	followed := make([][]chat.Event, followers)
	each(s, writers+followers, func(i int) (err error) {
		st := store(i)
		if i >= writers {
			list := &followed[i-writers]
			for last, ended := int64(0), false; ; {
				page, now, err := st.Events(s.ctx, tenant, "r", last, 0)
				if err != nil {
					return err
				}
				for _, e := range page {
					if last++; e.Number != last {
						return fmt.Errorf("event %d follows %d", e.Number, last-1)
					}
				}
				*list = append(*list, page...)
				if ended && last == now {
					return nil
				}
				select {
				case <-done:
					ended = true
				default:
				}
			}
		}
		defer running.Done()
		for n := range each1 {
			switch user := ids[i]; rand.IntN(5) {
			case 0:
				_, err = st.Join(s.ctx, tenant, "r", user)
			case 1:
				_, err = st.Leave(s.ctx, tenant, "r", user)
			case 2:
				_, _, err = st.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: fmt.Sprint("Title ", i, n)}, chat.Condition{})
			case 3:
				_, err = st.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 1, Text: fmt.Sprint(i, n)}, chat.Condition{})
			default:
				_, err = st.AddMessages(s.ctx, tenant, []chat.Message{{RoomID: "r", AuthorID: "ann", Text: "hi"}, {RoomID: "r", AuthorID: "ann", Text: "ho"}})
			}
			if errors.Is(err, chat.ErrNotFound) {
				err = nil
			}
			if err == nil {
				err = tell(st, fmt.Sprint("process ", i))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	all := s.events("r", 0)
	for _, list := range followed {
		equal(s, "followed", kinds(list), kinds(all))
	}
	equal(s, "events told", len(told), len(all))
	for i, number := range told {
		equal(s, "told in order", number, int64(i+1))
	}
	ids, err := s.store.Untold(s.ctx, tenant, 10)
	s.must(err)
	equal(s, "untold rooms", len(ids), 0)
	var seq int64
	for _, e := range all {
		if e.Kind == chat.EventMessage {
			seq++
			equal(s, "sequence of the messages", e.Seq, seq)
		}
	}
}

// concurrentAdministration mixes what people and applications change, over few ids and by two processes: no call may fail
// for an internal reason, and in the end the events tell how each room has become what it is.
func concurrentAdministration(s *suite) {
	store := s.processes()
	ids := numbered("user", 4)
	s.users(ids...)
	rooms := []string{"r0", "r1"}
	for _, id := range rooms {
		s.room(id, ids[0])
	}
	random := func(list []string) string { return list[rand.IntN(len(list))] }
	each(s, 10, func(i int) error {
		st := store(i)
		for n := range 25 {
			one, other, room := random(ids), random(ids), random(rooms)
			var err error
			switch rand.IntN(16) {
			case 0:
				_, err = st.PutRole(s.ctx, tenant, chat.Role{Name: random([]string{"room.x", chat.RoleMember})}, chat.Condition{})
			case 1:
				err = st.DeleteRole(s.ctx, tenant, random([]string{"room.x", chat.RoleMember}), chat.Condition{})
			case 2:
				_, err = st.PutMember(s.ctx, tenant, room, one, random([]string{"room.x", chat.RoleOperator}), chat.Condition{})
			case 3:
				err = st.RemoveMember(s.ctx, tenant, room, one, chat.Condition{})
			case 4:
				_, err = st.RemoveProfile(s.ctx, tenant, one, chat.Condition{})
			case 5:
				_, err = st.PutProfile(s.ctx, tenant, chat.Profile{User: chat.User{ID: one, Name: fmt.Sprint("Name ", n)}, Role: chat.RoleUser}, chat.Condition{})
			case 6:
				_, _, err = st.PutRoom(s.ctx, tenant, chat.Room{ID: room, Title: fmt.Sprint("Title ", n)}, chat.Condition{})
			case 7:
				_, err = st.RemoveRoom(s.ctx, tenant, room, chat.Condition{})
			case 8:
				_, err = st.CreateRoom(s.ctx, tenant, chat.Room{ID: fmt.Sprint("p", i, "-", n), Title: "Ours", Kind: chat.KindPrivate, OwnerID: one, Members: []chat.Member{{UserID: other}}})
			case 9:
				_, _, err = st.DirectRoom(s.ctx, tenant, one, other)
			case 10:
				err = st.Block(s.ctx, tenant, one, other)
			case 11:
				err = st.Unblock(s.ctx, tenant, one, other)
			case 12:
				_, err = st.Leave(s.ctx, tenant, room, one)
			case 13:
				err = st.MarkRead(s.ctx, tenant, room, one, int64(n))
			case 14:
				_, err = st.AddMember(s.ctx, tenant, room, one)
			default:
				_, err = st.AddMessages(s.ctx, tenant, []chat.Message{{RoomID: "r1", AuthorID: one, Text: "hi"}, {RoomID: room, AuthorID: other, Text: "hi", Key: fmt.Sprint(n)}})
			}
			for _, allowed := range []error{chat.ErrForbidden, chat.ErrNotFound, chat.ErrInvalid} {
				if errors.Is(err, allowed) {
					err = nil
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, id := range rooms {
		_, _, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: id, Title: "The end"}, chat.Condition{})
		s.must(err)
		in, number := map[string]bool{ids[0]: true}, int64(0)
		_, last, err := s.store.Events(s.ctx, tenant, id, number, 1)
		for errors.Is(err, chat.ErrGone) { // of before it was created anew
			number++
			_, last, err = s.store.Events(s.ctx, tenant, id, number, 1)
		}
		s.must(err)
		for after := number; ; {
			page, newest, err := s.store.Events(s.ctx, tenant, id, after, 0)
			s.must(err)
			for _, e := range page {
				equal(s, "number", e.Number, number+1)
				switch number = e.Number; e.Kind {
				case chat.EventCreated:
					clear(in)
					in[e.UserID] = e.UserID != chat.ServiceUser
				case chat.EventClosed:
					clear(in)
				case chat.EventJoined, chat.EventLeft:
					in[e.UserID] = e.Kind == chat.EventJoined
				}
			}
			if after = number; number == newest {
				break
			}
		}
		equal(s, "last event", number, last)
		r := s.loadRoom(id)
		for _, user := range ids {
			_, is := r.Member(user)
			equal(s, user+" is in "+id+", say the events", in[user], is)
		}
	}
}
