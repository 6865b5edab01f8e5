package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// machine is a node of a network whose connections can move, with what a gateway would do about them.
type machine struct {
	*node.Node
	conns *hub.Registry
	stop  func()

	handingOver func()      // called when a connection leaves, before it has left
	imported    chan string // what has come along with connections
	gone        chan hub.Closing
}

func newMachine(t *testing.T, bus cluster.Bus) *machine {
	n := &machine{imported: make(chan string, 10), gone: make(chan hub.Closing, 10), handingOver: func() {}}
	ctx, stop := context.WithCancel(context.Background())
	n.conns = hub.NewRegistry(hub.Options{Writers: 1, Recovery: 30 * time.Second}, prometheus.NewRegistry())
	n.Node = node.New(bus, n.conns, node.Options{Handoff: handoff.Hooks{
		Admit:         func(_ *hub.Conn, credential string) bool { return credential == "mine" },
		AwaitRequests: func(context.Context, *hub.Conn) error { return nil },
		Export:        func(*hub.Conn) []byte { return []byte("exported") },
		HandOver: func(*hub.Conn) ([]byte, error) {
			n.handingOver()
			return []byte("released"), nil
		},
		CancelHandOver: func(*hub.Conn) {},
		Resume:         func(_ *hub.Conn, exported []byte) { n.imported <- string(exported) },
	}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var work sync.WaitGroup
	work.Go(func() { _ = n.conns.Run(ctx) })
	work.Go(func() { _ = n.Run(ctx) })
	n.stop = func() {
		stop()
		work.Wait()
	}
	t.Cleanup(n.stop)
	testkit.Eventually(t, 10*time.Second, func() bool { return n.Ready() == nil }, "the node is ready")
	return n
}

var testHub = webpubsub.HubKey{Tenant: "t", Hub: "h"}

// memory returns a function that adds a node's bus to one network.
func memory() func() cluster.Bus {
	net := membus.NewNetwork()
	return func() cluster.Bus { return net.Bus() }
}

// leave opens a connection in group g whose client is away.
func (n *machine) leave(t *testing.T) *hub.Conn {
	t.Helper()
	c, err := n.Open(t.Context(), hub.ConnOptions{ID: n.NewConnectionID(), Hub: testHub, UserID: "u", Codec: protocol.ReliableJSON,
		OnClosed: func(_ *hub.Conn, closing hub.Closing) { n.gone <- closing }}, []string{"g"})
	if err != nil {
		t.Fatal(err)
	}
	if !n.conns.ImportUnacked(c, hub.Unacked{}) {
		t.Fatal("the connection has ended")
	}
	return c
}

func (n *machine) takeOver(ctx context.Context, id string) error {
	return n.Handoffs.TakeOver(ctx, testHub, id, "mine", func(s handoff.ConnState) (hub.ConnOptions, error) {
		return hub.ConnOptions{ID: id, Hub: testHub, UserID: s.UserID, Codec: protocol.ReliableJSON, Permissions: s.Permissions.Permissions(),
			OnClosed: func(_ *hub.Conn, closing hub.Closing) { n.gone <- closing }}, nil
	})
}

func (n *machine) say(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		err := n.Send(t.Context(), webpubsub.Audience{Hub: testHub, Scope: webpubsub.ScopeGroup, Name: "g"}, webpubsub.Message{Data: webpubsub.Text(text)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantKept checks what a connection has kept; it is frozen by that.
func (n *machine) wantKept(t *testing.T, c *hub.Conn, want ...string) {
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

// destination is a node that takes a connection over by hand, so that it can stop anywhere.
type destination struct {
	peer  *cluster.Peer
	conn  string
	token string
	stop  func()
}

func newDestination(t *testing.T, bus cluster.Bus, conn, token string) *destination {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	d := &destination{cluster.NewPeer(bus, nil), conn, token, func() { stop(); work.Wait() }}
	work.Go(func() { _ = d.peer.Run(ctx, func(_ string, payload []byte) { d.peer.Parse(payload) }, func() {}) })
	t.Cleanup(d.stop)
	testkit.Eventually(t, 10*time.Second, func() bool { return d.peer.Ready() == nil }, "the destination's bus is ready")
	if err := d.peer.Subscribe(t.Context(), cluster.Inbox(d.peer.ID())); err != nil {
		t.Fatal(err)
	}
	return d
}

// begin begins to take c over, and publishes the marker for group g.
func begin(t *testing.T, bus cluster.Bus, c *hub.Conn) *destination {
	t.Helper()
	d := newDestination(t, bus, c.ID, "token")
	if status, text := d.ask(t, wire.VerbHandoffBegin, "mine"); status != wire.StatusOK || text != c.ID[:cluster.NodeIDSize] {
		t.Fatalf("got %v, %q; want the source's consent and id", status, text)
	}
	d.tell(t, cluster.Topic(testHub, webpubsub.ScopeGroup, "g"), wire.VerbHandoffMark)
	return d
}

func (d *destination) order(v wire.Verb, args ...string) *wire.Order {
	o := &wire.Order{Verb: v, Conn: d.conn, Target: testHub, Args: wire.AppendString(nil, d.token)}
	for _, arg := range args {
		o.Args = wire.AppendString(o.Args, arg)
	}
	return o
}

// ask asks the node that made the connection, which is the source.
func (d *destination) ask(t *testing.T, v wire.Verb, args ...string) (wire.Status, string) {
	t.Helper()
	answers, err := d.peer.Ask(t.Context(), cluster.Inbox(d.conn[:cluster.NodeIDSize]), d.order(v, args...).Append(nil))
	if err != nil || len(answers) != 1 {
		t.Fatalf("got %d answers, %v; want one", len(answers), err)
	}
	return wire.ReadStatus(answers[0])
}

// tell returns when the bus has the order.
func (d *destination) tell(t *testing.T, topic string, v wire.Verb) {
	t.Helper()
	posted := make(chan error, 1)
	d.peer.Post(topic, d.order(v).Append(cluster.NewTell(64)), func(_ int, err error) { posted <- err })
	if err := <-posted; err != nil {
		t.Fatal(err)
	}
}

// TestSourceKeepsWhatNobodyTakesOver has a destination that falls silent in the middle: the source has all messages, in order.
//
// checklist:C18 O06
func TestSourceKeepsWhatNobodyTakesOver(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *destination){
		"silence": func(*testing.T, *destination) {},
		"death":   func(_ *testing.T, d *destination) { d.stop() },
		"word": func(t *testing.T, d *destination) {
			d.tell(t, cluster.Inbox(d.conn[:cluster.NodeIDSize]), wire.VerbHandoffCancel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := memory()
			a := newMachine(t, bus())
			a.Handoffs.SetSilence(100 * time.Millisecond)
			c := a.leave(t)
			a.say(t, "1", "2")
			d := begin(t, bus(), c)
			a.say(t, "3", "4")
			granted := make(chan error, 1)
			go func() {
				granted <- a.Grant(context.Background(), testHub, c.ID, webpubsub.SendToGroup, "g")
			}()
			end(t, d)
			testkit.Eventually(t, 10*time.Second, func() bool { return !a.Handoffs.Moving(c.ID) && !c.Frozen() }, "the handoff is given up")
			a.say(t, "5")
			if err := <-granted; err != nil || !c.Allows(webpubsub.SendToGroup, "g") {
				t.Errorf("got %v, want the permission that was granted during the handoff", err)
			}
			a.wantKept(t, c, "1", "2", "3", "4", "5")
			if d := newMachine(t, membus.New()); d.takeOver(t.Context(), c.ID) == nil {
				t.Error("got a connection of another network")
			}
		})
	}
}

// TestDestinationHasEverything moves a connection while others change it, and asks again for what went along.
func TestDestinationHasEverything(t *testing.T) {
	t.Parallel()
	bus := memory()
	a, b := newMachine(t, bus()), newMachine(t, bus())
	c := a.leave(t)
	a.say(t, "1", "2")
	changed := make(chan error, 2)
	go func() {
		changed <- b.Grant(context.Background(), testHub, c.ID, webpubsub.SendToGroup, "g")
	}()
	go func() {
		changed <- a.Join(context.Background(), webpubsub.Audience{Hub: testHub, Scope: webpubsub.ScopeUser, Name: "u"}, "late")
	}()
	if err := b.takeOver(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	a.say(t, "3")
	for range 2 {
		if err := <-changed; err != nil {
			t.Errorf("got %v from a change during a handoff, want nil", err)
		}
	}
	here := b.conns.Conn(c.ID)
	if got := <-b.imported; got != "released" || here == nil || a.conns.Len() != 0 {
		t.Fatalf("got %q along with connection %v, want what was released", got, here)
	}
	if groups := b.conns.Groups(here); len(groups) != 2 || !here.Allows(webpubsub.SendToGroup, "g") {
		t.Errorf("got groups %v, want g and late, and the permission", groups)
	}
	b.wantKept(t, here, "1", "2", "3")
	if closing := <-a.gone; closing.Reason != hub.ReasonHandedOver {
		t.Errorf("got %v on the node that it left, want that it has moved", closing)
	}
	tokens := a.Handoffs.Released()
	if len(tokens) != 1 {
		t.Fatalf("got tokens %v, want one", tokens)
	}
	d := newDestination(t, bus(), c.ID, tokens[0])
	if status, again := d.ask(t, wire.VerbHandoffCommit); status != wire.StatusOK || again != "released" {
		t.Errorf("got %v, %q to the same question, want the same answer", status, again)
	}
}

// TestClosedDuringHandoff has the application close a connection between two nodes: it is neither on one nor on the other.
func TestClosedDuringHandoff(t *testing.T) {
	t.Parallel()
	bus := memory()
	a, b := newMachine(t, bus()), newMachine(t, bus())
	c := a.leave(t)
	d := begin(t, bus(), c)
	if err := b.Close(t.Context(), webpubsub.Audience{Hub: testHub, Scope: webpubsub.ScopeGroup, Name: "g"}, "enough"); err != nil {
		t.Fatal(err)
	}
	if closing := <-a.gone; closing.Reason != hub.ReasonRequested {
		t.Errorf("got %v, want that it was closed", closing)
	}
	if status, _ := d.ask(t, wire.VerbHandoffCommit); status != wire.StatusNotFound {
		t.Errorf("got status %v for a closed connection, want not found", status)
	}
	if err := b.takeOver(t.Context(), c.ID); !errors.Is(err, handoff.ErrNotFound) || b.conns.Len() != 0 {
		t.Errorf("got %v, want not found", err)
	}
}

// fickle is a bus that loses payloads when it is told to.
type fickle struct {
	cluster.Bus
	lost *atomic.Uint64
}

func (f fickle) LossCount() uint64 { return f.lost.Load() }

// TestNothingMovesThatMayHaveMissedMessages has the bus of the source lose something in the middle.
func TestNothingMovesThatMayHaveMissedMessages(t *testing.T) {
	t.Parallel()
	var lost atomic.Uint64
	bus := memory()
	a, b := newMachine(t, fickle{bus(), &lost}), newMachine(t, bus())
	c := a.leave(t)
	d := begin(t, bus(), c)
	lost.Add(1)
	if status, _ := d.ask(t, wire.VerbHandoffCommit); status != wire.StatusNotFound {
		t.Errorf("got status %v, want that the source does not let it go", status)
	}
	if err := b.takeOver(t.Context(), c.ID); !errors.Is(err, handoff.ErrMoving) {
		t.Errorf("got %v, want to be told to try again", err)
	}
	a.Handoffs.Healed(1)
	if err := b.takeOver(t.Context(), c.ID); err != nil {
		t.Errorf("got %v for one that has missed nothing", err)
	}
}

// TestWhoMayReturnIsNotGone asks about a connection of a node that is not there, before and after the bus was lost: as that node may
// come back and have the connection still, what was asked for is not done.
func TestWhoMayReturnIsNotGone(t *testing.T) {
	t.Parallel()
	var lost atomic.Uint64
	bus := memory()
	a, away := newMachine(t, fickle{bus(), &lost}), newMachine(t, bus())
	id := away.NewConnectionID()
	away.stop()
	there := a.leave(t)
	ask := func(when string, want error) {
		t.Helper()
		conn := webpubsub.Audience{Hub: testHub, Scope: webpubsub.ScopeConnection, Name: id}
		_, errExists := a.Exists(t.Context(), conn)
		for what, err := range map[string]error{
			"revoke": a.Revoke(t.Context(), testHub, id, webpubsub.SendToGroup, "g"),
			"leave":  a.Leave(t.Context(), conn, "g"),
			"close":  a.Close(t.Context(), conn, "enough"),
			"send":   a.Send(t.Context(), conn, webpubsub.Message{Data: webpubsub.Text("hi")}),
			"exists": errExists,
		} {
			if want == nil && errors.Is(err, handoff.ErrNotFound) {
				err = nil
			}
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: got %v, want %v", when, what, err, want)
			}
		}
		if err := a.Leave(t.Context(), webpubsub.Audience{Hub: testHub, Scope: webpubsub.ScopeConnection, Name: there.ID}, "g"); err != nil {
			t.Errorf("%s: got %v for one that is there", when, err)
		}
	}
	ask("before", nil)
	lost.Add(1)
	ask("when the bus is back", cluster.ErrUnavailable)
	a.Handoffs.Healed(1)
	ask("a moment later", cluster.ErrUnavailable)
	a.Handoffs.ReturnTimeOver()
	ask("when everybody is back who can", nil)
}

// TestMembersAreNotDoubledDuringAHandoff lists the members of a group while one of them is on two nodes.
//
// checklist:C18 O06
func TestMembersAreNotDoubledDuringAHandoff(t *testing.T) {
	t.Parallel()
	bus := memory()
	a, b := newMachine(t, bus()), newMachine(t, bus())
	c, other := a.leave(t), b.leave(t)
	want := []node.Member{{ConnectionID: c.ID, UserID: "u"}, {ConnectionID: other.ID, UserID: "u"}}
	slices.SortFunc(want, func(a, b node.Member) int { return strings.Compare(a.ConnectionID, b.ConnectionID) })
	list := func(when string) {
		for _, n := range []*machine{a, b} {
			for limit := range 4 {
				got, err := n.Members(context.Background(), testHub, "g", "", limit)
				if err != nil || !slices.Equal(got, want[:min(limit, len(want))]) {
					t.Errorf("%s, at most %d: got %v, %v; want them of %v", when, limit, got, err, want)
				}
			}
		}
	}
	list("before")
	a.handingOver = func() { list("meanwhile") }
	if err := b.takeOver(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	list("afterwards")
}
