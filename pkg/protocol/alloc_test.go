package protocol

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

var (
	sendFrame = []byte(`{"type":"sendToGroup","group":"room-7","ackId":3,"noEcho":true,"dataType":"text","data":"` + strings.Repeat("abcdefgh", 16) + `"}`)
	jsonFrame = []byte(`{"type":"sendToGroup","group":"room-7","ackId":3,"dataType":"json","data":{"name":"ana","text":"` + strings.Repeat("abcdefgh", 16) + `","n":[1,2,3]}}`)
)

func TestDeliveryPathDoesNotAllocate(t *testing.T) {
	var r Request
	if err := JSON.Decode(false, sendFrame, &r); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 4096)
	e := NewEnvelope(&webpubsub.Message{Group: "g", FromUserID: "ana", Data: webpubsub.Text("line\n")})
	protobufMessage, _ := Protobuf.AppendMessage(nil, e)
	protobufText, protobufJSON := inProtobuf(t, sendFrame), inProtobuf(t, jsonFrame)
	paths := map[string]func(){
		"decode text": func() { _ = JSON.Decode(false, sendFrame, &r) },
		"decode json": func() { _ = JSON.Decode(false, jsonFrame, &r) },
		"envelope":    func() { _, _ = r.AppendMessage(dst, "ana") },
		"ack":         func() { _ = JSON.AppendAck(dst, 3, nil) },
		"sequence":    func() { _ = ReliableJSON.AppendNumbered(dst, e.JSON, 12345) },
		"simple":      func() { _, _ = Simple.AppendMessage(dst, e) },

		"decode protobuf text": func() { _ = Protobuf.Decode(true, protobufText, &r) },
		"decode protobuf json": func() { _ = Protobuf.Decode(true, protobufJSON, &r) },
		"protobuf":             func() { _, _ = Protobuf.AppendMessage(dst, e) },
		"protobuf ack":         func() { _ = Protobuf.AppendAck(dst, 3, nil) },
		"protobuf sequence":    func() { _ = ReliableProtobuf.AppendNumbered(dst, protobufMessage, 12345) },
	}
	for name, path := range paths {
		if n := testing.AllocsPerRun(100, path); n != 0 {
			t.Errorf("%s allocates %v times, want never", name, n)
		}
	}
}

// inProtobuf is what the JSON frame says as a protobuf frame.
func inProtobuf(t testing.TB, frame []byte) []byte {
	t.Helper()
	var r Request
	if err := JSON.Decode(false, frame, &r); err != nil {
		t.Fatal(err)
	}
	return Protobuf.AppendRequest(nil, &r)
}

func BenchmarkDecodeText(b *testing.B) { benchDecode(b, sendFrame) }
func BenchmarkDecodeJSON(b *testing.B) { benchDecode(b, jsonFrame) }

func benchDecode(b *testing.B, frame []byte) {
	for codec, frame := range map[Codec][]byte{JSON: frame, Protobuf: inProtobuf(b, frame)} {
		b.Run(codec.Name(), func(b *testing.B) {
			var r Request
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.Decode(codec.Binary(), frame, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEnvelope(b *testing.B) {
	var r Request
	if err := JSON.Decode(false, sendFrame, &r); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = r.AppendMessage(dst[:0], "ana")
	}
}

// BenchmarkMessage is what is done for a message once per node and codec.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{128, 16 << 10} {
		for kind, d := range map[string]webpubsub.Data{"text": webpubsub.Text(strings.Repeat("x", size)),
			"binary": {Type: webpubsub.DataBinary, Bytes: make([]byte, size)}} {
			e := NewEnvelope(&webpubsub.Message{Group: "room-7", FromUserID: "ana", Data: d})
			for _, codec := range []Codec{Simple, JSON, Protobuf} {
				b.Run(fmt.Sprintf("%s=%d/%s", kind, size, codec.Name()), func(b *testing.B) {
					dst := make([]byte, 0, 64<<10)
					b.ReportAllocs()
					for b.Loop() {
						dst, _ = codec.AppendMessage(dst[:0], e)
					}
				})
			}
		}
	}
}

// BenchmarkSequence is what is done for each receiver.
func BenchmarkSequence(b *testing.B) {
	e := NewEnvelope(&webpubsub.Message{Group: "room-7", FromUserID: "ana", Data: webpubsub.Text(strings.Repeat("x", 128))})
	for _, codec := range []Codec{ReliableJSON, ReliableProtobuf} {
		b.Run(codec.Name(), func(b *testing.B) {
			message, _ := codec.AppendMessage(nil, e)
			dst := make([]byte, 0, 4096)
			var n uint64
			b.ReportAllocs()
			for b.Loop() {
				n++
				dst = codec.AppendNumbered(dst[:0], message, n)
			}
		})
	}
}
