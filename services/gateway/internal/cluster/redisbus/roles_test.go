package redisbus_test

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
)

// Behind one name master and replica change roles. Connections that are there stay with the old master, which lives on as a
// replica and takes publishes; new ones lead to the new master. The nodes must notice, and meet there.
func TestRolesSwappedBehindOneName(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	replicate(t, second, first)
	name := listenAs(t, first.Addr)

	url := "redis://" + name.addr
	a, b := bustest.Start(t, newBus(t, url, "chatr")), bustest.Start(t, newBus(t, url, "chatr"))
	a.MustSubscribe(t, "a's own")
	b.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "before", 1)

	admin(t, second).ReplicaOf(t.Context(), "no", "one")
	replicate(t, first, second)
	name.target.Store(&second.Addr)

	// A node that starts now is on the new master from the beginning; the others are once they have noticed.
	c := bustest.Start(t, newBus(t, url, "chatr"))
	c.MustSubscribe(t, "room")
	testkit.Eventually(t, time.Minute, func() bool {
		counts, err := admin(t, second).PubSubNumSub(t.Context(), "chatr:room", "chatr:a's own").Result()
		return err == nil && counts["chatr:room"] == 2 && counts["chatr:a's own"] == 1 && a.Ready() == nil && b.Ready() == nil
	}, "all are on the new master")
	a.MustPublish(t, "room", "after", 2)
	c.WantHeard(t, bustest.Heard{Topic: "room", Payload: "after"})
}

func admin(t *testing.T, r *testkit.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// replicate makes one server the replica of another, and returns when it is.
func replicate(t *testing.T, replica, master *testkit.RedisServer) {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c := admin(t, replica)
	if err := c.ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		role, err := c.Do(t.Context(), "ROLE").Slice()
		return err == nil && len(role) > 3 && role[0] == "slave" && role[3] == "connected"
	}, "the replica follows its master")
}

// relay stands for a name whose address changes: it leads new connections to its target and keeps those that are there.
type relay struct {
	addr   string
	target atomic.Pointer[string]
}

func listenAs(t *testing.T, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := &relay{addr: l.Addr().String()}
	r.target.Store(&target)
	go func() { // ends with the listener
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", *r.target.Load())
			if err != nil {
				_ = near.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
	return r
}
