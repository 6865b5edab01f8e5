package wsclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Socket is a client's WebSocket (RFC 6455) that costs little: no goroutine of its own, one small buffer, and messages as
// they came, not decoded. It is what a Client reads and writes, and what load tests use by the ten thousand. One
// goroutine reads; any may send.
type Socket struct {
	conn        net.Conn
	subprotocol string
	deflate     *deflate // nil: compression was not agreed on

	// Of the goroutine that reads.
	in         []byte // read and not yet consumed
	buf        []byte // what in lies in
	full       bool   // the last read filled buf
	fragments  []byte // of a message that is not whole
	fragmented byte   // the first byte of its first frame, zero: there is none

	writing sync.Mutex // held while something is written; taken before mu

	mu       sync.Mutex // guards the following
	out      []byte     // frames that wait to be written
	flushing bool       // somebody writes, and will take out along
	closing  bool       // a close frame has been sent
	broken   bool
}

// SocketOptions say how to open a Socket. The zero value is fine.
type SocketOptions struct {
	Subprotocols []string    // offered in this order
	Header       http.Header // of the handshake
	Compression  bool        // offer permessage-deflate, each message by itself

	Dial func(ctx context.Context, network, address string) (net.Conn, error) // default: a net.Dialer's
	TLS  *tls.Config                                                          // for wss and https; ServerName is that of the URL unless set
}

// Bits of a frame's first byte, and opcodes (RFC 6455 section 5.2).
const (
	finalBit    = 0x80
	deflatedBit = 0x40
	opcodeBits  = 0x0f

	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	smallBuffer  = 2 << 10
	largeBuffer  = 64 << 10
	maxMessage   = 32 << 20 // bytes of a server's message
	maxControl   = 125      // bytes of a ping, a pong or what a close frame says
	maxHandshake = 64 << 10 // bytes of the answer to a handshake
	writeTimeout = 30 * time.Second
	maxRefusal   = 1 << 10 // bytes of the body with which a handshake is refused
)

// OpenSocket opens a socket to a URL (ws, wss, http or https). The error is a *HandshakeError when the server refuses.
// No error holds the URL, in which tokens stand.
func OpenSocket(ctx context.Context, target string, o SocketOptions) (*Socket, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("the URL to connect to is malformed")
	}
	secure := u.Scheme == "https" || u.Scheme == "wss"
	port := u.Port()
	switch {
	case port != "":
	case secure:
		port = "443"
	default:
		port = "80"
	}
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	s := &Socket{conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if secure {
		config := o.TLS.Clone()
		if config == nil {
			config = &tls.Config{}
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		s.conn = tls.Client(conn, config)
	}
	err = s.upgrade(u, o)
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = s.conn.Close()
		return nil, err
	}
	return s, nil
}

// upgrade does the opening handshake (RFC 6455 section 4.1).
func (s *Socket) upgrade(u *url.URL, o SocketOptions) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	var request bytes.Buffer
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", u.RequestURI(), u.Host, key)
	if len(o.Subprotocols) > 0 {
		fmt.Fprintf(&request, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(o.Subprotocols, ", "))
	}
	if o.Compression {
		fmt.Fprintf(&request, "Sec-WebSocket-Extensions: %s\r\n", deflateOffer)
	}
	_ = o.Header.Write(&request) // a buffer takes all
	request.WriteString("\r\n")
	if _, err := s.conn.Write(request.Bytes()); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.LimitReader(s.conn, maxHandshake), smallBuffer)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("read the answer to the handshake: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		return &HandshakeError{Status: answer.StatusCode, Body: string(body), Header: answer.Header}
	}
	if !strings.EqualFold(answer.Header.Get("Upgrade"), "websocket") || !strings.Contains(strings.ToLower(answer.Header.Get("Connection")), "upgrade") {
		return errors.New("the answer to the handshake does not upgrade to websocket")
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return errors.New("the answer to the handshake has a wrong Sec-WebSocket-Accept")
	}
	if s.subprotocol = answer.Header.Get("Sec-WebSocket-Protocol"); s.subprotocol != "" && !slices.Contains(o.Subprotocols, s.subprotocol) {
		return fmt.Errorf("the server chose the subprotocol %.100q, which was not offered", s.subprotocol)
	}
	switch chosen := strings.Join(answer.Header.Values("Sec-WebSocket-Extensions"), ", "); {
	case chosen == "":
	case o.Compression && deflateAgreed(chosen):
		s.deflate = &deflate{}
	default:
		return fmt.Errorf("the server chose the extensions %.100q, which were not offered", chosen)
	}
	ahead, _ := r.Peek(r.Buffered())
	s.buf = bytes.Clone(ahead)
	s.in = s.buf
	return nil
}

// Subprotocol returns what the server chose; empty for none.
func (s *Socket) Subprotocol() string { return s.subprotocol }

// Compressed reports whether the server has agreed to permessage-deflate.
func (s *Socket) Compressed() bool { return s.deflate != nil }

// NetConn returns the connection underneath, for deadlines and socket options.
func (s *Socket) NetConn() net.Conn { return s.conn }

// Fill reads once more, and returns how many bytes came. The buffer grows while reads fill it or a frame needs it, and
// shrinks when it lies idle.
func (s *Socket) Fill() (n int, err error) {
	switch {
	case len(s.in) == len(s.buf): // full of one frame, or not there yet
		s.move(max(2*len(s.in), smallBuffer))
	case s.full && len(s.buf) < largeBuffer:
		s.move(2 * len(s.buf))
	case len(s.in) == 0 && !s.full && len(s.buf) > smallBuffer:
		s.move(smallBuffer)
	default:
		s.in = s.buf[:copy(s.buf, s.in)]
	}
	had := len(s.in)
	n, err = s.conn.Read(s.buf[had:])
	s.in, s.full = s.buf[:had+n], had+n == len(s.buf)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

func (s *Socket) move(size int) {
	buf := make([]byte, size)
	s.in = buf[:copy(buf, s.in)]
	s.buf = buf
}

// Next takes a whole message off what has been read; ok is false when there is none yet, and Fill has to be called. The
// payload is valid until the next call of either. Pings are answered. The error is a *CloseError when the server has closed; then and after
// any other error the socket is of no use but for Drop.
func (s *Socket) Next() (binary bool, payload []byte, ok bool, err error) {
	for {
		head, payload, ok, err := s.frame()
		if err != nil || !ok {
			return false, nil, false, err
		}
		switch op := head & opcodeBits; op {
		case opPing:
			s.queue(opPong, payload)
		case opPong:
		case opClose:
			return false, nil, false, s.closed(payload)
		case opText, opBinary, opContinuation:
			if (op == opContinuation) != (s.fragmented != 0) {
				return false, nil, false, errors.New("the server sent the frames of a message in disorder")
			}
			if head&finalBit == 0 || op == opContinuation {
				if op != opContinuation {
					s.fragmented = head
				}
				if len(s.fragments)+len(payload) > maxMessage {
					return false, nil, false, fmt.Errorf("the server sent a message of more than %d bytes", maxMessage)
				}
				s.fragments = append(s.fragments, payload...)
				if head&finalBit == 0 {
					continue
				}
				head, payload, s.fragments, s.fragmented = s.fragmented, s.fragments, nil, 0
			}
			if head&deflatedBit != 0 {
				if payload, err = s.deflate.expand(payload); err != nil {
					return false, nil, false, err
				}
			}
			return head&opcodeBits == opBinary, payload, true, nil
		default:
			return false, nil, false, fmt.Errorf("the server sent a frame with the unknown opcode %d", op)
		}
	}
}

// frame takes a whole frame off what has been read.
func (s *Socket) frame() (first byte, payload []byte, ok bool, err error) {
	b := s.in
	if len(b) < 2 {
		return 0, nil, false, nil
	}
	reserved := byte(0x70)
	if s.deflate != nil && (b[0]&opcodeBits == opText || b[0]&opcodeBits == opBinary) {
		reserved &^= deflatedBit
	}
	if b[0]&reserved != 0 || b[1]&0x80 != 0 {
		return 0, nil, false, errors.New("the server sent a frame that clients do not expect: masked, or with reserved bits")
	}
	if b[0]&opcodeBits >= opClose && (b[0]&finalBit == 0 || b[1] > maxControl) {
		return 0, nil, false, errors.New("the server sent a control frame in fragments, or of more than 125 bytes")
	}
	size, head := uint64(b[1]&0x7f), 2
	switch size {
	case 126:
		head = 4
		if len(b) >= head {
			size = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		head = 10
		if len(b) >= head {
			size = binary.BigEndian.Uint64(b[2:])
		}
	}
	if len(b) < head {
		return 0, nil, false, nil
	}
	if size > maxMessage {
		return 0, nil, false, fmt.Errorf("the server sent a frame of %d bytes", size)
	}
	end := head + int(size)
	if len(b) < end {
		return 0, nil, false, nil
	}
	s.in = b[end:]
	return b[0], b[head:end], true, nil
}

// closed answers a close frame, unless it is itself the answer, and returns what it says.
func (s *Socket) closed(payload []byte) error {
	end := &CloseError{Code: codeMissing}
	if len(payload) > 0 {
		if len(payload) > 1 {
			end.Code, end.Reason = int(payload[0])<<8|int(payload[1]), string(payload[2:])
		}
		if !mayBeSent(end.Code) || !utf8.ValidString(end.Reason) {
			return fmt.Errorf("the server sent the malformed close frame %q", payload)
		}
	}
	_ = s.write(opClose, payload) // fails when we closed first; and who has closed may be gone
	return end
}

// mayBeSent reports whether a code may stand in a close frame (RFC 6455 section 7.4). Some only say what was not there.
func mayBeSent(code int) bool {
	switch code {
	case 1004, codeMissing, codeAbnormal:
		return false
	}
	return 1000 <= code && code <= 1014 || 3000 <= code && code <= 4999
}

// Queue sends a message, and returns at once. A backlog goes out together. Only reading shows that the socket is lost.
// After a close frame nothing is sent (RFC 6455 section 5.5.1).
func (s *Socket) Queue(binary bool, payload []byte) { s.queue(opcode(binary), payload) }

// QueueClose sends a close frame, and returns at once. The server answers with another, which Next returns.
func (s *Socket) QueueClose(code int) { s.queue(opClose, []byte{byte(code >> 8), byte(code)}) }

func opcode(binary bool) byte {
	if binary {
		return opBinary
	}
	return opText
}

func (s *Socket) queue(op byte, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken || s.closing {
		return
	}
	s.closing = op == opClose
	s.out = s.appendFrame(s.out, op, payload)
	if !s.flushing {
		s.flushing = true
		go s.flush()
	}
}

func (s *Socket) flush() {
	var batch []byte
	for {
		s.writing.Lock() // before frames are taken, so that they are written in the order in which they are taken
		s.mu.Lock()
		if len(s.out) == 0 || s.broken {
			s.flushing = false
			s.mu.Unlock()
			s.writing.Unlock()
			return
		}
		batch, s.out = s.out, batch[:0]
		if cap(s.out) > 16*smallBuffer {
			s.out = nil
		}
		s.mu.Unlock()
		err := s.writeAll(batch)
		s.writing.Unlock()
		if err != nil {
			s.Drop() // the reader sees it and says so
		}
	}
}

// Write sends a message behind what is queued, and returns when the system has taken both, or with an error when that takes
// 30 s. After a close frame, an error or Drop the error is net.ErrClosed.
func (s *Socket) Write(binary bool, payload []byte) error { return s.write(opcode(binary), payload) }

// WriteClose sends a close frame, as Write does; with code 1005 and no reason, one that is empty. The server answers with
// another, which Next returns. Nothing is sent, and the error says so, when the code may not stand in a close frame or the
// reason has more than 123 bytes.
func (s *Socket) WriteClose(code int, reason string) error {
	switch {
	case code == codeMissing && reason == "":
		return s.write(opClose, nil)
	case !mayBeSent(code) || len(reason) > maxControl-2:
		return fmt.Errorf("a close frame cannot hold the code %d with a reason of %d bytes", code, len(reason))
	}
	return s.write(opClose, append([]byte{byte(code >> 8), byte(code)}, reason...))
}

func (s *Socket) write(op byte, payload []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.broken || s.closing {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closing = op == opClose
	frames := s.appendFrame(s.out, op, payload)
	s.out = nil
	s.mu.Unlock()
	err := s.writeAll(frames)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.Drop()
	case err != nil: // half a frame may have gone out; what the server said before can still be read
		s.mu.Lock()
		s.broken = true
		s.mu.Unlock()
	}
	return err
}

// writeAll writes frames. The caller holds writing.
func (s *Socket) writeAll(frames []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.conn.Write(frames)
	return err
}

// Drop cuts the socket without a word, as a lost network does. Whoever reads gets an error.
func (s *Socket) Drop() {
	s.mu.Lock()
	s.broken = true
	s.mu.Unlock()
	_ = s.conn.Close()
}

// appendFrame appends a frame with the payload, compressed if that is worth it. The caller holds mu.
func (s *Socket) appendFrame(dst []byte, op byte, payload []byte) []byte {
	if s.deflate != nil && len(payload) >= deflateFrom && op < opClose {
		return appendFrame(dst, op|deflatedBit, s.deflate.compress(payload))
	}
	return appendFrame(dst, op, payload)
}

// appendFrame appends a masked frame (RFC 6455 section 5.3).
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, finalBit|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	mask := mathrand.Uint32()
	dst = binary.LittleEndian.AppendUint32(dst, mask)
	start := len(dst)
	dst = append(dst, payload...)
	masked := dst[start:]
	wide := uint64(mask)<<32 | uint64(mask)
	for len(masked) >= 8 {
		binary.LittleEndian.PutUint64(masked, binary.LittleEndian.Uint64(masked)^wide)
		masked = masked[8:]
	}
	for i := range masked {
		masked[i] ^= byte(wide >> (8 * i))
	}
	return dst
}
