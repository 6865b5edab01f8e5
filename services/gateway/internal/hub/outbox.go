package hub

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// How an outbox is emptied.
const (
	maxWrite     = 64 << 10         // bytes of one write, about
	writeTimeout = 30 * time.Second // a client that takes less in this time is slow
)

// item is what waits for a connection: a message, with its number on a reliable connection, or a finished frame.
type item struct {
	m     *Message
	seq   uint64
	frame []byte
}

// size is how many bytes i counts for against maxWaitingBytes. A message counts as its JSON, whatever its codec makes of it: frames
// are made when they are written.
func (i item) size() int {
	if i.m != nil {
		return len(i.m.envelope.JSON)
	}
	return len(i.frame)
}

// outbox is what waits for a connection that cannot take it now. A goroutine empties it and ends with that: once it finds
// nothing, drained is set under the same lock, and the writer, which adds, goes back to writing by itself. So the order of
// what a client gets is kept over the change from one to the other and back.
type outbox struct {
	codec    protocol.Codec
	compress bool // the client takes compressed frames
	limit    int  // of items

	mu      sync.Mutex // guards the following
	items   []item
	first   int // index of the oldest
	bytes   int
	drained bool // the goroutine has ended: what comes now is for the socket
	encoder encoder
}

// add queues i. drained reports that nothing waits any more, so that i was not queued; ok that there was room. When there is
// none, what has expired makes room first.
func (o *outbox) add(i item) (drained, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.drained {
		return true, true
	}
	if o.full(i) {
		o.dropExpired(time.Now().UnixMilli())
		if o.full(i) {
			return false, false
		}
	}
	if o.first > 64 && o.first > len(o.items)/2 { // most of the slice has been written: move the rest to its beginning
		o.items = append(o.items[:0], o.items[o.first:]...)
		clear(o.items[len(o.items):cap(o.items)])
		o.first = 0
	}
	o.items = append(o.items, i)
	o.bytes += i.size()
	return false, true
}

// full reports whether i has no room. The caller has mu.
func (o *outbox) full(i item) bool {
	return len(o.items)-o.first >= o.limit || o.bytes+i.size() > maxWaitingBytes
}

// dropExpired makes room: what has expired is of no use to the client.
func (o *outbox) dropExpired(now int64) {
	kept := o.items[:0]
	for _, i := range o.items[o.first:] {
		if i.m != nil && i.m.expired(now) {
			o.bytes -= i.size()
			o.encoder.expired.Inc()
			continue
		}
		kept = append(kept, i)
	}
	clear(o.items[len(kept):])
	o.items, o.first = kept, 0
}

// discardUnbegun drops what waits but for the first item, which may be the rest of a frame that was begun, and puts
// frame behind it. It returns how many messages are lost by that.
func (o *outbox) discardUnbegun(frame []byte) (lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	begun := o.items[o.first:]
	if len(begun) > 0 && begun[0].m == nil {
		begun = begun[:1]
	} else {
		begun = nil
	}
	for _, i := range o.items[o.first:] {
		if i.m != nil {
			lost++
		}
	}
	o.items, o.first, o.bytes = append(append([]item(nil), begun...), item{frame: frame}), 0, 0
	return lost
}

// drain writes until nothing waits. An error is that of a write, os.ErrDeadlineExceeded when the client took too long.
func (o *outbox) drain(sock *socket.Socket) error {
	var buf []byte
	for {
		buf = o.nextBatch(buf[:0])
		if len(buf) == 0 {
			return nil
		}
		if err := sock.Write(buf, time.Now().Add(writeTimeout)); err != nil {
			return err
		}
	}
}

// nextBatch appends what waits to buf as frames, up to about maxWrite bytes, and takes it off the outbox. With nothing left the
// outbox is drained.
func (o *outbox) nextBatch(buf []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now().UnixMilli()
	for o.first < len(o.items) && len(buf) < maxWrite {
		i := o.items[o.first]
		o.items[o.first] = item{}
		o.first++
		o.bytes -= i.size()
		buf = o.encoder.append(buf, o.codec, o.compress, i, now)
	}
	o.drained = len(buf) == 0
	return buf
}

// encoder turns items into frames.
type encoder struct {
	expired prometheus.Counter // messages that had expired
}

// append appends i as a frame of codec, which may be compressed if compress says so, or nothing when it has expired.
func (e encoder) append(dst []byte, codec protocol.Codec, compress bool, i item, now int64) []byte {
	switch {
	case i.m == nil:
		return append(dst, i.frame...)
	case i.m.expired(now):
		e.expired.Inc()
		return dst
	case !codec.Reliable():
		return append(dst, i.m.frameFor(codec, compress)...)
	}
	if compress {
		if out, ok := i.m.appendCompressed(dst, codec, i.seq); ok {
			return out
		}
	}
	start := len(dst)
	dst = codec.AppendNumbered(socket.BeginFrame(dst), socket.Payload(i.m.frame(codec.Plain())), i.seq)
	return socket.EndFrame(dst, start, opcode(codec.Binary()))
}
