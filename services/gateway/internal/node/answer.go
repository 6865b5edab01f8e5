package node

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// answer does what the node is asked and returns the answer. listed is nil if o is about one connection.
func (n *Node) answer(topic string, o *wire.Order, listed hub.PendingList) []byte {
	switch o.Verb {
	case wire.VerbMembers:
		if listed == nil {
			return wire.StatusOf(wire.ErrMalformed)
		}
		return n.members(listed, o)
	case wire.VerbStates:
		return n.States.Answer(topic)
	case wire.VerbHandoffRead, wire.VerbHandoffCommit:
		return n.Handoffs.AnswerStep(o)
	}
	if o.Conn != "" && topic == n.inbox {
		if elsewhere, _ := n.Handoffs.Elsewhere(o, o.ConnIn(n.conns)); elsewhere {
			return n.Handoffs.AskElsewhere(o)
		}
	}
	if o.Verb == wire.VerbHandoffBegin {
		return n.Handoffs.AnswerBegin(o)
	}
	conns, err := n.selected(listed, o)
	if err != nil {
		return wire.StatusOf(err)
	}
	if len(conns) == 0 {
		return wire.StatusOf(ErrNotFound)
	}
	switch o.Verb {
	case wire.VerbExists:
		return wire.StatusOf(nil)
	case wire.VerbJoin, wire.VerbLeave:
		return wire.StatusOf(n.regroup(conns, o))
	case wire.VerbGrant, wire.VerbRevoke:
		return wire.StatusOf(n.Handoffs.Change(conns[0], o, func() error { return n.permit(conns[0], o) }))
	case wire.VerbAllowed:
		return wire.StatusOf(n.permit(conns[0], o))
	}
	return wire.StatusOf(wire.ErrMalformed)
}

// selected returns the connections of this node that o is about.
func (n *Node) selected(listed hub.PendingList, o *wire.Order) ([]*hub.Conn, error) {
	if o.Conn != "" {
		if c := o.ConnIn(n.conns); c != nil {
			return []*hub.Conn{c}, nil
		}
		return nil, nil
	}
	m, err := n.message(o, protocol.Envelope{}, time.Time{})
	if err != nil {
		return nil, err
	}
	return n.conns.Select(listed, m), nil
}

// regroup lets conns join or leave groups. A connection that ends meanwhile is no failure if others are left.
func (n *Node) regroup(conns []*hub.Conn, o *wire.Order) error {
	r := wire.Reader{Rest: o.Args}
	groups := r.Strings()
	if r.Failed {
		return wire.ErrMalformed
	}
	ctx := context.Background() // each change has a deadline of its own
	var errs []error
	ended := 0
	for _, c := range conns {
		err := n.Handoffs.Change(c, o, func() error {
			switch {
			case o.Verb == wire.VerbJoin:
				return n.JoinConn(ctx, c, groups...)
			case len(groups) == 0:
				return n.LeaveConn(ctx, c, n.conns.Groups(c)...)
			}
			return n.LeaveConn(ctx, c, groups...)
		})
		if errors.Is(err, hub.ErrConnEnded) || errors.Is(err, ErrNotFound) {
			ended++
			continue
		}
		errs = append(errs, err)
	}
	if ended == len(conns) {
		return ErrNotFound
	}
	return errors.Join(errs...)
}

func (n *Node) permit(c *hub.Conn, o *wire.Order) error {
	r := wire.Reader{Rest: o.Args}
	p, group := webpubsub.Permission(r.Byte()), r.String()
	if r.Failed || p > webpubsub.JoinLeaveGroup {
		return wire.ErrMalformed
	}
	switch {
	case o.Verb == wire.VerbGrant:
		return c.Grant(p, group)
	case o.Verb == wire.VerbRevoke:
		return c.Revoke(p, group)
	case !c.Allows(p, group):
		return ErrNotFound
	}
	return nil
}

// members answers with pairs of connection id and user id.
func (n *Node) members(listed hub.PendingList, o *wire.Order) []byte {
	r := wire.Reader{Rest: o.Args}
	after := r.String()
	limit, _ := binary.Uvarint(r.Rest)
	b := wire.StatusOf(nil)
	for _, c := range n.conns.Members(listed, after, int(min(limit, math.MaxInt32))) {
		b = wire.AppendString(wire.AppendString(b, c.ID), c.UserID)
	}
	return b
}
