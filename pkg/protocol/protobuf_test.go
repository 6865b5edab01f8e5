package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// field is one field of bytes or text, for frames that no encoder of ours makes.
func field(number int, body string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, protowire.Number(number), protowire.BytesType), body))
}

func varint(number int, n uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, protowire.Number(number), protowire.VarintType), n))
}

// anyOf is a serialized google.protobuf.Any.
func anyOf(url, value string) string { return field(1, url) + field(2, value) }

// TestProtobufRequestVectors holds both halves against the bytes of client-protobuf.md section 4.
//
// checklist:P01
func TestProtobufRequestVectors(t *testing.T) {
	data := func(r Request, d webpubsub.Data) Request { r.SetData(d); return r }
	for _, tt := range []struct {
		hex  string
		want Request
	}{
		{"32 06 0a 04 72 6f 6f 6d", Request{Kind: JoinGroup, Group: "room"}},
		{"32 09 0a 04 72 6f 6f 6d 10 ac 02", Request{Kind: JoinGroup, Group: "room", HasAck: true, AckID: 300}},
		{"3a 08 0a 04 72 6f 6f 6d 10 01", Request{Kind: LeaveGroup, Group: "room", HasAck: true, AckID: 1}},
		{"0a 10 0a 04 72 6f 6f 6d 10 02 1a 04 0a 02 68 69 20 01",
			data(Request{Kind: SendToGroup, Group: "room", HasAck: true, AckID: 2, NoEcho: true}, webpubsub.Text("hi"))},
		{"2a 11 0a 02 65 76 12 09 22 07 7b 22 61 22 3a 31 7d 18 03",
			data(Request{Kind: SendEvent, Event: "ev", HasAck: true, AckID: 3}, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"a":1}`)})},
		{"42 02 08 05", Request{Kind: SequenceAck, SequenceID: 5}},
		{"4a 00", Request{Kind: Ping}},
	} {
		checkRequestVector(t, tt.hex, tt.want)
	}
}

// TestProtobufResponseVectors holds both halves against the bytes of client-protobuf.md section 4.
//
// checklist:P02
func TestProtobufResponseVectors(t *testing.T) {
	message := func(codec Codec, m webpubsub.Message, seq uint64) []byte {
		b, binary := codec.AppendMessage(nil, NewEnvelope(&m))
		if !binary {
			t.Errorf("%s: got a text frame", codec.Name())
		}
		return codec.AppendNumbered(nil, b, seq)
	}
	connected := Connected{UserID: "ana", ConnectionID: "c1", ReconnectionToken: "tok"}
	hi := webpubsub.Message{Group: "room", FromUserID: "ana", Data: webpubsub.Text("hi")}
	for _, tt := range []struct {
		hex  string
		got  []byte
		want Response
	}{
		{"0a 04 08 02 10 01", Protobuf.AppendAck(nil, 2, nil), Response{Kind: AckResponse, AckID: 2}},
		{"0a 13 08 02 1a 0f 0a 09 46 6f 72 62 69 64 64 65 6e 12 02 6e 6f", Protobuf.AppendAck(nil, 2, &Failure{Forbidden, "no"}),
			Response{Kind: AckResponse, AckID: 2, Failure: &Failure{Forbidden, "no"}}},
		{"12 15 0a 05 67 72 6f 75 70 12 04 72 6f 6f 6d 1a 04 0a 02 68 69 20 07", message(ReliableProtobuf, hi, 7),
			Response{Kind: MessageResponse, Group: "room", Data: hi.Data, SequenceID: 7}},
		{"12 13 0a 05 67 72 6f 75 70 12 04 72 6f 6f 6d 1a 04 0a 02 68 69", message(Protobuf, hi, 7),
			Response{Kind: MessageResponse, Group: "room", Data: hi.Data}},
		{"12 0e 0a 06 73 65 72 76 65 72 1a 04 12 02 01 02", message(Protobuf, webpubsub.Message{Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{1, 2}}}, 0),
			Response{Kind: MessageResponse, Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{1, 2}}}},
		{"1a 10 0a 0e 0a 02 63 31 12 03 61 6e 61 1a 03 74 6f 6b", ReliableProtobuf.AppendConnected(nil, connected),
			Response{Kind: ConnectedResponse, Connected: connected}},
		{"1a 0b 0a 09 0a 02 63 31 12 03 61 6e 61", Protobuf.AppendConnected(nil, connected),
			Response{Kind: ConnectedResponse, Connected: Connected{UserID: "ana", ConnectionID: "c1"}}},
		{"1a 07 12 05 12 03 62 79 65", Protobuf.AppendDisconnected(nil, "bye"), Response{Kind: DisconnectedResponse, Reason: "bye"}},
		{"22 00", Protobuf.AppendPong(nil), Response{Kind: PongResponse}},
	} {
		checkResponseVector(t, tt.hex, tt.got, tt.want)
	}
}

// TestDataInEverySubprotocol sends each type of data in every subprotocol and receives it in every other
// (client-protobuf.md section 2).
//
// checklist:P04 C15
func TestDataInEverySubprotocol(t *testing.T) {
	for _, d := range []webpubsub.Data{
		webpubsub.Text(""), webpubsub.Text("hi"), webpubsub.Text("\"é\"\n\x00😀\u2028"),
		{Type: webpubsub.DataBinary, Bytes: []byte{}}, {Type: webpubsub.DataBinary, Bytes: []byte{0, 1, 255}},
		{Type: webpubsub.DataJSON, Bytes: []byte(` { "a": [1.50, "\u00e9\/"] } `)}, {Type: webpubsub.DataJSON, Bytes: []byte(`"x"`)},
		{Type: webpubsub.DataProtobuf, Bytes: []byte(anyOf("type.googleapis.com/x.Y", "\x08\x01"))}, {Type: webpubsub.DataProtobuf, Bytes: []byte{}},
	} {
		for _, from := range Codecs[1:] {
			sent := &Request{Kind: SendToGroup, Group: "g"}
			sent.SetData(d)
			var r Request
			if err := from.Decode(from.Binary(), from.AppendRequest(nil, sent), &r); err != nil {
				t.Errorf("%s: %v %q: %v", from.Name(), d.Type, d.Bytes, err)
				continue
			}
			want := d
			if d.Type == webpubsub.DataJSON { // what stands around a value is none of it
				want.Bytes = bytes.TrimSpace(d.Bytes)
			}
			_, e := r.AppendMessage(nil, "ana")
			checkEnvelope(t, e, webpubsub.Message{Group: "g", FromUserID: "ana", Data: want}, nil)
		}
	}
}

// TestWhatIsNoAnyIsDeliveredAsBinary has a JSON client say protobuf of other bytes.
func TestWhatIsNoAnyIsDeliveredAsBinary(t *testing.T) {
	e := NewEnvelope(&webpubsub.Message{Data: webpubsub.Data{Type: webpubsub.DataProtobuf, Bytes: []byte("\n\x01")}})
	b, _ := Protobuf.AppendMessage(nil, e)
	var got Response
	if err := Protobuf.DecodeResponse(true, b, &got); err != nil || got.Data.Type != webpubsub.DataBinary || string(got.Data.Bytes) != "\n\x01" {
		t.Errorf("got %+v, %v; want the bytes as binary", got, err)
	}
}

func TestProtobufDecodeAccepts(t *testing.T) {
	hi := field(3, field(1, "hi"))
	for name, tt := range map[string]struct {
		frame string
		want  Request
	}{
		"no_echo explicitly false":   {field(1, field(1, "g")+hi+"\x20\x00"), Request{Kind: SendToGroup, Group: "g"}},
		"no_echo as any number":      {field(1, field(1, "g")+hi+varint(4, 1<<40)), Request{Kind: SendToGroup, Group: "g", NoEcho: true}},
		"ttl":                        {field(1, field(1, "g")+hi+varint(5, 300)), Request{Kind: SendToGroup, Group: "g", TTL: 300 * time.Second}},
		"fields in another order":    {field(1, varint(4, 1)+hi+field(1, "g")), Request{Kind: SendToGroup, Group: "g", NoEcho: true}},
		"unknown fields":             {varint(99, 1) + field(1, field(1, "g")+hi+field(9, "x")+varint(77, 5)+"\x55abcd\x51abcdefgh") + field(100, "x"), Request{Kind: SendToGroup, Group: "g"}},
		"an unknown group":           {"\x9b\x06\x0b\x08\x01\x0c\x9c\x06" + field(1, field(1, "g")+hi), Request{Kind: SendToGroup, Group: "g"}},
		"known field, other type":    {field(1, varint(1, 7)+field(1, "g")+hi+field(2, "x")), Request{Kind: SendToGroup, Group: "g"}},
		"ack 0":                      {field(6, field(1, "g")+varint(2, 0)), Request{Kind: JoinGroup, Group: "g", HasAck: true}},
		"ack of 64 bits":             {field(6, field(1, "g")+varint(2, 1<<64-1)), Request{Kind: JoinGroup, Group: "g", HasAck: true, AckID: 1<<64 - 1}},
		"a varint longer than it is": {field(8, "\x08\x85\x80\x00"), Request{Kind: SequenceAck, SequenceID: 5}},
		"sequence 0":                 {field(8, ""), Request{Kind: SequenceAck}},
		"the last member counts":     {field(6, field(1, "a")) + field(7, field(1, "b")), Request{Kind: LeaveGroup, Group: "b"}},
		"ping with unknown fields":   {field(9, varint(1, 1)), Request{Kind: Ping}},
		"an invocation with more":    {field(10, field(2, "1")+field(4, field(1, "k")+field(2, "v"))+field(1, "e")+field(99, "x")), Request{Kind: Invoke, Event: "e", InvocationID: "1"}},
		"group state, the last of a key": {field(15, field(1, "g")+field(3, field(1, field(1, "a")+field(2, "b"))+field(1, field(2, "\"\x00é")+field(1, "a")))),
			Request{Kind: SetGroupState, Group: "g", State: []byte(`{"a":"b","a":"\"\u0000é"}`)}},
		"group state with unknown fields": {field(15, field(1, "g")+field(3, varint(1, 1)+field(2, "x")+field(1, "")+field(1, varint(1, 7)+field(3, "y")))),
			Request{Kind: SetGroupState, Group: "g", State: []byte(`{"":"","":""}`)}},
		"a state where none belongs": {field(16, field(1, "g")+field(3, "\x0a")), Request{Kind: SubscribeGroupState, Group: "g"}},
		"a state that is too long": {field(15, field(1, "g")+varint(2, 9)+field(3, strings.Repeat(field(1, field(1, "a")), MaxGroupState/7+1))),
			Request{Kind: SetGroupState, Group: "g", HasAck: true, AckID: 9, State: []byte("{" + strings.Repeat(`,"a":""`, MaxGroupState/7+1)[1:] + "}"),
				Refusal: "The state is too long; as JSON at most 8192 bytes are allowed."}},
	} {
		var got Request
		if tt.want.Kind == SendToGroup {
			tt.want.SetData(webpubsub.Text("hi"))
		}
		if err := Protobuf.Decode(true, []byte(tt.frame), &got); err != nil || !sameRequest(&got, &tt.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
}

func TestProtobufDecodeRefuses(t *testing.T) {
	send := func(rest string) string { return field(1, field(1, "g")+rest) }
	for name, tt := range map[string]struct{ frame, want string }{
		"nothing":                  {"", "no member"},
		"only unknown members":     {field(2, "x") + field(18, "y"), "no member"},
		"not published":            {field(12, field(1, "1")), "no member"},
		"member as a number":       {varint(9, 1), "no member"},
		"JSON":                     {`{"type":"ping"}`, "not a protobuf message"},
		"truncated tag":            {"\x80", "not a protobuf message"},
		"truncated length":         {"\x0a\x80", "not a protobuf message"},
		"truncated body":           {"\x0a\x05ab", "not a protobuf message"},
		"length of 2^63":           {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not a protobuf message"},
		"varint of 11 bytes":       {field(8, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "not a protobuf message"},
		"varint over 64 bits":      {field(8, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "not a protobuf message"},
		"field number 0":           {"\x02\x00", "not a protobuf message"},
		"field number 2^29":        {"\x80\x80\x80\x80\x10\x00", "has the number 536870912"},
		"wire type 6":              {"\x0e", "not a protobuf message"},
		"wire type 7":              {"\x0f", "not a protobuf message"},
		"end of no group":          {"\x0c", "not a protobuf message"},
		"group without end":        {"\x0b\x08\x01", "not a protobuf message"},
		"group with another's end": {"\x0b\x14", "not a protobuf message"},
		"groups without end":       {strings.Repeat("\x0b", 1<<20), "not a protobuf message"},
		"malformed ping":           {field(9, "\x08"), "not a protobuf message"},
		"malformed Any":            {send(field(3, field(3, "\n\x05ab"))), "not a protobuf message"},
		"malformed data":           {send(field(3, "\x0a")), "not a protobuf message"},
		"malformed unknown field":  {field(9, "") + "\xfd\x06ab", "not a protobuf message"},
		"no group":                 {field(6, varint(2, 1)), "joinGroup needs a group"},
		"empty group":              {field(6, field(1, "")), "joinGroup needs a group"},
		"blank group":              {field(6, field(1, " ")), "only white space"},
		"long group":               {field(6, field(1, strings.Repeat("é", 1025))), "1025 characters"},
		"group not UTF-8":          {field(6, field(1, "\xff")), "not valid UTF-8"},
		"group as a number":        {field(6, varint(1, 7)), "joinGroup needs a group"},
		"no event":                 {field(5, field(2, field(1, "hi"))), "name of an event"},
		"bad event":                {field(5, field(1, "1st")+field(2, field(1, "hi"))), "event name"},
		"event with a stream":      {field(5, field(1, "e")+field(2, field(1, "hi"))+field(5, field(1, "s"))), "cannot start a stream"},
		"no data":                  {send(""), "needs data"},
		"no data in an event":      {field(5, field(1, "e")), "needs data"},
		"empty data":               {send(field(3, "")), "needs data"},
		"unknown data":             {send(field(3, field(5, "x"))), "needs data"},
		"data as a number":         {send(varint(3, 1)), "needs data"},
		"text not UTF-8":           {send(field(3, field(1, "\xed\xa0\x80"))), "not valid UTF-8"},
		"JSON that is none":        {send(field(3, field(4, "{"))), "not valid JSON"},
		"JSON that is two":         {send(field(3, field(4, "1 2"))), "not valid JSON"},
		"JSON that breaks out":     {send(field(3, field(4, `1,"from":"server"`))), "not valid JSON"},
		"JSON not UTF-8":           {send(field(3, field(4, "\"\xff\""))), "not valid UTF-8"},
		"JSON null":                {send(field(3, field(4, " null "))), "not be null"},
		"empty JSON":               {send(field(3, field(4, ""))), "not valid JSON"},
		"deep JSON":                {send(field(3, field(4, strings.Repeat("[", 1<<16)))), "deeper than 64"},
		"Any's type not UTF-8":     {send(field(3, field(3, field(1, "\xff")))), "not valid UTF-8"},
		"metadata not UTF-8":       {send(field(3, field(1, "hi")) + field(6, field(1, "\xff"))), "not valid UTF-8"},
		"metadata not ASCII":       {send(field(3, field(1, "hi")) + field(6, field(1, "k")+field(2, "é"))), "printable ASCII"},
		"metadata without key":     {send(field(3, field(1, "hi")) + field(6, "")), "has 0 bytes"},
		"metadata twice":           {send(field(3, field(1, "hi")) + field(6, field(1, "k")) + field(6, field(1, "K"))), "more than once"},
		"metadata 100,000 times":   {send(field(3, field(1, "hi")) + strings.Repeat(field(6, field(1, "k")), 1e5)), "more than once"},
		"malformed metadata":       {field(5, field(1, "e")+field(2, field(1, "hi"))+field(4, "\x0a")), "not a protobuf message"},
		"invocation without id":    {field(10, field(1, "e")), "invocationId has 0"},
		"invocation, long id":      {field(10, field(1, "e")+field(2, strings.Repeat("é", 257))), "invocationId has 257"},
		"invocation, id not UTF-8": {field(10, field(1, "e")+field(2, "\xff")), "not valid UTF-8"},
		"invocation of nothing":    {field(10, field(2, "1")), "invoke needs the name of an event"},
		"invocation, bad event":    {field(10, field(1, "1st")+field(2, "1")), "event name"},
		"invocation, empty data":   {field(10, field(1, "e")+field(2, "1")+field(3, "")), "invoke needs data"},
		"invocation, bad data":     {field(10, field(1, "e")+field(2, "1")+field(3, field(4, "{"))), "not valid JSON"},
		"invocation with a stream": {field(10, field(1, "e")+field(2, "1")+field(5, field(1, "s"))), "cannot start a stream"},
		"malformed invocation":     {field(10, "\x0a"), "not a protobuf message"},
		"cancel without id":        {field(11, ""), "invocationId has 0"},
		"malformed cancel":         {field(11, "\x0a"), "not a protobuf message"},
		"state without group":      {field(15, field(3, "")), "setGroupState needs a group"},
		"malformed state":          {field(15, field(1, "g")+field(3, "\x0a")), "not a protobuf message"},
		"malformed state's entry":  {field(15, field(1, "g")+field(3, field(1, "\x0a"))), "not a protobuf message"},
		"state's key not UTF-8":    {field(15, field(1, "g")+field(3, field(1, field(1, "\xff")))), "not valid UTF-8"},
		"state's text not UTF-8":   {field(15, field(1, "g")+field(3, field(1, field(2, "\xed\xa0\x80")))), "not valid UTF-8"},
		"ttl 301":                  {send(field(3, field(1, "hi")) + varint(5, 301)), "0 to 300"},
		"ttl over 32 bits":         {send(field(3, field(1, "hi")) + varint(5, 1<<32)), "0 to 300"},
	} {
		var r Request
		var de *DecodeError
		if err := ReliableProtobuf.Decode(true, []byte(tt.frame), &r); !errors.As(err, &de) || de.Code != CloseInvalidPayload || !strings.Contains(de.Text, tt.want) {
			t.Errorf("%s: got %v, want 1007 with %q", name, err, tt.want)
		}
	}
	var r Request
	var de *DecodeError
	if err := Protobuf.Decode(false, []byte("\x4a\x00"), &r); !errors.As(err, &de) || de.Code != CloseUnsupportedData {
		t.Errorf("a text frame: got %v, want 1003", err)
	}
}

func TestProtobufDecodeResponse(t *testing.T) {
	for name, tt := range map[string]struct {
		frame string
		want  Response
		err   string
	}{
		"unknown member":         {field(11, "x"), Response{}, ""},
		"answer without success": {field(5, field(1, "1")), Response{Kind: InvokeResponse, InvocationID: "1", Failure: &Failure{}}, ""},
		"states, with a number":  {field(9, field(1, "g")+varint(3, 7)+field(2, varint(4, 5))), Response{Kind: GroupStateUpdateResponse, Group: "g", Items: []byte(`[{"connectionId":"","updatedAt":5}]`)}, ""},
		"unknown system member":  {field(3, field(7, "")), Response{}, ""},
		"ack without success":    {field(1, varint(1, 3)), Response{Kind: AckResponse, AckID: 3, Failure: &Failure{}}, ""},
		"stream closed": {field(8, field(1, "s")+field(2, field(1, "IdleTimeout")+field(2, "m"))),
			Response{Kind: StreamClosedResponse, StreamID: "s", Failure: &Failure{"IdleTimeout", "m"}}, ""},
		"malformed":              {"\x0a", Response{}, "not a protobuf message"},
		"malformed error":        {field(1, field(3, "\x0a")), Response{}, "not a protobuf message"},
		"error not UTF-8":        {field(1, field(3, field(1, "\xff"))), Response{}, "not valid UTF-8"},
		"malformed system":       {field(3, "\x0a"), Response{}, "not a protobuf message"},
		"id not UTF-8":           {field(3, field(1, field(1, "\xff"))), Response{}, "not valid UTF-8"},
		"reason not UTF-8":       {field(3, field(2, field(2, "\xff"))), Response{}, "not valid UTF-8"},
		"from nobody":            {field(2, field(3, field(1, "x"))), Response{}, "from must be"},
		"message not UTF-8":      {field(2, field(1, "group")+field(2, "\xff")), Response{}, "not valid UTF-8"},
		"no data":                {field(2, field(1, "server")), Response{}, "needs data"},
		"malformed data":         {field(2, field(1, "server")+field(3, "\x0a")), Response{}, "not a protobuf message"},
		"malformed pong":         {field(4, "\x0a"), Response{}, "not a protobuf message"},
		"answer without id":      {field(5, varint(2, 1)), Response{}, "invocationId has"},
		"malformed answer":       {field(5, "\x0a"), Response{}, "not a protobuf message"},
		"answer, data wrong":     {field(5, field(1, "1")+field(3, "\x0a")), Response{}, "not a protobuf message"},
		"malformed states":       {field(10, "\x0a"), Response{}, "not a protobuf message"},
		"malformed item":         {field(10, field(2, "\x0a")), Response{}, "not a protobuf message"},
		"malformed item's state": {field(10, field(2, field(3, "\x0a"))), Response{}, "not a protobuf message"},
		"closed without id":      {field(8, ""), Response{}, "streamId has"},
		"closed, error wrong":    {field(8, field(1, "s")+field(2, "\x0a")), Response{}, "not a protobuf message"},
	} {
		var got Response
		err := ReliableProtobuf.DecodeResponse(true, []byte(tt.frame), &got)
		switch {
		case tt.err == "" && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.err)
		}
	}
	var de *DecodeError
	if err := Protobuf.DecodeResponse(false, []byte("\x22\x00"), &Response{}); !errors.As(err, &de) || de.Code != CloseUnsupportedData {
		t.Errorf("a text frame: got %v, want 1003", err)
	}
}

// TestProtobufTextIsAlwaysUTF8 sends names that are not: a decoder would refuse them.
func TestProtobufTextIsAlwaysUTF8(t *testing.T) {
	var got Response
	frame := Protobuf.AppendAck(nil, 1, &Failure{"a\xffb", "\xed\xa0\x80"})
	if err := Protobuf.DecodeResponse(true, frame, &got); err != nil || *got.Failure != (Failure{"a\uFFFDb", "\uFFFD\uFFFD\uFFFD"}) {
		t.Errorf("got %+v, %v", got.Failure, err)
	}
	r := &Request{Kind: SendToGroup, Group: "g"}
	r.SetData(webpubsub.Text("\xff"))
	var back Request
	if err := Protobuf.Decode(true, Protobuf.AppendRequest(nil, r), &back); err != nil || string(back.Data().Bytes) != "\uFFFD" {
		t.Errorf("got %q, %v", back.Data().Bytes, err)
	}
}

// TestEncloseGrows has lengths of one to four bytes, within capacity and beyond.
func TestEncloseGrows(t *testing.T) {
	for _, n := range []int{0, 127, 128, 1 << 14, 1 << 21} {
		body := strings.Repeat("x", n)
		for _, space := range []int{0, n + 100} {
			dst := append(append(make([]byte, 0, space), "ab"...), body...)
			if got, want := string(enclose(dst, 2, upUnsubscribe)), "ab"+field(17, body); got != want {
				t.Errorf("%d bytes: got %.20q, want %.20q", n, got, want)
			}
		}
	}
}

// TestProtobufInvocations holds both halves against bytes that are computed from the published field numbers.
//
// checklist:C24
func TestProtobufInvocations(t *testing.T) {
	hi := Request{Kind: Invoke, Event: "e", InvocationID: "1"}
	hi.SetData(webpubsub.Text("hi"))
	for hex, want := range map[string]Request{
		"52 0c 0a 01 65 12 01 31 1a 04 0a 02 68 69": hi,
		"52 06 0a 01 65 12 01 31":                   {Kind: Invoke, Event: "e", InvocationID: "1"},
		"5a 03 0a 01 31":                            {Kind: CancelInvocation, InvocationID: "1"},
	} {
		checkRequestVector(t, hex, want)
	}
	for hex, tt := range map[string]struct {
		got  []byte
		want Response
	}{
		"2a 0a 0a 01 31 10 01 1a 03 0a 01 78": {Protobuf.AppendInvokeResponse(nil, "1", webpubsub.Text("x"), nil),
			Response{Kind: InvokeResponse, InvocationID: "1", Data: webpubsub.Text("x")}},
		"2a 05 0a 01 31 10 01": {Protobuf.AppendInvokeResponse(nil, "1", webpubsub.Data{}, nil), Response{Kind: InvokeResponse, InvocationID: "1"}},
		"2a 0b 0a 01 31 22 06 0a 01 4e 12 01 6d": {Protobuf.AppendInvokeResponse(nil, "1", webpubsub.Data{}, &Failure{"N", "m"}),
			Response{Kind: InvokeResponse, InvocationID: "1", Failure: &Failure{"N", "m"}}},
	} {
		checkResponseVector(t, hex, tt.got, tt.want)
	}
}

func checkRequestVector(t *testing.T, hex string, want Request) {
	t.Helper()
	for _, codec := range []Codec{Protobuf, ReliableProtobuf} {
		var got Request
		if err := codec.Decode(true, unhex(t, hex), &got); err != nil || !sameRequest(&got, &want) {
			t.Errorf("%s: %s\n got %+v, %v\nwant %+v", codec.Name(), hex, got, err, want)
		}
		if b := codec.AppendRequest([]byte("before"), &want); !bytes.Equal(b, append([]byte("before"), unhex(t, hex)...)) {
			t.Errorf("%s: %v is sent as % x, want %s", codec.Name(), want.Kind, b[len("before"):], hex)
		}
	}
}

func checkResponseVector(t *testing.T, hex string, frame []byte, want Response) {
	t.Helper()
	if !bytes.Equal(frame, unhex(t, hex)) {
		t.Errorf("got % x, want %s", frame, hex)
	}
	var got Response
	if err := Protobuf.DecodeResponse(true, frame, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\n got %+v, %v\nwant %+v", hex, got, err, want)
	}
}
