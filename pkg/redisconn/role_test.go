package redisconn

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestAServerThatHasBecomeAReplica: behind one name another server is the master. One command meets the old one; no other does, however
// many connections are kept.
func TestAServerThatHasBecomeAReplica(t *testing.T) {
	first, second := testkit.Redis(t), testkit.Redis(t)
	name, target := listenAs(t, first.Addr)
	client, err := Open(Config{URL: "redis://" + name, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const kept = 8
	var conns [kept]*redis.Conn
	for i := range conns {
		conns[i] = client.(*redis.Client).Conn()
		if err := conns[i].Set(t.Context(), "key", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		_ = c.Close() // gives it back
	}
	if got := client.PoolStats().IdleConns; got != kept {
		t.Fatalf("got %d idle connections, want %d", got, kept)
	}
	target.Store(&second.Addr)
	makeReplica(t, first, second)

	failed := 0
	for range 3 * kept {
		if err := client.Set(t.Context(), "key", "after", 0).Err(); err != nil {
			failed++
			if !strings.HasPrefix(err.Error(), "READONLY") {
				t.Errorf("got %v, want READONLY", err)
			}
		}
	}
	if failed != 1 {
		t.Errorf("%d writes met the old server, want 1", failed)
	}
	pipeline := func() error {
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Get(t.Context(), "key")
			p.Set(t.Context(), "key", "again", 0)
			return nil
		})
		return err
	}
	if err := pipeline(); err != nil {
		t.Fatal(err)
	}
	target.Store(&first.Addr)
	makeReplica(t, second, first) // as it was before
	failed = 0
	for range kept {
		if pipeline() != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d pipelines met the old server, want 1", failed)
	}
}

// TestNewConnectionsAreToMasters: whoever connects is not left with a replica.
func TestNewConnectionsAreToMasters(t *testing.T) {
	first, second := testkit.Redis(t), testkit.Redis(t)
	makeReplica(t, first, second)
	name, target := listenAs(t, first.Addr)
	client, err := Open(Config{URL: "redis://" + name, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Get(t.Context(), "key").Err(); !errors.Is(err, errReplica) {
		t.Errorf("got %v, want that it is a replica", err)
	}
	target.Store(&second.Addr)
	if err := client.Set(t.Context(), "key", 1, 0).Err(); err != nil {
		t.Error(err)
	}
}

func TestLostRole(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(t).Addr})
	defer client.Close()
	for text, want := range map[string]bool{
		"READONLY You can't write against a read only replica.":                               true,
		"LOADING Redis is loading the dataset in memory":                                      true,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":    true,
		"ERR Error running script: @user_script:1: -READONLY You can't write against a re...": true,
		"OOM command not allowed when used memory > 'maxmemory'.":                             false,
		"ERR unknown command": false,
	} {
		err := client.Eval(t.Context(), "return redis.error_reply(ARGV[1])", nil, text).Err()
		if err == nil || lostRole(err) != want {
			t.Errorf("%v: got %v, want %v", err, lostRole(err), want)
		}
	}
	if lostRole(nil) || lostRole(io.EOF) || lostRole(redis.Nil) {
		t.Error("what is no answer of a server that has lost its role was taken for one")
	}
}

// makeReplica makes replica one of master, which is or becomes a master, and returns when it is.
func makeReplica(t *testing.T, replica, master *testkit.RedisServer) {
	t.Helper()
	r, m := redis.NewClient(&redis.Options{Addr: replica.Addr}), redis.NewClient(&redis.Options{Addr: master.Addr})
	defer r.Close()
	defer m.Close()
	host, port, _ := net.SplitHostPort(master.Addr)
	if err := errors.Join(m.ReplicaOf(t.Context(), "no", "one").Err(), r.ReplicaOf(t.Context(), host, port).Err()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 30*time.Second, func() bool {
		role, err := r.Do(t.Context(), "ROLE").Slice()
		return err == nil && len(role) > 3 && role[0] == "slave" && role[3] == "connected"
	}, "the replica to be one")
}

// listenAs listens on an address of its own, and joins who connects to the target.
func listenAs(t *testing.T, to string) (addr string, target *atomic.Pointer[string]) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	target = &atomic.Pointer[string]{}
	target.Store(&to)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", *target.Load())
			if err != nil {
				_ = in.Close()
				continue
			}
			join := func(a, b net.Conn) {
				_, _ = io.Copy(a, b)
				_, _ = a.Close(), b.Close()
			}
			go join(in, out)
			go join(out, in)
		}
	}()
	return l.Addr().String(), target
}
