package orphans

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	redisclient "github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// idle returns a list that does nothing by itself; what it claims waits in its channel.
func idle(t *testing.T, url, name string) *list {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	l := newList(client, slog.New(slog.DiscardHandler), name, "test", time.Hour)
	l.orphans = make(chan Orphan, 10)
	return l
}

// leave writes what a node has left: one connection, and a lease until the given time of the server.
func (l *list) leave(t *testing.T, node, id string, until float64) {
	t.Helper()
	ctx := t.Context()
	if err := l.client.HSet(ctx, l.heldKey(node), id, "entry").Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.client.ZAdd(ctx, l.key("leases"), redisclient.Z{Score: until, Member: node}).Err(); err != nil {
		t.Fatal(err)
	}
}

// steadySince says since when Redis has been there.
func (l *list) steadySince(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allWellSince = at
}

// TestRewriteLeavesClaimsAlone: what a claim has moved to this node's list is not taken for something that is too much there,
// though the node does not know of it until the answer has come.
//
// checklist:O06
func TestRewriteLeavesClaimsAlone(t *testing.T) {
	t.Parallel()
	l := idle(t, testkit.Redis(t).URL, "a")
	write := func(ctx context.Context) error {
		defer l.endWrite()
		_, err := l.write(ctx, nil, func(func(string, []byte) bool) {})
		return err
	}
	listed := func() int64 { return l.client.HLen(t.Context(), l.heldKey("a")).Val() }
	l.leave(t, "a", "on its way", 1)
	l.mustRewrite, l.claimRunning = true, true
	mustDo(t, write)
	if n := listed(); n != 1 {
		t.Fatalf("got %d connections in the list during a claim, want 1", n)
	}
	l.claimRunning = false
	mustDo(t, write)
	if n := listed(); n != 0 {
		t.Errorf("got %d connections in the list after all was written, want 0", n)
	}

	l.leave(t, "dead", "c1", 1)
	l.rewriteRunning = true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if some, err := l.claimSome(ctx, "dead"); err == nil {
		t.Errorf("got %q claimed while all is written, want nothing", some)
	}
	l.endWrite()
	if some, err := l.claimSome(t.Context(), "dead"); err != nil || len(some) != 2 {
		t.Errorf("got %q and %v, want one connection", some, err)
	}
}

func mustDo(t *testing.T, do func(context.Context) error) {
	t.Helper()
	if err := do(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsClaimedRightAfterRedisIsBack: all leases have lapsed while Redis was away, those of nodes that live, too.
// Nobody claims anything before the others have had the time to renew theirs.
//
// checklist:O06
func TestNothingIsClaimedRightAfterRedisIsBack(t *testing.T) {
	t.Parallel()
	l := idle(t, testkit.Redis(t).URL, "a")
	l.leave(t, "dead", "c1", 1)
	want := func(n int, when string) {
		t.Helper()
		mustDo(t, l.claimOnce)
		if got := len(l.orphans); got != n {
			t.Errorf("%s: got %d claimed, want %d", when, got, n)
		}
	}
	want(0, "before its own first renewal")
	mustDo(t, l.renewOnce)
	want(0, "right after its own first renewal")
	l.steadySince(time.Now().Add(-l.lease))
	want(0, "after a lease's time, which others may need")

	l.steadySince(time.Now().Add(-2 * l.lease))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // Redis goes away
		defer close(ended)
		l.every(ctx, time.Hour, nil, func(context.Context) error { return errors.New("Redis is away") })
	}()
	testkit.Eventually(t, time.Minute, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.lastCallOK
	}, "the failure is noted")
	stop()
	<-ended
	want(0, "after a failed call")
	mustDo(t, l.renewOnce)
	want(0, "right after Redis is back")

	l.steadySince(time.Now().Add(-2 * l.lease))
	want(1, "once the others have had time enough")
}

// TestOnlyLapsedLeasesAreClaimedFrom: a lease that is renewed between the look at all leases and the claim keeps what is
// held, and a node that renews in time is told that nothing has happened to it.
//
// checklist:O06
func TestOnlyLapsedLeasesAreClaimedFrom(t *testing.T) {
	t.Parallel()
	url := testkit.Redis(t).URL
	a, b := idle(t, url, "a"), idle(t, url, "b")
	claimed := func() int {
		t.Helper()
		n, err := a.claimFrom(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a.leave(t, "b", "c1", 1e15)
	if n := claimed(); n != 0 {
		t.Errorf("got %d claimed of a node whose lease has not lapsed, want none", n)
	}
	a.steadySince(time.Now().Add(-2 * a.lease))
	mustDo(t, a.claimOnce)
	if n := len(a.orphans); n != 0 {
		t.Errorf("got %d claimed in all of a node whose lease has not lapsed, want none", n)
	}
	if n := a.client.HLen(t.Context(), a.heldKey("b")).Val(); n != 1 {
		t.Errorf("got %d connections left to the node, want its one", n)
	}
	mustDo(t, b.renewOnce)
	if b.mustRewrite {
		t.Error("a lease renewed in time: the list is to be written again, want that not")
	}

	a.leave(t, "b", "c1", 1)
	mustDo(t, b.renewOnce)
	if !b.mustRewrite {
		t.Error("a lease that had lapsed unnoticed: the list is not to be written again, want that")
	}
	b.mustRewrite = false

	a.leave(t, "b", "c1", 1)
	if n := claimed(); n != 1 {
		t.Errorf("got %d claimed of a node whose lease has lapsed, want its connection", n)
	}
	mustDo(t, b.renewOnce)
	if !b.mustRewrite {
		t.Error("a lease that had lapsed: the list is not to be written again, want that")
	}
}
