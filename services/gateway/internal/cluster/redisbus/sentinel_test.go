package redisbus_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
)

// A master that Sentinel replaces is an outage of seconds, after which both nodes meet on the new one.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := testkit.Redis(t)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := testkit.Redis(t, "--replicaof", host+" "+port)
	sentinel := startSentinel(t, host, port)
	admin := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	defer admin.Close()
	testkit.Eventually(t, time.Minute, func() bool {
		known, err := admin.Replicas(t.Context(), "main").Result()
		return err == nil && len(known) == 1 && known[0]["master-link-status"] == "ok"
	}, "Sentinel knows the replica")

	url := "redis://" + sentinel + "/0?master_name=main"
	a, b := bustest.Start(t, newBus(t, url, "chatr")), bustest.Start(t, newBus(t, url, "chatr"))
	b.MustSubscribe(t, "room")
	a.MustPublish(t, "room", "before", 1)
	b.WantHeard(t, bustest.Heard{Topic: "room", Payload: "before"})

	master.Stop()
	testkit.Eventually(t, soon, unready(a), "a has noticed")
	testkit.Eventually(t, soon, unready(b), "b has noticed")
	testkit.Eventually(t, time.Minute, func() bool { return a.Ready() == nil && b.Ready() == nil }, "both are back")
	a.MustPublish(t, "room", "after", 1)
	b.WantHeard(t, bustest.Heard{Topic: "room", Payload: "before"}, bustest.Heard{Topic: "room", Payload: "after"})

	direct := redis.NewClient(&redis.Options{Addr: replica.Addr})
	defer direct.Close()
	if got := direct.PubSubNumSub(t.Context(), "chatr:room").Val()["chatr:room"]; got != 1 {
		t.Errorf("the new master knows %d subscribers, want 1", got)
	}
}

// startSentinel watches a master under the name main and returns the Sentinel's address.
func startSentinel(t *testing.T, host, port string) string {
	t.Helper()
	addr := fmt.Sprint("127.0.0.1:", testkit.FreePort(t))
	_, own, _ := net.SplitHostPort(addr)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n", own, host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addr
}
