package fault

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/tests/topology"
)

// same is one URL for all gateways.
func same(url string) []string {
	urls := make([]string, gateways)
	for i := range urls {
		urls[i] = url
	}
	return urls
}

func sentinel(w *world) []string {
	w.watched = testkit.NewRedisSentinel(w.t)
	return same(w.watched.URL)
}

func cluster(w *world) []string {
	w.sharded = testkit.NewRedisCluster(w.t, true)
	return same(w.sharded.URL)
}

// pair is a Redis with a replica, behind links that lead to the master.
func pair(w *world) []string {
	urls := w.single()
	w.second = testkit.Redis(w.t, "--repl-diskless-sync-delay", "0")
	w.follow(w.second, w.redis)
	return urls
}

// follow makes one server the replica of another, and returns when it is.
func (w *world) follow(replica, master *testkit.RedisServer) {
	w.t.Helper()
	host, port, _ := strings.Cut(master.Addr, ":")
	w.admin(replica, func(ctx context.Context, c *redis.Client) error {
		if err := c.ReplicaOf(ctx, host, port).Err(); err != nil {
			return err
		}
		w.await("the replica follows", func() bool {
			role, err := c.Do(ctx, "ROLE").Slice()
			return err == nil && len(role) > 3 && role[0] == "slave" && role[3] == "connected"
		})
		return nil
	})
}

func roleSwap(w *world) {
	w.admin(w.second, func(ctx context.Context, c *redis.Client) error { return c.ReplicaOf(ctx, "NO", "ONE").Err() })
	w.follow(w.redis, w.second)
	for _, n := range w.nodes {
		n.link.SetTarget(w.second.Addr)
	}
	w.wait(12 * time.Second)
	w.kill(w.nodes[2]) // the others have to have noted its connections, and to find its lease over, where writes are taken
	w.wait(8 * time.Second)
	w.start(w.nodes[2])
}

// reshard moves slots as operators do it.
func reshard(w *world) {
	from, to := w.sharded.Masters[0], w.sharded.Masters[1]
	id := func(s *testkit.RedisServer) (id string) {
		w.admin(s, func(ctx context.Context, c *redis.Client) (err error) {
			id, err = c.Do(ctx, "cluster", "myid").Text()
			return err
		})
		return id
	}
	const batches, slots = 4, 500
	for range batches {
		out, err := exec.Command("redis-cli", "--cluster", "reshard", from.Addr, "--cluster-from", id(from), "--cluster-to", id(to),
			"--cluster-slots", fmt.Sprint(slots), "--cluster-yes").CombinedOutput()
		if err != nil {
			w.t.Fatalf("reshard: %v\n%.2000s", err, out)
		}
		w.mark("%d slots have moved", slots)
		w.wait(2 * time.Second)
	}
	w.wait(3 * time.Second)
}

// outputLimit has Redis close the subscribing connection of a gateway, for what somebody in another hub sends: the gateway reads
// slowly, and a lot comes.
func outputLimit(w *world) {
	n := w.nodes[2]
	w.admin(w.redis, func(ctx context.Context, c *redis.Client) error {
		return c.ConfigSet(ctx, "client-output-buffer-limit", "pubsub 1048576 0 0").Err()
	})
	reader := w.visit(n, "", "flood", subprotocols[0])
	if err := reader.Join(w.t.Context(), "flood"); err != nil {
		w.t.Fatal(err)
	}
	api := dataplane.New(w.nodes[0].process.URL, topology.AccessKey, "flood", dataplane.Options{Retries: -1})
	before := w.subscribers()
	n.link.Hang(testkit.Subscribed)
	flood := webpubsub.Data{Type: webpubsub.DataBinary, Bytes: make([]byte, 500_000)}
	closed := w.try(20*time.Second, func() bool {
		var sending sync.WaitGroup
		for range 8 {
			sending.Go(func() { _ = api.SendToGroup(w.t.Context(), "flood", flood) })
		}
		sending.Wait()
		now := w.subscribers()
		for id := range before {
			if !now[id] {
				return true
			}
		}
		return false
	})
	n.link.Mend()
	if !closed {
		w.wrong("Redis has not closed the subscriber")
	}
	w.wait(5 * time.Second)
}

// subscribers are the ids of connections that subscribe.
func (w *world) subscribers() map[string]bool {
	ids := map[string]bool{}
	w.admin(w.redis, func(ctx context.Context, c *redis.Client) error {
		list, err := c.Do(ctx, "client", "list", "type", "pubsub").Text()
		for _, client := range strings.Split(strings.TrimSpace(list), "\n") {
			id, _, _ := strings.Cut(client, " ")
			ids[id] = true
		}
		return err
	})
	return ids
}

// config sets something of Redis that keeps gateways from working, and takes it back.
func config(name, bad, good string) func(w *world) {
	return func(w *world) {
		set := func(value string) {
			w.admin(w.redis, func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, name, value).Err() })
		}
		w.breaks(w.nodes...)
		set(bad)
		w.unready()
		w.mends(w.nodes...)
		set(good)
		w.wait(w.lasting(5*time.Second, 0))
	}
}
