package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/tests/fault/facts"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// hub is the one that everything happens in.
const hub = "fault"

// The load. Groups have ten members each.
const (
	gateways   = 3
	clients    = 150
	groups     = clients / 10
	perSecond  = 180 // messages that clients send
	restEach   = 150 * time.Millisecond
	eventEach  = 12 // of so many things that a client sends one is an event
	readyEach  = 250 * time.Millisecond
	askEach    = 50 * time.Millisecond
	listEach   = 500 * time.Millisecond
	answerTime = 12 * time.Second // for a request by REST
)

// world is what one row happens in.
type world struct {
	t       *testing.T
	long    bool // the incident lasts as long as it did when it was measured first
	log     *facts.Log
	redis   *testkit.RedisServer // the one, or the first of two; nil: a Sentinel's or a cluster's
	second  *testkit.RedisServer
	watched *testkit.RedisSentinel
	sharded *testkit.RedisCluster
	nodes   []*node
	top     *topology.Topology // of the chat
	people  []*people.Person   // in the chat
	hook    *webhook
	clients []*client
	visited atomic.Int64 // messages that visitors have heard
	folder  string       // of what is kept when the row fails

	mu    sync.Mutex // guards the following
	found []string   // what else is wrong

	sending context.Context // ends when nothing more is to be sent
	quiet   context.CancelFunc
	open    atomic.Int64 // requests that wait for an answer
	parts   sync.WaitGroup
}

// node is a gateway with its link.
type node struct {
	name    string
	process *topology.Process
	link    *testkit.Link // to Redis; nil where gateways are told of other addresses by it
	front   *testkit.Link // of its clients; nil: they connect without one
	url     string        // for clients
	api     *dataplane.Client

	mu     sync.Mutex // guards the following
	isDown bool       // and not yet started again
}

// setup is what a row's world has that is not as in others. The zero value is a single Redis.
type setup struct {
	redis  func(w *world) (urls []string) // instead of one single server behind a link for each gateway
	fronts bool                           // clients connect through links, too
	env    []string
	hubs   func(w *world) string // items of a YAML list beside the hub of the load
	tail   func(w *world) string // what follows in the YAML: further items of the list of tenants
}

// newWorld starts everything, and returns when all clients are in their groups.
func newWorld(t *testing.T, long bool, s setup) *world {
	w := &world{t: t, long: long, log: facts.NewLog()}
	w.folder = keptFolder(t)
	w.hook = newWebhook(w)
	hubs, tail := "", ""
	if s.hubs != nil {
		hubs = s.hubs(w)
	}
	if s.tail != nil {
		tail = s.tail(w)
	}
	urls := w.single
	if s.redis != nil {
		urls = func() []string { return s.redis(w) }
	}
	w.nodes = make([]*node, gateways)
	for i := range w.nodes {
		w.nodes[i] = &node{name: fmt.Sprintf("gateway %d", i+1)}
	}
	top := topology.GatewaysOn(t, topology.Options{Env: append([]string{"CHATR_LOG_LEVEL=info"}, s.env...), Hubs: hubs + w.hook.hub(hub) + tail, Logs: w.folder}, urls()...)
	for i, n := range w.nodes {
		n.process = top.Gateways[i]
		n.url = n.process.URL
		if s.fronts {
			n.front = testkit.NewLink(t, strings.TrimPrefix(n.url, "http://"))
			n.url = "http://" + n.front.Addr
		}
		n.api = dataplane.New(n.process.URL, topology.AccessKey, hub, dataplane.Options{Retries: -1, Timeout: answerTime})
	}
	t.Cleanup(func() { // before the processes are asked to end in an orderly way: that is no part of it
		for _, n := range w.nodes {
			n.process.Kill()
		}
	})
	var end context.CancelFunc
	var living context.Context
	living, end = context.WithCancel(t.Context())
	w.sending, w.quiet = context.WithCancel(living)
	t.Cleanup(func() {
		end()
		w.parts.Wait()
	})
	for i := range clients {
		c := newClient(w, i)
		w.clients = append(w.clients, c)
		w.parts.Go(func() { c.live(living) })
		w.parts.Go(func() { c.talk(w.sending) })
	}
	for i, n := range w.nodes {
		w.parts.Go(func() { n.watch(living, w) })
		w.parts.Go(func() { w.list(w.sending, n) })
		w.parts.Go(func() { w.publish(w.sending, n, fmt.Sprintf("rest %d", i+1)) })
	}
	w.parts.Go(func() { w.ask(w.sending) })
	w.await("everybody is there", w.everybodyBack)
	w.mark("everybody is there")
	w.wait(2 * time.Second)
	return w
}

// keptFolder returns a folder for logs that stays when the test has failed.
func keptFolder(t *testing.T) string {
	folder, err := os.MkdirTemp("", "fault-"+filepath.Base(t.Name())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs and facts are in %s", folder)
			return
		}
		_ = os.RemoveAll(folder)
	})
	return folder
}

// single starts one Redis and a link to it for each gateway.
func (w *world) single() (urls []string) {
	w.redis = testkit.Redis(w.t)
	for _, n := range w.nodes {
		n.link = testkit.NewLink(w.t, w.redis.Addr)
		urls = append(urls, "redis://"+n.link.Addr+"/0")
	}
	return urls
}

// mark notes what the test does.
func (w *world) mark(format string, args ...any) {
	w.log.Add(facts.Fact{Kind: facts.Mark, Reason: fmt.Sprintf(format, args...)})
}

// wrong notes something that no fact of others shows.
func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, fmt.Sprintf(format, args...))
}

// wait lets the load go on for a time.
func (w *world) wait(d time.Duration) { time.Sleep(d) }

// lasting is how long an incident lasts: as it was measured, or short.
func (w *world) lasting(long, short time.Duration) time.Duration {
	if w.long {
		return long
	}
	return short
}

func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	testkit.Eventually(w.t, time.Minute, cond, what)
}

// try waits for a condition, for a bounded time, and reports whether it holds.
func (w *world) try(within time.Duration, cond func() bool) bool {
	for began := time.Now(); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > within {
			return false
		}
	}
	return true
}

func (w *world) everybodyBack() bool {
	for _, c := range w.clients {
		if !c.isBack() {
			return false
		}
	}
	return true
}

func (w *world) allReady() bool  { return len(w.whoIsReady()) == len(w.nodes) }
func (w *world) noneReady() bool { return len(w.whoIsReady()) == 0 }

func (w *world) whoIsReady() (names []string) {
	for _, n := range w.nodes {
		if n.process.Ready() == "" {
			names = append(names, n.name)
		}
	}
	return names
}

// unready waits until nobody is ready, and for a while more.
func (w *world) unready() {
	if !w.try(w.lasting(12*time.Second, time.Minute), w.noneReady) {
		w.wrong("ready although it cannot do its work: %s", strings.Join(w.whoIsReady(), ", "))
	}
	w.wait(w.lasting(8*time.Second, time.Second))
}

// kill ends a gateway without a warning.
func (w *world) kill(n *node) {
	w.mark("%s is killed", n.name)
	w.down(n)
	n.process.Kill()
}

// start starts a gateway that was killed.
func (w *world) start(n *node) {
	w.mark("%s is started", n.name)
	n.process.Start()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isDown = false
}

// down says that a gateway is not there until it is started. What it says of itself afterwards has nothing to do with before.
func (w *world) down(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isDown = true
	w.log.Add(facts.Fact{Kind: facts.Ready, Node: n.name, Reason: "it is down"})
}

// breaks says that gateways cannot do their work from now on, and readiness should say so; mends, that they can again.
func (w *world) breaks(nodes ...*node) {
	for _, n := range nodes {
		w.log.Add(facts.Fact{Kind: facts.Broken, Node: n.name})
	}
}

// stops says that a gateway does nothing any more, not even refuse, until it is mended.
func (w *world) stops(n *node) {
	w.log.Add(facts.Fact{Kind: facts.Stopped, Node: n.name})
}

func (w *world) mends(nodes ...*node) {
	for _, n := range nodes {
		w.log.Add(facts.Fact{Kind: facts.Mended, Node: n.name})
	}
}

// watch notes what a gateway says of itself.
func (n *node) watch(ctx context.Context, w *world) {
	for tick := time.NewTicker(readyEach); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		reason := n.process.Ready()
		n.mu.Lock()
		if !n.isDown {
			w.log.Add(facts.Fact{Kind: facts.Ready, Node: n.name, Yes: reason == "", Reason: reason})
		}
		n.mu.Unlock()
	}
}

// list asks a gateway who is in groups, which it can say only when all others have answered.
func (w *world) list(ctx context.Context, n *node) {
	for g := 0; ; g = (g + 1) % groups {
		sleep(ctx, listEach)
		if ctx.Err() != nil {
			return
		}
		f := facts.Fact{Kind: facts.Listed, Node: n.name, Since: w.log.Now(), Yes: true}
		if _, err := n.api.ListConnections(context.WithoutCancel(ctx), groupName(g)); err != nil {
			f.Yes, f.Reason = false, err.Error()
		}
		w.log.Add(f)
	}
}

// ask asks gateways about users.
func (w *world) ask(ctx context.Context) {
	const patience = 3 * time.Second
	var asking sync.WaitGroup
	defer asking.Wait()
	for tick := time.NewTicker(askEach); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		c, n := w.clients[rand.IntN(len(w.clients))], w.nodes[rand.IntN(len(w.nodes))]
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			since := w.log.Now()
			if is, err := n.api.UserExists(ctx, c.name); err == nil {
				w.log.Add(facts.Fact{Kind: facts.Asked, Client: c.name, Node: n.name, Since: since, Yes: is})
			}
		})
	}
}

// publish sends to groups by REST, one after the other.
func (w *world) publish(ctx context.Context, n *node, name string) {
	numbers := make([]int, groups)
	for g := 0; ; g = (g + 1) % groups {
		select {
		case <-ctx.Done():
			return
		case <-time.After(restEach):
		}
		numbers[g]++
		f := facts.Fact{Kind: facts.Sent, Client: name, Node: n.name, Group: groupName(g), Number: numbers[g]}
		w.log.Add(f)
		w.open.Add(1)
		err := n.api.SendToGroup(context.WithoutCancel(ctx), f.Group, text(name, f.Number))
		w.open.Add(-1)
		f.Kind, f.Node = facts.Acked, ""
		if refused := (*dataplane.Error)(nil); errors.As(err, &refused) {
			f.Kind, f.Reason = facts.Nacked, refused.Error()
		} else if err != nil {
			f.Kind, f.Reason = facts.Failed, err.Error()
		}
		w.log.Add(f)
	}
}

func groupName(g int) string { return fmt.Sprint("group-", g) }

// text is what is said: by whom, and which number.
func text(from string, number int) webpubsub.Data {
	return webpubsub.Data{Type: webpubsub.DataText, Bytes: fmt.Appendf(nil, "%s#%d", from, number)}
}

// settle waits until everybody is back and everything is told, for as long as that may take, lets the load go on for a moment, and
// returns all facts when what was sent has been answered and heard.
func (w *world) settle(told time.Duration) []facts.Fact {
	w.mark("it is over")
	// What does not come to an end here is found by the judge; so nothing fails yet.
	w.try(45*time.Second, func() bool { return w.everybodyBack() && w.allReady() })
	w.try(told+5*time.Second, func() bool { return w.hook.allTold() })
	w.mark("settled")
	w.wait(2 * time.Second)
	w.quiet()
	w.mark("nothing more is sent")
	w.try(answerTime, func() bool { return w.open.Load() == 0 })
	heard := func() (n int64) {
		for _, c := range w.clients {
			n += c.heard.Load()
		}
		return n
	}
	for before := int64(-1); before != heard(); {
		before = heard()
		w.wait(time.Second)
	}
	return w.log.End()
}
