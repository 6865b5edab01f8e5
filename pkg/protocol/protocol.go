// Package protocol translates between the frames of a client subprotocol and what they mean, in both
// directions (client-json.md, client-protobuf.md).
//
// A Codec is one subprotocol. The server decodes into a Request that a connection reuses, and answers with the
// codec's Append methods. A message for many receivers is encoded once, as JSON, into an Envelope; that is what
// nodes send each other, and a codec makes its frame from it:
//
//	simple    the payload, taken out of the envelope
//	json      the envelope as it is
//	protobuf  the payload and the members before and behind it, as a DataMessage
//	reliable  what its plain codec makes of it, with the connection's number spliced in
//
// A node that keeps what AppendMessage returns for each plain codec encodes a message at most once per codec,
// however many receive it; only AppendNumbered is done for each connection.
//
// The client's half is the same types used the other way: AppendRequest and DecodeResponse.
//
// Appending never fails: text that is not valid UTF-8 is sent with U+FFFD in its place, and absent members are
// left out, never null. Decoding trusts nothing and says in its error what would be right.
package protocol

import (
	"fmt"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Subprotocol names as clients offer them (client-json.md 1.5).
const (
	NameJSON             = "json.webpubsub.azure.v1"
	NameReliableJSON     = "json.reliable.webpubsub.azure.v1"
	NameProtobuf         = "protobuf.webpubsub.azure.v1"
	NameReliableProtobuf = "protobuf.reliable.webpubsub.azure.v1"
)

// ID is a small number for a codec, to index what is kept per codec.
type ID uint8

// The codecs. Count is how many there are.
const (
	IDSimple ID = iota
	IDJSON
	IDReliableJSON
	IDProtobuf
	IDReliableProtobuf
	Count
)

// The codecs' values. Simple serves every client without a subprotocol of ours.
var (
	Simple           Codec = simpleCodec{}
	JSON             Codec = jsonCodec{}
	ReliableJSON     Codec = jsonCodec{reliable: true}
	Protobuf         Codec = protobufCodec{}
	ReliableProtobuf Codec = protobufCodec{reliable: true}
)

// Codecs holds every codec at the index of its ID.
var Codecs = [Count]Codec{Simple, JSON, ReliableJSON, Protobuf, ReliableProtobuf}

// Codec is one subprotocol. A codec has no state and is safe for concurrent use.
//
// The Append methods append the payload of one WebSocket message to dst and return the longer slice, or dst as
// it is when the subprotocol has no such message. Payloads are text unless Binary.
type Codec interface {
	ID() ID
	Name() string   // the subprotocol's name; empty for Simple
	Reliable() bool // messages are numbered, connections recoverable
	Plain() Codec   // the codec whose messages a reliable one numbers; the codec itself if it is not reliable
	Binary() bool   // frames are binary

	// Decode reads one client message into r, whose old content is lost. The error is a *DecodeError. What r
	// says of the data points into frame and is valid as long as frame is.
	Decode(binary bool, frame []byte, r *Request) error

	AppendConnected(dst []byte, c Connected) []byte
	AppendDisconnected(dst []byte, reason string) []byte
	AppendAck(dst []byte, id uint64, failure *Failure) []byte // a nil failure is success
	AppendPong(dst []byte) []byte
	// AppendInvokeResponse answers an invocation: with a failure, or with data, or with neither (d is zero).
	AppendInvokeResponse(dst []byte, id string, d webpubsub.Data, failure *Failure) []byte
	// The answers to the publisher of a stream: what has arrived, what has to be sent again, that it is over. A
	// stream that closes with a nil failure has come to its end.
	AppendStreamAck(dst []byte, streamID string, expected uint64) []byte
	AppendStreamNack(dst []byte, streamID string, expected uint64, failure *Failure) []byte
	AppendStreamClosed(dst []byte, streamID string, failure *Failure) []byte
	// AppendGroupState tells a subscriber the states of connections in a group: of all, or of those that have
	// changed.
	AppendGroupState(dst []byte, group string, snapshot bool, items []GroupStateItem) []byte
	// AppendMessage appends a message, without a number; binary tells how to frame it.
	AppendMessage(dst []byte, e Envelope) (out []byte, binary bool)
	// AppendNumbered appends what AppendMessage has made, with seq as its number if the codec is reliable.
	AppendNumbered(dst, message []byte, seq uint64) []byte
	// AppendHead is the same in two parts: it appends what comes first, with the number, and returns the rest, which is the end
	// of message and the same for every number. Both together mean what AppendNumbered makes, in an order that may differ.
	AppendHead(dst, message []byte, seq uint64) (out, rest []byte)

	// The client's half. AppendRequest encodes r; the caller has checked its names. It returns dst as it is when
	// the subprotocol has no such request. DecodeResponse reads one server message into r; unknown types give the
	// kind Unknown, as clients have to ignore those. What it says of the data points into frame or r.
	AppendRequest(dst []byte, r *Request) []byte
	DecodeResponse(binary bool, frame []byte, r *Response) error
}

// ByName returns the codec for a subprotocol's name, which is case-sensitive. Simple has no name.
func ByName(name string) (Codec, bool) {
	for _, c := range Codecs[1:] {
		if c.Name() == name {
			return c, true
		}
	}
	return nil, false
}

// Select returns the first offered subprotocol that has a codec (client-json.md 1.5, rule 2).
func Select(offered []string) (Codec, bool) {
	for _, name := range offered {
		if c, ok := ByName(name); ok {
			return c, true
		}
	}
	return nil, false
}

// Close codes that a DecodeError may ask for (client-json.md section 9).
const (
	CloseUnsupportedData = 1003 // wrong frame type for the subprotocol
	CloseInvalidPayload  = 1007 // the message does not match the protocol
)

// DecodeError says why a frame cannot be understood. The connection is closed with Code and Text.
type DecodeError struct {
	Code int    // CloseUnsupportedData or CloseInvalidPayload
	Text string // what would be right; fits a close frame's reason, short of long names
}

func (e *DecodeError) Error() string { return e.Text }

func invalid(format string, args ...any) error {
	return &DecodeError{Code: CloseInvalidPayload, Text: fmt.Sprintf(format, args...)}
}

// Failure is the error of an ack, an invocation or a stream. It is an error for clients' use.
type Failure struct{ Name, Message string }

func (f *Failure) Error() string { return f.Name + ": " + f.Message }

// Names of failures (client-json.md 5.1, 6.4 and 6.5).
const (
	Forbidden           = "Forbidden"
	Duplicate           = "Duplicate" // the ackId has been processed already; clients take it as success
	InternalServerError = "InternalServerError"
	BadRequest          = "BadRequest"
	NotFound            = "NotFound"
	Timeout             = "Timeout"
	StreamNotFound      = "StreamNotFound"
	IdleTimeout         = "IdleTimeout"
	InvalidSequenceID   = "InvalidSequenceId" // of a streamNack, as the next
	TransientError      = "TransientError"
	UserError           = "UserError" // of the end that subscribers see, as the next
	Cancelled           = "Cancelled"
)

// Connected is the first message of a PubSub connection. ReconnectionToken is for reliable codecs only; empty
// members are left out.
type Connected struct {
	UserID, ConnectionID, ReconnectionToken string

	Greeting string // all that a simple client is told, in a text frame; empty: nothing
}
