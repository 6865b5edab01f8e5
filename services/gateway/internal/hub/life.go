package hub

import (
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// attach gives c a socket and lets what waits go to it.
func (w *writer) attach(c *Conn, sock *socket.Socket, connected protocol.Connected) bool {
	if c.state == stateGone || c.Frozen() {
		return false
	}
	if c.sock != nil { // the client has noticed the loss before us (client-json.md 8.2)
		_ = c.sock.Close()
	}
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	waiting := w.waiting(c)
	c.state, c.sock, c.compress, c.out = stateAttached, sock, sock.Compressed(), nil
	c.heard = sock.Activity() - 1
	w.schedulePing(c)
	first := sock.HandshakeResponse()
	if hello := c.Codec.AppendConnected(nil, connected); len(hello) > 0 {
		first = socket.AppendFrame(first, opcode(c.Codec.Binary()), hello)
	}
	if len(waiting) == 0 {
		w.send(c, first, true)
		return true
	}
	w.fallBehind(c, append([]item{{frame: first}}, waiting...))
	return true
}

// waiting returns what c has to get on a new socket: all that is unacknowledged, or what came before its first.
func (w *writer) waiting(c *Conn) (items []item) {
	if c.kept != nil {
		c.kept.each(func(seq uint64, m *Message) { items = append(items, item{m: m, seq: seq}) })
		return items
	}
	return c.out.items[c.out.first:]
}

// detach takes c's socket away, if it is sock. A client's goodbye counts also when writing has failed just before,
// because it went on to close the socket.
func (w *writer) detach(c *Conn, sock *socket.Socket, final bool, closing Closing) {
	switch {
	case c.state == stateGone || c.sock != sock:
		return
	case w.lent: // what follows takes locks that the lender may have
		w.push(job{op: opDetach, conn: c, x: detachment{sock, final, closing}})
		return
	case final || c.kept == nil:
		w.end(c, closing)
		return
	case c.state == stateDetached:
		return
	}
	_ = sock.Close()
	c.state, c.out = stateDetached, nil
	w.expireLater(c)
}

// expireLater gives the client of a connection without socket the time to come back.
func (w *writer) expireLater(c *Conn) {
	c.epoch++
	epoch := c.epoch
	c.expiry = time.AfterFunc(w.r.recovery, func() { w.push(job{op: opExpire, conn: c, seq: epoch}) })
}

// close tells the client how its connection ends, and ends it.
func (w *writer) close(c *Conn, closing Closing) {
	if w.lent {
		w.push(job{op: opClose, conn: c, x: closing})
		return
	}
	if c.state != stateAttached || closing.Code == 0 {
		w.end(c, closing)
		return
	}
	sock, out := c.sock, c.out
	c.sock = nil // not closed by end: the client is to read what is under way
	w.end(c, closing)

	var b []byte
	if text := c.Codec.AppendDisconnected(nil, closing.Text); len(text) > 0 {
		b = socket.AppendFrame(b, opcode(c.Codec.Binary()), text)
	}
	w.farewell(sock, out, b, closing)
}

// sendAway asks the client of a reliable connection to come back by another socket, for which the connection waits. Other
// connections end.
func (w *writer) sendAway(c *Conn, closing Closing) {
	switch {
	case c.kept == nil || c.state == stateNew:
		w.close(c, closing)
	case c.state == stateAttached:
		sock, out := c.sock, c.out
		c.state, c.sock, c.out = stateDetached, nil, nil
		w.expireLater(c)
		w.farewell(sock, out, nil, closing)
	}
}

// farewell ends a socket: with what waits for it, b and a close frame.
func (w *writer) farewell(sock *socket.Socket, out *outbox, b []byte, closing Closing) {
	b = socket.AppendClose(b, closing.Code, closing.Text)
	sock.BeginClose(closeWait)
	if out != nil {
		if closing.Reason == ReasonSlow {
			w.r.metrics.dropped.WithLabelValues(string(ReasonSlow)).Add(float64(out.discard(b)))
			return
		}
		if drained, ok := out.add(item{frame: b}); !drained && ok {
			return
		}
	}
	n, err := sock.TryWrite(b)
	if err == nil && n < len(b) {
		w.r.drainers.Go(func() { _ = sock.Write(b[n:], time.Now().Add(closeWait)) })
	}
}

// end forgets c. What ends a shadow ends its connection.
func (w *writer) end(c *Conn, closing Closing) {
	if c.of != nil {
		c = c.of
	}
	if c.state == stateGone {
		return
	}
	c.state = stateGone
	if c.sock != nil {
		_ = c.sock.Close()
	}
	if c.expiry != nil {
		c.expiry.Stop()
	}
	w.leaveAll(c, c)
	if shadow := c.shadow.Load(); shadow != nil {
		shadow.state = stateGone
		w.leaveAll(c, shadow)
	}
	c.sock, c.out, c.kept = nil, nil, nil
	w.r.forget(c)
	w.r.metrics.closed.WithLabelValues(string(closing.Reason), closing.Reason.Category()).Inc()
	c.OnClosed(c, closing)
}

// leaveAll takes c, or its shadow that stands in its place, off all lists.
func (w *writer) leaveAll(c, member *Conn) {
	for _, at := range member.in {
		w.remove(at.list, at.at)
		w.r.left(at.list, c)
		c.moved(at.list, false)
	}
	member.in = nil
}

// wheelSize is the longest interval of pings, in seconds, and some (client-json.md section 10).
const wheelSize = 128

// schedulePing puts c where the ticks meet it after its interval, unless it is there already.
func (w *writer) schedulePing(c *Conn) {
	if !c.scheduled && c.KeepAlive >= time.Second {
		c.scheduled = true
		at := (w.tick + int(c.KeepAlive/time.Second)) % wheelSize
		w.wheel[at] = append(w.wheel[at], c)
	}
}

// keepAlive pings the connections whose interval is over. One that has let the whole time since its last ping
// pass in silence is cut off, so that a dead peer is found within two intervals.
func (w *writer) keepAlive() {
	w.tick = (w.tick + 1) % wheelSize
	due := w.wheel[w.tick]
	w.wheel[w.tick] = nil
	for _, c := range due {
		c.scheduled = false
		if c.state != stateAttached {
			continue
		}
		heard := c.sock.Activity()
		if heard == c.heard && !c.ReaderBusy.Load() {
			w.detach(c, c.sock, false, ReasonPing.Closing("No answer to pings."))
			continue
		}
		c.heard = heard
		w.schedulePing(c)
		w.ping(c)
	}
}

func (w *writer) ping(c *Conn) {
	if c.out == nil || !w.wait(c, item{frame: pingFrame}) {
		w.send(c, pingFrame, true)
	}
}

var pingFrame = socket.AppendFrame(nil, socket.Ping, nil)
