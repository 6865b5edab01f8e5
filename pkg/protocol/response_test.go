package protocol

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestDecodeResponseSpecExamples decodes the server messages that client-json.md shows.
func TestDecodeResponseSpecExamples(t *testing.T) {
	object := func(s string) webpubsub.Data { return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(s)} }
	tests := []struct {
		frame string
		want  Response
	}{
		{`{"type":"ack","ackId":3,"success":true}`, Response{Kind: AckResponse, AckID: 3}},
		{`{"type":"ack","ackId":3,"success":false,"error":{"name":"Forbidden","message":"No."}}`,
			Response{Kind: AckResponse, AckID: 3, Failure: &Failure{Forbidden, "No."}}},
		{`{"type":"ack","ackId":3,"success":false}`, Response{Kind: AckResponse, AckID: 3, Failure: &Failure{}}},
		{`{"type":"message","from":"group","group":"room-7","fromUserId":"ana","dataType":"json","data":{"x":1}}`,
			Response{Kind: MessageResponse, Group: "room-7", FromUserID: "ana", Data: object(`{"x":1}`)}},
		{`{"sequenceId":7,"type":"message","from":"server","dataType":"binary","data":"AAEC"}`,
			Response{Kind: MessageResponse, SequenceID: 7, Data: webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte{0, 1, 2}}}},
		{`{"type":"system","event":"connected","userId":"ana","connectionId":"c-81f2","reconnectionToken":"eyJ..."}`,
			Response{Kind: ConnectedResponse, Connected: Connected{"ana", "c-81f2", "eyJ...", ""}}},
		{`{"type":"system","event":"disconnected","message":"closed by administrator"}`, Response{Kind: DisconnectedResponse, Reason: "closed by administrator"}},
		{`{"type":"system","event":"renamed"}`, Response{}},
		{`{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"json","data":{"sum":3}}`,
			Response{Kind: InvokeResponse, InvocationID: "1", Data: object(`{"sum":3}`)}},
		{`{"type":"invokeResponse","invocationId":"1","success":false,"error":{"name":"BadRequest","message":"b is missing"}}`,
			Response{Kind: InvokeResponse, InvocationID: "1", Failure: &Failure{BadRequest, "b is missing"}}},
		{`{"type":"pong"}`, Response{Kind: PongResponse}},
		{`{"type":"streamClosed","streamId":"7b1c"}`, Response{Kind: StreamClosedResponse, StreamID: "7b1c"}},
		{`{"type":"streamClosed","streamId":"7b1c","error":{"name":"IdleTimeout","message":"no activity"}}`,
			Response{Kind: StreamClosedResponse, StreamID: "7b1c", Failure: &Failure{"IdleTimeout", "no activity"}}},
		{`{"type":"news","data":null}`, Response{}},
	}
	for _, test := range tests {
		var got Response
		if err := ReliableJSON.DecodeResponse(false, []byte(test.frame), &got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", test.frame, got, err, test.want)
		}
	}
}

func TestDecodeResponseRefuses(t *testing.T) {
	tests := map[string]struct{ frame, want string }{
		"not JSON":          {`{"type":"ack"`, "not valid JSON"},
		"type number":       {`{"type":1}`, "type must be a string"},
		"ack without id":    {`{"type":"ack","success":true}`, "ackId must be"},
		"ack without word":  {`{"type":"ack","ackId":1}`, "success must be"},
		"success as text":   {`{"type":"ack","ackId":1,"success":"true"}`, "success must be"},
		"error as text":     {`{"type":"ack","ackId":1,"success":false,"error":"no"}`, "error must be an object"},
		"from nobody":       {`{"type":"message","dataType":"text","data":"x"}`, "from must be"},
		"without data type": {`{"type":"message","from":"server","data":"x"}`, "dataType is missing"},
		"without data":      {`{"type":"message","from":"server","dataType":"text"}`, "needs data"},
		"null data":         {`{"type":"message","from":"server","dataType":"json","data":null}`, "not be null"},
		"group number":      {`{"type":"message","from":"group","group":1,"dataType":"text","data":"x"}`, "group must be a string"},
		"sequence as text":  {`{"type":"message","from":"server","sequenceId":"1","dataType":"text","data":"x"}`, "sequenceId must be"},
		"stream without id": {`{"type":"streamClosed"}`, "streamId has"},
	}
	for name, test := range tests {
		var r Response
		var de *DecodeError
		if err := JSON.DecodeResponse(false, []byte(test.frame), &r); !errors.As(err, &de) || !strings.Contains(de.Text, test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestSimple sends and receives payloads without envelopes, and nothing else.
func TestSimple(t *testing.T) {
	for _, d := range []webpubsub.Data{webpubsub.Text("Hello"), {Type: webpubsub.DataBinary, Bytes: []byte{0, 255}}} {
		var r Request
		if err := Simple.Decode(d.Type == webpubsub.DataBinary, d.Bytes, &r); err != nil {
			t.Fatal(err)
		}
		if r.Kind != SendEvent || r.Event != "message" || r.HasAck || !reflect.DeepEqual(r.Data(), d) || r.DataType() != d.Type || r.DataSize() != len(d.Bytes) {
			t.Errorf("%v: got %+v", d.Type, r)
		}
		out, binary := Simple.AppendMessage(nil, NewEnvelope(&webpubsub.Message{Group: "g", Data: r.Data()}))
		if string(out) != string(d.Bytes) || string(Simple.AppendRequest(nil, &r)) != string(out) || string(Simple.AppendNumbered(nil, out, 7)) != string(out) {
			t.Errorf("%v: got %q", d.Type, out)
		}
		var resp Response
		if err := Simple.DecodeResponse(binary, out, &resp); err != nil || resp.Kind != MessageResponse || !reflect.DeepEqual(resp.Data, d) {
			t.Errorf("%v: got %+v, %v", d.Type, resp, err)
		}
	}
	var nothing []byte
	nothing = Simple.AppendConnected(nothing, Connected{ConnectionID: "c"})
	nothing = Simple.AppendDisconnected(nothing, "why")
	nothing = Simple.AppendAck(nothing, 1, nil)
	nothing = Simple.AppendPong(nothing)
	nothing = Simple.AppendInvokeResponse(nothing, "1", webpubsub.Text("x"), nil)
	nothing = Simple.AppendStreamClosed(nothing, "s", nil)
	if len(nothing) != 0 {
		t.Errorf("a simple client would get %q", nothing)
	}
	if Simple.Name() != "" || Simple.Reliable() || Simple.Binary() {
		t.Errorf("Simple is %q, reliable %v, binary %v", Simple.Name(), Simple.Reliable(), Simple.Binary())
	}
}
