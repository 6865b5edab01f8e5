package redisbus_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
)

// A master that Sentinel replaces is an outage of seconds, after which both nodes meet on the new one.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	sentinel := testkit.NewRedisSentinel(t)
	master, replica, url := sentinel.Master, sentinel.Replica, sentinel.URL
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
