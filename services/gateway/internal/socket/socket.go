// Package socket carries WebSocket messages (RFC 6455) between the gateway and one client.
//
// The WebSocket library does the handshake; from then on the frames are ours, as the library's reads and writes
// cost more than all the rest of a delivery. So this package keeps the whole of RFC 6455 section 5 itself: masking,
// fragments, control frames, lengths, UTF-8, close codes. So it does RFC 7692: who calls Accept says whether
// permessage-deflate is agreed to. Each message is compressed by itself then, so that a frame is compressed once, by Compress,
// for all sockets that are Compressed; these take plain frames as well. Where only the rest of a message is the same for all, Deflate
// and EndSpliced make its frames. What comes in is decompressed by Read.
//
// There is no goroutine per socket but the caller's reader:
//
//	if !socket.CheckHandshake(w, r) { return }   // before anything is done for the client
//	s, err := socket.Accept(w, r, subprotocol, false) // the HTTP handler can return now
//	s.TryWrite(append(s.Answer(), frames...))         // 101, and what there is to say at once
//	for {
//		op, payload, err := s.Read()             // Text, Binary, Ping or Pong
//		…
//	}
//
// Writing is up to the caller: frames are made by AppendFrame, once for however many sockets, and TryWrite hands
// them to the kernel without ever waiting. What the kernel does not take goes through Write, which waits. One
// goroutine at a time may write, and after a TryWrite that took a part the rest has to come next. Pongs and close
// frames are frames like others: the caller answers Ping with a Pong of the same payload.
package socket

import (
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Socket is an open WebSocket. One goroutine may read and one may write at a time; Close, BeginClose, Activity,
// Compressed and RemoteAddr may be called by any.
type Socket struct {
	conn   net.Conn
	raw    syscall.RawConn // of the TCP connection; nil when conn hides it, and then TryWrite takes nothing
	secure bool            // conn is TLS

	meaningless byte // reserved bits of frames that no extension uses

	answer   []byte // to the handshake, until it is written
	activity atomic.Uint32
	closing  atomic.Bool // BeginClose was called: data is discarded

	write sync.Mutex // held while writing

	// The reader's.
	buf        []byte  // a message's fragments, free space, unread bytes, free space:
	msg        int     // buf[:msg]
	start, end int     // buf[start:end]
	valid      int     // buf[:valid] is known to be UTF-8
	op         Opcode  // of the message whose fragments are in buf; zero: none
	packed     bool    // and whether it is compressed
	quiet      uint8   // reads in a row that an idle buffer would have held
	plain      *[]byte // the last message, if it was compressed
	limit      int
	err        *CloseError // what Read returned last
}

func newSocket(conn net.Conn, unread []byte) *Socket {
	s := &Socket{conn: conn, buf: make([]byte, max(idleBuffer, len(unread))), limit: webpubsub.MaxMessageBytes, meaningless: rsvBits}
	s.end = copy(s.buf, unread)
	tcp := conn
	if t, ok := conn.(*tls.Conn); ok {
		tcp, s.secure = t.NetConn(), true
	}
	if sc, ok := tcp.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn() // nil on error
	}
	return s
}

// HandshakeResponse returns the answer to the handshake once, for whoever writes first to write before any frame: together they
// cost one system call. Later it returns nil.
func (s *Socket) HandshakeResponse() []byte {
	b := s.answer
	s.answer = nil
	return b
}

// SetLimit sets the size in bytes of the largest message that the client may send; it is
// webpubsub.MaxMessageBytes before that and for zero. It is the reader's to call.
func (s *Socket) SetLimit(bytes int64) {
	s.limit = webpubsub.MaxMessageBytes
	if bytes > 0 {
		s.limit = int(min(bytes, math.MaxInt32))
	}
}

// Compressed reports whether permessage-deflate was agreed on, so that the client takes what Compress makes.
func (s *Socket) Compressed() bool { return s.meaningless&rsv1Bit == 0 }

// RemoteAddr returns the address of the client or the proxy before it.
func (s *Socket) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Activity returns a number that grows (and wraps) as bytes arrive, be it only a part of a message: a socket
// where it stands still over two pings has lost its client.
func (s *Socket) Activity() uint32 { return s.activity.Load() }

// BeginClose is for after a close frame was written: from then on Read discards data, and it ends when the client
// has closed too or wait has passed.
func (s *Socket) BeginClose(wait time.Duration) {
	s.closing.Store(true)
	_ = s.conn.SetReadDeadline(time.Now().Add(wait)) // an error means that Read ends anyway
}

// Closing reports whether BeginClose was called. If it was not, a client's close frame wants one in answer.
func (s *Socket) Closing() bool { return s.closing.Load() }

// Close closes the connection at once, without a close frame. Both Read and Write end.
func (s *Socket) Close() error {
	if t, ok := s.conn.(*tls.Conn); ok {
		return t.NetConn().Close() // TLS's own would wait up to 5 s to say goodbye, which the close frame has done
	}
	return s.conn.Close()
}

// Refuse closes a socket that was only accepted to say why not: it writes a close frame, waits a moment for the
// client's and closes the connection (client-json.md 8.2, step 7).
func (s *Socket) Refuse(code int, reason string) {
	defer s.Close()
	if err := s.Write(AppendClose(s.HandshakeResponse(), code, reason), time.Now().Add(refuseTime)); err != nil {
		return
	}
	s.BeginClose(refuseTime)
	for {
		if _, _, err := s.Read(); err != nil {
			return
		}
	}
}

const refuseTime = 5 * time.Second

// Close codes of RFC 6455 that this package gives.
const (
	CodeProtocol    = 1002 // a broken frame
	CodeNoStatus    = 1005 // stands for a close frame without a code; never sent
	CodeAbnormal    = 1006 // stands for an end without a close frame; never sent
	CodeInvalidText = 1007
	CodeTooBig      = 1009
)

// CloseError is how reading ended.
type CloseError struct {
	Code   int
	Reason string // the client's own words when Remote
	Remote bool   // the client closed, or its connection broke; else it is to be closed, with Code and Reason
	cause  error  // of CodeAbnormal
}

func (e *CloseError) Error() string {
	switch {
	case e.cause != nil:
		return fmt.Sprintf("connection ended: %v", e.cause)
	case e.Remote:
		return fmt.Sprintf("closed by the client with %d %q", e.Code, e.Reason)
	}
	return fmt.Sprintf("client broke the WebSocket protocol (%d): %s", e.Code, e.Reason)
}

func (e *CloseError) Unwrap() error { return e.cause }
