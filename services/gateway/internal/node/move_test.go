package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// traveller is a node of a network whose connections can move.
type traveller struct {
	*Node
	stop  func()
	taken chan string // luggage
	gone  chan hub.Closing
}

func travellers(t *testing.T, bus func() cluster.Bus) (a, b *traveller) {
	return newTraveller(t, bus()), newTraveller(t, bus())
}

func newTraveller(t *testing.T, bus cluster.Bus) *traveller {
	n := &traveller{taken: make(chan string, 10), gone: make(chan hub.Closing, 10)}
	ctx, stop := context.WithCancel(context.Background())
	conns := hub.NewRegistry(hub.Options{Writers: 1}, prometheus.NewRegistry())
	n.Node = New(bus, conns, Hooks{
		Admit:    func(_ *hub.Conn, credential string) bool { return credential == "mine" },
		Settle:   func(context.Context, *hub.Conn) error { return nil },
		Pack:     func(*hub.Conn) []byte { return []byte("packed") },
		Give:     func(*hub.Conn) ([]byte, error) { return []byte("given"), nil },
		TakeBack: func(*hub.Conn) {},
		Take:     func(_ *hub.Conn, luggage []byte) { n.taken <- string(luggage) },
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var work sync.WaitGroup
	work.Go(func() { _ = conns.Run(ctx) })
	work.Go(func() { _ = n.Run(ctx) })
	n.stop = func() {
		stop()
		work.Wait()
	}
	t.Cleanup(n.stop)
	testkit.Eventually(t, 10*time.Second, func() bool { return n.Ready() == nil }, "the node is ready")
	return n
}

func memory() func() cluster.Bus {
	net := membus.NewNetwork()
	return func() cluster.Bus { return net.Bus() }
}

// leave opens a connection in group g whose client is away.
func (n *traveller) leave(t *testing.T) *hub.Conn {
	t.Helper()
	c, err := n.Open(t.Context(), hub.ConnOptions{ID: n.NewConnectionID(), Hub: foreignHub, UserID: "u", Codec: protocol.ReliableJSON,
		OnClosed: func(_ *hub.Conn, closing hub.Closing) { n.gone <- closing }}, []string{"g"})
	if err != nil {
		t.Fatal(err)
	}
	if !n.conns.ImportUnacked(c, hub.Unacked{}) {
		t.Fatal("the connection has ended")
	}
	return c
}

func (n *traveller) take(ctx context.Context, id string) error {
	return n.Take(ctx, foreignHub, id, "mine", func(t Traveller) (hub.ConnOptions, error) {
		return hub.ConnOptions{ID: id, Hub: foreignHub, UserID: t.UserID, Codec: protocol.ReliableJSON, Permissions: t.Permissions.Permissions(),
			OnClosed: func(_ *hub.Conn, closing hub.Closing) { n.gone <- closing }}, nil
	})
}

func (n *traveller) say(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		err := n.Send(t.Context(), webpubsub.Audience{Hub: foreignHub, Scope: webpubsub.ScopeGroup, Name: "g"}, webpubsub.Message{Data: webpubsub.Text(text)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantKept checks what a connection has kept; it is frozen by that.
func (n *traveller) wantKept(t *testing.T, c *hub.Conn, want ...string) {
	t.Helper()
	kept, ok := n.conns.ExportUnacked(c)
	var got []string
	for _, m := range kept.Messages {
		e := m.Envelope()
		got = append(got, string(e.JSON[e.Data:]))
	}
	for i, text := range want {
		want[i] = fmt.Sprintf("%q}", text)
	}
	if !ok || !slices.Equal(got, want) || kept.Last != uint64(len(want)) {
		t.Errorf("got %v up to number %d kept, want %v", got, kept.Last, want)
	}
}

// beginAt begins to take a connection, by hand, and publishes the marker for group g.
func (n *traveller) beginAt(t *testing.T, c *hub.Conn, token string) (giver string) {
	t.Helper()
	answer, err := n.one(n.ask(t.Context(), connection(foreignHub, c.ID), verbMoveBegin, appendStrings(nil, []string{token, "mine"})[1:]))
	if err != nil {
		t.Fatal(err)
	}
	o := order{verb: verbMoveMark, conn: c.ID, target: foreignHub, args: appendString(nil, token)}
	if _, err := n.post(t.Context(), cluster.Topic(foreignHub, webpubsub.ScopeGroup, "g"), o.encode(cluster.NewTell(0))); err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestGiverKeepsWhatNobodyTakes has a taker that falls silent in the middle: the giver has all messages, in order.
//
// checklist:C18 O06
func TestGiverKeepsWhatNobodyTakes(t *testing.T) {
	for name, end := range map[string]func(b *traveller, giver string, c *hub.Conn){
		"silence": func(*traveller, string, *hub.Conn) {},
		"death":   func(b *traveller, _ string, _ *hub.Conn) { b.stop() },
		"word": func(b *traveller, giver string, c *hub.Conn) {
			b.refuse(foreignHub, &arrival{id: c.ID, token: "token", giver: giver})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := travellers(t, memory())
			a.patience = 100 * time.Millisecond
			c := a.leave(t)
			a.say(t, "1", "2")
			giver := b.beginAt(t, c, "token")
			a.say(t, "3", "4")
			granted := make(chan error, 1)
			go func() {
				granted <- a.Grant(context.Background(), foreignHub, c.ID, webpubsub.SendToGroup, "g")
			}()
			end(b, giver, c)
			testkit.Eventually(t, 10*time.Second, func() bool { return !a.Moving(c.ID) && !c.Frozen() }, "the move is given up")
			a.say(t, "5")
			if err := <-granted; err != nil || !c.Allows(webpubsub.SendToGroup, "g") {
				t.Errorf("got %v, want the permission that was granted during the move", err)
			}
			a.wantKept(t, c, "1", "2", "3", "4", "5")
			if d := newTraveller(t, membus.New()); d.take(t.Context(), c.ID) == nil {
				t.Error("got a connection of another network")
			}
		})
	}
}

// TestTakerHasWhatIsGiven moves a connection while others change it, and asks again for what was given.
func TestTakerHasWhatIsGiven(t *testing.T) {
	t.Parallel()
	a, b := travellers(t, memory())
	c := a.leave(t)
	a.say(t, "1", "2")
	changed := make(chan error, 2)
	go func() {
		changed <- b.Grant(context.Background(), foreignHub, c.ID, webpubsub.SendToGroup, "g")
	}()
	go func() {
		changed <- a.Join(context.Background(), webpubsub.Audience{Hub: foreignHub, Scope: webpubsub.ScopeUser, Name: "u"}, "late")
	}()
	if err := b.take(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	a.say(t, "3")
	for range 2 {
		if err := <-changed; err != nil {
			t.Errorf("got %v from a change during a move, want nil", err)
		}
	}
	here := b.conns.Conn(c.ID)
	if got := <-b.taken; got != "given" || here == nil || a.conns.Len() != 0 {
		t.Fatalf("got luggage %q and connection %v, want what was given", got, here)
	}
	if groups := b.conns.Groups(here); len(groups) != 2 || !here.Allows(webpubsub.SendToGroup, "g") {
		t.Errorf("got groups %v, want g and late, and the permission", groups)
	}
	b.wantKept(t, here, "1", "2", "3")
	if closing := <-a.gone; closing.Reason != hub.ReasonHandedOver {
		t.Errorf("got %v on the node that it left, want that it has moved", closing)
	}
	a.moves.mu.Lock()
	defer a.moves.mu.Unlock()
	for token := range a.moves.given {
		o := order{verb: verbMoveCommit, conn: c.ID, target: foreignHub, args: appendString(nil, token)}
		a.moves.mu.Unlock()
		again, err := b.one(b.peer.Ask(t.Context(), cluster.Inbox(a.peer.ID()), o.encode(nil)))
		a.moves.mu.Lock()
		if string(again) != "given" || err != nil {
			t.Errorf("got %q, %v to the same question, want the same answer", again, err)
		}
	}
}

// TestClosedWhileMoving has the application close a connection between two nodes: it is neither on one nor on the other.
func TestClosedWhileMoving(t *testing.T) {
	t.Parallel()
	a, b := travellers(t, memory())
	c := a.leave(t)
	b.beginAt(t, c, "token")
	if err := b.Close(t.Context(), webpubsub.Audience{Hub: foreignHub, Scope: webpubsub.ScopeGroup, Name: "g"}, "enough"); err != nil {
		t.Fatal(err)
	}
	if closing := <-a.gone; closing.Reason != hub.ReasonRequested {
		t.Errorf("got %v, want that it was closed", closing)
	}
	o := order{verb: verbMoveCommit, conn: c.ID, target: foreignHub, args: appendString(nil, "token")}
	if _, err := b.one(b.peer.Ask(t.Context(), cluster.Inbox(a.peer.ID()), o.encode(nil))); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v for a closed connection, want not found", err)
	}
	if err := b.take(t.Context(), c.ID); !errors.Is(err, ErrNotFound) || b.conns.Len() != 0 {
		t.Errorf("got %v, want not found", err)
	}
}

// fickle is a bus that loses payloads when it is told to.
type fickle struct {
	cluster.Bus
	lost func() uint64
}

func (f fickle) Lost() uint64 { return f.lost() }

// TestNothingMovesThatMayHaveMissedMessages has the bus of the giver lose something in the middle.
func TestNothingMovesThatMayHaveMissedMessages(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	lost := uint64(0)
	bus := memory()
	a := newTraveller(t, fickle{bus(), func() uint64 { mu.Lock(); defer mu.Unlock(); return lost }})
	b := newTraveller(t, bus())
	c := a.leave(t)
	giver := b.beginAt(t, c, "token")
	mu.Lock()
	lost++
	mu.Unlock()
	o := order{verb: verbMoveCommit, conn: c.ID, target: foreignHub, args: appendString(nil, "token")}
	if _, err := b.one(b.peer.Ask(t.Context(), cluster.Inbox(giver), o.encode(nil))); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want that the giver does not let it go", err)
	}
	if err := b.take(t.Context(), c.ID); !errors.Is(err, ErrMoving) {
		t.Errorf("got %v, want to be told to try again", err)
	}
	a.Healed(1)
	if err := b.take(t.Context(), c.ID); err != nil {
		t.Errorf("got %v for one that has missed nothing", err)
	}
}

// FuzzMoveParts decodes what a giver may send, and what it says must not change by that.
func FuzzMoveParts(f *testing.F) {
	permissions, _ := webpubsub.ParseRoles([]string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup.a", "webpubsub.joinLeaveGroups.b*\\?"})
	f.Add((&Traveller{UserID: "u", Subprotocol: "s", Permissions: permissions.Rules(), Groups: []string{"g"}, acks: []uint64{1, 1 << 40}, Luggage: []byte("{}")}).encode())
	m := hub.NewMessage(protocol.NewEnvelope(&webpubsub.Message{Group: "g", Data: webpubsub.Text("x")}), hub.MessageOptions{Expires: time.UnixMilli(9)})
	f.Add(encodeKept(hub.Unacked{Last: 7, Messages: []*hub.Message{m, m}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeTraveller(b); err == nil {
			again, err := decodeTraveller(u.encode())
			if err != nil || again.UserID != u.UserID || !slices.Equal(again.Groups, u.Groups) || !slices.Equal(again.acks, u.acks) || string(again.Luggage) != string(u.Luggage) {
				t.Errorf("got %+v, %v; want %+v", again, err, u)
			}
			p := u.Permissions.Permissions()
			p.Allows(webpubsub.SendToGroup, "g")
		}
		if k, err := decodeKept(b); err == nil {
			again, err := decodeKept(encodeKept(k))
			if err != nil || again.Last != k.Last || len(again.Messages) != len(k.Messages) {
				t.Errorf("got %+v, %v; want %+v", again, err, k)
			}
		}
	})
}
