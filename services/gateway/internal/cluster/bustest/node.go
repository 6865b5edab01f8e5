package bustest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Node is a running bus and what it has heard.
type Node struct {
	cluster.Bus
	stop func()

	mu    sync.Mutex
	heard []Heard
}

// Heard is one payload that a node has heard.
type Heard struct{ Topic, Payload string }

// Start runs b until the test ends or Stop, and returns when it is ready.
func Start(t testing.TB, b cluster.Bus) *Node {
	t.Helper()
	n := &Node{Bus: b}
	n.StartDeliver(t, n.record)
	return n
}

func (n *Node) record(topic string, payload []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, Heard{topic, string(payload)})
}

// StartDeliver is Start with a deliver of the test's own.
func (n *Node) StartDeliver(t testing.TB, deliver func(string, []byte)) {
	t.Helper()
	n.start(t, deliver, func() {})
}

func (n *Node) start(t testing.TB, deliver func(string, []byte), idle func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.Run(ctx, deliver, idle); err != nil {
			t.Errorf("Run returned %v, want nil when its context ends", err)
		}
	}()
	n.stop = func() { cancel(); <-ended }
	t.Cleanup(n.stop)
	testkit.Eventually(t, waitLimit, func() bool { return n.Ready() == nil }, "the bus is ready")
}

// Stop ends Run and waits for it.
func (n *Node) Stop() { n.stop() }

// Heard returns what has been heard so far.
func (n *Node) Heard() []Heard {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.heard)
}

// Count returns how many payloads have been heard so far.
func (n *Node) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.heard)
}

// Publish posts and waits for the answer.
func (n *Node) Publish(t testing.TB, topic, payload string) (nodes int, err error) {
	t.Helper()
	type answer struct {
		nodes int
		err   error
	}
	c := make(chan answer, 1)
	n.Post(topic, []byte(payload), func(nodes int, err error) { c <- answer{nodes, err} })
	select {
	case a := <-c:
		return a.nodes, a.err
	case <-time.After(waitLimit):
		t.Fatalf("Post to %q has not been answered within %v", topic, waitLimit)
		return 0, nil
	}
}

// MustPublish is Publish that must be heard by want nodes.
func (n *Node) MustPublish(t testing.TB, topic, payload string, want int) {
	t.Helper()
	if nodes, err := n.Publish(t, topic, payload); nodes != want || err != nil {
		t.Fatalf("Post to %q = %d, %v; want %d, nil", topic, nodes, err, want)
	}
}

// MustSubscribe subscribes or fails the test.
func (n *Node) MustSubscribe(t testing.TB, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := n.Subscribe(ctx, topics...); err != nil {
		t.Fatalf("Subscribe to %d topics: %v", len(topics), err)
	}
}

// MustUnsubscribe unsubscribes or fails the test.
func (n *Node) MustUnsubscribe(t testing.TB, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := n.Unsubscribe(ctx, topics...); err != nil {
		t.Fatalf("Unsubscribe from %d topics: %v", len(topics), err)
	}
}

// MustSubscriberCount checks how many nodes subscribe to topic.
func (n *Node) MustSubscriberCount(t testing.TB, topic string, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if got, err := n.SubscriberCount(ctx, topic); got != want || err != nil {
		t.Fatalf("SubscriberCount of %q = %d, %v; want %d, nil", topic, got, err, want)
	}
}

// WantHeard waits until the node has heard as much as want and compares. Topics have no order among each other.
func (n *Node) WantHeard(t testing.TB, want ...Heard) {
	t.Helper()
	testkit.Eventually(t, waitLimit, func() bool { return n.Count() >= len(want) }, fmt.Sprintf("%d payloads heard", len(want)))
	if got := n.Heard(); !slices.Equal(byTopic(got), byTopic(want)) {
		t.Fatalf("heard %q, want %q", got, want)
	}
}

// byTopic sorts by topic and leaves the order within each as it is.
func byTopic(list []Heard) []Heard {
	return slices.SortedStableFunc(slices.Values(list), func(a, b Heard) int { return strings.Compare(a.Topic, b.Topic) })
}
