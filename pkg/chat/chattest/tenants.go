package chattest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// calls are all methods that take a tenant, with these arguments; user is the one who acts.
func (s *suite) calls(tenant, user, other, room, connection string) map[string]func() error {
	ctx, c := s.ctx, chat.Connection{ID: connection, UserID: user}
	return map[string]func() error{
		"SaveUser": func() error {
			return s.store.SaveUser(ctx, tenant, chat.User{ID: user, Name: "Intruder", Provider: "elsewhere"})
		},
		"User":         func() error { return second(s.store.User(ctx, tenant, user)) },
		"Connect":      func() error { return second(s.store.Connect(ctx, tenant, c)) },
		"Disconnect":   func() error { return s.store.Disconnect(ctx, tenant, connection) },
		"SetIdle":      func() error { return third(s.store.SetIdle(ctx, tenant, c, true)) },
		"RefreshIdle":  func() error { return third(s.store.RefreshIdle(ctx, tenant, user)) },
		"SweepOffline": func() error { return none(s.store.SweepOffline(ctx, tenant, ever())) },
		"Connections":  func() error { return none(s.store.Connections(ctx, tenant, user)) },
		"ClaimConnections": func() error {
			return none(s.store.ClaimConnections(ctx, tenant, ever(), 100))
		},
		"Online": func() error { return none(s.store.Online(ctx, tenant)) },
		"CreateRoom": func() error {
			return second(s.store.CreateRoom(ctx, tenant, chat.Room{ID: room, Title: "Taken", OwnerID: user}))
		},
		"AddUsers": func() error {
			return s.store.AddUsers(ctx, tenant, chat.User{ID: user, Name: "Intruder", Provider: "elsewhere"})
		},
		"Roles": func() error {
			roles, err := s.store.Roles(ctx, tenant)
			return none(slices.DeleteFunc(roles, func(r chat.Role) bool { _, ok := chat.BuiltInRole(r.Name); return ok }), err)
		},
		"DeleteRole":   func() error { return s.store.DeleteRole(ctx, tenant, user, chat.Condition{}) },
		"RemoveRoom":   func() error { return second(s.store.RemoveRoom(ctx, tenant, room, chat.Condition{})) },
		"RemoveMember": func() error { return s.store.RemoveMember(ctx, tenant, room, user, chat.Condition{}) },
		"PutMember": func() error {
			return second(s.store.PutMember(ctx, tenant, room, user, chat.RoleMember, chat.Condition{}))
		},
		"Profile":       func() error { return second(s.store.Profile(ctx, tenant, user)) },
		"RemoveProfile": func() error { return second(s.store.RemoveProfile(ctx, tenant, user, chat.Condition{})) },
		"EditMessage": func() error {
			return second(s.store.EditMessage(ctx, tenant, chat.Message{RoomID: room, Seq: 1, Text: "crossed"}, chat.Condition{}))
		},
		"DeleteMessage": func() error { return s.store.DeleteMessage(ctx, tenant, room, 1, chat.Condition{}) },
		"EnterChat":     func() error { return second(s.store.EnterChat(ctx, tenant, user)) },
		"BlockedBy":     func() error { return none(s.store.BlockedBy(ctx, tenant, other, []string{user})) },
		"Membership":    func() error { return second(s.store.Membership(ctx, tenant, room, user)) },
		"AddMember":     func() error { return second(s.store.AddMember(ctx, tenant, room, user)) },
		"Messages":      func() error { return second(s.store.Messages(ctx, tenant, room, 0, 10, 10)) },
		"DirectRoom":    func() error { return third(s.store.DirectRoom(ctx, tenant, user, other)) },
		"Room":          func() error { return second(s.store.Room(ctx, tenant, room)) },
		"Rooms":         func() error { return none(s.store.Rooms(ctx, tenant, user)) },
		"Memberships":   func() error { return none(s.store.Memberships(ctx, tenant, user)) },
		"Join":          func() error { return second(s.store.Join(ctx, tenant, room, user)) },
		"Leave": func() error {
			left, err := s.store.Leave(ctx, tenant, room, user)
			if left {
				return fmt.Errorf("%s has left %s", user, room)
			}
			return err
		},
		"DeleteRoom": func() error { return second(s.store.DeleteRoom(ctx, tenant, room, user)) },
		"Block":      func() error { return s.store.Block(ctx, tenant, user, other) },
		"SignOut":    func() error { return s.store.SignOut(ctx, tenant, user) },
		"Unblock":    func() error { return s.store.Unblock(ctx, tenant, user, other) },
		"Blocked":    func() error { return none(s.store.Blocked(ctx, tenant, user)) },
		"AddMessage": func() error {
			return third(s.store.AddMessage(ctx, tenant, chat.Message{RoomID: room, AuthorID: user, Text: "crossed", Key: "k"}))
		},
		"AddMessages": func() error {
			outcomes, err := s.store.AddMessages(ctx, tenant, []chat.Message{{RoomID: room, AuthorID: user, Text: "crossed", Key: "k"}})
			for _, o := range outcomes {
				err = o.Err
			}
			return err
		},
		"History":    func() error { return second(s.store.History(ctx, tenant, room, user, 0, 10)) },
		"MarkRead":   func() error { return s.store.MarkRead(ctx, tenant, room, user, 1) },
		"Access":     func() error { return second(s.store.Access(ctx, tenant, user)) },
		"PresenceOf": func() error { return third(s.store.PresenceOf(ctx, tenant, user)) },
		"Events":     func() error { return third(s.store.Events(ctx, tenant, room, 0, 10)) },
		"ClaimTellings": func() error {
			held, err := s.store.ClaimTellings(ctx, tenant, []string{room}, "process", time.Hour)
			return none(slices.Collect(maps.Keys(held)), err)
		},
		"Told": func() error {
			held, err := s.store.Told(ctx, tenant, "process", map[string]int64{room: 1}, time.Hour)
			return none(slices.Collect(maps.Keys(held)), err)
		},
		"TellingOf":    func() error { return second(s.store.TellingOf(ctx, tenant, room)) },
		"Untold":       func() error { return none(s.store.Untold(ctx, tenant, 10)) },
		"ClaimEffects": func() error { return none(s.store.ClaimEffects(ctx, tenant, 10, time.Hour)) },
		"ClaimEffectsOf": func() error {
			return none(s.store.ClaimEffectsOf(ctx, tenant, []string{room}, []string{user}, time.Hour))
		},
		"EffectPaid": func() error {
			return s.store.EffectPaid(ctx, tenant, chat.Effect{Kind: chat.EffectMember, RoomID: room, UserID: user, Version: 1})
		},
		"EffectFailed": func() error {
			return s.store.EffectFailed(ctx, tenant, chat.Effect{Kind: chat.EffectMember, RoomID: room, UserID: user, Version: 1}, time.Hour)
		},
		"EffectsOwed": func() error {
			n, _, err := s.store.EffectsOwed(ctx, tenant)
			return none(make([]int, n), err)
		},
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// none wants a list to be empty.
func none[T any](list []T, err error) error {
	if err == nil && len(list) > 0 {
		return fmt.Errorf("got %d of %T, want none", len(list), list)
	}
	return err
}

// answers are what calls give where nothing of that name exists.
var answers = map[string]error{
	"User": chat.ErrNotFound, "Connect": chat.ErrNotFound, "SetIdle": chat.ErrNotFound, "RefreshIdle": chat.ErrNotFound,
	"CreateRoom": chat.ErrNotFound, "DirectRoom": chat.ErrNotFound, "Room": chat.ErrNotFound, "Join": chat.ErrNotFound,
	"DeleteRole": chat.ErrNotFound, "RemoveRoom": chat.ErrNotFound, "RemoveMember": chat.ErrNotFound, "PutMember": chat.ErrNotFound,
	"Profile": chat.ErrNotFound, "RemoveProfile": chat.ErrNotFound, "EditMessage": chat.ErrNotFound, "DeleteMessage": chat.ErrNotFound,
	"EnterChat": chat.ErrNotFound, "Membership": chat.ErrNotFound, "AddMember": chat.ErrNotFound, "Messages": chat.ErrNotFound,
	"DeleteRoom": chat.ErrNotFound, "Block": chat.ErrNotFound, "Unblock": chat.ErrNotFound,
	"SignOut": chat.ErrNotFound, "SignedOut": chat.ErrNotFound, "AddMessage": chat.ErrNotFound,
	"AddMessages": chat.ErrNotFound, "History": chat.ErrNotFound, "MarkRead": chat.ErrNotFound,
	"Access": chat.ErrNotFound, "PresenceOf": chat.ErrNotFound, "Events": chat.ErrNotFound, "TellingOf": chat.ErrNotFound,
}

// wantNothing makes all calls, those that make users last, and checks that they find nothing.
func (s *suite) wantNothing(calls map[string]func() error) {
	s.Helper()
	makeUsers := []string{"AddUsers", "SaveUser"}
	methods := slices.DeleteFunc(slices.Sorted(maps.Keys(calls)), func(m string) bool { return slices.Contains(makeUsers, m) })
	for _, method := range append(methods, makeUsers...) {
		wantError(s, method, calls[method](), answers[method])
	}
}

func unknownIDs(s *suite) {
	s.users("ann")
	s.room("r", "ann")
	s.wantNothing(s.calls("another", "nobody", "none", "nowhere", "nothing"))

	for what, err := range map[string]error{
		"direct room with an unknown user": third(s.store.DirectRoom(s.ctx, tenant, "ann", "nobody")),
		"direct room of an unknown user":   third(s.store.DirectRoom(s.ctx, tenant, "nobody", "ann")),
		"unknown user joins a known room":  second(s.store.Join(s.ctx, tenant, "r", "nobody")),
		"known user joins an unknown room": second(s.store.Join(s.ctx, tenant, "nowhere", "ann")),
		"blocking an unknown user":         s.store.Block(s.ctx, tenant, "ann", "nobody"),
		"unblocking an unknown user":       s.store.Unblock(s.ctx, tenant, "ann", "nobody"),
		"idling an unknown connection":     third(s.store.SetIdle(s.ctx, tenant, chat.Connection{ID: "c", UserID: "ann"}, true)),
	} {
		wantError(s, what, err, chat.ErrNotFound)
	}
	_, _, err := s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "nobody", Text: "hi"})
	wantError(s, "message of an unknown user", err, chat.ErrForbidden)
	s.users("bob")
	s.connect("bob", "b")
	err = third(s.store.SetIdle(s.ctx, tenant, chat.Connection{ID: "b", UserID: "ann"}, true))
	wantError(s, "idling another user's connection", err, chat.ErrNotFound)
	s.wantIdle("bob", false)
}

// foreignTenants tries to reach one tenant's chat through another, with every method and every id right.
func foreignTenants(s *suite) {
	s.users("ann", "bob", "cid")
	s.connect("ann", "c1")
	s.connect("bob", "c2")
	s.connect("cid", "c3")
	s.must(s.store.Disconnect(s.ctx, tenant, "c3")) // cid can be swept
	s.room("r", "ann", "bob")
	s.message("r", "ann", "mine", "k")
	pair := s.direct("ann", "bob")
	s.must(s.store.Block(s.ctx, tenant, "ann", "cid"))
	before := s.snapshot()

	for _, room := range []string{"r", pair.ID} {
		calls := s.calls("another", "ann", "cid", room, "c1")
		if room != "r" {
			delete(calls, "CreateRoom") // such an id is invalid
		}
		delete(calls, "SaveUser") // makes her a user of the other tenant, too
		delete(calls, "AddUsers")
		for method, call := range calls {
			wantError(s, method, call(), answers[method])
		}
	}
	equal(s, "chat after attempts to reach it", s.snapshot(), before)

	// Where the same ids exist in both tenants, each is its own.
	other := "another"
	for _, id := range []string{"ann", "bob"} {
		s.must(s.store.SaveUser(s.ctx, other, chat.User{ID: id, Name: "Other " + id, Provider: "github"}))
	}
	_, err := s.store.CreateRoom(s.ctx, other, chat.Room{ID: "r", Title: "Other", OwnerID: "bob"})
	s.must(err)
	came, err := s.store.Connect(s.ctx, other, chat.Connection{ID: "c1", UserID: "ann"})
	s.must(err)
	equal(s, "came online in the other tenant", came, true)
	_, _, err = s.store.AddMessage(s.ctx, other, chat.Message{RoomID: "r", AuthorID: "ann", Text: "let me in", Key: "k"})
	wantError(s, "message of a member of the other tenant's room", err, chat.ErrForbidden)
	m, created, err := s.store.AddMessage(s.ctx, other, chat.Message{RoomID: "r", AuthorID: "bob", Text: "other", Key: "k"})
	s.must(err)
	equal(s, "created in the other tenant", created, true)
	equal(s, "sequence in the other tenant", m.Seq, 1)
	direct, _, err := s.store.DirectRoom(s.ctx, other, "ann", "bob")
	s.must(err)
	if direct.ID == pair.ID {
		s.Errorf("both tenants have the direct room %s", pair.ID)
	}
	s.must(s.store.Disconnect(s.ctx, other, "c1"))
	_, err = s.store.SweepOffline(s.ctx, other, ever())
	s.must(err)
	_, err = s.store.DeleteRoom(s.ctx, other, "r", "bob")
	s.must(err)
	equal(s, "chat after the other tenant's life", s.snapshot(), before)
}

// snapshot is everything that users of the tenant can see.
func (s *suite) snapshot() string {
	s.Helper()
	online, err := s.store.Online(s.ctx, tenant)
	s.must(err)
	all := fmt.Sprintln(online)
	for _, user := range []string{"ann", "bob", "cid"} {
		u, err := s.store.User(s.ctx, tenant, user)
		s.must(err)
		connections, err := s.store.Connections(s.ctx, tenant, user)
		s.must(err)
		blocked, err := s.store.Blocked(s.ctx, tenant, user)
		s.must(err)
		rooms, err := s.store.Rooms(s.ctx, tenant, user)
		s.must(err)
		for _, r := range rooms {
			byUser(r)
		}
		all += fmt.Sprintln(u, connections, blocked, rooms)
	}
	page, err := s.store.History(s.ctx, tenant, "r", "bob", 0, 10)
	s.must(err)
	return all + fmt.Sprintln(page)
}
