package gateway

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// drain is the way of a node that stops, from the moment when Run's context ends. The setting gateway.drainTime
// (Config.DrainTime) bounds all of it.
//
// Clients are asked to leave at moments spread over half the drain time. A reliable connection waits until another node
// has taken it over, for four fifths of the drain time; the rest is for event handlers, which hear of all that ends. As
// long as there is no node to go to, connections are closed for good instead.
func (g *Gateway) drain() {
	g.front.Drain()
	began := time.Now()
	deadline := began.Add(g.cfg.DrainTime)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	d := &drain{g, otherNodes{find: g.node.Others}}

	conns := g.conns.Conns()
	d.withdraw(ctx, len(conns))
	d.askAllToLeave(ctx, conns, began)
	d.awaitHandshakes(ctx, deadline)
	d.awaitTakeOvers(began.Add(g.giveUpAfter))
	d.closeTheRest()
	d.awaitEnds(ctx, deadline)
	d.endEvents(ctx)
}

// drain is what the steps of Gateway.drain share.
type drain struct {
	*Gateway
	others otherNodes
}

// restarting is how connections end that nobody has asked to end.
func restarting() hub.Closing {
	return hub.ReasonDrain.Closing("The service is restarting; please reconnect.")
}

// withdraw tells the other nodes to send no more connections here.
func (d *drain) withdraw(ctx context.Context, conns int) {
	if err := d.node.Withdraw(ctx); err != nil {
		d.log.Warn("drain: other nodes may send connections here", "error", err)
	}
	d.log.Info("draining", "connections", conns, "others", d.others.exist(ctx, time.Now()))
}

// askAllToLeave asks one client after the other to leave, spread over the leave span so that they do not all come to the other
// nodes at once.
func (d *drain) askAllToLeave(ctx context.Context, conns []*hub.Conn, began time.Time) {
	for i, c := range conns {
		time.Sleep(time.Until(began.Add(d.leaveSpan * time.Duration(i+1) / time.Duration(len(conns)))))
		d.askToLeave(ctx, c)
	}
}

// askToLeave asks a client to come back on another node, or ends its connection when there is none.
func (d *drain) askToLeave(ctx context.Context, c *hub.Conn) {
	if d.others.exist(ctx, time.Now()) {
		d.conns.AskToReconnect(c, restarting())
	} else {
		d.conns.Close(c, restarting())
	}
}

// awaitHandshakes waits for the handshakes that were under way when the drain began, and asks their clients to leave as well.
func (d *drain) awaitHandshakes(ctx context.Context, deadline time.Time) {
	waitWhile(deadline, func() bool { return d.admission.Handshakes() > 0 })
	for _, c := range d.conns.Conns() {
		d.askToLeave(ctx, c)
	}
}

// awaitTakeOvers waits until other nodes have taken over the reliable connections.
func (d *drain) awaitTakeOvers(until time.Time) {
	waitWhile(until, func() bool { return d.admission.Connections() > 0 })
}

// closeTheRest closes the connections that no node has taken over, but for those on their way to one.
func (d *drain) closeTheRest() {
	for _, c := range d.conns.Conns() {
		if !d.node.Handoffs.Moving(c.ID) {
			d.conns.Close(c, restarting())
		}
	}
}

// awaitEnds waits until the connections have ended, for they have not yet when Close returns; until those who read streams
// have been told of their end; and until all sockets are closed.
func (d *drain) awaitEnds(ctx context.Context, deadline time.Time) {
	waitWhile(deadline, func() bool { return d.admission.Connections()+d.clients.PendingEffects() > 0 || !d.node.Idle() })
	closed := make(chan struct{})
	go func() { // ends with the sockets, at the latest when Run closes them
		d.sockets.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// endEvents waits until event handlers have heard of all that has ended.
func (d *drain) endEvents(ctx context.Context) {
	if err := d.upstream.Drain(ctx); err != nil {
		d.log.Warn("drain", "error", err)
	}
}

// waitWhile returns when condition does not hold any more, at the latest at the given time.
func waitWhile(until time.Time, condition func() bool) {
	for condition() && time.Now().Before(until) {
		time.Sleep(10 * time.Millisecond)
	}
}

const (
	askOthersEvery   = time.Second
	askOthersTimeout = 500 * time.Millisecond
)

// otherNodes knows whether there are nodes that the connections of a draining one can go to. It asks again every
// second, for those may begin to drain as well, and new ones come. It is for one goroutine.
type otherNodes struct {
	find  func(context.Context) (bool, error)
	asked time.Time // last
	found bool
}

// exist reports whether there are any, as far as is known at that time. While that cannot be found out the answer stays the last
// one; at first, there are none.
func (o *otherNodes) exist(ctx context.Context, now time.Time) bool {
	if !o.asked.IsZero() && now.Sub(o.asked) < askOthersEvery {
		return o.found
	}
	o.asked = now
	ctx, cancel := context.WithTimeout(ctx, askOthersTimeout)
	defer cancel()
	if found, err := o.find(ctx); err == nil {
		o.found = found
	}
	return o.found
}
