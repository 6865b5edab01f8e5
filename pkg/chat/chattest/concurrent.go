package chattest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// simultaneous is how many do the same at once; what needs luck to go wrong is tried that many rounds.
const (
	simultaneous = 50
	rounds       = 25
)

// processes opens the database twice and returns one or the other. Their connections are there already, so that
// calls meet.
func (s *suite) processes() func(i int) chat.Store {
	s.Helper()
	both := []chat.Store{s.store, s.open()}
	store := func(i int) chat.Store { return both[i%2] }
	each(s, simultaneous, func(i int) error {
		_, err := store(i).Online(s.ctx, tenant)
		return err
	})
	return store
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
	for round := range rounds {
		stored, created := make([]chat.Message, 8), make([]bool, 8)
		each(s, len(stored), func(i int) (err error) {
			stored[i], created[i], err = store(i).AddMessage(s.ctx, tenant,
				chat.Message{RoomID: "r", AuthorID: "ann", Text: "once", Key: fmt.Sprint(round)})
			return err
		})
		for _, m := range stored {
			equal(s, "sequence", m.Seq, int64(round+1))
		}
		equal(s, "messages created", count(created), 1)
	}
	equal(s, "last sequence", s.loadRoom("r").LastSeq, rounds)
}

// concurrentBatches has processes store the same messages of many rooms at once, each in an order of its own: nobody
// waits for another in a circle, every message is stored once, and no sequence is missing.
func concurrentBatches(s *suite) {
	store := s.processes()
	rooms := numbered("r", 8)
	s.users("ann")
	for _, room := range rooms {
		s.room(room, "ann")
	}
	const perRoom = 2 // messages of a batch in each room
	created := make([]int, 6)
	each(s, len(created), func(i int) error {
		for round := range rounds {
			var batch []chat.Message
			for _, room := range rooms {
				for n := range perRoom {
					key := fmt.Sprint(round*perRoom/2 + n) // half of them are in the next batch too
					batch = append(batch, chat.Message{RoomID: room, AuthorID: "ann", Text: "line " + key, Key: key})
				}
			}
			rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			outcomes, err := store(i).AddMessages(s.ctx, tenant, batch)
			if err != nil {
				return err
			}
			for j, o := range outcomes {
				if o.Err != nil || o.Message.Key != batch[j].Key || o.Message.RoomID != batch[j].RoomID {
					return fmt.Errorf("outcome of %v: got %v", batch[j], o)
				}
				if o.Created {
					created[i]++
				}
			}
		}
		return nil
	})
	different := (rounds + 1) * perRoom / 2
	total := 0
	for _, n := range created {
		total += n
	}
	equal(s, "messages created", total, different*len(rooms))
	for _, room := range rooms {
		page, err := s.store.History(s.ctx, tenant, room, "ann", 0, chat.MaxPage)
		s.must(err)
		keys := map[string]bool{}
		for i, m := range page {
			equal(s, "sequence", m.Seq, int64(i+1))
			keys[m.Key] = true
		}
		equal(s, "different messages of "+room, len(keys), different)
		equal(s, "last sequence of "+room, s.loadRoom(room).LastSeq, int64(different))
	}
}

func count(truths []bool) (n int) {
	for _, t := range truths {
		if t {
			n++
		}
	}
	return n
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
	for _, r := range rooms {
		equal(s, "id", r.ID, rooms[0].ID)
	}
	equal(s, "rooms created", count(created), 1)
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
	ids, store := numbered("user", 10), s.processes()
	s.users(ids...)
	for range rounds {
		for _, id := range ids {
			s.connect(id, id)
			s.must(s.store.Disconnect(s.ctx, tenant, id))
		}
		swept := make([][]chat.User, 9)
		each(s, 8, func(i int) (err error) {
			swept[i], err = store(i).SweepOffline(s.ctx, tenant, ever())
			return err
		})
		var err error
		swept[8], err = s.store.SweepOffline(s.ctx, tenant, ever()) // those that all held back from
		s.must(err)
		var got []string
		for _, u := range slices.Concat(swept...) {
			got = append(got, u.ID)
		}
		slices.Sort(got)
		equalList(s, "users swept by all", got, ids...)
	}
}

// concurrentIdleness has all connections of a user go idle at once: the last one counts, and one change is seen.
func concurrentIdleness(s *suite) {
	store, ids := s.processes(), numbered("c", 4)
	s.users("ann")
	s.connect("ann", ids...)
	for round := range 2 * rounds {
		idle := round%2 == 0
		changed := make([]bool, len(ids))
		each(s, len(ids), func(i int) (err error) {
			_, changed[i], err = store(i).SetIdle(s.ctx, tenant, chat.Connection{ID: ids[i], UserID: "ann"}, idle)
			return err
		})
		equal(s, "changes reported", count(changed), 1)
		s.wantIdle("ann", idle)
	}
}

// concurrentDisconnects has all connections of a user go at once: the user is swept, nobody stays a ghost.
func concurrentDisconnects(s *suite) {
	store, connections := s.processes(), numbered("c", 4)
	s.users("ann")
	for range rounds {
		s.connect("ann", connections...)
		each(s, len(connections), func(i int) error { return store(i).Disconnect(s.ctx, tenant, connections[i]) })
		s.wantSwept("ann")
	}
}

// concurrentReturns has a user come back while the last connection goes and everybody sweeps: whoever has a
// connection is online.
func concurrentReturns(s *suite) {
	store := s.processes()
	s.users("ann")
	s.connect("ann", "c0")
	for round := range rounds {
		each(s, 4, func(i int) (err error) {
			switch i {
			case 0:
				err = store(round).Disconnect(s.ctx, tenant, fmt.Sprint("c", round))
			case 1:
				_, err = store(round+1).Connect(s.ctx, tenant, chat.Connection{ID: fmt.Sprint("c", round+1), UserID: "ann"})
			default:
				_, err = store(i).SweepOffline(s.ctx, tenant, ever())
			}
			return err
		})
		s.wantOnline("ann")
		s.wantSwept()
	}
}

func concurrentLimits(s *suite) {
	store := s.processes()
	s.users("ann")
	for i := range chat.MaxOwnedRooms - 1 {
		s.room(fmt.Sprint("r", i), "ann")
	}
	for round := range rounds {
		errs := make([]error, 6)
		each(s, len(errs), func(i int) error {
			_, errs[i] = store(i).CreateRoom(s.ctx, tenant, chat.Room{ID: fmt.Sprint("more", round, "-", i), Title: "More", OwnerID: "ann"})
			return nil
		})
		created := 0
		for i, err := range errs {
			if err != nil {
				wantError(s, "one room too many", err, chat.ErrLimit)
				continue
			}
			created++
			_, err = s.store.DeleteRoom(s.ctx, tenant, fmt.Sprint("more", round, "-", i), "ann")
			s.must(err)
		}
		equal(s, "rooms created below the limit", created, 1)
	}
}

// concurrentDeletion has users join and write while the owner deletes the room: no member is left in it, and
// nothing is written after.
func concurrentDeletion(s *suite) {
	store := s.processes()
	ids := numbered("user", 6)
	s.users("ann")
	s.users(ids...)
	for round := range rounds {
		room := fmt.Sprint("r", round)
		s.room(room, "ann")
		each(s, len(ids)+2, func(i int) (err error) {
			switch i {
			case 0:
				_, err = store(i).DeleteRoom(s.ctx, tenant, room, "ann")
				return err
			case 1:
				_, _, err = store(i).AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: "ann", Text: "hello?"})
			default:
				_, err = store(i).Join(s.ctx, tenant, room, ids[i-2])
			}
			if errors.Is(err, chat.ErrNotFound) {
				err = nil
			}
			return err
		})
		for _, id := range ids {
			rooms, err := s.store.Memberships(s.ctx, tenant, id)
			s.must(err)
			equalList(s, "memberships after the deletion", rooms)
		}
	}
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
			switch rand.IntN(14) {
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
			case 12:
				_, err = st.AddMessages(s.ctx, tenant, []chat.Message{
					{RoomID: "r1", AuthorID: one, Text: "hi"}, {RoomID: room, AuthorID: other, Text: "hi", Key: fmt.Sprint(n)}})
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
