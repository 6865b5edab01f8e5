package redisconn_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

const patience = 30 * time.Second

func open(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "chatr"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// wantReady waits until the probe says so; empty: that it is ready.
func wantReady(t *testing.T, p *redisconn.Probe, reason string) {
	t.Helper()
	testkit.Eventually(t, patience, func() bool {
		err := p.Ready(t.Context())
		var why *obs.NotReady
		if errors.As(err, &why) {
			return why.Reason == reason
		}
		return err == nil && reason == ""
	}, "the probe to say "+reason)
}

// TestProbeTriesAWrite: a server that answers pings and publishes, and takes no writes, is told from one that does, and why.
func TestProbeTriesAWrite(t *testing.T) {
	server := testkit.Redis(t)
	operator := open(t, server.URL)
	p := redisconn.NewProbe(open(t, server.URL), "chatr")
	do := func(command ...any) {
		t.Helper()
		if err := operator.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	wantReady(t, p, "")
	if ttl := operator.TTL(t.Context(), "chatr:ready").Val(); ttl <= 0 {
		t.Errorf("what the probe writes stays for %v, want some seconds", ttl)
	}
	do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
	wantReady(t, p, redisconn.ReasonFull)
	do("CONFIG", "SET", "maxmemory", "0")
	wantReady(t, p, "")
	do("CONFIG", "SET", "min-replicas-to-write", "1")
	wantReady(t, p, redisconn.ReasonReadOnly)
	do("CONFIG", "SET", "min-replicas-to-write", "0")
	wantReady(t, p, "")
	master := testkit.Redis(t)
	host, port, _ := net.SplitHostPort(master.Addr)
	do("REPLICAOF", host, port)
	wantReady(t, p, redisconn.ReasonReadOnly)
	do("REPLICAOF", "NO", "ONE")
	wantReady(t, p, "")
	server.Stop()
	wantReady(t, p, redisconn.ReasonUnreachable)
	server.Start()
	wantReady(t, p, "")
}

// TestProbeTriesEachMaster: a cluster of which one master is full is not ready.
func TestProbeTriesEachMaster(t *testing.T) {
	cluster := testkit.NewRedisCluster(t, false)
	p := redisconn.NewProbe(open(t, cluster.URL), "chatr")
	wantReady(t, p, "")
	for _, server := range cluster.Masters {
		master := open(t, server.URL)
		for _, c := range []struct{ memory, reason string }{{"1", redisconn.ReasonFull}, {"0", ""}} {
			if err := master.ConfigSet(t.Context(), "maxmemory", c.memory).Err(); err != nil {
				t.Fatal(err)
			}
			wantReady(t, p, c.reason)
		}
	}
}
