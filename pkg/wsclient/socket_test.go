package wsclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
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
func open(t *testing.T, stream []byte, piece int) (*Socket, error) {
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
	return OpenSocket(t.Context(), "http://"+l.Addr().String()+"/x", SocketOptions{})
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
			binary, payload, ok, err := s.Next()
			if err != nil {
				t.Fatalf("pieces of %d, frame %d: %v", piece, i, err)
			}
			if !ok {
				if _, err := s.Fill(); err != nil {
					t.Fatalf("pieces of %d, frame %d: %v", piece, i, err)
				}
				continue
			}
			if binary || !bytes.Equal(payload, want[i]) {
				t.Fatalf("pieces of %d, frame %d: got binary %v and %d bytes, want %d of text", piece, i, binary, len(payload), len(want[i]))
			}
			i++
		}
		if _, err := s.Fill(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last frame: got %v, want EOF", err)
		}
		s.Drop()
	}
}

func TestForeignFramesAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{"masked": {0x81, 0x80, 1, 2, 3, 4}, "reserved bit": {0xc1, 0}, "too long": {0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}} {
		s := &Socket{in: b}
		if _, _, ok, err := s.Next(); ok || err == nil {
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
	_, err := OpenSocket(t.Context(), s.URL+"/client/hubs/bench?access_token=bad", SocketOptions{})
	var r *HandshakeError
	if !errors.As(err, &r) || r.Status != 401 || r.Body != "bad token\n" {
		t.Errorf("got %v, want the 401 and its text", err)
	}
	for _, target := range []string{"http://127.0.0.1:1/?access_token=secret", "http://127.0.0.1:%zz/?access_token=secret"} {
		if _, err := OpenSocket(t.Context(), target, SocketOptions{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want an error without the token", err)
		}
	}
}

// frameOf is a server's frame with a first byte of the test's own.
func frameOf(first byte, payload string) []byte {
	b := serverFrame(0, []byte(payload))
	b[0] = first
	return b
}

func TestMessagesAreJoinedFromFragments(t *testing.T) {
	stream := slices.Concat(frameOf(opText, "a"), frameOf(finalBit|opPing, "?"), frameOf(opContinuation, "b"), frameOf(finalBit|opContinuation, "c"), frameOf(finalBit|opBinary, "d"),
		frameOf(finalBit|opClose, "\x03\xe9gone"))
	s, err := open(t, stream, len(stream))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Drop()
	var got []string
	for {
		binary, payload, ok, err := s.Next()
		if err != nil {
			var end *CloseError
			if !errors.As(err, &end) || end.Code != 1001 || end.Reason != "gone" {
				t.Errorf("got %v, want 1001 gone", err)
			}
			break
		}
		if !ok {
			if _, err := s.Fill(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got = append(got, fmt.Sprintf("%s %v", payload, binary))
	}
	if want := []string{"abc false", "d true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, b := range map[string][]byte{
		"a continuation of nothing": frameOf(finalBit|opContinuation, "a"), "an unknown opcode": frameOf(finalBit|3, "a"), "compressed without agreement": frameOf(finalBit|deflatedBit|opText, "a"),
		"a message within another": slices.Concat(frameOf(opText, "a"), frameOf(finalBit|opText, "b")),
	} {
		s := &Socket{in: b}
		if _, _, ok, err := s.Next(); ok || err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestCompression talks with a server that is not ours.
func TestCompression(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(-1)
		for {
			kind, b, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	for _, compression := range []bool{false, true} {
		c, err := Dial(t.Context(), server.URL, Options{Compression: compression})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Drop)
		if c.Compressed() != compression {
			t.Errorf("offered %v, agreed on %v", compression, c.Compressed())
		}
		for _, size := range []int{0, 1, deflateFrom - 1, deflateFrom, 5000, 300_000} {
			want := strings.Repeat("abcdefghij", size/10+1)[:size]
			if err := c.Send(t.Context(), webpubsub.Text(want)); err != nil {
				t.Fatal(err)
			}
			m, err := c.Receive(t.Context())
			if err != nil || string(m.Data.Bytes) != want {
				t.Fatalf("compression %v: got %d bytes back, %v, want %d", compression, len(m.Data.Bytes), err, size)
			}
		}
	}
}

// TestDialEndsWithItsContext has a server that never answers the handshake.
func TestDialEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Read(make([]byte, 1))
			cancel()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	if _, err := OpenSocket(ctx, "http://"+l.Addr().String(), SocketOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// received undoes the masks of small frames as a server gets them, and returns each one's opcode and payload.
func received(t *testing.T, b []byte) (frames []string) {
	t.Helper()
	for len(b) > 0 {
		n := int(b[1] & 0x7f)
		payload := b[6 : 6+n]
		for i := range payload {
			payload[i] ^= b[2+i%4]
		}
		frames = append(frames, fmt.Sprintf("%x %q", b[0]&opcodeBits, payload))
		b = b[6+n:]
	}
	return frames
}

func TestNothingFollowsACloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &Socket{conn: ours}
		s.Queue(false, []byte("first"))
		synctest.Wait() // it is being written
		s.Queue(false, []byte("second"))
		var got []byte
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, _ = io.ReadAll(theirs)
		}()
		if err := s.WriteClose(1000, ""); err != nil {
			t.Error(err)
		}
		s.Queue(false, []byte("late"))
		if err := s.Write(false, []byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a message after the close frame: got %v, want %v", err, net.ErrClosed)
		}
		if err := s.WriteClose(1000, ""); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second close frame: got %v, want %v", err, net.ErrClosed)
		}
		synctest.Wait()
		s.Drop()
		<-done
		if frames, want := received(t, got), []string{`1 "first"`, `1 "second"`, `8 "\x03\xe8"`}; !slices.Equal(frames, want) {
			t.Errorf("the server got %q, want %q", frames, want)
		}
	})
}

// TestAFrameCutShortIsTheLast has a server that reads half a frame and then nothing.
func TestAFrameCutShortIsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &Socket{conn: ours}
		go func() { _, _ = theirs.Read(make([]byte, 3)) }()
		if err := s.Write(false, []byte("cut short")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
		}
		if err := s.Write(false, []byte("next")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after it: got %v, want %v", err, net.ErrClosed)
		}
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the server reads on: got %v, want %v", err, io.EOF)
		}
	})
}

func TestMalformedControlFramesAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"a ping in fragments": frameOf(opPing, "a"), "a long ping": frameOf(finalBit|opPing, strings.Repeat("a", 126)), "a long close": frameOf(finalBit|opClose, "\x03\xe8"+strings.Repeat("a", 124)),
		"half a code": frameOf(finalBit|opClose, "\x03"), "code 1006": frameOf(finalBit|opClose, "\x03\xee"), "code 999": frameOf(finalBit|opClose, "\x03\xe7"),
		"a reason that is no text": frameOf(finalBit|opClose, "\x03\xe8\xff"),
	} {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		s := &Socket{conn: ours, in: b}
		_, _, ok, err := s.Next()
		if end := (*CloseError)(nil); ok || err == nil || errors.As(err, &end) {
			t.Errorf("%s: got %v, want an error that is not the server's close", name, err)
		}
		s.Drop()
	}
}

func TestCloseFramesThatMayBeSent(t *testing.T) {
	for _, test := range []struct {
		code   int
		reason string
		want   []string // nil: an error
	}{
		{1000, "", []string{`8 "\x03\xe8"`}}, {4999, strings.Repeat("a", 123), []string{`8 "\x13\x87` + strings.Repeat("a", 123) + `"`}}, {1005, "", []string{`8 ""`}},
		{1005, "why", nil}, {1006, "", nil}, {0, "", nil}, {5000, "", nil}, {1000, strings.Repeat("a", 124), nil},
	} {
		ours, theirs := net.Pipe()
		sent := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(theirs)
			sent <- b
		}()
		s := &Socket{conn: ours}
		err := s.WriteClose(test.code, test.reason)
		s.Drop()
		if b := <-sent; (err == nil) != (test.want != nil) || (err == nil && !slices.Equal(received(t, b), test.want)) || (err != nil && len(b) > 0) {
			t.Errorf("%d %.10q: got %v, and %d bytes were sent, want %q", test.code, test.reason, err, len(b), test.want)
		}
	}
}

// TestAnswersThatDoNotUpgradeAreRefused has servers that answer the handshake almost as they should.
func TestAnswersThatDoNotUpgradeAreRefused(t *testing.T) {
	const upgrade, connection = "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"
	deflate := func(parameters string) string {
		return upgrade + connection + "Sec-WebSocket-Extensions: permessage-deflate" + parameters + "\r\n"
	}
	for header, want := range map[string]bool{
		upgrade + connection: true, "upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n": true, deflate("; server_no_context_takeover"): true,
		deflate(";client_no_context_takeover;server_no_context_takeover; server_max_window_bits=12"): true,
		upgrade: false, connection: false, "Upgrade: h2c\r\n" + connection: false, deflate(""): false, deflate("; server_no_context_takeover; client_max_window_bits=9"): false,
		deflate("; server_no_context_takeover") + "Sec-WebSocket-Extensions: x\r\n": false, upgrade + connection + "X: " + strings.Repeat("x", maxHandshake) + "\r\n": false,
	} {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			r, err := http.ReadRequest(bufio.NewReader(theirs))
			if err != nil {
				return
			}
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			_, _ = fmt.Fprintf(theirs, "HTTP/1.1 101 Switching Protocols\r\n%sSec-WebSocket-Accept: %s\r\n\r\n", header, base64.StdEncoding.EncodeToString(sum[:]))
		}()
		dial := func(context.Context, string, string) (net.Conn, error) { return ours, nil }
		s, err := OpenSocket(t.Context(), "http://server/x", SocketOptions{Compression: true, Dial: dial})
		if (err == nil) != want {
			t.Errorf("%.150q: got %v, want accepted: %v", header, err, want)
		}
		if err == nil {
			s.Drop()
		}
		_ = ours.Close()
	}
}

// TestCloseDoesNotWaitForAServerThatDoesNotRead has one that falls silent after the handshake.
func TestCloseDoesNotWaitForAServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			r, err := http.ReadRequest(bufio.NewReader(theirs))
			if err != nil {
				return
			}
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			_, _ = fmt.Fprintf(theirs, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		}()
		c, err := Dial(t.Context(), "http://server/x", Options{Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil }})
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if err := c.Close(1000, ""); err == nil {
			t.Error("got no error, want one: the server did not answer")
		}
		if took := time.Since(started); took != closeTimeout {
			t.Errorf("took %v, want %v", took, closeTimeout)
		}
	})
}
