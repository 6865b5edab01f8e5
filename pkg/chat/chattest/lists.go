package chattest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

func viewIDs(views []chat.RoomView) (ids []string) {
	for _, v := range views {
		ids = append(ids, v.Room.ID)
	}
	return ids
}

func (s *suite) own(user string) chat.OwnRooms {
	s.Helper()
	own, err := s.store.OwnRooms(s.ctx, tenant, user, chat.Place{}, 0)
	s.must(err)
	return own
}

func (s *suite) view(user, room string) chat.RoomView {
	s.Helper()
	v, err := s.store.RoomView(s.ctx, tenant, user, room)
	s.must(err)
	return v
}

func persons(s *suite) {
	s.users("ann")
	p, err := s.store.Person(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "person", p.User, chat.User{ID: "ann", Name: "ANN", Provider: "guest"})
	equal(s, "role", p.Role.Name, chat.RoleUser)
	equal(s, "may list rooms", p.Role.Allows(chat.UserFetchAllRooms), true)
	equal(s, "has signed out", !p.SignedOut.IsZero(), false)
	s.must(s.store.SignOut(s.ctx, tenant, "ann"))
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "user.blind"}, chat.Condition{})
	s.must(err)
	_, err = s.store.PutProfile(s.ctx, tenant, chat.Profile{User: p.User, Role: "user.blind"}, chat.Condition{})
	s.must(err)
	p, err = s.store.Person(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "signed out", p.SignedOut.IsZero(), false)
	equal(s, "role given", fmt.Sprint(p.Role), "{user.blind []}")
	_, err = s.store.Person(s.ctx, tenant, "nobody")
	wantError(s, "an unknown person", err, chat.ErrNotFound)
}

func ownRooms(s *suite) {
	s.users("ann", "bob", "cat")
	if own := s.own("ann"); own.Rooms != nil || own.More || own.Revision != 0 {
		s.Errorf("rooms of somebody who is in none: got %v", own)
	}
	for _, id := range []string{"r1", "r2", "r3"} {
		s.room(id, "ann", "bob")
	}
	s.room("foreign", "bob")
	s.room("deleted", "bob", "ann")
	_, err := s.store.DeleteRoom(s.ctx, tenant, "deleted", "bob")
	s.must(err)
	direct := s.direct("cat", "ann").ID
	equalList(s, "newest first", viewIDs(s.own("ann").Rooms), direct, "r3", "r2", "r1")
	for i := range 3 {
		s.message("r1", "bob", strings.Repeat("ö", 199)+fmt.Sprint("x", i), fmt.Sprint(i))
	}
	s.message("r2", "ann", "mine", "")
	own := s.own("ann")
	equalList(s, "most recent first", viewIDs(own.Rooms), "r2", "r1", direct, "r3")
	mine, r1, invited, quiet := own.Rooms[0], own.Rooms[1], own.Rooms[2], own.Rooms[3]
	equal(s, "unread", r1.Unread, 3)
	equal(s, "one's own words unread", mine.Unread, 0)
	equal(s, "what others have said before one's own words", s.view("bob", "r2").Unread, 1)
	s.message("r2", "bob", "too", "")
	equal(s, "the same after them", s.view("bob", "r2").Unread, 1)
	equal(s, "last", fmt.Sprint(r1.Last.Seq, r1.Last.AuthorName, len([]rune(r1.Last.Text)), r1.Last.Text[len(r1.Last.Text)-1:]), "3BOB200x")
	equal(s, "time", r1.At, r1.Last.SentAt)
	equal(s, "event", r1.LastEvent, 5) // created, joined, three messages
	equal(s, "members", r1.Count, 2)
	equal(s, "role", fmt.Sprint(r1.Role.Name, mine.MaySpeak), chat.RoleOperator+"true")
	equal(s, "nothing said", fmt.Sprint(quiet.Last, quiet.Unread, quiet.At.Equal(quiet.Room.CreatedAt)), "<nil> 0 true")
	equal(s, "peer", *invited.Peer, chat.Member{UserID: "cat", Name: "CAT", State: chat.StateJoined})
	equal(s, "state", invited.State, chat.StateInvited)
	if r1.Peer != nil {
		s.Errorf("a room of many has the peer %v", r1.Peer)
	}

	s.must(s.store.DeleteMessage(s.ctx, tenant, "r1", 3, chat.Condition{}))
	s.must(s.store.DeleteMessage(s.ctx, tenant, "r1", 1, chat.Condition{}))
	r1 = s.view("ann", "r1")
	equal(s, "unread that are not deleted", r1.Unread, 1)
	equal(s, "last that is not deleted", r1.Last.Seq, 2)
	equal(s, "order is kept by a deletion", viewIDs(s.own("ann").Rooms)[1], "r1")
	s.must(s.store.MarkRead(s.ctx, tenant, "r1", "ann", 3))
	equal(s, "unread after reading", s.view("ann", "r1").Unread, 0)

	_, err = s.store.Leave(s.ctx, tenant, direct, "cat")
	s.must(err)
	equal(s, "peer who has left", *s.view("ann", direct).Peer, chat.Member{UserID: "cat", Name: "CAT"})
	s.must(s.store.Block(s.ctx, tenant, "cat", "ann"))
	equal(s, "may speak to who has blocked", s.view("ann", direct).MaySpeak, false)
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.deaf", Permissions: []chat.Permission{chat.RoomPublishMessage}}, chat.Condition{})
	s.must(err)
	_, err = s.store.PutMember(s.ctx, tenant, "r2", "bob", "room.deaf", chat.Condition{})
	s.must(err)
	deaf := s.view("bob", "r2")
	equal(s, "a role that may not read", fmt.Sprint(deaf.Last, deaf.MayRead(), deaf.MaySpeak), "<nil> false true")
	stranger := s.view("cat", "r2")
	equal(s, "a stranger's view", fmt.Sprint(stranger.In, stranger.State, stranger.MaySpeak, stranger.MayRead(), stranger.Unread, stranger.Last, stranger.Count),
		"falsefalse false 0 <nil> 2")
	for _, id := range []string{"deleted", "nothing"} {
		_, err = s.store.RoomView(s.ctx, tenant, "ann", id)
		wantError(s, "view of "+id, err, chat.ErrNotFound)
	}
	_, err = s.store.OwnRooms(s.ctx, tenant, "nobody", chat.Place{}, 10)
	wantError(s, "rooms of nobody", err, chat.ErrNotFound)
}

func ownRoomsInPages(s *suite) {
	s.users("ann", "bob")
	at := time.Now().UTC().Truncate(time.Microsecond)
	var want []string
	for i, id := range numbered("r", 7) { // pairs of the same time
		_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: id, Title: id, OwnerID: "ann", CreatedAt: at.Add(time.Duration(i/2) * time.Second)})
		s.must(err)
		want = append([]string{id}, want...)
	}
	var got []string
	after, pages := chat.Place{}, 0
	for {
		own, err := s.store.OwnRooms(s.ctx, tenant, "ann", after, 2)
		s.must(err)
		got, after = append(got, viewIDs(own.Rooms)...), own.Next
		if pages++; !own.More || pages > 4 {
			break
		}
	}
	equalList(s, "all pages", got, want...)
	equal(s, "pages", pages, 4)
	own, err := s.store.OwnRooms(s.ctx, tenant, "ann", chat.Place{}, 7)
	s.must(err)
	equal(s, "more after all", own.More, false)
}

func (s *suite) changed(user string, since int64, limit int) chat.ChangedRooms {
	s.Helper()
	c, err := s.store.ChangedRooms(s.ctx, tenant, user, since, limit)
	s.must(err)
	return c
}

func listChanges(s *suite) {
	s.users("ann", "bob", "cat")
	s.room("r1", "ann")
	s.room("r2", "ann")
	direct := s.direct("cat", "bob").ID
	revision := s.own("bob").Revision
	next := func(what string, do func() error, want string) {
		s.Helper()
		s.must(do())
		c := s.changed("bob", revision, 0)
		equal(s, what, fmt.Sprint(viewIDs(c.Rooms), c.Gone, c.More), want)
		if list := s.own("bob").Revision; c.Revision != list || c.Revision < revision {
			s.Errorf("%s: got revision %d after %d, want that of the list, %d", what, c.Revision, revision, list)
		}
		revision = c.Revision
	}
	join := func(room, user string) func() error {
		return func() error { _, err := s.store.Join(s.ctx, tenant, room, user); return err }
	}
	leave := func(room, user string) func() error {
		return func() error { _, err := s.store.Leave(s.ctx, tenant, room, user); return err }
	}
	put := func(room, user, role string) func() error {
		return func() error {
			_, err := s.store.PutMember(s.ctx, tenant, room, user, role, chat.Condition{})
			return err
		}
	}
	next("nothing", func() error { return nil }, "[] [] false")
	next("joining", join("r1", "bob"), "[r1] [] false")
	next("accepting", join(direct, "bob"), "["+direct+"] [] false")
	next("a message", func() error { s.message("r1", "ann", "hi", ""); return nil }, "[] [] false")
	next("reading", func() error { return s.store.MarkRead(s.ctx, tenant, "r1", "bob", 1) }, "[r1] [] false")
	next("reading again", func() error { return s.store.MarkRead(s.ctx, tenant, "r1", "bob", 1) }, "[] [] false")
	next("somebody else joins", join("r1", "cat"), "[] [] false")
	next("a role", put("r1", "bob", chat.RoleOperator), "[r1] [] false")
	next("being put into a room", put("r2", "bob", chat.RoleMember), "[r2] [] false")
	next("leaving", leave("r2", "bob"), "[] [r2] false")
	next("coming and going", func() error { return errors.Join(join("r2", "bob")(), leave("r2", "bob")()) }, "[] [r2] false")
	next("coming back", join("r2", "bob"), "[r2] [] false")
	all := s.changed("bob", 0, 0)
	equal(s, "each room once, whatever became of it", fmt.Sprint(viewIDs(all.Rooms), all.Gone), fmt.Sprint("[", direct, " r1 r2] []"))
	next("being blocked", func() error { return s.store.Block(s.ctx, tenant, "cat", "bob") }, "["+direct+"] [] false")
	next("no more", func() error { return s.store.Unblock(s.ctx, tenant, "cat", "bob") }, "["+direct+"] [] false")
	next("what a role may", func() error {
		_, err := s.store.PutRole(s.ctx, tenant, chat.Role{Name: chat.RoleMember, Permissions: []chat.Permission{chat.RoomHistory}}, chat.Condition{})
		return err
	}, fmt.Sprint("[", direct, " r2] [] false"))
	next("no more", func() error { return s.store.DeleteRole(s.ctx, tenant, chat.RoleMember, chat.Condition{}) }, fmt.Sprint("[", direct, " r2] [] false"))
	next("deletion", func() error { _, err := s.store.DeleteRoom(s.ctx, tenant, "r2", "ann"); return err }, "[] [r2] false")
	next("being removed", func() error {
		_, err := s.store.RemoveProfile(s.ctx, tenant, "bob", chat.Condition{})
		return err
	}, fmt.Sprint("[] [", direct, " r1] false"))

	for _, since := range []int64{revision + 1, -1} {
		_, err := s.store.ChangedRooms(s.ctx, tenant, "bob", since, 0)
		wantError(s, "a revision that has never been", err, chat.ErrGone)
	}
	_, err := s.store.ChangedRooms(s.ctx, tenant, "nobody", 0, 0)
	wantError(s, "changes of nobody", err, chat.ErrNotFound)
}

func listChangesInPages(s *suite) {
	s.users("ann", "bob")
	rooms := numbered("r", 9)
	for _, id := range rooms {
		s.room(id, "ann", "bob")
	}
	for _, id := range rooms[:3] {
		_, err := s.store.Leave(s.ctx, tenant, id, "bob")
		s.must(err)
	}
	// All others at once, with one revision.
	_, err := s.store.PutRole(s.ctx, tenant, chat.Role{Name: chat.RoleMember, Permissions: []chat.Permission{chat.RoomHistory}}, chat.Condition{})
	s.must(err)
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	direct, _, err := s.store.DirectRoom(s.ctx, tenant, "ann", "bob")
	wantError(s, "a blocked one", err, chat.ErrForbidden)
	_ = direct
	first := s.changed("bob", 0, 2)
	equal(s, "first page", fmt.Sprint(viewIDs(first.Rooms), first.Gone, first.More), "[] [r00 r01] true")
	second := s.changed("bob", first.Revision, 2)
	equal(s, "what has changed together is not parted", fmt.Sprint(viewIDs(second.Rooms), second.Gone), "[r03 r04 r05 r06 r07 r08] [r02]")
	for second.More {
		second = s.changed("bob", second.Revision, 2)
		equal(s, "after the last page", len(second.Rooms)+len(second.Gone), 0)
	}
	equal(s, "revision in the end", second.Revision, s.own("bob").Revision)
}

func directory(s *suite) {
	s.users("ann", "bob")
	at := time.Now().UTC().Truncate(time.Microsecond)
	for i, title := range []string{"Äpfel", "Birnen", "Apfelmus ﬁn", "ÄPFEL und Birnen", "Straße"} {
		_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: fmt.Sprint("r", i), Title: title, OwnerID: "ann", CreatedAt: at.Add(time.Duration(i) * time.Second)})
		s.must(err)
	}
	_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "secret", Title: "Äpfel", OwnerID: "ann", Kind: chat.KindPrivate})
	s.must(err)
	s.room("deleted", "ann")
	_, err = s.store.DeleteRoom(s.ctx, tenant, "deleted", "ann")
	s.must(err)
	s.room("mine", "bob")
	s.direct("ann", "bob")
	for looked, want := range map[string]string{
		"": "[r4 r3 r2 r1 r0]", "äpfel": "[r3 r0]", "a\u0308PFEL": "[r3 r0]", "apfel": "[r2]", "BIRNEN": "[r3 r1]", "strasse": "[r4]", "fin": "[r2]", "nothing": "[]", "%": "[]",
	} {
		for _, limit := range []int{1, 2, 5} {
			var got []string
			after, pages := chat.Place{}, 0
			for {
				found, next, more, err := s.store.Directory(s.ctx, tenant, "bob", looked, after, limit)
				s.must(err)
				for _, r := range found {
					got = append(got, r.Room.ID)
					equal(s, "members of "+r.Room.ID, r.Count, 1)
				}
				after = next
				if pages++; !more || pages > 9 {
					break
				}
			}
			equal(s, fmt.Sprintf("looking for %q by %d", looked, limit), fmt.Sprint(got), want)
		}
	}
}

func membersInPages(s *suite) {
	ids := numbered("user", 7)
	s.users(ids...)
	s.room("r", ids[0], ids[1:]...)
	_, err := s.store.PutMember(s.ctx, tenant, "r", ids[3], chat.RoleOperator, chat.Condition{})
	s.must(err)
	var got []string
	after, pages := chat.Place{}, 0
	for {
		members, next, more, err := s.store.MembersPage(s.ctx, tenant, "r", after, 3)
		s.must(err)
		for _, m := range members {
			got = append(got, m.UserID)
			want := chat.RoleMember
			if m.UserID == ids[0] || m.UserID == ids[3] {
				want = chat.RoleOperator
			}
			equal(s, "role of "+m.UserID, m.Role, want)
		}
		after = next
		if pages++; !more || pages > 3 {
			break
		}
	}
	equalList(s, "members in the order of joining", got, ids...)
	equal(s, "pages", pages, 3)
}

func messageWindows(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann")
	for i := range 9 {
		s.message("r", "ann", fmt.Sprint("text ", i+1), fmt.Sprint("k", i+1))
	}
	_, err := s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 4, Text: "other"}, chat.Condition{})
	s.must(err)
	s.must(s.store.DeleteMessage(s.ctx, tenant, "r", 5, chat.Condition{}))
	const newest = 1 << 62
	for _, c := range []struct {
		window chat.Window
		want   string
	}{
		{chat.Window{Seq: newest, Before: 3}, "[7 8 9] older"},
		{chat.Window{Seq: newest, Before: 8}, "[1 2 3 4 6 7 8 9]"},
		{chat.Window{Seq: newest, Before: 7}, "[2 3 4 6 7 8 9] older"},
		{chat.Window{Seq: 7, Before: 2}, "[4 6] older newer"},
		{chat.Window{Seq: 1, Before: 2}, "[] newer"},
		{chat.Window{Seq: 3, After: 2}, "[3 4] older newer"},
		{chat.Window{Seq: 8, After: 2}, "[8 9] older"},
		{chat.Window{Seq: 10, After: 2}, "[] older"},
		{chat.Window{Seq: 5, Before: 2, After: 2}, "[3 4 6 7] older newer"},
		{chat.Window{Seq: 1, Before: 2, After: 20}, "[1 2 3 4 6 7 8 9]"},
	} {
		w, err := s.store.MessageWindow(s.ctx, tenant, "r", c.window)
		s.must(err)
		got := []int64{}
		for _, m := range w.Messages {
			got = append(got, m.Seq)
			equal(s, "edited", m.Edited, m.Seq == 4)
			if want := fmt.Sprint("text ", m.Seq); m.Seq != 4 && m.Text != want || m.Key != fmt.Sprint("k", m.Seq) || m.AuthorName != "ANN" || m.Number != m.Seq+1 {
				s.Errorf("message %d: got %+v", m.Seq, m)
			}
		}
		text := fmt.Sprint(got)
		if w.Older {
			text += " older"
		}
		if w.Newer {
			text += " newer"
		}
		equal(s, fmt.Sprintf("%+v", c.window), text, c.want)
		equal(s, "last event", w.LastEvent, 12) // created, 9 messages, edited, deleted
	}
	s.room("empty", "ann")
	w, err := s.store.MessageWindow(s.ctx, tenant, "empty", chat.Window{Seq: newest, Before: 3})
	s.must(err)
	equal(s, "window of an empty room", fmt.Sprintf("%+v", w), "{Messages:[] LastEvent:1 Older:false Newer:false}")
	_, err = s.store.MessageWindow(s.ctx, tenant, "nothing", chat.Window{Seq: 1, After: 3})
	wantError(s, "window of an unknown room", err, chat.ErrNotFound)
}

// concurrentListChanges has people's lists change from all sides while each follows the own one by revisions, in pages: in
// the end each has what the store has, so nothing that was committed late was passed over.
func concurrentListChanges(s *suite) {
	store := s.processes()
	people, rooms := numbered("user", 3), numbered("r", 6)
	s.users("boss")
	s.users(people...)
	for _, id := range rooms {
		s.room(id, "boss")
		s.message(id, "boss", "one", "")
	}
	var directs []string
	for i := range people {
		directs = append(directs, s.direct(people[i], people[(i+1)%len(people)]).ID)
	}
	roles := []string{chat.RoleMember, chat.RoleOperator}
	random := func(list []string) string { return list[rand.IntN(len(list))] }
	change := func(st chat.Store) (err error) {
		one, other, room := random(people), random(people), random(rooms)
		switch rand.IntN(11) {
		case 0, 1:
			_, err = st.Join(s.ctx, tenant, room, one)
		case 2:
			_, err = st.Leave(s.ctx, tenant, room, one)
		case 3:
			_, err = st.PutMember(s.ctx, tenant, room, one, random(roles), chat.Condition{})
		case 4:
			_, _, err = st.AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: "boss", Text: "more"})
		case 5, 6:
			err = st.MarkRead(s.ctx, tenant, room, one, rand.Int64N(200))
		case 7:
			err = st.Block(s.ctx, tenant, one, other)
		case 8:
			err = st.Unblock(s.ctx, tenant, one, other)
		case 9:
			_, err = st.Leave(s.ctx, tenant, random(directs), one)
		default:
			_, _, err = st.DirectRoom(s.ctx, tenant, one, other)
		}
		for _, fine := range []error{chat.ErrForbidden, chat.ErrNotFound, chat.ErrInvalid} {
			if errors.Is(err, fine) {
				return nil
			}
		}
		return err
	}
	// follower is what somebody knows who reads nothing but changes.
	type follower struct {
		revision int64
		rooms    map[string]string
	}
	fact := func(v chat.RoomView) string {
		return fmt.Sprint(v.State, v.Role.Name, v.MaySpeak, v.ReadSeq)
	}
	follow := func(ctx context.Context, st chat.Store, person string, f *follower) error {
		for {
			c, err := st.ChangedRooms(ctx, tenant, person, f.revision, 2)
			if err != nil {
				return err
			}
			if c.Revision < f.revision {
				return fmt.Errorf("revision %d after %d", c.Revision, f.revision)
			}
			f.revision = c.Revision
			for _, v := range c.Rooms {
				f.rooms[v.Room.ID] = fact(v)
			}
			for _, id := range c.Gone {
				delete(f.rooms, id)
			}
			if !c.More {
				return nil
			}
		}
	}
	followers := make([]follower, len(people))
	for i, person := range people {
		own := s.own(person)
		followers[i] = follower{own.Revision, map[string]string{}}
		for _, v := range own.Rooms {
			followers[i].rooms[v.Room.ID] = fact(v)
		}
	}
	working, done := context.WithCancel(s.ctx)
	const writers = 8
	left := make(chan struct{}, writers)
	each(s, writers+len(people), func(i int) error {
		if i < writers {
			defer func() {
				if left <- struct{}{}; len(left) == writers {
					done()
				}
			}()
			for range 60 {
				if err := change(store(i)); err != nil {
					return err
				}
			}
			return nil
		}
		n := i - writers
		for working.Err() == nil {
			if err := follow(s.ctx, store(i), people[n], &followers[n]); err != nil {
				return err
			}
		}
		return nil
	})
	for i, person := range people {
		s.must(follow(s.ctx, s.store, person, &followers[i]))
		own := s.own(person)
		equal(s, "revision of "+person, followers[i].revision, own.Revision)
		want := map[string]string{}
		for _, v := range own.Rooms {
			want[v.Room.ID] = fact(v)
		}
		equal(s, "what "+person+" knows", fmt.Sprint(followers[i].rooms), fmt.Sprint(want))
	}
}
