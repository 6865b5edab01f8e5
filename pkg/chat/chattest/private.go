package chattest

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// private creates a private room that the first user owns.
func (s *suite) private(id, owner string, others ...string) (chat.Room, error) {
	r := chat.Room{ID: id, Title: "Room " + id, Kind: chat.KindPrivate, OwnerID: owner}
	for _, user := range others {
		r.Members = append(r.Members, chat.Member{UserID: user})
	}
	return s.store.CreateRoom(s.ctx, tenant, r)
}

func (s *suite) membership(room, user string) chat.Membership {
	s.Helper()
	m, err := s.store.Membership(s.ctx, tenant, room, user)
	s.must(err)
	return m
}

func privateRooms(s *suite) {
	s.users("ann", "bob", "cid", "eve")
	r, err := s.private("r", "ann", "bob", "ann", "bob")
	s.must(err)
	equal(s, "kind", r.Kind, chat.KindPrivate)
	equal(s, "members", memberList(r), "ann joined, bob joined")
	equal(s, "the same when loaded", fmt.Sprint(s.loadRoom("r")), fmt.Sprint(r))

	_, err = s.private("r", "bob")
	wantError(s, "an id in use", err, chat.ErrExists)
	_, err = s.private("r2", "ann", "nobody")
	wantError(s, "with an unknown user", err, chat.ErrNotFound)
	_, err = s.store.Room(s.ctx, tenant, "r2")
	wantError(s, "the room that was refused", err, chat.ErrNotFound)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "r2", Title: "x", OwnerID: "ann", Members: []chat.Member{{UserID: "bob"}}})
	wantError(s, "a public room with members", err, chat.ErrInvalid)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "r2", Title: "x", OwnerID: "ann", Kind: chat.KindDirect})
	wantError(s, "a direct room by this way", err, chat.ErrInvalid)

	_, err = s.store.Join(s.ctx, tenant, "r", "eve")
	wantError(s, "joining unasked", err, chat.ErrForbidden)
	changed, err := s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	equal(s, "joining where one is changed", changed, false)
	for user, want := range map[string]int{"eve": 0, "": 0, "bob": 1} {
		rooms, err := s.store.Rooms(s.ctx, tenant, user)
		s.must(err)
		equal(s, "rooms that "+user+" sees", len(rooms), want)
	}

	_, err = s.store.DeleteRoom(s.ctx, tenant, "r", "bob")
	wantError(s, "deleting another's room", err, chat.ErrForbidden)
	was, err := s.store.DeleteRoom(s.ctx, tenant, "r", "ann")
	s.must(err)
	equal(s, "members when deleted", memberList(was), "ann joined, bob joined")
	_, err = s.private("r", "ann")
	wantError(s, "the id of a deleted room", err, chat.ErrExists)
	_, err = s.store.Membership(s.ctx, tenant, "r", "ann")
	wantError(s, "membership in a deleted room", err, chat.ErrNotFound)
	_, err = s.store.Messages(s.ctx, tenant, "r", 1, 9, 9)
	wantError(s, "messages of a deleted room", err, chat.ErrNotFound)
	_, err = s.store.AddMember(s.ctx, tenant, "r", "bob")
	wantError(s, "adding to a deleted room", err, chat.ErrNotFound)
}

func puttingIntoRooms(s *suite) {
	s.users("ann", "bob", "eve")
	_, err := s.private("r", "ann")
	s.must(err)
	s.room("open", "ann", "bob")
	pair := s.direct("ann", "bob").ID

	add := func(room, user string, want bool) {
		s.Helper()
		added, err := s.store.AddMember(s.ctx, tenant, room, user)
		s.must(err)
		equal(s, "added", added, want)
	}
	add("r", "bob", true)
	add("r", "bob", false)
	add("r", "ann", false)
	add("open", "eve", true)
	equal(s, "members", memberList(s.loadRoom("r")), "ann joined, bob joined")
	_, err = s.store.AddMember(s.ctx, tenant, pair, "eve")
	wantError(s, "adding to a direct room", err, chat.ErrForbidden)
	_, err = s.store.AddMember(s.ctx, tenant, "r", "nobody")
	wantError(s, "adding an unknown user", err, chat.ErrNotFound)

	for _, want := range []struct {
		room, user, role string
		in, remove       bool
	}{
		{"r", "ann", chat.RoleOperator, true, true},
		{"r", "bob", chat.RoleMember, true, false},
		{"r", "eve", "", false, false},
		{"r", "nobody", "", false, false},
		{"open", "ann", chat.RoleOperator, true, true},
		{"open", "bob", chat.RoleMember, true, false},
		{pair, "bob", chat.RoleMember, true, false},
	} {
		m := s.membership(want.room, want.user)
		what := want.user + " in " + want.room + ": "
		equal(s, what+"room", m.Room.ID, want.room)
		equal(s, what+"is in", m.In, want.in)
		equal(s, what+"role", m.Role.Name, want.role)
		equal(s, what+"may speak", m.Role.Allows(chat.RoomPublishMessage), want.in)
		equal(s, what+"may remove", m.Role.Allows(chat.RoomRemoveUser), want.remove)
	}
	loaded := s.loadRoom("open")
	loaded.Members = nil
	equal(s, "the room of a membership", fmt.Sprint(s.membership("open", "eve").Room), fmt.Sprint(loaded))
}

func chatUsers(s *suite) {
	s.users("ann", "bob", "cid")
	s.must(s.store.AddUsers(s.ctx, tenant, chat.User{ID: "dan", Name: "Dan", Provider: "token"}, chat.User{ID: "ann", Name: "Other", Provider: "token"}))
	s.must(s.store.AddUsers(s.ctx, tenant))
	for id, want := range map[string]string{"ann": "ANN guest", "dan": "Dan token"} {
		u, err := s.store.User(s.ctx, tenant, id)
		s.must(err)
		equal(s, "user "+id, u.Name+" "+u.Provider, want)
	}
	wantError(s, "adding a nameless user with another",
		s.store.AddUsers(s.ctx, tenant, chat.User{ID: "eve", Name: "Eve"}, chat.User{ID: "fay"}), chat.ErrInvalid)
	_, err := s.store.User(s.ctx, tenant, "eve")
	wantError(s, "the other", err, chat.ErrNotFound)

	s.must(s.store.Block(s.ctx, tenant, "cid", "ann"))
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	for id, want := range map[string][]string{"ann": {"cid"}, "bob": {"ann"}, "cid": nil} {
		by, err := s.store.BlockedBy(s.ctx, tenant, id, []string{"cid", "bob", "nobody", "ann"})
		s.must(err)
		equalList(s, "who has blocked "+id, by, want...)
	}
	for range 2 {
		role, err := s.store.EnterChat(s.ctx, tenant, "bob")
		s.must(err)
		equal(s, "role", role.Name, chat.RoleUser)
		equal(s, "may create rooms", role.Allows(chat.UserCreateRoom), true)
	}
}

func ranges(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	s.room("empty", "ann")
	for i := range 7 {
		s.message("r", []string{"ann", "bob"}[i%2], fmt.Sprintf("line %d", i+1), fmt.Sprintf("k%d", i+1))
	}
	for _, test := range []struct {
		low, high int64
		limit     int
		want      string
	}{
		{0, 1 << 62, 0, "7 6 5 4 3 2 1"},
		{3, 5, 10, "5 4 3"},
		{3, 3, 10, "3"},
		{0, 6, 2, "6 5"},
		{-5, 2, -1, "2 1"},
		{5, 3, 10, ""},
		{8, 100, 10, ""},
	} {
		list, err := s.store.Messages(s.ctx, tenant, "r", test.low, test.high, test.limit)
		s.must(err)
		var seqs []string
		for _, m := range list {
			seqs = append(seqs, fmt.Sprint(m.Seq))
			equal(s, "text", m.Text, fmt.Sprintf("line %d", m.Seq))
			equal(s, "author", m.AuthorName, strings.ToUpper(m.AuthorID))
			if time.Since(m.SentAt) > time.Minute {
				s.Errorf("sent at: got %v, want about now", m.SentAt)
			}
		}
		equal(s, fmt.Sprintf("%d to %d, at most %d", test.low, test.high, test.limit), strings.Join(seqs, " "), test.want)
	}
	m, _, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "about 3", Ref: 3, Key: "about"})
	s.must(err)
	again, created, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "about 3", Key: "about"})
	s.must(err)
	equal(s, "created again", created, false)
	list, err := s.store.Messages(s.ctx, tenant, "r", m.Seq, m.Seq, 1)
	s.must(err)
	for _, ref := range []int64{m.Ref, again.Ref, list[0].Ref} {
		equal(s, "reference", ref, 3)
	}
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "about what?", Ref: -1})
	wantError(s, "a reference to nothing", err, chat.ErrInvalid)
	s.users("eve")
	about := func(author string, ref int64, key string) error {
		return third(s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: author, Text: "about", Ref: ref, Key: key}))
	}
	wantError(s, "a reference to what is still to come", about("ann", m.Seq+1, ""), chat.ErrNoRef)
	wantError(s, "a reference to the highest number", about("ann", math.MaxInt64, ""), chat.ErrNoRef)
	wantError(s, "a stranger's reference to nothing", about("eve", 99, ""), chat.ErrForbidden)
	s.must(s.store.DeleteMessage(s.ctx, tenant, "r", 3, chat.Condition{}))
	wantError(s, "a reference to what was deleted", about("ann", 3, ""), chat.ErrNoRef)
	s.must(about("ann", 3, "about")) // is stored already
	list, err = s.store.Messages(s.ctx, tenant, "empty", 0, 9, 9)
	s.must(err)
	equal(s, "messages of a quiet room", len(list), 0)
}

// concurrentAdding has several processes make the same users known, in different orders, and add them to one room.
func concurrentAdding(s *suite) {
	ids, store := numbered("user", 5), s.processes()
	s.users("ann")
	_, err := s.private("r", "ann")
	s.must(err)
	var added atomic.Int64
	each(s, simultaneous, func(i int) error {
		for j := range ids {
			id, next := ids[(i+j)%len(ids)], ids[(i+j+1)%len(ids)]
			err := store(i).AddUsers(s.ctx, tenant, chat.User{ID: id, Name: "New", Provider: "token"}, chat.User{ID: next, Name: "New", Provider: "token"})
			if err != nil {
				return err
			}
			ok, err := store(i).AddMember(s.ctx, tenant, "r", id)
			if err != nil {
				return err
			}
			if ok {
				added.Add(1)
			}
		}
		return nil
	})
	equal(s, "how often a user was added", int(added.Load()), len(ids))
	equal(s, "members", len(s.loadRoom("r").Members), len(ids)+1)
}
