package protocol

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Kind says what a client asks for.
type Kind uint8

// The requests of client-json.md sections 4, 6 and 7.
const (
	JoinGroup             Kind = iota + 1 // Group
	LeaveGroup                            // Group
	SendToGroup                           // Group, data, NoEcho, TTL
	SendEvent                             // Event, data
	Ping                                  //
	SequenceAck                           // SequenceID
	Invoke                                // InvocationID, Event, data if there is any
	CancelInvocation                      // InvocationID
	StreamStart                           // Group, StreamID, NoEcho, IdleTimeout; or Refusal
	StreamData                            // StreamID, StreamSequence and data; neither for a keepalive
	StreamEnd                             // StreamID, StreamError
	SetGroupState                         // Group, State; or Refusal
	SubscribeGroupState                   // Group; or Refusal
	UnsubscribeGroupState                 // Group; or Refusal
)

var kindNames = [...]string{
	JoinGroup: "joinGroup", LeaveGroup: "leaveGroup", SendToGroup: "sendToGroup", SendEvent: "event", Ping: "ping",
	SequenceAck: "sequenceAck", Invoke: "invoke", CancelInvocation: "cancelInvocation", StreamStart: "streamStart",
	StreamData: "streamData", StreamEnd: "streamEnd", SetGroupState: "setGroupState",
	SubscribeGroupState: "subscribeGroupState", UnsubscribeGroupState: "unsubscribeGroupState",
}

// String returns the kind as it is spelled on the wire, for logs and metrics; it is one of a closed set.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// Request is what one client message asks for. It is meant to be reused: decoding the same group or event name
// again allocates nothing. It is not safe for concurrent use.
type Request struct {
	Kind         Kind
	Group        string
	Event        string
	HasAck       bool // the client wants an ack with AckID
	AckID        uint64
	NoEcho       bool
	TTL          time.Duration
	SequenceID   uint64
	InvocationID string
	StreamID     string

	IdleTimeout    time.Duration // of a stream; zero: DefaultIdleTimeout
	StreamSequence uint64        // of a fragment; zero: a keepalive
	StreamError    *StreamError  // why the publisher gives the stream up; nil: it is complete
	State          []byte        // a JSON object of strings, valid until the frame or the request is used again; nil: none
	Refusal        string        // what is wrong with what is otherwise understood, for the client; empty: nothing

	dataType webpubsub.DataType // zero: no data
	value    []byte             // the data, as a JSON value if literal
	literal  bool
	metadata webpubsub.Metadata

	// Kept from request to request, so that the usual one allocates nothing.
	lastGroup, lastEvent string // valid names
	scratch              []byte // decoded data
}

const maxKeptScratch = 4 << 10

func (r *Request) reset() {
	group, event, scratch := r.lastGroup, r.lastEvent, r.scratch[:0]
	if cap(scratch) > maxKeptScratch {
		scratch = nil
	}
	*r = Request{} // in place; one made of the three would stand on the stack first
	r.lastGroup, r.lastEvent, r.scratch = group, event, scratch
}

// setGroup takes over the name of a group, given as text.
func (r *Request) setGroup(s []byte) error {
	if len(s) == 0 || string(s) != r.lastGroup {
		name := string(s)
		if err := webpubsub.CheckGroup(name); err != nil {
			return invalid("%s", err)
		}
		r.lastGroup = name
	}
	r.Group = r.lastGroup
	return nil
}

// setEvent takes over the name of an event.
func (r *Request) setEvent(s []byte) error {
	if len(s) == 0 || string(s) != r.lastEvent {
		name := string(s)
		if err := webpubsub.CheckEvent(name); err != nil {
			return invalid("%s", err)
		}
		r.lastEvent = name
	}
	r.Event = r.lastEvent
	return nil
}

// setTTL takes over how many seconds a message is worth delivering.
func (r *Request) setTTL(seconds uint64) error {
	if seconds > uint64(webpubsub.MaxTTL/time.Second) {
		return invalid("ttlSeconds is %d; it must be 0 to %d", seconds, webpubsub.MaxTTL/time.Second)
	}
	r.TTL = time.Duration(seconds) * time.Second
	return nil
}

// maxIDRunes bounds the ids that clients choose for invocations and streams.
const maxIDRunes = 256

// setID takes over an id that a client has chosen.
func setID(id *string, m member, s []byte) error {
	if n := utf8.RuneCount(s); n == 0 || n > maxIDRunes {
		return invalid("%s has %d characters; it needs 1 to %d", m, n, maxIDRunes)
	}
	*id = string(s)
	return nil
}

// SetData makes d the request's data.
func (r *Request) SetData(d webpubsub.Data) {
	r.dataType, r.value, r.literal, r.metadata = d.Type, d.Bytes, false, d.Metadata
}

// HasData reports whether the request carries data: always for sends and events, perhaps for invocations.
func (r *Request) HasData() bool { return r.dataType != 0 }

// DataType returns the type of the request's data, zero when there is none.
func (r *Request) DataType() webpubsub.DataType { return r.dataType }

// DataSize returns how many bytes the data has on the wire, about.
func (r *Request) DataSize() int { return len(r.value) }

// Data returns the request's data; its Type is zero when there is none. The bytes are valid until the frame or
// the request is used again.
func (r *Request) Data() webpubsub.Data {
	if r.literal {
		var value []byte
		value, r.scratch = fromLiteral(r.scratch[:0], r.dataType, r.value)
		return webpubsub.Data{Type: r.dataType, Bytes: value, Metadata: r.metadata}
	}
	return webpubsub.Data{Type: r.dataType, Bytes: r.value, Metadata: r.metadata}
}

// AppendMessage appends the envelope of the message that a SendToGroup request means, as sent by fromUserID
// (may be empty), like the function of that name. The data is taken over as the client wrote it.
func (r *Request) AppendMessage(dst []byte, fromUserID string) (out []byte, e Envelope) {
	start := len(dst)
	dst = appendMessageHead(dst, r.Group, fromUserID, r.dataType)
	data := len(dst)
	dst = r.appendValue(dst)
	return finishEnvelope(appendMetadata(dst, r.metadata), start, data, len(dst), r.dataType)
}

// appendValue appends the data as the client wrote it.
func (r *Request) appendValue(dst []byte) []byte {
	if r.literal {
		return append(dst, r.value...)
	}
	return appendDataValue(dst, webpubsub.Data{Type: r.dataType, Bytes: r.value})
}

// fromLiteral returns the bytes that the JSON value v of type t means: v itself, a part of it, or, if they must
// be decoded, scratch appended to. It returns the scratch space for the next time.
func fromLiteral(scratch []byte, t webpubsub.DataType, v []byte) (value, grown []byte) {
	switch t {
	case webpubsub.DataText:
		inner := inside(v)
		if !hasEscape(inner) {
			return inner, scratch
		}
		scratch = jsonscan.AppendUnescaped(scratch, inner)
		return scratch, scratch
	case webpubsub.DataBinary, webpubsub.DataProtobuf:
		scratch, _ = base64.StdEncoding.AppendDecode(scratch, inside(v)) // was checked when v was accepted
		return scratch, scratch
	}
	return v, scratch
}
