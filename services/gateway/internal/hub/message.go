package hub

import (
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// Message is one message on its way to connections of this node. Its frames are made once for each codec, and compressed at
// most once for each, and shared by all receivers; none of its bytes change.
type Message struct {
	envelope protocol.Envelope
	expires  int64 // Unix milliseconds after which a copy that was not taken is dropped; 0: never
	except   []*Conn
	filter   *filter.Filter

	mu         sync.Mutex // guards the following
	frames     [protocol.Count][]byte
	compressed *compressedForms // nil until a connection takes it compressed
}

// MessageOptions limits who receives a message, and how long it waits for them.
type MessageOptions struct {
	Expires time.Time      // when a copy that the receiver could not take is dropped; zero: never
	Except  []*Conn        // of this node
	Filter  *filter.Filter // nil: everybody
}

// NewMessage copies an envelope.
func NewMessage(e protocol.Envelope, o MessageOptions) *Message {
	frame := socket.AppendFrame(make([]byte, 0, len(e.JSON)+10), socket.Text, e.JSON)
	e.JSON = frame[len(frame)-len(e.JSON):]
	m := &Message{envelope: e, except: o.Except, filter: o.Filter}
	m.frames[protocol.IDJSON] = frame // what the JSON codec would make of the envelope
	if e.EndsStream() {
		m.frames[protocol.IDSimple] = []byte{} // simple clients have no streams: nothing is sent
	}
	if !o.Expires.IsZero() {
		m.expires = o.Expires.UnixMilli()
	}
	return m
}

// frame returns the message as a frame of codec, which is not a reliable one. It is empty when there is nothing to send.
func (m *Message) frame(codec protocol.Codec) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.frames[codec.ID()]
	if *f == nil {
		payload, binary := codec.AppendMessage(make([]byte, 0, len(m.envelope.JSON)), m.envelope)
		*f = socket.AppendFrame(make([]byte, 0, len(payload)+10), opcode(binary), payload)
	}
	return *f
}

// expired reports whether now, in Unix milliseconds, is too late for the message.
func (m *Message) expired(now int64) bool { return m.expires != 0 && now > m.expires }

// excludes reports whether c is not to receive the message.
func (m *Message) excludes(c *Conn) bool {
	for _, x := range m.except {
		if x == c {
			return true
		}
	}
	if m.filter == nil {
		return false
	}
	return !m.filter.Match(&filter.Subject{
		ConnectionID: c.ID,
		UserID:       c.UserID,
		InGroup:      c.inGroup,
		Protocol:     c.Subprotocol,
	})
}

// opcode is the opcode of a message's frame.
func opcode(binary bool) socket.Opcode {
	if binary {
		return socket.Binary
	}
	return socket.Text
}
