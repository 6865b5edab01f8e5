package wsclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// SendOptions say how to send to a group.
type SendOptions struct {
	NoEcho bool
	TTL    time.Duration // in whole seconds; zero: none
	NoAck  bool          // fire and forget
}

// Join joins a group.
func (c *Client) Join(ctx context.Context, group string) error {
	return c.Do(ctx, &protocol.Request{Kind: protocol.JoinGroup, Group: group, HasAck: true})
}

// Leave leaves a group.
func (c *Client) Leave(ctx context.Context, group string) error {
	return c.Do(ctx, &protocol.Request{Kind: protocol.LeaveGroup, Group: group, HasAck: true})
}

// SendToGroup publishes d to a group.
func (c *Client) SendToGroup(ctx context.Context, group string, d webpubsub.Data, o SendOptions) error {
	r := &protocol.Request{Kind: protocol.SendToGroup, Group: group, NoEcho: o.NoEcho, TTL: o.TTL, HasAck: !o.NoAck}
	r.SetData(d)
	return c.Do(ctx, r)
}

// SendEvent sends a user event to the event handler.
func (c *Client) SendEvent(ctx context.Context, event string, d webpubsub.Data) error {
	r := &protocol.Request{Kind: protocol.SendEvent, Event: event, HasAck: true}
	r.SetData(d)
	return c.Do(ctx, r)
}

// Do sends r and, if it wants an ack, waits for that. A zero AckID is replaced by the next free one. It is for
// requests that the other methods cannot make, such as one with an ackId used before.
func (c *Client) Do(ctx context.Context, r *protocol.Request) error {
	answer, err := c.Start(ctx, r)
	if err != nil {
		return err
	}
	return answer(ctx)
}

// Start is the first half of Do: it sends r and returns what waits for the ack, so that several requests can be on their way,
// in the order in which they were started. Every answer has to be waited for, by one caller.
func (c *Client) Start(ctx context.Context, r *protocol.Request) (answer func(context.Context) error, err error) {
	if !r.HasAck {
		return func(context.Context) error { return nil }, c.send(ctx, r)
	}
	ack := make(chan error, 1)
	c.mu.Lock()
	if r.AckID == 0 {
		c.nextAck++
		r.AckID = c.nextAck
	}
	c.nextAck = max(c.nextAck, r.AckID)
	l, id := c.link, r.AckID
	c.acks[id] = ack
	c.mu.Unlock()
	if err := c.send(ctx, r); err != nil {
		c.forget(id, ack)
		return nil, err
	}
	return func(ctx context.Context) error {
		defer c.forget(id, ack)
		return wait(ctx, l, ack)
	}, nil
}

func (c *Client) forget(id uint64, ack chan error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acks[id] == ack {
		delete(c.acks, id)
	}
}

// wait returns what comes first: an answer, the end of the connection or of ctx.
func wait(ctx context.Context, l *link, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-l.done:
	case <-ctx.Done():
		return fmt.Errorf("wait for an answer: %w", ctx.Err())
	}
	select { // an answer that came before the end
	case err := <-answer:
		return err
	default:
		return l.err
	}
}

// Ping asks for a pong on the application's level and waits for it.
func (c *Client) Ping(ctx context.Context) error {
	pong := make(chan error, 1)
	c.mu.Lock()
	l := c.link
	c.pongs = append(c.pongs, pong)
	c.mu.Unlock()
	if err := c.send(ctx, &protocol.Request{Kind: protocol.Ping}); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pongs = slices.DeleteFunc(c.pongs, func(p chan error) bool { return p == pong }) // else it would get the next one's pong
		return err
	}
	return wait(ctx, l, pong)
}

// Invoke calls an event as a function and returns its result, whose Type is zero when it has none.
func (c *Client) Invoke(ctx context.Context, event string, d webpubsub.Data) (webpubsub.Data, error) {
	var result webpubsub.Data
	answer := make(chan error, 1)
	r := &protocol.Request{Kind: protocol.Invoke, Event: event}
	r.SetData(d)
	c.mu.Lock()
	l := c.link
	c.nextAck++
	r.InvocationID = strconv.FormatUint(c.nextAck, 10)
	c.invokes[r.InvocationID] = func(resp *protocol.Response) {
		result = resp.Data
		result.Bytes = slices.Clone(resp.Data.Bytes)
		answer <- failure(resp)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.invokes, r.InvocationID)
	}()
	if err := c.send(ctx, r); err != nil {
		return result, err
	}
	if err := wait(ctx, l, answer); err != nil {
		return webpubsub.Data{}, err
	}
	return result, nil
}

// failure returns the response's failure as an error, nil if it has none.
func failure(r *protocol.Response) error {
	if r.Failure == nil {
		return nil
	}
	return r.Failure
}

// AckSequence acknowledges all messages up to id. Unless AckEvery is less than 0 that happens by itself.
func (c *Client) AckSequence(ctx context.Context, id uint64) error {
	return c.send(ctx, &protocol.Request{Kind: protocol.SequenceAck, SequenceID: id})
}

var (
	errSimple  = errors.New("a simple client has no requests; it can Send")
	errUnknown = errors.New("the subprotocol has no such request")
)

func (c *Client) send(ctx context.Context, r *protocol.Request) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.mu.Lock()
	codec := c.codec
	c.mu.Unlock()
	if codec == protocol.Simple {
		return errSimple
	}
	if c.scratch = codec.AppendRequest(c.scratch[:0], r); len(c.scratch) == 0 {
		return errUnknown
	}
	return c.sendFrame(ctx, codec.Binary(), c.scratch)
}

// Send sends d as a simple client does: its bytes, in a binary message if the data is.
func (c *Client) Send(ctx context.Context, d webpubsub.Data) error {
	return c.SendFrame(ctx, d.Type == webpubsub.DataBinary || d.Type == webpubsub.DataProtobuf, d.Bytes)
}

// SendFrame sends any bytes as a message, whatever the subprotocol says.
func (c *Client) SendFrame(ctx context.Context, binary bool, b []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	return c.sendFrame(ctx, binary, b)
}

// sendFrame writes b whole even when ctx ends, as half a frame would end the connection.
func (c *Client) sendFrame(ctx context.Context, binary bool, b []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	l := c.current()
	if err := l.Socket.Write(binary, b); err != nil {
		select {
		case <-l.done:
			return l.err
		default:
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}
