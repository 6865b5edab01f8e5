package membus_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

func newNetwork(testing.TB) bustest.Network {
	n := membus.NewNetwork()
	return func() cluster.Bus { return n.Bus() }
}

func TestBus(t *testing.T) { bustest.Run(t, newNetwork) }

func BenchmarkBus(b *testing.B) { bustest.Benchmark(b, newNetwork) }

func TestPostAllocatesNothing(t *testing.T) {
	n := bustest.Node{Bus: membus.New()}
	n.StartDeliver(t, func(string, []byte) {})
	n.MustSubscribe(t, "room")
	payload := make([]byte, 128)
	done := func(int, error) {}
	if got := testing.AllocsPerRun(1000, func() { n.Post("room", payload, done) }); got != 0 {
		t.Errorf("Post and deliver allocate %v times, want 0", got)
	}
}

// Whoever posts one payload is not kept delivering for all others, however many follow.
func TestPosterLeavesTheRestToRun(t *testing.T) {
	n := bustest.Node{Bus: membus.New()}
	var returned atomic.Bool
	n.StartDeliver(t, func(string, []byte) {
		if !returned.Load() {
			n.Post("room", nil, nil)
		}
	})
	n.MustSubscribe(t, "room")
	go func() {
		n.Post("room", nil, nil)
		returned.Store(true)
	}()
	testkit.Eventually(t, 20*time.Second, returned.Load, "Post has returned")
}

// What cannot be delivered yet is bounded: Post fails, and works again when there is room.
func TestQueueIsBounded(t *testing.T) {
	n := bustest.Node{Bus: membus.New()}
	entered, release := make(chan struct{}, 1000), make(chan struct{})
	n.StartDeliver(t, func(string, []byte) { entered <- struct{}{}; <-release })
	n.MustSubscribe(t, "room")
	go n.Post("room", nil, nil)
	<-entered

	payload := make([]byte, 1<<20)
	refused := 0
	for range 200 {
		n.Post("room", payload, func(_ int, err error) {
			if errors.Is(err, cluster.ErrUnavailable) {
				refused++
			}
		})
	}
	close(release)
	if want := 200 - 64; refused != want {
		t.Errorf("%d of 200 posts of 1 MiB were refused, want %d", refused, want)
	}
	testkit.Eventually(t, 20*time.Second, func() bool {
		nodes, err := n.Publish(t, "room", "fits again")
		return nodes == 1 && err == nil
	}, "Post works again")
}
