package drive

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
	"strings"
	"sync"
	"time"
)

// socket is a client's WebSocket (RFC 6455) that costs little: no goroutine of its own, and one small buffer.
// One goroutine reads; any may send.
type socket struct {
	conn net.Conn
	in   []byte // read and not yet consumed
	buf  []byte // what in lies in
	full bool   // the last read filled buf

	mu       sync.Mutex // guards the following
	out      []byte     // frames that wait to be written
	flushing bool       // somebody writes, and will take out along
	broken   bool
}

// Opcodes (RFC 6455 section 5.2).
const (
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
	maxFrame     = 16 << 20 // bytes of a server's message
	writeTime    = 30 * time.Second
	refusalBytes = 300 // of the answer to a handshake that are quoted
)

// refusal is an answer to the handshake other than 101.
type refusal struct {
	status int
	body   string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("the handshake was answered with %d %s: %s", e.status, http.StatusText(e.status), e.body)
}

// closed is how the server ended a connection.
type closed struct {
	code   int
	reason string
}

func (e *closed) Error() string {
	return fmt.Sprintf("closed by the server with %d %s", e.code, e.reason)
}

// dial opens a socket. The target is an http or https URL.
func dial(ctx context.Context, d *net.Dialer, t *tls.Config, target, subprotocol string) (*socket, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("the URL to connect to is malformed") // it holds a token
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if u.Scheme == "https" {
		config := t.Clone()
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		conn = tls.Client(conn, config)
	}
	s := &socket{conn: conn}
	if err := s.upgrade(u, subprotocol); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// upgrade does the opening handshake (RFC 6455 section 4.1).
func (s *socket) upgrade(u *url.URL, subprotocol string) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", u.RequestURI(), u.Host, key)
	if subprotocol != "" {
		fmt.Fprintf(&request, "Sec-WebSocket-Protocol: %s\r\n", subprotocol)
	}
	request.WriteString("\r\n")
	if _, err := io.WriteString(s.conn, request.String()); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.conn, smallBuffer)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("read the answer to the handshake: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, refusalBytes))
		return &refusal{answer.StatusCode, strings.TrimSpace(string(body))}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return errors.New("the answer to the handshake has a wrong Sec-WebSocket-Accept")
	}
	if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != subprotocol {
		return fmt.Errorf("the server chose the subprotocol %q, not %q", got, subprotocol)
	}
	ahead, _ := r.Peek(r.Buffered())
	s.buf = bytes.Clone(ahead)
	s.in = s.buf
	return nil
}

// fill reads once more. The buffer grows while reads fill it or a frame needs it, and shrinks when it lies idle.
func (s *socket) fill() error {
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
	n := len(s.in)
	m, err := s.conn.Read(s.buf[n:])
	s.in, s.full = s.buf[:n+m], n+m == len(s.buf)
	if m > 0 {
		return nil
	}
	return err
}

func (s *socket) move(size int) {
	buf := make([]byte, size)
	s.in = buf[:copy(buf, s.in)]
	s.buf = buf
}

// next takes a whole frame off what has been read; ok is false when there is none yet. The payload is valid until
// the next fill.
func (s *socket) next() (op byte, final bool, payload []byte, ok bool, err error) {
	b := s.in
	if len(b) < 2 {
		return 0, false, nil, false, nil
	}
	op, final = b[0]&0x0f, b[0]&0x80 != 0
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return 0, false, nil, false, errors.New("the server sent a frame that clients do not expect: masked, or with reserved bits")
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
		return 0, false, nil, false, nil
	}
	if size > maxFrame {
		return 0, false, nil, false, fmt.Errorf("the server sent a frame of %d bytes", size)
	}
	end := head + int(size)
	if len(b) < end {
		return 0, false, nil, false, nil
	}
	s.in = b[end:]
	return op, final, b[head:end], true, nil
}

// send queues a frame and returns at once. A backlog goes out together.
func (s *socket) send(op byte, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return
	}
	s.out = appendFrame(s.out, op, payload)
	if !s.flushing {
		s.flushing = true
		go s.flush()
	}
}

func (s *socket) flush() {
	var batch []byte
	for {
		s.mu.Lock()
		if len(s.out) == 0 || s.broken {
			s.flushing = false
			s.mu.Unlock()
			return
		}
		batch, s.out = s.out, batch[:0]
		if cap(s.out) > 16*smallBuffer {
			s.out = nil
		}
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := s.conn.Write(batch); err != nil {
			s.drop() // the reader sees it and says so
		}
	}
}

// drop cuts the socket without a word.
func (s *socket) drop() {
	s.mu.Lock()
	s.broken = true
	s.mu.Unlock()
	_ = s.conn.Close()
}

// appendFrame appends a masked frame (RFC 6455 section 5.3).
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
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
