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
)

// status is the first byte of an answer; a text may follow.
type status byte

const (
	statusOK status = iota
	statusNotFound
	statusRuleLimit
	statusUnavailable
	statusFailed // with a text
	statusMoving
)

func readStatus(b []byte) (s status, text string) {
	if len(b) == 0 {
		return statusFailed, "empty answer"
	}
	return status(b[0]), string(b[1:])
}

func (s status) err(text string) error {
	switch s {
	case statusOK:
		return nil
	case statusNotFound:
		return ErrNotFound
	case statusRuleLimit:
		return webpubsub.ErrRuleLimit
	case statusUnavailable:
		return ErrUnavailable
	case statusMoving:
		return ErrMoving
	}
	return errors.New(text)
}

func statusOf(err error) []byte {
	switch {
	case err == nil:
		return []byte{byte(statusOK)}
	case errors.Is(err, ErrNotFound), errors.Is(err, hub.ErrConnEnded):
		return []byte{byte(statusNotFound)}
	case errors.Is(err, webpubsub.ErrRuleLimit):
		return []byte{byte(statusRuleLimit)}
	case errors.Is(err, ErrUnavailable):
		return []byte{byte(statusUnavailable)}
	case errors.Is(err, ErrMoving):
		return []byte{byte(statusMoving)}
	}
	return append([]byte{byte(statusFailed)}, err.Error()...)
}

// answer does what the node is asked and returns the answer. listed is nil if o is about one connection.
func (n *Node) answer(topic string, o *order, listed hub.PendingList) []byte {
	switch o.verb {
	case verbMembers:
		if listed == nil {
			return statusOf(errOrder)
		}
		return n.members(listed, o)
	case verbStates:
		return n.allStates(topic)
	case verbMoveRead, verbMoveCommit:
		return n.proceed(o)
	}
	if o.conn != "" && topic == n.inbox {
		if away, _ := n.awayFrom(o, n.conn(o)); away {
			return n.askAway(o)
		}
	}
	if o.verb == verbMoveBegin {
		return n.begin(o)
	}
	conns, err := n.selected(listed, o)
	if err != nil {
		return statusOf(err)
	}
	if len(conns) == 0 {
		return statusOf(ErrNotFound)
	}
	switch o.verb {
	case verbExists:
		return statusOf(nil)
	case verbJoin, verbLeave:
		return statusOf(n.regroup(conns, o))
	case verbGrant, verbRevoke:
		return statusOf(n.change(conns[0], o, func() error { return n.permit(conns[0], o) }))
	case verbAllowed:
		return statusOf(n.permit(conns[0], o))
	}
	return statusOf(errOrder)
}

// selected returns the connections of this node that o is about.
func (n *Node) selected(listed hub.PendingList, o *order) ([]*hub.Conn, error) {
	if o.conn != "" {
		if c := n.conn(o); c != nil {
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
func (n *Node) regroup(conns []*hub.Conn, o *order) error {
	r := reader{rest: o.args}
	groups := r.strings()
	if r.failed {
		return errOrder
	}
	ctx := context.Background() // each change has a deadline of its own
	var errs []error
	ended := 0
	for _, c := range conns {
		err := n.change(c, o, func() error {
			switch {
			case o.verb == verbJoin:
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

func (n *Node) permit(c *hub.Conn, o *order) error {
	r := reader{rest: o.args}
	p, group := webpubsub.Permission(r.byte()), r.string()
	if r.failed || p > webpubsub.JoinLeaveGroup {
		return errOrder
	}
	switch {
	case o.verb == verbGrant:
		return c.Grant(p, group)
	case o.verb == verbRevoke:
		return c.Revoke(p, group)
	case !c.Allows(p, group):
		return ErrNotFound
	}
	return nil
}

// members answers with pairs of connection id and user id.
func (n *Node) members(listed hub.PendingList, o *order) []byte {
	r := reader{rest: o.args}
	after := r.string()
	limit, _ := binary.Uvarint(r.rest)
	b := statusOf(nil)
	for _, c := range n.conns.Members(listed, after, int(min(limit, math.MaxInt32))) {
		b = appendString(appendString(b, c.ID), c.UserID)
	}
	return b
}
