package drive

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// serverFrame is a frame as servers send it.
func serverFrame(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// open dials a server that answers the handshake and sends stream in pieces, the first one with its answer.
func open(t *testing.T, stream []byte, piece int) (*socket, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
		rest := append([]byte(answer), stream...)
		first := min(len(answer)+piece, len(rest))
		for n := first; len(rest) > 0; n = min(piece, len(rest)) {
			if _, err := conn.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	return dial(t.Context(), &net.Dialer{}, &tls.Config{}, "http://"+l.Addr().String()+"/x", "")
}

func TestFramesArriveWholeHoweverTheyAreCut(t *testing.T) {
	var stream []byte
	var want [][]byte
	for i, size := range []int{0, 1, 125, 126, 5000, 70_000, 3, 2046, 2048, 65_535, 65_536, 10} {
		payload := bytes.Repeat([]byte{byte('a' + i)}, size)
		want = append(want, payload)
		stream = append(stream, serverFrame(opText, payload)...)
	}
	for _, piece := range []int{1, 7, 2048, 100_000, len(stream)} {
		s, err := open(t, stream, piece)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(want); {
			op, final, payload, ok, err := s.next()
			if err != nil {
				t.Fatalf("pieces of %d, frame %d: %v", piece, i, err)
			}
			if !ok {
				if err := s.fill(); err != nil {
					t.Fatalf("pieces of %d, frame %d: %v", piece, i, err)
				}
				continue
			}
			if op != opText || !final || !bytes.Equal(payload, want[i]) {
				t.Fatalf("pieces of %d, frame %d: got opcode %d and %d bytes, want %d", piece, i, op, len(payload), len(want[i]))
			}
			i++
		}
		if err := s.fill(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last frame: got %v, want EOF", err)
		}
		s.drop()
	}
}

func TestForeignFramesAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{"masked": {0x81, 0x80, 1, 2, 3, 4}, "reserved bit": {0xc1, 0}, "too long": {0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}} {
		s := &socket{in: b}
		if _, _, _, ok, err := s.next(); ok || err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestSentFramesAreMasked undoes what the frame's own mask did.
func TestSentFramesAreMasked(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 13, 125, 126, 65_536} {
		payload := bytes.Repeat([]byte("x"), size)
		b := appendFrame(nil, opText, payload)
		head := map[bool]int{true: 2, false: 4}[size < 126]
		if size >= 1<<16 {
			head = 10
		}
		mask, got := b[head:head+4], b[head+4:]
		for i := range got {
			got[i] ^= mask[i%4]
		}
		if b[1]&0x80 == 0 || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: the frame does not carry its payload", size)
		}
	}
}

func TestRefusedHandshakeIsQuoted(t *testing.T) {
	s := newServer(t)
	_, err := dial(t.Context(), &net.Dialer{}, &tls.Config{}, s.URL+"/client/hubs/bench", "")
	var r *refusal
	if !errors.As(err, &r) || r.status != 401 || r.body != "bad token" {
		t.Errorf("got %v, want the 401 and its text", err)
	}
	if _, err := dial(t.Context(), &net.Dialer{}, &tls.Config{}, "http://127.0.0.1:1/?access_token=secret", ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the token", err)
	}
}
