package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// client is what the gateway keeps with a connection, across its sockets.
type client struct {
	g       *Gateway
	conn    *hub.Conn
	session *upstream.Session
	tenant  string
	mode    simpleMode
	flight  flight
	key     []byte // of reconnection tokens, if the connection comes from another node

	mu      sync.Mutex             // guards the following
	streams *stream.Set            // nil until the first is started
	states  *groupstate.ConnStates // what has come from another node and is to be said here
	life    context.Context        // ends with the connection; nil until it is needed
	cancel  context.CancelFunc
	ended   bool
	read    int           // sockets being read
	quiet   chan struct{} // closed when no socket is being read; nil: nobody waits for it
}

// reading counts the sockets being read.
func (c *client) reading(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read += n; c.read == 0 && c.quiet != nil {
		close(c.quiet)
		c.quiet = nil
	}
}

// settle returns when nothing is under way that the client of a connection without socket has asked for.
func (c *client) settle(ctx context.Context) error {
	c.mu.Lock()
	if c.read > 0 && c.quiet == nil {
		c.quiet = make(chan struct{})
	}
	quiet := c.quiet
	c.mu.Unlock()
	if quiet != nil {
		select {
		case <-quiet:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.flight.empty(ctx)
}

// context returns the context of what is done for the connection.
func (c *client) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		c.life, c.cancel = context.WithCancel(c.g.life)
		if c.ended {
			c.cancel()
		}
	}
	return c.life
}

// end ends the connection's context.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// gone is called when the connection has ended for good.
func (c *client) gone(conn *hub.Conn, closing hub.Closing) {
	c.end()
	c.cancelStreams(closing.Reason == hub.ReasonHandedOver)
	c.forgetStates(conn, closing.Reason == hub.ReasonHandedOver)
	c.session.Closed(closing.Text)
	c.g.dismiss(c.tenant) // last: drain takes it that the handler's event is queued
	c.g.recordEnd(conn, closing)
	c.g.log.Debug("connection ended", "hub", conn.Hub.String(), "connection", conn.ID, "reason", string(closing.Reason))
}

// moved is called when the connection has joined or left a group.
func (c *client) moved(conn *hub.Conn, group string, joined bool) {
	if joined {
		c.session.GroupJoined(group)
	} else {
		c.forgetState(conn, group)
		c.session.GroupLeft(group)
	}
}

// reader does what a client asks for over one socket, in the order asked. It never waits for the bus: what is under
// way is bounded by the connection's flight. An event blocks what comes after it, but for pings and the like; an
// invocation only what else is asked of the application.
type reader struct {
	*client
	sock     *socket.Socket
	req      protocol.Request
	settings settings
	address  node.Address // of the group that was sent to last
	throttle throttle

	asked   chan struct{} // closed when all that was asked of the application has been answered; nil: nothing was
	busy    chan struct{} // the same of the last event; nil: it has been answered
	invoked invocations
}

func newReader(c *client, sock *socket.Socket) *reader { return &reader{client: c, sock: sock} }

// run reads until the socket ends, and tells the connection so.
func (r *reader) run() {
	defer r.sock.Close()
	defer r.reading(-1)
	defer r.answered()
	for {
		op, payload, err := r.sock.Read()
		if err != nil {
			r.closed(err)
			return
		}
		switch op {
		case socket.Ping:
			r.g.conns.SendFrame(r.conn, socket.Pong, payload)
			continue
		case socket.Pong:
			continue
		}
		r.g.metrics.bytesIn.Add(float64(len(payload)))
		r.admit()
		if closing, ok := r.handle(op == socket.Binary, payload); !ok {
			r.g.conns.Close(r.conn, closing)
			r.sock.DiscardInput()
			return
		}
	}
}

// admit waits as long as the client sends faster than it may.
func (r *reader) admit() {
	r.renew()
	if limit := r.settings.rate; limit > 0 {
		r.blocked(func() { r.throttle.wait(limit) })
	}
}

// settings are what the tenant's say now about the client's messages.
type settings struct {
	tenant    *tenant.Tenant // that they were taken from: others are another tenant
	rate      int            // how many frames a second the client may send; 0: any number
	listeners []string       // the message logs that get a copy of what goes to groups
}

func settingsOf(t *tenant.Tenant, hub string) settings {
	if t == nil {
		return settings{}
	}
	return settings{t, t.Rate(hub), t.Hub(hub).Listeners}
}

// renew looks whether the tenant's settings have changed.
func (r *reader) renew() {
	t := r.g.tenants.ByName(r.tenant)
	if t == r.settings.tenant {
		return
	}
	r.settings = settingsOf(t, r.conn.Hub.Hub)
}

// blocked waits for wait to return; meanwhile silence of the client is ours.
func (r *reader) blocked(wait func()) {
	r.conn.ReaderBusy.Store(true)
	wait()
	r.conn.ReaderBusy.Store(false)
}

// closed tells the connection how its socket ended (client-json.md 8.3).
func (r *reader) closed(err error) {
	var e *socket.CloseError
	if !errors.As(err, &e) {
		e = &socket.CloseError{Code: socket.CodeAbnormal, Remote: true}
	}
	switch {
	case !e.Remote:
		r.g.log.Info("client broke the protocol", "hub", r.conn.Hub.String(), "connection", r.conn.ID, "code", e.Code, "error", e.Reason)
		r.g.conns.Close(r.conn, hub.Closing{Reason: hub.ReasonProtocol, Code: e.Code, Text: e.Reason})
		r.sock.DiscardInput()
	case e.Code == socket.CodeAbnormal:
		r.g.conns.Detach(r.conn, r.sock, false, hub.ReasonLost.Closing("The connection was lost."))
	default:
		if !r.sock.Closing() {
			_ = r.sock.Write(socket.AppendClose(nil, e.Code, ""), time.Now().Add(time.Second)) // the client may be gone
		}
		final := e.Code == hub.CodeNormal || e.Code == socket.CodeNoStatus
		r.g.conns.Detach(r.conn, r.sock, final, hub.Closing{Reason: hub.ReasonClient, Text: "The client closed the connection."})
	}
}

// handle does what one message asks for. When it is not ok the connection is to be closed.
func (r *reader) handle(binary bool, frame []byte) (closing hub.Closing, ok bool) {
	if err := r.conn.Codec.Decode(binary, frame, &r.req); err != nil {
		return r.malformed(err), false
	}
	r.g.metrics.requests[r.req.Kind].Inc()
	if r.g.recorded(r.conn.Hub.Tenant, recordMessaging) {
		r.g.recordMessage(r.conn, r.req.Kind)
	}
	switch r.req.Kind { // what is done even while an event is under way
	case protocol.Ping:
		r.answer(r.conn.Codec.AppendPong(nil))
		return closing, true
	case protocol.SequenceAck:
		r.g.conns.Acknowledge(r.conn, r.req.SequenceID)
		return closing, true
	case protocol.CancelInvocation:
		r.invoked.cancel(r.req.InvocationID)
		return closing, true
	}
	r.settle()
	if r.req.HasAck && !r.begin() {
		return closing, true
	}
	switch r.req.Kind {
	case protocol.JoinGroup, protocol.LeaveGroup:
		r.regroup()
	case protocol.SendToGroup:
		r.sendToGroup()
	case protocol.SendEvent:
		if r.mode.group != "" {
			return r.sendSimple()
		}
		r.event()
	case protocol.Invoke:
		r.invocation()
	case protocol.StreamStart:
		r.startStream()
	case protocol.StreamData:
		r.streamData()
	case protocol.StreamEnd:
		if streams := r.openStreams(); streams != nil {
			streams.End(r.req.StreamID, r.req.StreamError)
		}
	default:
		r.groupState()
	}
	return closing, true
}

// malformed is how the connection ends of a client that has sent what is no request.
func (r *reader) malformed(err error) hub.Closing {
	closing := hub.ReasonProtocol.Closing(err.Error())
	closing.Code = protocol.CloseInvalidPayload
	if e := (*protocol.DecodeError)(nil); errors.As(err, &e) {
		closing.Code = e.Code
	}
	r.g.log.Info("client broke the protocol", "hub", r.conn.Hub.String(), "connection", r.conn.ID, "code", closing.Code)
	return closing
}

// settle waits until the event under way has been answered.
func (r *reader) settle() {
	if r.busy == nil {
		return
	}
	r.blocked(func() { <-r.busy })
	r.busy = nil
}

// answer sends a finished message to the client's socket, if there is anything to send.
func (c *client) answer(payload []byte) {
	if len(payload) > 0 {
		op := socket.Text
		if c.conn.Codec.Binary() {
			op = socket.Binary
		}
		c.g.conns.SendFrame(c.conn, op, payload)
	}
}

// ack is the ackId of a request, if it has one.
type ack struct {
	id     uint64
	wanted bool
}

func (r *reader) ack() ack { return ack{r.req.AckID, r.req.HasAck} }

// begin reports whether a request with an ackId is to be done; if it has been done before it is answered so
// (client-json.md 3.2). One with the same ackId that is under way is waited for.
func (r *reader) begin() bool {
	id := r.req.AckID
	if r.flight.carries(id) {
		r.blocked(func() { r.flight.land(id) })
	}
	if !r.conn.KnowsAckID(id) {
		return true
	}
	r.answer(r.conn.Codec.AppendAck(nil, id, &protocol.Failure{Name: protocol.Duplicate,
		Message: fmt.Sprintf("Message with ack-id: %d has been processed", id)}))
	return false
}

// finish answers a request, with success unless it has failed.
func (c *client) finish(a ack, failure *protocol.Failure) {
	if !a.wanted {
		return
	}
	if failure == nil {
		c.conn.RememberAckID(a.id)
	}
	c.answer(c.conn.Codec.AppendAck(nil, a.id, failure))
}

func forbidden(format string, args ...any) *protocol.Failure {
	return &protocol.Failure{Name: protocol.Forbidden, Message: fmt.Sprintf(format, args...)}
}

// internal is the failure that clients see when the service is at fault. They may try again.
func internal(what string) *protocol.Failure {
	return &protocol.Failure{Name: protocol.InternalServerError, Message: what}
}

// regroup joins or leaves a group (client-json.md 4.1, 4.2). The ack comes when the membership is effective.
func (r *reader) regroup() {
	group := r.req.Group
	if !r.conn.Allows(webpubsub.JoinLeaveGroup, group) {
		r.finish(r.ack(), forbidden("No permission to join or leave group '%s'.", group))
		return
	}
	ctx := context.Background() // the node has a deadline of its own
	var err error
	r.blocked(func() {
		if r.req.Kind == protocol.JoinGroup {
			err = r.g.node.JoinConn(ctx, r.conn, group)
		} else {
			err = r.g.node.LeaveConn(ctx, r.conn, group)
		}
	})
	switch {
	case err == nil:
		r.finish(r.ack(), nil)
	case errors.Is(err, hub.ErrTooManyGroups):
		r.finish(r.ack(), &protocol.Failure{Name: protocol.BadRequest, Message: err.Error()})
	default:
		r.g.log.Warn("change membership", "hub", r.conn.Hub.String(), "connection", r.conn.ID, "error", err)
		r.finish(r.ack(), internal("The membership could not be changed; please try again."))
	}
}

// sendToGroup posts to a group, and to the hub's message logs; the ack says that both have it (client-json.md 4.3).
func (r *reader) sendToGroup() {
	if !r.conn.Allows(webpubsub.SendToGroup, r.req.Group) {
		r.finish(r.ack(), forbidden("No permission to publish to group '%s'.", r.req.Group))
		return
	}
	r.post(r.ack())
}

// sendSimple is a message of a simple client in sendToGroup mode (client-json.md section 2).
func (r *reader) sendSimple() (closing hub.Closing, ok bool) {
	r.req.Group, r.req.NoEcho = r.mode.group, r.mode.noEcho
	if !r.conn.Allows(webpubsub.SendToGroup, r.mode.group) {
		return hub.ReasonForbidden.Closing(fmt.Sprintf("No permission to publish to group '%s'.", r.mode.group)), false
	}
	r.post(ack{})
	return closing, true
}

// post sends the request to its group and the logs, and answers it when all have answered. It waits only while as
// much is under way as may be.
func (r *reader) post(a ack) {
	if err := r.g.bus.Ready(); err != nil { // at once, and the logs must not have what nobody gets
		r.posted(a, err)
		return
	}
	size := r.req.DataSize()
	if !r.flight.tryTakeOff(a, size) {
		r.blocked(func() { r.flight.takeOff(a, size) })
	}
	p := newPassenger(r.client, a, size)
	landed := p.land
	if names := r.listeners(); len(names) > 0 {
		all := together(1+len(names), func(err error) { p.land(0, err) })
		landed = func(_ int, err error) { all(err) }
		for _, name := range names {
			r.log(name, all)
		}
	}
	r.g.node.PostToGroup(r.conn, &r.req, &r.address, landed)
}

// posted answers a request to send to a group.
func (c *client) posted(a ack, err error) {
	switch {
	case err == nil:
		c.finish(a, nil)
	case c.mode.group != "":
		c.g.conns.Close(c.conn, hub.ReasonUnavailable.Closing("The message could not be sent; please try again."))
	default:
		c.finish(a, internal("The message could not be sent; please try again."))
	}
}

// passenger is a message that is under way. It is pooled, with its bound method, so that waiting for the bus
// allocates nothing.
type passenger struct {
	c    *client
	ack  ack
	size int
	land func(nodes int, err error) // called once
}

var passengers sync.Pool

func newPassenger(c *client, a ack, size int) *passenger {
	p, ok := passengers.Get().(*passenger)
	if !ok {
		p = new(passenger)
		p.land = p.landed
	}
	p.c, p.ack, p.size = c, a, size
	return p
}

func (p *passenger) landed(_ int, err error) {
	c, a, size := p.c, p.ack, p.size
	p.c = nil
	passengers.Put(p)
	if err != nil {
		c.g.log.Warn("send to group", "hub", c.conn.Hub.String(), "connection", c.conn.ID, "error", err)
	}
	c.posted(a, err)
	c.flight.landed(a, size)
}

// together returns a function to be called n times, which then calls done with what errors it was called with.
func together(n int, done func(error)) func(error) {
	var mu sync.Mutex
	var errs []error
	return func(err error) {
		mu.Lock()
		n--
		errs = append(errs, err)
		last := n == 0
		mu.Unlock()
		if last {
			done(errors.Join(errs...))
		}
	}
}

// listeners are the message logs that get a copy.
func (r *reader) listeners() []string {
	if r.g.messages == nil {
		return nil
	}
	return r.settings.listeners
}

func (r *reader) log(name string, landed func(error)) {
	r.g.messages.Append(messagelog.Name(r.tenant, name), messagelog.Entry{
		Hub: r.conn.Hub, Group: r.req.Group, ConnectionID: r.conn.ID, FromUserID: r.conn.UserID, Time: time.Now(),
		Data: r.data(),
	}, landed)
}

// data returns a copy of the request's data.
func (r *reader) data() webpubsub.Data {
	d := r.req.Data()
	d.Bytes = bytes.Clone(d.Bytes)
	return d
}

// event asks the application (client-json.md 4.4). What it answers goes to the client before the ack.
func (r *reader) event() {
	c, a := r.client, r.ack()
	ctx, cancel := context.WithCancel(r.context())
	r.busy = r.ask(ctx, cancel, func(ctx context.Context, name string, d webpubsub.Data) {
		reply, err := c.session.Event(ctx, name, d)
		switch {
		case err == nil:
			if reply != nil {
				c.g.node.SendToConn(c.conn, webpubsub.Message{Data: *reply})
			}
			c.finish(a, nil)
			return
		case ctx.Err() != nil: // the connection has ended
		default:
			c.g.log.Warn("user event", "hub", c.conn.Hub.String(), "connection", c.conn.ID, "event", name, "error", err)
		}
		if c.conn.Codec.ID() == protocol.IDSimple {
			c.g.conns.Close(c.conn, hub.ReasonUpstream.Closing("The application could not handle the message."))
			return
		}
		c.finish(a, internal("The application could not handle the event."))
	})
}

// ask calls f with the request's event once all that was asked before has been answered, in a goroutine of its own:
// pings are answered meanwhile. The channel is closed when f has returned. cancel ends ctx and is called afterwards.
func (r *reader) ask(ctx context.Context, cancel context.CancelFunc, f func(ctx context.Context, name string, d webpubsub.Data)) chan struct{} {
	name, d := r.req.Event, webpubsub.Data{Type: webpubsub.DataText}
	if r.req.HasData() {
		d = r.data()
	}
	before, done := r.asked, make(chan struct{})
	r.asked = done
	go func() { // waited for by answered
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		f(ctx, name, d)
	}()
	return done
}

// answered waits until all that was asked of the application has been answered, but for invocations: they get no
// answer without this socket.
func (r *reader) answered() {
	r.invoked.cancelAll()
	if r.asked != nil {
		<-r.asked
	}
}
