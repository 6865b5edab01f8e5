package protocol

import (
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
	paths := map[string]func(){
		"decode text": func() { _ = JSON.Decode(false, sendFrame, &r) },
		"decode json": func() { _ = JSON.Decode(false, jsonFrame, &r) },
		"envelope":    func() { _, _ = r.AppendMessage(dst, "ana") },
		"ack":         func() { _ = JSON.AppendAck(dst, 3, nil) },
		"sequence":    func() { _, _ = ReliableJSON.AppendMessage(dst, e, 12345) },
		"simple":      func() { _, _ = Simple.AppendMessage(dst, e, 0) },
	}
	for name, path := range paths {
		if n := testing.AllocsPerRun(100, path); n != 0 {
			t.Errorf("%s allocates %v times, want never", name, n)
		}
	}
}

func BenchmarkDecodeText(b *testing.B) { benchDecode(b, sendFrame) }
func BenchmarkDecodeJSON(b *testing.B) { benchDecode(b, jsonFrame) }

func benchDecode(b *testing.B, frame []byte) {
	var r Request
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if err := JSON.Decode(false, frame, &r); err != nil {
			b.Fatal(err)
		}
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

func BenchmarkSequence(b *testing.B) {
	e := NewEnvelope(&webpubsub.Message{Group: "room-7", FromUserID: "ana", Data: webpubsub.Text(strings.Repeat("x", 128))})
	dst := make([]byte, 0, 4096)
	var n uint64
	for b.Loop() {
		n++
		dst, _ = ReliableJSON.AppendMessage(dst[:0], e, n)
	}
}
