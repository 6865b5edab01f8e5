package gateway

import (
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
)

// startStream opens a group stream of the connection (client-json.md 6.1).
func (r *reader) startStream() {
	var failure *protocol.Failure
	switch {
	case r.req.Refusal != "":
		failure = &protocol.Failure{Name: protocol.BadRequest, Message: r.req.Refusal}
	case !r.conn.Allows(webpubsub.SendToGroup, r.req.Group):
		failure = forbidden("No permission to publish to group '%s'.", r.req.Group)
	}
	if failure != nil {
		r.answer(r.conn.Codec.AppendStreamClosed(nil, r.req.StreamID, failure))
		return
	}
	r.g.unsaid.Add(1)
	if !r.makeStreams().Start(r.req.StreamID, r.req.Group, r.req.NoEcho, r.req.IdleTimeout) {
		r.g.unsaid.Add(-1)
	}
}

// streamData publishes a fragment (client-json.md 6.2). Unlike what sendToGroup sends, fragments are not copied to
// message logs: they are parts of something, and what reads logs knows whole messages.
func (r *reader) streamData() {
	streams, id := r.openStreams(), r.req.StreamID
	switch {
	case streams == nil:
		return
	case !r.req.HasData():
		streams.KeepAlive(id)
		return
	}
	if group, ok := streams.Group(id); ok && !r.conn.Allows(webpubsub.SendToGroup, group) {
		streams.Fail(id, forbidden("No permission to publish to group '%s'.", group))
		return
	}
	f, ok := streams.Data(id, r.req.StreamSequence, r.unavailable())
	if !ok {
		return
	}
	size := r.req.DataSize()
	if !r.flight.tryTakeOff(ack{}, size) {
		r.blocked(func() { r.flight.takeOff(ack{}, size) })
	}
	c, landed := r.client, f.Landed
	f.Landed = func(err error) {
		landed(err)
		c.flight.landed(ack{}, size)
	}
	r.g.node.PostFragment(r.conn, &f, &r.req)
}

// unavailable is why a fragment cannot be published now, nil when it can. Its publisher may send it again.
func (r *reader) unavailable() *protocol.Failure {
	if r.g.bus.Ready() == nil {
		return nil
	}
	return &protocol.Failure{Name: protocol.TransientError, Message: "The fragment could not be sent; please try again."}
}

// openStreams returns the connection's streams. When it never had any the client is told that this one is unknown.
func (r *reader) openStreams() *stream.Set {
	r.mu.Lock()
	streams := r.streams
	r.mu.Unlock()
	if streams == nil {
		r.answer(r.conn.Codec.AppendStreamClosed(nil, r.req.StreamID, stream.NotFound(r.req.StreamID)))
	}
	return streams
}

// makeStreams returns the connection's streams, none to begin with.
func (c *client) makeStreams() *stream.Set {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams == nil {
		codec := c.conn.Codec
		c.streams = stream.New(c.g.life, stream.Port{
			Ack: func(id string, expected uint64) { c.answer(codec.AppendStreamAck(nil, id, expected)) },
			Nack: func(id string, expected uint64, f *protocol.Failure) {
				c.answer(codec.AppendStreamNack(nil, id, expected, f))
			},
			Closed: func(id string, f *protocol.Failure) { c.answer(codec.AppendStreamClosed(nil, id, f)) },
			End:    func(f stream.Fragment, done func(error)) { c.g.node.PostStreamEnd(c.conn, &f, done) },
			Over:   func() { c.g.unsaid.Add(-1) },
		})
		if c.ended {
			c.streams.Cancel() // none is to start any more
		}
	}
	return c.streams
}

// resumeStreams notes that the connection has a socket again.
func (c *client) resumeStreams() {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams != nil {
		streams.Resume()
	}
}

// cancelStreams ends the connection's streams, which has ended, unless it has moved to another node. It does not wait for
// the bus.
func (c *client) cancelStreams(moved bool) {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	switch {
	case streams == nil:
	case moved:
		streams.Gone()
	default:
		c.g.goodbyes.Go(streams.Cancel)
	}
}

// giveStreams returns what give says of the connection's streams, nil when it never had any.
func (c *client) giveStreams(give func(*stream.Set) stream.State) *stream.State {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams == nil {
		return nil
	}
	state := give(streams)
	return &state
}

// takeStreamsBack goes on with streams that nobody has taken.
func (c *client) takeStreamsBack() {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams != nil {
		c.g.goodbyes.Go(streams.TakeBack)
	}
}

// takeStreams goes on with the streams of a connection that has come from another node.
func (c *client) takeStreams(state *stream.State) {
	if state != nil {
		c.g.unsaid.Add(int64(len(state.Open)))
		c.makeStreams().Take(*state)
	}
}
