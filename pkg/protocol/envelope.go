package protocol

import (
	"bytes"
	"encoding/base64"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Envelope is a message encoded for all its receivers, on all nodes: finished JSON, with a note of where the
// data lies so that nobody has to parse it.
type Envelope struct {
	JSON      []byte // {"type":"message", ... ,"data":... }; not changed once made
	DataType  webpubsub.DataType
	Data, End int // the value of data is JSON[Data:End]
}

// Valid reports whether the data has a type and lies within the envelope. Methods of other envelopes panic. What the JSON says
// is not looked at: that would cost every message.
func (e Envelope) Valid() bool {
	return webpubsub.DataText <= e.DataType && e.DataType <= webpubsub.DataProtobuf && 0 < e.Data && e.Data <= e.End && e.End < len(e.JSON)
}

// NewEnvelope encodes m. JSON data must be valid (see CheckJSON): it is taken over verbatim.
func NewEnvelope(m *webpubsub.Message) Envelope {
	size := len(`{"type":"message","from":"server","group":"","fromUserId":"","dataType":"protobuf","data":""}`) +
		len(m.Group) + len(m.FromUserID) + base64.StdEncoding.EncodedLen(len(m.Data.Bytes))
	_, e := AppendMessage(make([]byte, 0, size), m)
	return e
}

// AppendMessage appends the envelope of m to dst. The JSON of e is the end of out.
func AppendMessage(dst []byte, m *webpubsub.Message) (out []byte, e Envelope) {
	start := len(dst)
	dst = appendMessageHead(dst, m.Group, m.FromUserID, m.Data.Type)
	data := len(dst)
	dst = appendDataValue(dst, m.Data)
	return finishEnvelope(appendMetadata(dst, m.Data.Metadata), start, data, len(dst), m.Data.Type)
}

// finishEnvelope ends the envelope that starts in dst at start, with its data at dst[data:end].
func finishEnvelope(dst []byte, start, data, end int, t webpubsub.DataType) (out []byte, e Envelope) {
	e = Envelope{DataType: t, Data: data - start, End: end - start}
	dst = append(dst, '}')
	e.JSON = dst[start:]
	return dst, e
}

// groupHead is what a message from a group begins with.
const groupHead = `{"type":"message","from":"group","group":`

// appendMessageHead appends everything before the value of data. A group message says from "group", whether a client or the
// service sent it (client-json.md 5.2, 5.3).
func appendMessageHead(dst []byte, group, fromUserID string, t webpubsub.DataType) []byte {
	if group == "" {
		dst = append(dst, `{"type":"message","from":"server"`...)
	} else {
		dst = append(dst, groupHead...)
		dst = appendString(dst, group)
	}
	if fromUserID != "" {
		dst = append(dst, `,"fromUserId":`...)
		dst = appendString(dst, fromUserID)
	}
	return appendDataMembers(dst, t)
}

// appendDataMembers appends what stands between the members before and the value of data.
func appendDataMembers(dst []byte, t webpubsub.DataType) []byte {
	dst = append(dst, `,"dataType":"`...)
	dst = append(dst, t.String()...)
	return append(dst, `","data":`...)
}

// appendDataValue appends d as the JSON value that its type has on the wire (client-json.md 3.1).
func appendDataValue(dst []byte, d webpubsub.Data) []byte {
	switch d.Type {
	case webpubsub.DataJSON:
		return append(dst, d.Bytes...)
	case webpubsub.DataText:
		return appendString(dst, d.Bytes)
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, d.Bytes)
	return append(dst, '"')
}

// Value returns the data as the JSON value that stands in the envelope.
func (e Envelope) Value() []byte { return e.JSON[e.Data:e.End] }

// group returns the name of the group that the message comes from; ok is false when it comes from the server. It is
// found where appendMessageHead puts it, so that a head need not be parsed.
func (e Envelope) group() (name []byte, ok bool) {
	if !bytes.HasPrefix(e.JSON, []byte(groupHead)) {
		return nil, false
	}
	from := e.JSON[len(groupHead):]
	s := jsonscan.New(from)
	value, err := s.Value()
	if err != nil || value.Kind != '"' {
		return nil, false
	}
	return value.Text(from), true
}

// AppendPayload appends the data's bytes: what a simple client receives. An envelope that is not what it says
// gives other bytes, but does no harm.
func (e Envelope) AppendPayload(dst []byte) []byte {
	v := e.Value()
	switch e.DataType {
	case webpubsub.DataText:
		return jsonscan.AppendUnescaped(dst, inside(v))
	case webpubsub.DataJSON:
		return append(dst, v...)
	}
	dst, _ = base64.StdEncoding.AppendDecode(dst, inside(v))
	return dst
}
