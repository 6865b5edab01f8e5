package protocol

import "github.com/chatr-dev/chatr/pkg/webpubsub"

// SimpleEvent is the user event that each message of a simple client is (client-json.md section 2).
const SimpleEvent = "message"

// simpleCodec is for clients without a subprotocol of ours: payloads without envelopes, and nothing else.
type simpleCodec struct{}

func (simpleCodec) ID() ID         { return IDSimple }
func (simpleCodec) Name() string   { return "" }
func (simpleCodec) Reliable() bool { return false }
func (simpleCodec) Plain() Codec   { return Simple }
func (simpleCodec) Binary() bool   { return false }

// Decode gives the event SimpleEvent. A connection in sendToGroup mode makes of it what its query says.
func (simpleCodec) Decode(binary bool, frame []byte, r *Request) error {
	r.reset()
	r.Kind, r.Event = SendEvent, SimpleEvent
	d := webpubsub.Data{Type: webpubsub.DataText, Bytes: frame}
	if binary {
		d.Type = webpubsub.DataBinary
	}
	r.SetData(d)
	return nil
}

func (simpleCodec) AppendConnected(dst []byte, c Connected) []byte           { return append(dst, c.Greeting...) }
func (simpleCodec) AppendDisconnected(dst []byte, _ string) []byte           { return dst }
func (simpleCodec) AppendAck(dst []byte, _ uint64, _ *Failure) []byte        { return dst }
func (simpleCodec) AppendPong(dst []byte) []byte                             { return dst }
func (simpleCodec) AppendStreamClosed(d []byte, _ string, _ *Failure) []byte { return d }
func (simpleCodec) AppendStreamAck(dst []byte, _ string, _ uint64) []byte    { return dst }
func (simpleCodec) AppendGroupState(dst []byte, _ string, _ bool, _ []GroupStateItem) []byte {
	return dst
}
func (simpleCodec) AppendStreamNack(dst []byte, _ string, _ uint64, _ *Failure) []byte {
	return dst
}
func (simpleCodec) AppendInvokeResponse(dst []byte, _ string, _ webpubsub.Data, _ *Failure) []byte {
	return dst
}

func (simpleCodec) AppendMessage(dst []byte, e Envelope) (out []byte, binary bool) {
	return e.AppendPayload(dst), e.DataType == webpubsub.DataBinary || e.DataType == webpubsub.DataProtobuf
}

func (simpleCodec) AppendNumbered(dst, message []byte, _ uint64) []byte {
	return append(dst, message...)
}

func (simpleCodec) AppendHead(dst, message []byte, _ uint64) (out, rest []byte) { return dst, message }

// AppendRequest appends the request's data. Whether that must be a binary message, the caller knows.
func (simpleCodec) AppendRequest(dst []byte, r *Request) []byte {
	return append(dst, r.Data().Bytes...)
}

func (simpleCodec) DecodeResponse(binary bool, frame []byte, r *Response) error {
	*r = Response{Kind: MessageResponse, Data: webpubsub.Data{Type: webpubsub.DataText, Bytes: frame}}
	if binary {
		r.Data.Type = webpubsub.DataBinary
	}
	return nil
}
