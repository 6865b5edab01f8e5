package fault

import (
	"context"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/fault/facts"
)

// rows is the table. A new one needs a name, what happens, and an event that lets it happen; want says what it may cost. Once a row
// holds, it says so, and is in make test from then on.
var rows = []row{
	{name: "nothing", what: "nothing fails", holds: true,
		event: func(w *world) { w.wait(3 * time.Second) }},
	{name: "rolling", what: "a gateway is asked to end, and started again", holds: true,
		event: func(w *world) {
			n := w.nodes[2]
			w.down(n)
			if code := n.process.Stop(); code != 0 {
				w.t.Errorf("%s ended with status %d after SIGTERM, want 0", n.name, code)
			}
			w.start(n)
		},
		want: want{plainEnds: ofGateway}},
	{name: "sigkill", what: "a gateway is killed",
		event: func(w *world) {
			w.kill(w.nodes[2])
			w.wait(5 * time.Second)
			w.start(w.nodes[2])
		},
		want: want{plainEnds: ofGateway}},
	{name: "cut-3s", what: "a gateway is cut off from Redis for 3 s", event: cut(3 * time.Second)},
	{name: "cut-20s", what: "a gateway is cut off from Redis for 20 s", event: cut(20 * time.Second),
		want: want{plainEnds: ofGateway}},
	{name: "hang-20s", what: "a gateway's link to Redis hangs for 20 s", event: hang(testkit.Both, 20*time.Second),
		want: want{plainEnds: ofGateway}},
	{name: "hang-up-20s", what: "what a gateway sends to Redis hangs for 20 s", event: hang(testkit.Up, 20*time.Second),
		want: want{plainEnds: ofGateway}},
	{name: "hang-down-20s", what: "what Redis sends to a gateway hangs for 20 s", event: hang(testkit.Down, 20*time.Second),
		want: want{plainEnds: ofGateway}},
	{name: "subscribe-hang", what: "a gateway's connection that subscribes hangs", event: hang(testkit.Subscribed, 20*time.Second)},
	{name: "client-kill", what: "Redis ends the connections of all subscribers",
		event: func(w *world) {
			w.admin(w.redis, func(ctx context.Context, c *redis.Client) error {
				return c.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
			})
			w.wait(5 * time.Second)
		}},
	{name: "redis-hung", what: "Redis hangs for 10 s",
		event: func(w *world) {
			w.breaks(w.nodes...)
			w.redis.Pause()
			w.wait(10 * time.Second)
			w.mends(w.nodes...)
			w.redis.Resume()
			w.wait(5 * time.Second)
		}},
	{name: "redis-away", what: "Redis is away for a minute",
		event: func(w *world) {
			w.breaks(w.nodes...)
			w.redis.Stop()
			w.wait(w.lasting(time.Minute, 10*time.Second))
			w.mends(w.nodes...)
			w.redis.Start()
			w.wait(5 * time.Second)
		}},
	{name: "sentinel-planned", what: "Sentinel puts the replica in the master's place, as it was asked to", setup: setup{redis: sentinel},
		event: func(w *world) {
			w.watched.Failover()
			w.wait(8 * time.Second)
		},
		want: want{plainEnds: all, reliableEnds: all}},
	{name: "sentinel-killed", what: "the master that Sentinel watches is killed", setup: setup{redis: sentinel},
		event: func(w *world) {
			w.watched.Master.Stop()
			w.wait(12 * time.Second)
		},
		want: want{plainEnds: all, reliableEnds: all}},
	{name: "cluster-killed", what: "a master of a Redis Cluster is killed", setup: setup{redis: cluster},
		event: func(w *world) {
			w.sharded.Masters[0].Stop()
			w.wait(12 * time.Second)
		},
		want: want{plainEnds: all, reliableEnds: all}},
	{name: "reshard", what: "2,000 slots of a Redis Cluster move to another master", setup: setup{redis: cluster}, event: reshard},
	{name: "output-limit", what: "somebody fills a subscriber's output limit at Redis",
		setup: setup{hubs: func(*world) string { return "\n      - name: flood\n" }}, event: outputLimit},
	{name: "redis-empty", what: "Redis comes back empty while a gateway dies",
		event: func(w *world) {
			w.redis.Stop()
			w.kill(w.nodes[2])
			w.redis.Forget()
			w.redis.Start()
			w.wait(8 * time.Second)
			w.start(w.nodes[2])
		},
		want: want{plainEnds: all, reliableEnds: all}},
	{name: "role-swap", what: "two servers swap their roles behind one name, and connections stay", setup: setup{redis: pair}, event: roleSwap,
		want: want{plainEnds: all, reliableEnds: all}},
	{name: "webhook-hang", what: "the application hangs, and some plain clients leave meanwhile",
		event: func(w *world) {
			w.hook.hang()
			w.wait(w.lasting(5*time.Second, time.Second))
			w.leave()
			w.wait(w.lasting(35*time.Second, 7*time.Second))
			w.hook.resume()
		},
		want: want{plainEnds: leavers, eventsWait: true, told: time.Minute}},
	{name: "sigstop", what: "a gateway hangs for a minute",
		event: func(w *world) {
			n := w.nodes[2]
			w.stops(n)
			n.process.Signal(syscall.SIGSTOP)
			w.wait(w.lasting(time.Minute, 15*time.Second))
			w.mends(n)
			n.process.Signal(syscall.SIGCONT)
			w.wait(5 * time.Second)
		},
		want: want{plainEnds: ofGateway}},
	{name: "vanish", what: "a gateway's machine vanishes without a word", setup: setup{fronts: true}, event: vanish,
		want: want{plainEnds: ofGateway}},
	{name: "resend", holds: true, what: "a reliable client sends an event again that is still with its handler", event: resend},
	{name: "slow-tenant", what: "350 connections of another tenant wait for a slow handler at the same address",
		setup: setup{tail: slowTenant}, event: slowHandler, want: want{plainEnds: leavers},
		also: func(w *world, v *facts.Verdict) {
			if v.EventTime > handlerTime/2 {
				w.wrong("events waited for %v", v.EventTime.Round(time.Millisecond))
			}
		}},
	{name: "descriptors", holds: true, what: "a gateway has no file descriptors left", event: descriptors},
	{name: "redis-oom", holds: true, what: "Redis has no memory left", event: config("maxmemory", "1", "0")},
	{name: "redis-readonly", holds: true, what: "Redis takes no writes", event: config("min-replicas-to-write", "1", "0")},
	{name: "throttled", holds: true, what: "a connection that is limited leaves what it has sent behind",
		setup: setup{hubs: func(*world) string { return "\n      - name: throttled\n        messagesPerSecond: 50\n" }}, event: throttled},
}

// leavers are plain clients that lose their sockets, and come again.
const leavers = 8

func (w *world) leave() {
	n := leavers
	for _, c := range w.clients {
		c.mu.Lock()
		s := c.current
		c.mu.Unlock()
		if n > 0 && !c.reliable && s != nil {
			s.Drop()
			n--
		}
	}
}

func cut(d time.Duration) func(w *world) {
	return func(w *world) {
		n := w.nodes[2]
		w.breaks(n)
		n.link.Cut()
		w.wait(d)
		w.mends(n)
		n.link.Mend()
		w.wait(5 * time.Second)
	}
}

func hang(ways testkit.Way, d time.Duration) func(w *world) {
	return func(w *world) {
		n := w.nodes[2]
		if ways != testkit.Subscribed { // else it can connect again
			w.breaks(n)
		}
		n.link.Hang(ways)
		w.wait(d)
		w.mends(n)
		n.link.Mend()
		w.wait(5 * time.Second)
	}
}

// admin has a Redis do something.
func (w *world) admin(server *testkit.RedisServer, do func(context.Context, *redis.Client) error) {
	w.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer c.Close()
	if err := do(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}
