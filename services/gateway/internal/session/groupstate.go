package session

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// groupState does what a request about group state asks for (client-json.md section 7). To say something of oneself takes
// the right to send to the group, to hear of others the right to join it.
func (r *reader) groupState() {
	group, a := r.req.Group, r.ack()
	ctx := context.Background() // the node has a deadline of its own
	var err error
	switch {
	case r.req.Refusal != "":
		r.acknowledge(a, &protocol.Failure{Name: protocol.BadRequest, Message: r.req.Refusal})
		return
	case r.req.Kind == protocol.UnsubscribeGroupState:
		r.shared.node.States.Unsubscribe(r.conn, group)
	case r.req.Kind == protocol.SetGroupState:
		if !r.allows(webpubsub.SendToGroup, group) {
			r.acknowledge(a, forbidden("No permission to publish to group '%s'.", group))
			return
		}
		state := bytes.Clone(r.req.State)
		r.blocked(func() { err = r.shared.node.States.Set(ctx, r.conn, group, state) })
	default:
		if !r.allows(webpubsub.JoinLeaveGroup, group) {
			r.acknowledge(a, forbidden("No permission to join or leave group '%s'.", group))
			return
		}
		acked := false // before the snapshot
		r.blocked(func() {
			err = r.shared.node.States.Subscribe(ctx, r.conn, group, func() { acked = true; r.acknowledge(a, nil) })
		})
		if acked {
			return
		}
	}
	switch {
	case err == nil:
		r.acknowledge(a, nil)
	case errors.Is(err, groupstate.ErrTooMany):
		r.acknowledge(a, &protocol.Failure{Name: protocol.BadRequest, Message: err.Error()})
	default:
		r.warn("group state", err)
		r.acknowledge(a, internal("The group's state could not be reached; please try again."))
	}
}

// forgetStates takes back what the connection, which has ended, has said of itself, unless it goes on on another node.
func (c *Client) forgetStates(conn *hub.Conn, handedOver bool) {
	if c.shared.node.States.Has(conn) {
		c.shared.pendingEffects.Add(1)
		c.shared.effects.Go(func() {
			defer c.shared.pendingEffects.Add(-1)
			c.shared.node.States.Forget(conn, !handedOver)
		})
	}
}

// forgetState takes back what the connection has said of itself in a group that it has left.
func (c *Client) forgetState(conn *hub.Conn, group string) {
	if said := c.shared.node.States.SaidAt(conn, group); said != 0 {
		c.shared.effects.Go(func() { c.shared.node.States.Withdraw(conn, group, said) })
	}
}

// statesToHandOff returns what goes along of group state, nil for nothing.
func (c *Client) statesToHandOff() *groupstate.ConnStates {
	c.mu.Lock()
	waiting := c.states
	c.mu.Unlock()
	if waiting != nil { // it has come from another node, and the client has not come for it
		return waiting
	}
	if of, ok := c.shared.node.States.Export(c.conn); ok {
		return &of
	}
	return nil
}

// resumeStates brings a connection up to date that has another socket, for which its subscriptions have been paused: a
// snapshot makes up for what it was told without socket. What it has said on another node is said here.
func (c *Client) resumeStates() {
	c.mu.Lock()
	of := c.states
	c.states = nil
	c.mu.Unlock()
	states, err := c.shared.node.States, error(nil)
	if of != nil {
		err = states.Restore(context.Background(), c.conn, *of)
	} else {
		err = states.Resume(context.Background(), c.conn)
	}
	if err != nil {
		c.warn("resume group state", err)
		c.shared.effects.Go(c.retryResumeStates)
	}
}

// resumeEvery is how long a connection waits for a snapshot that could not be had, before it is asked for again. Until then
// it is told of no changes, which mean nothing without a snapshot.
const resumeEvery = time.Second

// retryResumeStates tries until the connection has a snapshot for each subscription, or has ended.
func (c *Client) retryResumeStates() {
	ctx := c.context()
	for backoff.Sleep(ctx, resumeEvery) == nil {
		if c.shared.node.States.Resume(ctx, c.conn) == nil {
			return
		}
	}
}
