package fault

import (
	"context"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// rows is the table. A new one needs a name, what happens, and an event that lets it happen; want says what it may cost. Once a row
// holds, it says so, and is in make test from then on.
var rows = []row{
	{name: "nothing", what: "nothing fails", holds: true,
		event: func(w *world) { w.wait(3 * time.Second) }},
	{name: "rolling", what: "a gateway is asked to end, and started again", holds: true,
		event: func(w *world) {
			n := w.nodes[2]
			n.setDown(true)
			if code := n.process.Stop(); code != 0 {
				w.t.Errorf("%s ended with status %d after SIGTERM, want 0", n.name, code)
			}
			w.start(n)
		},
		want: want{plainEnds: true}},
	{name: "sigkill", what: "a gateway is killed",
		event: func(w *world) {
			w.kill(w.nodes[2])
			w.wait(5 * time.Second)
			w.start(w.nodes[2])
		},
		want: want{plainEnds: true}},
	{name: "cut-3s", what: "a gateway is cut off from Redis for 3 s", event: cut(3 * time.Second)},
	{name: "cut-20s", what: "a gateway is cut off from Redis for 20 s", event: cut(20 * time.Second),
		want: want{plainEnds: true}},
	{name: "hang-20s", what: "a gateway's link to Redis hangs for 20 s", event: hang(testkit.Both, 20*time.Second),
		want: want{plainEnds: true}},
	{name: "hang-up-20s", what: "what a gateway sends to Redis hangs for 20 s", event: hang(testkit.Up, 20*time.Second),
		want: want{plainEnds: true}},
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
			w.redis.Resume()
			w.mends(w.nodes...)
			w.wait(5 * time.Second)
		}},
	{name: "redis-away", what: "Redis is away for a minute",
		event: func(w *world) {
			w.breaks(w.nodes...)
			w.redis.Stop()
			w.wait(w.lasting(time.Minute, 10*time.Second))
			w.redis.Start()
			w.mends(w.nodes...)
			w.wait(5 * time.Second)
		}},
	{name: "webhook-hang", what: "the application hangs, and some plain clients leave meanwhile",
		event: func(w *world) {
			w.hook.hang()
			w.wait(w.lasting(5*time.Second, time.Second))
			w.leave(10)
			w.wait(w.lasting(35*time.Second, 7*time.Second))
			w.hook.resume()
		},
		want: want{plainEnds: true, eventsWait: true, told: time.Minute}},
	{name: "sigstop", what: "a gateway hangs for a minute",
		event: func(w *world) {
			n := w.nodes[2]
			n.signal(syscall.SIGSTOP)
			w.wait(w.lasting(time.Minute, 15*time.Second))
			n.signal(syscall.SIGCONT)
			w.wait(5 * time.Second)
		},
		want: want{plainEnds: true}},
}

// leave has so many plain clients lose their sockets. They come again.
func (w *world) leave(n int) {
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
		n.link.Mend()
		w.mends(n)
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
		n.link.Mend()
		w.mends(n)
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
