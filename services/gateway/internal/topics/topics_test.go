package topics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// run starts a bus and topics over it. wrap, unless nil, stands between them.
func run(t *testing.T, wrap func(cluster.Bus) cluster.Bus) (*Set, cluster.Bus) {
	ctx, stop := context.WithCancel(context.Background())
	bus := cluster.Bus(membus.New())
	inner := bus
	if wrap != nil {
		bus = wrap(bus)
	}
	held := New(bus, slog.New(slog.DiscardHandler))
	var work sync.WaitGroup
	work.Go(func() { _ = inner.Run(ctx, func(string, []byte) {}, func() {}) })
	work.Go(func() { held.Run(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return inner.Ready() == nil }, "the bus is ready")
	return held, bus
}

// TestHeldTopicsAreSubscribed lets many join and leave the same few topics at once.
func TestHeldTopicsAreSubscribed(t *testing.T) {
	held, bus := run(t, nil)
	ctx := context.Background()
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			for range 300 {
				keys := []string{fmt.Sprint(rand.IntN(4)), fmt.Sprint(rand.IntN(4))}
				if err := held.Hold(ctx, keys...); err != nil {
					t.Errorf("hold %v: got %v", keys, err)
					return
				}
				for _, k := range keys {
					if nodes, err := bus.SubscriberCount(ctx, k); nodes != 1 || err != nil {
						t.Errorf("held topic %s: got %d nodes, %v; want 1", k, nodes, err)
					}
				}
				if rand.IntN(2) == 0 {
					held.Release(keys...)
				} else if err := held.Drop(ctx, keys...); err != nil {
					t.Errorf("drop %v: got %v", keys, err)
				}
			}
		})
	}
	work.Wait()
	testkit.Eventually(t, 10*time.Second, func() bool {
		held.mu.Lock()
		defer held.mu.Unlock()
		return len(held.byKey) == 0
	}, "topics that nobody holds are forgotten")
	for i := range 4 {
		if nodes, err := bus.SubscriberCount(ctx, fmt.Sprint(i)); nodes != 0 || err != nil {
			t.Errorf("released topic %d: got %d nodes, %v; want 0", i, nodes, err)
		}
	}
}

// failingBus fails to subscribe and unsubscribe while fails is set.
type failingBus struct {
	cluster.Bus
	fails atomic.Bool
}

func (b *failingBus) Subscribe(ctx context.Context, topics ...string) error {
	if b.fails.Load() {
		return cluster.ErrUnavailable
	}
	return b.Bus.Subscribe(ctx, topics...)
}

func (b *failingBus) Unsubscribe(ctx context.Context, topics ...string) error {
	if b.fails.Load() {
		return cluster.ErrUnavailable
	}
	return b.Bus.Unsubscribe(ctx, topics...)
}

func TestFailedHold(t *testing.T) {
	var failing *failingBus
	held, bus := run(t, func(b cluster.Bus) cluster.Bus {
		failing = &failingBus{Bus: b}
		return failing
	})
	ctx := context.Background()
	failing.fails.Store(true)
	if err := held.Hold(ctx, "a"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	failing.fails.Store(false)
	if err := held.Hold(ctx, "a"); err != nil {
		t.Errorf("got %v after the bus is back, want nil", err)
	}
	failing.fails.Store(true)
	held.Release("a")
	failing.fails.Store(false)
	testkit.Eventually(t, 10*time.Second, func() bool {
		nodes, err := bus.SubscriberCount(ctx, "a")
		return nodes == 0 && err == nil
	}, "a release that failed is made good")
}
