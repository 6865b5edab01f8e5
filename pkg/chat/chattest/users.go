package chattest

import (
	"cmp"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

func users(s *suite) {
	ann := chat.User{ID: "guest_1", Name: "Ann", Provider: "guest"}
	s.must(s.store.SaveUser(s.ctx, tenant, ann))
	got, err := s.store.User(s.ctx, tenant, ann.ID)
	s.must(err)
	equal(s, "user", got, ann)

	renamed := chat.User{ID: "guest_1", Name: "Annabel", Provider: "github"}
	s.must(s.store.SaveUser(s.ctx, tenant, renamed))
	got, err = s.store.User(s.ctx, tenant, ann.ID)
	s.must(err)
	equal(s, "user after saving again", got, renamed)

	_, err = s.store.User(s.ctx, tenant, "GUEST_1")
	wantError(s, "user whose id differs in case", err, chat.ErrNotFound)

	signedOut := func() time.Time {
		s.Helper()
		a, err := s.store.Access(s.ctx, tenant, ann.ID)
		s.must(err)
		return a.SignedOut
	}
	equal(s, "never signed out", signedOut().IsZero(), true)
	before := time.Now().Add(-time.Millisecond)
	s.must(s.store.SignOut(s.ctx, tenant, ann.ID))
	at := signedOut()
	if at.Before(before) || at.After(time.Now().Add(time.Millisecond)) {
		s.Errorf("signed out at %v, want now, %v", at, time.Now())
	}
	s.must(s.store.SaveUser(s.ctx, tenant, ann))
	equal(s, "signed out after saving again", signedOut(), at)
}

func presence(s *suite) {
	s.users("ann", "bob")
	connect := func(id, user string) bool {
		s.Helper()
		came, err := s.store.Connect(s.ctx, tenant, chat.Connection{ID: id, UserID: user})
		s.must(err)
		return came
	}
	equal(s, "first connection brings online", connect("c1", "ann"), true)
	equal(s, "second connection brings online", connect("c2", "ann"), false)
	equal(s, "same connection again brings online", connect("c1", "ann"), false)
	_, err := s.store.Connect(s.ctx, tenant, chat.Connection{ID: "c1", UserID: "bob"})
	wantError(s, "another user's connection id", err, chat.ErrExists)
	equal(s, "another user comes online", connect("c3", "bob"), true)
	s.wantOnline("ann", "bob")
	s.wantConnections("ann", "c1", "c2")

	s.must(s.store.Disconnect(s.ctx, tenant, "c1"))
	s.must(s.store.Disconnect(s.ctx, tenant, "c1")) // again
	s.wantSwept()                                   // c2 is left
	s.wantConnections("ann", "c2")

	s.must(s.store.Disconnect(s.ctx, tenant, "c2"))
	s.wantOnline("ann", "bob") // until swept
	equal(s, "coming back within the grace brings online", connect("c4", "ann"), false)
	s.wantSwept()                                   // she is back
	s.must(s.store.Disconnect(s.ctx, tenant, "c2")) // a late event of the old connection
	s.wantSwept()
	s.must(s.store.Disconnect(s.ctx, tenant, "c4"))
	s.wantSwept("ann")
	s.wantSwept() // once only
	s.wantOnline("bob")
	equal(s, "coming back after the sweep brings online", connect("c5", "ann"), true)
}

func idleness(s *suite) {
	s.users("ann")
	s.connect("ann", "c1", "c2")
	set := func(id string, idle, wantNow, wantChanged bool) {
		s.Helper()
		now, changed, err := s.store.SetIdle(s.ctx, tenant, chat.Connection{ID: id, UserID: "ann"}, idle)
		s.must(err)
		equal(s, id+": user idle", now, wantNow)
		equal(s, id+": changed", changed, wantChanged)
	}
	refresh := func(wantNow, wantChanged bool) {
		s.Helper()
		now, changed, err := s.store.RefreshIdle(s.ctx, tenant, "ann")
		s.must(err)
		equal(s, "user idle after refreshing", now, wantNow)
		equal(s, "changed by refreshing", changed, wantChanged)
	}
	set("c1", true, false, false) // c2 is active
	set("c2", true, true, true)
	set("c2", true, true, false) // again
	s.wantIdle("ann", true)
	set("c1", false, false, true)
	set("c1", true, true, true)

	// A change is owed with what has made it, whoever asks for it.
	wantOwed := func(want string) {
		s.Helper()
		list, words := s.claim(time.Hour)
		equal(s, "owed", words, want)
		for _, e := range list {
			s.must(s.store.EffectPaid(s.ctx, tenant, e))
		}
	}
	wantOwed("presence ann")
	s.connect("ann", "c3") // a new connection is active
	wantOwed("presence ann")
	refresh(false, false)
	s.must(s.store.Disconnect(s.ctx, tenant, "c3"))
	wantOwed("presence ann")
	refresh(true, false)
	wantOwed("")
	s.connect("ann", "c1") // recorded already, and idle
	refresh(true, false)

	s.must(s.store.Disconnect(s.ctx, tenant, "c1"))
	s.must(s.store.Disconnect(s.ctx, tenant, "c2"))
	refresh(true, false) // without connections it stays
	s.wantSwept("ann")
	s.connect("ann", "c4")
	s.wantIdle("ann", false) // who comes online is active
	refresh(false, false)
}

func sweeping(s *suite) {
	s.users("ann", "bob", "cid")
	s.connect("ann", "a")
	s.connect("bob", "b")
	s.must(s.store.Disconnect(s.ctx, tenant, "a"))
	s.must(s.store.Disconnect(s.ctx, tenant, "b"))
	swept, err := s.store.SweepOffline(s.ctx, tenant, never())
	s.must(err)
	equal(s, "users swept who went after the time", len(swept), 0)
	s.wantSwept("ann", "bob")
	s.wantOnline()
}

func claiming(s *suite) {
	s.users("ann", "bob")
	s.connect("ann", "c1", "c2")
	s.connect("bob", "c3")
	claim := func(before time.Time, limit int) []chat.Connection {
		s.Helper()
		list, err := s.store.ClaimConnections(s.ctx, tenant, before, limit)
		s.must(err)
		slices.SortFunc(list, func(a, b chat.Connection) int { return cmp.Compare(a.ID, b.ID) })
		return list
	}
	equalList(s, "claimed since they connected", claim(never(), 10))
	start := time.Now().Add(time.Minute)
	equal(s, "claimed within the limit", len(claim(start, 2)), 2)
	equalList(s, "claimed", claim(start, 10),
		chat.Connection{ID: "c1", UserID: "ann"}, chat.Connection{ID: "c2", UserID: "ann"}, chat.Connection{ID: "c3", UserID: "bob"})
	equalList(s, "claimed with limit 0", claim(start, 0))
	equalList(s, "claimed with limit -1", claim(start, -1))
	equal(s, "claimed with a huge limit", len(claim(start, 1<<30)), 3)
}

func blocks(s *suite) {
	s.users("ann", "bob", "cid")
	r := s.direct("ann", "bob")
	s.message(r.ID, "bob", "hello", "")
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob")) // again
	s.must(s.store.Block(s.ctx, tenant, "ann", "cid"))
	blocked, err := s.store.Blocked(s.ctx, tenant, "ann")
	s.must(err)
	equalList(s, "blocked by ann", blocked, "bob", "cid")
	blocked, err = s.store.Blocked(s.ctx, tenant, "bob")
	s.must(err)
	equalList(s, "blocked by bob", blocked)
	for user, want := range map[string][]string{"ann": {r.ID}, "bob": {r.ID}, "cid": nil} { // cid has no room with ann
		equalList(s, "muted for "+user, s.muted(user), want...)
	}

	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: r.ID, AuthorID: "bob", Text: "hello?"})
	wantError(s, "message of a blocked user", err, chat.ErrForbidden)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: r.ID, AuthorID: "ann", Text: "goodbye"})
	wantError(s, "message of the one who has blocked", err, chat.ErrMuted)
	for _, pair := range [][2]string{{"ann", "bob"}, {"bob", "ann"}, {"cid", "ann"}} {
		_, _, err = s.store.DirectRoom(s.ctx, tenant, pair[0], pair[1])
		wantError(s, "direct room of "+pair[0]+" with "+pair[1], err, chat.ErrForbidden)
	}
	s.room("r", "ann", "bob")
	s.message("r", "bob", "public rooms are not concerned", "")

	s.must(s.store.Unblock(s.ctx, tenant, "ann", "bob"))
	s.must(s.store.Unblock(s.ctx, tenant, "ann", "bob")) // again
	s.message(r.ID, "bob", "hello!", "")
	equal(s, "direct room after unblocking", s.direct("bob", "ann").ID, r.ID)
}

// wantSwept sweeps everybody who has gone and checks who that was.
func (s *suite) wantSwept(want ...string) {
	s.Helper()
	swept, err := s.store.SweepOffline(s.ctx, tenant, ever())
	s.must(err)
	var got []string
	for _, u := range swept {
		got = append(got, u.ID)
		stored, err := s.store.User(s.ctx, tenant, u.ID)
		s.must(err)
		equal(s, "swept user", u, stored)
	}
	slices.Sort(got)
	equalList(s, "users swept offline", got, want...)
}

func (s *suite) wantOnline(want ...string) {
	s.Helper()
	online, err := s.store.Online(s.ctx, tenant)
	s.must(err)
	var got []string
	for _, p := range online {
		got = append(got, p.ID)
		stored, err := s.store.User(s.ctx, tenant, p.ID)
		s.must(err)
		equal(s, "user online", p.User, stored)
	}
	equalList(s, "users online", got, want...)
}

func (s *suite) wantIdle(user string, want bool) {
	s.Helper()
	online, err := s.store.Online(s.ctx, tenant)
	s.must(err)
	for _, p := range online {
		if p.ID == user {
			equal(s, user+" is idle", p.Idle, want)
			return
		}
	}
	s.Errorf("%s is not online", user)
}

func (s *suite) wantConnections(user string, want ...string) {
	s.Helper()
	list, err := s.store.Connections(s.ctx, tenant, user)
	s.must(err)
	var got []string
	for _, c := range list {
		equal(s, "user of connection "+c.ID, c.UserID, user)
		got = append(got, c.ID)
	}
	slices.Sort(got)
	equalList(s, "connections of "+user, got, want...)
}
