package testkit

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisCluster is a Redis Cluster of one test: three masters with a third of the slots each.
type RedisCluster struct {
	URL      string // in the form of package redisconn
	Masters  []*RedisServer
	Replicas []*RedisServer // one for each master, or none
}

// nodeTimeout is how long, in milliseconds, a master must be silent until its replica takes over.
const nodeTimeout = "2000"

// NewRedisCluster starts a cluster on free ports, with or without replicas; it ends with the test.
func NewRedisCluster(t testing.TB, replicas bool) *RedisCluster {
	t.Helper()
	const masters = 3
	c := &RedisCluster{}
	var busPorts []string
	start := func() *RedisServer {
		busPorts = append(busPorts, strconv.Itoa(FreePort(t)))
		return Redis(t, "--cluster-enabled", "yes", "--cluster-port", busPorts[len(busPorts)-1],
			"--cluster-node-timeout", nodeTimeout, "--repl-diskless-sync-delay", "0")
	}
	for range masters {
		c.Masters = append(c.Masters, start())
	}
	if replicas {
		for range masters {
			c.Replicas = append(c.Replicas, start())
		}
	}
	c.URL = "redis://" + c.Masters[0].Addr + "?cluster=true&addr=" + c.Masters[1].Addr + "&addr=" + c.Masters[2].Addr

	for n, s := range c.all() {
		c.must(t, s, "cluster", "set-config-epoch", n+1)
		if n < masters {
			c.must(t, s, "cluster", "addslotsrange", n*16384/masters, (n+1)*16384/masters-1)
		}
		if n > 0 {
			host, port, _ := net.SplitHostPort(c.Masters[0].Addr)
			c.must(t, s, "cluster", "meet", host, port, busPorts[0])
		}
	}
	c.await(t, "every server knows all others", func(info, nodes string) bool {
		return strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(c.all()))) && !strings.Contains(nodes, "handshake")
	})
	for n, s := range c.Replicas {
		c.must(t, s, "cluster", "replicate", c.must(t, c.Masters[n], "cluster", "myid"))
	}
	c.await(t, "the cluster serves all slots and has its replicas", func(info, nodes string) bool {
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
			strings.Count(nodes, " slave ")+strings.Count(nodes, ",slave ") == len(c.Replicas)
	})
	for _, s := range c.Replicas {
		Eventually(t, 20*time.Second, func() bool {
			return strings.Contains(fmt.Sprint(c.must(t, s, "info", "replication")), "master_link_status:up")
		}, "the replica follows")
	}
	return c
}

func (c *RedisCluster) all() []*RedisServer {
	return append(append([]*RedisServer{}, c.Masters...), c.Replicas...)
}

// await waits until all servers say so in their CLUSTER INFO and CLUSTER NODES.
func (c *RedisCluster) await(t testing.TB, what string, so func(info, nodes string) bool) {
	t.Helper()
	for _, s := range c.all() {
		Eventually(t, 20*time.Second, func() bool {
			return so(fmt.Sprint(c.must(t, s, "cluster", "info")), fmt.Sprint(c.must(t, s, "cluster", "nodes")))
		}, what)
	}
}

// must has a server carry out a command.
func (c *RedisCluster) must(t testing.TB, s *RedisServer, command ...any) any {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer client.Close()
	answer, err := client.Do(context.Background(), command...).Result()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return answer
}

// MoveSlot gives a slot, which must have no keys, from the one master that has it to another.
func (c *RedisCluster) MoveSlot(t testing.TB, slot int, to *RedisServer) {
	t.Helper()
	id := c.must(t, to, "cluster", "myid")
	c.must(t, to, "cluster", "setslot", slot, "node", id)
	for _, s := range c.Masters {
		if s != to {
			c.must(t, s, "cluster", "setslot", slot, "node", id)
		}
	}
}
