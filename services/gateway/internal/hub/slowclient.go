package hub

import (
	"bytes"
	"errors"
	"os"
)

// What happens to a slow client. A write never waits: what the kernel does not take goes to an outbox (outbox.go), which a
// goroutine of that connection empties with writes that do wait. Messages that come meanwhile wait in the outbox. When more
// than maxWaiting messages or maxWaitingBytes wait, or the client takes nothing for writeTimeout, the connection is closed
// with ReasonSlow. A reliable connection also has to acknowledge: its messages are kept until then (unacked.go), and with too
// many of them it is closed with ReasonUnacked (client-json.md sections 8 and 11).

// appendOrHold appends m to buf as a frame for c, unless it has to wait. If c is reliable, m is numbered and kept first.
func (w *writer) appendOrHold(c *Conn, buf []byte, m *Message) []byte {
	if c.state == stateEnded {
		return buf
	}
	i := item{m: m}
	if c.unacked != nil {
		var ok bool
		if i.seq, ok = c.unacked.add(m); !ok {
			w.close(c, unackedOverflow)
			return buf
		}
	}
	w.deliveredCopies++
	if w.holdBack(c, i) {
		return buf
	}
	return w.encoder.append(buf, c.Codec, c.compress, i, w.now)
}

// holdBack reports whether i is not to be written now: because c has no socket, or because earlier items wait in its outbox, where
// i then waits as well. An outbox that has been emptied is let go of, and i is for the socket again.
func (w *writer) holdBack(c *Conn, i item) bool {
	if c.outbox != nil {
		drained, ok := c.outbox.add(i)
		switch {
		case !ok:
			w.close(c, ReasonSlow.Closing("The client is too slow: more than 1000 messages or 16 MiB wait for it."))
			return true
		case !drained:
			return true
		}
		c.outbox = nil
	}
	return c.state != stateAttached
}

// writeNow writes b without waiting. What the kernel does not take goes to an outbox: as it is if b is shared, which
// never changes, else as a copy, since b is a buffer of the writer.
func (w *writer) writeNow(c *Conn, b []byte, shared bool) {
	if len(b) == 0 || c.state != stateAttached {
		return
	}
	w.writtenBytes += len(b)
	n, err := c.sock.TryWrite(b)
	switch {
	case err != nil:
		w.detach(c, c.sock, false, ReasonLost.Closing(""))
	case n < len(b):
		rest := b[n:]
		if !shared {
			rest = bytes.Clone(rest)
		}
		w.startOutbox(c, []item{{frame: rest}})
	}
}

// startOutbox gives c an outbox and a goroutine that empties it into c's present socket.
func (w *writer) startOutbox(c *Conn, items []item) {
	sock := c.sock
	waiting := &outbox{
		codec: c.Codec, compress: c.compress, items: items, limit: maxWaiting + len(items), encoder: encoder{expired: w.r.metrics.expired},
	}
	if c.unacked != nil {
		waiting.limit += maxWaiting // bounded by what is kept; this is for acks
	}
	for _, i := range items {
		waiting.bytes += i.size()
	}
	c.outbox = waiting
	w.r.outboxes.Go(func() {
		if err := waiting.drain(sock); err != nil {
			closing := ReasonLost.Closing("")
			if errors.Is(err, os.ErrDeadlineExceeded) {
				closing = ReasonSlow.Closing("")
			}
			w.r.Detach(c, sock, false, closing)
		}
	})
}
