package session

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
	case !r.allows(webpubsub.SendToGroup, r.req.Group):
		failure = forbidden("No permission to publish to group '%s'.", r.req.Group)
	case r.settings.asks:
		failure = forbidden("%s", noStreams)
	}
	if failure != nil {
		r.reply(r.conn.Codec.AppendStreamClosed(nil, r.req.StreamID, failure))
		return
	}
	r.shared.pendingEffects.Add(1)
	if !r.makeStreams().Start(r.req.StreamID, r.req.Group, r.req.NoEcho, r.req.IdleTimeout) {
		r.shared.pendingEffects.Add(-1)
	}
}

// noStreams is why there are no streams in hubs whose handler is asked before messages are published: it could only be asked about
// parts.
const noStreams = "There are no streams in this hub: what is sent to groups is checked before it is published."

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
	if r.settings.asks { // it began before the settings said so
		streams.Fail(id, forbidden("%s", noStreams))
		return
	}
	f, ok := streams.Data(id, r.req.StreamSequence, r.unavailable())
	if !ok {
		return
	}
	size := r.req.DataSize()
	if !r.inFlight.tryAcquire(size) {
		r.blocked(func() { r.inFlight.acquire(size) })
	}
	c, done := r.Client, f.Done
	f.Done = func(err error) {
		done(err)
		c.inFlight.release(size)
	}
	r.shared.node.PostFragment(r.conn, &f, &r.req)
}

// unavailable is why a fragment cannot be published now, nil when it can. Its publisher may send it again.
func (r *reader) unavailable() *protocol.Failure {
	if r.shared.bus.Ready() == nil {
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
		r.reply(r.conn.Codec.AppendStreamClosed(nil, r.req.StreamID, stream.NotFound(r.req.StreamID)))
	}
	return streams
}

// makeStreams returns the connection's streams, none to begin with.
func (c *Client) makeStreams() *stream.Set {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams == nil {
		codec := c.conn.Codec
		c.streams = stream.New(c.shared.life, stream.Port{
			Ack: func(id string, expected uint64) { c.reply(codec.AppendStreamAck(nil, id, expected)) },
			Nack: func(id string, expected uint64, f *protocol.Failure) {
				c.reply(codec.AppendStreamNack(nil, id, expected, f))
			},
			Closed: func(id string, f *protocol.Failure) { c.reply(codec.AppendStreamClosed(nil, id, f)) },
			End:    func(f stream.Fragment, done func(error)) { c.shared.node.PostStreamEnd(c.conn, &f, done) },
			Over:   func() { c.shared.pendingEffects.Add(-1) },
		})
		if c.hasEnded {
			c.streams.Cancel() // none is to start any more
		}
	}
	return c.streams
}

// resumeStreams notes that the connection has a socket again.
func (c *Client) resumeStreams() {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams != nil {
		streams.NewSocket()
	}
}

// endStreams ends the streams of the connection, which has ended. Those of one that was handed over go on elsewhere. It does not
// wait for the bus.
func (c *Client) endStreams(handedOver bool) {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	switch {
	case streams == nil:
	case handedOver:
		streams.EndHandedOver()
	default:
		c.shared.effects.Go(streams.Cancel)
	}
}

// streamsToHandOff returns what give says of the connection's streams, nil when it never had any.
func (c *Client) streamsToHandOff(give func(*stream.Set) stream.State) *stream.State {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams == nil {
		return nil
	}
	state := give(streams)
	return &state
}

// keepStreams goes on with streams that no other node has taken over.
func (c *Client) keepStreams() {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	if streams != nil {
		c.shared.effects.Go(streams.CancelHandOver)
	}
}

// restoreStreams goes on with the streams of a connection that has come from another node.
func (c *Client) restoreStreams(state *stream.State) {
	if state != nil {
		c.shared.pendingEffects.Add(int64(len(state.Open)))
		c.makeStreams().Restore(*state)
	}
}
