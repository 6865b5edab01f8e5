package handoff

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// outgoing is a connection that another node wants.
type outgoing struct {
	conn    *hub.Conn
	token   string
	lost    uint64        // what the bus had lost when it began
	marked  chan struct{} // closed when the markers of all topics have come
	decided chan struct{} // closed when the connection has left, or stays
	silence *time.Timer   // ends the handoff

	unmarked map[string]struct{} // topics; guarded by Handoffs.mu
	passOn   bool                // orders by id are passed on; guarded by Handoffs.mu
	parts    [partCount][]byte   // what the destination reads; guarded by Handoffs.mu
}

// The parts that a destination reads. Their numbers travel.
const (
	partState = iota // a ConnState
	partKept         // a hub.Unacked, there when all markers have come
	partCount
)

// outgoingOf returns the handoff of o's connection, if it has o's token.
func (h *Handoffs) outgoingOf(o *wire.Order) *outgoing {
	token, _ := readToken(o.Args)
	h.mu.Lock()
	defer h.mu.Unlock()
	if out := h.outgoing[o.Conn]; out != nil && out.token == token {
		return out
	}
	return nil
}

// AnswerBegin answers a node that wants a connection which is here, with this node's id.
func (h *Handoffs) AnswerBegin(o *wire.Order) []byte {
	r := wire.Reader{Rest: o.Args}
	token, credential := r.String(), r.String()
	if r.Failed {
		return wire.StatusOf(wire.ErrMalformed)
	}
	c := o.ConnIn(h.conns)
	switch {
	case h.Moving(o.Conn), h.unhealed():
		return wire.StatusOf(ErrMoving)
	case c == nil, !h.hooks.Admit(c, credential):
		return wire.StatusOf(ErrNotFound)
	}
	out := &outgoing{conn: c, token: token, lost: h.peer.LossCount(), marked: make(chan struct{}), decided: make(chan struct{})}
	if !h.addOutgoing(out) {
		return wire.StatusOf(ErrMoving)
	}
	if !h.conns.Freeze(c) {
		h.keep(out)
		return wire.StatusOf(ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := h.hooks.AwaitRequests(ctx, c); err != nil {
		h.keep(out)
		return wire.StatusOf(ErrMoving)
	}
	h.exportState(out)
	return append(wire.StatusOf(nil), h.peer.ID()...)
}

// addOutgoing adds a handoff, unless there is one of the connection already.
func (h *Handoffs) addOutgoing(out *outgoing) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := out.conn.ID
	if h.outgoing[id] != nil || h.incoming[id] != nil {
		return false
	}
	h.outgoing[id] = out
	h.pending.Add(1)
	out.silence = time.AfterFunc(h.silence, func() { h.keep(out) })
	return true
}

// exportState makes what a destination needs to know before anything else. The connection does not change any more.
func (h *Handoffs) exportState(out *outgoing) {
	c := out.conn
	s := ConnState{UserID: c.UserID, Subprotocol: c.Subprotocol, Groups: h.conns.Groups(c), adopted: c.HandedOver,
		Exported: h.hooks.Export(c)}
	permissions, acks := c.PermissionsAndAckIDs()
	s.Permissions, s.acks = permissions.Rules(), acks
	keys := append(topics.OfConn(c.Hub, c.UserID), topics.OfGroups(c.Hub, s.Groups)...)
	keys = append(keys, h.address(c))
	h.mu.Lock()
	defer h.mu.Unlock()
	out.unmarked = make(map[string]struct{}, len(keys))
	for _, topic := range keys {
		out.unmarked[topic] = struct{}{}
	}
	out.parts[partState] = s.encode()
}

// address is the topic by which a connection of this node is reached.
func (h *Handoffs) address(c *hub.Conn) string {
	if c.HandedOver {
		return cluster.HandedOverTopic(c.Hub, c.ID)
	}
	return h.inbox
}

// divert notes that what comes by a topic from now on is for the destination: a shadow keeps it, in case the
// connection stays.
func (h *Handoffs) divert(out *outgoing, topic string) {
	if topic != h.inbox {
		h.conns.DivertToShadow(out.conn, topic)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out.passOn = out.passOn || topic == h.inbox
	strike(out.unmarked, topic, out.marked)
}

// AnswerStep answers the destination of a handoff that has begun.
func (h *Handoffs) AnswerStep(o *wire.Order) []byte {
	token, ok := readToken(o.Args)
	if !ok {
		return wire.StatusOf(wire.ErrMalformed)
	}
	if exported, released := h.releasedAs(token); released {
		return append(wire.StatusOf(nil), exported...)
	}
	out := h.outgoingOf(o)
	if out == nil || !out.silence.Reset(h.silence) {
		return wire.StatusOf(ErrNotFound)
	}
	if o.Verb == wire.VerbHandoffRead {
		return h.answerRead(out, o)
	}
	return h.answerCommit(out)
}

// releasedAs returns what has gone along with a connection that was let go.
func (h *Handoffs) releasedAs(token string) (exported []byte, released bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	exported, released = h.released[token]
	return exported, released
}

// answerRead answers with a chunk of a part; one that is not full is the last.
func (h *Handoffs) answerRead(out *outgoing, o *wire.Order) []byte {
	part, offset, ok := readChunk(o.Args)
	if !ok {
		return wire.StatusOf(wire.ErrMalformed)
	}
	if part == partKept {
		if err := h.exportKept(out); err != nil {
			return wire.StatusOf(err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	whole := out.parts[part]
	if offset > len(whole) {
		return wire.StatusOf(wire.ErrMalformed)
	}
	return append(wire.StatusOf(nil), whole[offset:min(len(whole), offset+chunkSize)]...)
}

// exportKept makes what the connection has kept before the markers, once.
func (h *Handoffs) exportKept(out *outgoing) error {
	select {
	case <-out.marked:
	case <-out.decided:
		return ErrNotFound
	case <-time.After(answerTimeout):
		return ErrMoving
	}
	h.mu.Lock()
	done := out.parts[partKept] != nil
	h.mu.Unlock()
	if done {
		return nil
	}
	kept, ok := h.conns.ExportUnacked(out.conn)
	if !ok {
		return ErrNotFound
	}
	b := encodeKept(kept)
	h.mu.Lock()
	defer h.mu.Unlock()
	out.parts[partKept] = b
	return nil
}

// answerCommit lets the connection go, if it is still whole: this is the moment at which it becomes the destination's.
func (h *Handoffs) answerCommit(out *outgoing) []byte {
	if h.peer.LossCount() != out.lost || h.unhealed() {
		h.keep(out)
		return wire.StatusOf(ErrNotFound)
	}
	exported, err := h.hooks.HandOver(out.conn)
	if err != nil {
		return wire.StatusOf(err)
	}
	h.mu.Lock()
	h.released[out.token] = exported
	h.mu.Unlock()
	if !h.conns.EndHandedOver(out.conn) {
		h.forgetReleased(out.token)
		h.hooks.CancelHandOver(out.conn)
		return wire.StatusOf(ErrNotFound)
	}
	time.AfterFunc(releasedKept, func() { h.forgetReleased(out.token) })
	return append(wire.StatusOf(nil), exported...)
}

func (h *Handoffs) forgetReleased(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.released, token)
}

// HandleCancel ends a handoff that its destination has given up.
func (h *Handoffs) HandleCancel(o *wire.Order) {
	if out := h.outgoingOf(o); out != nil {
		h.work.Go(func() { h.keep(out) })
	}
}

// keep ends a handoff that has failed: the connection is this node's, as before.
func (h *Handoffs) keep(out *outgoing) {
	if h.removeOutgoing(out) {
		h.conns.CancelHandoff(out.conn)
		close(out.decided)
	}
}

// removeOutgoing forgets a handoff, and reports whether it was under way.
func (h *Handoffs) removeOutgoing(out *outgoing) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outgoing[out.conn.ID] != out {
		return false
	}
	out.silence.Stop()
	delete(h.outgoing, out.conn.ID)
	h.pending.Add(-1)
	return true
}

// endOutgoing ends the handoff of a connection that has left, or ended otherwise.
func (h *Handoffs) endOutgoing(c *hub.Conn) {
	if h.pending.Load() == 0 {
		return
	}
	h.mu.Lock()
	out := h.outgoing[c.ID]
	h.mu.Unlock()
	if out != nil && out.conn == c && h.removeOutgoing(out) {
		close(out.decided)
	}
}
