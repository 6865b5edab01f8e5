package hub

import (
	"errors"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// A reliable connection can be handed over to another node while its client has no socket. Messages must then be divided
// between the two nodes, list by list, at a point that both see alike. Up to that point the list has the connection; from
// there on a shadow stands in its place, which keeps what the other node keeps too. So the node that hands a connection over
// has everything until the end: when the handoff fails, the shadow's messages become the connection's.
//
// The source calls Freeze, DivertToShadow for each topic, ExportUnacked, and in the end EndHandedOver or CancelHandoff; the
// destination calls Add and ImportUnacked. Package handoff does what is between.

// ErrHandoff says that a connection is being handed over to another node, and cannot be changed until that is decided.
var ErrHandoff = errors.New("the connection is moving to another node")

// Unacked is what a reliable connection has not acknowledged: messages with consecutive numbers up to Last, oldest first.
type Unacked struct {
	Last     uint64
	Messages []*Message
}

// Envelope returns what the message was made of, for another node.
func (m *Message) Envelope() protocol.Envelope { return m.envelope }

// Expires returns the time in Unix milliseconds after which the message is dropped; 0: never.
func (m *Message) Expires() int64 { return m.expires }

// Freeze begins a handoff: the connection loses its socket and cannot get another one, nor change its groups and
// permissions. It reports false when the connection cannot be recovered or is being handed over already.
func (r *Registry) Freeze(c *Conn) bool {
	if !c.Codec.Reliable() {
		return false
	}
	shadow := &Conn{w: c.w, shadowOf: c, ConnOptions: ConnOptions{
		ID: c.ID, Hub: c.Hub, UserID: c.UserID, Codec: c.Codec, Subprotocol: c.Subprotocol,
	}}
	shadow.state, shadow.unacked = stateDetached, &unackedBuffer{}
	r.mu.Lock()
	shadow.groups = c.groups
	frozen := !c.ended && c.shadow.CompareAndSwap(nil, shadow)
	r.mu.Unlock()
	if !frozen {
		return false
	}
	c.mu.Lock()
	//lint:ignore SA2001 a change of permissions that saw the connection not yet frozen is over when we get the lock
	c.mu.Unlock()
	return askWriter(c, opFreeze, nil)
}

// Frozen reports whether the connection is being handed over to another node.
func (c *Conn) Frozen() bool { return c.shadow.Load() != nil }

// Shadow returns the shadow of a frozen connection, or nil.
func (c *Conn) Shadow() *Conn { return c.shadow.Load() }

// DivertToShadow lets the shadow of a frozen connection take its place on the list of a topic, for what is delivered
// afterwards.
func (r *Registry) DivertToShadow(c *Conn, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lists[topic]; l != nil {
		c.w.push(job{op: opDivertToShadow, list: l, conn: c})
	}
}

// ExportUnacked returns what a frozen connection has kept, without what its shadow has. ok is false when it has ended.
func (r *Registry) ExportUnacked(c *Conn) (unacked Unacked, ok bool) {
	ok = askWriter(c, opExportUnacked, &unacked)
	return unacked, ok
}

// CancelHandoff undoes a handoff that has failed: the connection goes on as if there had been none.
func (r *Registry) CancelHandoff(c *Conn) { askWriter(c, opCancelHandoff, nil) }

// EndHandedOver ends a connection that another node has now, without a word to its client. It reports false when the connection
// had ended before.
func (r *Registry) EndHandedOver(c *Conn) bool { return askWriter(c, opEndHandedOver, nil) }

// ImportUnacked gives a new connection what it had not acknowledged on another node; what has been delivered here comes after it.
// The connection then waits for its client to recover it. ImportUnacked reports false when it has ended meanwhile.
func (r *Registry) ImportUnacked(c *Conn, unacked Unacked) bool {
	return askWriter(c, opImportUnacked, &unacked)
}

// AppendByID appends those connections of this node to list that have the id: one, and its shadow when it is being handed over. It is
// for the exceptions of a message.
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

// handoffRequest is a step of a handoff, for the writer to answer.
type handoffRequest struct {
	unacked *Unacked  // read or filled in, as the step says; nil: not needed
	answer  chan bool // has room for the one answer
}

// askWriter lets c's writer do a step of a handoff and returns its answer; false when the writer has ended.
func askWriter(c *Conn, o op, unacked *Unacked) (ok bool) {
	step := handoffRequest{unacked, make(chan bool, 1)}
	c.w.push(job{op: o, conn: c, extra: step})
	select {
	case ok = <-step.answer:
	case <-c.w.done:
	}
	return ok
}

// handoffStep does a step of a handoff.
func (w *writer) handoffStep(j job) {
	c, step := j.conn, j.extra.(handoffRequest)
	ok := c.state != stateEnded
	switch {
	case !ok:
	case j.op == opFreeze:
		ok = c.freeze()
	case j.op == opExportUnacked:
		c.unacked.each(func(seq uint64, m *Message) { step.unacked.Messages = append(step.unacked.Messages, m) })
		step.unacked.Last = c.unacked.last
	case j.op == opCancelHandoff:
		c.cancelHandoff()
	case j.op == opEndHandedOver:
		w.endConn(c, Closing{Reason: ReasonHandedOver})
	case j.op == opImportUnacked:
		ok = c.importUnacked(*step.unacked)
	}
	step.answer <- ok
}

// The following are called by the owner of the connection's writer.

// freeze takes c's socket away, and gives its client the whole recovery time from now.
func (c *Conn) freeze() bool {
	switch c.state {
	case stateAttached:
		c.w.detach(c, c.sock, false, ReasonLost.Closing("The connection was recovered elsewhere."))
	case stateDetached:
		c.expiry.Stop()
		c.w.scheduleExpiry(c)
	default: // it has never had a socket
		c.shadow.Store(nil)
		return false
	}
	return true
}

// divertToShadow puts the shadow in the place that c has on l.
func (c *Conn) divertToShadow(l *list) {
	shadow := c.shadow.Load()
	if shadow == nil || c.state == stateEnded {
		return
	}
	for i, at := range c.places {
		if at.list == l {
			c.places[i] = c.places[len(c.places)-1]
			c.places = c.places[:len(c.places)-1]
			l.parts[c.w.index].conns[at.index] = shadow
			shadow.places = append(shadow.places, at)
			return
		}
	}
}

// cancelHandoff gives c its places back, and what its shadow has kept meanwhile.
func (c *Conn) cancelHandoff() {
	shadow := c.shadow.Swap(nil)
	if shadow == nil {
		return
	}
	for _, at := range shadow.places {
		at.list.parts[c.w.index].conns[at.index] = c
		c.places = append(c.places, at)
	}
	shadow.state, shadow.places = stateEnded, nil
	shadow.unacked.each(func(_ uint64, m *Message) { c.keepUnacked(m) })
}

// importUnacked puts what the other node had before what has been delivered to c here, whose numbers so follow.
func (c *Conn) importUnacked(earlier Unacked) bool {
	arrived := c.unacked
	c.unacked = &unackedBuffer{last: earlier.Last - uint64(len(earlier.Messages))}
	for _, m := range earlier.Messages {
		c.keepUnacked(m)
	}
	arrived.each(func(_ uint64, m *Message) { c.keepUnacked(m) })
	if c.state == stateEnded {
		return false
	}
	c.state = stateDetached
	c.w.scheduleExpiry(c)
	return true
}

// keepUnacked keeps a message for c, which has no socket.
func (c *Conn) keepUnacked(m *Message) {
	if c.state == stateEnded {
		return
	}
	if _, ok := c.unacked.add(m); !ok {
		c.w.close(c, unackedOverflow)
	}
}
