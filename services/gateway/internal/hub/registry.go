// Package hub holds the connections of one node and writes to them.
//
// Each connection belongs to one of a few writers. A writer is one goroutine with a queue: messages, frames, joins,
// leaves, sockets that come and go are put into it and take effect in that order, so that what one connection
// sees has one order, and its state needs no lock. A writer takes all that waits at once, joins the messages that
// wait for the same list of connections into one buffer, and gives each connection what it has for it in one
// write that does not block.
//
// Waking a writer costs as much as a write. So messages for a few connections are put off until Flush, and when
// there is little to do, and the writer is not at it, whoever flushes does it in the writer's place.
//
// Delivery never waits for a client: what the kernel does not take goes to an outbox of that connection, and when
// that is full the connection is closed with ReasonSlow.
//
// Hub knows nothing of other nodes; package cluster reaches those.
package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// Options sets a registry up.
type Options struct {
	Writers  int           // 0: one for each CPU; at most 64
	Recovery time.Duration // how long a reliable connection may be without socket; 0: 30 s
}

// Registry is the connections of this node, by id and by list. A list is named by its topic: that of a hub, a user or
// a group. Methods are safe for concurrent use.
type Registry struct {
	recovery time.Duration
	writers  []*writer
	metrics  metrics
	drainers sync.WaitGroup // goroutines that empty outboxes
	putOff   atomic.Uint64  // writers with something that waits for Flush, as bits

	mu    sync.RWMutex // guards the following; no queue is waited for under it
	conns map[string]*Conn
	lists map[string]*list
	next  int
}

// list is a set of connections, divided among the writers.
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

	segment uint64     // the segment that run and mixed are about
	run     []*Message // what waits for every member
	mixed   []*Conn    // members for whom other frames wait between
	slow    bool       // some message is not for every member, by a filter
}

// NewRegistry returns an empty registry.
func NewRegistry(o Options, reg prometheus.Registerer) *Registry {
	if o.Writers == 0 {
		o.Writers = runtime.GOMAXPROCS(0)
	}
	o.Writers = min(o.Writers, 64) // deliver tells them by the bits of a word
	if o.Recovery == 0 {
		o.Recovery = 30 * time.Second
	}
	r := &Registry{recovery: o.Recovery, conns: map[string]*Conn{}, lists: map[string]*list{}, metrics: newMetrics(reg)}
	for i := range o.Writers {
		r.writers = append(r.writers, newWriter(r, i))
	}
	return r
}

// Run writes until ctx ends.
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
	r.drainers.Wait()
	return ctx.Err()
}

// Add makes a connection that has no socket yet. Messages to it wait for Attach.
func (r *Registry) Add(o ConnOptions) *Conn {
	c := &Conn{ConnOptions: o}
	if o.Codec.Reliable() {
		c.kept = &unacked{}
	} else {
		c.out = &outbox{codec: o.Codec, limit: maxWaiting, encoder: encoder{expired: r.metrics.expired}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	c.w = r.writers[r.next%len(r.writers)]
	r.conns[c.ID] = c
	r.metrics.connections.Set(float64(len(r.conns)))
	return c
}

// forget removes a connection that has ended.
func (r *Registry) forget(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.gone = true
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

// Why a connection cannot join.
var (
	ErrConnEnded     = errors.New("the connection has ended")
	ErrTooManyGroups = fmt.Errorf("the connection is in %d groups; more are not allowed", MaxGroups)
)

// AddToTopic puts c on the list of its hub's or user's topic, where it stays. The caller does so once for a topic.
func (r *Registry) AddToTopic(c *Conn, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enlist(c, topic, "", false)
}

// Join puts c on the list of a group's topic: messages delivered to it afterwards reach c. joined is false when c
// was in the group already, or cannot join for the reason err.
func (r *Registry) Join(c *Conn, topic, group string) (joined bool, err error) {
	return r.join(c, topic, group, true)
}

// JoinInitial is Join for a group that c is in from its beginning: it is no move.
func (r *Registry) JoinInitial(c *Conn, topic, group string) (joined bool, err error) {
	return r.join(c, topic, group, false)
}

func (r *Registry) join(c *Conn, topic, group string, move bool) (joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, in := c.groups[group]; {
	case c.gone:
		return false, ErrConnEnded
	case in:
		return false, nil
	case c.Frozen():
		return false, ErrHandoff
	case len(c.groups) >= MaxGroups:
		return false, ErrTooManyGroups
	}
	if c.groups == nil {
		c.groups = make(map[string]struct{}, 1)
	}
	c.groups[group] = struct{}{}
	r.enlist(c, topic, group, move)
	return true, nil
}

func (r *Registry) enlist(c *Conn, topic, group string, move bool) {
	l := r.lists[topic]
	if l == nil {
		l = &list{topic: topic, group: group, parts: make([]*part, len(r.writers))}
		r.lists[topic] = l
	}
	l.size++
	p := l.parts[c.w.index]
	if p == nil { // its writer sees it with the job
		p = new(part)
		l.parts[c.w.index] = p
	}
	p.size++
	c.w.push(job{op: opJoin, move: move, list: l, conn: c})
}

// Leave takes c off the list of a group's topic and reports whether it was there. What a connection that ends was
// in, it has not left; one that moves cannot leave, for the reason err.
func (r *Registry) Leave(c *Conn, topic, group string) (left bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, in := c.groups[group]; !in || c.gone {
		return false, nil
	}
	if c.Frozen() {
		return false, ErrHandoff
	}
	delete(c.groups, group)
	c.w.push(job{op: opLeave, list: r.lists[topic], conn: c})
	return true, nil
}

// Groups returns the groups that c is in, or was in when it ended, in no order.
func (r *Registry) Groups(c *Conn) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(c.groups))
}

func (r *Registry) inGroup(c *Conn, group string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, in := c.groups[group]
	return in
}

// left counts a member out, and forgets an empty list.
func (r *Registry) left(l *list, c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.size--
	l.parts[c.w.index].size--
	if l.size == 0 && r.lists[l.topic] == l {
		delete(r.lists, l.topic)
	}
}

// Deliver sends m to all on the list of a topic. It waits while the writers have more to do than they should, never
// for a client. If the list is short m may wait until Flush, which the caller must call then.
func (r *Registry) Deliver(topic string, m *Message) {
	l, size, to := r.list(topic)
	j := job{op: opMessage, msg: m, list: l}
	if size > light || m.filter != nil {
		r.push(to, j)
		return
	}
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			w.putOff(j, size)
		}
	}
	r.putOff.Or(to)
}

// Flush sees to what was put off by Deliver, if that has not happened yet: a little is written before it returns, for
// more the writers are woken. It takes no lock that anything is waited for under.
func (r *Registry) Flush() {
	if r.putOff.Load() == 0 {
		return
	}
	to := r.putOff.Swap(0)
	left := light
	if bits.OnesCount64(to) > light {
		left = 0
	}
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			left -= w.flush(left)
		}
	}
}

// CloseList closes all on the list of a topic, except some.
func (r *Registry) CloseList(topic string, closing Closing, selected *Message) {
	l, _, to := r.list(topic)
	r.push(to, job{op: opCloseList, msg: selected, x: closing, list: l})
}

// list returns the list of a topic, how many are on it, and the writers that they have, as bits.
func (r *Registry) list(topic string) (l *list, size int, to uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if l = r.lists[topic]; l == nil {
		return nil, 0, 0
	}
	for i, p := range l.parts {
		if p != nil && p.size > 0 {
			to |= 1 << i
		}
	}
	return l, l.size, to
}

func (r *Registry) push(to uint64, j job) {
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			w.pushWaiting(j, heavy)
		}
	}
}

// PendingList returns the connections that were on a list when it was asked for, in no order. It waits for the writers to
// answer, and is called once.
type PendingList func() []*Conn

// List asks who is on the list of a topic at this moment, between what has been delivered to it and what will be.
func (r *Registry) List(topic string) PendingList {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l := r.lists[topic]
	answers := make([]chan []*Conn, len(r.writers))
	if l != nil {
		for i, w := range r.writers {
			if p := l.parts[i]; p != nil && p.size > 0 {
				answers[i] = make(chan []*Conn, 1)
				w.push(job{op: opList, list: l, x: answers[i]})
			}
		}
	}
	return func() (conns []*Conn) {
		for i, answer := range answers {
			if answer != nil {
				select {
				case part := <-answer:
					conns = append(conns, part...)
				case <-r.writers[i].done:
				}
			}
		}
		return conns
	}
}

// Members returns up to limit of the listed connections with ids greater than after, by id.
func (r *Registry) Members(listed PendingList, after string, limit int) []*Conn {
	members := slices.DeleteFunc(listed(), func(c *Conn) bool { return c.ID <= after })
	slices.SortFunc(members, func(a, b *Conn) int { return strings.Compare(a.ID, b.ID) })
	return members[:min(limit, len(members))]
}

// Select returns those of the listed connections that selected is for, in no order.
func (r *Registry) Select(listed PendingList, selected *Message) []*Conn {
	return slices.DeleteFunc(listed(), func(c *Conn) bool { return r.excepts(selected, c) })
}

// Send sends m to one connection.
func (r *Registry) Send(c *Conn, m *Message) {
	c.w.pushWaiting(job{op: opMessageTo, conn: c, msg: m}, 1)
}

// SendFrame sends the payload of a finished text or binary frame to one connection: an answer to something its
// socket asked for, which is lost without a socket. The payload is copied.
func (r *Registry) SendFrame(c *Conn, op socket.Opcode, payload []byte) {
	c.w.pushFrame(c, op, payload)
}

// SendPayload sends the payload of a finished message of the connection's codec; it is like SendFrame.
func (r *Registry) SendPayload(c *Conn, payload []byte) {
	c.w.pushFrame(c, opcode(c.Codec.Binary()), payload)
}

// Acknowledge forgets what a reliable connection has acknowledged.
func (r *Registry) Acknowledge(c *Conn, seq uint64) {
	c.w.pushWaiting(job{op: opTrim, conn: c, seq: seq}, 0)
}

// Attach gives the connection a socket: its first, or a new one for a reliable connection, whose old socket is
// closed. The connection says connected, then comes what waits. ok receives false when the connection has ended.
func (r *Registry) Attach(c *Conn, sock *socket.Socket, connected protocol.Connected) (ok bool) {
	answer := make(chan bool, 1)
	c.w.push(job{op: opAttach, conn: c, x: attachment{sock, connected, answer}})
	select {
	case ok = <-answer:
	case <-c.w.done:
	}
	return ok
}

type attachment struct {
	sock      *socket.Socket
	connected protocol.Connected
	answer    chan<- bool
}

// Detach says that a socket of the connection is gone. When final, or when the connection is not reliable, the
// connection ends with it; else it waits for another one. It does nothing when the connection has another socket.
func (r *Registry) Detach(c *Conn, sock *socket.Socket, final bool, closing Closing) {
	c.w.push(job{op: opDetach, conn: c, x: detachment{sock, final, closing}})
}

type detachment struct {
	sock    *socket.Socket
	final   bool
	closing Closing
}

// AskToReconnect closes the socket of a reliable connection with a code that makes its client recover; the connection
// waits for that. Other connections end.
func (r *Registry) AskToReconnect(c *Conn, closing Closing) {
	c.w.push(job{op: opSendAway, conn: c, x: closing})
}

// Close ends a connection for good. PubSub clients are told first (client-json.md 5.4).
func (r *Registry) Close(c *Conn, closing Closing) {
	c.w.push(job{op: opClose, conn: c, x: closing})
}
