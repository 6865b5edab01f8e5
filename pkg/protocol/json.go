package protocol

import (
	"strconv"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// jsonCodec is json.webpubsub.azure.v1 or, when reliable, json.reliable.webpubsub.azure.v1.
type jsonCodec struct{ reliable bool }

func (c jsonCodec) ID() ID {
	if c.reliable {
		return IDReliableJSON
	}
	return IDJSON
}

func (c jsonCodec) Name() string {
	if c.reliable {
		return NameReliableJSON
	}
	return NameJSON
}

func (c jsonCodec) Reliable() bool { return c.reliable }
func (jsonCodec) Plain() Codec     { return JSON }
func (jsonCodec) Binary() bool     { return false }

func (c jsonCodec) AppendConnected(dst []byte, m Connected) []byte {
	dst = append(dst, `{"type":"system","event":"connected"`...)
	dst = appendOptional(dst, `,"userId":`, m.UserID)
	dst = append(dst, `,"connectionId":`...)
	dst = appendString(dst, m.ConnectionID)
	if c.reliable {
		dst = appendOptional(dst, `,"reconnectionToken":`, m.ReconnectionToken)
	}
	return append(dst, '}')
}

func (jsonCodec) AppendDisconnected(dst []byte, reason string) []byte {
	dst = append(dst, `{"type":"system","event":"disconnected","message":`...)
	return append(appendString(dst, reason), '}')
}

func (jsonCodec) AppendAck(dst []byte, id uint64, failure *Failure) []byte {
	dst = append(dst, `{"type":"ack","ackId":`...)
	dst = strconv.AppendUint(dst, id, 10)
	return append(appendOutcome(dst, failure), '}')
}

func (jsonCodec) AppendPong(dst []byte) []byte { return append(dst, `{"type":"pong"}`...) }

func (jsonCodec) AppendInvokeResponse(dst []byte, id string, d webpubsub.Data, failure *Failure) []byte {
	dst = append(dst, `{"type":"invokeResponse","invocationId":`...)
	dst = appendOutcome(appendString(dst, id), failure)
	if failure == nil && d.Type != 0 {
		dst = appendDataValue(appendDataMembers(dst, d.Type), d)
	}
	return append(dst, '}')
}

func (jsonCodec) AppendMessage(dst []byte, e Envelope) (out []byte, binary bool) {
	return append(dst, e.JSON...), false
}

func (c jsonCodec) AppendNumbered(dst, message []byte, seq uint64) []byte {
	dst, rest := c.AppendHead(dst, message, seq)
	return append(dst, rest...)
}

func (c jsonCodec) AppendHead(dst, message []byte, seq uint64) (out, rest []byte) {
	if !c.reliable {
		return dst, message
	}
	dst = append(dst, `{"sequenceId":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return append(dst, ','), message[1:]
}

func (jsonCodec) AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, `{"type":`...)
	if r.Kind == StreamStart {
		dst = append(dst, `"sendToGroup"`...)
	} else {
		dst = appendString(dst, r.Kind.String())
	}
	dst = appendOptional(dst, `,"invocationId":`, r.InvocationID)
	if r.Kind == Invoke {
		dst = append(dst, `,"target":"event"`...)
	}
	dst = appendOptional(dst, `,"event":`, r.Event)
	dst = appendOptional(dst, `,"group":`, r.Group)
	if r.HasAck {
		dst = strconv.AppendUint(append(dst, `,"ackId":`...), r.AckID, 10)
	}
	if r.NoEcho {
		dst = append(dst, `,"noEcho":true`...)
	}
	if r.TTL > 0 {
		dst = strconv.AppendInt(append(dst, `,"ttlSeconds":`...), int64(r.TTL.Seconds()), 10)
	}
	if r.Kind == SequenceAck {
		dst = strconv.AppendUint(append(dst, `,"sequenceId":`...), r.SequenceID, 10)
	}
	if r.State != nil {
		dst = append(append(dst, `,"state":`...), r.State...)
	}
	if r.StreamID != "" {
		dst = r.appendStream(dst)
	}
	if r.HasData() {
		dst = appendDataValue(appendDataMembers(dst, r.dataType), r.Data())
		dst = appendMetadata(dst, r.metadata)
	}
	return append(dst, '}')
}

// appendOptional appends name and value unless value is empty: absent members are left out, never null.
func appendOptional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, name...), value)
}

func appendOutcome(dst []byte, failure *Failure) []byte {
	if failure == nil {
		return append(dst, `,"success":true`...)
	}
	return appendFailure(append(dst, `,"success":false`...), failure)
}

// appendFailure appends the error member. SDKs need both of its strings (client-json.md 5.1).
func appendFailure(dst []byte, failure *Failure) []byte {
	if failure == nil {
		return dst
	}
	dst = appendString(append(dst, `,"error":{"name":`...), failure.Name)
	dst = appendString(append(dst, `,"message":`...), failure.Message)
	return append(dst, '}')
}

// CheckJSON reports what keeps b from being one JSON value that can be sent as json data, or nil.
func CheckJSON(b []byte) error { return jsonscan.Check(b, 1) } // it will stand in a message
