package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// FuzzDecode holds Decode against the standard library's idea of JSON, and against our own encoding.
func FuzzDecode(f *testing.F) {
	for _, frame := range []string{
		string(sendFrame), string(jsonFrame), `{"type":"ping"}`, `{"type":"sequenceAck","sequenceId":57}`,
		`{"type":"joinGroup","group":"room-7","ackId":1}`, `{"type":"sendToGroup","group":"g","metadata":{"k":"v","l":"\\t"}}`, `{"type":"event","event":"a.b","data":{"a":[1,-2.5e3,null]},"ackId":4}`,
		`{"type":"sendToGroup","group":"g","dataType":"binary","data":"\/\/8=","ttlSeconds":3,"noEcho":true}`,
		`{"type":"sendToGroup","group":"g","dataType":"text","data":"\ud83d\ude00\ud83d\"é"}`,
		`{"type":"invoke","invocationId":"1","target":"event","event":"e"}`, `{"type":"cancelInvocation","invocationId":"1"}`,
		`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":15000},"noEcho":true}`, `{"type":"streamData","streamId":"s"}`,
		`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"binary","data":"AAEC"}`, `{"type":"streamEnd","streamId":"s"}`,
		`{"type":"streamEnd","streamId":"s","error":{"message":"m","userErrorCode":"E42"}}`, `{"type":"setGroupState","group":"g","ackId":9,"state":{"a":"b","\u0063":""}}`,
	} {
		f.Add([]byte(frame))
	}
	var reused Request // as a connection would
	f.Fuzz(func(t *testing.T, frame []byte) {
		err := JSON.Decode(false, frame, &reused)
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Text == "" || !utf8.ValidString(de.Text) {
				t.Fatalf("error %q", err)
			}
			return
		}
		if !json.Valid(frame) || !utf8.Valid(frame) {
			t.Fatalf("accepted %q", frame)
		}
		var fresh Request
		if err := JSON.Decode(true, frame, &fresh); err != nil || !sameRequest(&fresh, &reused) {
			t.Fatalf("a reused request says %+v, a fresh one %+v, %v", reused, fresh, err)
		}
		checkNames(t, &fresh)
		checkData(t, fresh.Data())
		if fresh.Refusal != "" {
			if fresh.Kind < SetGroupState && (fresh.Kind != StreamStart || fresh.StreamID == "") {
				t.Fatalf("refused, with nobody to tell: %+v", fresh)
			}
			return
		}
		var again Request
		if err := JSON.Decode(false, JSON.AppendRequest(nil, &fresh), &again); err != nil || !sameRequest(&fresh, &again) {
			t.Fatalf("%s\nbecomes %s\nand that %+v, %v", frame, JSON.AppendRequest(nil, &fresh), again, err)
		}
		checkSent(t, &fresh)
	})
}

// checkNames sees to it that a request has the names that its kind needs.
func checkNames(t *testing.T, r *Request) {
	t.Helper()
	needsGroup := r.Kind == JoinGroup || r.Kind == LeaveGroup || r.Kind == SendToGroup || r.Kind == StreamStart || r.Kind >= SetGroupState
	if err := webpubsub.CheckGroup(r.Group); (err == nil) != needsGroup {
		t.Fatalf("%v has the group %q", r.Kind, r.Group)
	}
	if err := webpubsub.CheckEvent(r.Event); (err == nil) != (r.Kind == SendEvent || r.Kind == Invoke) {
		t.Fatalf("%v has the event %q", r.Kind, r.Event)
	}
}

func checkData(t *testing.T, d webpubsub.Data) {
	t.Helper()
	switch d.Type {
	case webpubsub.DataText:
		if !utf8.Valid(d.Bytes) {
			t.Fatalf("text data %q is not UTF-8", d.Bytes)
		}
	case webpubsub.DataJSON:
		if CheckJSON(d.Bytes) != nil {
			t.Fatalf("json data %q is not JSON", d.Bytes)
		}
	}
}

// checkSent sees to it that what a request sends to a group reaches every kind of client.
func checkSent(t *testing.T, r *Request) {
	t.Helper()
	switch {
	case r.Kind == SendToGroup:
		_, e := r.AppendMessage(nil, "u")
		checkEnvelope(t, e, webpubsub.Message{Group: r.Group, FromUserID: "u", Data: r.Data()}, nil)
	case r.Kind == StreamData && r.HasData():
		info := &StreamInfo{StreamID: r.StreamID, Sequence: r.StreamSequence}
		_, e := r.AppendFragment(nil, "g", "u", info)
		checkEnvelope(t, e, webpubsub.Message{Group: "g", FromUserID: "u", Data: r.Data()}, info)
	case r.Kind == StreamEnd:
		info := &StreamInfo{StreamID: r.StreamID, Sequence: 7, End: true, Error: r.StreamError}
		_, e := AppendStreamEnd(nil, "g", "u", info)
		checkEnvelope(t, e, webpubsub.Message{Group: "g", FromUserID: "u", Data: webpubsub.Data{Type: webpubsub.DataText}}, info)
	}
}

// checkEnvelope sees to it that every kind of client reads want from e, and of which stream it is.
func checkEnvelope(t *testing.T, e Envelope, want webpubsub.Message, stream *StreamInfo) {
	t.Helper()
	if !e.Valid() || !json.Valid(e.JSON) || !utf8.Valid(e.JSON) {
		t.Fatalf("not an envelope: %+v", e)
	}
	for _, codec := range Codecs[1:] {
		frame, binary := codec.AppendMessage(nil, e)
		head, rest := codec.AppendHead(nil, frame, 1<<64-1)
		if !bytes.HasSuffix(frame, rest) {
			t.Fatalf("%s: the rest %q is no end of %q", codec.Name(), rest, frame)
		}
		frame = codec.AppendNumbered(nil, frame, 1<<64-1)
		checkSame(t, codec, frame, append(head, rest...))
		if binary != codec.Binary() {
			t.Fatalf("%s: got a binary frame: %v", codec.Name(), binary)
		}
		var r Response
		if err := codec.DecodeResponse(binary, frame, &r); err != nil {
			t.Fatalf("%s: %q: %v", codec.Name(), frame, err)
		}
		if !reflect.DeepEqual(r.Stream, stream) {
			t.Fatalf("%s: %q is of the stream %+v, want %+v", codec.Name(), frame, r.Stream, stream)
		}
		got, want := webpubsub.Message{Group: r.Group, FromUserID: r.FromUserID, Data: r.Data}, want
		if codec.Plain() == Protobuf {
			want.FromUserID = ""
			if want.Data.Type == webpubsub.DataProtobuf && checkAny(want.Data.Bytes) != nil {
				want.Data.Type = webpubsub.DataBinary
			}
		}
		if r.Kind != MessageResponse || got.Group != want.Group || got.FromUserID != want.FromUserID || got.Data.Type != want.Data.Type ||
			!bytes.Equal(got.Data.Bytes, want.Data.Bytes) || !slices.Equal(got.Data.Metadata, want.Data.Metadata) || (r.SequenceID == 1<<64-1) != codec.Reliable() {
			t.Fatalf("%s: %q\n got %+v with number %d\nwant %+v", codec.Name(), frame, got, r.SequenceID, want)
		}
	}
	if payload := e.AppendPayload(nil); !bytes.Equal(payload, want.Data.Bytes) {
		t.Fatalf("%q: a simple client gets %q, want %q", e.JSON, payload, want.Data.Bytes)
	}
}

// FuzzEncode sends any names and bytes through every codec.
func FuzzEncode(f *testing.F) {
	f.Add("room-7", "ana", []byte("Hello"), uint8(webpubsub.DataText))
	f.Add("", "", []byte(`{"x":[1]}`), uint8(webpubsub.DataJSON))
	f.Add("\"\\\n\xff", "é\u2028", []byte("\x00\xff\"\\\xed\xa0\x80😀"), uint8(webpubsub.DataText))
	f.Add("g", "u", []byte{0, 1, 2, 255}, uint8(webpubsub.DataBinary))
	f.Fuzz(func(t *testing.T, group, user string, data []byte, kind uint8) {
		d := webpubsub.Data{Type: webpubsub.DataType(kind%4) + webpubsub.DataText, Bytes: data}
		if d.Type == webpubsub.DataJSON && (CheckJSON(data) != nil || bytes.Equal(bytes.TrimSpace(data), []byte("null"))) {
			return
		}
		if m := (webpubsub.Metadata{{Key: user, Value: group}, {Key: "k", Value: ""}}); m.Check() == nil {
			d.Metadata = m
		}
		want := webpubsub.Message{Group: mended(group), FromUserID: mended(user), Data: d}
		switch d.Type {
		case webpubsub.DataText:
			want.Data.Bytes = []byte(mended(string(data)))
		case webpubsub.DataJSON:
			want.Data.Bytes = bytes.TrimSpace(data) // white space around the value is not the value
		}
		e := NewEnvelope(&webpubsub.Message{Group: group, FromUserID: user, Data: d})
		if d.Type == webpubsub.DataJSON && len(want.Data.Bytes) != len(data) {
			return
		}
		checkEnvelope(t, e, want, nil)

		failure := &Failure{Name: user, Message: group}
		for frame, want := range map[string]Response{
			string(JSON.AppendAck(nil, 7, failure)): {Kind: AckResponse, AckID: 7, Failure: &Failure{mended(user), mended(group)}},
			string(ReliableJSON.AppendConnected(nil, Connected{user, group, user, ""})): {Kind: ConnectedResponse,
				Connected: Connected{mended(user), mended(group), mended(user), ""}},
			string(JSON.AppendDisconnected(nil, group)):     {Kind: DisconnectedResponse, Reason: mended(group)},
			string(Protobuf.AppendAck(nil, 7, failure)):     {Kind: AckResponse, AckID: 7, Failure: &Failure{mended(user), mended(group)}},
			string(Protobuf.AppendDisconnected(nil, group)): {Kind: DisconnectedResponse, Reason: mended(group)},
			string(ReliableProtobuf.AppendConnected(nil, Connected{user, group, user, ""})): {Kind: ConnectedResponse,
				Connected: Connected{mended(user), mended(group), mended(user), ""}},
		} {
			var got Response
			codec := JSON
			if frame[0] != '{' {
				codec = Protobuf
			}
			if err := codec.DecodeResponse(codec.Binary(), []byte(frame), &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q\n got %+v, %v\nwant %+v", frame, got, err, want)
			}
		}
	})
}

// mended is s with U+FFFD for each byte that is not UTF-8.
func mended(s string) string { return string([]rune(s)) }

func FuzzDecodeResponse(f *testing.F) {
	f.Add(JSON.AppendAck(nil, 3, &Failure{Forbidden, "no"}))
	f.Add(JSON.AppendInvokeResponse(nil, "1", webpubsub.Text("x"), nil))
	f.Add(JSON.AppendStreamClosed(nil, "s", nil))
	f.Add(JSON.AppendStreamNack(nil, "s", 2, &Failure{TransientError, "no"}))
	f.Add([]byte(`{"type":"message","from":"group","group":"g","dataType":"text","data":"","stream":{"streamId":"s","streamSequenceId":3,"endOfStream":true,"error":{"name":"UserError"}}}`))
	f.Add([]byte(`{"sequenceId":7,"type":"message","from":"group","group":"g","dataType":"binary","data":"AAEC"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r Response
		if err := JSON.DecodeResponse(false, frame, &r); err != nil {
			return
		}
		if !json.Valid(frame) {
			t.Fatalf("accepted %q", frame)
		}
		checkData(t, r.Data)
	})
}

// FuzzDecodeProtobuf holds Decode against protobuf's own idea of a message, and against our own encoding.
func FuzzDecodeProtobuf(f *testing.F) {
	for _, frame := range []string{
		field(1, field(1, "g")+varint(2, 2)+field(3, field(1, "hi"))+varint(4, 1)+varint(5, 3)),
		field(1, field(1, "g")+field(3, field(3, anyOf("x/y", "v")))), field(1, field(1, "g")+field(7, field(1, "s"))),
		field(1, field(1, "g")+field(3, field(1, "hi"))+field(6, field(1, "k")+field(2, "v"))+field(6, field(1, "l"))),
		field(5, field(1, "e")+field(2, field(4, `{"a":[1,null]}`))+varint(3, 3)+field(4, field(1, "k")+field(2, "v"))), field(5, field(1, "e")+field(2, field(2, "\xff"))),
		field(6, field(1, "g")) + field(7, field(1, "h")), field(8, varint(1, 5)), field(9, ""), field(13, field(1, "s")),
		field(13, field(1, "s")+varint(2, 1)+field(3, field(1, "hi"))), field(1, field(1, "g")+field(7, field(1, "s")+varint(2, 15000))),
		field(14, field(1, "s")), field(14, field(1, "s")+field(2, field(1, "m")+field(2, "E42"))), field(15, field(1, "g")),
		field(15, field(1, "g")+varint(2, 9)+field(3, field(1, field(1, "a")+field(2, "b"))+field(1, field(2, "\"")))), field(16, field(1, "g")), field(17, field(1, "g")),
		field(10, field(1, "e")+field(2, "1")+field(3, field(4, "[1]"))), field(10, field(1, "e")+field(2, "1")), field(11, field(1, "1")),
		"\x9b\x06\x0b\x08\x01\x0c\x9c\x06", "\x4a\x00\x55abcd\x51abcdefgh",
	} {
		f.Add([]byte(frame))
	}
	var reused Request // as a connection would
	f.Fuzz(func(t *testing.T, frame []byte) {
		err := Protobuf.Decode(true, frame, &reused)
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Text == "" || !utf8.ValidString(de.Text) {
				t.Fatalf("error %q", err)
			}
			return
		}
		var empty emptypb.Empty // to which every field is unknown
		if err := proto.Unmarshal(frame, &empty); err != nil {
			t.Fatalf("accepted % x: %v", frame, err)
		}
		var fresh Request
		if err := Protobuf.Decode(true, frame, &fresh); err != nil || !sameRequest(&fresh, &reused) {
			t.Fatalf("a reused request says %+v, a fresh one %+v, %v", reused, fresh, err)
		}
		checkNames(t, &fresh)
		checkData(t, fresh.Data())
		if fresh.Refusal != "" {
			if fresh.Kind < SetGroupState && (fresh.Kind != StreamStart || fresh.StreamID == "") {
				t.Fatalf("refused, with nobody to tell: %+v", fresh)
			}
			return
		}
		for _, codec := range []Codec{Protobuf, JSON} {
			var again Request
			b := codec.AppendRequest(nil, &fresh)
			if err := codec.Decode(codec.Binary(), b, &again); err != nil || !sameRequest(&fresh, &again) {
				t.Fatalf("%s: % x\nbecomes %q\nand that %+v, %v", codec.Name(), frame, b, again, err)
			}
		}
		checkSent(t, &fresh)
	})
}

func FuzzDecodeProtobufResponse(f *testing.F) {
	f.Add(Protobuf.AppendAck(nil, 3, &Failure{Forbidden, "no"}))
	f.Add(ReliableProtobuf.AppendConnected(nil, Connected{"u", "c", "t", ""}))
	f.Add(Protobuf.AppendDisconnected(nil, "bye"))
	f.Add(Protobuf.AppendStreamClosed(nil, "s", &Failure{"IdleTimeout", "m"}))
	f.Add(Protobuf.AppendStreamNack(nil, "s", 2, &Failure{TransientError, "m"}))
	f.Add(Protobuf.AppendStreamAck(nil, "s", 1))
	f.Add(Protobuf.AppendPong(nil))
	f.Add(Protobuf.AppendInvokeResponse(nil, "1", webpubsub.Text("x"), nil))
	f.Add(Protobuf.AppendInvokeResponse(nil, "1", webpubsub.Data{}, &Failure{NotFound, "no"}))
	for _, snapshot := range []bool{true, false} {
		f.Add(Protobuf.AppendGroupState(nil, "g", snapshot, []GroupStateItem{{"c", "u", []byte(`{"a":"b"}`), 7}, {"d", "", nil, 8}}))
	}
	message, _ := Protobuf.AppendMessage(nil, NewEnvelope(&webpubsub.Message{Group: "g", Data: webpubsub.Text("x")}))
	f.Add(ReliableProtobuf.AppendNumbered(nil, message, 7))
	_, ending := AppendStreamEnd(nil, "g", "u", &StreamInfo{StreamID: "s", Sequence: 3, End: true, Error: &StreamError{UserError, "m", "E42"}})
	message, _ = Protobuf.AppendMessage(nil, ending)
	f.Add(message)
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r Response
		if err := Protobuf.DecodeResponse(true, frame, &r); err != nil {
			return
		}
		var empty emptypb.Empty
		if err := proto.Unmarshal(frame, &empty); err != nil {
			t.Fatalf("accepted % x: %v", frame, err)
		}
		checkData(t, r.Data)
		if r.Items != nil && !json.Valid(r.Items) {
			t.Fatalf("% x says the items %q", frame, r.Items)
		}
	})
}

// checkSame wants two frames with a message to mean the same.
func checkSame(t *testing.T, codec Codec, a, b []byte) {
	t.Helper()
	var one, other Response
	if err := codec.DecodeResponse(codec.Binary(), a, &one); err != nil {
		t.Fatalf("%s: %q: %v", codec.Name(), a, err)
	}
	if err := codec.DecodeResponse(codec.Binary(), b, &other); err != nil || !reflect.DeepEqual(one, other) {
		t.Fatalf("%s: %q and %q\n got %+v, %v\nwant %+v", codec.Name(), a, b, other, err, one)
	}
}

func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e+7,true,false,null,"\u00e9\ud83d\\"],"":{}}`))
	f.Add([]byte(strings.Repeat("[", 600)))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := CheckJSON(b)
		if errors.Is(err, jsonscan.ErrDepth) {
			return
		}
		if got, want := err == nil, json.Valid(b) && utf8.Valid(b); got != want {
			t.Fatalf("CheckJSON(%q) accepts: %v (%v), want %v", b, got, err, want)
		}
	})
}

// FuzzForeignEnvelope takes envelopes as another node, perhaps of another version, might send them.
func FuzzForeignEnvelope(f *testing.F) {
	f.Add([]byte(`{"type":"message","dataType":"text","data":"\u00e9"}`), uint8(webpubsub.DataText), 44, 52)
	f.Add([]byte(`"\u12`), uint8(webpubsub.DataText), 1, 3)
	f.Add([]byte(`}`), uint8(webpubsub.DataBinary), 0, 0)
	f.Fuzz(func(_ *testing.T, b []byte, kind uint8, data, end int) {
		e := Envelope{JSON: b, DataType: webpubsub.DataType(kind), Data: data, End: end}
		if !e.Valid() {
			return // is refused when an envelope is read
		}
		for _, codec := range Codecs {
			message, _ := codec.AppendMessage(nil, e)
			codec.AppendNumbered(nil, message, 1)
		}
	})
}
