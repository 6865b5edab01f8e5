package chattest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// claim claims what is due and says what it is.
func (s *suite) claim(ttl time.Duration) (list []chat.Effect, words string) {
	s.Helper()
	list, err := s.store.ClaimEffects(s.ctx, tenant, 100, ttl)
	s.must(err)
	return list, effectWords(list)
}

func effectWords(list []chat.Effect) string {
	var words []string
	for _, e := range list {
		words = append(words, fmt.Sprint(e.Kind, " ", e.RoomID+e.UserID))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// pay pays all that is owed.
func (s *suite) pay() {
	s.Helper()
	list, _ := s.claim(time.Hour)
	for _, e := range list {
		s.must(s.store.EffectPaid(s.ctx, tenant, e))
	}
	s.wantOwed(0)
}

func (s *suite) wantOwed(want int) {
	s.Helper()
	n, oldest, err := s.store.EffectsOwed(s.ctx, tenant)
	s.must(err)
	equal(s, "effects owed", n, want)
	equal(s, "without a time", oldest.IsZero(), want == 0)
	if age := time.Since(oldest); want > 0 && (age > time.Hour || age < -time.Minute) {
		s.Errorf("owed since: got %v", oldest)
	}
}

func effects(s *suite) {
	s.users("ann", "bob")
	s.wantOwed(0)
	s.room("r", "ann", "bob")
	s.wantOwed(2)
	list, words := s.claim(time.Hour)
	equal(s, "owed", words, "member rann, member rbob")
	_, words = s.claim(time.Hour)
	equal(s, "claimed by another meanwhile", words, "")
	for room, want := range map[string][]string{"r": {"ann", "bob"}, "other": nil} {
		members, err := s.store.MembersOwed(s.ctx, tenant, room)
		s.must(err)
		equal(s, "members owed in "+room+", whoever has claimed that", fmt.Sprint(members), fmt.Sprint(want))
	}
	of, err := s.store.ClaimEffectsOf(s.ctx, tenant, []string{"r"}, []string{"bob"}, time.Hour)
	s.must(err)
	equal(s, "claimed by another for their own", len(of), 0)
	for _, e := range list {
		equal(s, "version", e.Version, 1)
		equal(s, "attempts", e.Attempts, 0)
		s.must(s.store.EffectPaid(s.ctx, tenant, e))
		s.must(s.store.EffectPaid(s.ctx, tenant, e)) // again
	}
	s.wantOwed(0)

	// Owed again while it is being paid: it is not done with what was paid.
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)
	list, _ = s.claim(time.Hour)
	_, err = s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	_, words = s.claim(time.Hour)
	equal(s, "owed again while another pays", words, "") // one at a time
	s.must(s.store.EffectPaid(s.ctx, tenant, list[0]))
	s.wantOwed(1)
	list, words = s.claim(time.Hour)
	equal(s, "owed again", words, "member rbob")
	equal(s, "version", list[0].Version, 2)

	// Paying fails: later, unless it is owed again.
	s.must(s.store.EffectFailed(s.ctx, tenant, list[0], time.Hour))
	_, words = s.claim(time.Hour)
	equal(s, "to be tried in an hour", words, "")
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)
	list, words = s.claim(time.Hour)
	equal(s, "owed again before that", words, "member rbob")
	equal(s, "attempts since it was owed", list[0].Attempts, 0)
	s.must(s.store.EffectFailed(s.ctx, tenant, list[0], -time.Second))
	list, _ = s.claim(time.Hour)
	equal(s, "attempts", list[0].Attempts, 1)
	_, err = s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	s.must(s.store.EffectFailed(s.ctx, tenant, list[0], time.Hour))
	list, words = s.claim(-time.Second) // by one that ends before it is done
	equal(s, "owed again while paying failed", words, "member rbob")

	// A lease ends: what its holder says then counts no more.
	next, words := s.claim(time.Hour)
	equal(s, "claimed after the lease", words, "member rbob")
	s.must(s.store.EffectPaid(s.ctx, tenant, list[0]))
	s.must(s.store.EffectFailed(s.ctx, tenant, list[0], -time.Second))
	s.wantOwed(1)
	_, words = s.claim(time.Hour)
	equal(s, "stolen from its holder", words, "")
	s.must(s.store.EffectPaid(s.ctx, tenant, next[0]))
	s.wantOwed(0)

	// One's own.
	s.room("r2", "ann", "bob")
	s.room("r3", "bob")
	of, err = s.store.ClaimEffectsOf(s.ctx, tenant, []string{"r2"}, nil, time.Hour)
	s.must(err)
	equal(s, "of a room", effectWords(of), "member r2ann, member r2bob")
	for _, e := range of {
		s.must(s.store.EffectFailed(s.ctx, tenant, e, -time.Second))
	}
	of, err = s.store.ClaimEffectsOf(s.ctx, tenant, nil, []string{"bob"}, time.Hour)
	s.must(err)
	equal(s, "of a user", effectWords(of), "member r2bob, member r3bob")
	list, err = s.store.ClaimEffects(s.ctx, tenant, 0, time.Hour)
	s.must(err)
	equal(s, "none at most", len(list), 0)
	list, err = s.store.ClaimEffects(s.ctx, "another", 10, time.Hour)
	s.must(err)
	equal(s, "of another tenant", len(list), 0)

	// Of a deleted room its members who are here: by the time that is paid, it may be there again without them.
	_, err = s.store.Connect(s.ctx, tenant, chat.Connection{ID: "bobs", UserID: "bob"})
	s.must(err)
	for _, e := range of { // r2's of bob, and r3's
		s.must(s.store.EffectPaid(s.ctx, tenant, e))
	}
	s.pay()
	_, err = s.store.DeleteRoom(s.ctx, tenant, "r2", "ann")
	s.must(err)
	_, words = s.claim(time.Hour)
	equal(s, "deleted", words, "member r2bob, room r2")
}

// ownEffects are of what only a user's own pages are told.
func ownEffects(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann", "bob")
	s.message("r", "ann", "hello", "")
	s.pay()
	for _, step := range []struct {
		what string
		do   func() error
		owed string
	}{
		{"reading", func() error { return s.store.MarkRead(s.ctx, tenant, "r", "bob", 1) }, "read rbob"},
		{"reading again", func() error { return s.store.MarkRead(s.ctx, tenant, "r", "bob", 1) }, ""},
		{"blocking", func() error { return s.store.Block(s.ctx, tenant, "bob", "cid") }, "blocked bob"},
		{"blocking again", func() error { return s.store.Block(s.ctx, tenant, "bob", "cid") }, ""},
		{"unblocking", func() error { return s.store.Unblock(s.ctx, tenant, "bob", "cid") }, "blocked bob"},
		{"unblocking again", func() error { return s.store.Unblock(s.ctx, tenant, "bob", "cid") }, ""},
	} {
		s.must(step.do())
		list, words := s.claim(time.Hour)
		equal(s, "owed after "+step.what, words, step.owed)
		for _, e := range list {
			s.must(s.store.EffectPaid(s.ctx, tenant, e))
		}
	}
	m, err := s.store.Membership(s.ctx, tenant, "r", "bob")
	s.must(err)
	equal(s, "read", m.ReadSeq, 1)
}

// concurrentEffects has processes change and pay at once: each effect is with one payer at a time, and what was paid last
// has seen the last change.
func concurrentEffects(s *suite) {
	store := s.processes()
	users := numbered("user", 3)
	s.users("ann")
	s.users(users...)
	s.room("r", "ann")
	s.pay()
	var mu sync.Mutex
	paying, paid := map[string]bool{}, map[string]bool{} // who is being paid for; who was in when last paid
	pay := func(st chat.Store) error {
		list, err := st.ClaimEffects(s.ctx, tenant, 2, time.Hour)
		if err != nil {
			return err
		}
		for _, e := range list {
			mu.Lock()
			twice := paying[e.UserID]
			paying[e.UserID] = true
			mu.Unlock()
			if twice {
				return fmt.Errorf("the effect of %s is with two", e.UserID)
			}
			m, err := st.Membership(s.ctx, tenant, e.RoomID, e.UserID)
			if err != nil {
				return err
			}
			mu.Lock()
			paid[e.UserID], paying[e.UserID] = m.In, false
			mu.Unlock()
			if err := st.EffectPaid(s.ctx, tenant, e); err != nil {
				return err
			}
		}
		return nil
	}
	each(s, 9, func(i int) (err error) {
		st, user := store(i), users[i%3]
		for n := range 20 {
			switch {
			case i < 3 && n%2 == 0:
				_, err = st.Join(s.ctx, tenant, "r", user)
			case i < 3:
				_, err = st.Leave(s.ctx, tenant, "r", user)
			default:
				err = pay(st)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 * len(users) {
		s.must(pay(s.store))
	}
	s.wantOwed(0)
	r := s.loadRoom("r")
	for _, user := range users {
		if _, in := r.Member(user); in != paid[user] {
			s.Errorf("%s is in: %v, and was when last paid: %v", user, in, paid[user])
		}
	}
}

func access(s *suite) {
	s.users("ann", "bob")
	_, err := s.store.Access(s.ctx, tenant, "nobody")
	wantError(s, "access of an unknown user", err, chat.ErrNotFound)
	a, err := s.store.Access(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "user", a.User, chat.User{ID: "ann", Name: "ANN", Provider: "guest"})
	equal(s, "role", a.Role.Name, chat.RoleUser)
	equal(s, "may create rooms", a.Role.Allows(chat.UserCreateRoom), true)
	equal(s, "rooms", len(a.Rooms), 0)
	equal(s, "signed out", a.SignedOut.IsZero(), true)
	s.room("r", "ann")
	s.room("r2", "bob", "ann")
	pair := s.direct("bob", "ann").ID
	s.must(s.store.Block(s.ctx, tenant, "bob", "ann"))
	s.must(s.store.SignOut(s.ctx, tenant, "ann"))
	s.connect("ann", "c1", "c2")
	a, err = s.store.Access(s.ctx, tenant, "ann")
	s.must(err)
	equalList(s, "rooms", a.Rooms, chat.RoomAccess{RoomID: "r", State: chat.StateJoined, MaySpeak: true},
		chat.RoomAccess{RoomID: "r2", State: chat.StateJoined, MaySpeak: true}, chat.RoomAccess{RoomID: pair, State: chat.StateInvited})
	equal(s, "connections", a.Connections, 2)
	person, err := s.store.Person(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "signed out, as the person is", a.SignedOut, person.SignedOut)
	_, err = s.store.RemoveProfile(s.ctx, tenant, "ann", chat.Condition{})
	s.must(err)
	a, err = s.store.Access(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "removed", a.Removed, true)
	equal(s, "rooms of one who was removed", len(a.Rooms), 0)

	_, _, err = s.store.PresenceOf(s.ctx, tenant, "nobody")
	wantError(s, "presence of an unknown user", err, chat.ErrNotFound)
	p, online, err := s.store.PresenceOf(s.ctx, tenant, "ann")
	s.must(err)
	equal(s, "presence", p, chat.Presence{User: chat.User{ID: "ann", Name: "ANN", Provider: "guest"}})
	equal(s, "online", online, true)
	_, online, err = s.store.PresenceOf(s.ctx, tenant, "bob")
	s.must(err)
	equal(s, "online", online, false)
}

// revisions move with every change of what a user's own list shows, and of no other's.
func revisions(s *suite) {
	s.users("ann", "bob", "cid")
	was := map[string]int64{}
	moved := func(what string, want ...string) {
		s.Helper()
		var got []string
		for _, user := range []string{"ann", "bob", "cid"} {
			revision := s.own(user).Revision
			if revision != was[user] {
				got = append(got, user)
			}
			if revision < was[user] {
				s.Errorf("%s: the revision of %s fell from %d to %d", what, user, was[user], revision)
			}
			was[user] = revision
		}
		equalList(s, "lists changed by "+what, got, want...)
	}
	s.room("r", "ann")
	moved("creating", "ann")
	_, err := s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	moved("joining", "bob")
	_, err = s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	moved("joining again")
	s.message("r", "ann", "hello", "")
	moved("a message")
	s.must(s.store.MarkRead(s.ctx, tenant, "r", "bob", 1))
	moved("reading", "bob")
	s.must(s.store.MarkRead(s.ctx, tenant, "r", "bob", 1))
	moved("reading again")
	pair := s.direct("ann", "bob").ID
	moved("a direct room", "ann", "bob")
	_, err = s.store.Join(s.ctx, tenant, pair, "bob")
	s.must(err)
	moved("accepting", "bob")
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	moved("blocking", "ann", "bob")
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	moved("blocking again")
	s.must(s.store.Unblock(s.ctx, tenant, "ann", "bob"))
	moved("unblocking", "ann", "bob")
	_, err = s.store.PutMember(s.ctx, tenant, "r", "cid", "room.operator", chat.Condition{})
	s.must(err)
	moved("a member", "cid")
	_, err = s.store.PutRole(s.ctx, tenant, chat.Role{Name: chat.RoleMember}, chat.Condition{})
	s.must(err)
	moved("a role of bob's", "bob")
	s.must(s.store.DeleteRole(s.ctx, tenant, chat.RoleMember, chat.Condition{}))
	moved("its end", "bob")
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)
	moved("leaving", "bob")
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)
	moved("leaving again")
	_, err = s.store.DeleteRoom(s.ctx, tenant, "r", "ann")
	s.must(err)
	moved("deleting", "ann", "cid")
}
