package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// reader does what a client asks for over one socket, in the order in which it asks. It does not wait until the bus has a
// message; how much may be in flight meanwhile is bounded (inFlight). Nor does it wait for the application: what that is asked waits in
// order by itself, within bounds (asks), while what comes after it is done.
type reader struct {
	*Client
	sock     *socket.Socket
	req      protocol.Request
	settings settings
	address  node.Address // of the group that was sent to last
	throttle throttle
	leftAt   time.Time // when it was seen that the client has left while it is slowed down

	lastAsked chan struct{} // closed when the last message was published or not that a handler was asked about; nil: there was none
	invoked   invocations
}

func newReader(c *Client, sock *socket.Socket) *reader { return &reader{Client: c, sock: sock} }

// run reads until the socket ends, and tells the connection so.
func (r *reader) run() {
	defer r.sock.Close()
	defer r.addWorkers(-1)
	defer r.invoked.cancelAll() // their answers could go to this socket only
	for {
		op, payload, err := r.sock.Read()
		if err != nil {
			r.socketEnded(err)
			return
		}
		switch op {
		case socket.Ping:
			r.shared.conns.SendFrame(r.conn, socket.Pong, payload)
			continue
		case socket.Pong:
			continue
		}
		r.shared.metrics.bytesIn.Add(float64(len(payload)))
		if !r.limitRate() {
			r.leftThrottled()
			return
		}
		if closing, ok := r.handle(op == socket.Binary, payload); !ok {
			r.shared.conns.Close(r.conn, closing)
			r.sock.DiscardInput()
			return
		}
	}
}

// blocked waits for wait to return. As nothing is read meanwhile, keep-alive does not take the client's silence for its end.
func (r *reader) blocked(wait func()) {
	r.conn.ReaderBusy.Store(true)
	wait()
	r.conn.ReaderBusy.Store(false)
}

// socketEnded tells the connection how its socket ended (client-json.md 8.3).
func (r *reader) socketEnded(err error) {
	var e *socket.CloseError
	if !errors.As(err, &e) {
		e = &socket.CloseError{Code: socket.CodeAbnormal, Remote: true}
	}
	switch {
	case !e.Remote:
		r.logBounded(slog.LevelInfo, brokeProtocol, slog.Int("code", int(e.Code)), slog.String("error", e.Reason))
		r.shared.conns.Close(r.conn, hub.Closing{Reason: hub.ReasonProtocol, Code: e.Code, Text: e.Reason})
		r.sock.DiscardInput()
	case e.Code == socket.CodeAbnormal:
		r.shared.conns.Detach(r.conn, r.sock, false, hub.ReasonLost.Closing("The connection was lost."))
	default:
		if !r.sock.Closing() {
			_ = r.sock.Write(socket.AppendClose(nil, e.Code, ""), time.Now().Add(time.Second)) // the client may be gone
		}
		final := e.Code == hub.CodeNormal || e.Code == socket.CodeNoStatus
		r.shared.conns.Detach(r.conn, r.sock, final, hub.Closing{Reason: hub.ReasonClient, Text: "The client closed the connection."})
	}
}

// handle does what one message asks for. Unless it is ok the connection is to be closed, in the way of closing.
func (r *reader) handle(binary bool, frame []byte) (closing hub.Closing, ok bool) {
	if err := r.conn.Codec.Decode(binary, frame, &r.req); err != nil {
		return r.malformed(err), false
	}
	r.shared.metrics.requests[r.req.Kind].Inc()
	r.shared.audit.Message(r.conn, r.req.Kind)
	if r.req.HasAck && r.isRepeated() {
		return closing, true
	}
	switch r.req.Kind {
	case protocol.Ping:
		r.reply(r.conn.Codec.AppendPong(nil))
	case protocol.SequenceAck:
		r.shared.conns.Acknowledge(r.conn, r.req.SequenceID)
	case protocol.CancelInvocation:
		r.invoked.cancel(r.req.InvocationID)
	case protocol.JoinGroup, protocol.LeaveGroup:
		r.changeMembership()
	case protocol.SendToGroup:
		r.sendToGroup()
	case protocol.SendEvent:
		if r.mode.Group != "" {
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

// malformed is how a connection ends whose client has sent something that is no request.
func (r *reader) malformed(err error) hub.Closing {
	closing := hub.ReasonProtocol.Closing(err.Error())
	closing.Code = protocol.CloseInvalidPayload
	if e := (*protocol.DecodeError)(nil); errors.As(err, &e) {
		closing.Code = e.Code
	}
	r.logBounded(slog.LevelInfo, brokeProtocol, slog.Int("code", int(closing.Code)))
	return closing
}

const brokeProtocol = "client broke the protocol"

// allows reports whether the connection may do p with a group. An event that was sent before may give it the right: what would be refused
// waits until that is answered, for there are clients that ask for no ack.
func (r *reader) allows(p webpubsub.Permission, group string) bool {
	if r.conn.Allows(p, group) {
		return true
	}
	r.mu.Lock()
	a := r.asks
	r.mu.Unlock()
	if a == nil || !a.events.busy() {
		return false
	}
	r.blocked(a.events.awaitAnswers)
	return r.conn.Allows(p, group)
}

// forbidden is the failure of a request for which the client has no permission.
func forbidden(format string, args ...any) *protocol.Failure {
	return &protocol.Failure{Name: protocol.Forbidden, Message: fmt.Sprintf(format, args...)}
}

// internal is the failure that clients see when the service is at fault. They may try again.
func internal(what string) *protocol.Failure {
	return &protocol.Failure{Name: protocol.InternalServerError, Message: what}
}

// changeMembership joins or leaves a group (client-json.md 4.1, 4.2). The ack comes when the membership is effective.
func (r *reader) changeMembership() {
	group := r.req.Group
	if !r.allows(webpubsub.JoinLeaveGroup, group) {
		r.acknowledge(r.ack(), forbidden("No permission to join or leave group '%s'.", group))
		return
	}
	ctx := context.Background() // the node has a deadline of its own
	var err error
	r.blocked(func() {
		if r.req.Kind == protocol.JoinGroup {
			err = r.shared.node.JoinConn(ctx, r.conn, group)
		} else {
			err = r.shared.node.LeaveConn(ctx, r.conn, group)
		}
	})
	switch {
	case err == nil:
		r.acknowledge(r.ack(), nil)
	case errors.Is(err, hub.ErrTooManyGroups):
		r.acknowledge(r.ack(), &protocol.Failure{Name: protocol.BadRequest, Message: err.Error()})
	default:
		r.warn("change membership", err)
		r.acknowledge(r.ack(), internal("The membership could not be changed; please try again."))
	}
}
