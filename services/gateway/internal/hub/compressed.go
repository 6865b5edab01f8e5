package hub

import (
	"sync"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// minCompressed is the size in bytes from which a frame is worth compressing.
const minCompressed = 256

// compressed is a message's frames for connections with compression. They have a lock of their own, so that nobody waits
// for the compressor who does not want what it makes.
type compressed struct {
	mu     sync.Mutex // guards the following
	frames [protocol.Count][]byte
}

// frameFor returns the message as a frame of codec, which is not a reliable one, compressed if that is wanted and worth it.
func (m *Message) frameFor(codec protocol.Codec, compress bool) []byte {
	frame := m.frame(codec)
	if !compress || len(frame) < minCompressed {
		return frame
	}
	m.mu.Lock()
	if m.compressed == nil {
		m.compressed = new(compressed)
	}
	z := m.compressed
	m.mu.Unlock()
	return z.frame(codec, frame)
}

// frame returns the compressed form of a plain frame of codec, or the frame itself if that is no longer.
func (z *compressed) frame(codec protocol.Codec, plain []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	f := &z.frames[codec.ID()]
	if *f == nil {
		if *f = socket.Compress(plain); *f == nil {
			*f = plain
		}
	}
	return *f
}
