// Package bustest is the suite that every cluster.Bus passes, so that one may stand in for another.
package bustest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// waitLimit is how long the suite waits for what must happen; it is not a measure of speed.
const waitLimit = 20 * time.Second

// A Network makes the buses of nodes that hear each other, and nobody else's.
type Network func() cluster.Bus

// Run tests the buses of networks made by newNetwork.
func Run(t *testing.T, newNetwork func(t testing.TB) Network) {
	for name, test := range map[string]func(*testing.T, Network){
		"a payload is heard by all subscribers and counted":    testCount,
		"own payloads are heard":                               testOwn,
		"payloads arrive unchanged":                            testPayloads,
		"a publisher's order is kept per topic":                testOrder,
		"all receivers hear a topic in one order":              testOneOrder,
		"a subscription is in effect when Subscribe returns":   testSubscribeInEffect,
		"Unsubscribe ends a subscription":                      testUnsubscribe,
		"subscribing twice is once":                            testTwice,
		"many topics, subscribed in batches":                   testManyTopics,
		"topics come and go while payloads flow":               testChurn,
		"deliver and done may post":                            testReentrant,
		"concurrent posts are each answered once":              testConcurrent,
		"idle comes after what has been delivered":             testIdle,
		"a bus that does not run is unavailable":               testNotRunning,
		"when Run has ended everything fails and nobody hears": testEnd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newNetwork(t))
		})
	}
}

func testCount(t *testing.T, network Network) {
	a, b, c := Start(t, network()), Start(t, network()), Start(t, network())
	a.MustSubscriberCount(t, "room", 0)
	a.MustPublish(t, "room", "nobody", 0)
	b.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "one", 1)
	c.MustSubscribe(t, "room", "other")
	a.MustSubscriberCount(t, "room", 2)
	a.MustPublish(t, "room", "two", 2)
	a.MustPublish(t, "other", "three", 1)

	b.WantHeard(t, Heard{"room", "one"}, Heard{"room", "two"})
	c.WantHeard(t, Heard{"room", "two"}, Heard{"other", "three"})
	a.WantHeard(t)
}

func testOwn(t *testing.T, network Network) {
	a := Start(t, network())
	a.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "mine", 1)
	a.WantHeard(t, Heard{"room", "mine"})
}

func testPayloads(t *testing.T, network Network) {
	a := Start(t, network())
	var want []Heard
	for _, topic := range []string{"plain", "with space", "ünïcode/😀", "*[glob]?", "\r\n"} {
		for _, payload := range []string{"", "text", "\x00\xff\r\n", string(make([]byte, 1<<20))} {
			want = append(want, Heard{topic, payload})
		}
	}
	for _, w := range want {
		a.MustSubscribe(t, w.Topic)
		a.MustPublish(t, w.Topic, w.Payload, 1)
	}
	testkit.Eventually(t, waitLimit, func() bool { return a.Count() >= len(want) }, "all payloads heard")
	want = byTopic(want)
	for i, got := range byTopic(a.Heard()) {
		if got != want[i] {
			t.Errorf("payload %d: heard %d bytes on %q, want %d on %q", i, len(got.Payload), got.Topic, len(want[i].Payload), want[i].Topic)
		}
	}
}

func testOrder(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	b.MustSubscribe(t, "room-0", "room-1", "room-2")
	const n = 3000
	for i := range n {
		a.Post(fmt.Sprint("room-", i%3), fmt.Appendf(nil, "%06d", i), nil)
	}
	testkit.Eventually(t, waitLimit, func() bool { return b.Count() == n }, "all payloads heard")
	last := map[string]string{}
	for _, h := range b.Heard() {
		if h.Payload <= last[h.Topic] {
			t.Fatalf("on %q %s came after %s", h.Topic, h.Payload, last[h.Topic])
		}
		last[h.Topic] = h.Payload
	}
}

func testOneOrder(t *testing.T, network Network) {
	nodes := []*Node{Start(t, network()), Start(t, network()), Start(t, network())}
	for _, n := range nodes {
		n.MustSubscribe(t, "room")
	}
	const each = 500
	var posters sync.WaitGroup
	for i, n := range nodes {
		posters.Go(func() {
			for j := range each {
				n.Post("room", fmt.Appendf(nil, "%d-%06d", i, j), nil)
			}
		})
	}
	posters.Wait()
	total := each * len(nodes)
	for _, n := range nodes {
		testkit.Eventually(t, waitLimit, func() bool { return n.Count() == total }, "all payloads heard")
	}
	want := nodes[0].Heard()
	for i, n := range nodes[1:] {
		if !slices.Equal(n.Heard(), want) {
			t.Errorf("node %d heard another order than node 0", i+1)
		}
	}
}

func testSubscribeInEffect(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	var subscribers sync.WaitGroup
	for i := range 16 {
		subscribers.Go(func() {
			for j := range 50 {
				topic := fmt.Sprintf("room-%d-%d", i, j)
				if err := b.Subscribe(t.Context(), topic); err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				if nodes, err := a.Publish(t, topic, "hello"); nodes != 1 || err != nil {
					t.Errorf("Post after Subscribe to %q = %d, %v; want 1, nil", topic, nodes, err)
				}
			}
		})
	}
	subscribers.Wait()
	testkit.Eventually(t, waitLimit, func() bool { return b.Count() == 16*50 }, "every payload heard")
}

func testUnsubscribe(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	b.MustSubscribe(t, "room", "other")
	b.MustUnsubscribe(t, "room", "never subscribed")
	a.MustSubscriberCount(t, "room", 0)
	a.MustPublish(t, "room", "unheard", 0)
	a.MustPublish(t, "other", "heard", 1)
	b.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "again", 1)
	b.WantHeard(t, Heard{"other", "heard"}, Heard{"room", "again"})
}

func testTwice(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	b.MustSubscribe(t, "room", "room")
	b.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "once", 1)
	b.MustUnsubscribe(t, "room")
	a.MustPublish(t, "room", "gone", 0)
	b.MustSubscribe(t)
	b.WantHeard(t, Heard{"room", "once"})
}

func testManyTopics(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	const n = 20_000
	topics := make([]string, n)
	for i := range topics {
		topics[i] = fmt.Sprint("room-", i)
	}
	b.MustSubscribe(t, topics...)
	a.MustPublish(t, topics[0], "first", 1)
	a.MustPublish(t, topics[n-1], "last", 1)
	b.MustUnsubscribe(t, topics[1:]...)
	a.MustPublish(t, topics[n-1], "unheard", 0)
	a.MustPublish(t, topics[0], "still", 1)
}

func testChurn(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	b.MustSubscribe(t, "steady")
	const n = 2000
	var churn sync.WaitGroup
	for i := range 4 {
		churn.Go(func() {
			topic := fmt.Sprint("churn-", i)
			for range 100 {
				b.MustSubscribe(t, topic)
				b.MustUnsubscribe(t, topic)
			}
			b.MustSubscribe(t, topic)
		})
	}
	for i := range n {
		a.Post("steady", fmt.Append(nil, i), nil)
		a.Post("churn-1", nil, nil)
	}
	churn.Wait()
	steady := func() (count int) {
		for _, h := range b.Heard() {
			if h.Topic == "steady" {
				count++
			}
		}
		return count
	}
	testkit.Eventually(t, waitLimit, func() bool { return steady() == n }, "every payload of the steady topic heard")
	for i := range 4 {
		a.MustSubscriberCount(t, fmt.Sprint("churn-", i), 1)
	}
}

func testReentrant(t *testing.T, network Network) {
	a := &Node{Bus: network()}
	answered := make(chan int, 1)
	a.StartDeliver(t, func(topic string, payload []byte) {
		if topic == "ask" {
			a.Post("answer", payload, func(nodes int, _ error) {
				a.Post("end", nil, func(int, error) { answered <- nodes })
			})
		}
		a.record(topic, payload)
	})
	a.MustSubscribe(t, "ask", "answer")
	a.MustPublish(t, "ask", "question", 1)
	select {
	case nodes := <-answered:
		if nodes != 1 {
			t.Errorf("answer heard by %d nodes, want 1", nodes)
		}
	case <-time.After(waitLimit):
		t.Fatal("no answer")
	}
	a.WantHeard(t, Heard{"ask", "question"}, Heard{"answer", "question"})
}

// testIdle: whatever deliver puts off is done by idle, though nothing else happens on the bus; and idle may post.
func testIdle(t *testing.T, net Network) {
	a, b := Start(t, net()), &Node{Bus: net()}
	var off, done atomic.Int64 // payloads put off, and of those how many idle has seen
	b.start(t, func(string, []byte) { off.Add(1) }, func() {
		if n := off.Load(); done.Swap(n) != n {
			b.Post("nobody", nil, nil)
		}
	})
	b.MustSubscribe(t, "room")
	for n := int64(1); n <= 100; n++ {
		a.MustPublish(t, "room", "x", 1)
		testkit.Eventually(t, waitLimit, func() bool { return done.Load() == n }, "what was put off is done")
	}
	a.MustSubscribe(t, "room")
	for range 100 {
		b.Post("room", []byte("x"), nil)
	}
	testkit.Eventually(t, waitLimit, func() bool { return done.Load() == 200 && a.Count() == 100 }, "what was put off is done")
}

func testConcurrent(t *testing.T, network Network) {
	a := Start(t, network())
	a.MustSubscribe(t, "room")
	const posters, each = 8, 500
	var answers, heard atomic.Int64
	var wait sync.WaitGroup
	for range posters {
		wait.Go(func() {
			for range each {
				a.Post("room", []byte("x"), func(nodes int, err error) {
					answers.Add(1)
					heard.Add(int64(nodes))
				})
			}
		})
	}
	wait.Wait()
	testkit.Eventually(t, waitLimit, func() bool { return answers.Load() == posters*each }, "every Post answered")
	testkit.Eventually(t, waitLimit, func() bool { return a.Count() == posters*each }, "every payload heard")
	a.MustPublish(t, "room", "last", 1)
	if got := answers.Load(); got != posters*each || heard.Load() != got {
		t.Errorf("%d answers saying %d were heard, want %d and %[3]d", got, heard.Load(), posters*each)
	}
}

func testNotRunning(t *testing.T, network Network) {
	checkUnavailable(t, &Node{Bus: network()})
}

func testEnd(t *testing.T, network Network) {
	a, b := Start(t, network()), Start(t, network())
	a.MustSubscribe(t, "room")
	b.MustSubscribe(t, "room")
	for range 100 {
		b.Post("room", []byte("before"), nil)
	}
	b.Stop()
	after := b.Count()
	checkUnavailable(t, b)
	testkit.Eventually(t, waitLimit, func() bool {
		nodes, err := a.Publish(t, "room", "after")
		return nodes == 1 && err == nil
	}, "the ended node's subscription is gone")
	if got := b.Count(); got != after {
		t.Errorf("deliver was called %d times after Run had returned", got-after)
	}
}

func checkUnavailable(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Ready(); err == nil {
		t.Error("Ready = nil, want the reason why not")
	}
	if nodes, err := n.Publish(t, "room", "x"); nodes != 0 || !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Post = %d, %v; want 0, %v", nodes, err, cluster.ErrUnavailable)
	}
	if err := n.Subscribe(t.Context(), "room"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("Subscribe: %v, want %v", err, cluster.ErrUnavailable)
	}
	if _, err := n.SubscriberCount(t.Context(), "room"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("SubscriberCount: %v, want %v", err, cluster.ErrUnavailable)
	}
	if err := n.Unsubscribe(t.Context(), "room"); err != nil {
		t.Errorf("Unsubscribe: %v, want nil", err)
	}
	n.Post("room", nil, nil) // without done: nothing to tell
}

// Benchmark measures Post and deliver together, with 128 bytes to a topic of the bus's own: with one poster
// that waits for each payload, and with posters that have many under way.
func Benchmark(b *testing.B, newNetwork func(t testing.TB) Network) {
	b.Run("one by one", func(b *testing.B) {
		n := &Node{Bus: newNetwork(b)()}
		heard := make(chan struct{}, 1)
		n.StartDeliver(b, func(string, []byte) { heard <- struct{}{} })
		n.MustSubscribe(b, "room")
		payload := make([]byte, 128)
		b.ReportAllocs()
		for b.Loop() {
			n.Post("room", payload, nil)
			<-heard
		}
	})
	b.Run("pipelined", func(b *testing.B) {
		n := &Node{Bus: newNetwork(b)()}
		window := make(chan struct{}, 4096)
		var heard atomic.Int64
		n.StartDeliver(b, func(string, []byte) { heard.Add(1); <-window })
		n.MustSubscribe(b, "room")
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			payload := binary.BigEndian.AppendUint64(make([]byte, 120), 1)
			for pb.Next() {
				window <- struct{}{}
				n.Post("room", payload, nil)
			}
		})
		testkit.Eventually(b, waitLimit, func() bool { return heard.Load() == int64(b.N) }, "every payload heard")
	})
}
