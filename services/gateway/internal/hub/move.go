package hub

import (
	"errors"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// A reliable connection can move to another node while its client has no socket. Messages must then be divided
// between the two nodes, list by list, at a point that both see alike. Up to that point the list has the connection;
// from there on a shadow stands in its place, which keeps what the other node keeps too. So the node that gives a
// connection away has everything until the end: when the move fails, the shadow's messages become the connection's.

// ErrHandoff says that a connection is on its way to another node, and cannot be changed until that is decided.
var ErrHandoff = errors.New("the connection is moving to another node")

// Unacked is what a reliable connection has not acknowledged: messages with consecutive numbers up to Last.
type Unacked struct {
	Last     uint64
	Messages []*Message
}

// Envelope returns what the message was made of, for another node.
func (m *Message) Envelope() protocol.Envelope { return m.envelope }

// Expires returns the time in Unix milliseconds after which the message is dropped; 0: never.
func (m *Message) Expires() int64 { return m.expires }

// Freeze begins a move: the connection loses its socket and cannot get another one, nor change its groups and
// permissions. It reports false when the connection cannot be recovered or is moving already.
func (r *Registry) Freeze(c *Conn) bool {
	if !c.Codec.Reliable() {
		return false
	}
	shadow := &Conn{w: c.w, of: c, ConnOptions: ConnOptions{ID: c.ID, Hub: c.Hub, UserID: c.UserID, Codec: c.Codec, Subprotocol: c.Subprotocol}}
	shadow.state, shadow.kept = stateDetached, &unacked{}
	r.mu.Lock()
	shadow.groups = c.groups
	frozen := !c.gone && c.shadow.CompareAndSwap(nil, shadow)
	r.mu.Unlock()
	if !frozen {
		return false
	}
	c.mu.Lock()
	//lint:ignore SA2001 whoever was changing permissions has finished when the lock is had
	c.mu.Unlock()
	return ask(c, opFreeze, nil)
}

// Frozen reports whether the connection is moving to another node.
func (c *Conn) Frozen() bool { return c.shadow.Load() != nil }

// DivertToShadow lets the shadow of a frozen connection take its place on the list of a topic, for what is delivered
// afterwards.
func (r *Registry) DivertToShadow(c *Conn, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lists[topic]; l != nil {
		c.w.push(job{op: opDivert, list: l, conn: c})
	}
}

// ExportUnacked returns what a frozen connection has kept, without what its shadow has. ok is false when it has ended.
func (r *Registry) ExportUnacked(c *Conn) (kept Unacked, ok bool) {
	ok = ask(c, opExport, &kept)
	return kept, ok
}

// CancelHandoff ends a move that has failed: the connection goes on as if there had been none.
func (r *Registry) CancelHandoff(c *Conn) { ask(c, opRecall, nil) }

// EndHandedOver ends a connection that has moved away, without a word to its client. It reports false when the connection
// had ended before.
func (r *Registry) EndHandedOver(c *Conn) bool { return ask(c, opRelease, nil) }

// ImportUnacked gives a new connection what it had kept on another node; what has been delivered here comes after it.
// The connection then waits for its client to recover it. Adopt reports false when it has ended meanwhile.
func (r *Registry) ImportUnacked(c *Conn, kept Unacked) bool { return ask(c, opAdopt, &kept) }

// AppendByID appends those connections of this node to list that have the id: one, or also the shadow of a moving one.
func (r *Registry) AppendByID(list []*Conn, id string) []*Conn {
	c := r.Conn(id)
	if c == nil {
		return list
	}
	if shadow := c.shadow.Load(); shadow != nil {
		list = append(list, shadow)
	}
	return append(list, c)
}

// Shadow returns the shadow of a frozen connection, or nil.
func (c *Conn) Shadow() *Conn { return c.shadow.Load() }

// moving is a step of a move, for the writer to answer.
type moving struct {
	kept   *Unacked
	answer chan bool
}

// ask lets c's writer do a step of a move and returns its answer.
func ask(c *Conn, o op, kept *Unacked) (ok bool) {
	step := moving{kept, make(chan bool, 1)}
	c.w.push(job{op: o, conn: c, x: step})
	select {
	case ok = <-step.answer:
	case <-c.w.done:
	}
	return ok
}

// move does a step of a move.
func (w *writer) move(j job) {
	c, step := j.conn, j.x.(moving)
	ok := c.state != stateGone
	switch {
	case !ok:
	case j.op == opFreeze:
		ok = w.freeze(c)
	case j.op == opExport:
		c.kept.each(func(seq uint64, m *Message) { step.kept.Messages = append(step.kept.Messages, m) })
		step.kept.Last = c.kept.last
	case j.op == opRecall:
		w.recall(c)
	case j.op == opRelease:
		w.end(c, Closing{Reason: ReasonHandedOver})
	case j.op == opAdopt:
		ok = w.adopt(c, *step.kept)
	}
	step.answer <- ok
}

// freeze takes c's socket away, and gives its client the whole recovery time from now.
func (w *writer) freeze(c *Conn) bool {
	switch c.state {
	case stateAttached:
		w.detach(c, c.sock, false, ReasonLost.Closing("The connection was recovered elsewhere."))
	case stateDetached:
		c.expiry.Stop()
		w.expireLater(c)
	default: // it has never had a socket
		c.shadow.Store(nil)
		return false
	}
	return true
}

func (w *writer) divert(l *list, c *Conn) {
	shadow := c.shadow.Load()
	if shadow == nil || c.state == stateGone {
		return
	}
	for i, at := range c.in {
		if at.list == l {
			c.in[i] = c.in[len(c.in)-1]
			c.in = c.in[:len(c.in)-1]
			l.parts[w.index].conns[at.at] = shadow
			shadow.in = append(shadow.in, at)
			return
		}
	}
}

func (w *writer) recall(c *Conn) {
	shadow := c.shadow.Swap(nil)
	if shadow == nil {
		return
	}
	for _, at := range shadow.in {
		at.list.parts[w.index].conns[at.at] = c
		c.in = append(c.in, at)
	}
	shadow.state, shadow.in = stateGone, nil
	shadow.kept.each(func(_ uint64, m *Message) { w.keep(c, m) })
}

func (w *writer) adopt(c *Conn, kept Unacked) bool {
	arrived := c.kept
	c.kept = &unacked{last: kept.Last - uint64(len(kept.Messages))}
	for _, m := range kept.Messages {
		w.keep(c, m)
	}
	arrived.each(func(_ uint64, m *Message) { w.keep(c, m) })
	if c.state == stateGone {
		return false
	}
	c.state = stateDetached
	w.expireLater(c)
	return true
}

// keep keeps a message for a connection without socket.
func (w *writer) keep(c *Conn, m *Message) {
	if c.state == stateGone {
		return
	}
	if _, ok := c.kept.add(m); !ok {
		w.close(c, tooMuchUnacked)
	}
}
