package chattest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/chatr-dev/chatr/pkg/chat"
)

func (s *suite) role(name string) chat.Role {
	s.Helper()
	roles, err := s.store.Roles(s.ctx, tenant)
	s.must(err)
	i := slices.IndexFunc(roles, func(r chat.Role) bool { return r.Name == name })
	if i < 0 {
		return chat.Role{}
	}
	return roles[i]
}

func roles(s *suite) {
	put := func(name string, c chat.Condition, want bool, permissions ...chat.Permission) {
		s.Helper()
		created, err := s.store.PutRole(s.ctx, tenant, chat.Role{Name: name, Permissions: permissions}, c)
		s.must(err)
		equal(s, "created "+name, created, want)
	}
	names := func() (list []string) {
		all, err := s.store.Roles(s.ctx, tenant)
		s.must(err)
		for _, r := range all {
			list = append(list, r.Name)
		}
		return list
	}
	equalList(s, "at first", names(), chat.RoleMember, chat.RoleOperator, chat.RoleUser)
	put("room.reader", chat.Condition{IfNoneMatch: "*"}, true, chat.RoomHistory)
	_, err := s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.reader"}, chat.Condition{IfNoneMatch: "*"})
	wantError(s, "creating it again", err, chat.ErrCondition)
	old := s.role("room.reader").Tag()
	put("room.reader", chat.Condition{IfMatch: old}, false, chat.RoomHistory, chat.RoomInvite)
	equalList(s, "permissions", s.role("room.reader").Permissions, chat.RoomHistory, chat.RoomInvite)
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.reader"}, chat.Condition{IfMatch: old})
	wantError(s, "replacing what is not there any more", err, chat.ErrCondition)
	wantError(s, "deleting what is not there any more", s.store.DeleteRole(s.ctx, tenant, "room.reader", chat.Condition{IfMatch: old}), chat.ErrCondition)
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.new"}, chat.Condition{IfMatch: "*"})
	wantError(s, "replacing nothing", err, chat.ErrCondition)
	put(chat.RoleMember, chat.Condition{}, true, chat.RoomHistory) // instead of the built-in one
	equalList(s, "with stored ones", names(), chat.RoleMember, chat.RoleOperator, "room.reader", chat.RoleUser)
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	equal(s, "what a member may by the stored role", s.membership("r", "bob").Role.Allows(chat.RoomPublishMessage), false)
	muted := func(user string, want ...string) {
		s.Helper()
		equalList(s, "where "+user+" may not speak", s.muted(user), want...)
	}
	muted("bob", "r")
	muted("ann")
	s.must(s.store.DeleteRole(s.ctx, tenant, chat.RoleMember, chat.Condition{}))
	muted("bob")
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", "room.reader", chat.Condition{})
	s.must(err)
	muted("bob", "r")
	s.must(s.store.DeleteRole(s.ctx, tenant, "room.reader", chat.Condition{}))
	muted("bob", "r") // a role that is gone allows nothing
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", chat.RoleMember, chat.Condition{})
	s.must(err)
	muted("bob")
	equal(s, "what a member may by the built-in role", s.membership("r", "bob").Role.Allows(chat.RoomPublishMessage), true)
	wantError(s, "deleting a built-in role", s.store.DeleteRole(s.ctx, tenant, chat.RoleMember, chat.Condition{}), chat.ErrNotFound)

	for _, bad := range []chat.Role{
		{Name: ""}, {Name: "admin"}, {Name: "room."}, {Name: "Room.x"}, {Name: "room." + strings.Repeat("x", 128)}, {Name: "room.\x00"},
		{Name: "room.x", Permissions: []chat.Permission{chat.UserCreateRoom}},
		{Name: "user.x", Permissions: []chat.Permission{chat.UserCreateRoom, chat.RoomInvite}},
		{Name: "user.x", Permissions: []chat.Permission{"user.everything"}},
	} {
		_, err := s.store.PutRole(s.ctx, tenant, bad, chat.Condition{})
		wantError(s, fmt.Sprintf("role %+.30v", bad), err, chat.ErrInvalid)
	}
}

func roomsOfApplications(s *suite) {
	s.users("ann", "bob")
	put := func(id, title string, want bool) chat.Room {
		s.Helper()
		r, created, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: id, Title: title}, chat.Condition{})
		s.must(err)
		equal(s, "created", created, want)
		equal(s, "title", r.Title, title)
		return r
	}
	r := put("r", "One", true)
	equal(s, "kind, owner and members", fmt.Sprint(r.Kind, r.OwnerID, r.Members), "private"+chat.ServiceUser+"[]")
	_, _, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: "Two"}, chat.Condition{IfNoneMatch: "*"})
	wantError(s, "creating it again", err, chat.ErrCondition)
	put("r", "Two", false)
	s.room("own", "ann")
	equal(s, "owner of a renamed room", put("own", "Renamed", false).OwnerID, "ann")
	_, _, err = s.store.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: ""}, chat.Condition{})
	wantError(s, "no title", err, chat.ErrInvalid)

	added, err := s.store.PutMember(s.ctx, tenant, "r", "ann", chat.RoleOperator, chat.Condition{})
	s.must(err)
	equal(s, "added", added, true)
	added, err = s.store.PutMember(s.ctx, tenant, "r", "bob", chat.RoleMember, chat.Condition{IfNoneMatch: "*"})
	s.must(err)
	equal(s, "added", added, true)
	m, _ := s.loadRoom("r").Member("bob")
	added, err = s.store.PutMember(s.ctx, tenant, "r", "bob", chat.RoleOperator, chat.Condition{IfMatch: m.Tag()})
	s.must(err)
	equal(s, "added again", added, false)
	equal(s, "role", s.membership("r", "bob").Role.Name, chat.RoleOperator)
	_, err = s.store.PutMember(s.ctx, tenant, "r", "bob", chat.RoleMember, chat.Condition{IfMatch: m.Tag()})
	wantError(s, "replacing what is not there any more", err, chat.ErrCondition)
	for role, why := range map[string]string{"room.unknown": "not there", chat.RoleUser: "of users", "": "empty"} {
		_, err := s.store.PutMember(s.ctx, tenant, "r", "bob", role, chat.Condition{})
		wantError(s, "a role that is "+why, err, chat.ErrInvalid)
	}
	s.message("r", "ann", "before", "")
	s.must(s.store.RemoveMember(s.ctx, tenant, "r", "bob", chat.Condition{}))
	wantError(s, "removing again", s.store.RemoveMember(s.ctx, tenant, "r", "bob", chat.Condition{}), chat.ErrNotFound)
	pair := s.direct("ann", "bob").ID
	_, err = s.store.PutMember(s.ctx, tenant, pair, "bob", chat.RoleMember, chat.Condition{})
	wantError(s, "a member of a direct room", err, chat.ErrForbidden)
	wantError(s, "out of a direct room", s.store.RemoveMember(s.ctx, tenant, pair, "bob", chat.Condition{}), chat.ErrForbidden)
	_, err = s.store.RemoveRoom(s.ctx, tenant, pair, chat.Condition{})
	wantError(s, "a direct room", err, chat.ErrForbidden)

	_, err = s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{IfMatch: `"other"`})
	wantError(s, "another state of it", err, chat.ErrCondition)
	was, err := s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{})
	s.must(err)
	equal(s, "members when removed", memberList(was), "ann joined")
	_, err = s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{})
	wantError(s, "removing again", err, chat.ErrNotFound)
	again := put("r", "Three", true)
	equal(s, "nothing of what it was", fmt.Sprint(again.Members, again.LastSeq), "[] 0")
	list, err := s.store.Messages(s.ctx, tenant, "r", 0, 9, 9)
	s.must(err)
	equal(s, "messages", len(list), 0)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "me?"})
	wantError(s, "a former member", err, chat.ErrForbidden)
}

func topics(s *suite) {
	s.users("ann", "eve")
	topicT, topicU, otherTopic := chat.TopicRoom("r", "t"), chat.TopicRoom("r", "u"), chat.TopicRoom("r2", "t")
	put := func(id string, want bool) chat.Room {
		s.Helper()
		r, created, err := s.store.PutRoom(s.ctx, tenant, chat.Room{ID: id, Title: "Title"}, chat.Condition{})
		s.must(err)
		equal(s, "created "+id, created, want)
		return r
	}
	for _, id := range []string{"r", topicT, topicU, "r2", otherTopic} {
		put(id, true)
	}
	_, err := s.store.PutMember(s.ctx, tenant, "r", "ann", chat.RoleMember, chat.Condition{})
	s.must(err)
	for room, want := range map[string]int64{"r": 1, topicT: 1, topicU: 1} {
		equal(s, "sequence in "+room, s.message(room, "ann", "hi", "k").Seq, want)
	}
	equal(s, "the next", s.message(topicT, "ann", "ho", "").Seq, 2)
	for room, author := range map[string]string{topicT: "eve", otherTopic: "ann"} {
		_, _, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: room, AuthorID: author, Text: "me?"})
		wantError(s, "who is no member of the room of "+room, err, chat.ErrForbidden)
	}
	ids, err := s.store.Memberships(s.ctx, tenant, "ann")
	s.must(err)
	equalList(s, "topics are no memberships", ids, "r")
	_, err = s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{})
	s.must(err)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: topicT, AuthorID: "ann", Text: "still?"})
	if err == nil {
		s.Error("who was in a removed room speaks in a topic of it, want an error")
	}
	put("r", true)
	for room, want := range map[string]error{topicT: chat.ErrNotFound, topicU: chat.ErrNotFound, otherTopic: nil} {
		_, err := s.store.Room(s.ctx, tenant, room)
		wantError(s, room+" after its room was made anew", err, want)
	}
	equal(s, "a topic made anew", put(topicT, true).LastSeq, 0)

	// A room whose id looks like a topic's is none: it has members of its own, and goes on when the other is made anew.
	s.room("r.t", "eve")
	equal(s, "in a room with a full stop", s.message("r.t", "eve", "mine", "").Seq, 1)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r.t", AuthorID: "ann", Text: "me?"})
	wantError(s, "who is no member of it", err, chat.ErrForbidden)
	_, err = s.store.RemoveRoom(s.ctx, tenant, "r", chat.Condition{})
	s.must(err)
	put("r", true)
	equal(s, "it goes on", s.message("r.t", "eve", "still mine", "").Seq, 2)
	_, err = s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: topicT, Title: "Mine", OwnerID: "eve"})
	wantError(s, "a room with the id of a topic", err, chat.ErrInvalid)
}

func profiles(s *suite) {
	s.users("ann")
	put := func(id, name, role string, c chat.Condition) (bool, error) {
		return s.store.PutProfile(s.ctx, tenant, chat.Profile{User: chat.User{ID: id, Name: name, Provider: "token"}, Role: role}, c)
	}
	for _, want := range []bool{true, false} {
		created, err := put("bob", "Bob", chat.RoleUser, chat.Condition{})
		s.must(err)
		equal(s, "created", created, want)
	}
	_, err := s.store.PutRole(s.ctx, tenant, chat.Role{Name: "user.guest"}, chat.Condition{})
	s.must(err)
	p, err := s.store.Profile(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "a user by sign-in", fmt.Sprint(p), "{{ann ANN guest} user.normal}")
	_, err = put("ann", "Anna", "user.guest", chat.Condition{IfMatch: p.Tag()})
	s.must(err)
	_, err = put("ann", "Anna", "user.guest", chat.Condition{IfMatch: p.Tag()})
	wantError(s, "what is not there any more", err, chat.ErrCondition)
	role, err := s.store.EnterChat(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "role", fmt.Sprint(role), "{user.guest []}")
	for bad, why := range map[string]string{"user.unknown": "not there", chat.RoleMember: "of rooms", "": "empty"} {
		_, err := put("bob", "Bob", bad, chat.Condition{})
		wantError(s, "a role that is "+why, err, chat.ErrInvalid)
	}
	s.room("r1", "ann", "bob")
	s.room("r2", "ann")
	s.message("r1", "ann", "mine", "k")
	rooms, err := s.store.RemoveProfile(s.ctx, tenant, "ann", chat.Condition{})
	s.must(err)
	equalList(s, "rooms left", rooms, "r1", "r2")
	_, err = s.store.Profile(s.ctx, tenant, "ann")
	wantError(s, "profile", err, chat.ErrNotFound)
	_, err = s.store.RemoveProfile(s.ctx, tenant, "ann", chat.Condition{})
	wantError(s, "removing again", err, chat.ErrNotFound)
	equal(s, "members", memberList(s.loadRoom("r1")), "bob joined")
	_, err = s.store.EnterChat(s.ctx, tenant, "ann")
	s.must(err)
	p, err = s.store.Profile(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "back, without what there was", p.Role, chat.RoleUser)
}

func edits(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann", "bob")
	for i := range 3 {
		s.message("r", "ann", fmt.Sprintf("line %d", i+1), fmt.Sprintf("k%d", i+1))
	}
	load := func(seq int64) []chat.Message {
		s.Helper()
		list, err := s.store.Messages(s.ctx, tenant, "r", seq, seq, 1)
		s.must(err)
		return list
	}
	tag := load(2)[0].Tag()
	edited, err := s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 2, Text: "other", Binary: "AAECAw=="}, chat.Condition{IfMatch: tag})
	s.must(err)
	equal(s, "edited", edited, load(2)[0])
	equal(s, "content", edited.Text+" "+edited.Binary+" "+edited.AuthorID, "other AAECAw== ann")
	_, err = s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 2, Text: "x"}, chat.Condition{IfMatch: tag})
	wantError(s, "what is not there any more", err, chat.ErrCondition)
	wantError(s, "deleting what is not there any more", s.store.DeleteMessage(s.ctx, tenant, "r", 2, chat.Condition{IfMatch: tag}), chat.ErrCondition)
	s.must(s.store.DeleteMessage(s.ctx, tenant, "r", 2, chat.Condition{}))
	equal(s, "deleted", len(load(2)), 0)
	for _, seq := range []int64{0, 2, 4} {
		wantError(s, "deleting what is not there", s.store.DeleteMessage(s.ctx, tenant, "r", seq, chat.Condition{}), chat.ErrNotFound)
		_, err = s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: seq, Text: "x"}, chat.Condition{})
		wantError(s, "editing what is not there", err, chat.ErrNotFound)
	}
	page, err := s.store.History(s.ctx, tenant, "r", "bob", 0, 10)
	s.must(err)
	equal(s, "history", len(page), 2)
	again, created, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "line 2", Key: "k2"})
	s.must(err)
	equal(s, "sending a deleted message again", fmt.Sprint(again.Seq, created), "2 false")
	equal(s, "next sequence", s.message("r", "bob", "line 4", "").Seq, 4)
	for _, bad := range []chat.Message{{Text: ""}, {Text: "\x00"}, {Text: strings.Repeat("x", chat.MaxTextBytes+1)}, {Text: "x", Binary: strings.Repeat("AAAA", 30_000)}} {
		bad.RoomID, bad.Seq = "r", 1
		_, err := s.store.EditMessage(s.ctx, tenant, bad, chat.Condition{})
		wantError(s, "content", err, chat.ErrInvalid)
	}
}

// concurrentConditions has several processes create the same things, each unless they are there.
func concurrentConditions(s *suite) {
	store := s.processes()
	s.users("ann")
	var won [4]atomic.Int64
	each(s, simultaneous, func(i int) error {
		c := chat.Condition{IfNoneMatch: "*"}
		for j, put := range []func(chat.Store) error{
			func(st chat.Store) error { return second(st.PutRole(s.ctx, tenant, chat.Role{Name: "room.one"}, c)) },
			func(st chat.Store) error { return third(st.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: "T"}, c)) },
			func(st chat.Store) error { return second(st.PutMember(s.ctx, tenant, "r", "ann", chat.RoleMember, c)) },
			func(st chat.Store) error {
				p := chat.Profile{User: chat.User{ID: "new", Name: "New", Provider: "token"}, Role: chat.RoleUser}
				return second(st.PutProfile(s.ctx, tenant, p, c))
			},
		} {
			switch err := put(store(i)); {
			case err == nil:
				won[j].Add(1)
			case !errors.Is(err, chat.ErrCondition):
				return err
			}
		}
		return nil
	})
	for j := range won {
		equal(s, fmt.Sprintf("how often the thing %d was created", j), int(won[j].Load()), 1)
	}
}
