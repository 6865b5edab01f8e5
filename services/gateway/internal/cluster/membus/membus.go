// Package membus is the bus of a deployment that lives in one process.
//
// A goroutine that posts while no other delivers, delivers itself, and also what others post meanwhile (flat combining). So at
// low load a payload passes from sender to receiver without a change of goroutines, and under load one goroutine delivers
// for all, which also gives all receivers one order.
package membus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Bounds of what waits for delivery; beyond, Post fails.
const (
	maxWaiting      = 1 << 16
	maxWaitingBytes = 64 << 20
)

// posterBudget is how many payloads a goroutine that posts delivers before it leaves the rest to Run.
const posterBudget = 256

// Network joins the buses of one process, so that tests may run several nodes in memory.
type Network struct {
	waiting atomic.Int64  // payloads posted and not yet delivered; grows under mu
	wake    chan struct{} // asks one Run to deliver what a goroutine that posted has left

	owner sync.Mutex // held by the goroutine that delivers; Post never waits for it; guards the following
	batch []post     // taken from queue
	next  int        // the first of batch that has not been delivered

	mu      sync.Mutex        // guards the following; may be taken under owner
	queue   []post            // in order of Post
	bytes   int               // payload bytes in queue
	topics  map[string][]*Bus // subscribers; a slice is replaced, never changed, so that deliverNext may read it without mu
	running []*Bus            // those that Run runs

	idleFuncs atomic.Pointer[[]func()] // of running; replaced, under mu
}

// post is a call of Post.
type post struct {
	topic   string
	payload []byte
	done    func(nodes int, err error)
}

// NewNetwork returns a network without nodes.
func NewNetwork() *Network {
	return &Network{wake: make(chan struct{}, 1), topics: map[string][]*Bus{}}
}

// Bus adds a node.
func (n *Network) Bus() *Bus { return &Bus{net: n} }

// New returns the bus of the only node of a network.
func New() *Bus { return NewNetwork().Bus() }

// Bus is one node's end of a Network.
type Bus struct {
	net     *Network
	deliver atomic.Pointer[func(topic string, payload []byte)] // nil unless Run runs; changes under net.mu
	idle    func()                                             // guarded by net.mu
}

var _ cluster.Bus = (*Bus)(nil)

// Post queues payload and, unless another goroutine delivers, delivers what is queued before it returns. done is
// called after the payload has been delivered to every node that subscribes.
func (b *Bus) Post(topic string, payload []byte, done func(nodes int, err error)) {
	if b.enqueue(post{topic, payload, done}) {
		b.net.deliverQueued()
	} else if done != nil {
		done(0, cluster.ErrUnavailable)
	}
}

// PostKept is Post: what memory carries is not missed.
func (b *Bus) PostKept(topic string, payload, _ []byte, done func(nodes int, err error)) {
	b.Post(topic, payload, done)
}

// enqueue adds p to the queue, unless the bus does not run or too much waits.
func (b *Bus) enqueue(p post) bool {
	n := b.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.deliver.Load() == nil || n.waiting.Load() >= maxWaiting || n.bytes+len(p.payload) > maxWaitingBytes {
		return false
	}
	n.queue = append(n.queue, p)
	n.bytes += len(p.payload)
	n.waiting.Add(1)
	return true
}

// deliverQueued delivers until nothing waits, another goroutine delivers, or the budget is used up. A payload posted while
// another goroutine releases owner is not forgotten: that goroutine looks at waiting again afterwards.
func (n *Network) deliverQueued() {
	for left := posterBudget; n.waiting.Load() > 0 && n.owner.TryLock(); {
		for left > 0 && n.deliverNext() {
			left--
		}
		n.owner.Unlock()
		n.callIdle()
		if left == 0 {
			select {
			case n.wake <- struct{}{}:
			default: // Run has been asked already
			}
			return
		}
	}
}

// deliverAll waits until it may deliver, and delivers until nothing waits.
func (n *Network) deliverAll() {
	n.owner.Lock()
	for more := true; more; {
		more = n.deliverNext()
	}
	n.owner.Unlock()
	n.callIdle()
}

// callIdle calls idle of every node. The caller does not have owner: what idle does may take a while.
func (n *Network) callIdle() {
	if all := n.idleFuncs.Load(); all != nil {
		for _, idle := range *all {
			idle()
		}
	}
}

// deliverNext delivers one payload and reports whether there was one. The caller has owner.
func (n *Network) deliverNext() bool {
	if n.next == len(n.batch) && !n.takeQueue() {
		return false
	}
	p := n.batch[n.next]
	n.batch[n.next] = post{} // drop the reference to the payload
	n.next++

	nodes := 0
	for _, b := range n.subscribers(p.topic) {
		if deliver := b.deliver.Load(); deliver != nil {
			(*deliver)(p.topic, p.payload)
			nodes++
		}
	}
	n.waiting.Add(-1)
	if p.done != nil {
		p.done(nodes, nil)
	}
	return true
}

// takeQueue takes the queue as the next batch, and gives the old batch's memory to the queue. It reports whether there is
// anything.
func (n *Network) takeQueue() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batch, n.queue = n.queue, n.batch[:0]
	n.next, n.bytes = 0, 0
	return len(n.batch) > 0
}

// subscribers returns the nodes that subscribe to a topic. The slice does not change.
func (n *Network) subscribers(topic string) []*Bus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.topics[topic]
}

// Subscribe is in effect for all that is posted after it returns.
func (b *Bus) Subscribe(_ context.Context, topics ...string) error {
	n := b.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.deliver.Load() == nil {
		return cluster.ErrUnavailable
	}
	for _, topic := range topics {
		if list := n.topics[topic]; !slices.Contains(list, b) {
			n.topics[topic] = append(slices.Clip(list), b)
		}
	}
	return nil
}

// Unsubscribe is in effect for all that is posted after it returns.
func (b *Bus) Unsubscribe(_ context.Context, topics ...string) error {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	for _, topic := range topics {
		b.net.removeSubscriber(topic, b)
	}
	return nil
}

// removeSubscriber ends b's subscription to a topic. The caller has mu.
func (n *Network) removeSubscriber(topic string, b *Bus) {
	rest := slices.DeleteFunc(slices.Clone(n.topics[topic]), func(other *Bus) bool { return other == b })
	if len(rest) == 0 {
		delete(n.topics, topic)
	} else {
		n.topics[topic] = rest
	}
}

// SubscriberCount says how many nodes of the network subscribe to a topic.
func (b *Bus) SubscriberCount(_ context.Context, topic string) (int, error) {
	if err := b.Ready(); err != nil {
		return 0, err
	}
	return len(b.net.subscribers(topic)), nil
}

// Run connects the node until ctx ends, and delivers what goroutines that post leave to it. After it has returned, deliver
// is not called any more and the node's subscriptions are gone.
func (b *Bus) Run(ctx context.Context, deliver func(topic string, payload []byte), idle func()) error {
	b.connect(deliver, idle)
	defer b.disconnect()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.net.wake:
			b.net.deliverAll()
		}
	}
}

// connect makes b ready: from now on it gets payloads and may post.
func (b *Bus) connect(deliver func(string, []byte), idle func()) {
	n := b.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running = append(n.running, b)
	b.idle = idle
	n.storeIdleFuncs()
	b.deliver.Store(&deliver)
}

// disconnect ends b's subscriptions, and returns when deliver and idle are not called any more.
func (b *Bus) disconnect() {
	n := b.net
	n.mu.Lock()
	b.deliver.Store(nil)
	for topic := range n.topics {
		n.removeSubscriber(topic, b)
	}
	n.running = slices.DeleteFunc(n.running, func(other *Bus) bool { return other == b })
	n.storeIdleFuncs()
	n.mu.Unlock()
	n.deliverAll() // waits for a deliver under way; and what is left may have no other Run to deliver it
	b.idle()
}

// storeIdleFuncs sets what callIdle calls. The caller has mu.
func (n *Network) storeIdleFuncs() {
	all := make([]func(), len(n.running))
	for i, b := range n.running {
		all[i] = b.idle
	}
	n.idleFuncs.Store(&all)
}

// Ready returns nil while Run runs.
func (b *Bus) Ready() error {
	if b.deliver.Load() == nil {
		return cluster.ErrUnavailable
	}
	return nil
}

// LossCount and GapCount return 0: memory loses nothing.
func (b *Bus) LossCount() uint64 { return 0 }

// GapCount is LossCount.
func (b *Bus) GapCount() uint64 { return 0 }

// Identify does nothing: there is no server that could keep the connection of a dead node.
func (b *Bus) Identify(string) {}
