package redisbus_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// member is a node that drops what it has heard before, as nodes do, by the number that the bus has written.
type member struct {
	cluster.Bus
	name byte

	mu    sync.Mutex
	last  map[byte]uint64
	heard []string
}

func startMember(t *testing.T, name byte, url string, kept redisbus.Backlog) *member {
	t.Helper()
	b, err := redisbus.New(redisbus.Config{URL: url, Prefix: "chatr"}, kept, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{Bus: b, name: name, last: map[byte]uint64{}}
	n := &bustest.Node{Bus: b}
	n.StartDeliver(t, m.deliver)
	return m
}

func (m *member) deliver(_ string, payload []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	number := binary.BigEndian.Uint64(payload[1:])
	if number <= m.last[payload[0]] {
		return
	}
	m.last[payload[0]] = number
	m.heard = append(m.heard, string(payload[9:]))
}

func (m *member) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

// say publishes what is kept, and returns when that is answered.
func (m *member) say(topic, text string) (nodes int, err error) {
	payload := append([]byte{m.name}, make([]byte, 8)...)
	payload = append(payload, text...)
	answered := make(chan struct{})
	m.PostKept(topic, payload, payload[1:9], func(n int, e error) {
		nodes, err = n, e
		close(answered)
	})
	<-answered
	return nodes, err
}

func (m *member) mustSay(t *testing.T, topic, text string) {
	t.Helper()
	if _, err := m.say(topic, text); err != nil {
		t.Fatalf("say %q: %v", text, err)
	}
}

func (m *member) mustSubscribe(t *testing.T, topics ...string) {
	t.Helper()
	if err := m.Subscribe(t.Context(), topics...); err != nil {
		t.Fatal(err)
	}
}

func (m *member) wantHeard(t *testing.T, want ...string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return len(m.got()) >= len(want) }, fmt.Sprintf("%d payloads heard", len(want)))
	if got := m.got(); !slices.Equal(got, want) {
		t.Fatalf("heard %q, want %q", got, want)
	}
}

// hasLost says that a member has noticed that it has lost its connection, though it may be back.
func hasLost(m *member) func() bool {
	return func() bool { return m.Ready() != nil || m.LossCount() > 0 }
}

// TestMissedIsReadUp has one node miss what others say, in each way in which it can lose its connection, and be told of all of it when it
// is back, once and in order.
func TestMissedIsReadUp(t *testing.T) {
	for name, lose := range map[string]func(*testkit.Link){
		"cut off":                func(l *testkit.Link) { l.Cut() },
		"its link hangs":         func(l *testkit.Link) { l.Hang(testkit.Both) },
		"it cannot hear":         func(l *testkit.Link) { l.Hang(testkit.Down) },
		"it cannot be heard":     func(l *testkit.Link) { l.Hang(testkit.Up) },
		"its subscriptions hang": func(l *testkit.Link) { l.Hang(testkit.Subscribed) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			l := testkit.NewLink(t, server.Addr)
			a, b := startMember(t, 'a', server.URL, backlog), startMember(t, 'b', "redis://"+l.Addr, backlog)
			a.mustSubscribe(t, "room")
			b.mustSubscribe(t, "room", "other")
			var want []string
			say := func(n int) {
				for range n {
					text := fmt.Sprint("message ", len(want))
					want = append(want, text)
					a.mustSay(t, "room", text)
					a.mustSay(t, "a room that b is not in", text)
				}
			}
			say(10)
			lose(l)
			say(300)
			testkit.Eventually(t, time.Minute, hasLost(b), "b has noticed")
			say(300)
			l.Mend()
			for b.Ready() != nil {
				say(1)
				time.Sleep(time.Millisecond)
			}
			say(10)
			b.wantHeard(t, want...)
			a.wantHeard(t, want...)
			if b.LossCount() != 1 || b.GapCount() != 0 || a.LossCount() != 0 {
				t.Errorf("LossCount = %d, GapCount = %d; want 1, 0; of the other node %d, want 0", b.LossCount(), b.GapCount(), a.LossCount())
			}
		})
	}
}

// TestKilledSubscriptionsAreReadUp has the server end all connections that subscribe, again and again, while both nodes talk.
func TestKilledSubscriptionsAreReadUp(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a, b := startMember(t, 'a', server.URL, backlog), startMember(t, 'b', server.URL, backlog)
	for _, m := range []*member{a, b} {
		m.mustSubscribe(t, "room")
	}
	var said []string
	for round := range 3 {
		for i := range 100 {
			text := fmt.Sprint(round, " ", i)
			if _, err := a.say("room", text); err == nil {
				said = append(said, text)
			}
			if i == 50 {
				if err := admin(t, server).Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		testkit.Eventually(t, time.Minute, func() bool { return a.Ready() == nil && b.Ready() == nil }, "both are back")
	}
	a.mustSay(t, "room", "end")
	said = append(said, "end")
	for _, m := range []*member{a, b} {
		testkit.Eventually(t, time.Minute, func() bool { return slices.Contains(m.got(), "end") }, "all is heard")
		got := m.got()
		if twice := len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got); twice {
			t.Errorf("%c heard something twice: %q", m.name, got)
		}
		if missing := slices.DeleteFunc(slices.Clone(said), func(s string) bool { return slices.Contains(got, s) }); len(missing) > 0 {
			t.Errorf("%c has not heard %q, which was answered", m.name, missing)
		}
		if m.GapCount() != 0 {
			t.Errorf("GapCount of %c = %d, want 0", m.name, m.GapCount())
		}
	}
}

// TestFailoverLosesNothing has a master die before its replica has what it has answered. Whoever said it says it again.
func TestFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	first, second := testkit.Redis(t), testkit.Redis(t)
	replicate(t, second, first)
	la, lb := testkit.NewLink(t, first.Addr), testkit.NewLink(t, first.Addr)
	a, b := startMember(t, 'a', "redis://"+la.Addr, backlog), startMember(t, 'b', "redis://"+lb.Addr, backlog)
	a.mustSubscribe(t, "room")
	b.mustSubscribe(t, "room")
	a.mustSay(t, "room", "copied")
	testkit.Eventually(t, time.Minute, func() bool {
		n, err := admin(t, second).XLen(t.Context(), "chatr:backlog").Result()
		m, also := admin(t, first).XLen(t.Context(), "chatr:backlog").Result()
		return err == nil && also == nil && n == m
	}, "the replica has it")

	second.Pause()
	lb.Cut()
	a.mustSay(t, "room", "answered, and not copied")
	first.Stop()
	second.Resume()
	if err := admin(t, second).ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	la.SetTarget(second.Addr)
	lb.SetTarget(second.Addr)
	lb.Mend()
	testkit.Eventually(t, time.Minute, func() bool { return a.Ready() == nil && b.Ready() == nil }, "both are on the new master")
	a.mustSay(t, "room", "after")
	for _, m := range []*member{a, b} {
		m.wantHeard(t, "copied", "answered, and not copied", "after")
		if m.GapCount() != 0 {
			t.Errorf("GapCount of %c = %d, want 0", m.name, m.GapCount())
		}
	}
}

// TestGapIsTold has a node be away for longer than anything is kept, or the server come back empty: then it says that there is a gap.
func TestGapIsTold(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *testkit.RedisServer, *member){
		"the window has passed": func(t *testing.T, server *testkit.RedisServer, a *member) {
			said := int64(0)
			testkit.Eventually(t, time.Minute, func() bool {
				a.mustSay(t, "room", string(make([]byte, 4000)))
				said++
				left, err := admin(t, server).XLen(t.Context(), "chatr:backlog").Result()
				return err == nil && left < said
			}, "what was said first is kept no more")
		},
		"the server has lost all": func(t *testing.T, server *testkit.RedisServer, _ *member) {
			if err := admin(t, server).FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			l := testkit.NewLink(t, server.Addr)
			little := redisbus.Backlog{Window: time.Hour, Bytes: 100_000}
			a, b := startMember(t, 'a', server.URL, little), startMember(t, 'b', "redis://"+l.Addr, little)
			b.mustSubscribe(t, "room")
			a.mustSay(t, "room", "before")
			b.wantHeard(t, "before")
			l.Cut()
			lose(t, server, a)
			l.Mend()
			testkit.Eventually(t, time.Minute, func() bool { return b.LossCount() == 1 && b.Ready() == nil }, "b is back")
			if b.GapCount() != 1 {
				t.Errorf("GapCount = %d, want 1", b.GapCount())
			}
		})
	}
}

// TestFullServerRefusesWhatIsKept: nothing of a pipeline is heard then, and the bus goes on.
func TestFullServerRefusesWhatIsKept(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	a := startMember(t, 'a', server.URL, backlog)
	a.mustSubscribe(t, "room")
	if err := admin(t, server).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.say("room", "no room for it"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, cluster.ErrUnavailable)
	}
	if err := admin(t, server).ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	a.mustSay(t, "room", "after")
	a.wantHeard(t, "after")
	if a.LossCount() != 0 {
		t.Errorf("LossCount = %d, want 0", a.LossCount())
	}
}

// TestServerThatDoesNotSayWhatItUses has a user of Redis who may do everything but ask how much memory a key takes.
func TestServerThatDoesNotSayWhatItUses(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	if err := admin(t, server).Do(t.Context(), "ACL", "SETUSER", "chatr", "on", ">secret", "allkeys", "allchannels", "+@all", "-memory|usage").Err(); err != nil {
		t.Fatal(err)
	}
	l := testkit.NewLink(t, server.Addr)
	a, b := startMember(t, 'a', server.URL, backlog), startMember(t, 'b', "redis://chatr:secret@"+l.Addr, backlog)
	b.mustSubscribe(t, "room")
	l.Cut()
	testkit.Eventually(t, time.Minute, hasLost(b), "b has noticed")
	a.mustSay(t, "room", "meanwhile")
	l.Mend()
	b.wantHeard(t, "meanwhile")
	if b.GapCount() != 0 {
		t.Errorf("GapCount = %d, want 0", b.GapCount())
	}
}

// TestBacklogIsBounded by bytes, however much is said within the window.
func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	const most = 1 << 20
	a := startMember(t, 'a', server.URL, redisbus.Backlog{Window: time.Hour, Bytes: most})
	for range 4000 {
		a.mustSay(t, "room", string(make([]byte, 1000)))
	}
	testkit.Eventually(t, time.Minute, func() bool {
		used, err := admin(t, server).MemoryUsage(t.Context(), "chatr:backlog").Result()
		return err == nil && used <= most
	}, "the backlog is within its bounds")
}
