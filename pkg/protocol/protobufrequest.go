package protocol

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Decode reads one UpstreamMessage. Of several members the last counts, as proto3 has it for a oneof.
func (protobufCodec) Decode(binary bool, frame []byte, r *Request) error {
	r.reset()
	if !binary {
		return &DecodeError{Code: CloseUnsupportedData, Text: "a message must be a binary frame with an UpstreamMessage"}
	}
	var member uint64
	var body []byte
	f := fields{rest: frame}
	for f.next() {
		switch f.tag {
		case upSendToGroup, upEvent, upJoinGroup, upLeaveGroup, upSequenceAck, upPing,
			upInvoke, upCancel, upStreamData, upStreamEnd, upSetState, upSubscribe, upUnsubscribe:
			member, body = f.tag, f.b
		}
	}
	if f.err != nil {
		return f.err
	}
	return r.readMember(member, body)
}

func (r *Request) readMember(member uint64, b []byte) error {
	switch member {
	case upSendToGroup:
		r.Kind = SendToGroup
		return r.readSend(b)
	case upEvent:
		r.Kind = SendEvent
		return r.readEvent(b)
	case upJoinGroup:
		r.Kind = JoinGroup
		return r.readGroup(b)
	case upLeaveGroup:
		r.Kind = LeaveGroup
		return r.readGroup(b)
	case upSequenceAck:
		r.Kind = SequenceAck
		return r.readSequenceAck(b)
	case upPing:
		r.Kind = Ping
		return checkFields(b)
	case upInvoke:
		r.Kind = Invoke
		return r.readInvoke(b)
	case upCancel:
		r.Kind = CancelInvocation
		return r.readCancel(b)
	case upStreamData:
		r.Kind = StreamData
		return r.readFragment(b)
	case upStreamEnd:
		r.Kind = StreamEnd
		return r.readStreamEnd(b)
	case upSetState:
		r.Kind = SetGroupState
		return r.readGroup(b)
	case upSubscribe:
		r.Kind = SubscribeGroupState
		return r.readGroup(b)
	case upUnsubscribe:
		r.Kind = UnsubscribeGroupState
		return r.readGroup(b)
	}
	return invalid("the message has no member that is known, such as join_group_message or event_message")
}

func (r *Request) readGroup(b []byte) error {
	var group []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case groupName:
			group = f.text()
		case groupAck:
			r.AckID, r.HasAck = f.n, true
		case groupState:
			if r.Kind == SetGroupState {
				f.fail(r.readState(f.b))
			}
		}
	}
	return first(f.err, r.needGroup(group))
}

// needGroup takes over the name of a group. An absent field is the same as an empty one.
func (r *Request) needGroup(name []byte) error {
	if len(name) == 0 {
		return invalid("%s needs a group", r.Kind)
	}
	return r.setGroup(name)
}

func (r *Request) readSend(b []byte) error {
	var group, data, stream []byte
	var ttl uint64
	var metadata webpubsub.Metadata
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case groupName:
			group = f.text()
		case groupAck:
			r.AckID, r.HasAck = f.n, true
		case sendData:
			data = f.b
		case sendNoEcho:
			r.NoEcho = f.n != 0
		case sendTTL:
			ttl = f.n
		case sendMetadata:
			metadata = f.metadataEntry(metadata)
		case sendStream:
			stream = f.b
		}
	}
	if err := first(f.err, r.needGroup(group)); err != nil {
		return err
	}
	if stream != nil {
		r.Kind = StreamStart
		r.refuseStart(data != nil, r.HasAck)
		r.AckID, r.HasAck = 0, false
		return r.readStreamStart(stream)
	}
	return first(r.setTTL(ttl), r.readDataWith(metadata, data))
}

func (r *Request) readEvent(b []byte) error {
	var name, data []byte
	var metadata webpubsub.Metadata
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case eventName:
			name = f.text()
		case eventData:
			data = f.b
		case eventAck:
			r.AckID, r.HasAck = f.n, true
		case eventMetadata:
			metadata = f.metadataEntry(metadata)
		case eventStream:
			f.fail(invalid("an event cannot start a stream; send_to_group_message can"))
		}
	}
	if f.err != nil {
		return f.err
	}
	return first(r.needEvent(name), r.readDataWith(metadata, data))
}

// needEvent takes over the name of an event, as needGroup does that of a group.
func (r *Request) needEvent(name []byte) error {
	if len(name) == 0 {
		return invalid("%s needs the name of an event", r.Kind)
	}
	return r.setEvent(name)
}

// readInvoke reads an invocation, whose data may be absent. Its metadata are not read, as those of a JSON one.
func (r *Request) readInvoke(b []byte) error {
	var event, id, data []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case invokeEvent:
			event = f.text()
		case invokeID:
			id = f.text()
		case invokeData:
			data = f.b
		case invokeStream:
			f.fail(invalid("an invocation cannot start a stream; send_to_group_message can"))
		}
	}
	if err := first(f.err, setID(&r.InvocationID, mInvocationID, id), r.needEvent(event)); err != nil || data == nil {
		return err
	}
	return r.readData(data)
}

func (r *Request) readCancel(b []byte) error {
	var id []byte
	f := fields{rest: b}
	for f.next() {
		if f.tag == cancelID {
			id = f.text()
		}
	}
	return first(f.err, setID(&r.InvocationID, mInvocationID, id))
}

func (r *Request) readSequenceAck(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		if f.tag == sequenceAckID {
			r.SequenceID = f.n
		}
	}
	return f.err
}

func (r *Request) readStreamStart(b []byte) error {
	var id []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case startIdleTimeout:
			r.setIdleTimeout(f.n, true)
		}
	}
	return first(f.err, setID(&r.StreamID, mStreamID, id))
}

func (r *Request) readFragment(b []byte) error {
	var id, data []byte
	number := false
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case fragmentNumber:
			r.StreamSequence, number = f.n, true
		case fragmentData:
			data = f.b
		}
	}
	if err := first(f.err, setID(&r.StreamID, mStreamID, id)); err != nil {
		return err
	}
	switch {
	case !number && data == nil:
		return nil // a keepalive
	case !number || data == nil:
		return errPartialFragment
	}
	return first(r.checkSequence(), r.readData(data))
}

func (r *Request) readStreamEnd(b []byte) error {
	var id, failure []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case endError:
			failure = f.b
		}
	}
	err := first(f.err, setID(&r.StreamID, mStreamID, id))
	if err != nil || failure == nil {
		return err
	}
	r.StreamError = &StreamError{}
	f = fields{rest: failure}
	for f.next() {
		switch f.tag {
		case endMessage:
			r.StreamError.Message = string(f.text())
		case endErrorCode:
			r.StreamError.UserErrorCode = string(f.text())
		}
	}
	return f.err
}

// readDataWith takes payload and metadata over. Metadata alone goes with empty text (client-protobuf.md 1.3).
func (r *Request) readDataWith(m webpubsub.Metadata, b []byte) error {
	if err := checkMetadata(m); err != nil {
		return err
	}
	d, err := readMessageData(b)
	if err == nil && d.Type == 0 && len(m) > 0 {
		d.Type = webpubsub.DataText
	}
	d.Metadata = m
	return r.takeData(d, err)
}

// readData takes the payload over.
func (r *Request) readData(b []byte) error {
	return r.takeData(readMessageData(b))
}

func (r *Request) takeData(d webpubsub.Data, err error) error {
	if err == nil && d.Type == 0 {
		err = invalid("%s needs data: text_data, json_data, binary_data or protobuf_data", r.Kind)
	}
	r.SetData(d)
	return err
}

// readMessageData reads a MessageData; the Type of d is zero when no member is set. JSON has to be JSON, as it is
// forwarded within the JSON of others.
func readMessageData(b []byte) (d webpubsub.Data, err error) {
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case dataText:
			d = webpubsub.Data{Type: webpubsub.DataText, Bytes: f.text()}
		case dataBinary:
			d = webpubsub.Data{Type: webpubsub.DataBinary, Bytes: f.b}
		case dataProtobuf:
			d = webpubsub.Data{Type: webpubsub.DataProtobuf, Bytes: f.b}
			f.fail(checkAny(f.b))
		case dataJSON:
			d = webpubsub.Data{Type: webpubsub.DataJSON, Bytes: f.b}
		}
	}
	if f.err != nil {
		return webpubsub.Data{}, f.err
	}
	if d.Type == webpubsub.DataJSON {
		if err := CheckJSON(d.Bytes); err != nil {
			return webpubsub.Data{}, invalid("json_data is %s", err)
		}
		d.Bytes = bytes.TrimSpace(d.Bytes) // what stands around a value is none of it
		if string(d.Bytes) == "null" {
			return webpubsub.Data{}, invalid("json_data must not be null")
		}
	}
	return d, nil
}

// checkAny reports what keeps b from being a serialized google.protobuf.Any, or nil.
func checkAny(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		if f.tag == anyTypeURL {
			f.text()
		}
	}
	return f.err
}

// checkFields reports what keeps b from being a protobuf message, or nil.
func checkFields(b []byte) error {
	f := fields{rest: b}
	for f.next() { // what it finds is unknown
	}
	return f.err
}

// fields reads a message field by field. What stands in a field is valid until the next, but for bytes, which are
// part of the message.
type fields struct {
	rest []byte
	err  error // a *DecodeError; ends reading

	tag uint64 // number and wire type
	n   uint64 // of a varint
	b   []byte // of bytes, never nil
}

// next reads a field and reports whether there was one. It steps over those whose wire type is none of ours.
func (f *fields) next() bool {
	for len(f.rest) > 0 && f.err == nil {
		num, typ, n := protowire.ConsumeTag(f.rest)
		switch {
		case n < 0:
			f.malformed(n)
			return false
		case num > protowire.MaxValidNumber:
			f.fail(invalid("the message is not a protobuf message: a field has the number %d", num))
			return false
		}
		f.rest = f.rest[n:]
		f.tag = protowire.EncodeTag(num, typ)
		switch typ {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(f.rest)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(f.rest)
		default:
			n = protowire.ConsumeFieldValue(num, typ, f.rest)
		}
		if n < 0 {
			f.malformed(n)
			return false
		}
		f.rest = f.rest[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			return true
		}
	}
	return false
}

func (f *fields) malformed(n int) {
	f.fail(invalid("the message is not a protobuf message: %v", protowire.ParseError(n)))
}

// fail ends reading with err, unless it is nil.
func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// text returns the field's bytes, which have to be UTF-8.
func (f *fields) text() []byte {
	if !utf8.Valid(f.b) {
		f.fail(invalid("the message has text that is not valid UTF-8"))
	}
	return f.b
}
