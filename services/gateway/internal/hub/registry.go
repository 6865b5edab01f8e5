// Package hub holds the connections of one node and writes to them.
//
// Each connection belongs to one of a few writers. A writer is one goroutine with a queue: messages, frames, joins,
// leaves, sockets that come and go are put into it and take effect in that order, so that what one connection
// sees has one order, and its state needs no lock. A writer takes all that waits at once, joins the messages that
// wait for the same list of connections into one buffer, and gives each connection what it has for it in one
// write that does not block.
//
// Waking a writer costs as much as a write. So messages for a few connections are deferred until Flush, and when
// there is little to do, and the writer is not at work, the goroutine that flushes does it in the writer's place.
//
// Delivery never waits for a client: what the kernel does not take goes to an outbox of that connection, and when
// that is full the connection is closed with ReasonSlow (slowclient.go).
//
// Hub knows nothing of other nodes; package cluster reaches those.
package hub

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options set a registry up.
type Options struct {
	Writers  int           // 0: one for each CPU; at most 64
	Recovery time.Duration // how long a reliable connection may be without socket; 0: it may not
}

// Registry is the connections of this node, by id and by list. A list is named by its topic: that of a hub, a user or
// a group. Methods are safe for concurrent use.
type Registry struct {
	recovery time.Duration
	writers  []*writer
	metrics  metrics
	outboxes sync.WaitGroup // the goroutines that empty them
	deferred atomic.Uint64  // writers with something that waits for Flush, as bits

	mu    sync.RWMutex // guards the following; no queue is waited for under it
	conns map[string]*Conn
	lists map[string]*list
	next  int // how many connections there have been: they go to the writers in turn
}

// list is a set of connections, divided among the writers so that each reads and changes its part without a lock.
type list struct {
	topic string
	group string  // of a group's topic
	size  int     // guarded by Registry.mu, as are the parts' sizes
	parts []*part // by writer; nil for those that have had no member
}

// part is one writer's share of a list. What is not said otherwise is the writer's own.
type part struct {
	size  int // guarded by Registry.mu: members whose joining is in the queue count already
	conns []*Conn

	segment  uint64     // the segment that run and mixed are about
	run      []*Message // what waits for the members
	mixed    []*Conn    // members for whom other frames wait too
	filtered bool       // a filter decides for each member, so that all are mixed
}

// NewRegistry returns an empty registry.
func NewRegistry(o Options, reg prometheus.Registerer) *Registry {
	if o.Writers == 0 {
		o.Writers = runtime.GOMAXPROCS(0)
	}
	o.Writers = min(o.Writers, 64) // sets of writers are the bits of a word
	r := &Registry{recovery: o.Recovery, conns: map[string]*Conn{}, lists: map[string]*list{}, metrics: newMetrics(reg)}
	for i := range o.Writers {
		r.writers = append(r.writers, newWriter(r, i))
	}
	return r
}

// Run writes until ctx ends, and closes all sockets then. It is called once.
func (r *Registry) Run(ctx context.Context) error {
	var writers sync.WaitGroup
	for _, w := range r.writers {
		writers.Go(func() { w.run(ctx) })
	}
	writers.Wait()
	r.mu.RLock()
	conns := slices.Collect(maps.Values(r.conns))
	r.mu.RUnlock()
	for _, c := range conns { // the writers have ended: their state is ours
		if c.sock != nil {
			_ = c.sock.Close()
		}
	}
	r.outboxes.Wait()
	return ctx.Err()
}

// Add makes a connection that has no socket yet. Messages to it wait for Attach. A connection whose handshake fails is ended by
// Close.
func (r *Registry) Add(o ConnOptions) *Conn {
	c := &Conn{ConnOptions: o}
	if o.Codec.Reliable() {
		c.unacked = &unackedBuffer{}
	} else {
		c.outbox = &outbox{codec: o.Codec, limit: maxWaiting, encoder: encoder{expired: r.metrics.expired}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	c.w = r.writers[r.next%len(r.writers)]
	r.conns[c.ID] = c
	r.metrics.connections.Set(float64(len(r.conns)))
	return c
}

// removeConn removes a connection that has ended.
func (r *Registry) removeConn(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.ended = true
	delete(r.conns, c.ID)
	r.metrics.connections.Set(float64(len(r.conns)))
}

// Conn returns the connection of that id, or nil.
func (r *Registry) Conn(id string) *Conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.conns[id]
}

// Conns returns all connections, in no order.
func (r *Registry) Conns() []*Conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.conns))
}

// Len returns how many connections there are.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.conns)
}
