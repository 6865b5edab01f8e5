package protocol

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestMetadataGoWithTheirMessage sends them in each subprotocol and receives them in each.
//
// checklist:C23
func TestMetadataGoWithTheirMessage(t *testing.T) {
	want := webpubsub.Metadata{{Key: "trace.id", Value: `a "b" \`}, {Key: "Z", Value: ""}, {Key: "a", Value: "1"}}
	for _, d := range []webpubsub.Data{webpubsub.Text("hi"), {Type: webpubsub.DataJSON, Bytes: []byte(`{"metadata":{"x":"y"}}`)},
		{Type: webpubsub.DataBinary, Bytes: []byte{0}}, {Type: webpubsub.DataProtobuf, Bytes: []byte(anyOf("x/y", "v"))}} {
		d.Metadata = want
		for _, from := range Codecs[1:] {
			for _, kind := range []Kind{SendToGroup, SendEvent} {
				sent := &Request{Kind: kind}
				if sent.Group = "g"; kind == SendEvent {
					sent.Group, sent.Event = "", "e"
				}
				sent.SetData(d)
				var r Request
				if err := from.Decode(from.Binary(), from.AppendRequest(nil, sent), &r); err != nil || !sameRequest(&r, sent) {
					t.Errorf("%s: %v: got %+v, %v; want %+v", from.Name(), kind, r, err, sent)
				}
				if kind == SendToGroup {
					_, e := r.AppendMessage(nil, "ana")
					checkEnvelope(t, e, webpubsub.Message{Group: "g", FromUserID: "ana", Data: d}, nil)
				}
			}
		}
	}
	// A request that is used again does not remember them.
	var r Request
	for _, frame := range []string{`{"type":"sendToGroup","group":"g","data":1,"metadata":{"k":"v"}}`, `{"type":"sendToGroup","group":"g","data":1}`} {
		if err := JSON.Decode(false, []byte(frame), &r); err != nil {
			t.Fatal(err)
		}
	}
	if m := r.Data().Metadata; m != nil {
		t.Errorf("got metadata %v of a request before", m)
	}
}

// TestMetadataStandBehindData compares whole messages (client-json.md 3.3 and section 3: an integration test of the SDKs
// compares the order of properties).
//
// checklist:C23
func TestMetadataStandBehindData(t *testing.T) {
	d := webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("hi"), Metadata: webpubsub.Metadata{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}}
	e := NewEnvelope(&webpubsub.Message{Group: "g", Data: d})
	const want = `{"type":"message","from":"group","group":"g","dataType":"text","data":"hi","metadata":{"k":"v","l":"w"}}`
	got, _ := JSON.AppendMessage(nil, e)
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(ReliableJSON.AppendNumbered(nil, got, 7)); got != `{"sequenceId":7,`+want[1:] {
		t.Errorf("got %s, want the number before everything", got)
	}
	if got, _ := Simple.AppendMessage(nil, e); string(got) != "hi" {
		t.Errorf("a simple client gets %q, want hi", got)
	}
	message := field(1, "group") + field(2, "g") + field(3, field(1, "hi")) + field(5, field(1, "k")+field(2, "v")) + field(5, field(1, "l")+field(2, "w"))
	got, _ = Protobuf.AppendMessage(nil, e)
	if string(got) != field(2, message) {
		t.Errorf("got % x, want % x", got, field(2, message))
	}
}

// checklist:C23
func TestMetadataAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		codec Codec
		frame string
	}{
		"json":                         {JSON, `{"type":"sendToGroup","group":"g","metadata":{"k":"v"}}`},
		"protobuf without data":        {Protobuf, field(1, field(1, "g")+field(6, field(1, "k")+field(2, "v")))},
		"protobuf with data of nobody": {Protobuf, field(1, field(1, "g")+field(3, "")+field(6, field(1, "k")+field(2, "v")))},
	} {
		var r Request
		want := webpubsub.Data{Type: webpubsub.DataText, Bytes: nil, Metadata: webpubsub.Metadata{{Key: "k", Value: "v"}}}
		if err := tt.codec.Decode(tt.codec.Binary(), []byte(tt.frame), &r); err != nil || !reflect.DeepEqual(r.Data(), want) {
			t.Errorf("%s: got %+v, %v; want empty text with metadata", name, r.Data(), err)
		}
	}
}

// TestMostMetadata has as much as is allowed, in the shortest keys and in the longest.
func TestMostMetadata(t *testing.T) {
	long := map[string]string{strings.Repeat("k", 256): strings.Repeat("v", 1024), strings.Repeat("l", 256): strings.Repeat("v", 1024)}
	short := map[string]string{}
	for i := range 2048 {
		short[string([]byte{'a' + byte(i>>9), 'a' + byte(i>>6&7), 'a' + byte(i>>3&7), 'a' + byte(i&7)})] = ""
	}
	for _, m := range []map[string]string{long, short} {
		b, _ := json.Marshal(m)
		var r Request
		if err := JSON.Decode(false, []byte(`{"type":"event","event":"e","data":1,"metadata":`+string(b)+`}`), &r); err != nil || len(r.Data().Metadata) != len(m) {
			t.Errorf("got %d, %v; want %d", len(r.Data().Metadata), err, len(m))
		}
	}
}
