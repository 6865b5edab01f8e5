package hub

import "time"

// Bounds of what waits for one connection (client-json.md sections 8 and 11).
const (
	maxWaiting      = 1000
	maxWaitingBytes = 16 << 20
)

// unackedOverflow ends a reliable connection whose client does not acknowledge.
var unackedOverflow = ReasonUnacked.Closing("More than 1000 messages or 16 MiB are unacknowledged.")

// unackedBuffer is what a reliable connection was sent and has not acknowledged, oldest first: messages with
// consecutive numbers (client-json.md section 8). The messages are shared with other connections. It is a ring that grows with
// what is in it: most connections acknowledge at once, and an idle one should cost next to nothing.
type unackedBuffer struct {
	last  uint64 // number of the newest message ever
	ring  []*Message
	first int // index of the oldest
	n     int
	bytes int
}

// add gives a message the next number and keeps it. ok is false when too much is kept already.
func (u *unackedBuffer) add(m *Message) (seq uint64, ok bool) {
	if u.full(m) {
		u.dropExpired(time.Now().UnixMilli())
		if u.full(m) {
			return 0, false
		}
	}
	u.last++
	u.bytes += len(m.envelope.JSON)
	if u.n == len(u.ring) {
		u.grow()
	}
	u.ring[(u.first+u.n)%len(u.ring)] = m
	u.n++
	return u.last, true
}

// full reports whether m has no room.
func (u *unackedBuffer) full(m *Message) bool {
	return u.n == maxWaiting || u.bytes+len(m.envelope.JSON) > maxWaitingBytes
}

// dropExpired makes room: what has expired is not sent again. What has expired behind a message that has not is kept, since a
// message's number follows from its place.
func (u *unackedBuffer) dropExpired(now int64) {
	for u.n > 0 && u.ring[u.first].expired(now) {
		u.dropOldest()
	}
}

// dropOldest drops the oldest message.
func (u *unackedBuffer) dropOldest() {
	u.bytes -= len(u.ring[u.first].envelope.JSON)
	u.ring[u.first] = nil
	u.first = (u.first + 1) % len(u.ring)
	u.n--
}

// grow doubles the ring, from 8 to maxWaiting places.
func (u *unackedBuffer) grow() {
	ring := make([]*Message, min(max(2*len(u.ring), 8), maxWaiting))
	for i := range u.n {
		ring[i] = u.ring[(u.first+i)%len(u.ring)]
	}
	u.ring, u.first = ring, 0
}

// trim drops the messages up to and including number seq.
func (u *unackedBuffer) trim(seq uint64) {
	for u.n > 0 && u.last-uint64(u.n)+1 <= seq {
		u.dropOldest()
	}
	if u.n == 0 && len(u.ring) > 64 {
		u.ring, u.first = nil, 0
	}
}

// each calls f with the messages, oldest first.
func (u *unackedBuffer) each(f func(seq uint64, m *Message)) {
	for i := range u.n {
		f(u.last-uint64(u.n)+1+uint64(i), u.ring[(u.first+i)%len(u.ring)])
	}
}
