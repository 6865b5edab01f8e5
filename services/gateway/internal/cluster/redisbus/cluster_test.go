package redisbus_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
)

// clusterNetworks are all on one cluster, each with a prefix of its own.
func clusterNetworks(t testing.TB) func(testing.TB) bustest.Network {
	servers := testkit.NewRedisCluster(t, false)
	var networks atomic.Int64
	return func(t testing.TB) bustest.Network {
		prefix := fmt.Sprint("network-", networks.Add(1))
		return func() cluster.Bus { return newBus(t, servers.URL, prefix) }
	}
}

func TestBusOnCluster(t *testing.T) { bustest.Run(t, clusterNetworks(t)) }

func BenchmarkBusOnCluster(b *testing.B) { bustest.Benchmark(b, clusterNetworks(b)) }

// subscribed returns two nodes, the second of which has that many topics.
func subscribed(t *testing.T, url string, n int) (a, b *bustest.Node, topics []string) {
	t.Helper()
	a, b = bustest.Start(t, newBus(t, url, "chatr")), bustest.Start(t, newBus(t, url, "chatr"))
	for i := range n {
		topics = append(topics, fmt.Sprint("room-", i))
	}
	b.MustSubscribe(t, topics...)
	return a, b, topics
}

// Each topic is a channel of its shard, and no server hears of those of others.
func TestTopicsAreSpread(t *testing.T) {
	t.Parallel()
	servers := testkit.NewRedisCluster(t, false)
	a, b, topics := subscribed(t, servers.URL, 3000)
	total := 0
	for _, s := range servers.Masters {
		client := redis.NewClient(&redis.Options{Addr: s.Addr})
		defer client.Close()
		channels := client.PubSubShardChannels(t.Context(), "chatr:room-*").Val()
		if len(channels) < len(topics)/6 {
			t.Errorf("%s has %d of %d channels, want about a third", s.Addr, len(channels), len(topics))
		}
		total += len(channels)
	}
	if total != len(topics) {
		t.Errorf("the servers have %d channels, want %d", total, len(topics))
	}
	for _, topic := range topics {
		a.MustPublish(t, topic, "hello", 1)
	}
	testkit.Eventually(t, soon, func() bool { return b.Count() == len(topics) }, "all heard")
}

// A master that its replica replaces is an outage of seconds, of which both nodes are told. What is posted meanwhile is
// refused, and nothing is heard twice.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	servers := testkit.NewRedisCluster(t, true)
	a, b, topics := subscribed(t, servers.URL, 60)

	// Posts at a steady rate, as clients would, until the bus has been away and is back.
	const before = 200
	heard, refused, sent := map[string]int{}, 0, 0
	var start time.Time
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for ; refused == 0 || a.Ready() != nil || b.Ready() != nil; sent++ {
		if sent == before {
			start = time.Now()
			servers.Masters[0].Stop() // also the first that the settings name
		}
		if sent > before && time.Since(start) > time.Minute {
			t.Fatalf("after a minute: a: %v, b: %v", a.Ready(), b.Ready())
		}
		<-ticker.C
		payload := fmt.Sprint(sent)
		switch nodes, err := a.Publish(t, topics[sent%len(topics)], payload); {
		case errors.Is(err, cluster.ErrUnavailable):
			refused++
		case err != nil:
			t.Fatal(err)
		case nodes == 1:
			heard[payload] = 0
		}
	}
	t.Logf("%d posts, %d refused, %d acknowledged; back after %v", sent, refused, len(heard), time.Since(start).Round(time.Millisecond))
	if a.LossCount() == 0 || b.LossCount() == 0 {
		t.Errorf("Lost = %d, %d, want more than 0", a.LossCount(), b.LossCount())
	}
	for _, topic := range topics {
		a.MustPublish(t, topic, "after", 1)
	}
	testkit.Eventually(t, soon, func() bool {
		after := 0
		for _, h := range b.Heard() {
			if h.Payload == "after" {
				after++
			}
		}
		return after == len(topics)
	}, "everything is heard again")
	for _, h := range b.Heard() {
		if h.Payload != "after" {
			heard[h.Payload]++
		}
	}
	missed := 0
	for payload, times := range heard {
		if times > 1 {
			t.Errorf("%s was heard %d times, want at most once", payload, times)
		} else if times == 0 { // what was on its way to b when b's session ended: Lost, above, tells of it
			missed++
		}
	}
	t.Logf("%d of those acknowledged were missed by b, which says that it has lost some", missed)
}

// A master that hands over to its replica, as before maintenance, breaks no connection of itself.
func TestClusterHandover(t *testing.T) {
	t.Parallel()
	servers := testkit.NewRedisCluster(t, true)
	a, b, topics := subscribed(t, servers.URL, 30)
	replica := redis.NewClient(&redis.Options{Addr: servers.Replicas[1].Addr})
	defer replica.Close()
	if err := replica.ClusterFailover(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		return a.LossCount() > 0 && b.LossCount() > 0 && a.Ready() == nil && b.Ready() == nil &&
			len(replica.PubSubShardChannels(t.Context(), "chatr:room-*").Val()) > 0
	}, "both have gone over to the new master")
	for _, topic := range topics {
		testkit.Eventually(t, soon, func() bool {
			nodes, err := a.Publish(t, topic, "after")
			return err == nil && nodes == 1
		}, "every topic is reached")
	}
}

// Slots that move to another master take their channels along.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	servers := testkit.NewRedisCluster(t, false)
	a, b := bustest.Start(t, newBus(t, servers.URL, "chatr")), bustest.Start(t, newBus(t, servers.URL, "chatr"))
	b.MustSubscribe(t, "room", "{other}room")
	client := redis.NewClient(&redis.Options{Addr: servers.Masters[0].Addr})
	defer client.Close()
	slot := int(client.ClusterKeySlot(t.Context(), "chatr:room").Val())
	from := slices.IndexFunc(servers.Masters, func(s *testkit.RedisServer) bool {
		c := redis.NewClient(&redis.Options{Addr: s.Addr})
		defer c.Close()
		return len(c.PubSubShardChannels(t.Context(), "chatr:room").Val()) == 1
	})
	if from < 0 {
		t.Fatal("no server has the channel")
	}
	servers.MoveSlot(t, slot, servers.Masters[(from+1)%3])
	testkit.Eventually(t, soon, func() bool { return a.Ready() == nil && b.Ready() == nil && b.LossCount() == 1 }, "the loss is told, the bus is back")
	testkit.Eventually(t, soon, func() bool {
		nodes, err := a.Publish(t, "room", "after")
		return err == nil && nodes == 1
	}, "the channel is reached at its new place")
	testkit.Eventually(t, soon, func() bool {
		nodes, err := a.Publish(t, "{other}room", "after")
		return err == nil && nodes == 1
	}, "others are reached as before")
}
