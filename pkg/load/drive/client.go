package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// client is one connection of the plan, over as many sockets as it takes.
type client struct {
	scenario.Client
	run      *run
	index    int // in the plan
	seat     int // among the clients of this process
	userID   string
	endpoint string
	codec    protocol.Codec
	receiver *truth.Receiver
	person   *person // in chat journeys

	ready   atomic.Bool // connected, and in all its groups
	cutting atomic.Bool // we lost the socket on purpose

	mu      sync.Mutex       // guards the following
	socket  *wsclient.Socket // nil while there is none
	nextAck uint64
	lastAck uint64 // asked for on a socket that is lost; the answer may come on a later one
	pending map[uint64]pending
	joining int      // joins and leaves that were not answered
	rejoin  []string // groups whose join or leave a lost socket left open
	id      string   // of a connection that can be recovered; empty: there is none
	token   string   // for that
	lostAt  int64    // when the last socket ended, zero while there is one
	scratch []byte

	hasBeenReady bool
	idle         bool

	// Of the reading goroutine.
	base     string // of the URL that was connected to, without the query
	sequence uint64 // largest received
	sinceAck int    // messages since the last acknowledgement

	toAcknowledge atomic.Uint64 // sequence id that is not yet acknowledged, zero: none
}

// refusal is an answer to a handshake, or to what comes before it, that says no.
type refusal struct {
	status int
	body   string
}

const refusalBytes = 300 // of the answer's body that are quoted

func (e *refusal) Error() string {
	return fmt.Sprintf("the handshake was answered with %d %s: %s", e.status, http.StatusText(e.status), e.body)
}

// pending is a request without an answer so far.
type pending struct {
	kind   measure.Kind
	due    int64
	stream *truth.Stream // of a message
	number uint32
	group  string // of a join or leave
	leave  bool
}

// sequences that may go unacknowledged for the moment; the run's ticker acknowledges the rest.
const ackAfter = 256

const (
	firstWait = 100 * time.Millisecond // before a connection is tried again
	maxWait   = 5 * time.Second
	dialTime  = 30 * time.Second // for a handshake, or a call: what takes longer is an error, and no latency

	slowBuffer = 2 << 10 // bytes that the kernel keeps for a client that reads slowly
)

// stayConnected connects, reads and connects again until ctx ends.
func (c *client) stayConnected(ctx context.Context) {
	again := backoff.Backoff{First: firstWait, Last: maxWait, Spread: backoff.Around}
	for ctx.Err() == nil && !c.run.ending.Load() {
		err := c.connect(ctx)
		if err == nil {
			again.Reset()
			c.run.connections.Add(1)
			err = c.read(ctx)
			c.run.connections.Add(-1)
		}
		c.lost(ctx, err)
		_ = again.Wait(ctx)
	}
}

// connect opens a socket, recovers the connection if that is possible, and joins the groups.
func (c *client) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	target, recovering, err := c.target(ctx)
	if err != nil {
		return err
	}
	started := c.run.now()
	if !recovering {
		c.receiver.Joining(c.userID, started)
	}
	if c.Subprotocol == scenario.Simple { // the token is the join
		c.each(func(group string) { c.receiver.Joining(group, started) })
	}
	s, err := c.open(ctx, target)
	if err != nil {
		return err
	}
	if c.Subprotocol != scenario.Simple {
		if err := c.waitConnected(ctx, s, recovering); err != nil {
			s.Drop()
			return err
		}
	}
	now := c.run.now()
	c.run.record(c.seat, measure.Connect, now-started)
	c.run.totals.connects.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.socket, c.lostAt = s, 0
	if !recovering {
		c.receiver.Joined(c.userID, now)
	}
	switch {
	case recovering:
		c.run.totals.recoveries.Add(1)
		for _, group := range c.rejoin {
			c.join(group, now)
		}
	case c.Subprotocol == scenario.Simple:
		c.each(func(group string) { c.receiver.Joined(group, now) })
	default:
		for _, g := range c.Groups {
			c.join(c.run.group(g), now)
		}
	}
	if !recovering {
		c.sequence, c.sinceAck = 0, 0
		c.toAcknowledge.Store(0)
	}
	c.rejoin = nil
	if c.joining == 0 {
		c.becomeReady()
	}
	return nil
}

// open opens a socket.
func (c *client) open(ctx context.Context, target string) (*wsclient.Socket, error) {
	o := wsclient.SocketOptions{Dial: c.run.dialer(c.seat).DialContext, TLS: c.run.options.TLS}
	if name := c.codec.Name(); name != "" {
		o.Subprotocols = []string{name}
	}
	s, err := wsclient.OpenSocket(ctx, target, o)
	if err != nil {
		if refused := (*wsclient.HandshakeError)(nil); errors.As(err, &refused) {
			return nil, &refusal{refused.Status, strings.TrimSpace(refused.Body[:min(len(refused.Body), refusalBytes)])}
		}
		return nil, err
	}
	if got := s.Subprotocol(); got != c.codec.Name() {
		s.Drop()
		return nil, fmt.Errorf("the server chose the subprotocol %q, not %q", got, c.codec.Name())
	}
	if tcp, ok := s.NetConn().(*net.TCPConn); ok && c.Slow {
		_ = tcp.SetReadBuffer(slowBuffer) // else the kernel reads fast
	}
	return s, nil
}

// waitConnected waits for the connected message, and for a new person also until the chat knows about it.
func (c *client) waitConnected(ctx context.Context, s *wsclient.Socket, recovering bool) error {
	connected := false
	stop := context.AfterFunc(ctx, func() { _ = s.NetConn().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		binary, payload, ok, err := s.Next()
		switch {
		case err != nil:
			if end := (*wsclient.CloseError)(nil); errors.As(err, &end) {
				c.setID("", "") // a refused recovery is final
			}
			return err
		case !ok:
			if _, err := s.Fill(); err != nil {
				return fmt.Errorf("wait for the connected message: %w", err)
			}
		case connected && isOnline(payload):
			return nil
		case !connected:
			var r protocol.Response
			if err := c.codec.DecodeResponse(binary, payload, &r); err != nil {
				return fmt.Errorf("the first message: %w", err)
			}
			if r.Kind != protocol.ConnectedResponse {
				return fmt.Errorf("the first message is not connected: %.100q", payload)
			}
			if c.codec.Reliable() {
				c.setID(r.Connected.ConnectionID, r.Connected.ReconnectionToken)
			}
			if connected = true; c.person == nil || recovering {
				return nil
			}
		}
	}
}

func (c *client) setID(id, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id, c.token = id, token
}

// target is the URL to connect to, and whether that recovers the connection.
func (c *client) target(ctx context.Context) (target string, recovering bool, err error) {
	if target = c.recovery(); target != "" {
		return target, true, nil
	}
	if c.person != nil {
		target, err = c.person.negotiate(ctx)
	} else {
		var groups []string
		if c.Subprotocol == scenario.Simple {
			c.each(func(group string) { groups = append(groups, group) })
		}
		target, err = c.run.clientURL(c.endpoint, c.userID, groups)
	}
	c.base, _, _ = strings.Cut(target, "?")
	return target, false, err
}

// recovery returns the URL at which a lost connection can be recovered, "" when it cannot be recovered (any more).
func (c *client) recovery() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != "" && c.lostAt != 0 && c.run.now()-c.lostAt > int64(recoverTime) {
		c.id, c.token = "", ""
		c.gone(c.lostAt, c.run.now())
	}
	if c.id == "" {
		return ""
	}
	return c.base + "?" + url.Values{"awps_connection_id": {c.id}, "awps_reconnection_token": {c.token}}.Encode()
}

func (c *client) each(f func(group string)) {
	for _, g := range c.Groups {
		f(c.run.group(g))
	}
}

// join sends a request to join a group. The caller holds mu.
func (c *client) join(group string, due int64) {
	c.joining++
	c.receiver.Joining(group, c.run.now())
	r := protocol.Request{Kind: protocol.JoinGroup, Group: group}
	if c.person != nil {
		r = joinChat(group)
	}
	c.ask(r, pending{kind: measure.Join, due: due, group: group})
}

// ask sends a request that is answered by an ack. The caller holds mu and has seen a socket.
func (c *client) ask(r protocol.Request, p pending) {
	c.nextAck++
	c.pending[c.nextAck] = p
	r.HasAck, r.AckID = true, c.nextAck
	if r.Kind == protocol.Invoke {
		r.HasAck, r.InvocationID = false, strconv.FormatUint(c.nextAck, 10)
	}
	c.request(&r)
	c.run.unanswered.Add(1)
}

// request sends r. The caller holds mu and has seen a socket.
func (c *client) request(r *protocol.Request) {
	c.scratch = c.codec.AppendRequest(c.scratch[:0], r)
	c.socket.Queue(c.codec.Binary(), c.scratch)
}

// publish sends message number n+1 of a stream, due at due; false when there is no connection to do it.
func (c *client) publish(stream *truth.Stream, due int64, size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil || !c.ready.Load() || c.person != nil && c.joining > 0 { // a person that is not in a room yet cannot type into it
		return false
	}
	number := stream.Send(c.run.now())
	payload := c.run.id.Append(nil, truth.Stamp{Stream: stream.ID, Number: number, Due: due}, size)
	r := protocol.Request{Kind: protocol.SendToGroup, Group: stream.Target, NoEcho: c.run.scenario.Publish.NoEcho}
	r.SetData(webpubsub.Data{Type: webpubsub.DataText, Bytes: payload})
	if c.person != nil {
		r.SetData(line(c.run.id, stream, number, payload))
	}
	c.ask(r, pending{kind: measure.Ack, due: due, stream: stream, number: number})
	return true
}

// leave leaves a group, to join it again when that is confirmed; false when it is not a member now.
func (c *client) leave(group string, due int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil || !c.ready.Load() || c.joining > 0 {
		return false
	}
	c.joining++
	c.receiver.Leaving(group, c.run.now())
	r := protocol.Request{Kind: protocol.LeaveGroup, Group: group}
	if c.person != nil {
		r = leaveChat(group)
	}
	c.ask(r, pending{kind: measure.Join, due: due, group: group, leave: true})
	return true
}

// event sends an event, or invokes its handler.
func (c *client) event(name string, invoke bool, due int64, size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil || !c.ready.Load() {
		return false
	}
	r := protocol.Request{Kind: protocol.SendEvent, Event: name}
	if invoke {
		r.Kind = protocol.Invoke
	}
	r.SetData(webpubsub.Data{Type: webpubsub.DataText, Bytes: bytes.Repeat([]byte{'e'}, size)})
	c.ask(r, pending{kind: measure.Event, due: due})
	return true
}

// toggleIdle makes the person idle, or active again.
func (c *client) toggleIdle(due int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil || !c.ready.Load() {
		return false
	}
	name := map[bool]string{false: "userEnterIdle", true: "userExitIdle"}[c.idle]
	c.idle = !c.idle
	c.ask(event(name, webpubsub.DataText, ""), pending{kind: measure.Event, due: due})
	return true
}

// cut breaks the socket as a failing network does; false when there is none.
func (c *client) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return false
	}
	c.cutting.Store(true)
	since := c.run.now() // from now on nothing is due, but until the socket is dropped it may come
	c.socket.Drop()
	c.gone(since, c.run.now())
	return true
}

// closeNormally closes the connection for good.
func (c *client) closeNormally() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != nil {
		c.socket.QueueClose(1000)
	}
}

// gone records that the socket has ended between two moments, and with it the memberships of a connection that cannot be
// recovered. The caller holds mu.
func (c *client) gone(since, now int64) {
	if c.lostAt == 0 {
		c.lostAt = since
	}
	if c.id == "" {
		c.receiver.Gone(c.lostAt, now)
	}
}

// read handles what the server sends until the socket ends, and returns why.
func (c *client) read(ctx context.Context) error {
	s := c.socket
	stop := context.AfterFunc(ctx, s.Drop)
	defer stop()
	for {
		now := c.run.now()
		for {
			_, payload, ok, err := s.Next()
			if err == nil && !ok {
				break
			}
			if err == nil {
				err = c.message(payload, now)
			}
			if err != nil {
				s.Drop()
				return err
			}
		}
		n, err := s.Fill()
		if err != nil {
			s.Drop()
			return err
		}
		c.run.totals.bytes.Add(int64(n))
		if c.Slow {
			c.run.sleep(ctx, time.Duration(n)*time.Second/time.Duration(c.run.scenario.Slow.Rate))
		}
	}
}

// lost records how a socket ended, or why there was none.
func (c *client) lost(ctx context.Context, err error) {
	c.mu.Lock()
	c.socket = nil
	c.ready.Store(false)
	c.run.unanswered.Add(-int64(len(c.pending)))
	for _, p := range c.pending {
		c.run.giveUp(p)
		if p.group != "" {
			c.rejoin = append(c.rejoin, p.group)
		}
	}
	clear(c.pending)
	c.lastAck = c.nextAck
	c.joining = 0
	now := c.run.now()
	c.gone(now, now)
	c.mu.Unlock()
	if wanted := c.cutting.Swap(false) || ctx.Err() != nil || c.run.ending.Load(); !wanted {
		c.run.failed(connectionError(err))
		var refused *refusal
		if errors.As(err, &refused) && refused.status/100 == 4 && refused.status != http.StatusTooManyRequests {
			c.run.declined.Store(refused)
		}
	}
}

// connectionError names a cause in the same words for every connection that it ends.
func connectionError(err error) string {
	var refused *refusal
	var end *wsclient.CloseError
	var op *net.OpError
	switch {
	case errors.As(err, &refused):
		return err.Error()
	case errors.As(err, &end):
		return fmt.Sprintf("closed by the server with %d %s", end.Code, end.Reason)
	case errors.As(err, &op):
		return "connection: " + op.Op + ": " + op.Err.Error()
	}
	return "connection: " + err.Error()
}

// message handles one message. Those of the run are found by their stamp, which costs less than decoding.
func (c *client) message(payload []byte, now int64) error {
	stamp, ours := c.run.id.Find(payload)
	if c.codec.Reliable() {
		if n := c.number(payload); n > 0 && c.repeated(n) {
			c.run.totals.repeated.Add(1)
			return nil
		}
	}
	if ours {
		c.run.delivered(c, stamp, now)
		return nil
	}
	if c.Subprotocol == scenario.Simple {
		return nil // somebody else's, on the same hub
	}
	var r protocol.Response
	if err := c.codec.DecodeResponse(c.codec.Binary(), payload, &r); err != nil {
		return fmt.Errorf("the server sent what its subprotocol does not have: %w", err)
	}
	switch r.Kind {
	case protocol.AckResponse:
		c.answered(r.AckID, r.Failure, now)
	case protocol.InvokeResponse:
		if id, err := strconv.ParseUint(r.InvocationID, 10, 64); err == nil {
			c.answered(id, r.Failure, now)
		}
	}
	return nil
}

var sequenceMember = []byte(`"sequenceId":`)

// number returns the sequence id of a reliable connection's message, 0 if it has none.
func (c *client) number(payload []byte) (n uint64) {
	if c.codec.Binary() {
		var r protocol.Response
		_ = c.codec.DecodeResponse(true, payload, &r) // said elsewhere: it is none of the run's messages
		return r.SequenceID
	}
	i := bytes.Index(payload, sequenceMember)
	if i < 0 {
		return 0
	}
	for _, d := range payload[i+len(sequenceMember):] {
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + uint64(d-'0')
	}
	return n
}

// repeated records a sequence id and reports whether its message was received before, as the SDKs do.
func (c *client) repeated(n uint64) bool {
	if n <= c.sequence {
		return true
	}
	c.sequence = n
	c.toAcknowledge.Store(n)
	if c.sinceAck++; c.sinceAck >= ackAfter {
		c.acknowledge()
		c.sinceAck = 0
	}
	return false
}

// acknowledge tells the server of a reliable connection what has arrived.
func (c *client) acknowledge() {
	if c.toAcknowledge.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return
	}
	n := c.toAcknowledge.Swap(0)
	c.request(&protocol.Request{Kind: protocol.SequenceAck, SequenceID: n})
}

// answered handles an ack.
func (c *client) answered(id uint64, failure *protocol.Failure, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, known := c.pending[id]
	if !known {
		if id > c.lastAck {
			c.run.failed("an ack that was not asked for")
		}
		return
	}
	delete(c.pending, id)
	c.run.unanswered.Add(-1)
	c.run.record(c.seat, p.kind, now-p.due)
	if failure != nil {
		c.run.failed(fmt.Sprintf("%s refused: %s", p.what(), failure.Name))
	}
	switch {
	case p.stream != nil:
		c.run.acked(p, failure == nil, now)
	case p.leave:
		c.joining--
		if failure == nil {
			c.receiver.Left(p.group, now)
			if c.socket != nil {
				c.join(p.group, c.run.now())
			}
		}
	case p.group != "":
		c.joining--
		if failure == nil {
			c.receiver.Joined(p.group, now)
		}
		if c.joining == 0 {
			c.becomeReady()
		}
	}
}

func (p pending) what() string {
	switch {
	case p.stream != nil:
		return "message"
	case p.leave:
		return "leave"
	case p.group != "":
		return "join"
	}
	return "event"
}

func (c *client) becomeReady() {
	c.ready.Store(true)
	c.run.markReady(c)
}
