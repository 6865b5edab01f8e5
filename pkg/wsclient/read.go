package wsclient

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// read handles what comes on l until it ends.
func (c *Client) read(l *link, codec protocol.Codec) {
	defer close(l.done)
	l.err = &CloseError{Code: codeAbnormal}
	var (
		resp protocol.Response
		err  error
	)
	for err == nil {
		err = c.readOne(l, codec, &resp)
	}
	l.Socket.Drop()
	if end := (*CloseError)(nil); errors.As(err, &end) {
		l.err.Code, l.err.Reason, err = end.Code, end.Reason, nil
	}
	l.err.err = err
}

// readOne handles the next message, or reads once more.
func (c *Client) readOne(l *link, codec protocol.Codec, resp *protocol.Response) error {
	binary, payload, ok, err := l.Next()
	if err != nil {
		return err
	}
	if !ok {
		_, err := l.Fill()
		return err
	}
	if err := codec.DecodeResponse(binary, payload, resp); err != nil {
		return err
	}
	c.handle(l, codec, resp)
	return nil
}

// Codes that stand in no close frame.
const (
	codeMissing  = 1005 // of a close frame without a code
	codeAbnormal = 1006 // of a connection that ended without a close frame
)

func (c *Client) handle(l *link, codec protocol.Codec, r *protocol.Response) {
	switch r.Kind {
	case protocol.MessageResponse:
		c.message(l, codec, r)
	case protocol.DisconnectedResponse:
		l.err.System = r.Reason
	case protocol.StreamAckResponse, protocol.StreamNackResponse, protocol.StreamClosedResponse,
		protocol.GroupStateSnapshotResponse, protocol.GroupStateUpdateResponse:
		c.notice(l, r)
	default:
		if !c.answer(r) {
			c.notice(l, r)
		}
	}
	select {
	case <-l.first:
	default:
		close(l.first)
	}
}

func (c *Client) notice(l *link, r *protocol.Response) {
	notice := *r // r and its bytes are used again
	notice.Data.Bytes, notice.Items = slices.Clone(r.Data.Bytes), slices.Clone(r.Items)
	select {
	case c.notices <- &notice:
	case <-l.gone:
	}
}

// answer gives r to who waits for it, and reports false when it answers an invocation that nobody waits for.
func (c *Client) answer(r *protocol.Response) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Kind {
	case protocol.ConnectedResponse:
		c.info = r.Connected
	case protocol.AckResponse:
		if ack := c.acks[r.AckID]; ack != nil {
			delete(c.acks, r.AckID)
			ack <- failure(r)
		}
	case protocol.InvokeResponse:
		done := c.invokes[r.InvocationID]
		if done == nil {
			return false
		}
		delete(c.invokes, r.InvocationID)
		done(r)
	case protocol.PongResponse:
		if len(c.pongs) > 0 {
			c.pongs[0] <- nil
			c.pongs = c.pongs[1:]
		}
	}
	return true
}

func (c *Client) message(l *link, codec protocol.Codec, r *protocol.Response) {
	if codec.Reliable() && !c.number(r.SequenceID) {
		return
	}
	m := Message{Group: r.Group, FromUserID: r.FromUserID, Data: r.Data, SequenceID: r.SequenceID, Stream: r.Stream}
	if c.options.OnMessage != nil {
		c.options.OnMessage(m)
		return
	}
	m.Data.Bytes = slices.Clone(m.Data.Bytes)
	select {
	case c.messages <- m:
	case <-l.gone:
	}
}

// number notes a sequence id and reports whether it is new. It sees to it that it is acknowledged.
func (c *Client) number(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := id > c.seen
	if fresh {
		c.seen = id
	} else {
		c.repeated++
	}
	if !c.ackTimer && c.options.AckEvery > 0 {
		c.ackTimer = true
		time.AfterFunc(c.options.AckEvery, c.ackSeen)
	}
	return fresh
}

func (c *Client) ackSeen() {
	c.mu.Lock()
	c.ackTimer = false
	id := c.seen
	c.mu.Unlock()
	_ = c.AckSequence(context.Background(), id) // a lost socket is seen by others; a recovery repeats what was not acknowledged
}
