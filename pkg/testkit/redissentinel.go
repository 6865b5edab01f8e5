package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisSentinel is a master with a replica, and a Sentinel that watches them under the name main.
type RedisSentinel struct {
	URL             string // in the form of package redisconn
	Addr            string // of the Sentinel
	Master, Replica *RedisServer

	t testing.TB
}

// sentinelConf is that of a Sentinel which decides alone, a second after a master has fallen silent.
const sentinelConf = `bind 127.0.0.1
port %s
sentinel monitor main %s %s 1
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 10000
`

// NewRedisSentinel starts all three on free ports and returns when the Sentinel knows the replica; they end with the test.
func NewRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{Master: Redis(t), t: t}
	host, port, _ := net.SplitHostPort(s.Master.Addr)
	s.Replica = Redis(t, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	dir, err := os.MkdirTemp("", "testkit-sentinel-")
	if err != nil {
		t.Fatal(err)
	}
	own := strconv.Itoa(FreePort(t))
	s.Addr = net.JoinHostPort("127.0.0.1", own)
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, sentinelConf, own, host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, args: []string{"redis-server", conf, "--sentinel"}, signal: "KILL", ready: func() error { return pingRedis(s.Addr) }}
	t.Cleanup(p.remove)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	s.URL = "redis://" + s.Addr + "/0?master_name=main"
	s.await(s.Replica.Addr)
	return s
}

// Failover has the Sentinel put the replica in the master's place, as is done before the master's machine is maintained, and
// returns when the master has become a replica.
func (s *RedisSentinel) Failover() {
	s.t.Helper()
	admin := s.admin()
	defer admin.Close()
	if err := admin.Failover(context.Background(), "main").Err(); err != nil {
		s.t.Fatal(err)
	}
	s.await(s.Master.Addr)
}

// await waits until the Sentinel has a replica at an address which follows.
func (s *RedisSentinel) await(addr string) {
	s.t.Helper()
	admin := s.admin()
	defer admin.Close()
	_, port, _ := net.SplitHostPort(addr)
	Eventually(s.t, patience, func() bool {
		known, err := admin.Replicas(context.Background(), "main").Result()
		return err == nil && len(known) == 1 && known[0]["port"] == port && known[0]["master-link-status"] == "ok"
	}, "Sentinel knows the replica")
}

func (s *RedisSentinel) admin() *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: s.Addr, ReadTimeout: time.Second, DialTimeout: time.Second})
}
