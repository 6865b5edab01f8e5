package chattest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// simultaneous is how many do the same at once.
const simultaneous = 50

// processes opens the database twice and returns one or the other.
func (s *suite) processes() func(i int) chat.Store {
	both := []chat.Store{s.store, s.open()}
	return func(i int) chat.Store { return both[i%2] }
}

func restart(s *suite) {
	s.users("ann", "bob")
	s.connect("ann", "c1")
	r := s.room("r", "ann", "bob")
	m := s.message("r", "bob", "hello", "k")
	s.must(s.store.Close())
	s.store = s.open()
	s.must(s.store.Ready(s.ctx))
	s.must(s.store.Migrate(s.ctx)) // again
	s.wantOnline("ann")
	page, err := s.store.History(s.ctx, tenant, r.ID, "ann", 0, 10)
	s.must(err)
	equalList(s, "history after a restart", page, m)
	equal(s, "resend after a restart", s.message("r", "bob", "hello", "k"), m)
}

func concurrentJoins(s *suite) {
	ids, store := numbered("user", simultaneous), s.processes()
	s.users("ann")
	s.users(ids...)
	s.room("r", "ann")
	each(s, simultaneous, func(i int) error {
		changed, err := store(i).Join(s.ctx, tenant, "r", ids[i])
		if err == nil && !changed {
			err = fmt.Errorf("joining %s changed nothing", ids[i])
		}
		return err
	})
	r := s.loadRoom("r")
	equal(s, "members", len(r.Members), simultaneous+1)
	for _, id := range ids {
		if m, ok := r.Member(id); !ok || m.State != chat.StateJoined {
			s.Errorf("%s is not a joined member", id)
		}
	}
}

func concurrentMessages(s *suite) {
	store := s.processes()
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	each(s, simultaneous, func(i int) error {
		author := []string{"ann", "bob"}[i/2%2]
		_, _, err := store(i).AddMessage(s.ctx, tenant,
			chat.Message{RoomID: "r", AuthorID: author, Text: fmt.Sprint("line ", i), Key: fmt.Sprint(i)})
		return err
	})
	page, err := s.store.History(s.ctx, tenant, "r", "ann", 0, chat.MaxPage)
	s.must(err)
	texts := map[string]bool{}
	for i, m := range page {
		equal(s, "sequence", m.Seq, int64(i+1))
		texts[m.Text] = true
	}
	equal(s, "different messages", len(texts), simultaneous)
	equal(s, "last sequence", s.loadRoom("r").LastSeq, simultaneous)
}

func concurrentResends(s *suite) {
	store := s.processes()
	s.users("ann")
	s.room("r", "ann")
	var mu sync.Mutex
	created := 0
	each(s, simultaneous, func(i int) error {
		m, isNew, err := store(i).AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "once", Key: "k"})
		if err == nil && m.Seq != 1 {
			err = fmt.Errorf("sequence: got %d, want 1", m.Seq)
		}
		mu.Lock()
		defer mu.Unlock()
		if isNew {
			created++
		}
		return err
	})
	equal(s, "messages created", created, 1)
	equal(s, "last sequence", s.loadRoom("r").LastSeq, 1)
}

func concurrentDirectRooms(s *suite) {
	store := s.processes()
	s.users("ann", "bob")
	rooms := make([]chat.Room, simultaneous)
	created := make([]bool, simultaneous)
	each(s, simultaneous, func(i int) (err error) {
		from, to := "ann", "bob"
		if i/2%2 == 1 {
			from, to = to, from
		}
		rooms[i], created[i], err = store(i).DirectRoom(s.ctx, tenant, from, to)
		return err
	})
	creations := 0
	for i, r := range rooms {
		equal(s, "id", r.ID, rooms[0].ID)
		if created[i] {
			creations++
		}
	}
	equal(s, "rooms created", creations, 1)
	equal(s, "members", len(s.loadRoom(rooms[0].ID).Members), 2)
}

func concurrentCreation(s *suite) {
	ids, store := numbered("user", simultaneous), s.processes()
	s.users(ids...)
	errs := make([]error, simultaneous)
	each(s, simultaneous, func(i int) error {
		_, errs[i] = store(i).CreateRoom(s.ctx, tenant, chat.Room{ID: "r", Title: "Mine", OwnerID: ids[i]})
		return nil
	})
	winners := 0
	for i, err := range errs {
		if err != nil {
			wantError(s, "creating a room that another creates", err, chat.ErrExists)
			continue
		}
		winners++
		equal(s, "owner", s.loadRoom("r").OwnerID, ids[i])
	}
	equal(s, "rooms created", winners, 1)
	equal(s, "members", len(s.loadRoom("r").Members), 1)
}

func concurrentSweeps(s *suite) {
	ids, store := numbered("user", simultaneous), s.processes()
	s.users(ids...)
	for _, id := range ids {
		s.connect(id, id)
		s.must(s.store.Disconnect(s.ctx, tenant, id))
	}
	var mu sync.Mutex
	var swept []string
	each(s, 8, func(i int) error {
		users, err := store(i).SweepOffline(s.ctx, tenant, ever())
		mu.Lock()
		defer mu.Unlock()
		for _, u := range users {
			swept = append(swept, u.ID)
		}
		return err
	})
	users, err := s.store.SweepOffline(s.ctx, tenant, ever()) // those that all held back from
	s.must(err)
	for _, u := range users {
		swept = append(swept, u.ID)
	}
	slices.Sort(swept)
	equalList(s, "users swept by all", swept, ids...)
}

// concurrentIdleness has all connections of a user go idle at once: the last one counts, and one change is seen.
func concurrentIdleness(s *suite) {
	store, ids := s.processes(), numbered("c", 20)
	s.users("ann")
	s.connect("ann", ids...)
	for _, idle := range []bool{true, false} {
		changes := make([]bool, len(ids))
		each(s, len(ids), func(i int) (err error) {
			_, changes[i], err = store(i).SetIdle(s.ctx, tenant, chat.Connection{ID: ids[i], UserID: "ann"}, idle)
			return err
		})
		changed := 0
		for _, c := range changes {
			if c {
				changed++
			}
		}
		equal(s, "changes reported", changed, 1)
		s.wantIdle("ann", idle)
	}
}

// concurrentDisconnects has all connections of each user go at once: everybody is swept, nobody stays a ghost.
func concurrentDisconnects(s *suite) {
	store, ids := s.processes(), numbered("user", 10)
	s.users(ids...)
	for _, id := range ids {
		s.connect(id, id+"a", id+"b", id+"c", id+"d")
	}
	each(s, 4*len(ids), func(i int) error {
		return store(i).Disconnect(s.ctx, tenant, ids[i/4]+string("abcd"[i%4]))
	})
	s.wantSwept(ids...)
}

func concurrentLimits(s *suite) {
	store := s.processes()
	s.users("ann")
	for i := range chat.MaxOwnedRooms - 1 {
		s.room(fmt.Sprint("r", i), "ann")
	}
	errs := make([]error, 10)
	each(s, len(errs), func(i int) error {
		_, errs[i] = store(i).CreateRoom(s.ctx, tenant, chat.Room{ID: fmt.Sprint("more", i), Title: "More", OwnerID: "ann"})
		return nil
	})
	created := 0
	for _, err := range errs {
		if err == nil {
			created++
			continue
		}
		wantError(s, "one room too many", err, chat.ErrLimit)
	}
	equal(s, "rooms created below the limit", created, 1)
}

// concurrentEverything mixes all that writes, over few ids: no call may fail for an internal reason such as a
// deadlock, and the sequences stay whole.
func concurrentEverything(s *suite) {
	store := s.processes()
	ids := numbered("user", 4)
	s.users(ids...)
	s.room("r0", ids[0])
	s.room("r1", ids[1])
	random := func(list []string) string { return list[rand.IntN(len(list))] }
	each(s, 12, func(i int) error {
		st := store(i)
		for n := range 25 {
			one, other, room, connection := random(ids), random(ids), random([]string{"r0", "r1"}), random([]string{"c0", "c1", "c2"})
			var err error
			switch rand.IntN(13) {
			case 0:
				_, err = st.Join(s.ctx, tenant, room, one)
			case 1:
				_, err = st.Leave(s.ctx, tenant, room, one)
			case 2:
				_, _, err = st.DirectRoom(s.ctx, tenant, one, other)
			case 3:
				err = st.Block(s.ctx, tenant, one, other)
			case 4:
				err = st.Unblock(s.ctx, tenant, one, other)
			case 5:
				_, err = st.Connect(s.ctx, tenant, chat.Connection{ID: one + connection, UserID: one})
			case 6:
				err = st.Disconnect(s.ctx, tenant, one+connection)
			case 7:
				_, _, err = st.SetIdle(s.ctx, tenant, chat.Connection{ID: one + connection, UserID: one}, n%2 == 0)
			case 8:
				_, err = st.SweepOffline(s.ctx, tenant, ever())
			case 9:
				_, err = st.ClaimConnections(s.ctx, tenant, ever(), 5)
			case 10:
				err = st.MarkRead(s.ctx, tenant, room, one, 3)
			case 11:
				err = st.SaveUser(s.ctx, tenant, chat.User{ID: one, Name: fmt.Sprint(one, n), Provider: "guest"})
			default:
				_, _, err = st.AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: one, Text: "hi", Key: fmt.Sprint(n)})
			}
			if err != nil && !errors.Is(err, chat.ErrForbidden) && !errors.Is(err, chat.ErrNotFound) && !errors.Is(err, chat.ErrInvalid) {
				return err
			}
		}
		return nil
	})
	for _, id := range []string{"r0", "r1"} {
		_, err := s.store.Join(s.ctx, tenant, id, ids[0])
		s.must(err)
		page, err := s.store.History(s.ctx, tenant, id, ids[0], 0, chat.MaxPage)
		s.must(err)
		for i, m := range page {
			equal(s, "sequence", m.Seq, int64(i+1))
		}
		equal(s, "last sequence", s.loadRoom(id).LastSeq, int64(len(page)))
	}
}

// cancelled calls end at once, change nothing, and leave the store usable.
func cancelled(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann")
	good := s.ctx
	ctx, cancel := context.WithTimeout(good, time.Hour)
	cancel()
	s.ctx = ctx
	for method, call := range s.calls(tenant, "ann", "bob", "r", "c") {
		wantError(s, method, call(), context.Canceled)
	}
	s.ctx = good
	equal(s, "messages", s.loadRoom("r").LastSeq, 0)
	equal(s, "next sequence", s.message("r", "ann", "hi", "").Seq, 1)
}
