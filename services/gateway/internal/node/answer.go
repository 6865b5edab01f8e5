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
func (rcv *receiver) answer(topic string, o *wire.Order, listed hub.PendingList) []byte {
	switch o.Verb {
	case wire.VerbMembers:
		if listed == nil {
			return wire.StatusOf(wire.ErrMalformed)
		}
		return rcv.members(listed, o)
	case wire.VerbStates:
		return rcv.states.Answer(topic)
	case wire.VerbHandoffRead, wire.VerbHandoffCommit:
		return rcv.handoffs.AnswerStep(o)
	}
	if o.Conn != "" && topic == rcv.inbox {
		if elsewhere, _ := rcv.handoffs.Elsewhere(o, o.ConnIn(rcv.conns)); elsewhere {
			return rcv.handoffs.AskElsewhere(o)
		}
	}
	if o.Verb == wire.VerbHandoffBegin {
		return rcv.handoffs.AnswerBegin(o)
	}
	conns, err := rcv.selected(listed, o)
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
		return wire.StatusOf(rcv.regroup(conns, o))
	case wire.VerbGrant, wire.VerbRevoke:
		return wire.StatusOf(rcv.handoffs.Change(conns[0], o, func() error { return rcv.permit(conns[0], o) }))
	case wire.VerbAllowed:
		return wire.StatusOf(rcv.permit(conns[0], o))
	}
	return wire.StatusOf(wire.ErrMalformed)
}

// selected returns the connections of this node that o is about.
func (rcv *receiver) selected(listed hub.PendingList, o *wire.Order) ([]*hub.Conn, error) {
	if o.Conn != "" {
		if c := o.ConnIn(rcv.conns); c != nil {
			return []*hub.Conn{c}, nil
		}
		return nil, nil
	}
	m, err := rcv.message(o, protocol.Envelope{}, time.Time{})
	if err != nil {
		return nil, err
	}
	return rcv.conns.Select(listed, m), nil
}

// regroup lets conns join or leave groups. A connection that ends meanwhile is no failure if others are left.
func (rcv *receiver) regroup(conns []*hub.Conn, o *wire.Order) error {
	r := wire.Reader{Rest: o.Args}
	groups := r.Strings()
	if r.Failed {
		return wire.ErrMalformed
	}
	ctx := context.Background() // each change has a deadline of its own
	var errs []error
	ended := 0
	for _, c := range conns {
		err := rcv.handoffs.Change(c, o, func() error {
			switch {
			case o.Verb == wire.VerbJoin:
				return rcv.node.JoinConn(ctx, c, groups...)
			case len(groups) == 0:
				return rcv.node.LeaveConn(ctx, c, rcv.conns.Groups(c)...)
			}
			return rcv.node.LeaveConn(ctx, c, groups...)
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

func (rcv *receiver) permit(c *hub.Conn, o *wire.Order) error {
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
func (rcv *receiver) members(listed hub.PendingList, o *wire.Order) []byte {
	r := wire.Reader{Rest: o.Args}
	after := r.String()
	limit, _ := binary.Uvarint(r.Rest)
	b := wire.StatusOf(nil)
	for _, c := range rcv.conns.Members(listed, after, int(min(limit, math.MaxInt32))) {
		b = wire.AppendString(wire.AppendString(b, c.ID), c.UserID)
	}
	return b
}
