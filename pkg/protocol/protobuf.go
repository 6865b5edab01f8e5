package protocol

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Wire types that our fields have. A field of another type is not ours, whatever its number.
const (
	wireVarint = uint64(protowire.VarintType)
	wireBytes  = uint64(protowire.BytesType)
)

// Tags of the fields, which are number and wire type (client-protobuf.md section 1).
const (
	// The members of an UpstreamMessage.
	upSendToGroup = 1<<3 | wireBytes
	upEvent       = 5<<3 | wireBytes
	upJoinGroup   = 6<<3 | wireBytes
	upLeaveGroup  = 7<<3 | wireBytes
	upSequenceAck = 8<<3 | wireBytes
	upPing        = 9<<3 | wireBytes
	upInvoke      = 10<<3 | wireBytes
	upCancel      = 11<<3 | wireBytes
	upStreamData  = 13<<3 | wireBytes
	upStreamEnd   = 14<<3 | wireBytes
	upSetState    = 15<<3 | wireBytes
	upSubscribe   = 16<<3 | wireBytes
	upUnsubscribe = 17<<3 | wireBytes

	// Every request about a group begins alike.
	groupName    = 1<<3 | wireBytes
	groupAck     = 2<<3 | wireVarint
	sendData     = 3<<3 | wireBytes
	sendNoEcho   = 4<<3 | wireVarint
	sendTTL      = 5<<3 | wireVarint
	sendMetadata = 6<<3 | wireBytes
	sendStream   = 7<<3 | wireBytes
	groupState   = 3<<3 | wireBytes // of one that sets it

	eventName     = 1<<3 | wireBytes
	eventData     = 2<<3 | wireBytes
	eventAck      = 3<<3 | wireVarint
	eventMetadata = 4<<3 | wireBytes
	eventStream   = 5<<3 | wireBytes

	sequenceAckID = 1<<3 | wireVarint

	invokeEvent  = 1<<3 | wireBytes
	invokeID     = 2<<3 | wireBytes
	invokeData   = 3<<3 | wireBytes
	invokeStream = 5<<3 | wireBytes

	cancelID = 1<<3 | wireBytes

	streamID = 1<<3 | wireBytes // of every message about a stream

	startIdleTimeout = 2<<3 | wireVarint

	fragmentNumber = 2<<3 | wireVarint
	fragmentData   = 3<<3 | wireBytes

	endError     = 2<<3 | wireBytes
	endMessage   = 1<<3 | wireBytes // of that error, as the next
	endErrorCode = 2<<3 | wireBytes

	// The members of a DownstreamMessage.
	downAck          = 1<<3 | wireBytes
	downData         = 2<<3 | wireBytes
	downSystem       = 3<<3 | wireBytes
	downPong         = 4<<3 | wireBytes
	downInvoke       = 5<<3 | wireBytes
	downStreamAck    = 6<<3 | wireBytes
	downStreamNack   = 7<<3 | wireBytes
	downStreamClosed = 8<<3 | wireBytes
	downStateUpdate  = 9<<3 | wireBytes
	downStates       = 10<<3 | wireBytes // a snapshot

	ackID      = 1<<3 | wireVarint
	ackSuccess = 2<<3 | wireVarint
	ackError   = 3<<3 | wireBytes

	messageFrom     = 1<<3 | wireBytes
	messageGroup    = 2<<3 | wireBytes
	messageData     = 3<<3 | wireBytes
	messageNumber   = 4<<3 | wireVarint
	messageMetadata = 5<<3 | wireBytes
	messageStream   = 6<<3 | wireBytes

	infoNumber = 2<<3 | wireVarint
	infoEnd    = 3<<3 | wireVarint
	infoError  = 4<<3 | wireBytes

	systemConnected    = 1<<3 | wireBytes
	systemDisconnected = 2<<3 | wireBytes

	connectedID     = 1<<3 | wireBytes
	connectedUserID = 2<<3 | wireBytes
	connectedToken  = 3<<3 | wireBytes

	disconnectedReason = 2<<3 | wireBytes // there is no 1

	answerID      = 1<<3 | wireBytes
	answerSuccess = 2<<3 | wireVarint
	answerData    = 3<<3 | wireBytes
	answerError   = 4<<3 | wireBytes

	stateItems = 2<<3 | wireBytes // behind groupName

	itemConnectionID = 1<<3 | wireBytes
	itemUserID       = 2<<3 | wireBytes
	itemState        = 3<<3 | wireBytes
	itemUpdatedAt    = 4<<3 | wireVarint

	stateEntries = 1<<3 | wireBytes // of a GroupState

	streamAckExpected = 2<<3 | wireVarint

	nackName     = 2<<3 | wireBytes
	nackMessage  = 3<<3 | wireBytes
	nackExpected = 4<<3 | wireVarint

	closedError = 2<<3 | wireBytes

	errorName     = 1<<3 | wireBytes
	errorMessage  = 2<<3 | wireBytes
	errorUserCode = 3<<3 | wireBytes // of a stream that subscribers see

	// The members of a MessageData.
	dataText     = 1<<3 | wireBytes
	dataBinary   = 2<<3 | wireBytes
	dataProtobuf = 3<<3 | wireBytes
	dataJSON     = 4<<3 | wireBytes

	anyTypeURL = 1<<3 | wireBytes // of a google.protobuf.Any

	entryKey   = 1<<3 | wireBytes // of the map that metadata is, and a state
	entryValue = 2<<3 | wireBytes
)

// protobufCodec is protobuf.webpubsub.azure.v1 or, when reliable, protobuf.reliable.webpubsub.azure.v1.
type protobufCodec struct{ reliable bool }

func (c protobufCodec) ID() ID {
	if c.reliable {
		return IDReliableProtobuf
	}
	return IDProtobuf
}

func (c protobufCodec) Name() string {
	if c.reliable {
		return NameReliableProtobuf
	}
	return NameProtobuf
}

func (c protobufCodec) Reliable() bool { return c.reliable }
func (protobufCodec) Plain() Codec     { return Protobuf }
func (protobufCodec) Binary() bool     { return true }

func (c protobufCodec) AppendConnected(dst []byte, m Connected) []byte {
	start := len(dst)
	dst = appendText(dst, connectedID, m.ConnectionID)
	dst = appendText(dst, connectedUserID, m.UserID)
	if c.reliable {
		dst = appendText(dst, connectedToken, m.ReconnectionToken)
	}
	return enclose(enclose(dst, start, systemConnected), start, downSystem)
}

func (protobufCodec) AppendDisconnected(dst []byte, reason string) []byte {
	start := len(dst)
	dst = appendText(dst, disconnectedReason, reason)
	return enclose(enclose(dst, start, systemDisconnected), start, downSystem)
}

func (protobufCodec) AppendAck(dst []byte, id uint64, failure *Failure) []byte {
	start := len(dst)
	dst = appendUint(dst, ackID, id)
	if failure == nil {
		dst = appendUint(dst, ackSuccess, 1)
	}
	return enclose(appendError(dst, ackError, failure), start, downAck)
}

func (protobufCodec) AppendPong(dst []byte) []byte { return enclose(dst, len(dst), downPong) }

func (protobufCodec) AppendInvokeResponse(dst []byte, id string, d webpubsub.Data, failure *Failure) []byte {
	start := len(dst)
	dst = appendText(dst, answerID, id)
	if failure == nil {
		dst = appendUint(dst, answerSuccess, 1)
		if d.Type != 0 {
			dst = appendData(dst, answerData, d)
		}
	}
	return enclose(appendError(dst, answerError, failure), start, downInvoke)
}

func (protobufCodec) AppendStreamAck(dst []byte, id string, expected uint64) []byte {
	start := len(dst)
	dst = appendUint(appendText(dst, streamID, id), streamAckExpected, expected)
	return enclose(dst, start, downStreamAck)
}

func (protobufCodec) AppendStreamNack(dst []byte, id string, expected uint64, failure *Failure) []byte {
	start := len(dst)
	dst = appendText(dst, streamID, id)
	dst = appendText(dst, nackName, failure.Name)
	dst = appendText(dst, nackMessage, failure.Message)
	return enclose(appendUint(dst, nackExpected, expected), start, downStreamNack)
}

func (protobufCodec) AppendStreamClosed(dst []byte, id string, failure *Failure) []byte {
	start := len(dst)
	dst = appendText(dst, streamID, id)
	return enclose(appendError(dst, closedError, failure), start, downStreamClosed)
}

// AppendMessage makes a DataMessage, which does not say from which user it is (client-protobuf.md 1.2).
func (protobufCodec) AppendMessage(dst []byte, e Envelope) (out []byte, binary bool) {
	start := len(dst)
	if group, ok := e.group(); ok {
		dst = appendBytes(dst, messageFrom, "group")
		dst = appendBytes(dst, messageGroup, group)
	} else {
		dst = appendBytes(dst, messageFrom, "server")
	}
	data := len(dst)
	dst = encloseData(e.AppendPayload(dst), data, messageData, e.DataType)
	dst = appendMetadataFields(dst, messageMetadata, e.metadata())
	if s := e.Stream(); s != nil {
		dst = appendInfo(dst, s)
	}
	return enclose(dst, start, downData), true
}

func appendInfo(dst []byte, s *StreamInfo) []byte {
	start := len(dst)
	dst = appendUint(appendText(dst, streamID, s.StreamID), infoNumber, s.Sequence)
	if s.End {
		dst = appendUint(dst, infoEnd, 1)
	}
	if s.Error != nil {
		failure := len(dst)
		dst = appendText(dst, errorName, s.Error.Name)
		dst = appendText(dst, errorMessage, s.Error.Message)
		dst = enclose(appendText(dst, errorUserCode, s.Error.UserErrorCode), failure, infoError)
	}
	return enclose(dst, start, messageStream)
}

// AppendNumbered puts the number behind the message's other fields, whose order is free, and mends the length.
func (c protobufCodec) AppendNumbered(dst, message []byte, seq uint64) []byte {
	if !c.reliable {
		return append(dst, message...)
	}
	dst, fields := appendLength(dst, message, seq)
	return appendUint(append(dst, fields...), messageNumber, seq)
}

// AppendHead puts the number before the message's other fields.
func (c protobufCodec) AppendHead(dst, message []byte, seq uint64) (out, rest []byte) {
	if !c.reliable {
		return dst, message
	}
	dst, fields := appendLength(dst, message, seq)
	return appendUint(dst, messageNumber, seq), fields
}

// appendLength appends what a message begins with that has a number besides its fields.
func appendLength(dst, message []byte, seq uint64) (out, fields []byte) {
	fields, _ = protowire.ConsumeBytes(message[1:]) // behind downData
	number := protowire.SizeVarint(messageNumber) + protowire.SizeVarint(seq)
	return protowire.AppendVarint(append(dst, byte(downData)), uint64(len(fields)+number)), fields
}

func (protobufCodec) AppendRequest(dst []byte, r *Request) []byte {
	start := len(dst)
	switch r.Kind {
	case JoinGroup:
		return enclose(appendGroup(dst, r), start, upJoinGroup)
	case LeaveGroup:
		return enclose(appendGroup(dst, r), start, upLeaveGroup)
	case SetGroupState:
		return enclose(appendState(appendGroup(dst, r), groupState, r.State), start, upSetState)
	case SubscribeGroupState:
		return enclose(appendGroup(dst, r), start, upSubscribe)
	case UnsubscribeGroupState:
		return enclose(appendGroup(dst, r), start, upUnsubscribe)
	case SendToGroup, StreamStart:
		return enclose(appendSend(dst, r), start, upSendToGroup)
	case SendEvent:
		dst = appendText(dst, eventName, r.Event)
		dst = appendData(dst, eventData, r.Data())
		if r.HasAck {
			dst = appendUint(dst, eventAck, r.AckID)
		}
		dst = appendMetadataFields(dst, eventMetadata, r.metadata)
		return enclose(dst, start, upEvent)
	case SequenceAck:
		return enclose(appendUint(dst, sequenceAckID, r.SequenceID), start, upSequenceAck)
	case Ping:
		return enclose(dst, start, upPing)
	case Invoke:
		dst = appendText(appendText(dst, invokeEvent, r.Event), invokeID, r.InvocationID)
		if r.HasData() {
			dst = appendData(dst, invokeData, r.Data())
		}
		return enclose(dst, start, upInvoke)
	case CancelInvocation:
		return enclose(appendText(dst, cancelID, r.InvocationID), start, upCancel)
	case StreamData:
		dst = appendText(dst, streamID, r.StreamID)
		if r.HasData() {
			dst = appendUint(dst, fragmentNumber, r.StreamSequence)
			dst = appendData(dst, fragmentData, r.Data())
		}
		return enclose(dst, start, upStreamData)
	case StreamEnd:
		dst = appendText(dst, streamID, r.StreamID)
		if r.StreamError != nil {
			failure := len(dst)
			dst = appendText(dst, endMessage, r.StreamError.Message)
			dst = enclose(appendText(dst, endErrorCode, r.StreamError.UserErrorCode), failure, endError)
		}
		return enclose(dst, start, upStreamEnd)
	}
	return dst
}

func appendGroup(dst []byte, r *Request) []byte {
	dst = appendText(dst, groupName, r.Group)
	if r.HasAck {
		dst = appendUint(dst, groupAck, r.AckID)
	}
	return dst
}

func appendSend(dst []byte, r *Request) []byte {
	dst = appendGroup(dst, r)
	if r.HasData() {
		dst = appendData(dst, sendData, r.Data())
	}
	if r.NoEcho {
		dst = appendUint(dst, sendNoEcho, 1)
	}
	if r.TTL > 0 {
		dst = appendUint(dst, sendTTL, uint64(r.TTL.Seconds()))
	}
	dst = appendMetadataFields(dst, sendMetadata, r.metadata)
	if r.Kind == StreamStart {
		start := len(dst)
		dst = appendText(dst, streamID, r.StreamID)
		if r.IdleTimeout > 0 {
			dst = appendUint(dst, startIdleTimeout, uint64(r.IdleTimeout.Milliseconds()))
		}
		dst = enclose(dst, start, sendStream)
	}
	return dst
}

// appendError appends an error's fields under tag, or nothing when there is none.
func appendError(dst []byte, tag uint64, failure *Failure) []byte {
	if failure == nil {
		return dst
	}
	start := len(dst)
	dst = appendText(dst, errorName, failure.Name)
	dst = appendText(dst, errorMessage, failure.Message)
	return enclose(dst, start, tag)
}

// appendData appends d as a MessageData under tag.
func appendData(dst []byte, tag uint64, d webpubsub.Data) []byte {
	start := len(dst)
	if d.Type == webpubsub.DataText {
		dst = appendUTF8(dst, d.Bytes)
	} else {
		dst = append(dst, d.Bytes...)
	}
	return encloseData(dst, start, tag, d.Type)
}

// encloseData makes what follows from in dst, the bytes of data of type t, a MessageData under tag. What is said to
// be an Any and is not goes as binary: it would break the receiver, who did not send it.
func encloseData(dst []byte, from int, tag uint64, t webpubsub.DataType) []byte {
	member := dataBinary
	switch {
	case t == webpubsub.DataText:
		member = dataText
	case t == webpubsub.DataJSON:
		member = dataJSON
	case t == webpubsub.DataProtobuf && checkAny(dst[from:]) == nil:
		member = dataProtobuf
	}
	return enclose(enclose(dst, from, member), from, tag)
}

// enclose makes what follows from in dst a field: it puts the tag and the length before it.
func enclose(dst []byte, from int, tag uint64) []byte {
	var space [12]byte
	head := protowire.AppendVarint(protowire.AppendVarint(space[:0], tag), uint64(len(dst)-from))
	n := len(dst)
	dst = append(dst, head...) // for the space
	copy(dst[from+len(head):], dst[from:n])
	copy(dst[from:], head)
	return dst
}

func appendUint(dst []byte, tag, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendVarint(dst, tag), n)
}

// appendBytes appends a field of bytes, or of text that is known to be UTF-8.
func appendBytes[T string | []byte](dst []byte, tag uint64, s T) []byte {
	dst = protowire.AppendVarint(protowire.AppendVarint(dst, tag), uint64(len(s)))
	return append(dst, s...)
}

// appendText appends a field of text; empty text is left out, as proto3 does.
func appendText(dst []byte, tag uint64, s string) []byte {
	if s == "" {
		return dst
	}
	if utf8.ValidString(s) {
		return appendBytes(dst, tag, s)
	}
	start := len(dst)
	return enclose(appendUTF8(dst, []byte(s)), start, tag)
}

// appendUTF8 appends s with U+FFFD for each byte that is not UTF-8.
func appendUTF8(dst, s []byte) []byte {
	if utf8.Valid(s) {
		return append(dst, s...)
	}
	for _, r := range string(s) {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
