package node

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// receiver does to this node's connections what any node, this one included, tells and asks over the bus.
type receiver struct {
	node     *Node // lets connections join and leave
	peer     *cluster.Peer
	conns    *hub.Registry
	handoffs *handoff.Handoffs
	states   *groupstate.States
	log      *slog.Logger
	inbox    string
	traced   func(tenant string, frame []byte) // see Options

	repeats repeats // of messages that may come twice

	// last is the number of the last order that each node has published and this one has done (wire.Origin). It has an entry for each node
	// that there was in this one's life. It is for deliver alone, which is called by one goroutine at a time.
	last map[[cluster.NodeIDSize]byte]uint64

	asked     sync.WaitGroup // questions being answered
	answering atomic.Int64   // the same, until the answer is out
}

// deliver does what a payload from the bus says. It and what it calls for a message keep little on the stack: the
// goroutine is often that of the reader whose message it is, and there are many of those.
func (rcv *receiver) deliver(topic string, payload []byte) {
	r, ok := rcv.peer.Parse(payload)
	if !ok {
		return
	}
	var err error
	if r.Kind == cluster.Ask {
		err = rcv.handleAsk(topic, &r)
	} else {
		err = rcv.handleTell(topic, payload, r.Body)
	}
	if err != nil {
		rcv.logBadOrder(err)
	}
}

// logBadOrder stands apart so that what logging needs is not on deliver's stack.
//
//go:noinline
func (rcv *receiver) logBadOrder(err error) { rcv.log.Error("order from another node", "error", err) }

// handleAsk answers what the node is asked, in a goroutine of its own.
func (rcv *receiver) handleAsk(topic string, heard *cluster.Received) error {
	r := *heard
	var o wire.Order
	if err := o.Read(r.Body); err != nil {
		return err
	}
	o.Args = slices.Clone(o.Args) // what is asked takes longer than a delivery may
	var listed hub.PendingList
	if o.Conn == "" { // now, and not when it is looked at: a connection that moves is on one node's list at a time
		listed = rcv.conns.List(topic)
	}
	rcv.answering.Add(1)
	rcv.asked.Go(func() { rcv.peer.Answer(r, rcv.answer(topic, &o, listed), func() { rcv.answering.Add(-1) }) })
	return nil
}

// handleTell does what the node is told.
func (rcv *receiver) handleTell(topic string, payload, body []byte) error {
	var o wire.Order
	if err := o.Read(body); err != nil {
		return err
	}
	if rcv.isRepeated(&o.Origin) {
		return nil
	}
	switch o.Verb {
	case wire.VerbMessage:
		return rcv.deliverMessage(topic, payload, &o)
	case wire.VerbClose:
		return rcv.closeTold(topic, payload, &o)
	case wire.VerbState:
		return rcv.states.HandleTell(topic, &o)
	case wire.VerbTrace:
		return rcv.handleTrace(topic, &o)
	case wire.VerbHandoffMark:
		rcv.handoffs.HandleMark(topic, &o)
	case wire.VerbHandoffCancel:
		rcv.handoffs.HandleCancel(&o)
	default:
		return wire.ErrMalformed
	}
	return nil
}

// isRepeated reports whether this node has been told before, as it has read up what it may have missed.
func (rcv *receiver) isRepeated(g *wire.Origin) bool {
	if g.Number == 0 {
		return false
	}
	if g.Number <= rcv.last[g.Publisher] {
		return true
	}
	rcv.last[g.Publisher] = g.Number
	return false
}

// byID reports whether an order is for the connection that it names; else it is for the list of the topic.
func (rcv *receiver) byID(topic string, o *wire.Order) bool {
	return o.Conn != "" && topic == rcv.inbox
}

// deliverMessage gives a message to those it is for.
func (rcv *receiver) deliverMessage(topic string, payload []byte, o *wire.Order) error {
	e, expires, err := wire.ReadEnvelope(o.Args)
	if err != nil {
		return err
	}
	m, err := rcv.message(o, e, expires)
	switch {
	case err != nil:
		return err
	case isRepeatable(o) && rcv.repeats.heard(o.Except[len(o.Except)-1], time.Now()):
		return nil
	case rcv.byID(topic, o):
		rcv.withConn(o, payload, func(c *hub.Conn) { rcv.conns.Send(c, m) })
	default:
		rcv.conns.Deliver(topic, m)
	}
	return nil
}

// closeTold closes those that an order is for.
func (rcv *receiver) closeTold(topic string, payload []byte, o *wire.Order) error {
	closing := hub.ReasonRequested.Closing(string(o.Args))
	if rcv.byID(topic, o) {
		rcv.withConn(o, payload, func(c *hub.Conn) { rcv.conns.Close(c, closing) })
		return nil
	}
	selected, err := rcv.message(o, protocol.Envelope{}, time.Time{})
	if err != nil {
		return err
	}
	rcv.conns.CloseList(topic, closing, selected)
	return nil
}

// withConn does something to the connection of an order by id, or passes the order on to where it has moved.
func (rcv *receiver) withConn(o *wire.Order, payload []byte, do func(*hub.Conn)) {
	c := o.ConnIn(rcv.conns)
	elsewhere, shadow := rcv.handoffs.Elsewhere(o, c)
	if elsewhere {
		copied, number := o.PassedOn(payload, rcv.peer.ID())
		rcv.peer.PostKept(cluster.HandedOverTopic(o.Target, o.Conn), copied, number, nil)
		c = shadow
	}
	if c != nil {
		do(c)
	}
}

// message returns e for those whom o selects.
func (rcv *receiver) message(o *wire.Order, e protocol.Envelope, expires time.Time) (*hub.Message, error) {
	options := hub.MessageOptions{Expires: expires}
	for _, id := range o.Except {
		if strings.HasPrefix(id, rcv.peer.ID()) || rcv.handoffs.HasAdopted() {
			options.Except = rcv.conns.AppendByID(options.Except, id)
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

// handleTrace passes on what has come by a tenant's trace.
func (rcv *receiver) handleTrace(topic string, o *wire.Order) error {
	tenant, ok := strings.CutPrefix(topic, cluster.TraceTopic(""))
	if !ok {
		return wire.ErrMalformed
	}
	if rcv.traced != nil {
		rcv.traced(tenant, o.Args)
	}
	return nil
}
