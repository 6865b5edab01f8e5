package protocol

import (
	"encoding/base64"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Envelope is a message encoded for all its receivers, on all nodes: finished JSON, with a note of where the
// data lies so that nobody has to parse it.
type Envelope struct {
	JSON     []byte // {"type":"message", ... ,"data":...}; not changed once made
	DataType webpubsub.DataType
	Data     int // where the value of data starts; it ends before JSON's last byte
}

// NewEnvelope encodes m. JSON data must be valid (see CheckJSON): it is taken over verbatim.
func NewEnvelope(m *webpubsub.Message) Envelope {
	size := len(`{"type":"message","from":"server","group":"","fromUserId":"","dataType":"protobuf","data":""}`) +
		len(m.Group) + len(m.FromUserID) + base64.StdEncoding.EncodedLen(len(m.Data.Bytes))
	json, data := AppendMessage(make([]byte, 0, size), m)
	return Envelope{JSON: json, DataType: m.Data.Type, Data: data}
}

// AppendMessage appends the envelope of m to dst and returns where the data starts, counted from the start of
// what was appended: Envelope{JSON: out[len(dst):], DataType: m.Data.Type, Data: data}.
func AppendMessage(dst []byte, m *webpubsub.Message) (out []byte, data int) {
	dst, data = appendMessageHead(dst, m.Group, m.FromUserID, m.Data.Type)
	return append(appendDataValue(dst, m.Data), '}'), data
}

// appendMessageHead appends everything before the value of data. Group messages come from the group, whoever
// sent them (client-json.md 5.2, 5.3).
func appendMessageHead(dst []byte, group, fromUserID string, t webpubsub.DataType) (out []byte, data int) {
	start := len(dst)
	if group == "" {
		dst = append(dst, `{"type":"message","from":"server"`...)
	} else {
		dst = append(dst, `{"type":"message","from":"group","group":`...)
		dst = appendString(dst, group)
	}
	if fromUserID != "" {
		dst = append(dst, `,"fromUserId":`...)
		dst = appendString(dst, fromUserID)
	}
	dst = appendDataMembers(dst, t)
	return dst, len(dst) - start
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
func (e Envelope) Value() []byte { return e.JSON[e.Data : len(e.JSON)-1] }

// AppendPayload appends the data's bytes: what a simple client receives. An envelope that is not what it says
// gives other bytes, but does no harm.
func (e Envelope) AppendPayload(dst []byte) []byte {
	v := e.Value()
	switch e.DataType {
	case webpubsub.DataText:
		return appendUnescaped(dst, inside(v))
	case webpubsub.DataJSON:
		return append(dst, v...)
	}
	dst, _ = base64.StdEncoding.AppendDecode(dst, inside(v))
	return dst
}
