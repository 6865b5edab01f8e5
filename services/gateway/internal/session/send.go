package session

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
)

// sendToGroup posts to a group, and to the hub's message logs; the ack says that both have it (client-json.md 4.3).
func (r *reader) sendToGroup() {
	if !r.allows(webpubsub.SendToGroup, r.req.Group) {
		r.acknowledge(r.ack(), forbidden("No permission to publish to group '%s'.", r.req.Group))
		return
	}
	r.publish(r.ack())
}

// sendSimple is a message of a simple client in sendToGroup mode (client-json.md section 2).
func (r *reader) sendSimple() (closing hub.Closing, ok bool) {
	r.req.Group, r.req.NoEcho = r.mode.Group, r.mode.NoEcho
	if !r.conn.Allows(webpubsub.SendToGroup, r.mode.Group) {
		return hub.ReasonForbidden.Closing(fmt.Sprintf("No permission to publish to group '%s'.", r.mode.Group)), false
	}
	r.publish(ack{})
	return closing, true
}

// publish posts the request to its group, in the order of the connection's messages, once the hub's handler has been asked about it
// if it wants to be.
func (r *reader) publish(a ack) {
	if r.settings.asks && r.askBeforePublish(a) {
		return
	}
	r.awaitAsked()
	r.postToGroup(a)
}

// postToGroup sends the request to its group and the logs, and answers it when all have answered. It waits only while as
// much is under way as may be.
func (r *reader) postToGroup(a ack) {
	if err := r.shared.bus.Ready(); err != nil { // refused before the logs get what no client would
		r.answerPost(a, err)
		return
	}
	size := r.req.DataSize()
	if !r.inFlight.tryAcquire(size) {
		r.blocked(func() { r.inFlight.acquire(size) })
	}
	r.post(&r.req, r.listeners(), &r.address, a, size)
}

// post posts a message to its group and to logs, and answers the request when all have answered. size has been acquired of what may
// be in flight; last is the address that the caller keeps.
func (c *Client) post(req *protocol.Request, logs []string, last *node.Address, a ack, size int) {
	p := newPendingSend(c, a, size)
	done := p.done
	if len(logs) > 0 {
		all := afterAll(1+len(logs), func(err error) { p.done(0, err) })
		done = func(_ int, err error) { all(err) }
		for _, name := range logs {
			c.copyToLog(name, req, all)
		}
	}
	c.shared.node.PostToGroup(c.conn, req, last, done)
}

// answerPost answers a request to send to a group.
func (c *Client) answerPost(a ack, err error) {
	switch {
	case err == nil:
		c.acknowledge(a, nil)
	case c.mode.Group != "":
		c.shared.conns.Close(c.conn, hub.ReasonUnavailable.Closing("The message could not be sent; please try again."))
	default:
		c.acknowledge(a, internal("The message could not be sent; please try again."))
	}
}

// pendingSend is a message in flight. It is pooled, with its bound method, so that waiting for the bus allocates nothing.
type pendingSend struct {
	c    *Client
	ack  ack
	size int
	done func(nodes int, err error) // called once, when the bus and the logs have answered
}

var pendingSends sync.Pool

func newPendingSend(c *Client, a ack, size int) *pendingSend {
	p, ok := pendingSends.Get().(*pendingSend)
	if !ok {
		p = new(pendingSend)
		p.done = p.finish
	}
	p.c, p.ack, p.size = c, a, size
	return p
}

// finish answers the client, gives the message's room to others, and p back to the pool.
func (p *pendingSend) finish(_ int, err error) {
	c, a, size := p.c, p.ack, p.size
	p.c = nil
	pendingSends.Put(p)
	if err != nil {
		c.warn("send to group", err)
	}
	c.answerPost(a, err)
	c.inFlight.release(size)
}

// afterAll returns a function to be called n times, which then calls done with what errors it was called with.
func afterAll(n int, done func(error)) func(error) {
	var mu sync.Mutex
	var errs []error
	return func(err error) {
		mu.Lock()
		n--
		errs = append(errs, err)
		last := n == 0
		mu.Unlock()
		if last {
			done(errors.Join(errs...))
		}
	}
}

// listeners are the message logs that get a copy.
func (r *reader) listeners() []string {
	if r.shared.messages == nil {
		return nil
	}
	return r.settings.listeners
}

// copyToLog appends a copy of a message to a message log.
func (c *Client) copyToLog(name string, req *protocol.Request, done func(error)) {
	c.shared.messages.Append(messagelog.Name(c.tenant, name), messagelog.Entry{
		Hub: c.conn.Hub, Group: req.Group, ConnectionID: c.conn.ID, FromUserID: c.conn.UserID, Time: time.Now(),
		Data: dataOf(req),
	}, done)
}

// dataOf returns a copy of a request's data.
func dataOf(req *protocol.Request) webpubsub.Data {
	d := req.Data()
	d.Bytes = bytes.Clone(d.Bytes)
	return d
}
