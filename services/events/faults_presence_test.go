package events

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

func TestFault19And20IdleIsTheSendersOwn(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	eve.must("userEnterIdle", "guest_ada")
	eve.must("userExitIdle", "phantom")
	eve.must("userEnterIdle", "phantom")
	equal(t, "told idle", ada.told("userIsIdle"), []string{"guest_eve", "guest_eve"})
	equal(t, "told back", ada.told("userNotIdle"), []string{"guest_eve"})
}

func TestFault21NamesAreNotSelfDeclared(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		w := newWorld(t, Config{LegacyGuests: legacy})
		ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
		eve.must("userConnected", object{"userName": "Ada", "userProvider": "aad"})
		user, err := w.store.User(t.Context(), "default", "guest_eve")
		if err != nil || user.Name != "Eve" || user.Provider != "guest" {
			t.Errorf("legacy %v: got %+v, %v, want Eve, a guest", legacy, user, err)
		}
		equal(t, "others are told nothing", len(ada.told("userOnline")), 2)
	}
}

func TestFault22LeavingWhereOneIsNot(t *testing.T) {
	w := newWorld(t, Config{})
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	eve.must("leaveChat", object{"chatId": room1, "userName": "Ada"})
	equal(t, "notices", ada.notices(room1), nil)
	equal(t, "members", w.members(room1), []string{"guest_ada"})
}

func TestFault23UserEventsAreNoSystemEvents(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	eve := w.open("e", "guest_eve")
	for _, name := range []string{"disconnected", "connected", "connect"} {
		equal(t, name, eve.event(name, object{"reason": "x"}), http.StatusNotFound)
	}
	w.keepPresence()
	equal(t, "online", w.online(), []string{"guest_eve"})
}

func TestFault24PresenceNeedsNoCourtesy(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.open("a", "guest_ada")
	w.open("e", "guest_eve") // never sends userConnected
	equal(t, "Ada is told", len(ada.told("userOnline")), 2)
	equal(t, "online", w.online(), []string{"guest_ada", "guest_eve"})
}

func TestFault26And27ConnectionsAreCounted(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	bob := w.open("b", "guest_bob")
	one, two := w.open("a1", "guest_ada"), w.open("a2", "guest_ada")
	one.close()
	w.keepPresence()
	equal(t, "one tab of two", w.online(), []string{"guest_ada", "guest_bob"})
	two.close()
	two.close() // told twice
	w.keepPresence()
	w.keepPresence()
	equal(t, "told once", bob.told("userOffline"), []string{"guest_ada"})
	three := w.open("a3", "guest_ada")
	two.close() // late
	w.keepPresence()
	equal(t, "a late disconnected of an old socket", w.online(), []string{"guest_ada", "guest_bob"})
	three.close()
}

func TestFault28GhostsGo(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond, CheckInterval: time.Nanosecond})
	bob := w.open("b", "guest_bob")
	ada := w.open("a", "guest_ada")
	ada.vanish() // its gateway died, nobody says disconnected
	eve := w.open("e", "guest_eve")
	w.check()
	w.keepPresence()
	equal(t, "online", w.online(), []string{"guest_bob", "guest_eve"})
	equal(t, "told", bob.told("userOffline"), []string{"guest_ada"})
	equal(t, "what happens while the gateway cannot say", func() []string {
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		w.check()
		return w.online()
	}(), []string{"guest_bob", "guest_eve"})
	_ = eve
}

func TestFault29DisconnectLeavesMembershipsAlone(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	ada := w.open("a", "guest_ada")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	ada.close()
	w.keepPresence()
	equal(t, "members", w.members(room1), []string{"guest_ada"})
	back := w.open("a2", "guest_ada")
	hear, speak := back.may(room1)
	equal(t, "back in the room", []bool{hear, speak}, []bool{true, true})
}

func TestFault30ConcurrentJoins(t *testing.T) {
	w := newWorld(t, Config{})
	owner := w.open("a", "guest_ada")
	owner.must("createChat", object{"id": room1, "name": "Tea"})
	bob, eve := w.open("b", "guest_bob"), w.open("e", "guest_eve")
	var wg sync.WaitGroup
	for range 4 {
		for _, c := range []*conn{bob, eve} {
			wg.Go(func() {
				joined := &conn{g: w.gateway, id: c.id, user: c.user} // its own event counter
				joined.event("joinChat", room1)
			})
		}
	}
	wg.Wait()
	equal(t, "members", w.members(room1), []string{"guest_ada", "guest_bob", "guest_eve"})
	equal(t, "notices", len(owner.notices(room1)), 2)
}

func TestFault31PresenceIsToldLate(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	down := func(now bool) { w.mu.Lock(); w.down = now; w.mu.Unlock() }
	bob, ada := w.open("b", "guest_bob"), w.open("a", "guest_ada")
	down(true)
	ada.vanish()
	ada.post(cloudevents.Disconnected, "disconnected", "application/json", `{}`)
	w.keepPresence()
	w.keepPresence()
	equal(t, "while the gateway is away", bob.told("userOffline"), nil)
	down(false)
	w.payAll()
	equal(t, "once, when it is back", bob.told("userOffline"), []string{"guest_ada"})
}

func TestFault33UnknownUserJoinsNothing(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	ghost := &conn{g: w.gateway, id: "g", user: "guest_ghost", groups: map[string]bool{}, rights: map[string]bool{}}
	w.mu.Lock()
	w.conns["g"] = ghost
	w.mu.Unlock()
	equal(t, "joinChat", ghost.event("joinChat", room1), http.StatusUnauthorized)
	hear, speak := ghost.may(room1)
	equal(t, "hears or speaks", []bool{hear, speak}, []bool{false, false})
}
