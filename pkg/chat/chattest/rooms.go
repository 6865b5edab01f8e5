package chattest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

func publicRooms(s *suite) {
	s.users("ann", "bob", "cid")
	before := time.Now().Add(-time.Second)
	r := s.room("r1", "ann")
	equal(s, "id", r.ID, "r1")
	equal(s, "title", r.Title, "Room r1")
	equal(s, "kind", r.Kind, chat.KindPublic)
	equal(s, "owner", r.OwnerID, "ann")
	equal(s, "last sequence", r.LastSeq, 0)
	equal(s, "members", memberList(r), "ann joined")
	if r.CreatedAt.Before(before) || r.CreatedAt.After(time.Now().Add(time.Second)) {
		s.Errorf("created at: got %v, want about %v", r.CreatedAt, time.Now())
	}
	equal(s, "the same when loaded", fmt.Sprint(s.loadRoom("r1")), fmt.Sprint(r))

	_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "r1", Title: "Mine now", OwnerID: "bob"})
	wantError(s, "an id in use", err, chat.ErrExists)
	equal(s, "owner after an attempt to take it over", s.loadRoom("r1").OwnerID, "ann")

	join := func(user string, want bool) {
		s.Helper()
		changed, err := s.store.Join(s.ctx, tenant, "r1", user)
		s.must(err)
		equal(s, "joining changed", changed, want)
	}
	leave := func(user string, want bool) {
		s.Helper()
		left, err := s.store.Leave(s.ctx, tenant, "r1", user)
		s.must(err)
		equal(s, "leaving found a member", left, want)
	}
	join("bob", true)
	join("bob", false)
	join("ann", false)
	join("cid", true)
	equal(s, "members", memberList(s.loadRoom("r1")), "ann joined, bob joined, cid joined")
	leave("bob", true)
	leave("bob", false)
	equal(s, "members after one left", memberList(s.loadRoom("r1")), "ann joined, cid joined")
	join("bob", true)
	equal(s, "members after he came back", memberList(s.loadRoom("r1")), "ann joined, cid joined, bob joined")
	m, found := s.loadRoom("r1").Member("bob")
	equal(s, "found", found, true)
	equal(s, "name of a member", m.Name, "BOB")

	_, err = s.store.DeleteRoom(s.ctx, tenant, "r1", "bob")
	wantError(s, "deleting another's room", err, chat.ErrForbidden)
	s.message("r1", "ann", "the end", "")
	was, err := s.store.DeleteRoom(s.ctx, tenant, "r1", "ann")
	s.must(err)
	equal(s, "members when deleted", memberList(was), "ann joined, cid joined, bob joined")
	equal(s, "last sequence when deleted", was.LastSeq, 1)

	_, err = s.store.Room(s.ctx, tenant, "r1")
	wantError(s, "load a deleted room", err, chat.ErrNotFound)
	_, err = s.store.Join(s.ctx, tenant, "r1", "bob")
	wantError(s, "join a deleted room", err, chat.ErrNotFound)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r1", AuthorID: "ann", Text: "still here?"})
	wantError(s, "write to a deleted room", err, chat.ErrNotFound)
	_, err = s.store.History(s.ctx, tenant, "r1", "ann", 0, 10)
	wantError(s, "history of a deleted room", err, chat.ErrNotFound)
	wantError(s, "mark a deleted room read", s.store.MarkRead(s.ctx, tenant, "r1", "ann", 1), chat.ErrNotFound)
	_, err = s.store.DeleteRoom(s.ctx, tenant, "r1", "ann")
	wantError(s, "delete a deleted room", err, chat.ErrNotFound)
	leave("ann", false)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "r1", Title: "Again", OwnerID: "ann"})
	wantError(s, "the id of a deleted room", err, chat.ErrExists)
	ids, err := s.store.Memberships(s.ctx, tenant, "ann")
	s.must(err)
	equalList(s, "memberships after the only room was deleted", ids)
}

func directRooms(s *suite) {
	s.users("ann", "bob", "cid", "a_b", "c", "a", "b_c")
	r, created, err := s.store.DirectRoom(s.ctx, tenant, "bob", "ann")
	s.must(err)
	equal(s, "created", created, true)
	equal(s, "kind", r.Kind, chat.KindDirect)
	equal(s, "title", r.Title, "")
	equal(s, "owner", r.OwnerID, "bob")
	equal(s, "members", memberList(r), "bob joined, ann invited")
	if !strings.HasPrefix(r.ID, chat.DirectPrefix) || len(r.ID) < len(chat.DirectPrefix)+20 ||
		strings.Contains(r.ID, "ann") || strings.Contains(r.ID, "bob") {
		s.Errorf("id: got %q, want %s and something opaque", r.ID, chat.DirectPrefix)
	}
	again, created, err := s.store.DirectRoom(s.ctx, tenant, "bob", "ann")
	s.must(err)
	equal(s, "created again", created, false)
	equal(s, "the same room again", fmt.Sprint(again), fmt.Sprint(r))

	_, err = s.store.Join(s.ctx, tenant, r.ID, "cid")
	wantError(s, "a third user joins", err, chat.ErrForbidden)
	changed, err := s.store.Join(s.ctx, tenant, r.ID, "ann")
	s.must(err)
	equal(s, "accepting changed", changed, true)
	changed, err = s.store.Join(s.ctx, tenant, r.ID, "ann")
	s.must(err)
	equal(s, "accepting again changed", changed, false)
	equal(s, "members", memberList(s.loadRoom(r.ID)), "bob joined, ann joined")

	for _, user := range []string{"ann", "cid"} {
		_, err = s.store.DeleteRoom(s.ctx, tenant, r.ID, user)
		wantError(s, "deleting a direct room", err, chat.ErrForbidden)
	}
	for _, user := range []string{"bob", "ann"} {
		left, err := s.store.Leave(s.ctx, tenant, r.ID, user)
		s.must(err)
		equal(s, "left", left, true)
	}
	_, err = s.store.Join(s.ctx, tenant, r.ID, "ann")
	wantError(s, "joining a direct room one has left", err, chat.ErrForbidden)
	equal(s, "members of the room both left", memberList(s.loadRoom(r.ID)), "")

	again = s.direct("ann", "bob") // the other way round
	equal(s, "id after both left", again.ID, r.ID)
	equal(s, "members", memberList(again), "ann joined, bob invited")
	equal(s, "members when the invited asks back", memberList(s.direct("bob", "ann")), "ann joined, bob joined")

	if one, other := s.direct("a_b", "c"), s.direct("a", "b_c"); one.ID == other.ID {
		s.Errorf("two pairs have the room %s", one.ID)
	}
	_, _, err = s.store.DirectRoom(s.ctx, tenant, "ann", "ann")
	wantError(s, "a direct room with oneself", err, chat.ErrInvalid)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: r.ID, Title: "Mine", OwnerID: "cid"})
	wantError(s, "a public room with the id of a direct one", err, chat.ErrInvalid)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: chat.DirectPrefix + "x", Title: "Mine", OwnerID: "cid"})
	wantError(s, "a public room with the prefix of direct ones", err, chat.ErrInvalid)
}

func listing(s *suite) {
	s.users("ann", "bob", "cid")
	start := time.Now().Add(-time.Hour)
	for i, id := range []string{"z", "y", "x"} {
		_, err := s.store.CreateRoom(s.ctx, tenant,
			chat.Room{ID: id, Title: id, OwnerID: "ann", CreatedAt: start.Add(time.Duration(i) * time.Second)})
		s.must(err)
	}
	equal(s, "created at", s.loadRoom("y").CreatedAt.Equal(start.Add(time.Second).Truncate(time.Microsecond)), true)
	pair := s.direct("ann", "bob")
	_, err := s.store.Leave(s.ctx, tenant, "y", "ann") // has no members now
	s.must(err)
	_, err = s.store.Join(s.ctx, tenant, "x", "bob")
	s.must(err)
	s.message("x", "bob", "which bob has read", "")

	for user, want := range map[string][]string{
		"":    {"z", "y", "x"},
		"cid": {"z", "y", "x"},
		"ann": {"z", "y", "x", pair.ID},
		"bob": {"z", "y", "x", pair.ID},
	} {
		rooms, err := s.store.Rooms(s.ctx, tenant, user)
		s.must(err)
		equalList(s, "rooms of "+user, roomIDs(rooms), want...)
		for _, r := range rooms {
			loaded := s.loadRoom(r.ID)
			for i := range loaded.Members {
				m := &loaded.Members[i]
				if m.Role = ""; m.UserID != user {
					m.ReadSeq = 0
				}
			}
			equal(s, "listed as loaded", fmt.Sprint(byUser(r)), fmt.Sprint(byUser(loaded)))
		}
	}
	for user, want := range map[string][]string{"cid": nil, "ann": {"z", "x", pair.ID}, "bob": {pair.ID, "x"}} {
		ids, err := s.store.Memberships(s.ctx, tenant, user)
		s.must(err)
		equalList(s, "memberships of "+user, ids, want...)
	}
	_, err = s.store.DeleteRoom(s.ctx, tenant, "z", "ann")
	s.must(err)
	rooms, err := s.store.Rooms(s.ctx, tenant, "ann")
	s.must(err)
	equalList(s, "rooms after one was deleted", roomIDs(rooms), "y", "x", pair.ID)
}

// byUser returns a room with its members in the order of their ids.
func byUser(r chat.Room) chat.Room {
	slices.SortFunc(r.Members, func(a, b chat.Member) int { return cmp.Compare(a.UserID, b.UserID) })
	return r
}

func limits(s *suite) {
	s.users("ann", "bob", "cid")
	for i := range chat.MaxOwnedRooms {
		s.room(fmt.Sprintf("ann%d", i), "ann")
	}
	_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "more", Title: "More", OwnerID: "ann"})
	wantError(s, "one room too many", err, chat.ErrLimit)
	_, err = s.store.Room(s.ctx, tenant, "more")
	wantError(s, "the room that was refused", err, chat.ErrNotFound)
	_, err = s.store.DeleteRoom(s.ctx, tenant, "ann0", "ann")
	s.must(err)
	s.room("more", "ann")

	for i := 0; i < chat.MaxMemberships; i += chat.MaxOwnedRooms {
		owner := fmt.Sprintf("owner%d", i)
		s.users(owner)
		if i == chat.MaxPutInto { // from here on only bob chooses
			s.room("other", owner)
			_, err := s.store.AddMember(s.ctx, tenant, "other", "bob")
			wantError(s, "put into one room too many", err, chat.ErrLimit)
			_, err = s.private("private", "cid", "bob")
			wantError(s, "created with him", err, chat.ErrLimit)
			_, err = s.store.DeleteRoom(s.ctx, tenant, "other", owner)
			s.must(err)
		}
		for j := range chat.MaxOwnedRooms {
			s.room(fmt.Sprintf("%s-%d", owner, j), owner, "bob")
		}
	}
	_, err = s.store.Join(s.ctx, tenant, "more", "bob")
	wantError(s, "one membership too many", err, chat.ErrLimit)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "another", Title: "Another", OwnerID: "bob"})
	wantError(s, "one membership too many as owner", err, chat.ErrLimit)
	for _, pair := range [][2]string{{"bob", "cid"}, {"cid", "bob"}} {
		_, _, err = s.store.DirectRoom(s.ctx, tenant, pair[0], pair[1])
		wantError(s, "one membership too many, direct", err, chat.ErrLimit)
	}
	ids, err := s.store.Memberships(s.ctx, tenant, "cid")
	s.must(err)
	equalList(s, "memberships of the peer of a refused direct room", ids)
	changed, err := s.store.Join(s.ctx, tenant, "owner0-0", "bob")
	wantError(s, "joining at the limit where one is a member", err, nil)
	equal(s, "changed", changed, false)

	s.users("dot")
	for i := range chat.MaxInvitations {
		id := fmt.Sprintf("stranger%d", i)
		s.users(id)
		s.direct(id, "dot")
	}
	_, _, err = s.store.DirectRoom(s.ctx, tenant, "cid", "dot")
	wantError(s, "one invitation too many", err, chat.ErrLimit)
	s.direct("dot", "cid") // who is invited too often may still do as they like
	s.direct("dot", "stranger0")
	s.direct("ann", "dot") // accepting one has made room

	for i := range chat.MaxMembers - 1 { // beside the owner
		id := fmt.Sprintf("user%d", i)
		s.users(id)
		_, err := s.store.Join(s.ctx, tenant, "more", id)
		s.must(err)
		if i < chat.MaxBlocked {
			s.must(s.store.Block(s.ctx, tenant, "ann", id))
		}
	}
	_, err = s.store.Join(s.ctx, tenant, "more", "cid")
	wantError(s, "one member too many", err, chat.ErrLimit)
	s.must(s.store.Block(s.ctx, tenant, "ann", "cid"))
	wantError(s, "one block too many", s.store.Block(s.ctx, tenant, "ann", "bob"), chat.ErrLimit)
	wantError(s, "a block that is there, at the limit", s.store.Block(s.ctx, tenant, "ann", "cid"), nil)
}
