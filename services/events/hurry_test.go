package events

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/telling"
)

func TestRoomJoinedBetweenConnectAndConnected(t *testing.T) {
	w := newWorld(t, Config{})
	bob := w.open("b", "guest_bob")
	bob.must("createChat", object{"id": room1, "name": "Tea"})
	late := &conn{g: w.gateway, id: "a1", user: "guest_ada", groups: map[string]bool{}, rights: map[string]bool{}}
	answer := late.post("azure.webpubsub.sys.connect", "connect", "application/json", `{}`)
	late.state = answer.Header().Get("ce-connectionState")
	w.mu.Lock()
	w.conns["a1"] = late
	w.mu.Unlock()
	if _, err := w.store.Join(t.Context(), "default", room1, "guest_ada"); err != nil { // as another tab does now
		t.Fatal(err)
	}
	late.post("azure.webpubsub.sys.connected", "connected", "application/json", `{}`)
	hear, speak := late.may(room1)
	equal(t, "hears and speaks", []bool{hear, speak}, []bool{true, true})
}

func TestRoomLostBetweenConnectAndConnected(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a1", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	late := &conn{g: w.gateway, id: "a2", user: "guest_ada", groups: map[string]bool{room1: true}, rights: map[string]bool{room1: true}}
	answer := late.post("azure.webpubsub.sys.connect", "connect", "application/json", `{}`)
	late.state = answer.Header().Get("ce-connectionState")
	w.mu.Lock()
	w.conns["a2"] = late
	w.mu.Unlock()
	if _, err := w.store.Leave(t.Context(), "default", room1, "guest_ada"); err != nil { // as another tab does now
		t.Fatal(err)
	}
	late.post("azure.webpubsub.sys.connected", "connected", "application/json", `{}`)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns["a2"] != nil {
		t.Error("the connection is left in a room that its user has left")
	}
}

func TestRoomThatComesAndGoesBetweenConnectAndConnected(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("ana0", "ana")
	late := &conn{g: w.gateway, id: "ana1", user: "ana", groups: map[string]bool{}, rights: map[string]bool{}}
	answer := late.post("azure.webpubsub.sys.connect", "connect", "application/json", `{}`)
	late.state = answer.Header().Get("ce-connectionState")
	w.mu.Lock()
	w.conns["ana1"] = late
	w.mu.Unlock()
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den", object{"title": "Den"})
	w.mustRequest(http.StatusCreated, "PUT", "rooms/den/members/ana", object{"roleName": "room.member"})
	w.mustRequest(http.StatusNoContent, "DELETE", "rooms/den", nil)
	w.payAll()
	late.post("azure.webpubsub.sys.connected", "connected", "application/json", `{}`)
	equal(t, "told", []int{len(late.notified("RoomJoined")), len(late.notified("RoomClosed"))}, []int{1, 1})
}

// hurried is a store in which something happens right after it was read how a user stands to a room.
type hurried struct {
	chat.Store
	userID string
	then   once
}

// once is something that is done once, by whoever comes to it first.
type once struct {
	mu sync.Mutex
	do func()
}

func (o *once) set(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.do = do
}

func (o *once) now() {
	o.mu.Lock()
	do := o.do
	o.do = nil
	o.mu.Unlock()
	if do != nil {
		do()
	}
}

func (h *hurried) Membership(ctx context.Context, tenant, roomID, userID string) (chat.Membership, error) {
	m, err := h.Store.Membership(ctx, tenant, roomID, userID)
	if userID == h.userID {
		h.then.now()
	}
	return m, err
}

func TestNobodyGetsInByHurrying(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world, owner *conn){
		"deleted": func(w *world, owner *conn) { owner.must("deleteChat", room1) },
		"left":    func(w *world, owner *conn) { w.open("e2", "guest_eve").must("leaveChat", room1) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			store := &hurried{Store: w.store, userID: "guest_eve"}
			w.swap.Store = store
			owner, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
			owner.must("createChat", object{"id": room1, "name": "Tea"})
			store.then.set(func() { meanwhile(w, owner) })
			eve.must("joinChat", room1)
			hear, speak := eve.may(room1)
			equal(t, "hears and speaks", []bool{hear, speak}, []bool{false, false})
		})
	}
}

// Whoever looks at a room and leaves it at the same moment, by another page, does not hear on who is typing there.
func TestNobodyLooksOnByHurrying(t *testing.T) {
	w := newWorld(t, Config{})
	store := &hurried{Store: w.store, userID: "guest_eve"}
	w.swap.Store = store
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	eve, eve2 := w.open("e", "guest_eve"), w.open("e2", "guest_eve")
	eve.must("joinChat", room1)
	store.then.set(func() { eve2.must("leaveChat", room1) })
	eve.event("lookAt", object{"chatId": room1, "looking": true})
	hear, speak := eve.may(telling.TypingGroup(room1))
	equal(t, "hears and says who is typing", []bool{hear, speak}, []bool{false, false})
}

func TestBlockedDoesNotGetInByHurrying(t *testing.T) {
	w := newWorld(t, Config{})
	store := &hurried{Store: w.store, userID: "guest_eve"}
	w.swap.Store = store
	bob, eve := w.open("b", "guest_bob"), w.open("e", "guest_eve")
	eve.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	private := in[object](t, bob.told("joinPrivateChat")[0])["id"].(string)
	bob.must("blockUser", object{"userId": "guest_eve"})
	store.then.set(func() { bob.must("blockUser", object{"userId": "guest_eve"}) })
	bob.must("unblockUser", object{"userId": "guest_eve"})
	if _, speak := eve.may(private); speak {
		t.Error("eve may speak to who has blocked her")
	}
}

// changing is a store in which something happens right before a membership, or a block, changes.
type changing struct {
	chat.Store
	first once
}

func (c *changing) Join(ctx context.Context, tenant, roomID, userID string) (bool, error) {
	c.first.now()
	return c.Store.Join(ctx, tenant, roomID, userID)
}

func (c *changing) Leave(ctx context.Context, tenant, roomID, userID string) (bool, error) {
	c.first.now()
	return c.Store.Leave(ctx, tenant, roomID, userID)
}

func (c *changing) Block(ctx context.Context, tenant, byID, otherID string) error {
	c.first.now()
	return c.Store.Block(ctx, tenant, byID, otherID)
}

// TestNoTabIsForgottenThatOpensMeanwhile opens a tab, wholly, while an event of another tab is under way.
func TestNoTabIsForgottenThatOpensMeanwhile(t *testing.T) {
	w := newWorld(t, Config{})
	store := &changing{Store: w.store}
	w.swap.Store = store
	ada, eve := w.open("a", "guest_ada"), w.open("e", "guest_eve")
	ada.must("createChat", object{"id": room1, "name": "Tea"})

	var tab *conn
	store.first.set(func() { tab = w.open("e2", "guest_eve") })
	eve.must("joinChat", room1)
	hear, speak := tab.may(room1)
	equal(t, "hears and speaks where its user has joined", []bool{hear, speak}, []bool{true, true})

	store.first.set(func() { tab = w.open("e3", "guest_eve") })
	eve.must("leaveChat", room1)
	hear, speak = tab.may(room1)
	equal(t, "hears and speaks where its user has left", []bool{hear, speak}, []bool{false, false})

	eve.must("createPrivateChat", object{"targetUserId": "guest_ada"})
	private := in[object](t, ada.told("joinPrivateChat")[0])["id"].(string)
	store.first.set(func() { tab = w.open("e4", "guest_eve") })
	eve.must("blockUser", object{"userId": "guest_ada"})
	if _, speak := tab.may(private); speak {
		t.Error("a tab may speak to whom its user has blocked")
	}
}

// swept is a store that lets something happen after users have been turned offline, before anybody is told.
type swept struct {
	chat.Store
	then once
}

func (s *swept) SweepOffline(ctx context.Context, tenant string, before time.Time) ([]chat.User, error) {
	users, err := s.Store.SweepOffline(ctx, tenant, before)
	s.then.now()
	return users, err
}

func TestWhoComesBackMeanwhileIsNotSaidToBeGone(t *testing.T) {
	w := newWorld(t, Config{OfflineGrace: time.Nanosecond})
	store := &swept{Store: w.store}
	w.swap.Store = store
	bob, ada := w.open("b", "guest_bob"), w.open("a1", "guest_ada")
	ada.close()
	store.then.set(func() { w.open("a2", "guest_ada") })
	w.keepPresence()
	equal(t, "online", w.online(), []string{"guest_ada", "guest_bob"})
	last := ""
	for _, f := range bob.frames() {
		if strings.Contains(f.body, "guest_ada") && (strings.Contains(f.body, "userOnline") || strings.Contains(f.body, "userOffline")) {
			last = f.body
		}
	}
	if !strings.Contains(last, "userOnline") {
		t.Errorf("what Bob is told last of Ada: got %s, want that she is online", last)
	}
}

// TestWhoIsIdleIsToldByWhoeverPays has a worker pay what an idle person's own event owes, before that event comes to it: pages of
// the original know of idleness by a message of its own.
func TestWhoIsIdleIsToldByWhoeverPays(t *testing.T) {
	w := newWorld(t, Config{})
	bob := w.open("b", "guest_bob")
	w.open("a", "guest_ada")
	for _, idle := range []bool{true, false} {
		if _, _, err := w.store.SetIdle(t.Context(), "default", chat.Connection{ID: "a", UserID: "guest_ada"}, idle); err != nil {
			t.Fatal(err)
		}
		w.payAll()
	}
	equal(t, "told to be idle", len(bob.told("userIsIdle")), 1)
	equal(t, "told to be in use again", len(bob.told("userNotIdle")), 1)
}

// elsewhere is a store whose effects another process has always claimed, and has not come to yet.
type elsewhere struct{ chat.Store }

func (elsewhere) ClaimEffectsOf(context.Context, string, []string, []string, time.Duration) ([]chat.Effect, error) {
	return nil, nil
}

// Who joins hears of it although what that takes is in the hands of another process, and whoever is put into a room may speak as
// soon as that has been told.
func TestWhoComesHearsOfItWhoeverPays(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	w.swap.Store = elsewhere{w.store}
	bob.must("joinChat", room1)
	equal(t, "what the one who joins is told", bob.notices(room1), []string{"Bob &amp; Co has joined the chat"})
	hear, speak := bob.may(room1)
	equal(t, "hears and speaks", []bool{hear, speak}, []bool{true, true})
	ada.must("createPrivateChat", object{"targetUserId": "guest_bob"})
	equal(t, "what the one who is invited is told", len(bob.told("joinPrivateChat")), 1)
	room := in[object](t, bob.told("joinPrivateChat")[0])["id"].(string)
	hear, _ = bob.may(room)
	equal(t, "hears the private chat", hear, true)
}
