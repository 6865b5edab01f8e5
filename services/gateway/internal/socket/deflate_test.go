package socket

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

func TestNegotiation(t *testing.T) {
	const bits = acceptedOffer + "; server_max_window_bits=15"
	tests := map[string]struct {
		offers []string
		want   string
	}{
		"nothing":                        {nil, ""},
		"empty":                          {[]string{""}, ""},
		"plain":                          {[]string{"permessage-deflate"}, acceptedOffer},
		"as browsers do":                 {[]string{"permessage-deflate; client_max_window_bits"}, acceptedOffer},
		"both without takeover":          {[]string{"permessage-deflate;server_no_context_takeover ; client_no_context_takeover"}, acceptedOffer},
		"the client's window":            {[]string{"permessage-deflate; client_max_window_bits=8"}, acceptedOffer},
		"our window":                     {[]string{"permessage-deflate; server_max_window_bits=15"}, bits},
		"our window, quoted":             {[]string{`permessage-deflate; server_max_window_bits="15"`}, bits},
		"quoted with a backslash":        {[]string{`permessage-deflate; server_max_window_bits="1\5"`}, bits},
		"everything":                     {[]string{"permessage-deflate; client_max_window_bits=15; server_max_window_bits=15; client_no_context_takeover; server_no_context_takeover"}, bits},
		"another extension before":       {[]string{`x-other; a=1; b="c", permessage-deflate`}, acceptedOffer},
		"another extension":              {[]string{"x-webkit-deflate-frame"}, ""},
		"in the second header":           {[]string{"x-other", "permessage-deflate"}, acceptedOffer},
		"empty elements":                 {[]string{" ,, permessage-deflate ,"}, acceptedOffer},
		"tabs":                           {[]string{"\tpermessage-deflate\t;\tclient_max_window_bits\t=\t9"}, acceptedOffer},
		"a smaller window of ours":       {[]string{"permessage-deflate; server_max_window_bits=14"}, ""},
		"a smaller one, then any":        {[]string{"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, acceptedOffer},
		"the first counts":               {[]string{"permessage-deflate; server_max_window_bits=15, permessage-deflate"}, bits},
		"our window without a value":     {[]string{"permessage-deflate; server_max_window_bits"}, ""},
		"our window, leading zero":       {[]string{"permessage-deflate; server_max_window_bits=015"}, ""},
		"our window too large":           {[]string{"permessage-deflate; server_max_window_bits=16"}, ""},
		"the client's window too small":  {[]string{"permessage-deflate; client_max_window_bits=7"}, ""},
		"the client's window too large":  {[]string{"permessage-deflate; client_max_window_bits=16"}, ""},
		"the client's, no number":        {[]string{"permessage-deflate; client_max_window_bits=x"}, ""},
		"takeover with a value":          {[]string{"permessage-deflate; server_no_context_takeover=1"}, ""},
		"client's takeover with a value": {[]string{`permessage-deflate; client_no_context_takeover="x"`}, ""},
		"unknown parameter":              {[]string{"permessage-deflate; level=9"}, ""},
		"unknown, then good":             {[]string{"permessage-deflate; level=9", "permessage-deflate"}, acceptedOffer},
		"twice the same":                 {[]string{"permessage-deflate; client_no_context_takeover; client_no_context_takeover"}, ""},
		"twice with other values":        {[]string{"permessage-deflate; client_max_window_bits; client_max_window_bits=9"}, ""},
		"another case":                   {[]string{"Permessage-Deflate"}, ""},
		"an offer in quotes":             {[]string{`x; a=",permessage-deflate,"`}, ""},
		"empty quotes":                   {[]string{`permessage-deflate; client_max_window_bits=""`}, ""},
		"no end of quotes":               {[]string{`permessage-deflate; client_max_window_bits="9`}, ""},
		"quotes that end in a backslash": {[]string{`permessage-deflate; client_max_window_bits="9\`}, ""},
		"no value":                       {[]string{"permessage-deflate; client_max_window_bits="}, ""},
		"no parameter":                   {[]string{"permessage-deflate;"}, ""},
		"no comma":                       {[]string{"permessage-deflate permessage-deflate"}, ""},
		"good before malformed":          {[]string{"permessage-deflate, ;="}, acceptedOffer},
		"malformed, then another header": {[]string{"permessage-deflate; =", "permessage-deflate"}, acceptedOffer},
		"no name":                        {[]string{"; client_max_window_bits"}, ""},
		"not ASCII":                      {[]string{"permessage-deflate; \u00e9"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := negotiate(http.Header{"Sec-Websocket-Extensions": test.offers}); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestCompressionIsOffered only where it is wanted.
func TestCompressionIsOffered(t *testing.T) {
	for _, compress := range []bool{false, true} {
		compressed := make(chan bool, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s, err := answered(w, r, "", compress); err == nil {
				compressed <- s.Compressed()
				_ = echo(s)
			}
		}))
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, answer := openPeer(t, conn, "permessage-deflate; server_max_window_bits=15")
		want := map[bool]string{true: acceptedOffer + "; server_max_window_bits=15"}[compress]
		if got := answer.Get("Sec-WebSocket-Extensions"); got != want {
			t.Errorf("wanted is %v: got the answer %q, want %q", compress, got, want)
		}
		if got := <-compressed; got != compress {
			t.Errorf("got Compressed %v, want %v", got, compress)
		}
		_ = conn.Close()
		server.Close()
	}
}

// deflated is the payload of a compressed message, as zlib flushes it.
func deflated(payload string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	_, _ = w.Write([]byte(payload))
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), tail)
}

// finished is the same with a block that is marked as the last.
func finished(payload string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	_, _ = w.Write([]byte(payload))
	_ = w.Close()
	return b.String()
}

// packed and packedPart are compressed frames.
func packed(op Opcode, payload string) []byte     { return masked(finBit|rsv1Bit|byte(op), payload) }
func packedPart(op Opcode, payload string) []byte { return masked(rsv1Bit|byte(op), payload) }

// compressedCases are those of RFC 7692 section 6 to 8. The examples are those of section 7.2.3.
func compressedCases() map[string]conformance {
	closed := &CloseError{Code: CodeNoStatus, Remote: true}
	bad := func(code int, reason string) *CloseError { return &CloseError{Code: code, Reason: reason} }
	corrupt := bad(CodeInvalidText, "decompressed")
	end := whole(Close, "")
	long := strings.Repeat("a long message, ", 5000)
	noise := make([]byte, 70000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	hello := []message{{Text, "Hello"}}
	const shared = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	lasts := func(n int) string { return strings.Repeat("\x03\x00", n) + "\x00" }
	return map[string]conformance{
		"one block":                          {join(packed(Text, shared), end), hello, closed},
		"in two frames":                      {join(packedPart(Text, shared[:3]), whole(continuation, shared[3:]), end), hello, closed},
		"no compression":                     {join(packed(Text, "\x00\x05\x00\xfa\xffHello\x00"), end), hello, closed},
		"a last block":                       {join(packed(Text, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), end), hello, closed},
		"a last block and nothing":           {join(packed(Text, "\xf3\x48\xcd\xc9\xc9\x07\x00"), end), hello, closed},
		"two blocks":                         {join(packed(Text, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), end), hello, closed},
		"a last block, then one that refers": {join(packed(Text, finished("Hello Hello ")+deflated("Hello")), end), []message{{Text, "Hello Hello Hello"}}, closed},
		"empty":                              {join(packed(Text, "\x00"), packed(Binary, "\x00"), end), []message{{Text, ""}, {Binary, ""}}, closed},
		"plain among compressed":             {join(packed(Text, shared), whole(Text, "plain"), packed(Text, shared), end), []message{{Text, "Hello"}, {Text, "plain"}, {Text, "Hello"}}, closed},
		"long":                               {join(packed(Text, deflated(long)), packed(Binary, deflated(string(noise))), end), []message{{Text, long}, {Binary, string(noise)}}, closed},
		"controls between fragments": {join(packedPart(Text, shared[:1]), whole(Ping, "1"), part(continuation, ""), whole(Pong, "2"), part(continuation, shared[1:6]), whole(continuation, shared[6:]), packed(Text, shared), end),
			[]message{{Ping, "1"}, {Pong, "2"}, {Text, "Hello"}, {Text, "Hello"}}, closed},
		"fragments, then plain ones":   {join(packedPart(Text, shared[:1]), whole(continuation, shared[1:]), part(Text, "pl"), whole(continuation, "ain"), end), []message{{Text, "Hello"}, {Text, "plain"}}, closed},
		"UTF-8":                        {join(packed(Text, deflated("κόσμε")), end), []message{{Text, "κόσμε"}}, closed},
		"UTF-8 invalid":                {packed(Text, deflated("a\xffb")), nil, bad(CodeInvalidText, "not UTF-8")},
		"UTF-8 unfinished":             {join(packedPart(Text, deflated("ab\xf0")), whole(continuation, "")), nil, bad(CodeInvalidText, "not UTF-8")},
		"binary any bytes":             {join(packed(Binary, deflated("\xff\xce")), end), []message{{Binary, "\xff\xce"}}, closed},
		"corrupt":                      {packed(Text, "\xff\xff\xff"), nil, corrupt},
		"corrupt after good":           {join(packed(Text, shared), packed(Text, "\x07")), hello, corrupt},
		"nothing at all":               {packed(Text, ""), nil, corrupt},
		"refers to the message before": {join(packed(Text, shared), packed(Text, "\xf2\x00\x11\x00\x00")), hello, corrupt}, // example of takeover
		"last blocks":                  {join(packed(Binary, lasts(maxLastBlocks-1)), end), []message{{Binary, ""}}, closed},
		"too many last blocks":         {packed(Binary, lasts(maxLastBlocks)), nil, corrupt},
		"RSV1 of a ping":               {masked(finBit|rsv1Bit|byte(Ping), "x"), nil, bad(CodeProtocol, "compressed")},
		"RSV1 of a close":              {masked(finBit|rsv1Bit|byte(Close), ""), nil, bad(CodeProtocol, "compressed")},
		"RSV1 of a continuation":       {join(packedPart(Text, shared[:3]), packed(continuation, shared[3:])), nil, bad(CodeProtocol, "compressed")},
		"RSV1 of a plain continuation": {join(part(Text, "a"), packed(continuation, "b")), nil, bad(CodeProtocol, "compressed")},
		"RSV2":                         {masked(0xA1, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"RSV3":                         {masked(0x91, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"RSV1 and RSV2":                {masked(0xE1, "x"), nil, bad(CodeProtocol, "reserved bit")},
		"too large":                    {packed(Binary, deflated(strings.Repeat("x", 1<<20+1))), nil, bad(CodeTooBig, "too large")},
		"as large as allowed":          {join(packed(Binary, deflated(strings.Repeat("x", 1<<20))), end), []message{{Binary, strings.Repeat("x", 1<<20)}}, closed},
	}
}

// TestCompressedConformance is TestConformance with the extension, plain messages included: all that held still does.
func TestCompressedConformance(t *testing.T) {
	cases := compressedCases()
	for name, test := range conformanceCases() {
		if name != "RSV1" {
			cases["plain: "+name] = test
		}
	}
	testConformance(t, cases, compressedPair, compressedOver)
}

// compressedOver is a socket with the extension, without a handshake.
func compressedOver(c net.Conn) *Socket {
	s := newSocket(c, nil)
	s.compress(http.Header{}, http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}})
	return s
}

// lenientDeflate says where the library's server takes compressed messages that it should not, says less, or stops at a block
// marked as the last: see lenient.
var lenientDeflate = map[string]string{
	"a last block, then one that refers": "1:12 close 1005",
	"UTF-8 invalid":                      "1:3 end",
	"UTF-8 unfinished":                   "1:3 end",
	"corrupt":                            "end",
	"corrupt after good":                 "1:5 end",
	"nothing at all":                     "1:0 end",
	"refers to the message before":       "1:5 end",
	"too many last blocks":               "2:0 end",
}

// TestCompressedLikeTheLibrary is TestLikeTheLibrary with the extension.
func TestCompressedLikeTheLibrary(t *testing.T) {
	likeTheLibrary(t, compressedCases(), lenientDeflate, "permessage-deflate; client_no_context_takeover; server_no_context_takeover")
}

// TestInflationIsBounded by what comes out, before all of it has.
func TestInflationIsBounded(t *testing.T) {
	bomb := deflated(strings.Repeat("\x00", 2<<20)) // 2 KiB
	s := compressedOver(&trickle{b: packed(Binary, bomb)})
	s.SetLimit(100 << 10)
	compare(t, s, nil, &CloseError{Code: CodeTooBig, Reason: "too large"})

	i := inflaters.New().(*inflater)
	out, err := i.inflate(nil, []byte(bomb), 1000)
	if err != errInflatedTooLarge || len(out) != 1001 || cap(out) > 4000 || i.at > len(bomb)/10 {
		t.Errorf("got %v with %d bytes in a buffer of %d, having read %d of %d; want it to stop behind the limit", err, len(out), cap(out), i.at, len(bomb))
	}

	// What is compressed may be a little larger than the message, and no more: in one frame or in many.
	for _, sent := range [][]byte{packed(Binary, strings.Repeat("x", compressedLimit(1000)+1)),
		join(packedPart(Binary, strings.Repeat("\x00\x00\x00\xff\xff", compressedLimit(1000)/5)), whole(continuation, strings.Repeat("x", 5)))} {
		s := compressedOver(&trickle{b: sent})
		s.SetLimit(1000)
		compare(t, s, nil, &CloseError{Code: CodeTooBig, Reason: "too large"})
	}
}

// TestCompress makes frames whose payload any decompressor takes.
func TestCompress(t *testing.T) {
	noise := make([]byte, 1000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for _, payload := range []string{"", "x", string(noise)} {
		if got := Compress(AppendFrame(nil, Text, []byte(payload))); got != nil {
			t.Errorf("%d bytes became a frame of %d; want none, as it is no shorter", len(payload), len(got))
		}
	}
	for _, n := range []int{200, 1000, 65536, 300000, 4 << 20} {
		payload := strings.Repeat("x", n)
		frame := Compress(AppendFrame(nil, Binary, []byte(payload)))
		if frame == nil || len(frame) > n/2 || frame[0] != finBit|rsv1Bit|byte(Binary) {
			t.Fatalf("%d bytes: got a frame of %d bytes, %.20x", n, len(frame), frame)
		}
		i := inflaters.New().(*inflater)
		if got, err := i.inflate(nil, Payload(frame), n); err != nil || string(got) != payload {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// TestSplice puts beginnings before one compressed rest.
func TestSplice(t *testing.T) {
	noise := make([]byte, 1000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	if got := Deflate(noise); got != nil {
		t.Errorf("noise became %d bytes; want none, as they are no fewer", len(got))
	}
	for _, n := range []int{100, 1000, 300_000} {
		rest := []byte(strings.Repeat("the rest, ", n/10))
		shared := Deflate(rest)
		before := AppendFrame(nil, Text, []byte("before"))
		for _, head := range []string{"", "a", strings.Repeat("the rest, ", 20), strings.Repeat("x", 65535)} {
			b := EndSharedTail(append(BeginSharedTail(bytes.Clone(before)), head...), len(before), shared, Binary)
			frame, ok := bytes.CutPrefix(b, before)
			if !ok || frame[0] != finBit|rsv1Bit|byte(Binary) || len(Payload(frame)) != storedHeader+len(head)+len(shared) {
				t.Fatalf("%d bytes behind %d: got %.30x with %d", n, len(head), b, len(b))
			}
			s := compressedOver(&trickle{b: join(packed(Binary, string(Payload(frame))), whole(Close, ""))})
			compare(t, s, []message{{Binary, head + string(rest)}}, &CloseError{Code: CodeNoStatus, Remote: true})
		}
	}
}

// TestIdleSocketsHoldNoMessage gives the memory of a compressed message back as soon as the next is waited for.
func TestIdleSocketsHoldNoMessage(t *testing.T) {
	s, p := compressedPair(t)
	p.send(join(packed(Text, deflated(strings.Repeat("x", 10000))), whole(Pong, "")))
	if _, payload, err := s.Read(); err != nil || len(payload) != 10000 || s.inflated == nil {
		t.Fatalf("got %d bytes, %v", len(payload), err)
	}
	if _, _, err := s.Read(); err != nil || s.inflated != nil {
		t.Errorf("got %v, and the message still held: %v", err, s.inflated != nil)
	}
}

// TestLibraryClientCompressed talks to another implementation, which compresses and is sent compressed messages.
func TestLibraryClientCompressed(t *testing.T) {
	server, sockets := serve(t, (*httptest.Server).Start)
	for _, mode := range []websocket.CompressionMode{websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover} {
		ctx, cancel := context.WithTimeout(t.Context(), 6*hangTimeout)
		defer cancel()
		c, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{Subprotocols: []string{"test.v1"}, CompressionMode: mode, CompressionThreshold: 1})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		s := <-sockets
		ended := make(chan int, 1)
		go func() { // returns how many messages it could compress
			n := 0
			for {
				op, payload, err := s.Read()
				if err != nil {
					ended <- n
					return
				}
				frame := AppendFrame(nil, op, payload)
				if z := Compress(frame); z != nil {
					frame, n = z, n+1
				}
				if err := s.Write(frame, time.Now().Add(hangTimeout)); err != nil {
					t.Error(err)
				}
			}
		}()
		sent := 0
		for _, n := range []int{0, 1, 125, 126, 1000, 65535, 65536, 1 << 20} {
			for _, unit := range []string{"m", "κόσ"} {
				want := strings.Repeat(unit, n/len(unit))
				if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
					t.Fatal(err)
				}
				if kind, got, err := c.Read(ctx); err != nil || kind != websocket.MessageText || string(got) != want {
					t.Fatalf("%d bytes: got %v, %d bytes, %v", n, kind, len(got), err)
				}
				if n >= 125 {
					sent++
				}
			}
		}
		_ = c.CloseNow()
		if got := <-ended; got != sent {
			t.Errorf("%d messages came back compressed, want %d", got, sent)
		}
	}
}

// FuzzNegotiate wants of any header that an answer is one of two, and that offers behind it change nothing.
func FuzzNegotiate(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits=15", "x; a=\"b\\\"c\"")
	f.Add("permessage-deflate; server_max_window_bits=\"10\", permessage-deflate", ",,")
	f.Fuzz(func(t *testing.T, first, second string) {
		got := negotiate(http.Header{"Sec-Websocket-Extensions": {first, second}})
		if got != "" && got != acceptedOffer && got != acceptedOffer+"; server_max_window_bits=15" {
			t.Fatalf("got the answer %q", got)
		}
		alone := negotiate(http.Header{"Sec-Websocket-Extensions": {first}})
		if alone != "" && alone != got {
			t.Fatalf("got %q, and %q with another header behind", alone, got)
		}
		if want := plainNegotiate(first); alone != want {
			t.Fatalf("got %q, want %q", alone, want)
		}
	})
}

// FuzzReadCompressed is FuzzRead with the extension.
func FuzzReadCompressed(f *testing.F) {
	for _, test := range compressedCases() {
		if len(test.sent) < 1000 {
			f.Add(test.sent, uint16(7), uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte, size, early uint16) { fuzzRead(t, sent, size, early, true) })
}

// FuzzCompress reads our own compressed frames with the reference.
func FuzzCompress(f *testing.F) {
	f.Add([]byte("Hello, Hello, Hello, Hello, Hello"))
	f.Add(bytes.Repeat([]byte(`{"a":1},`), 30))
	f.Fuzz(func(t *testing.T, payload []byte) {
		frame := Compress(AppendFrame(nil, Binary, payload))
		if frame == nil || len(payload) > fuzzLimit {
			return
		}
		got, end := reference(withMask(frame, len(frame)-len(Payload(frame))), true)
		if len(got) != 1 || got[0] != (message{Binary, string(payload)}) {
			t.Fatalf("%q reads as %+v, %+v", frame, got, end)
		}
		head, rest := payload[:len(payload)/4], Deflate(payload[len(payload)/4:])
		if rest == nil {
			return
		}
		frame = EndSharedTail(append(BeginSharedTail(nil), head...), 0, rest, Binary)
		got, end = reference(withMask(frame, len(frame)-len(Payload(frame))), true)
		if len(got) != 1 || got[0] != (message{Binary, string(payload)}) {
			t.Fatalf("spliced %q reads as %+v, %+v", frame, got, end)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	for _, n := range []int{128, 256, 512, 1024, 16384} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			frame := AppendFrame(nil, Text, testkit.SampleJSON(n))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			var z []byte
			before := measure.OwnCPU()
			for b.Loop() {
				z = Compress(frame)
			}
			b.ReportMetric(float64((measure.OwnCPU()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(len(z)), "bytes/frame")
		})
	}
}

func BenchmarkReadCompressed(b *testing.B) {
	for _, n := range []int{128, 1024, 16384} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := compressedOver(&endless{frame: packed(Text, deflated(string(testkit.SampleJSON(n))))})
			b.SetBytes(int64(n))
			b.ReportAllocs()
			before := measure.OwnCPU()
			for b.Loop() {
				if _, _, err := s.Read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((measure.OwnCPU()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
