package protocol

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestEncodeStreamExamples compares the whole text of what client-json.md section 6 shows.
//
// checklist:C25 C26 C27
func TestEncodeStreamExamples(t *testing.T) {
	var fragment Request
	if err := JSON.Decode(false, []byte(`{"type":"streamData","streamId":"7b1c","streamSequenceId":1,"dataType":"text","data":"Hel"}`), &fragment); err != nil {
		t.Fatal(err)
	}
	first := &StreamInfo{StreamID: "7b1c", Sequence: 1}
	end := &StreamInfo{StreamID: "7b1c", Sequence: 3, End: true}
	crash := &StreamInfo{StreamID: "7b1c", Sequence: 3, End: true, Error: &StreamError{UserError, "model crashed", "E42"}}
	idle := &StreamInfo{StreamID: "7b1c", Sequence: 3, End: true, Error: &StreamError{Name: IdleTimeout}}
	frame := func(c Codec, e Envelope) string {
		frame, _ := c.AppendMessage(nil, e)
		return string(c.AppendNumbered(nil, frame, 5))
	}
	fragmentOf := func(c Codec) string {
		_, e := fragment.AppendFragment([]byte("before"), "room-7", "ana", first)
		return frame(c, e)
	}
	endOf := func(c Codec, s *StreamInfo) string {
		_, e := AppendStreamEnd([]byte("before"), "room-7", "ana", s)
		return frame(c, e)
	}
	const head = `"type":"message","from":"group","group":"room-7","fromUserId":"ana","dataType":"text","data":`
	tests := []struct{ got, want string }{
		{string(JSON.AppendStreamAck(nil, "7b1c", 4)), `{"type":"streamAck","streamId":"7b1c","expectedSequenceId":4}`},
		{string(JSON.AppendStreamNack(nil, "7b1c", 2, &Failure{InvalidSequenceID, "gap"})),
			`{"type":"streamNack","streamId":"7b1c","expectedSequenceId":2,"name":"InvalidSequenceId","message":"gap"}`},
		{string(JSON.AppendStreamClosed(nil, "7b1c", nil)), `{"type":"streamClosed","streamId":"7b1c"}`},
		{fragmentOf(JSON), `{` + head + `"Hel","stream":{"streamId":"7b1c","streamSequenceId":1}}`},
		{fragmentOf(ReliableJSON), `{"sequenceId":5,` + head + `"Hel","stream":{"streamId":"7b1c","streamSequenceId":1}}`},
		{fragmentOf(Simple), `Hel`},
		{endOf(JSON, end), `{` + head + `"","stream":{"streamId":"7b1c","streamSequenceId":3,"endOfStream":true}}`},
		{endOf(JSON, crash), `{` + head + `"","stream":{"streamId":"7b1c","streamSequenceId":3,"endOfStream":true,"error":{"name":"UserError","message":"model crashed","userErrorCode":"E42"}}}`},
		{endOf(JSON, idle), `{` + head + `"","stream":{"streamId":"7b1c","streamSequenceId":3,"endOfStream":true,"error":{"name":"IdleTimeout"}}}`},
		{endOf(Simple, end), ``},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("\n got %s\nwant %s", test.got, test.want)
		}
	}
	if out := Simple.AppendStreamNack(Simple.AppendStreamAck(nil, "s", 1), "s", 1, &Failure{}); len(out) != 0 {
		t.Errorf("a simple client would get %q", out)
	}
}

func TestDecodeStreamResponses(t *testing.T) {
	message := func(s *StreamInfo) Response {
		return Response{Kind: MessageResponse, Group: "g", Data: webpubsub.Data{Type: webpubsub.DataText, Bytes: []byte("")}, Stream: s}
	}
	const group = `{"type":"message","from":"group","group":"g","dataType":"text","data":""`
	for frame, want := range map[string]Response{
		`{"type":"streamAck","streamId":"s","expectedSequenceId":4}`: {Kind: StreamAckResponse, StreamID: "s", Expected: 4},
		`{"type":"streamNack","streamId":"s","expectedSequenceId":2,"name":"TransientError","message":"gap"}`: {Kind: StreamNackResponse,
			StreamID: "s", Expected: 2, Failure: &Failure{TransientError, "gap"}},
		group + `,"stream":{"streamId":"s","streamSequenceId":1}}`:                    message(&StreamInfo{StreamID: "s", Sequence: 1}),
		group + `,"stream":{"streamId":"s","streamSequenceId":3,"endOfStream":true}}`: message(&StreamInfo{StreamID: "s", Sequence: 3, End: true}),
		group + `,"stream":{"streamId":"s","streamSequenceId":3,"endOfStream":true,"error":{"name":"UserError","userErrorCode":"E"}}}`: message(&StreamInfo{
			StreamID: "s", Sequence: 3, End: true, Error: &StreamError{Name: UserError, UserErrorCode: "E"}}),
		group + `,"stream":{"streamId":"s"}}`: message(nil), // as SDKs do, a plain message
		group + `,"stream":null}`:             message(nil),
	} {
		var got Response
		if err := JSON.DecodeResponse(false, []byte(frame), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", frame, got, err, want)
		}
	}
}

// TestStreamStartIsRefusedByName has starts whose stream is known, so that its publisher can be told.
//
// checklist:C25
func TestStreamStartIsRefusedByName(t *testing.T) {
	for members, want := range map[string]string{
		`"stream":{"streamId":"s","idleTimeoutMs":0}`:                    "idleTimeoutMs must be",
		`"stream":{"streamId":"s","idleTimeoutMs":4294967296}`:           "idleTimeoutMs must be",
		`"stream":{"streamId":"s","idleTimeoutMs":18446744073709551615}`: "idleTimeoutMs must be",
		`"stream":{"streamId":"s"},"dataType":"text","data":"x"`:         "has no data",
		`"stream":{"streamId":"s"},"data":{}`:                            "has no data",
		`"stream":{"streamId":"s"},"ackId":1`:                            "has no ackId",
	} {
		var r Request
		if err := JSON.Decode(false, []byte(`{"type":"sendToGroup","group":"g",`+members+`}`), &r); err != nil {
			t.Errorf("%s: %v", members, err)
		}
		if r.Kind != StreamStart || r.StreamID != "s" || r.HasAck || !strings.Contains(r.Refusal, want) {
			t.Errorf("%s: got %+v, want it refused with %q", members, r, want)
		}
	}
}

// TestDecodeRefusesStreams has what no publisher's SDK sends: the connection is closed.
func TestDecodeRefusesStreams(t *testing.T) {
	tests := map[string]struct{ frame, want string }{
		"start without group":      {`{"type":"sendToGroup","stream":{"streamId":"s"}}`, "needs a group"},
		"start without id":         {`{"type":"sendToGroup","group":"g","stream":{"idleTimeoutMs":1}}`, "streamId has 0 characters"},
		"id of a start a number":   {`{"type":"sendToGroup","group":"g","stream":{"streamId":1}}`, "streamId must be a string"},
		"long id":                  {`{"type":"sendToGroup","group":"g","stream":{"streamId":"` + strings.Repeat("x", 257) + `"}}`, "257 characters"},
		"negative idle timeout":    {`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":-1}}`, "idleTimeoutMs must be an integer"},
		"idle timeout as text":     {`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":"1"}}`, "idleTimeoutMs must be an integer"},
		"data without id":          {`{"type":"streamData","streamSequenceId":1,"dataType":"text","data":"x"}`, "streamId has 0 characters"},
		"data without number":      {`{"type":"streamData","streamId":"s","dataType":"text","data":"x"}`, "or none of them"},
		"data without type":        {`{"type":"streamData","streamId":"s","streamSequenceId":1,"data":"x"}`, "or none of them"},
		"number alone":             {`{"type":"streamData","streamId":"s","streamSequenceId":1}`, "or none of them"},
		"number zero":              {`{"type":"streamData","streamId":"s","streamSequenceId":0,"dataType":"text","data":"x"}`, "at least 1"},
		"number negative":          {`{"type":"streamData","streamId":"s","streamSequenceId":-1,"dataType":"text","data":"x"}`, "must be an integer"},
		"number too large":         {`{"type":"streamData","streamId":"s","streamSequenceId":18446744073709551616,"dataType":"text","data":"x"}`, "must be an integer"},
		"data null":                {`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":null}`, "or none of them"},
		"data not of its type":     {`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"binary","data":"?"}`, "padded base64"},
		"end without id":           {`{"type":"streamEnd"}`, "streamId has 0 characters"},
		"error of an end as text":  {`{"type":"streamEnd","streamId":"s","error":"E"}`, "error must be an object"},
		"message of an end number": {`{"type":"streamEnd","streamId":"s","error":{"message":1}}`, "message must be a string"},
		"code of an end a number":  {`{"type":"streamEnd","streamId":"s","error":{"userErrorCode":1}}`, "userErrorCode must be a string"},
	}
	for name, test := range tests {
		var r Request
		var de *DecodeError
		if err := JSON.Decode(false, []byte(test.frame), &r); !errors.As(err, &de) || de.Code != CloseInvalidPayload || !strings.Contains(de.Text, test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestProtobufStreamRequests holds both halves against the bytes of client-protobuf.md section 4, and more of the kind.
//
// checklist:P05
func TestProtobufStreamRequests(t *testing.T) {
	data := func(r Request, d webpubsub.Data) Request { r.SetData(d); return r }
	for _, tt := range []struct {
		hex  string
		want Request
	}{
		{"0a 0f 0a 04 72 6f 6f 6d 3a 07 0a 02 73 31 10 98 75", Request{Kind: StreamStart, Group: "room", StreamID: "s1", IdleTimeout: 15 * time.Second}},
		{"0a 0e 0a 04 72 6f 6f 6d 20 01 3a 04 0a 02 73 31", Request{Kind: StreamStart, Group: "room", StreamID: "s1", NoEcho: true}},
		{"6a 0c 0a 02 73 31 10 01 1a 04 0a 02 68 69", data(Request{Kind: StreamData, StreamID: "s1", StreamSequence: 1}, webpubsub.Text("hi"))},
		{"6a 0a 0a 02 73 31 10 01 1a 02 12 00", data(Request{Kind: StreamData, StreamID: "s1", StreamSequence: 1}, webpubsub.Data{Type: webpubsub.DataBinary})},
		{"6a 04 0a 02 73 31", Request{Kind: StreamData, StreamID: "s1"}},
		{"72 04 0a 02 73 31", Request{Kind: StreamEnd, StreamID: "s1"}},
		{"72 06 0a 02 73 31 12 00", Request{Kind: StreamEnd, StreamID: "s1", StreamError: &StreamError{}}},
		{"72 0e 0a 02 73 31 12 08 0a 01 6d 12 03 45 34 32", Request{Kind: StreamEnd, StreamID: "s1", StreamError: &StreamError{Message: "m", UserErrorCode: "E42"}}},
	} {
		for _, codec := range []Codec{Protobuf, ReliableProtobuf} {
			var got Request
			if err := codec.Decode(true, unhex(t, tt.hex), &got); err != nil || !sameRequest(&got, &tt.want) {
				t.Errorf("%s: %s\n got %+v, %v\nwant %+v", codec.Name(), tt.hex, got, err, tt.want)
			}
			if b := codec.AppendRequest(nil, &tt.want); !bytes.Equal(b, unhex(t, tt.hex)) {
				t.Errorf("%s: %v is sent as % x, want %s", codec.Name(), tt.want.Kind, b, tt.hex)
			}
		}
	}
}

// TestProtobufStreamResponses holds both halves against the bytes of client-protobuf.md section 4, and more of the kind.
//
// checklist:P05
func TestProtobufStreamResponses(t *testing.T) {
	fragment := Request{Kind: StreamData, StreamID: "s1", StreamSequence: 2}
	fragment.SetData(webpubsub.Text("hi"))
	_, part := fragment.AppendFragment(nil, "room", "ana", &StreamInfo{StreamID: "s1", Sequence: 2})
	failed := &StreamInfo{StreamID: "s1", Sequence: 3, End: true, Error: &StreamError{UserError, "m", "E"}}
	_, end := AppendStreamEnd(nil, "room", "ana", failed)
	message := func(codec Codec, e Envelope) []byte {
		b, _ := codec.AppendMessage(nil, e)
		return codec.AppendNumbered(nil, b, 7)
	}
	received := func(d webpubsub.Data, s *StreamInfo, seq uint64) Response {
		return Response{Kind: MessageResponse, Group: "room", Data: d, Stream: s, SequenceID: seq}
	}
	for _, tt := range []struct {
		hex  string
		got  []byte
		want Response
	}{
		{"32 06 0a 02 73 31 10 01", Protobuf.AppendStreamAck(nil, "s1", 1), Response{Kind: StreamAckResponse, StreamID: "s1", Expected: 1}},
		{"3a 0c 0a 02 73 31 12 01 6e 1a 01 6d 20 02", Protobuf.AppendStreamNack(nil, "s1", 2, &Failure{"n", "m"}),
			Response{Kind: StreamNackResponse, StreamID: "s1", Expected: 2, Failure: &Failure{"n", "m"}}},
		{"42 04 0a 02 73 31", Protobuf.AppendStreamClosed(nil, "s1", nil), Response{Kind: StreamClosedResponse, StreamID: "s1"}},
		{"42 0c 0a 02 73 31 12 06 0a 01 6e 12 01 6d", Protobuf.AppendStreamClosed(nil, "s1", &Failure{"n", "m"}),
			Response{Kind: StreamClosedResponse, StreamID: "s1", Failure: &Failure{"n", "m"}}},
		{"12 1b 0a 05 67 72 6f 75 70 12 04 72 6f 6f 6d 1a 04 0a 02 68 69 32 06 0a 02 73 31 10 02", message(Protobuf, part),
			received(webpubsub.Text("hi"), &StreamInfo{StreamID: "s1", Sequence: 2}, 0)},
		{"12 1d 0a 05 67 72 6f 75 70 12 04 72 6f 6f 6d 1a 04 0a 02 68 69 32 06 0a 02 73 31 10 02 20 07", message(ReliableProtobuf, part),
			received(webpubsub.Text("hi"), &StreamInfo{StreamID: "s1", Sequence: 2}, 7)},
		{"12 2e 0a 05 67 72 6f 75 70 12 04 72 6f 6f 6d 1a 02 0a 00 32 1b 0a 02 73 31 10 03 18 01 22 11 0a 09 55 73 65 72 45 72 72 6f 72 12 01 6d 1a 01 45",
			message(Protobuf, end), received(webpubsub.Text(""), failed, 0)},
	} {
		if !bytes.Equal(tt.got, unhex(t, tt.hex)) {
			t.Errorf("got  % x\nwant %s", tt.got, tt.hex)
		}
		var got Response
		if err := ReliableProtobuf.DecodeResponse(true, tt.got, &got); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", tt.hex, got, err, tt.want)
		}
	}
}

// checklist:P05
func TestProtobufRefusesStreams(t *testing.T) {
	start := func(stream, more string) string { return field(1, field(1, "g")+field(7, stream)+more) }
	for name, tt := range map[string]struct{ frame, want string }{
		"idle timeout 0":            {start(field(1, "s")+varint(2, 0), ""), "idleTimeoutMs must be"},
		"idle timeout over 32 bits": {start(field(1, "s")+varint(2, 1<<32), ""), "idleTimeoutMs must be"},
		"start with data":           {start(field(1, "s"), field(3, field(1, "hi"))), "has no data"},
		"start with ack":            {start(field(1, "s"), varint(2, 1)), "has no ackId"},
	} {
		var r Request
		if err := Protobuf.Decode(true, []byte(tt.frame), &r); err != nil || r.Kind != StreamStart || r.StreamID != "s" || r.HasAck || !strings.Contains(r.Refusal, tt.want) {
			t.Errorf("%s: got %+v, %v; want it refused with %q", name, r, err, tt.want)
		}
	}
	for name, tt := range map[string]struct{ frame, want string }{
		"start without id":      {start("", ""), "streamId has 0 characters"},
		"start without group":   {field(1, field(7, field(1, "s"))), "needs a group"},
		"malformed start":       {start("\x08", ""), "not a protobuf message"},
		"id not UTF-8":          {start(field(1, "\xff"), ""), "not valid UTF-8"},
		"data without id":       {field(13, varint(2, 1)+field(3, field(1, "hi"))), "streamId has 0 characters"},
		"data without number":   {field(13, field(1, "s")+field(3, field(1, "hi"))), "or none of them"},
		"number without data":   {field(13, field(1, "s")+varint(2, 1)), "or none of them"},
		"number 0":              {field(13, field(1, "s")+varint(2, 0)+field(3, field(1, "hi"))), "at least 1"},
		"data of no type":       {field(13, field(1, "s")+varint(2, 1)+field(3, "")), "needs data"},
		"malformed data":        {field(13, field(1, "s")+varint(2, 1)+field(3, "\x08")), "not a protobuf message"},
		"end without id":        {field(14, ""), "streamId has 0 characters"},
		"malformed error":       {field(14, field(1, "s")+field(2, "\x08")), "not a protobuf message"},
		"error's text no UTF-8": {field(14, field(1, "s")+field(2, field(1, "\xff"))), "not valid UTF-8"},
	} {
		var r Request
		var de *DecodeError
		if err := Protobuf.Decode(true, []byte(tt.frame), &r); !errors.As(err, &de) || de.Code != CloseInvalidPayload || !strings.Contains(de.Text, tt.want) {
			t.Errorf("%s: got %v, want 1007 with %q", name, err, tt.want)
		}
	}
	for name, frame := range map[string]string{
		"ack without id":          field(6, varint(2, 1)),
		"malformed ack":           field(6, "\x08"),
		"nack without id":         field(7, field(2, "n")),
		"nack's text no UTF-8":    field(7, field(1, "s")+field(2, "\xff")),
		"message of no stream id": field(2, field(1, "group")+field(2, "g")+field(3, field(1, "hi"))+field(6, varint(2, 1))),
		"message's error no text": field(2, field(1, "group")+field(2, "g")+field(3, field(1, "hi"))+field(6, field(1, "s")+field(4, field(1, "\xff")))),
	} {
		var r Response
		if err := Protobuf.DecodeResponse(true, []byte(frame), &r); err == nil {
			t.Errorf("%s: got %+v, want an error", name, r)
		}
	}
}
