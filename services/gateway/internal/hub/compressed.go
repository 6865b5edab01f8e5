package hub

import (
	"sync"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// minCompressed is the size in bytes from which a frame is worth compressing.
const minCompressed = 256

// compressedForms is what a message's frames for connections with compression are made of. It has a lock of its own, so that
// a writer with plain frames to write does not wait while another one compresses.
type compressedForms struct {
	mu    sync.Mutex // guards the following
	forms [protocol.Count][]byte
}

// form returns what make returns, which is not nil and called once for each codec.
func (z *compressedForms) form(codec protocol.Codec, make func() []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	f := &z.forms[codec.ID()]
	if *f == nil {
		*f = make()
	}
	return *f
}

// sharedForms returns the message's compressed forms, which are made for the first that asks.
func (m *Message) sharedForms() *compressedForms {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.compressed == nil {
		m.compressed = new(compressedForms)
	}
	return m.compressed
}

// frameFor returns the message as a frame of codec, which is not a reliable one, compressed if that is wanted and worth it.
func (m *Message) frameFor(codec protocol.Codec, compress bool) []byte {
	frame := m.frame(codec)
	if !compress || len(frame) < minCompressed {
		return frame
	}
	return m.sharedForms().form(codec, func() []byte {
		if z := socket.Compress(frame); z != nil {
			return z
		}
		return frame
	})
}

// appendCompressed appends the message as a compressed frame of codec, which is a reliable one, if that is worth it: a
// beginning with the connection's number, and the rest, which is the same for all and compressed once.
func (m *Message) appendCompressed(dst []byte, codec protocol.Codec, seq uint64) (out []byte, ok bool) {
	plain := m.frame(codec.Plain())
	if len(plain) < minCompressed {
		return dst, false
	}
	out, rest := codec.AppendHead(socket.BeginSharedTail(dst), socket.Payload(plain), seq)
	z := m.sharedForms().form(codec, func() []byte {
		if z := socket.Deflate(rest); z != nil {
			return z
		}
		return notWorthCompressing
	})
	if len(z) == 0 {
		return dst, false
	}
	return socket.EndSharedTail(out, len(dst), z, opcode(codec.Binary())), true
}

// notWorthCompressing stands for a form that would not be shorter: empty, but not nil, so that it is not tried again.
var notWorthCompressing = []byte{}
