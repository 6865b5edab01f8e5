package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestDecodeSpecExamples decodes the requests that client-json.md shows.
func TestDecodeSpecExamples(t *testing.T) {
	data := func(r Request, d webpubsub.Data) Request { r.SetData(d); return r }
	tests := []struct {
		frame string
		want  Request
	}{
		{`{"type":"joinGroup","group":"room-7","ackId":1}`, Request{Kind: JoinGroup, Group: "room-7", HasAck: true, AckID: 1}},
		{`{"type":"leaveGroup","group":"room-7","ackId":2}`, Request{Kind: LeaveGroup, Group: "room-7", HasAck: true, AckID: 2}},
		{`{"type":"sendToGroup","group":"room-7","ackId":3,"noEcho":true,"dataType":"json","data":{"x":1}}`,
			data(Request{Kind: SendToGroup, Group: "room-7", HasAck: true, AckID: 3, NoEcho: true}, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"x":1}`)})},
		{`{"type":"event","event":"order.placed","ackId":4,"dataType":"text","data":"#1042"}`,
			data(Request{Kind: SendEvent, Event: "order.placed", HasAck: true, AckID: 4}, webpubsub.Text("#1042"))},
		{`{"type":"event","event":"userEnterIdle","dataType":"text","data":2059950407169513}`, // as pages of the original Chatr do
			data(Request{Kind: SendEvent, Event: "userEnterIdle"}, webpubsub.Text("2059950407169513"))},
		{`{"type":"ping"}`, Request{Kind: Ping}},
		{`{"type":"sequenceAck","sequenceId":57}`, Request{Kind: SequenceAck, SequenceID: 57}},
		{`{"type":"invoke","invocationId":"1","target":"event","event":"rpc.sum","dataType":"json","data":{"a":1,"b":2}}`,
			data(Request{Kind: Invoke, InvocationID: "1", Event: "rpc.sum"}, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"a":1,"b":2}`)})},
		{`{"type":"invoke","invocationId":"1","target":"event","event":"rpc.sum"}`, Request{Kind: Invoke, InvocationID: "1", Event: "rpc.sum"}},
		{`{"type":"cancelInvocation","invocationId":"1"}`, Request{Kind: CancelInvocation, InvocationID: "1"}},
		{`{"type":"sendToGroup","group":"room-7","noEcho":false,"stream":{"streamId":"7b1c","idleTimeoutMs":15000}}`,
			Request{Kind: StreamStart, Group: "room-7", StreamID: "7b1c", IdleTimeout: 15 * time.Second}},
		{`{"type":"streamData","streamId":"7b1c","streamSequenceId":1,"dataType":"text","data":"Hel"}`,
			data(Request{Kind: StreamData, StreamID: "7b1c", StreamSequence: 1}, webpubsub.Text("Hel"))},
		{`{"type":"streamData","streamId":"7b1c"}`, Request{Kind: StreamData, StreamID: "7b1c"}},
		{`{"type":"streamEnd","streamId":"7b1c"}`, Request{Kind: StreamEnd, StreamID: "7b1c"}},
		{`{"type":"streamEnd","streamId":"7b1c","error":{"message":"model crashed","userErrorCode":"E42"}}`,
			Request{Kind: StreamEnd, StreamID: "7b1c", StreamError: &StreamError{Message: "model crashed", UserErrorCode: "E42"}}},
		{`{"type":"setGroupState","group":"room-7","ackId":9,"state":{"status":"typing"}}`, Request{Kind: SetGroupState, Group: "room-7", HasAck: true, AckID: 9, State: []byte(`{"status":"typing"}`)}},
		{`{"type":"setGroupState","group":"room-7","ackId":10}`, Request{Kind: SetGroupState, Group: "room-7", HasAck: true, AckID: 10}},
		{`{"type":"subscribeGroupState","group":"room-7","ackId":11}`, Request{Kind: SubscribeGroupState, Group: "room-7", HasAck: true, AckID: 11}},
		{`{"type":"unsubscribeGroupState","group":"room-7","ackId":12}`, Request{Kind: UnsubscribeGroupState, Group: "room-7", HasAck: true, AckID: 12}},
	}
	for _, codec := range []Codec{JSON, ReliableJSON} {
		for _, test := range tests {
			var got Request
			if err := codec.Decode(false, []byte(test.frame), &got); err != nil {
				t.Errorf("Decode(%s): %v", test.frame, err)
				continue
			}
			if !sameRequest(&got, &test.want) {
				t.Errorf("Decode(%s)\n got %+v\nwant %+v", test.frame, got, test.want)
			}
		}
	}
}

// sameRequest compares what requests mean, not what they keep.
func sameRequest(a, b *Request) bool {
	public := func(r *Request) Request {
		return Request{Kind: r.Kind, Group: r.Group, Event: r.Event, HasAck: r.HasAck, AckID: r.AckID, NoEcho: r.NoEcho,
			TTL: r.TTL, SequenceID: r.SequenceID, InvocationID: r.InvocationID, StreamID: r.StreamID, IdleTimeout: r.IdleTimeout,
			StreamSequence: r.StreamSequence, StreamError: r.StreamError, State: r.State, Refusal: r.Refusal, dataType: r.dataType}
	}
	return reflect.DeepEqual(public(a), public(b)) && string(a.Data().Bytes) == string(b.Data().Bytes) &&
		slices.Equal(a.Data().Metadata, b.Data().Metadata)
}

func TestDecodeTolerates(t *testing.T) {
	tests := map[string]struct {
		frame    string
		dataType webpubsub.DataType
		data     string
	}{
		"capitalised data type":     {`{"type":"sendToGroup","group":"g","dataType":"Text","data":"x"}`, webpubsub.DataText, "x"},
		"type in any case":          {`{"type":"SENDTOGROUP","group":"g","dataType":"BINARY","data":"AAEC"}`, webpubsub.DataBinary, "\x00\x01\x02"},
		"json by default":           {`{"type":"sendToGroup","group":"g","data":[1, 2]}`, webpubsub.DataJSON, "[1, 2]"},
		"null data type":            {`{"type":"sendToGroup","group":"g","dataType":null,"data":"s"}`, webpubsub.DataJSON, `"s"`},
		"type last, data first":     {`{"data":"x","dataType":"text","group":"g","type":"sendToGroup"}`, webpubsub.DataText, "x"},
		"white space":               {" \t\r\n{ \"type\" : \"sendToGroup\" ,\n\"group\":\"g\", \"data\" : { \"a\" : [ ] }\t} \n", webpubsub.DataJSON, `{ "a" : [ ] }`},
		"unknown members":           {`{"type":"sendToGroup","x":{"data":[null,{}]},"group":"g","y":-1.5e+3,"data":true}`, webpubsub.DataJSON, `true`},
		"escaped member names":      {`{"\u0074ype":"sendToGroup","group":"g","dat\u0061":1}`, webpubsub.DataJSON, `1`},
		"escaped text":              {`{"type":"sendToGroup","group":"g","dataType":"text","data":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, webpubsub.DataText, "\"\\/\b\f\n\r\té😀"},
		"half a pair, as browsers":  {`{"type":"sendToGroup","group":"g","dataType":"text","data":"a\ud83db"}`, webpubsub.DataText, "a\uFFFDb"},
		"escaped slash in base64":   {`{"type":"sendToGroup","group":"g","dataType":"binary","data":"\/\/8="}`, webpubsub.DataBinary, "\xff\xff"},
		"empty text":                {`{"type":"sendToGroup","group":"g","dataType":"text","data":""}`, webpubsub.DataText, ""},
		"empty binary":              {`{"type":"sendToGroup","group":"g","dataType":"binary","data":""}`, webpubsub.DataBinary, ""},
		"protobuf":                  {`{"type":"sendToGroup","group":"g","dataType":"Protobuf","data":"CgE="}`, webpubsub.DataProtobuf, "\n\x01"},
		"metadata alone":            {`{"type":"sendToGroup","group":"g","metadata":{"k":"v"}}`, webpubsub.DataText, ""},
		"explicit nulls":            {`{"type":"sendToGroup","group":"g","data":1,"ackId":null,"noEcho":null,"stream":null,"metadata":null,"ttlSeconds":null}`, webpubsub.DataJSON, "1"},
		"deep data":                 {`{"type":"sendToGroup","group":"g","data":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, webpubsub.DataJSON, strings.Repeat("[", 63) + strings.Repeat("]", 63)},
		"numbers keep their digits": {`{"type":"sendToGroup","group":"g","data":12345678901234567890.10e-0}`, webpubsub.DataJSON, "12345678901234567890.10e-0"},
	}
	for name, test := range tests {
		var r Request
		if err := JSON.Decode(true, []byte(test.frame), &r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := r.Data()
		if r.Kind != SendToGroup || r.Group != "g" || r.HasAck || r.NoEcho || got.Type != test.dataType || string(got.Bytes) != test.data {
			t.Errorf("%s: got %v %q %v %.60q, want %v %.60q", name, r.Kind, r.Group, got.Type, got.Bytes, test.dataType, test.data)
		}
	}
}

func TestDecodeOptions(t *testing.T) {
	var r Request
	frame := `{"type":"sendToGroup","group":"g","data":1,"noEcho":true,"ttlSeconds":300,"ackId":18446744073709551615}`
	if err := JSON.Decode(false, []byte(frame), &r); err != nil {
		t.Fatal(err)
	}
	if !r.NoEcho || r.TTL != 300*time.Second || !r.HasAck || r.AckID != 1<<64-1 {
		t.Errorf("got noEcho %v, TTL %v, ack %v %d", r.NoEcho, r.TTL, r.HasAck, r.AckID)
	}
	// A reused request must not remember the one before.
	if err := JSON.Decode(false, []byte(`{"type":"ping"}`), &r); err != nil {
		t.Fatal(err)
	}
	if want := (Request{Kind: Ping}); !sameRequest(&r, &want) {
		t.Errorf("after reuse got %+v", r)
	}
}

func TestDecodeRefuses(t *testing.T) {
	send := func(members string) string { return `{"type":"sendToGroup","group":"g",` + members + `}` }
	tests := map[string]struct{ frame, want string }{
		"empty":                  {``, "one JSON object"},
		"array":                  {`[]`, "one JSON object"},
		"string":                 {`"ping"`, "one JSON object"},
		"truncated":              {`{"type":"ping"`, "not valid JSON at byte 14"},
		"two objects":            {`{"type":"ping"}{}`, "more after its end"},
		"trailing comma":         {`{"type":"ping",}`, "not valid JSON"},
		"no type":                {`{"group":"g"}`, "needs a type"},
		"type null":              {`{"type":null}`, "needs a type"},
		"type number":            {`{"type":1}`, "needs a type"},
		"unknown type":           {`{"type":"dance"}`, `unknown type "dance"`},
		"internal type name":     {`{"type":"streamStart","group":"g","streamId":"1"}`, "unknown type"},
		"internal type name 2":   {`{"type":"groupState","group":"g"}`, "unknown type"},
		"long type":              {`{"type":"` + strings.Repeat("x", 999) + `"}`, "unknown type of 999 bytes"},
		"type twice":             {`{"type":"ping","type":"ping"}`, "type twice"},
		"group missing":          {`{"type":"joinGroup"}`, "joinGroup needs a group"},
		"group number":           {`{"type":"joinGroup","group":7}`, "group must be a string"},
		"group empty":            {`{"type":"joinGroup","group":""}`, "empty or only white space"},
		"event empty":            {`{"type":"event","event":"","data":1}`, "event name"},
		"group blank":            {`{"type":"joinGroup","group":" "}`, "only white space"},
		"group long":             {`{"type":"joinGroup","group":"` + strings.Repeat("é", 1025) + `"}`, "1025 characters"},
		"group half a pair":      {`{"type":"joinGroup","group":"\ud800"}`, "half a surrogate pair"},
		"ackId negative":         {`{"type":"joinGroup","group":"g","ackId":-1}`, "ackId must be an integer"},
		"ackId fraction":         {`{"type":"joinGroup","group":"g","ackId":1.0}`, "ackId must be an integer"},
		"ackId exponent":         {`{"type":"joinGroup","group":"g","ackId":1e3}`, "ackId must be an integer"},
		"ackId string":           {`{"type":"joinGroup","group":"g","ackId":"1"}`, "ackId must be an integer"},
		"ackId too large":        {`{"type":"joinGroup","group":"g","ackId":18446744073709551616}`, "ackId must be an integer"},
		"ackId leading zero":     {`{"type":"joinGroup","group":"g","ackId":01}`, "not valid JSON"},
		"no data":                {send(`"dataType":"text"`), "needs data"},
		"data null":              {send(`"data":null`), "not be null"},
		"text not a string":      {send(`"dataType":"text","data":5`), "must be a string"},
		"unknown data type":      {send(`"dataType":"xml","data":"x"`), "dataType must be"},
		"data type number":       {send(`"dataType":1,"data":"x"`), "dataType must be"},
		"base64 alphabet":        {send(`"dataType":"binary","data":"_-8="`), "padded base64"},
		"base64 padding":         {send(`"dataType":"binary","data":"AAE"`), "padded base64"},
		"base64 only padding":    {send(`"dataType":"binary","data":"===="`), "padded base64"},
		"base64 line feed":       {send(`"dataType":"binary","data":"AA\nE"`), "padded base64"},
		"noEcho string":          {send(`"data":1,"noEcho":"true"`), "noEcho must be"},
		"ttl 301":                {send(`"data":1,"ttlSeconds":301`), "0 to 300"},
		"ttl fraction":           {send(`"data":1,"ttlSeconds":0.5`), "ttlSeconds must be"},
		"metadata string":        {send(`"data":1,"metadata":"x"`), "metadata must be"},
		"metadata number":        {send(`"data":1,"metadata":{"k":1}`), "metadata must be"},
		"metadata null":          {send(`"data":1,"metadata":{"k":null}`), "metadata must be"},
		"metadata nested":        {send(`"data":1,"metadata":{"k":{}}`), "metadata must be"},
		"metadata alone, null":   {send(`"metadata":null`), "needs data"},
		"metadata not ASCII":     {send(`"data":1,"metadata":{"k":"\u00e9"}`), "printable ASCII"},
		"metadata line feed":     {send(`"data":1,"metadata":{"k":"a\nb"}`), "printable ASCII"},
		"metadata key":           {send(`"data":1,"metadata":{"a b":""}`), "is invalid"},
		"metadata without key":   {send(`"data":1,"metadata":{"":"v"}`), "has 0 bytes"},
		"metadata twice":         {send(`"data":1,"metadata":{"k":"","K":""}`), "more than once"},
		"metadata of 256 KiB":    {send(`"data":1,"metadata":{` + strings.Repeat(`"k":"",`, 1<<15) + `"k":""}`), "more than once"},
		"metadata of an event":   {`{"type":"event","event":"e","data":1,"metadata":{"k":1}}`, "metadata must be"},
		"stream string":          {send(`"stream":"7b1c"`), "stream must be an object"},
		"stream without id":      {send(`"stream":{}`), "streamId has 0 characters"},
		"event name":             {`{"type":"event","event":"1st","data":1}`, "event name"},
		"event missing":          {`{"type":"event","data":1}`, "name of an event"},
		"invoke without id":      {`{"type":"invoke","target":"event","event":"e"}`, "invocationId has 0 characters"},
		"invoke another target":  {`{"type":"invoke","invocationId":"1","target":"group","event":"e"}`, `target must be "event"`},
		"sequenceId string":      {`{"type":"sequenceAck","sequenceId":"7"}`, "sequenceId must be an integer"},
		"sequenceId missing":     {`{"type":"sequenceAck"}`, "sequenceId must be an integer"},
		"invalid UTF-8":          {send("\"data\":\"\xff\""), "not valid UTF-8"},
		"encoded surrogate":      {send("\"data\":\"\xed\xa0\x80\""), "not valid UTF-8"},
		"overlong":               {send("\"data\":\"\xc0\xaf\""), "not valid UTF-8"},
		"invalid UTF-8 in a key": {send("\"\xff\":1,\"data\":1"), "not valid UTF-8"},
		"control character":      {send("\"data\":\"a\nb\""), "not valid JSON"},
		"bad escape":             {send(`"data":"\x"`), "not valid JSON"},
		"short unicode escape":   {send(`"data":"\u12g4"`), "not valid JSON"},
		"bad word":               {send(`"data":truE`), "not valid JSON"},
		"bare minus":             {send(`"data":-`), "not valid JSON"},
		"bare point":             {send(`"data":1.`), "not valid JSON"},
		"plus":                   {send(`"data":+1`), "not valid JSON"},
		"NaN":                    {send(`"data":NaN`), "not valid JSON"},
		"byte order mark":        {"\ufeff{\"type\":\"ping\"}", "one JSON object"},
		"mismatched brackets":    {send(`"data":[1}`), "not valid JSON"},
		"missing comma":          {send(`"data":[1 2]`), "not valid JSON"},
		"colon in an array":      {send(`"data":["a":1]`), "not valid JSON"},
		"key without value":      {send(`"data":{"a"}`), "not valid JSON"},
		"too deep":               {send(`"data":` + strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64)), "deeper than 64"},
		"NUL":                    {"{\"type\":\"ping\"}\x00", "more after its end"},
	}
	for name, test := range tests {
		var r Request
		err := JSON.Decode(false, []byte(test.frame), &r)
		var de *DecodeError
		if !errors.As(err, &de) || de.Code != CloseInvalidPayload || !strings.Contains(de.Text, test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestCheckJSONAgreesWithStandardLibrary(t *testing.T) {
	for _, s := range []string{``, ` `, `1`, `-0`, `01`, `0.5e-7`, `"x"`, `"\u00zz"`, `[]`, `[1,]`, `[,1]`, `{"a":1}`, `{"a":1,}`, `{a:1}`,
		`{"a":{"b":[{"c":null}]}}`, `[[[]]`, `]`, `{}}`, `"a`, `tru`, `nullx`, `1 2`, "\t[ ]\n", `{"a":1 "b":2}`, `{"":""}`, `[{},{}]`, `[{}{}]`} {
		if got, want := CheckJSON([]byte(s)) == nil, json.Valid([]byte(s)); got != want {
			t.Errorf("CheckJSON(%q) accepts: %v, want %v", s, got, want)
		}
	}
}

// TestEncodeSpecExamples compares the whole text of each server message that client-json.md shows.
func TestEncodeSpecExamples(t *testing.T) {
	group := NewEnvelope(&webpubsub.Message{Group: "room-7", FromUserID: "ana", Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"x":1}`)}})
	hello := NewEnvelope(&webpubsub.Message{Data: webpubsub.Text("Hello")})
	bin := NewEnvelope(&webpubsub.Message{Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{0, 1, 2}}})
	message := func(c Codec, e Envelope, seq uint64) string {
		out, _ := c.AppendMessage(nil, e)
		return string(c.AppendNumbered(nil, out, seq))
	}
	tests := []struct{ got, want string }{
		{string(JSON.AppendAck(nil, 3, nil)), `{"type":"ack","ackId":3,"success":true}`},
		{string(JSON.AppendAck(nil, 3, &Failure{Forbidden, "No permission to publish to group 'room-7'."})),
			`{"type":"ack","ackId":3,"success":false,"error":{"name":"Forbidden","message":"No permission to publish to group 'room-7'."}}`},
		{message(JSON, group, 0), `{"type":"message","from":"group","group":"room-7","fromUserId":"ana","dataType":"json","data":{"x":1}}`},
		{message(ReliableJSON, group, 7), `{"sequenceId":7,"type":"message","from":"group","group":"room-7","fromUserId":"ana","dataType":"json","data":{"x":1}}`},
		{message(Simple, group, 0), `{"x":1}`},
		{message(JSON, hello, 0), `{"type":"message","from":"server","dataType":"text","data":"Hello"}`},
		{message(Simple, hello, 0), `Hello`},
		{message(JSON, bin, 0), `{"type":"message","from":"server","dataType":"binary","data":"AAEC"}`},
		{message(Simple, bin, 0), "\x00\x01\x02"},
		{string(JSON.AppendConnected(nil, Connected{"ana", "c-81f2", "eyJ...", ""})), `{"type":"system","event":"connected","userId":"ana","connectionId":"c-81f2"}`},
		{string(ReliableJSON.AppendConnected(nil, Connected{"ana", "c-81f2", "eyJ...", ""})),
			`{"type":"system","event":"connected","userId":"ana","connectionId":"c-81f2","reconnectionToken":"eyJ..."}`},
		{string(JSON.AppendConnected(nil, Connected{"", "c-81f2", "", ""})), `{"type":"system","event":"connected","connectionId":"c-81f2"}`},
		{string(JSON.AppendDisconnected(nil, "closed by administrator")), `{"type":"system","event":"disconnected","message":"closed by administrator"}`},
		{string(JSON.AppendInvokeResponse(nil, "1", webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"sum":3}`)}, nil)),
			`{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"json","data":{"sum":3}}`},
		{string(JSON.AppendInvokeResponse(nil, "1", webpubsub.Data{}, nil)), `{"type":"invokeResponse","invocationId":"1","success":true}`},
		{string(JSON.AppendInvokeResponse(nil, "1", webpubsub.Data{}, &Failure{BadRequest, "b is missing"})),
			`{"type":"invokeResponse","invocationId":"1","success":false,"error":{"name":"BadRequest","message":"b is missing"}}`},
		{string(JSON.AppendPong(nil)), `{"type":"pong"}`},
		{string(JSON.AppendStreamClosed(nil, "7b1c", nil)), `{"type":"streamClosed","streamId":"7b1c"}`},
		{string(JSON.AppendStreamClosed(nil, "7b1c", &Failure{"IdleTimeout", "no activity"})),
			`{"type":"streamClosed","streamId":"7b1c","error":{"name":"IdleTimeout","message":"no activity"}}`},
		{string(Simple.AppendAck(Simple.AppendConnected(Simple.AppendPong(nil), Connected{}), 1, nil)), ``},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("\n got %s\nwant %s", test.got, test.want)
		}
	}
	if _, binary := Simple.AppendMessage(nil, bin); !binary {
		t.Error("a simple client gets binary data in a text frame")
	}
	if _, binary := JSON.AppendMessage(nil, bin); binary {
		t.Error("a JSON client gets a binary frame")
	}
}

func TestTextIsEscapedAndAlwaysUTF8(t *testing.T) {
	tests := []struct{ text, wire, back string }{
		{"plain", `"plain"`, "plain"},
		{"\"\\/\b\f\n\r\t\x00\x1f\x7f", `"\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f\"", "\"\\/\b\f\n\r\t\x00\x1f\x7f"},
		{"é😀\u2028</script>", "\"é😀\u2028</script>\"", "é😀\u2028</script>"},
		{"a\xffb\xf0\x9f", "\"a\uFFFDb\uFFFD\uFFFD\"", "a\uFFFDb\uFFFD\uFFFD"},
		{"\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\"", "\uFFFD\uFFFD\uFFFD"},
	}
	for _, test := range tests {
		e := NewEnvelope(&webpubsub.Message{Group: test.text, FromUserID: test.text, Data: webpubsub.Text(test.text)})
		if got := string(e.Value()); got != test.wire {
			t.Errorf("%q is sent as %s, want %s", test.text, got, test.wire)
		}
		if got := string(e.AppendPayload(nil)); got != test.back {
			t.Errorf("%q reaches a simple client as %q, want %q", test.text, got, test.back)
		}
		var o struct{ Group, FromUserID, Data string }
		if err := json.Unmarshal(e.JSON, &o); err != nil || o.Group != test.back || o.FromUserID != test.back || o.Data != test.back {
			t.Errorf("%s reads as %+v, %v; want %q thrice", e.JSON, o, err, test.back)
		}
	}
}

// TestSendToGroupKeepsTheBytes follows data from a client's frame into the envelope.
func TestSendToGroupKeepsTheBytes(t *testing.T) {
	tests := []struct{ members, value, payload string }{
		{`"data":{ "a" : 1.50, "\u0062":"\/" }`, `{ "a" : 1.50, "\u0062":"\/" }`, `{ "a" : 1.50, "\u0062":"\/" }`},
		{`"dataType":"Text","data":"a\u0062\n"`, `"a\u0062\n"`, "ab\n"},
		{`"dataType":"text","data":"\ud83d"`, "\"\uFFFD\"", "\uFFFD"},
		{`"dataType":"binary","data":"\/\/8="`, `"//8="`, "\xff\xff"},
		{`"dataType":"protobuf","data":"CgE="`, `"CgE="`, "\n\x01"},
	}
	for _, test := range tests {
		var r Request
		if err := JSON.Decode(false, []byte(`{"type":"sendToGroup","group":"g\u0031",`+test.members+`}`), &r); err != nil {
			t.Errorf("%s: %v", test.members, err)
			continue
		}
		out, e := r.AppendMessage([]byte("before"), "ana")
		want := `{"type":"message","from":"group","group":"g1","fromUserId":"ana","dataType":"` + e.DataType.String() + `","data":` + test.value + `}`
		if string(out) != "before"+want || string(e.JSON) != want || string(e.Value()) != test.value || string(e.AppendPayload(nil)) != test.payload {
			t.Errorf("%s\n got %s, value %s, payload %q\nwant %s, payload %q", test.members, e.JSON, e.Value(), e.AppendPayload(nil), want, test.payload)
		}
	}
}

func TestSelect(t *testing.T) {
	if c, ok := Select([]string{"x", NameReliableJSON, NameJSON}); !ok || c != ReliableJSON {
		t.Errorf("got %v %v, want the first that we know", c, ok)
	}
	if c, ok := Select([]string{"", "JSON.webpubsub.azure.v1"}); ok {
		t.Errorf("got %v, want none", c)
	}
	for id, c := range Codecs {
		if c.ID() != ID(id) {
			t.Errorf("codec %q has id %d, want %d", c.Name(), c.ID(), id)
		}
	}
}
