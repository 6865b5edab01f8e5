package node

import (
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// deliver does what a payload from the bus says. It and what it calls for a message keep little on the stack: the
// goroutine is often that of the reader whose message it is, and there are many of those.
func (n *Node) deliver(topic string, payload []byte) {
	r, ok := n.peer.Parse(payload)
	if !ok {
		return
	}
	var err error
	if r.Kind == cluster.Ask {
		err = n.handleAsk(topic, &r)
	} else {
		err = n.handleTell(topic, payload, r.Body)
	}
	if err != nil {
		n.logBadOrder(err)
	}
}

// logBadOrder stands apart so that what logging needs is not on deliver's stack.
//
//go:noinline
func (n *Node) logBadOrder(err error) { n.log.Error("order from another node", "error", err) }

// handleAsk answers what the node is asked, in a goroutine of its own.
func (n *Node) handleAsk(topic string, heard *cluster.Received) error {
	r := *heard
	var o wire.Order
	if err := o.Read(r.Body); err != nil {
		return err
	}
	o.Args = slices.Clone(o.Args) // what is asked takes longer than a delivery may
	var listed hub.PendingList
	if o.Conn == "" { // now, and not when it is looked at: a connection that moves is on one node's list at a time
		listed = n.conns.List(topic)
	}
	n.answering.Add(1)
	n.asked.Go(func() { n.peer.Answer(r, n.answer(topic, &o, listed), func() { n.answering.Add(-1) }) })
	return nil
}

// handleTell does what the node is told.
func (n *Node) handleTell(topic string, payload, body []byte) error {
	var o wire.Order
	if err := o.Read(body); err != nil {
		return err
	}
	switch o.Verb {
	case wire.VerbMessage:
		return n.deliverMessage(topic, payload, &o)
	case wire.VerbClose:
		return n.closeTold(topic, payload, &o)
	case wire.VerbState:
		return n.States.HandleTell(topic, &o)
	case wire.VerbTrace:
		return n.handleTrace(topic, &o)
	case wire.VerbHandoffMark:
		n.Handoffs.HandleMark(topic, &o)
	case wire.VerbHandoffCancel:
		n.Handoffs.HandleCancel(&o)
	default:
		return wire.ErrMalformed
	}
	return nil
}

// byID reports whether an order is for the connection that it names; else it is for the list of the topic.
func (n *Node) byID(topic string, o *wire.Order) bool { return o.Conn != "" && topic == n.inbox }

// deliverMessage gives a message to those it is for.
func (n *Node) deliverMessage(topic string, payload []byte, o *wire.Order) error {
	e, expires, err := wire.ReadEnvelope(o.Args)
	if err != nil {
		return err
	}
	m, err := n.message(o, e, expires)
	switch {
	case err != nil:
		return err
	case n.byID(topic, o):
		n.withConn(o, payload, func(c *hub.Conn) { n.conns.Send(c, m) })
	default:
		n.conns.Deliver(topic, m)
	}
	return nil
}

// closeTold closes those that an order is for.
func (n *Node) closeTold(topic string, payload []byte, o *wire.Order) error {
	closing := hub.ReasonRequested.Closing(string(o.Args))
	if n.byID(topic, o) {
		n.withConn(o, payload, func(c *hub.Conn) { n.conns.Close(c, closing) })
		return nil
	}
	selected, err := n.message(o, protocol.Envelope{}, time.Time{})
	if err != nil {
		return err
	}
	n.conns.CloseList(topic, closing, selected)
	return nil
}

// withConn does something to the connection of an order by id, or passes the order on to where it has moved.
func (n *Node) withConn(o *wire.Order, payload []byte, do func(*hub.Conn)) {
	c := o.ConnIn(n.conns)
	elsewhere, shadow := n.Handoffs.Elsewhere(o, c)
	if elsewhere {
		n.peer.Post(cluster.HandedOverTopic(o.Target, o.Conn), payload, nil)
		c = shadow
	}
	if c != nil {
		do(c)
	}
}

// message returns e for those whom o selects.
func (n *Node) message(o *wire.Order, e protocol.Envelope, expires time.Time) (*hub.Message, error) {
	options := hub.MessageOptions{Expires: expires}
	for _, id := range o.Except {
		if strings.HasPrefix(id, n.peer.ID()) || n.Handoffs.HasAdopted() {
			options.Except = n.conns.AppendByID(options.Except, id)
		}
	}
	if o.Filter != "" {
		var err error
		if options.Filter, err = filter.Parse(o.Filter); err != nil {
			return nil, err
		}
	}
	return hub.NewMessage(e, options), nil
}
