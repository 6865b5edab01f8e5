// Package wsclient is a client of the platform's WebSocket protocols, for tests and load.
//
// A Client is one connection as the application sees it. Dial opens it; with a reliable subprotocol Recover takes
// it up again on a new socket after the old one was lost. Unlike the official SDKs it does nothing by itself: it
// neither reconnects nor retries, so that a test sees what happens. It does acknowledge sequence ids and drop
// repeated messages as those do.
//
// A Socket is what is below a Client: whole messages and nothing of what they mean, for a tenth of the cost.
//
// A Client's methods are safe for concurrent use. Requests wait for their ack; one that the server refuses gives an *AckError,
// one that a lost connection cut short a *CloseError.
package wsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Options say how to connect. The zero value is a simple client.
type Options struct {
	// Subprotocols are offered in this order; the server's choice decides how frames look. None of ours: raw frames.
	Subprotocols []string

	Compression bool // offer permessage-deflate, each message by itself

	Header http.Header // of the handshake, for a token, say

	Dial func(ctx context.Context, network, address string) (net.Conn, error) // default: a net.Dialer's
	TLS  *tls.Config                                                          // for wss and https

	// OnMessage gets each message on the reading goroutine, which it holds up: it must not wait for an ack or close
	// the connection. The data is valid during the call. Without it messages go to Messages.
	OnMessage func(Message)

	Buffer   int           // what Messages and Notices hold each before reading waits; 1024 otherwise
	AckEvery time.Duration // how long a message may stay unacknowledged; 1 s otherwise, less than 0: see AckSequence
}

// Message is what the server sends for the application.
type Message struct {
	Group      string // empty: from the server, or a simple client
	FromUserID string
	Data       webpubsub.Data
	SequenceID uint64               // zero: the subprotocol is not reliable
	Stream     *protocol.StreamInfo // nil: not of a stream
}

// AckError says why the server did not do what was asked.
type AckError = protocol.Failure

// CloseError says how a connection ended.
type CloseError struct {
	Code   int // 1006 without a close frame
	Reason string
	System string // what the server's disconnected message said before
	err    error
}

func (e *CloseError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("connection closed with %d %q", e.Code, e.Reason)
	}
	return fmt.Sprintf("connection closed with %d %q: %v", e.Code, e.Reason, e.err)
}

func (e *CloseError) Unwrap() error { return e.err }

// HandshakeError is an answer other than 101 to the handshake.
type HandshakeError struct {
	Status int
	Body   string // the first 1 KiB
	Header http.Header
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("handshake answered with %d: %s", e.Status, e.Body)
}

// Client is one connection.
type Client struct {
	url      string
	options  Options
	codec    protocol.Codec
	messages chan Message
	notices  chan *protocol.Response

	mu       sync.Mutex // guards the following
	link     *link
	info     protocol.Connected
	nextAck  uint64
	acks     map[uint64]chan error
	invokes  map[string]func(*protocol.Response)
	pongs    []chan error
	seen     uint64 // largest sequence id received
	ackTimer bool   // an acknowledgement is on its way
	repeated uint64

	write   sync.Mutex // held while writing; guards the following
	scratch []byte
}

// link is a socket of the connection.
type link struct {
	*Socket
	first chan struct{} // closed with the first message
	gone  chan struct{} // closed by Close and Drop: nobody reads messages any more
	once  sync.Once     // closes gone
	done  chan struct{} // closed when reading has ended, after err was set
	err   *CloseError
}

// Limits.
const (
	defaultBuffer = 1024
	defaultAck    = time.Second
	closeTimeout  = 5 * time.Second // for the server's answer to a close frame
)

// Dial connects to a client URL (ws, wss, http or https). With a subprotocol of ours it returns when the server has
// said connected. The error is a *HandshakeError when the server refuses.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	if o.Buffer == 0 {
		o.Buffer = defaultBuffer
	}
	if o.AckEvery == 0 {
		o.AckEvery = defaultAck
	}
	c := &Client{url: url, options: o, messages: make(chan Message, o.Buffer),
		notices: make(chan *protocol.Response, o.Buffer), acks: map[uint64]chan error{}, invokes: map[string]func(*protocol.Response){}}
	if err := c.connect(ctx, url); err != nil {
		return nil, err
	}
	return c, nil
}

// Recover takes a reliable connection up on a new socket and returns when the server has said connected again, or a
// *CloseError with code 1008 when it refuses. The old socket is dropped if it is still there.
func (c *Client) Recover(ctx context.Context) error { return c.RecoverAt(ctx, c.url) }

// RecoverAt is Recover at another client URL, that of another node.
func (c *Client) RecoverAt(ctx context.Context, address string) error {
	c.Drop()
	info := c.Info()
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	query := u.Query()
	query.Set("awps_connection_id", info.ConnectionID)
	query.Set("awps_reconnection_token", info.ReconnectionToken)
	u.RawQuery = query.Encode()
	return c.connect(ctx, u.String())
}

func (c *Client) connect(ctx context.Context, url string) error {
	o := &c.options
	socket, err := OpenSocket(ctx, url, SocketOptions{Subprotocols: o.Subprotocols, Header: o.Header, Compression: o.Compression, Dial: o.Dial, TLS: o.TLS})
	if refused := (*HandshakeError)(nil); errors.As(err, &refused) {
		return refused
	}
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	l := &link{Socket: socket, first: make(chan struct{}), gone: make(chan struct{}), done: make(chan struct{})}
	codec, ours := protocol.ByName(socket.Subprotocol())
	if !ours {
		codec = protocol.Simple
	}
	c.mu.Lock()
	c.codec, c.link, c.pongs = codec, l, nil
	c.mu.Unlock()
	go c.read(l, codec)
	if !ours {
		return nil
	}
	select {
	case <-l.first:
		return nil
	case <-l.done:
		return l.err
	case <-ctx.Done():
		c.Drop()
		return fmt.Errorf("wait for the connected message: %w", ctx.Err())
	}
}

// Info returns what the last connected message said.
func (c *Client) Info() protocol.Connected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Subprotocol returns what the server chose; empty for none.
func (c *Client) Subprotocol() string { return c.current().Socket.Subprotocol() }

// Compressed reports whether the server has agreed to permessage-deflate.
func (c *Client) Compressed() bool { return c.current().Socket.Compressed() }

// Messages returns the channel of received messages, across recoveries. It is never closed: see Done and Receive.
func (c *Client) Messages() <-chan Message { return c.messages }

// Notices returns the channel of what the server says about the client's streams and about group state, and of answers
// to invocations that no Invoke waits for, like Messages. Whoever starts streams or subscribes must read it.
func (c *Client) Notices() <-chan *protocol.Response { return c.notices }

// Receive returns the next message, or how the connection ended when all before that have been received.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	l := c.current()
	select {
	case m := <-c.messages:
		return m, nil
	case <-ctx.Done():
		return Message{}, fmt.Errorf("receive: %w", ctx.Err())
	case <-l.done:
	}
	select { // what came before the end
	case m := <-c.messages:
		return m, nil
	default:
		return Message{}, l.err
	}
}

// Done is closed when the present socket has ended.
func (c *Client) Done() <-chan struct{} { return c.current().done }

// Wait returns how the present socket ended, when it has.
func (c *Client) Wait(ctx context.Context) (*CloseError, error) {
	l := c.current()
	select {
	case <-l.done:
		return l.err, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the end of the connection: %w", ctx.Err())
	}
}

// Repeated returns how many messages came with a sequence id that had been received before; they are dropped.
func (c *Client) Repeated() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.repeated
}

// Close closes with a close frame and waits for the server's, both together up to 5 s. Code 1000 ends a reliable connection for
// good.
func (c *Client) Close(code int, reason string) error {
	l := c.current()
	l.once.Do(func() { close(l.gone) })
	tooLong := time.AfterFunc(closeTimeout, l.Socket.Drop)
	defer tooLong.Stop()
	err := l.WriteClose(code, reason)
	<-l.done
	if err == nil && l.err.Code == codeAbnormal {
		err = l.err
	}
	return err
}

// Drop cuts the connection without a word, as a lost network does.
func (c *Client) Drop() {
	l := c.current()
	l.once.Do(func() { close(l.gone) })
	l.Socket.Drop()
	<-l.done
}

func (c *Client) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}
