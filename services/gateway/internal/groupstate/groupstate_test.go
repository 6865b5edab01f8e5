package groupstate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

var testHub = webpubsub.HubKey{Tenant: "t", Hub: "h"}

// gate is a bus that can keep questions about group state back.
type gate struct {
	cluster.Bus
	mu     sync.Mutex // guards the following
	closed bool
	kept   []func() // that post
}

func (g *gate) Post(topic string, payload []byte, done func(int, error)) {
	post := func() { g.Bus.Post(topic, payload, done) }
	g.mu.Lock()
	if g.closed && cluster.Kind(payload[0]) == cluster.Ask && strings.HasPrefix(topic, "state/") {
		g.kept = append(g.kept, post)
		post = func() {}
	}
	g.mu.Unlock()
	post()
}

// close keeps questions back from now on.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// wait returns when n questions are kept back.
func (g *gate) wait(t *testing.T, n int) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.kept) == n
	}, fmt.Sprintf("%d questions are under way", n))
}

// take returns what posts the questions that were kept back. None is kept back any more.
func (g *gate) take() []func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.kept
	g.closed, g.kept = false, nil
	return kept
}

// machine is a node with a gate before its bus.
type machine struct {
	*groupstate.States
	node  *node.Node
	conns *hub.Registry
	gate  *gate
}

func newMachine(t *testing.T, bus cluster.Bus) *machine {
	t.Helper()
	m := &machine{conns: hub.NewRegistry(hub.Options{Writers: 1, Recovery: 30 * time.Second}, prometheus.NewRegistry()), gate: &gate{Bus: bus}}
	m.node = node.New(m.gate, m.conns, node.Options{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	m.States = m.node.States
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = m.conns.Run(ctx) })
	work.Go(func() { _ = m.node.Run(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return m.node.Ready() == nil }, "the node is ready")
	return m
}

// client is a connection, and the codec that hears what is pushed to it.
type client struct {
	protocol.Codec
	conn *hub.Conn
	node *machine

	mu      sync.Mutex // guards the following
	heard   []string   // "snapshot" or "update", and each item's state by its user
	pushing func()     // called before an update is pushed
}

func (m *machine) open(t *testing.T, user string) *client {
	t.Helper()
	c := &client{Codec: protocol.ReliableJSON, node: m}
	conn, err := m.node.Open(t.Context(), hub.ConnOptions{ID: m.node.NewConnectionID(), Hub: testHub, UserID: user, Codec: c,
		OnClosed: func(*hub.Conn, hub.Closing) {}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.conn = conn
	return c
}

// AppendGroupState records what is pushed. The connection has no socket.
func (c *client) AppendGroupState(_ []byte, _ string, snapshot bool, list []protocol.GroupStateItem) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := map[string]string{}
	for _, item := range list {
		states[item.UserID] = string(item.State)
	}
	kind := "snapshot"
	if !snapshot {
		kind = "update"
		if c.pushing != nil {
			c.pushing()
		}
	}
	c.heard = append(c.heard, kind+" "+fmt.Sprint(states))
	return nil
}

func (c *client) set(t *testing.T, state string) {
	t.Helper()
	var b []byte
	if state != "" {
		b = []byte(`{"s":"` + state + `"}`)
	}
	if err := c.node.Set(t.Context(), c.conn, "g", b); err != nil {
		t.Fatal(err)
	}
}

func (c *client) subscribe(ctx context.Context) error {
	return c.node.Subscribe(ctx, c.conn, "g", func() {})
}

// want checks what the client has heard since it was looked at last. The bus on memory has delivered what it has taken.
func (c *client) want(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if fmt.Sprint(c.heard) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", c.heard, want)
	}
	c.heard = nil
}

// pair are a subscriber and, on the other node, a connection that says something.
func pair(t *testing.T) (subscriber, speaker *client) {
	t.Helper()
	net := membus.NewNetwork()
	a, b := newMachine(t, net.Bus()), newMachine(t, net.Bus())
	return a.open(t, "ana"), b.open(t, "ben")
}

// TestUpdatesWaitForTheSnapshot has a state change while a snapshot is on its way, whatever that is for.
//
// checklist:C29 P05
func TestUpdatesWaitForTheSnapshot(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, c *client) (snapshot func() error){
		"a first subscription": func(t *testing.T, c *client) func() error {
			c.node.Unsubscribe(c.conn, "g")
			return func() error { return c.subscribe(t.Context()) }
		},
		"a second subscription": func(t *testing.T, c *client) func() error {
			return func() error { return c.subscribe(t.Context()) }
		},
		"another socket": func(t *testing.T, c *client) func() error {
			c.node.Pause(c.conn)
			return func() error { return c.node.Resume(t.Context(), c.conn) }
		},
		"another node": func(t *testing.T, c *client) func() error {
			of, ok := c.node.Export(c.conn)
			if !ok || len(of.Wanted) != 1 {
				t.Fatalf("got %+v for another node, want a subscription", of)
			}
			c.node.Forget(c.conn, false)
			return func() error { return c.node.Restore(t.Context(), c.conn, of) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, speaker := pair(t)
			speaker.set(t, "1")
			if err := c.subscribe(t.Context()); err != nil {
				t.Fatal(err)
			}
			speaker.set(t, "2")
			c.want(t, "snapshot "+states("ben", "1"), "update "+states("ben", "2"))
			snapshot := begin(t, c)
			if name != "a second subscription" { // which hears updates until it begins
				speaker.set(t, "3")
			}
			c.want(t)
			c.node.gate.close()
			done := make(chan error, 1)
			go func() { done <- snapshot() }()
			c.node.gate.wait(t, 1)
			speaker.set(t, "4")
			c.want(t)
			for _, post := range c.node.gate.take() {
				post()
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			speaker.set(t, "5")
			c.want(t, "snapshot "+states("ben", "4"), "update "+states("ben", "5"))
		})
	}
}

// states is what a client records of one item.
func states(user, state string) string {
	return fmt.Sprint(map[string]string{user: `{"s":"` + state + `"}`})
}

// TestPauseWaitsForAnUpdate has a connection get another socket while an update is being pushed: it goes to the old one.
func TestPauseWaitsForAnUpdate(t *testing.T) {
	t.Parallel()
	c, speaker := pair(t)
	if err := c.subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	reached, release, paused := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c.pushing = func() { close(reached); <-release }
	go speaker.node.Set(context.Background(), speaker.conn, "g", []byte(`{"s":"1"}`))
	<-reached
	go func() {
		c.node.Pause(c.conn)
		close(paused)
	}()
	select {
	case <-paused:
		t.Error("the connection is paused while an update is on its way to it")
	case <-time.After(10 * time.Millisecond): // it waits, as far as one can see
	}
	close(release)
	<-paused
	c.want(t, "snapshot map[]", "update "+states("ben", "1"))
}

// TestTheNewestSnapshotCounts has a connection get another socket while a snapshot for the old one is on its way.
func TestTheNewestSnapshotCounts(t *testing.T) {
	t.Parallel()
	c, speaker := pair(t)
	speaker.set(t, "1")
	c.node.gate.close()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.subscribe(context.Background()) }()
	c.node.gate.wait(t, 1)
	c.node.Pause(c.conn)
	go func() { second <- c.node.Resume(context.Background(), c.conn) }()
	c.node.gate.wait(t, 2)
	posts := c.node.gate.take()
	posts[1]()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	speaker.set(t, "2")
	posts[0]()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	c.want(t, "snapshot "+states("ben", "1"), "update "+states("ben", "2"))
}

// TestSnapshotThatDoesNotCome has other nodes silent: a client that heard updates still hears them, another hears nothing.
func TestSnapshotThatDoesNotCome(t *testing.T) {
	t.Parallel()
	c, speaker := pair(t)
	fail := func(snapshot func(ctx context.Context) error) {
		t.Helper()
		c.node.gate.close()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- snapshot(ctx) }()
		c.node.gate.wait(t, 1)
		speaker.set(t, "meanwhile")
		cancel()
		if err := <-done; !errors.Is(err, cluster.ErrPartial) {
			t.Errorf("got %v, want that not all have answered", err)
		}
		c.node.gate.take()
	}
	resume := func(ctx context.Context) error { return c.node.Resume(ctx, c.conn) }

	fail(c.subscribe)
	if _, ok := c.node.Export(c.conn); ok {
		t.Error("got a subscription that has failed")
	}
	c.want(t)
	if err := c.subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.want(t, "snapshot "+states("ben", "meanwhile"))
	fail(c.subscribe)
	c.want(t, "update "+states("ben", "meanwhile"))
	speaker.set(t, "1")
	c.want(t, "update "+states("ben", "1"))

	c.node.Pause(c.conn)
	fail(resume)
	speaker.set(t, "2")
	c.want(t)
	if err := resume(t.Context()); err != nil { // once more
		t.Fatal(err)
	}
	speaker.set(t, "3")
	c.want(t, "snapshot "+states("ben", "2"), "update "+states("ben", "3"))
	if err := resume(t.Context()); err != nil { // for nothing
		t.Fatal(err)
	}
	c.node.Unsubscribe(c.conn, "g")
	speaker.set(t, "4")
	c.want(t)
}

// TestOlderStateNeverWins has an update that was overtaken by the answer to a question, and by a newer update.
func TestOlderStateNeverWins(t *testing.T) {
	t.Parallel()
	c, speaker := pair(t)
	speaker.set(t, "old")
	at := speaker.node.SaidAt(speaker.conn, "g")
	item := func(conn, user, state string, at int64) []byte {
		b := wire.AppendStrings(nil, []string{conn, user})[1:]
		return wire.AppendString(binary.AppendVarint(b, at), `{"s":"`+state+`"}`)
	}
	tell := func(items ...[]byte) {
		t.Helper()
		o := &wire.Order{Verb: wire.VerbState}
		for _, b := range items {
			o.Args = append(o.Args, b...)
		}
		if err := c.node.HandleTell(cluster.StateTopic(testHub, "g"), o); err != nil {
			t.Fatal(err)
		}
	}
	c.node.gate.close()
	done := make(chan error, 1)
	go func() { done <- c.subscribe(context.Background()) }()
	c.node.gate.wait(t, 1)
	tell(item(speaker.conn.ID, "ben", "overtaken", at-1)) // by the answer
	tell(item("x", "x", "new", 9))
	tell(item("x", "x", "overtaken", 8))                           // by an update
	tell(item("y", "y", "new", 9), item("y", "y", "overtaken", 8)) // by another node's
	tell(item("z", "z", "overtaken", 8), item("z", "z", "new", 9)) // in the other order
	tell(item("w", "w", "gone", 8), wire.AppendString(binary.AppendVarint(wire.AppendStrings(nil, []string{"w", "w"})[1:], 9), ""))
	for _, post := range c.node.gate.take() {
		post()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ben": `{"s":"old"}`}
	for _, user := range []string{"x", "y", "z"} {
		want[user] = `{"s":"new"}`
	}
	c.want(t, "snapshot "+fmt.Sprint(want))
}

// TestTimesGrow has a connection say things within one millisecond, and go on on a node whose clock is behind.
func TestTimesGrow(t *testing.T) {
	t.Parallel()
	c, speaker := pair(t)
	last := int64(0)
	said := func() {
		t.Helper()
		at := speaker.node.SaidAt(speaker.conn, "g")
		if at <= last {
			t.Errorf("got time %d after %d", at, last)
		}
		last = at
	}
	for range 20 {
		speaker.set(t, "1")
		said()
	}
	of, _ := speaker.node.Export(speaker.conn)
	speaker.node.Forget(speaker.conn, false)
	of.Last = time.Now().Add(time.Hour).UnixMilli()
	last = of.Last
	if err := speaker.node.Restore(t.Context(), speaker.conn, of); err != nil {
		t.Fatal(err)
	}
	said()
	if err := c.subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	speaker.node.Forget(speaker.conn, true) // also that is later
	c.want(t, "snapshot "+states("ben", "1"), "update "+fmt.Sprint(map[string]string{"ben": ""}))
}
