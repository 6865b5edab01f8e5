package session

import (
	"context"
	"errors"
	"log/slog"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// event asks the application (client-json.md 4.4). What it answers goes to the client before the ack.
func (r *reader) event() {
	c, a, name := r.Client, r.ack(), r.req.Event
	if !r.enterQueue() {
		c.eventFailed(a, name, r.events.Refuse())
		return
	}
	e := r.events.Event(name, r.eventData())
	r.queue(func(ctx context.Context) { c.handleEvent(ctx, e, a, name) })
}

// handleEvent brings an event to the application, and what it answers to the client.
func (c *Client) handleEvent(ctx context.Context, e *upstream.UserEvent, a ack, name string) {
	reply, err := e.Put(ctx)
	if err != nil {
		c.eventFailed(a, name, err)
		return
	}
	if reply != nil {
		c.shared.node.SendToConn(c.conn, webpubsub.Message{Data: *reply})
	}
	c.acknowledge(a, nil)
}

// eventFailed tells the client that the application has not handled its event.
func (c *Client) eventFailed(a ack, name string, err error) {
	var failure *upstream.Failure
	known := errors.As(err, &failure)
	if !known || failure.Reason != upstream.ReasonCanceled { // else the connection has ended
		c.logBounded(slog.LevelWarn, "user event", slog.String("event", name), slog.Any("error", err))
	}
	switch {
	case c.conn.Codec.ID() == protocol.IDSimple:
		c.shared.conns.Close(c.conn, hub.ReasonUpstream.Closing("The application could not handle the message."))
	case known && failure.Reason == upstream.ReasonFull:
		c.acknowledge(a, internal(tooManyEvents))
	default:
		c.acknowledge(a, internal("The application could not handle the event."))
	}
}

// tooManyEvents is what a client is told of an event that is not taken.
const tooManyEvents = "Too many events of the connection wait for the application, which has not answered for some time; please send it again later."

// enterQueue waits for room among the events that wait for the application; queue is to be called then. If it reports false there is none,
// and there will be none soon. The only way to tell a simple client is to close its connection, so it always waits.
func (r *reader) enterQueue() (ok bool) {
	q := &r.theAsks().events
	r.blocked(func() { ok = q.enter(r.req.DataSize(), r.conn.Codec.ID() == protocol.IDSimple) })
	return ok
}

// eventData returns a copy of the request's data, an empty text if there are none.
func (r *reader) eventData() webpubsub.Data {
	if r.req.HasData() {
		return dataOf(&r.req)
	}
	return webpubsub.Data{Type: webpubsub.DataText}
}

// queue has handle called with the request's event once all that was asked before has been answered. The reader goes on meanwhile. ctx ends
// when no event is to be put any more for the connection.
func (r *reader) queue(handle func(ctx context.Context)) {
	a := r.theAsks()
	asked := a.questions.last()
	a.events.push(func() {
		<-asked
		handle(a.life)
	}, r.req.DataSize(), r.goWork)
}
