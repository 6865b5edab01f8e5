package redislog

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// A handler may take longer than deadAfter: its lock and its claim on entries are renewed meanwhile.
func TestTouchedEntriesAreNotTakenOver(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	l := New(redis.NewClient(&redis.Options{Addr: server.Addr}), Options{})
	defer l.Close()
	ctx := t.Context()
	c := &consumer{log: l, stream: l.stream("history"), group: "events", id: "slow"}
	if err := l.client.XGroupCreateMkStream(ctx, c.stream, c.group, "0").Err(); err != nil {
		t.Fatal(err)
	}
	id, err := l.client.XAdd(ctx, &redis.XAddArgs{Stream: c.stream, Values: []string{"a", "b"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: c.group, Consumer: c.id, Streams: []string{c.stream, ">"}}).Err(); err != nil {
		t.Fatal(err)
	}
	idle := func() time.Duration {
		pending, err := l.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: c.stream, Group: c.group, Start: "-", End: "+", Count: 1}).Result()
		if err != nil || len(pending) != 1 || pending[0].Consumer != c.id {
			t.Fatalf("pending: got %v, %v; want one entry of %s", pending, err, c.id)
		}
		return pending[0].Idle
	}
	c.giveBack(ctx, []string{id})
	if got := idle(); got < deadAfter {
		t.Errorf("an entry given back is idle for %v, want at least %v", got, deadAfter)
	}
	c.renew(ctx, []string{id})
	if got := idle(); got >= deadAfter-renewal {
		t.Errorf("an entry just touched is idle for %v, want less than %v", got, deadAfter-renewal)
	}
	if got, err := l.client.PTTL(ctx, c.lockKey()).Result(); err != nil || got <= deadAfter {
		t.Errorf("the lock of a consumer that has just renewed its claim lasts %v, %v; want more than %v", got, err, deadAfter)
	}
}
