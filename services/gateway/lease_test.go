package gateway

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// TestSurvivorSpeaksForTheDead cuts a node off from Redis for good, which is all that others see of one that has died. Each
// of its connections is told the end of once, but for one that has moved away before; and the node itself, when it
// comes to, ends what others have ended.
//
// checklist:O06
func TestSurvivorSpeaksForTheDead(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	var mu sync.Mutex
	ended := map[string]int{}
	s := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/disconnected" {
			mu.Lock()
			defer mu.Unlock()
			ended[r.Header.Get("Ce-Connectionid")]++
		}
	}))
	link := testkit.NewLink(t, redis.Addr)
	s.config = Config{Lease: 6 * time.Second, Redis: redisbus.Config{URL: redis.URL, Prefix: "test"}}
	b, c := start(t, s), start(t, s)
	s.config.Redis.URL = "redis://" + link.Addr
	a := start(t, s)
	s.config.Redis.URL = redis.URL
	const codec = protocol.NameReliableJSON
	moved, cleanly := a.join(codec, "ana"), a.join(protocol.NameJSON, "cleo")
	want := map[string]int{cleanly.Info().ConnectionID: 1}
	clients := []*wsclient.Client{}
	for i := range 20 {
		clients = append(clients, a.join([]string{codec, protocol.NameJSON}[i%2], "ben"))
		want[clients[i].Info().ConnectionID] = 1
	}
	b.recoverAt(t, moved)
	must(t, cleanly.Close(1000, ""))
	client, err := redisconn.Open(s.config.Redis)
	must(t, err)
	defer client.Close()
	eventually(t, "the list says what there is", func() bool {
		held, err := client.HKeys(context.Background(), "{test:roster}:held:"+a.node.ID()).Result()
		return err == nil && len(held) == len(clients) && // as many there may be on the way, of others
			!slices.ContainsFunc(clients, func(c *wsclient.Client) bool { return !slices.Contains(held, c.Info().ConnectionID) })
	})
	link.Cut()
	eventually(t, "all are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(ended) >= len(want)
	})
	link.Mend()
	for _, client := range clients {
		wantClose(t, client, 1001)
	}
	must(t, moved.Ping(within(t)))
	must(t, c.join(codec, "dan").Ping(within(t)))
	mu.Lock()
	defer mu.Unlock()
	if !maps.Equal(ended, want) {
		t.Errorf("got %v ends told, want %v", ended, want)
	}
}

// TestVanishedNode has a node's way to Redis swallow everything, the ends of its connections included, as when a machine loses its
// power: nobody waits for it once its lease is over, and its subscriptions are gone, or not waited for where Redis does not let
// others end them.
//
// checklist:O06
func TestVanishedNode(t *testing.T) {
	t.Parallel()
	for name, rights := range map[string]string{"links can be ended": "+@all", "links cannot be ended": "-client|kill"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testkit.Redis(t)
			admin, err := redisconn.Open(redisconn.Config{URL: redis.URL, Prefix: "test"})
			must(t, err)
			defer admin.Close()
			must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", rights).Err())
			told := &ends{}
			link := testkit.NewLink(t, redis.Addr)
			a, b := told.start(t, "redis://"+link.Addr), told.start(t, redis.URL)
			reliable, plain := a.join(protocol.NameReliableJSON, "ana", "room"), a.join(protocol.NameJSON, "ana", "room")
			b.join(protocol.NameJSON, "ben", "room")
			awaitHeld(t, redis.URL, a, 2)
			link.Hang(testkit.Both)
			eventually(t, "both ends are told", func() bool { return told.of(reliable) == 1 && told.of(plain) == 1 })
			room := webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeGroup, Name: "room"}
			must(t, b.node.Join(within(t), room, "another"))
			must(t, b.node.Leave(within(t), room, "another"))
			members, err := b.node.Members(within(t), chat, "room", "", 10)
			if err != nil || len(members) != 1 {
				t.Errorf("got members %v, %v; want the one that is left", members, err)
			}
			exists, err := b.node.Exists(within(t), webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeConnection, Name: plain.Info().ConnectionID})
			if err != nil || exists {
				t.Errorf("got exists %v, %v for a connection that has vanished; want false", exists, err)
			}
			if err := reliable.RecoverAt(within(t), b.clientURL("nobody", nil)); !isClosed(err, 1008) {
				t.Errorf("got %v from a recovery, want a close with 1008", err)
			}
			link.Mend() // so that the node need not wait for Redis when it ends
		})
	}
}

// TestEndsAreToldOnce hangs a node's link to Redis for longer than its lease. Meanwhile some of its clients leave, which it can tell its
// handler itself, and then it comes back: each end is told once, whoever does it.
//
// checklist:O06
func TestEndsAreToldOnce(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	told := &ends{}
	link := testkit.NewLink(t, redis.Addr)
	a, b := told.start(t, "redis://"+link.Addr), told.start(t, redis.URL)
	b.join(protocol.NameJSON, "ben")
	var clients []*wsclient.Client
	for i := range 40 {
		clients = append(clients, a.join([]string{protocol.NameReliableJSON, protocol.NameJSON}[i%2], "ana"))
	}
	awaitHeld(t, redis.URL, a, len(clients))
	eventually(t, "the node knows the other", func() bool { return a.orphans.Peers() == 1 })
	link.Hang(testkit.Both)
	for _, c := range clients[:20] {
		must(t, c.Close(1000, ""))
	}
	eventually(t, "the other node tells all ends", func() bool { return told.total() >= len(clients) })
	link.Mend()
	for _, c := range clients[20:] {
		_, err := c.Wait(within(t))
		must(t, err)
	}
	eventually(t, "the node is back", func() bool { return a.Ready(within(t)) == nil && a.conns.Len() == 0 })
	must(t, a.upstream.Drain(within(t)))
	must(t, b.upstream.Drain(within(t)))
	for _, c := range clients {
		if n := told.of(c); n != 1 {
			t.Errorf("the end of %s was told %d times, want once", c.Info().ConnectionID, n)
		}
	}
}

// TestNodeThatIsCutOffClosesItself has a node lose Redis while another one has it and takes it for dead: it sends its clients away, lets
// nobody in, and is as before when Redis is back.
//
// checklist:O06
func TestNodeThatIsCutOffClosesItself(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	told := &ends{}
	link := testkit.NewLink(t, redis.Addr)
	a, b := told.start(t, "redis://"+link.Addr), told.start(t, redis.URL)
	clients := []*wsclient.Client{a.join(protocol.NameReliableJSON, "ana"), a.join(protocol.NameJSON, "ana"), a.join("", "ana")}
	there := b.join(protocol.NameJSON, "ben")
	awaitHeld(t, redis.URL, a, len(clients))
	eventually(t, "the node knows the other", func() bool { return a.orphans.Peers() == 1 })
	link.Hang(testkit.Both)
	for _, c := range clients {
		wantClose(t, c, 1001)
	}
	if _, err := a.tryDial(a.clientURL("ana", all), protocol.NameJSON); err == nil {
		t.Error("got a connection to a node that is cut off, want none")
	}
	if err := a.Ready(within(t)); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v from Ready, want that the node is cut off", err)
	}
	eventually(t, "the other node tells all ends", func() bool { return told.total() >= len(clients) })
	link.Mend()
	eventually(t, "the node is back", func() bool { return a.Ready(within(t)) == nil && a.conns.Len() == 0 })
	must(t, a.upstream.Drain(within(t)))
	must(t, b.upstream.Drain(within(t)))
	for _, c := range clients[:2] { // the last one does not know its id
		if n := told.of(c); n != 1 {
			t.Errorf("the end of %s was told %d times, want once", c.Info().ConnectionID, n)
		}
	}
	must(t, a.join(protocol.NameJSON, "ana").Ping(within(t)))
	must(t, there.Ping(within(t)))
}

// TestNobodyIsCutOffWithoutRedis has Redis hang for all nodes for longer than a lease: the clients stay, the end of one that leaves is told,
// and no other end.
//
// checklist:O06
func TestNobodyIsCutOffWithoutRedis(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	told := &ends{}
	a, b := told.start(t, redis.URL), told.start(t, redis.URL)
	leaves, stays, there := a.join(protocol.NameJSON, "ana"), a.join(protocol.NameJSON, "ana"), b.join(protocol.NameJSON, "ben")
	awaitHeld(t, redis.URL, a, 2)
	eventually(t, "each knows the other", func() bool { return a.orphans.Peers() == 1 && b.orphans.Peers() == 1 })
	for _, node := range []*server{a, b} {
		eventually(t, "the node would take the other one for dead", func() bool {
			w := httptest.NewRecorder()
			node.ServeBus(w, httptest.NewRequest(http.MethodGet, BusPath, nil))
			return w.Body.String() == "bus: yes\n"
		})
	}
	redis.Pause()
	eventually(t, "both have noticed", func() bool { return a.Ready(within(t)) != nil && b.Ready(within(t)) != nil })
	must(t, leaves.Close(1000, ""))
	eventually(t, "the end is told without Redis", func() bool { return told.of(leaves) == 1 }) // and so the lease is over
	redis.Resume()
	eventually(t, "both are back", func() bool { return a.Ready(within(t)) == nil && b.Ready(within(t)) == nil })
	must(t, stays.Ping(within(t)))
	must(t, there.Ping(within(t)))
	awaitHeld(t, redis.URL, a, 1)
	if n := told.total(); n != 1 || told.of(leaves) != 1 {
		t.Errorf("got %d ends told, and %d of the client that left; want that one alone", n, told.of(leaves))
	}
}

// TestEndToldAgain has a node cut off from Redis between its handler's answer to disconnected and its note of that: the end is told once
// more, as the same event.
//
// checklist:O06
func TestEndToldAgain(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	told := &ends{}
	link := testkit.NewLink(t, redis.Addr)
	a, b := told.start(t, "redis://"+link.Addr), told.start(t, redis.URL)
	c := a.join(protocol.NameJSON, "ana")
	awaitHeld(t, redis.URL, a, 1)
	told.onFirst(func() { link.Hang(testkit.Both) })
	must(t, c.Close(1000, ""))
	eventually(t, "it is told again", func() bool { return told.of(c) == 2 })
	link.Mend()
	eventually(t, "the node is back", func() bool { return a.Ready(within(t)) == nil })
	must(t, a.upstream.Drain(within(t)))
	must(t, b.upstream.Drain(within(t)))
	if ids := told.events(c); len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("got events %q, want one event twice", ids)
	}
}

// TestConnectedIsToldOnceItIsHeld looks whether another node could tell the end at the moment when the handler hears of the beginning.
//
// checklist:O06
func TestConnectedIsToldOnceItIsHeld(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	client, err := redisconn.Open(redisconn.Config{URL: redis.URL, Prefix: "test"})
	must(t, err)
	defer client.Close()
	var connected, held atomic.Int64
	s := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("Ce-Connectionid"); r.URL.Path == "/connected" {
			defer connected.Add(1)
			there, err := client.HExists(r.Context(), "{test:roster}:held:"+id[:cluster.NodeIDSize], id).Result()
			if err != nil {
				t.Error(err)
			}
			if there {
				held.Add(1)
			}
		}
	}))
	s.config = Config{Redis: redisbus.Config{URL: redis.URL, Prefix: "test"}}
	a := start(t, s)
	for range 20 {
		a.join(protocol.NameJSON, "ana")
	}
	eventually(t, "all are told", func() bool { return connected.Load() == 20 })
	if n := held.Load(); n != 20 {
		t.Errorf("got %d of 20 connections told before they were held, want none", 20-n)
	}
}

// awaitHeld waits until a node's list has so many connections.
func awaitHeld(t *testing.T, url string, s *server, n int) {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "test"})
	must(t, err)
	defer client.Close()
	eventually(t, "the list says what there is", func() bool {
		return client.HLen(context.Background(), "{test:roster}:held:"+s.node.ID()).Val() == int64(n)
	})
}

// ends are the disconnected events that a handler gets.
type ends struct {
	mu    sync.Mutex // guards the following
	ids   map[string][]string
	first func()
}

// start starts a node with a short lease, whose way to Redis is the URL.
func (e *ends) start(t *testing.T, url string) *server {
	t.Helper()
	s := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/disconnected" {
			e.add(r.Header.Get("Ce-Connectionid"), r.Header.Get("Ce-Id"))
		}
	}))
	ops := httptest.NewUnstartedServer(nil)
	s.config = Config{Lease: 2 * time.Second, PeerAddress: ops.Listener.Addr().String(), Redis: redisbus.Config{URL: url, Prefix: "test"}}
	node := start(t, s)
	ops.Config.Handler = http.HandlerFunc(node.ServeBus)
	ops.Start()
	t.Cleanup(ops.Close)
	return node
}

func (e *ends) add(connID, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ids == nil {
		e.ids = map[string][]string{}
	}
	e.ids[connID] = append(e.ids[connID], id)
	if e.first != nil {
		e.first()
		e.first = nil
	}
}

// onFirst has something done while the next event is being answered.
func (e *ends) onFirst(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first = do
}

// events are the ids of the events about a client's connection.
func (e *ends) events(c *wsclient.Client) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ids[c.Info().ConnectionID])
}

// of is how often the end of a client's connection has been told.
func (e *ends) of(c *wsclient.Client) int { return len(e.events(c)) }

// total is of how many connections the end has been told.
func (e *ends) total() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.ids)
}

// TestNobodyIsCalledOfflineWhoseNodeLives has a node lose its connection to Redis, and with it its subscriptions, long before its lease is
// over: nobody knows then whether its users are there.
//
// checklist:O06
func TestNobodyIsCalledOfflineWhoseNodeLives(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	link := testkit.NewLink(t, redis.Addr)
	on := func(url string) *server {
		return start(t, setup{config: Config{Lease: time.Minute, Redis: redisbus.Config{URL: url, Prefix: "test"}}})
	}
	a, b := on("redis://"+link.Addr), on(redis.URL)
	ana := a.join(protocol.NameJSON, "ana", "room")
	eventually(t, "the node has a lease", func() bool {
		living, err := b.orphans.Living(within(t))
		return err == nil && slices.Contains(living, a.node.ID())
	})
	link.Cut()
	user := cluster.Topic(chat, webpubsub.ScopeUser, "ana")
	eventually(t, "Redis has ended the node's subscriptions", func() bool {
		n, err := b.bus.SubscriberCount(within(t), user)
		return err == nil && n == 0
	})
	for _, who := range []webpubsub.Audience{
		{Hub: chat, Scope: webpubsub.ScopeUser, Name: "ana"}, {Hub: chat, Scope: webpubsub.ScopeGroup, Name: "room"},
		{Hub: chat, Scope: webpubsub.ScopeConnection, Name: ana.Info().ConnectionID},
	} {
		if got, err := b.node.Exists(within(t), who); got || !errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("%s %q: got %v, %v; want that nobody knows", who.Scope, who.Name, got, err)
		}
	}
	link.Mend()
	eventually(t, "the node is back", func() bool { return a.Ready(within(t)) == nil })
	if got, err := b.rest().UserExists(within(t), "ana"); !got || err != nil {
		t.Errorf("got %v, %v; want the user", got, err)
	}
	if got, err := b.rest().UserExists(within(t), "nobody"); got || err != nil {
		t.Errorf("got %v, %v; want nobody", got, err)
	}
	must(t, ana.Ping(within(t)))
}
