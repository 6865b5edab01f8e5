package hub

import (
	"math/bits"

	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// Deliver sends m to all on the list of a topic. It waits while more is queued for a writer than should be, never for a client.
// For a short list m may be deferred until Flush, which the caller must call when it has delivered what it has.
func (r *Registry) Deliver(topic string, m *Message) {
	l, size, to := r.membersOf(topic)
	j := job{op: opMessage, msg: m, list: l}
	if size > inlineBudget || m.filter != nil {
		r.pushTo(to, j)
		return
	}
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			w.pushDeferred(j, size)
		}
	}
	r.deferred.Or(to)
}

// Flush writes what Deliver has deferred, unless that has happened already: a little is written before it returns, for more the
// writers are woken. It takes no lock under which anybody waits for something else.
func (r *Registry) Flush() {
	if r.deferred.Load() == 0 {
		return
	}
	to := r.deferred.Swap(0)
	budget := inlineBudget
	if bits.OnesCount64(to) > inlineBudget {
		budget = 0
	}
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			budget -= w.helpOrWake(budget)
		}
	}
}

// CloseList closes all on the list of a topic, but for those that selected, which may have exceptions and a filter, excludes.
func (r *Registry) CloseList(topic string, closing Closing, selected *Message) {
	l, _, to := r.membersOf(topic)
	r.pushTo(to, job{op: opCloseList, msg: selected, extra: closing, list: l})
}

// membersOf returns the list of a topic, how many are on it, and the writers that they have, as bits.
func (r *Registry) membersOf(topic string) (l *list, size int, to uint64) {
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

// pushTo queues j for the writers in to, as bits.
func (r *Registry) pushTo(to uint64, j job) {
	for i, w := range r.writers {
		if to&(1<<i) != 0 {
			w.pushWaiting(j, overBudget)
		}
	}
}

// Send sends m to one connection.
func (r *Registry) Send(c *Conn, m *Message) {
	c.w.pushWaiting(job{op: opMessageTo, conn: c, msg: m}, 1)
}

// SendFrame sends the payload of a finished text or binary frame to one connection: an answer to something its
// socket asked for, which is dropped without a socket. The payload is copied.
func (r *Registry) SendFrame(c *Conn, op socket.Opcode, payload []byte) {
	c.w.pushFrame(c, op, payload)
}

// SendPayload sends the payload of a finished message of the connection's codec; else it is SendFrame.
func (r *Registry) SendPayload(c *Conn, payload []byte) {
	c.w.pushFrame(c, opcode(c.Codec.Binary()), payload)
}

// Acknowledge says that a reliable connection has acknowledged all messages up to number seq: they are not sent again.
func (r *Registry) Acknowledge(c *Conn, seq uint64) {
	c.w.pushWaiting(job{op: opAcknowledge, conn: c, seq: seq}, 0)
}
