// Package socket carries WebSocket messages (RFC 6455) between the gateway and one client.
//
// The WebSocket library does the handshake; from then on the frames are ours, as the library's reads and writes
// cost more than all the rest of a delivery. So this package implements the whole of RFC 6455 section 5: masking,
// fragments, control frames, lengths, UTF-8, close codes. It also implements permessage-deflate (RFC 7692), which the caller of
// Accept may allow. Each message is then compressed by itself, so that a frame is compressed once, by Compress, for all sockets
// that are Compressed; these take plain frames as well. Where only the end of a message is the same for all, Deflate and
// EndSharedTail make its frames. What comes in is decompressed by Read.
//
// Each socket has one goroutine, the caller's reader:
//
//	if !socket.CheckHandshake(w, r) { return }        // before anything is done for the client
//	s, err := socket.Accept(w, r, subprotocol, false) // the HTTP handler can return now
//	s.TryWrite(append(s.HandshakeResponse(), frames...)) // 101, and the first frames with it
//	for {
//		op, payload, err := s.Read()              // Text, Binary, Ping or Pong
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
	raw    syscall.RawConn // of the TCP connection; nil when conn gives no access to it: TryWrite then takes nothing
	secure bool            // conn is TLS

	reservedBits byte // the bits of a frame's first byte that must be zero: no extension uses them

	response []byte // to the handshake; nil once HandshakeResponse has returned it
	activity atomic.Uint32
	closing  atomic.Bool // BeginClose was called: messages are discarded

	writing sync.Mutex // held while writing

	// The rest is the reader's.
	buf                    []byte  // a message's fragments, free space, unread bytes, free space:
	msg                    int     // buf[:msg]
	unreadStart, unreadEnd int     // buf[unreadStart:unreadEnd]
	validText              int     // buf[:validText] is known to be UTF-8
	op                     Opcode  // of the message whose fragments are in buf; zero: none
	msgCompressed          bool    // whether that message is compressed
	smallReads             uint8   // reads in a row that would have fitted into an idle buffer
	inflated               *[]byte // a pooled buffer with the last message, if it was compressed
	limit                  int
	err                    *CloseError // what Read returned last
}

// newSocket returns a socket on conn, of which unread has been read already. Without access to the file descriptor of the TCP
// connection, as in tests, TryWrite takes nothing, and everything goes through Write.
func newSocket(conn net.Conn, unread []byte) *Socket {
	s := &Socket{conn: conn, buf: make([]byte, max(idleBuffer, len(unread))), limit: webpubsub.MaxMessageBytes, reservedBits: rsvBits}
	s.unreadEnd = copy(s.buf, unread)
	tcp := conn
	if t, ok := conn.(*tls.Conn); ok {
		tcp, s.secure = t.NetConn(), true
	}
	if sc, ok := tcp.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn() // nil on error
	}
	return s
}

// HandshakeResponse returns the answer to the handshake the first time, later nil. The first writer writes it before its frames:
// together they cost one system call.
func (s *Socket) HandshakeResponse() []byte {
	b := s.response
	s.response = nil
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
func (s *Socket) Compressed() bool { return s.reservedBits&rsv1Bit == 0 }

// RemoteAddr returns the address of the client or the proxy before it.
func (s *Socket) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Activity returns a number that grows (and wraps) as bytes arrive, also when they are only a part of a message: a socket whose
// number has not changed over two pings has lost its client.
func (s *Socket) Activity() uint32 { return s.activity.Load() }

// BeginClose is to be called when a close frame is written: from then on Read discards messages, and it ends when the client
// has closed too or wait has passed (RFC 6455 section 7.1.2).
func (s *Socket) BeginClose(wait time.Duration) {
	s.closing.Store(true)
	_ = s.conn.SetReadDeadline(time.Now().Add(wait)) // an error means that Read ends anyway
}

// Closing reports whether BeginClose was called. If it was not, a client's close frame must be answered with one.
func (s *Socket) Closing() bool { return s.closing.Load() }

// Close closes the connection at once, without a close frame. Both Read and Write end.
func (s *Socket) Close() error {
	if t, ok := s.conn.(*tls.Conn); ok {
		return t.NetConn().Close() // TLS's own Close would wait up to 5 s to send an alert, which the close frame makes unnecessary
	}
	return s.conn.Close()
}

// Refuse closes a socket that was only accepted so that the client gets a reason: it writes a close frame, waits at most 5 s for the
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
	Reason string // as the client sent it when Remote
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
