// Package membus is the bus of a deployment that lives in one process.
//
// It combines: whoever posts while nobody delivers, delivers, and takes along what others post meanwhile. So at
// low load a payload changes no goroutine between sender and receiver, and under load one goroutine delivers
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

// patience is how many payloads a poster delivers before it leaves the rest to Run.
const patience = 256

// Network joins the buses of one process, so that tests may run several nodes in memory.
type Network struct {
	waiting atomic.Int64  // payloads posted and not yet delivered; grows under mu
	wake    chan struct{} // asks a running Run to deliver what a poster has left

	turn  sync.Mutex // held by whoever delivers; Post never waits for it; guards the following
	batch []post     // taken from queue
	next  int        // the first of batch that has not been delivered

	mu      sync.Mutex        // guards the following; may be taken by who has turn
	queue   []post            // in order of Post
	bytes   int               // payload bytes in queue
	topics  map[string][]*Bus // who subscribes; the slices are replaced, not changed
	running []*Bus            // those that Run runs

	idle atomic.Pointer[[]func()] // of running; replaced, under mu
}

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

// Post queues payload and, unless somebody else is at it, delivers what is queued before it returns. done is
// called after the payload has been delivered to every node that subscribes.
func (b *Bus) Post(topic string, payload []byte, done func(nodes int, err error)) {
	if b.enqueue(post{topic, payload, done}) {
		b.net.combine()
	} else if done != nil {
		done(0, cluster.ErrUnavailable)
	}
}

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

// combine delivers until nothing waits, somebody else delivers, or patience ends. A payload posted while
// another goroutine gives its turn back is not forgotten: that goroutine looks again afterwards.
func (n *Network) combine() {
	for left := patience; n.waiting.Load() > 0 && n.turn.TryLock(); {
		for left > 0 && n.deliverNext() {
			left--
		}
		n.turn.Unlock()
		n.rest()
		if left == 0 {
			select {
			case n.wake <- struct{}{}:
			default: // Run has been asked already
			}
			return
		}
	}
}

// deliverAll delivers until nothing waits, after whoever delivers now.
func (n *Network) deliverAll() {
	n.turn.Lock()
	for more := true; more; {
		more = n.deliverNext()
	}
	n.turn.Unlock()
	n.rest()
}

// rest tells all that nothing is at hand. The caller does not have turn: what they do may take a while.
func (n *Network) rest() {
	if all := n.idle.Load(); all != nil {
		for _, idle := range *all {
			idle()
		}
	}
}

// deliverNext delivers one payload and reports whether there was one. The caller has turn.
func (n *Network) deliverNext() bool {
	if n.next == len(n.batch) && !n.refill() {
		return false
	}
	p := n.batch[n.next]
	n.batch[n.next] = post{} // lets go of the payload
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

// refill takes the queue as the next batch and leaves the old batch's memory to the queue.
func (n *Network) refill() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batch, n.queue = n.queue, n.batch[:0]
	n.next, n.bytes = 0, 0
	return len(n.batch) > 0
}

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
		b.net.drop(topic, b)
	}
	return nil
}

func (n *Network) drop(topic string, b *Bus) {
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

// Run connects the node until ctx ends, and delivers what posters leave to it. After it has returned, deliver
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

func (b *Bus) connect(deliver func(string, []byte), idle func()) {
	n := b.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running = append(n.running, b)
	b.idle = idle
	n.keepIdle()
	b.deliver.Store(&deliver)
}

func (b *Bus) disconnect() {
	n := b.net
	n.mu.Lock()
	b.deliver.Store(nil)
	for topic := range n.topics {
		n.drop(topic, b)
	}
	n.running = slices.DeleteFunc(n.running, func(other *Bus) bool { return other == b })
	n.keepIdle()
	n.mu.Unlock()
	n.deliverAll() // waits for a deliver under way; and no other Run may be there for what is left
	b.idle()
}

// keepIdle notes whom rest tells. The caller has mu.
func (n *Network) keepIdle() {
	all := make([]func(), len(n.running))
	for i, b := range n.running {
		all[i] = b.idle
	}
	n.idle.Store(&all)
}

// Ready returns nil while Run runs.
func (b *Bus) Ready() error {
	if b.deliver.Load() == nil {
		return cluster.ErrUnavailable
	}
	return nil
}

// LossCount returns 0: memory loses nothing.
func (b *Bus) LossCount() uint64 { return 0 }
