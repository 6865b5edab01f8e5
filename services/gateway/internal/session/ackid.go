package session

import (
	"fmt"
	"slices"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// ack is the ackId of a request, if it has one.
type ack struct {
	id     uint64
	wanted bool
}

func (r *reader) ack() ack { return ack{r.req.AckID, r.req.HasAck} }

// isRepeated reports whether the request, which has an ackId, is one that the client has sent before (client-json.md 3.2). If that is
// still under way, by whatever socket it came, this is the same request, and has the same ack. If it has succeeded the client is told that
// this one is a duplicate. A request that is not repeated holds its ackId until acknowledge releases it: whatever may have an ackId is
// acknowledged in any case.
func (r *reader) isRepeated() bool {
	id := r.req.AckID
	if !r.inFlight.acquireAckID(id) {
		return true
	}
	if !r.conn.KnowsAckID(id) {
		return false
	}
	r.inFlight.releaseAckID(id)
	r.reply(r.conn.Codec.AppendAck(nil, id, &protocol.Failure{Name: protocol.Duplicate,
		Message: fmt.Sprintf("Message with ack-id: %d has been processed", id)}))
	return true
}

// acknowledge answers a request, with success unless it has failed.
func (c *Client) acknowledge(a ack, failure *protocol.Failure) {
	if !a.wanted {
		return
	}
	if failure == nil {
		c.conn.RememberAckID(a.id)
	}
	c.inFlight.releaseAckID(a.id) // before the reply: a request that it has refused comes from a client that the reply still reaches
	c.reply(c.conn.Codec.AppendAck(nil, a.id, failure))
}

// acquireAckID notes that a request with that ackId is in flight, unless one is already; it reports whether it did. Looking and noting are
// one step, since a connection has several readers for a moment when its client comes back before the old socket is read to its end.
func (f *inFlight) acquireAckID(id uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.ackIDs, id) {
		return false
	}
	f.ackIDs = append(f.ackIDs, id)
	return true
}

// releaseAckID notes that the request with that ackId is not in flight any more.
func (f *inFlight) releaseAckID(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.ackIDs, id); i >= 0 {
		f.ackIDs = slices.Delete(f.ackIDs, i, i+1)
	}
}
