package hub

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

var withCompression = &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover}

// TestMixedReceivers has members of one list, with and without compression, get the same messages: alone, joined, and among
// what else waits for a connection.
func TestMixedReceivers(t *testing.T) {
	h := newHarness(t, Options{Writers: 1})
	var clients []*websocket.Conn
	var names []string
	var mixed []*Conn
	for name, codec := range eachCodec {
		for _, compression := range []*websocket.DialOptions{nil, withCompression} {
			for _, second := range []bool{false, true} {
				id := fmt.Sprintf("%s, compressed: %v, of two lists: %v", name, compression != nil, second)
				c, client := h.connectBy(compression, id, codec)
				if clients, names = append(clients, client), append(names, id); second {
					mixed = append(mixed, c)
				}
			}
		}
	}
	for _, c := range mixed {
		_, _ = h.Join(c, "second", "second")
	}
	const n = 80
	body := strings.Repeat("a text that is worth compressing; ", 30)
	text := func(i int) string { return fmt.Sprintf("<%d>%s", i, body[:len(body)*(i%4)/4]) }
	for i := range n {
		if i == n/2 { // what was sent before has been written, message by message; what comes now waits together
			<-h.written()
		}
		h.Deliver("list", message(text(i), MessageOptions{}))
		if i%10 == 0 {
			h.Deliver("second", message("second"+text(i), MessageOptions{}))
		}
		if i < n/2 {
			<-h.written()
		}
	}
	for at, client := range clients {
		for i := range n {
			if got := h.read(client); !strings.Contains(got, text(i)) {
				t.Fatalf("%s: got %.200q, want %.50q", names[at], got, text(i))
			}
			if strings.HasSuffix(names[at], "true") && i%10 == 0 {
				if got := h.read(client); !strings.Contains(got, "second"+text(i)) {
					t.Fatalf("%s: got %.200q, want second%.50q", names[at], got, text(i))
				}
			}
		}
	}
}

// TestWhatWaitsIsCompressed for the socket that it has waited for.
func TestWhatWaitsIsCompressed(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{})
			c := h.add("c", codec)
			body := strings.Repeat("worth it, ", 300)
			const n = 100
			for i := range n {
				h.Deliver("list", message(fmt.Sprintf("<%d>%s", i, body[:i%4*len(body)/4]), MessageOptions{}))
			}
			client, _, err := websocket.Dial(t.Context(), h.http.URL, withCompression)
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseNow()
			h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: "c"})
			if codec != protocol.Simple {
				h.readKind(client, codec, protocol.ConnectedResponse)
			}
			for i := range n {
				if got, want := h.read(client), fmt.Sprintf("<%d>%s", i, body[:i%4*len(body)/4]); !strings.Contains(got, want) {
					t.Fatalf("got %.100q with %d bytes, want %.20s with %d", got, len(got), want, len(want))
				}
			}
		})
	}
}

// TestCompressedOnce makes a frame once for each codec, however many ask for it at the same time, and none for small or
// incompressible messages.
func TestCompressedOnce(t *testing.T) {
	large := strings.Repeat("large ", 100)
	for _, codec := range []protocol.Codec{protocol.Simple, protocol.JSON, protocol.Protobuf} {
		m := message(large, MessageOptions{})
		frames := make([][]byte, 16)
		var all sync.WaitGroup
		for i := range frames {
			all.Go(func() { frames[i] = m.frameFor(codec, i%2 == 1) })
		}
		all.Wait()
		for i, f := range frames {
			if &f[0] != &frames[i%2][0] {
				t.Errorf("codec %q: receiver %d got a frame of its own", codec.Name(), i)
			}
		}
		if len(frames[1]) > len(frames[0])/3 {
			t.Errorf("codec %q: %d bytes became %d", codec.Name(), len(frames[0]), len(frames[1]))
		}
		if codec == protocol.JSON && string(socket.Payload(frames[0])) != string(m.envelope.JSON) {
			t.Errorf("the plain frame has changed: %q", frames[0])
		}
	}
	for _, codec := range []protocol.Codec{protocol.ReliableJSON, protocol.ReliableProtobuf} {
		m := message(large, MessageOptions{})
		first, ok := m.appendCompressed(nil, codec, 7)
		rest := &m.compressed.forms[codec.ID()][0]
		second, again := m.appendCompressed(nil, codec, 123456)
		if !ok || !again || rest != &m.compressed.forms[codec.ID()][0] || len(first) > len(large)/3 || len(second) != len(first)+5 && codec == protocol.ReliableJSON {
			t.Errorf("codec %q: got frames of %d and %d bytes", codec.Name(), len(first), len(second))
		}
		if out, ok := message("small", MessageOptions{}).appendCompressed([]byte("x"), codec, 1); ok || string(out) != "x" {
			t.Errorf("codec %q: a small message was compressed to %q", codec.Name(), out)
		}
	}
	small := message("small", MessageOptions{})
	if got, want := small.frameFor(protocol.JSON, true), small.frame(protocol.JSON); &got[0] != &want[0] || small.compressed != nil {
		t.Errorf("a small message was compressed to %q", got)
	}
}

// TestSentBytesAreWireBytes counts what was written, not what it stands for.
func TestSentBytesAreWireBytes(t *testing.T) {
	h := newHarness(t, Options{Writers: 1})
	h.connectBy(withCompression, "c", protocol.Simple)
	<-h.written()
	before := testutil.ToFloat64(h.metrics.bytesOut)
	m := message(strings.Repeat("x", 10_000), MessageOptions{})
	h.Deliver("list", m)
	<-h.written()
	<-h.written() // counted at the end of what was done before
	if got, want := testutil.ToFloat64(h.metrics.bytesOut)-before, float64(len(m.frameFor(protocol.Simple, true))); got != want || want > 1000 {
		t.Errorf("got %v bytes sent, want %v", got, want)
	}
}

// compressedSink is sink with compression.
func (h *harness) compressedSink(id string, codec protocol.Codec) *Conn {
	h.t.Helper()
	conn := h.handshake("Sec-WebSocket-Extensions: permessage-deflate")
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	c := h.add(id, codec)
	h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: id})
	return c
}

// BenchmarkFanOutCompressed is one message to a group, of which nobody or everybody has compression.
func BenchmarkFanOutCompressed(b *testing.B) {
	for _, size := range []int{128, 1024, 16384} {
		for _, receivers := range []int{1, 1000} {
			for _, name := range []string{"json", "json compressed", "reliable json", "reliable json compressed"} {
				b.Run(fmt.Sprintf("%d bytes/%d/%s", size, receivers, name), func(b *testing.B) {
					codec, compressed := strings.CutSuffix(name, " compressed")
					sink := (*harness).sink
					if compressed {
						sink = (*harness).compressedSink
					}
					f := newFanOutOf(b, eachCodec[codec], receivers, sink)
					data := webpubsub.Data{Type: webpubsub.DataJSON, Bytes: testkit.SampleJSON(size)}
					b.ReportAllocs()
					before, sent := measure.OwnCPU(), testutil.ToFloat64(f.metrics.bytesOut)
					for b.Loop() {
						f.round([]*Message{NewMessage(protocol.NewEnvelope(&webpubsub.Message{Group: "g", Data: data}), MessageOptions{})})
					}
					b.ReportMetric(float64((measure.OwnCPU()-before).Nanoseconds())/float64(b.N*receivers), "cpu-ns/delivery")
					<-f.written()
					b.ReportMetric((testutil.ToFloat64(f.metrics.bytesOut)-sent)/float64(b.N*receivers), "bytes/delivery")
				})
			}
		}
	}
}
