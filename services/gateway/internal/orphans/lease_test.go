package orphans

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	redisclient "github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// member is a node that has connections, and hears of those of others.
type member struct {
	*list
	kill, stop func() // without and with a word

	mu      sync.Mutex // guards the following
	conns   map[string][]byte
	changes map[string][]byte
	claimed map[string]int
	ended   map[string]bool
}

const lease = 2 * time.Second

func start(t *testing.T, url, name string, lease time.Duration) *member {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	n := &member{conns: map[string][]byte{}, changes: map[string][]byte{}, claimed: map[string]int{}, ended: map[string]bool{}}
	n.list = newList(client, slog.New(slog.DiscardHandler), name, "test", lease)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	_ = n.renewOnce(ctx)
	go func() {
		defer close(done)
		var work sync.WaitGroup
		work.Go(func() { n.renewLease(ctx) })
		work.Go(func() { n.every(ctx, writeWait, nil, n.writeHeld) })
		work.Go(func() { n.claimOrphans(ctx) })
		work.Go(func() { n.countOrphans(t, ctx) })
		work.Wait()
		last, cancel := context.WithTimeout(context.Background(), callTime)
		defer cancel()
		_, _ = n.writeHeld(last), n.endLease(last)
		_ = client.Close()
	}()
	n.stop = func() {
		cancel()
		<-done
	}
	n.kill = func() {
		_ = client.Close() // its goodbye does not get through either
		n.stop()
	}
	t.Cleanup(n.stop)
	return n
}

// countOrphans says of all orphans that their ends are reported.
func (n *member) countOrphans(t *testing.T, ctx context.Context) {
	for {
		o, ok := n.Next(ctx)
		if !ok {
			return
		}
		if string(o.Entry) != "about "+o.ConnID {
			t.Errorf("got %q about %s", o.Entry, o.ConnID)
		}
		n.mu.Lock()
		n.claimed[o.ConnID]++
		n.mu.Unlock()
	}
}

func (n *member) writeHeld(ctx context.Context) error {
	defer n.endWrite()
	n.mu.Lock()
	changes, conns := n.changes, maps.Clone(n.conns)
	n.changes = map[string][]byte{}
	n.mu.Unlock()
	ended, err := n.write(ctx, changes, maps.All(conns))
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ended {
		n.ended[id] = true
	}
	return err
}

// change says what is to be held of a connection, nil for nothing any more.
func (n *member) change(id string, entry []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes[id] = entry
}

func (n *member) open(count int) {
	for i := range count {
		id := fmt.Sprint(n.node, i)
		n.mu.Lock()
		n.conns[id] = []byte("about " + id)
		n.mu.Unlock()
		n.change(id, []byte("about "+id))
	}
}

func (n *member) count(of map[string]int) (connections, calls int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range of {
		calls += k
	}
	return len(of), calls
}

func (n *member) stored(t *testing.T, want int) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() bool {
		got, err := n.client.HLen(context.Background(), n.heldKey(n.node)).Result()
		return err == nil && got == int64(want)
	}, fmt.Sprintf("%d connections of node %s are written", want, n.node))
}

// TestSurvivorsTakeOverOnce kills one of three nodes, and then one of those that have claimed before it is done.
//
// checklist:O06
func TestSurvivorsTakeOverOnce(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		survivorsTakeOverOnce(t, testkit.Redis(t).URL)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		survivorsTakeOverOnce(t, testkit.NewRedisCluster(t, false).URL)
	})
}

func survivorsTakeOverOnce(t *testing.T, url string) {
	// No lease ends by itself while this runs, however slowly: who dies, and when it is noticed, is said below.
	a, b, c := start(t, url, "a", time.Hour), start(t, url, "b", time.Hour), start(t, url, "c", time.Hour)
	dies := func(n *member) {
		t.Helper()
		n.kill()
		if err := c.client.ZAdd(t.Context(), c.key("leases"), redisclient.Z{Score: 1, Member: n.node}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var looking sync.WaitGroup
	defer looking.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, n := range []*member{b, c} {
		looking.Go(func() { // again and again, as any call may fail
			for ctx.Err() == nil {
				n.steadySince(time.Now().Add(-2 * n.lease))
				if err := n.claimOnce(ctx); err != nil && ctx.Err() == nil && n.client.Ping(ctx).Err() == nil {
					t.Logf("%s: %v", n.node, err) // what it has claimed by that is lost if only the answer was
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	const many = 5000
	a.open(many)
	a.mu.Lock()
	delete(a.conns, "a0")
	a.mu.Unlock()
	a.change("a0", nil)
	a.stored(t, many-1)
	dies(a)
	all := func() (connections, calls int) {
		b1, b2 := b.count(b.claimed)
		c1, c2 := c.count(c.claimed)
		return b1 + c1, b2 + c2
	}
	testkit.Eventually(t, 60*time.Second, func() bool { n, _ := all(); return n == many-1 }, "all are taken over")
	if _, calls := all(); calls != many-1 {
		t.Errorf("got %d calls, want one for each of %d connections", calls, many-1)
	}
	left, _ := b.count(b.claimed)
	dies(b)
	testkit.Eventually(t, 60*time.Second, func() bool { _, calls := all(); return calls == many-1+left }, "what b did not finish is c's")
	c.mu.Lock()
	for id := range c.claimed {
		c.changes[id] = nil
	}
	c.mu.Unlock()
	c.stored(t, 0)
}

// TestTakenForDead lets a node sleep for longer than its lease: it learns what others have taken, and only of that.
func TestTakenForDead(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := start(t, redis.URL, "a", time.Hour), start(t, redis.URL, "b", lease) // a will not renew by itself
	a.open(3)
	a.stored(t, 3)
	testkit.Eventually(t, 10*time.Second, func() bool { // its one renewal must not come after what follows
		return a.client.ZScore(context.Background(), a.key("leases"), "a").Val() > 1
	}, "a has its lease")
	if err := a.client.ZAdd(t.Context(), a.key("leases"), redisclient.Z{Score: 1, Member: "a"}).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { n, _ := b.count(b.claimed); return n == 3 }, "b takes a for dead")
	testkit.Eventually(t, 10*time.Second, func() bool {
		return a.client.SCard(context.Background(), a.key("told:a")).Val() == 3
	}, "b says whose end it tells")
	a.refresh(t.Context())
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ended) != 3 {
		t.Errorf("got %v ended, want all three", a.ended)
	}
}

// TestRedisForgets loses all that Redis has: nobody is taken for dead, and everything is written again.
func TestRedisForgets(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := start(t, redis.URL, "a", time.Hour), start(t, redis.URL, "b", time.Hour)
	a.open(1000)
	a.stored(t, 1000)
	if err := a.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	a.refresh(t.Context())
	b.refresh(t.Context())
	if got := b.client.ZCard(t.Context(), b.key("leases")).Val(); got != 2 {
		t.Errorf("got %d leases after both were renewed, want 2", got)
	}
	a.stored(t, 1000)
	b.steadySince(time.Now().Add(-2 * b.lease))
	mustDo(t, b.claimOnce)
	if n, _ := b.count(b.claimed); n != 0 {
		t.Errorf("got %d connections taken for dead, want none", n)
	}
	a.stop()
	leases := b.client.ZCard(t.Context(), b.key("leases")).Val()
	if leases != 2 {
		t.Errorf("got %d leases after a node has left connections behind, want them there for others to find", leases)
	}
}
