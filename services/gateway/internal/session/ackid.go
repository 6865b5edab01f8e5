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

// refuseRepeated reports whether the request, which has an ackId, repeats one that has succeeded; if so, the client has been told
// that it is a duplicate (client-json.md 3.2). It first waits for a request with the same ackId that is still in flight. A request
// that is not refused holds its ackId until acknowledge releases it: whatever may have an ackId is acknowledged in any case.
func (r *reader) refuseRepeated() bool {
	id := r.req.AckID
	if !r.inFlight.tryAcquireAckID(id) {
		r.blocked(func() { r.inFlight.acquireAckID(id) })
	}
	if !r.conn.KnowsAckID(id) {
		return false
	}
	r.answerDuplicate(id)
	return true
}

// answerDuplicate tells the client that a request, which holds its ackId, repeats one that has succeeded.
func (c *Client) answerDuplicate(id uint64) {
	c.inFlight.releaseAckID(id)
	c.reply(c.conn.Codec.AppendAck(nil, id, &protocol.Failure{Name: protocol.Duplicate,
		Message: fmt.Sprintf("Message with ack-id: %d has been processed", id)}))
}

// acknowledge answers a request, with success unless it has failed.
func (c *Client) acknowledge(a ack, failure *protocol.Failure) {
	if !a.wanted {
		return
	}
	if failure == nil {
		c.conn.RememberAckID(a.id)
	}
	c.inFlight.releaseAckID(a.id)
	c.reply(c.conn.Codec.AppendAck(nil, a.id, failure))
}

// acquireAckID waits until no request with that ackId is in flight, and notes that one is. Looking and noting are one step, since
// a connection has several readers for a moment when its client comes back before the old socket is read to its end.
func (f *inFlight) acquireAckID(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for slices.Contains(f.ackIDs, id) {
		f.wait()
	}
	f.ackIDs = append(f.ackIDs, id)
}

// tryAcquireAckID notes that a request with that ackId is in flight, unless one is already; it reports whether it did.
func (f *inFlight) tryAcquireAckID(id uint64) bool {
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
	f.wake()
}
