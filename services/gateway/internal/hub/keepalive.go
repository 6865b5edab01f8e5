package hub

import (
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// wheelSize is the longest interval of pings, in seconds, and some (client-json.md section 10).
const wheelSize = 128

// pingWheel has a place for each second, with the connections that are due then: one ticker for each writer, in place of
// one timer for each connection.
type pingWheel struct {
	due  [wheelSize][]*Conn
	tick int // the place of the present second
}

// schedule puts c where the ticks meet it after its interval, unless it is on the wheel already.
func (p *pingWheel) schedule(c *Conn) {
	if !c.pingScheduled && c.KeepAlive >= time.Second {
		c.pingScheduled = true
		at := (p.tick + int(c.KeepAlive/time.Second)) % wheelSize
		p.due[at] = append(p.due[at], c)
	}
}

// advance goes on by a second and returns the connections that are due.
func (p *pingWheel) advance() []*Conn {
	p.tick = (p.tick + 1) % wheelSize
	due := p.due[p.tick]
	p.due[p.tick] = nil
	return due
}

// keepAlive pings the connections whose interval is over. One that has let the whole time since its last ping
// pass in silence is cut off, so that a dead peer is found within two intervals. A connection whose reader is busy
// is not: it is we who do not listen.
func (w *writer) keepAlive() {
	for _, c := range w.pings.advance() {
		c.pingScheduled = false
		if c.state != stateAttached {
			continue
		}
		activity := c.sock.Activity()
		if activity == c.activityAtPing && !c.ReaderBusy.Load() {
			w.detach(c, c.sock, false, ReasonPing.Closing("No answer to pings."))
			continue
		}
		c.activityAtPing = activity
		w.pings.schedule(c)
		w.ping(c)
	}
}

// ping sends a ping, or has it wait behind what waits already: a slow client answers when it gets there.
func (w *writer) ping(c *Conn) {
	if c.outbox == nil || !w.holdBack(c, item{frame: pingFrame}) {
		w.writeNow(c, pingFrame, true)
	}
}

var pingFrame = socket.AppendFrame(nil, socket.Ping, nil)
