package hub

import (
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// A connection is new until its first socket, then attached. A reliable one is detached while it has no socket, for at most
// the recovery time; then it ends, as others do with their socket (client-json.md section 8). What has ended stays so.

// attach gives c a socket and lets what waits go to it.
func (w *writer) attach(c *Conn, sock *socket.Socket, connected protocol.Connected) bool {
	if c.state == stateEnded || c.Frozen() {
		return false
	}
	if c.sock != nil { // the client has noticed the loss before us (client-json.md 8.2)
		_ = c.sock.Close()
	}
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	unsent := c.unsent()
	c.state, c.sock, c.compress, c.outbox = stateAttached, sock, sock.Compressed(), nil
	c.activityAtPing = sock.Activity() - 1 // the handshake counts as a sign of life
	w.pings.schedule(c)
	first := sock.HandshakeResponse()
	if frame := c.Codec.AppendConnected(nil, connected); len(frame) > 0 {
		first = socket.AppendFrame(first, opcode(c.Codec.Binary()), frame)
	}
	if len(unsent) == 0 {
		w.writeNow(c, first, true)
		return true
	}
	w.startOutbox(c, append([]item{{frame: first}}, unsent...))
	return true
}

// unsent returns what c has to get on a new socket: all that is unacknowledged, or what came before its first.
func (c *Conn) unsent() (items []item) {
	if c.unacked != nil {
		c.unacked.each(func(seq uint64, m *Message) { items = append(items, item{m: m, seq: seq}) })
		return items
	}
	return c.outbox.items[c.outbox.first:]
}

// detach takes c's socket away, if it is sock. That the client has closed (final) counts also when a write has failed just
// before: the write failed because the client was closing.
func (w *writer) detach(c *Conn, sock *socket.Socket, final bool, closing Closing) {
	switch {
	case c.state == stateEnded || c.sock != sock:
		return
	case w.helping: // what follows takes locks that the helping goroutine may hold
		w.push(job{op: opDetach, conn: c, extra: detachment{sock, final, closing}})
		return
	case final || c.unacked == nil:
		w.endConn(c, closing)
		return
	case c.state == stateDetached:
		return
	}
	_ = sock.Close()
	c.state, c.outbox = stateDetached, nil
	w.scheduleExpiry(c)
}

// scheduleExpiry ends c unless its client comes back within the recovery time. An expiry that is queued while the client is
// coming back is known by its number, that of the detachment, to be out of date.
func (w *writer) scheduleExpiry(c *Conn) {
	c.detachments++
	detachment := c.detachments
	c.expiry = time.AfterFunc(w.r.recovery, func() { w.push(job{op: opExpire, conn: c, seq: detachment}) })
}

// close tells the client how its connection ends, and ends it.
func (w *writer) close(c *Conn, closing Closing) {
	if w.helping { // as in detach
		w.push(job{op: opClose, conn: c, extra: closing})
		return
	}
	if c.state != stateAttached || closing.Code == 0 {
		w.endConn(c, closing)
		return
	}
	sock, out := c.sock, c.outbox
	c.sock = nil // so that endConn does not close it: the client is to read what is under way
	w.endConn(c, closing)

	var b []byte
	if text := c.Codec.AppendDisconnected(nil, closing.Text); len(text) > 0 {
		b = socket.AppendFrame(b, opcode(c.Codec.Binary()), text)
	}
	w.writeCloseFrame(sock, out, b, closing)
}

// askToReconnect asks the client of a reliable connection to come back by another socket, for which the connection waits. Other
// connections end.
func (w *writer) askToReconnect(c *Conn, closing Closing) {
	switch {
	case c.unacked == nil || c.state == stateNew:
		w.close(c, closing)
	case c.state == stateAttached:
		sock, out := c.sock, c.outbox
		c.state, c.sock, c.outbox = stateDetached, nil, nil
		w.scheduleExpiry(c)
		w.writeCloseFrame(sock, out, nil, closing)
	}
}

// writeCloseFrame ends a socket: what waits for it is still sent, then b and a close frame. The client of a slow connection
// gets the close frame at once instead of what waits.
func (w *writer) writeCloseFrame(sock *socket.Socket, out *outbox, b []byte, closing Closing) {
	b = socket.AppendClose(b, closing.Code, closing.Text)
	sock.BeginClose(closeWait)
	if out != nil {
		if closing.Reason == ReasonSlow {
			w.r.metrics.dropped.WithLabelValues(string(ReasonSlow)).Add(float64(out.discardUnbegun(b)))
			return
		}
		if drained, ok := out.add(item{frame: b}); !drained && ok {
			return
		}
	}
	n, err := sock.TryWrite(b)
	if err == nil && n < len(b) {
		w.r.outboxes.Go(func() { _ = sock.Write(b[n:], time.Now().Add(closeWait)) })
	}
}

// endConn ends c for good. When c is a shadow, its connection ends.
func (w *writer) endConn(c *Conn, closing Closing) {
	if c.shadowOf != nil {
		c = c.shadowOf
	}
	if c.state == stateEnded {
		return
	}
	c.state = stateEnded
	if c.sock != nil {
		_ = c.sock.Close()
	}
	if c.expiry != nil {
		c.expiry.Stop()
	}
	w.leaveAll(c, c)
	if shadow := c.shadow.Load(); shadow != nil {
		shadow.state = stateEnded
		w.leaveAll(c, shadow)
	}
	c.sock, c.outbox, c.unacked = nil, nil, nil
	w.r.removeConn(c)
	w.r.metrics.closed.WithLabelValues(string(closing.Reason), closing.Reason.Category()).Inc()
	c.OnClosed(c, closing)
}
