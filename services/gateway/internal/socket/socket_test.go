package socket

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// hangTimeout bounds everything that should happen soon. It only ends a test that hangs: no result may depend on it.
const hangTimeout = time.Minute

// peer is the client's end of a socket, which may send whatever bytes it likes.
type peer struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

const handshake = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// serve starts a server whose sockets come out of the channel.
func serve(t testing.TB, start func(*httptest.Server)) (*httptest.Server, <-chan *Socket) {
	sockets := make(chan *Socket, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !CheckHandshake(w, r) {
			return
		}
		s, err := answered(wrapped{w}, r, "test.v1", true)
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		sockets <- s
	}))
	start(server)
	t.Cleanup(server.Close)
	return server, sockets
}

// answered accepts, and writes the answer at once.
func answered(w http.ResponseWriter, r *http.Request, subprotocol string, compress bool) (*Socket, error) {
	s, err := Accept(w, r, subprotocol, compress)
	if err != nil {
		return nil, err
	}
	return s, s.Write(s.HandshakeResponse(), time.Time{})
}

// wrapped is a ResponseWriter as middleware leaves it.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pair connects a socket and a peer. first is sent together with the handshake.
func pair(t testing.TB, first ...byte) (*Socket, *peer) {
	server, sockets := serve(t, (*httptest.Server).Start)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return shake(t, conn, sockets, first)
}

// compressedPair is pair with permessage-deflate.
func compressedPair(t testing.TB, first ...byte) (*Socket, *peer) {
	server, sockets := serve(t, (*httptest.Server).Start)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return shakeOffering(t, conn, sockets, "permessage-deflate; client_max_window_bits", first)
}

// securePair is pair over TLS.
func securePair(t testing.TB) (*Socket, *peer) {
	server, sockets := serve(t, (*httptest.Server).StartTLS)
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	return shake(t, conn, sockets, nil)
}

// eachTransport runs test over TCP and over TLS.
func eachTransport(t *testing.T, test func(t *testing.T, s *Socket, p *peer)) {
	t.Run("tcp", func(t *testing.T) { s, p := pair(t); test(t, s, p) })
	t.Run("tls", func(t *testing.T) { s, p := securePair(t); test(t, s, p) })
}

func shake(t testing.TB, conn net.Conn, sockets <-chan *Socket, first []byte) (*Socket, *peer) {
	return shakeOffering(t, conn, sockets, "", first)
}

// shakeOffering offers extensions, if there are any, and wants to be given compression then.
func shakeOffering(t testing.TB, conn net.Conn, sockets <-chan *Socket, extensions string, first []byte) (*Socket, *peer) {
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t, conn, bufio.NewReader(conn)}
	request, answer := handshake+"Sec-WebSocket-Protocol: other, test.v1\r\n", ""
	if extensions != "" {
		request, answer = request+"Sec-WebSocket-Extensions: "+extensions+"\r\n", acceptedOffer
	}
	p.send(append([]byte(request+"\r\n"), first...))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := resp.StatusCode, http.StatusSwitchingProtocols; got != want {
		t.Fatalf("handshake: got %d, want %d", got, want)
	}
	if got, want := resp.Header.Get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want { // RFC 6455 section 1.3
		t.Fatalf("Sec-WebSocket-Accept: got %q, want %q", got, want)
	}
	if got, want := resp.Header.Get("Sec-WebSocket-Protocol"), "test.v1"; got != want {
		t.Fatalf("Sec-WebSocket-Protocol: got %q, want %q", got, want)
	}
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != answer {
		t.Fatalf("Sec-WebSocket-Extensions: got %q, want %q", got, answer)
	}
	select {
	case s := <-sockets:
		t.Cleanup(func() { _ = s.Close() })
		if _, measures := t.(*testing.B); !measures { // a read of what never comes fails the test and does not hang
			hang := time.AfterFunc(hangTimeout, func() { _ = s.Close() })
			t.Cleanup(func() { hang.Stop() })
		}
		return s, p
	case <-time.After(hangTimeout):
		t.Fatal("the handshake was answered, but there is no socket")
		return nil, nil
	}
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	_ = p.SetWriteDeadline(time.Now().Add(hangTimeout))
	if _, err := p.Write(b); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// frame reads one server frame.
func (p *peer) frame() (op Opcode, payload []byte) {
	p.t.Helper()
	op, payload, err := p.next()
	if err != nil {
		p.t.Fatalf("read frame: %v", err)
	}
	return op, payload
}

func (p *peer) next() (Opcode, []byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(hangTimeout))
	var head [10]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		_, _ = io.ReadFull(p.r, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, _ = io.ReadFull(p.r, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(p.r, payload)
	if head[0]&finBit == 0 {
		return 0, nil, errors.New("the server fragments")
	}
	return Opcode(head[0] & 0xF), payload, err
}

// masked makes a client frame with the length in its shortest form.
func masked(first byte, payload string) []byte {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := AppendFrame(nil, 0, []byte(payload))
	size := len(b) - len(payload)
	b[0], b[1] = first, b[1]|maskBit
	out := append(append(b[:size:size], key[:]...), payload...)
	for i := range len(payload) {
		out[size+4+i] ^= key[i%4]
	}
	return out
}

func whole(op Opcode, payload string) []byte { return masked(finBit|byte(op), payload) }
func part(op Opcode, payload string) []byte  { return masked(byte(op), payload) }

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

type message struct {
	op      Opcode
	payload string
}

// conformance is what a client sends and what has to be read of it, by RFC 6455 section 5, 7 and 8.
type conformance struct {
	sent []byte
	want []message
	end  *CloseError // Reason: a part of it
}

func conformanceCases() map[string]conformance {
	closed := func(code int) *CloseError { return &CloseError{Code: code, Remote: true} }
	bad := func(code int, reason string) *CloseError { return &CloseError{Code: code, Reason: reason} }
	long := strings.Repeat("x", 126)
	cases := map[string]conformance{
		"text":             {join(whole(Text, "Hello"), whole(Close, "")), []message{{Text, "Hello"}}, closed(CodeNoStatus)},
		"empty":            {join(whole(Text, ""), whole(Binary, ""), whole(Close, "")), []message{{Text, ""}, {Binary, ""}}, closed(CodeNoStatus)},
		"binary any bytes": {join(whole(Binary, "\xff\x00\xfe"), whole(Close, "")), []message{{Binary, "\xff\x00\xfe"}}, closed(CodeNoStatus)},
		"length forms": {join(whole(Text, long[:125]), whole(Text, long), whole(Text, strings.Repeat("y", 65535)), whole(Text, strings.Repeat("z", 65536)), whole(Close, "")),
			[]message{{Text, long[:125]}, {Text, long}, {Text, strings.Repeat("y", 65535)}, {Text, strings.Repeat("z", 65536)}}, closed(CodeNoStatus)},
		"16-bit length not minimal": {[]byte{0x81, 0xFE, 0, 125, 1, 2, 3, 4}, nil, bad(CodeProtocol, "shortest form")},
		"64-bit length not minimal": {[]byte{0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4}, nil, bad(CodeProtocol, "shortest form")},
		"64-bit length negative":    {[]byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, nil, bad(CodeProtocol, "highest bit")},
		"64-bit length enormous":    {[]byte{0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, nil, bad(CodeTooBig, "too large")},
		"not masked":                {AppendFrame(nil, Text, []byte("Hello")), nil, bad(CodeProtocol, "masked")},
		"RSV1":                      {masked(0xC1, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"RSV2":                      {masked(0xA1, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"RSV3":                      {masked(0x91, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"opcode 3":                  {masked(0x83, "x"), nil, bad(CodeProtocol, "opcode")},
		"opcode 7":                  {masked(0x87, "x"), nil, bad(CodeProtocol, "opcode")},
		"opcode 11":                 {masked(0x8B, "x"), nil, bad(CodeProtocol, "opcode")},
		"opcode 15":                 {masked(0x8F, "x"), nil, bad(CodeProtocol, "opcode")},
		"ping and pong":             {join(whole(Ping, ""), whole(Ping, long[:125]), whole(Pong, "p"), whole(Close, "")), []message{{Ping, ""}, {Ping, long[:125]}, {Pong, "p"}}, closed(CodeNoStatus)},
		"ping too long":             {whole(Ping, long), nil, bad(CodeProtocol, "125")},
		"ping fragmented":           {part(Ping, "x"), nil, bad(CodeProtocol, "fragmented")},
		"close fragmented":          {part(Close, ""), nil, bad(CodeProtocol, "fragmented")},
		"fragments":                 {join(part(Text, "Hel"), part(continuation, ""), whole(continuation, "lo"), whole(Close, "")), []message{{Text, "Hello"}}, closed(CodeNoStatus)},
		"controls between fragments": {join(part(Text, "a"), whole(Ping, "1"), part(continuation, "b"), whole(Pong, "2"), whole(Ping, ""), whole(continuation, "c"), whole(Text, "d"), whole(Close, "")),
			[]message{{Ping, "1"}, {Pong, "2"}, {Ping, ""}, {Text, "abc"}, {Text, "d"}}, closed(CodeNoStatus)},
		"close between fragments":       {join(part(Text, "a"), whole(Close, "\x03\xe8")), nil, closed(1000)},
		"continuation of nothing":       {whole(continuation, "x"), nil, bad(CodeProtocol, "no message to continue")},
		"continuation after the end":    {join(part(Text, "a"), whole(continuation, "b"), whole(continuation, "c")), []message{{Text, "ab"}}, bad(CodeProtocol, "no message to continue")},
		"text within fragments":         {join(part(Text, "a"), whole(Text, "b")), nil, bad(CodeProtocol, "before the last fragment")},
		"binary within fragments":       {join(part(Text, "a"), part(Binary, "b")), nil, bad(CodeProtocol, "before the last fragment")},
		"UTF-8":                         {join(whole(Text, "κόσμε\U0010FFFF"), whole(Close, "")), []message{{Text, "κόσμε\U0010FFFF"}}, closed(CodeNoStatus)},
		"UTF-8 cut by fragments":        {join(part(Text, "\xf0"), part(continuation, "\x9f\x98"), whole(Ping, ""), whole(continuation, "\x80!"), whole(Close, "")), []message{{Ping, ""}, {Text, "😀!"}}, closed(CodeNoStatus)},
		"UTF-8 invalid":                 {whole(Text, "a\xffb"), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 surrogate":               {whole(Text, "\xed\xa0\x80"), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 overlong":                {whole(Text, "\xc0\xaf"), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 unfinished":              {whole(Text, "ab\xf0\x9f\x98"), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 unfinished in fragments": {join(part(Text, "ab\xf0"), whole(continuation, "")), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 invalid in the first":    {part(Text, "a\xff"), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 invalid over fragments":  {join(part(Text, "\xce"), part(continuation, "x")), nil, bad(CodeInvalidText, "not UTF-8")},
		"binary fragments any bytes":    {join(part(Binary, "\xff"), whole(continuation, "\xce"), whole(Close, "")), []message{{Binary, "\xff\xce"}}, closed(CodeNoStatus)},
		"close with code":               {whole(Close, "\x0b\xb8"), nil, closed(3000)},
		"close with reason":             {whole(Close, "\x03\xe8bye"), nil, &CloseError{Code: 1000, Reason: "bye", Remote: true}},
		"close with one byte":           {whole(Close, "\x03"), nil, bad(CodeProtocol, "one byte")},
		"close reason not UTF-8":        {whole(Close, "\x03\xe8\xff"), nil, bad(CodeInvalidText, "not UTF-8")},
		"data after close is not read":  {join(whole(Close, "\x03\xe8"), whole(Text, "x")), nil, closed(1000)},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		name := fmt.Sprintf("close code %d", code)
		cases[name] = conformance{whole(Close, string([]byte{byte(code >> 8), byte(code)})), nil, closed(code)}
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		name := fmt.Sprintf("close code %d", code)
		cases[name] = conformance{whole(Close, string([]byte{byte(code >> 8), byte(code)})), nil, bad(CodeProtocol, "must not be sent")}
	}
	return cases
}

// TestConformance sends frames whole, byte by byte, and behind the handshake, and compares what is read.
//
// checklist:C20
func TestConformance(t *testing.T) {
	testConformance(t, conformanceCases(), pair, func(c net.Conn) *Socket { return newSocket(c, nil) })
}

func testConformance(t *testing.T, cases map[string]conformance, pair func(testing.TB, ...byte) (*Socket, *peer), over func(net.Conn) *Socket) {
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s, p := pair(t)
			p.send(test.sent)
			compare(t, s, test.want, test.end)
		})
		t.Run(name+", behind the handshake", func(t *testing.T) {
			if len(test.sent) > 2000 {
				test = conformance{join(whole(Text, strings.Repeat("w", 1500)), whole(Close, "")), []message{{Text, strings.Repeat("w", 1500)}}, &CloseError{Code: CodeNoStatus, Remote: true}}
			}
			s, _ := pair(t, test.sent...)
			compare(t, s, test.want, test.end)
		})
		t.Run(name+", byte by byte", func(t *testing.T) {
			s := over(&trickle{b: test.sent})
			compare(t, s, test.want, test.end)
		})
	}
}

// trickle is a connection that gives one byte at a time, then EOF.
type trickle struct {
	net.Conn
	b []byte
}

func (c *trickle) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	b[0], c.b = c.b[0], c.b[1:]
	return 1, nil
}

func compare(t *testing.T, s *Socket, want []message, end *CloseError) {
	t.Helper()
	for _, m := range want {
		op, payload, err := s.Read()
		if err != nil || op != m.op || string(payload) != m.payload {
			t.Fatalf("got %d %.40q %v, want %d %.40q", op, payload, err, m.op, m.payload)
		}
	}
	op, payload, err := s.Read()
	var got *CloseError
	if !errors.As(err, &got) || got.Code != end.Code || got.Remote != end.Remote || !strings.Contains(got.Reason, end.Reason) {
		t.Fatalf("got %d %.40q %v, want the end with %+v", op, payload, err, end)
	}
	if _, _, again := s.Read(); again != err {
		t.Errorf("after the end: got %v, want %v", again, err)
	}
}

// checklist:C22
func TestLimit(t *testing.T) {
	tooBig := &CloseError{Code: CodeTooBig, Reason: "too large"}
	tests := map[string]struct {
		sent []byte
		want []message
	}{
		"as large as allowed":    {join(whole(Text, "12345678"), whole(Text, "123456789")), []message{{Text, "12345678"}}},
		"announced, not sent":    {whole(Binary, strings.Repeat("x", 1<<20))[:14], nil},
		"in fragments":           {join(part(Text, "1234"), part(continuation, "5678"), whole(continuation, "9")), nil},
		"fragments start afresh": {join(part(Text, "1234"), whole(continuation, "5678"), part(Text, "1234"), part(continuation, "56789")), []message{{Text, "12345678"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, p := pair(t)
			s.SetLimit(8)
			p.send(test.sent)
			compare(t, s, test.want, tooBig)
		})
	}
}

// TestAbnormalEnd cuts the connection, also half.
func TestAbnormalEnd(t *testing.T) {
	s, p := pair(t)
	p.send(part(Text, "unfinished"))
	if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Read()
	var got *CloseError
	if !errors.As(err, &got) || got.Code != CodeAbnormal || !got.Remote || !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want %d for EOF", err, CodeAbnormal)
	}
	// The client still listens.
	if err := s.Write(AppendFrame(nil, Text, []byte("still here")), time.Now().Add(hangTimeout)); err != nil {
		t.Fatal(err)
	}
	if op, payload := p.frame(); op != Text || string(payload) != "still here" {
		t.Errorf("got %d %q", op, payload)
	}
}

func TestFramesReachTheClient(t *testing.T) {
	eachTransport(t, func(t *testing.T, s *Socket, p *peer) {
		for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 200000} {
			want := strings.Repeat("é", n/2) + strings.Repeat("x", n%2)
			b := AppendFrame(nil, Text, []byte(want))
			took, err := s.TryWrite(b)
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan error, 1)
			go func() { written <- s.Write(b[took:], time.Now().Add(hangTimeout)) }()
			if op, got := p.frame(); op != Text || string(got) != want {
				t.Errorf("%d bytes: got %d with %d bytes", n, op, len(got))
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestTryWriteNeverWaits fills the kernel's buffers for a client that does not read.
func TestTryWriteNeverWaits(t *testing.T) {
	eachTransport(t, func(t *testing.T, s *Socket, p *peer) {
		frame := AppendFrame(nil, Binary, make([]byte, 32<<10))
		sent := 0
		rest := []byte(nil)
		for rest == nil {
			n, err := s.TryWrite(frame)
			if err != nil {
				t.Fatal(err)
			}
			if sent++; n < len(frame) {
				rest = frame[n:]
			}
		}
		if n, err := s.TryWrite(rest); n != 0 && n == len(rest) || err != nil {
			t.Errorf("a full socket took %d bytes, %v", n, err)
		}
		start := time.Now()
		if err := s.Write(make([]byte, 8<<20), start.Add(time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write to a full socket: got %v, want %v", err, os.ErrDeadlineExceeded)
		}
		_ = p.Close()
	})
}

// TestSlowClientGetsEverything reads after the kernel was full.
func TestSlowClientGetsEverything(t *testing.T) {
	eachTransport(t, func(t *testing.T, s *Socket, p *peer) {
		const size = 32 << 10
		frame := AppendFrame(nil, Binary, bytes.Repeat([]byte("s"), size))
		sent := 0
		var rest []byte
		for rest == nil {
			n, err := s.TryWrite(frame)
			if err != nil {
				t.Fatal(err)
			}
			if sent++; n < len(frame) {
				rest = frame[n:]
			}
		}
		written := make(chan error, 1)
		go func() { written <- s.Write(rest, time.Now().Add(hangTimeout)) }()
		for range sent {
			if op, payload := p.frame(); op != Binary || len(payload) != size {
				t.Fatalf("got %d with %d bytes, want %d with %d", op, len(payload), Binary, size)
			}
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if n, err := s.TryWrite(frame); n == 0 || err != nil { // the deadline of Write must not linger
			t.Errorf("TryWrite after Write: took %d, %v", n, err)
		}
	})
}

func TestTryWriteReportsALostClient(t *testing.T) {
	s, p := pair(t)
	_ = p.Conn.(*net.TCPConn).SetLinger(0) // reset
	_ = p.Close()
	if _, _, err := s.Read(); err == nil {
		t.Fatal("Read goes on after a reset")
	}
	frame := AppendFrame(nil, Text, []byte("x"))
	if n, err := s.TryWrite(frame); err == nil {
		t.Errorf("took %d bytes for a client that is gone, want an error", n)
	}
	_ = s.Close()
	if _, err := s.TryWrite(frame); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, net.ErrClosed)
	}
}

func TestAppendClose(t *testing.T) {
	long := strings.Repeat("é", 62) // 124 bytes
	tests := []struct {
		code   int
		reason string
		want   string
	}{
		{1000, "", "\x88\x02\x03\xe8"},
		{1008, "no", "\x88\x04\x03\xf0no"},
		{1008, long, "\x88\x7c\x03\xf0" + long[:122]},
		{1008, strings.Repeat("x", 500), "\x88\x7d\x03\xf0" + strings.Repeat("x", 123)},
		{1008, "a\xffb", "\x88\x07\x03\xf0a\uFFFDb"},
		{CodeNoStatus, "ignored", "\x88\x00"},
		{CodeAbnormal, "ignored", ""},
	}
	for _, test := range tests {
		if got := string(AppendClose(nil, test.code, test.reason)); got != test.want {
			t.Errorf("AppendClose(%d, %.10q): got %q, want %q", test.code, test.reason, got, test.want)
		}
	}
}

// TestEndFrameIsLikeAppendFrame at each form of the length, behind other frames.
func TestEndFrameIsLikeAppendFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("x"), n)
		before := AppendFrame(nil, Text, []byte("before"))
		want := AppendFrame(bytes.Clone(before), Binary, payload)
		got := EndFrame(append(BeginFrame(bytes.Clone(before)), payload...), len(before), Binary)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %.20q…, want %.20q…", n, got, want)
		}
	}
}

// TestHandshakeResponseOnce leaves the response to the first writer.
func TestHandshakeResponseOnce(t *testing.T) {
	s, _ := pair(t)
	if got := s.HandshakeResponse(); got != nil {
		t.Errorf("got %q after the answer was taken, want nothing", got)
	}
}

// TestAcceptAnswersErrors says so to a client whose connection cannot be taken over, and nothing of an agreement.
func TestAcceptAnswersErrors(t *testing.T) {
	for _, upgrade := range []string{"websocket", "nothing we know"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", upgrade)
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		w := httptest.NewRecorder() // which has no connection
		s, err := Accept(w, r, "", true)
		if err == nil || s != nil || w.Code < 400 || w.Header().Get("Sec-WebSocket-Accept") != "" {
			t.Errorf("%s: got %v, %v, status %d, headers %v; want an error and its answer", upgrade, s, err, w.Code, w.Header())
		}
	}
}

// TestRefuse makes sure that a client which is still sending sees the close frame, not a reset.
func TestRefuse(t *testing.T) {
	eachTransport(t, func(t *testing.T, s *Socket, p *peer) {
		p.send(join(whole(Text, "ignored"), whole(Ping, "ignored"), part(Text, strings.Repeat("x", 100000))))
		refused := make(chan struct{})
		go func() { s.Refuse(1008, "no such connection"); close(refused) }()
		if op, payload := p.frame(); op != Close || string(payload) != "\x03\xf0no such connection" {
			t.Errorf("got %d %q", op, payload)
		}
		p.send(whole(Close, "\x03\xf0"))
		<-refused
		if op, payload, err := p.next(); !errors.Is(err, io.EOF) {
			t.Errorf("after both closed: got %d %q %v, want EOF", op, payload, err)
		}
	})
}

// TestBeginCloseEnds gives a client that never closes its time and no more.
func TestBeginCloseEnds(t *testing.T) {
	s, p := pair(t)
	p.send(whole(Text, "ignored"))
	if s.Closing() {
		t.Error("closing before BeginClose")
	}
	s.BeginClose(time.Millisecond)
	if !s.Closing() {
		t.Error("not closing after BeginClose")
	}
	if op, payload, err := s.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d %q %v, want %v", op, payload, err, os.ErrDeadlineExceeded)
	}
}

// TestDrain lets a client see why its oversized message is not taken.
func TestDrain(t *testing.T) {
	eachTransport(t, func(t *testing.T, s *Socket, p *peer) {
		s.SetLimit(100)
		sent := make(chan struct{})
		go func() { defer close(sent); p.send(whole(Text, strings.Repeat("x", 4<<20))) }()
		_, _, err := s.Read()
		var ce *CloseError
		if !errors.As(err, &ce) || ce.Code != CodeTooBig {
			t.Fatalf("got %v, want %d", err, CodeTooBig)
		}
		if err := s.Write(AppendClose(nil, ce.Code, ce.Reason), time.Now().Add(hangTimeout)); err != nil {
			t.Fatal(err)
		}
		drained := make(chan struct{})
		go func() { defer close(drained); s.BeginClose(hangTimeout); s.DiscardInput(); _ = s.Close() }()
		<-sent
		if op, payload := p.frame(); op != Close || !strings.Contains(string(payload), "too large") {
			t.Errorf("got %d %q, want the close frame", op, payload)
		}
		_ = p.Close()
		<-drained
	})
}

func TestMore(t *testing.T) {
	s, p := pair(t)
	frames := join(whole(Text, "a"), whole(Text, "b"), whole(Text, "c")[:5])
	p.send(frames)
	for s.unreadEnd < len(frames) { // until it has all come
		if err := s.readMore(1); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []bool{true, false} {
		if _, _, err := s.Read(); err != nil {
			t.Fatal(err)
		}
		if got := s.HasBufferedFrame(); got != want {
			t.Errorf("More: got %v, want %v", got, want)
		}
	}
}

// TestReadBuffer grows under load and shrinks when that is over.
func TestReadBuffer(t *testing.T) {
	s, p := pair(t)
	read := func(n int) {
		t.Helper()
		for range n {
			if _, _, err := s.Read(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(s.buf); got != idleBuffer {
		t.Fatalf("idle: %d bytes, want %d", got, idleBuffer)
	}
	const n = 1000
	go p.send(bytes.Repeat(whole(Text, strings.Repeat("x", 128)), n))
	read(n)
	if got := len(s.buf); got < 4*idleBuffer || got > busyBuffer {
		t.Errorf("busy: %d bytes, want up to %d", got, busyBuffer)
	}
	p.send(whole(Binary, strings.Repeat("x", 1<<20)))
	read(1)
	if got := len(s.buf); got < 1<<20 || got > 1<<20+busyBuffer {
		t.Errorf("with a large message: %d bytes, want about %d", got, 1<<20)
	}
	for range idleAfter + 1 {
		p.send(whole(Pong, ""))
		read(1)
	}
	if got := len(s.buf); got != idleBuffer {
		t.Errorf("idle again: %d bytes, want %d", got, idleBuffer)
	}
}

func TestActivityCountsPartsOfMessages(t *testing.T) {
	s, p := pair(t)
	before := s.Activity()
	p.send(whole(Text, "Hello")[:5])
	go func() { _, _, _ = s.Read() }()
	for deadline := time.Now().Add(hangTimeout); s.Activity() == before; {
		if time.Now().After(deadline) {
			t.Fatal("half a frame is no activity")
		}
	}
}

func TestHandshakeErrors(t *testing.T) {
	server, _ := serve(t, (*httptest.Server).Start)
	full := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	tests := map[string]struct {
		method, header, value string
		status                int
		text                  string
	}{
		"no upgrade":          {"GET", "Upgrade", "", 400, "Upgrade: websocket"},
		"another upgrade":     {"GET", "Upgrade", "h2c", 400, "Upgrade: websocket"},
		"no connection token": {"GET", "Connection", "keep-alive", 400, "Connection: Upgrade"},
		"old version":         {"GET", "Sec-WebSocket-Version", "8", 426, "must be 13"},
		"no key":              {"GET", "Sec-WebSocket-Key", "", 400, "Sec-WebSocket-Key"},
		"short key":           {"GET", "Sec-WebSocket-Key", "c2hvcnQ=", 400, "Sec-WebSocket-Key"},
		"POST":                {"POST", "", "", 405, "GET"},
	}
	for name, test := range tests {
		req, err := http.NewRequest(test.method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range full {
			req.Header.Set(k, v)
		}
		if test.header != "" {
			req.Header.Set(test.header, test.value)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != test.status || !strings.Contains(string(body), test.text) {
			t.Errorf("%s: got %d %q, want %d with %q", name, resp.StatusCode, body, test.status, test.text)
		}
		if test.status == 426 && resp.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s: the answer does not name version 13", name)
		}
	}
}

// TestServerDeadlinesAreForgotten keeps a socket open for longer than the server's limits for requests.
func TestServerDeadlinesAreForgotten(t *testing.T) {
	const limit = 50 * time.Millisecond
	server, sockets := serve(t, func(s *httptest.Server) {
		s.Config.ReadTimeout, s.Config.WriteTimeout, s.Config.IdleTimeout = limit, limit, limit
		s.Start()
	})
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, p := shake(t, conn, sockets, nil)
	late := time.AfterFunc(2*limit, func() { p.send(whole(Text, "late")) })
	defer late.Stop()
	if op, payload, err := s.Read(); op != Text || string(payload) != "late" || err != nil {
		t.Fatalf("got %d %q %v", op, payload, err)
	}
	frame := AppendFrame(nil, Text, []byte("still"))
	if n, err := s.TryWrite(frame); n != len(frame) || err != nil {
		t.Errorf("TryWrite: took %d of %d, %v", n, len(frame), err)
	}
}

func TestOffered(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Add("Sec-WebSocket-Protocol", "a, b,,c ")
	r.Header.Add("Sec-WebSocket-Protocol", "d")
	if got, want := strings.Join(OfferedSubprotocols(r), "|"), "a|b|c|d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHTTP2IsRefused(t *testing.T) {
	server, _ := serve(t, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 400 || !strings.Contains(string(body), "HTTP/1.1") {
		t.Errorf("got %s %d %q, want HTTP/2 and 400", resp.Proto, resp.StatusCode, body)
	}
}

// TestLibraryClient talks to another implementation of the protocol.
func TestLibraryClient(t *testing.T) {
	server, sockets := serve(t, (*httptest.Server).Start)
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
		ctx := t.Context()
		c, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{Subprotocols: []string{"test.v1"}, CompressionMode: mode})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Subprotocol(); got != "test.v1" {
			t.Errorf("subprotocol: got %q", got)
		}
		s := <-sockets
		echoed := make(chan error, 1)
		go func() { echoed <- echo(s) }()
		c.SetReadLimit(-1)
		for _, n := range []int{0, 1, 125, 126, 1000, 65535, 65536, 1 << 20} {
			want := bytes.Repeat([]byte("m"), n)
			if err := c.Write(ctx, websocket.MessageText, want); err != nil {
				t.Fatal(err)
			}
			kind, got, err := c.Read(ctx)
			if err != nil || kind != websocket.MessageText || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: got %v, %d bytes, %v", n, kind, len(got), err)
			}
		}
		w, err := c.Writer(ctx, websocket.MessageBinary) // writes fragments
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.Write([]byte("frag")); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		if kind, got, err := c.Read(ctx); kind != websocket.MessageBinary || string(got) != "fragfragfrag" || err != nil {
			t.Errorf("fragments: got %v %q %v", kind, got, err)
		}
		if err := c.Close(4321, "enough"); err != nil {
			t.Errorf("close handshake: %v", err)
		}
		var ce *CloseError
		if err := <-echoed; !errors.As(err, &ce) || ce.Code != 4321 || ce.Reason != "enough" || !ce.Remote {
			t.Errorf("got %v, want the client's close", err)
		}
	}
}

// echo answers messages with themselves, and pings, until the client closes.
func echo(s *Socket) error {
	for {
		op, payload, err := s.Read()
		var ce *CloseError
		if errors.As(err, &ce) {
			_ = s.Write(AppendClose(nil, ce.Code, ce.Reason), time.Now().Add(hangTimeout))
			_ = s.Close()
			return err
		}
		if op == Pong {
			continue
		}
		if op == Ping {
			op = Pong
		}
		if err := s.Write(AppendFrame(nil, op, payload), time.Now().Add(hangTimeout)); err != nil {
			return err
		}
	}
}
