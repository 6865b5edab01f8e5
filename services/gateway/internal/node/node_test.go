package node

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// TestDrainingNodesAreNoOthers has nodes withdraw one after the other, and one of the version before, which never does.
//
// checklist:O06
func TestDrainingNodesAreNoOthers(t *testing.T) {
	net := membus.NewNetwork()
	a, b := startNode(t, net.Bus()), startNode(t, net.Bus())
	want := func(n *Node, want bool) {
		t.Helper()
		if got, err := n.Others(t.Context()); got != want || err != nil {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	withdraw := func(n *Node) {
		t.Helper()
		if err := n.Withdraw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want(a, true)
	want(b, true)
	withdraw(a)
	want(a, true)
	want(b, false)
	withdraw(b)
	want(a, false)
	withdraw(b) // for nothing
	want(b, false)

	// A node of version 0.1 stays on the topic as long as it lives, and counts itself.
	old := net.Bus()
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = old.Run(ctx, func(string, []byte) {}, func() {}) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return old.Ready() == nil }, "the old node's bus is ready")
	if err := old.Subscribe(t.Context(), "nodes"); err != nil {
		t.Fatal(err)
	}
	want(a, true)
	if nodes, err := old.SubscriberCount(t.Context(), "nodes"); nodes != 1 || err != nil {
		t.Errorf("got %d nodes, %v; want that the old one finds none but itself", nodes, err)
	}
	c := startNode(t, net.Bus())
	want(c, true)
	if nodes, err := old.SubscriberCount(t.Context(), "nodes"); nodes != 2 || err != nil {
		t.Errorf("got %d nodes, %v; want that the old one finds the new one", nodes, err)
	}
}

// TestWithdrawWithoutBus has the bus away when a node begins to drain.
func TestWithdrawWithoutBus(t *testing.T) {
	bus := &flaky{Bus: membus.New()}
	n := startNode(t, bus)
	bus.fails.Store(true)
	if err := n.Withdraw(t.Context()); err == nil {
		t.Error("got nil, want why the others still count this node")
	}
	if others, _ := n.Others(t.Context()); others {
		t.Error("the node counts itself as another one")
	}
	bus.fails.Store(false)
	testkit.Eventually(t, 10*time.Second, func() bool {
		nodes, err := bus.SubscriberCount(t.Context(), cluster.OpenNodesTopic)
		return nodes == 0 && err == nil
	}, "the node is not counted when the bus is back")
}

// flaky is a bus that cannot end subscriptions while fails is set.
type flaky struct {
	cluster.Bus
	fails atomic.Bool
}

func (b *flaky) Unsubscribe(ctx context.Context, topics ...string) error {
	if b.fails.Load() {
		return cluster.ErrUnavailable
	}
	return b.Bus.Unsubscribe(ctx, topics...)
}
