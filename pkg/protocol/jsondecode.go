package protocol

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// member is a property that we know; others are skipped.
type member uint8

// The first group stands in requests, the second only in responses.
const (
	mType member = iota
	mGroup
	mEvent
	mAckID
	mNoEcho
	mDataType
	mData
	mSequenceID
	mInvocationID
	mTarget
	mTTL
	mMetadata
	mStream
	mStreamID

	mFrom
	mFromUserID
	mUserID
	mConnectionID
	mReconnectionToken
	mMessage
	mSuccess
	mError
	mName
	members
)

var memberNames = [members]string{
	"type", "group", "event", "ackId", "noEcho", "dataType", "data", "sequenceId", "invocationId", "target",
	"ttlSeconds", "metadata", "stream", "streamId", "from", "fromUserId", "userId", "connectionId",
	"reconnectionToken", "message", "success", "error", "name",
}

func (m member) String() string { return memberNames[m] }

// object is one JSON object: where its known members lie.
type object struct {
	b    []byte
	toks [members]token
}

// scanObject reads one JSON object, which must be all of b.
func scanObject(b []byte, o *object) error {
	o.b = b
	s := scanner{b: b}
	s.space()
	if s.peek() != '{' {
		return invalid("a message must be one JSON object in UTF-8")
	}
	if err := s.object(o); err != nil {
		var told *DecodeError
		if errors.As(err, &told) {
			return told
		}
		return invalid("the message is %s at byte %d", err, s.i)
	}
	if s.space(); s.i != len(b) {
		return invalid("a message must be one JSON object; there is more after its end")
	}
	return nil
}

// note keeps the value of a member that we know.
func (o *object) note(name, value token) error {
	m := memberByName(o.name(name))
	if m == members {
		return nil
	}
	if o.toks[m].kind != 0 {
		return invalid("the message has %s twice", m)
	}
	o.toks[m] = value
	return nil
}

func (o *object) name(t token) []byte {
	s := o.b[t.start+1 : t.end-1]
	if t.escapes {
		s = appendUnescaped(nil, s)
	}
	return s
}

func memberByName(name []byte) member {
	switch string(name) {
	case "type":
		return mType
	case "group":
		return mGroup
	case "event":
		return mEvent
	case "ackId":
		return mAckID
	case "noEcho":
		return mNoEcho
	case "dataType":
		return mDataType
	case "data":
		return mData
	case "sequenceId":
		return mSequenceID
	case "invocationId":
		return mInvocationID
	case "target":
		return mTarget
	case "ttlSeconds":
		return mTTL
	case "metadata":
		return mMetadata
	case "stream":
		return mStream
	case "streamId":
		return mStreamID
	case "from":
		return mFrom
	case "fromUserId":
		return mFromUserID
	case "userId":
		return mUserID
	case "connectionId":
		return mConnectionID
	case "reconnectionToken":
		return mReconnectionToken
	case "message":
		return mMessage
	case "success":
		return mSuccess
	case "error":
		return mError
	case "name":
		return mName
	}
	return members
}

// Decode reads one request. Binary frames are fine when they hold JSON (client-json.md section 3).
func (c jsonCodec) Decode(_ bool, frame []byte, r *Request) error {
	r.reset()
	var o object
	if err := scanObject(frame, &o); err != nil {
		return err
	}
	return o.request(r)
}

func (o *object) request(r *Request) (err error) {
	if r.Kind, err = o.kind(); err != nil {
		return err
	}
	switch r.Kind {
	case JoinGroup, LeaveGroup, GroupState:
		err = first(o.group(r), o.ack(r))
	case SendToGroup:
		if !o.toks[mStream].absent() {
			r.Kind = StreamStart
			return first(o.group(r), o.streamStart(r))
		}
		err = first(o.group(r), o.ack(r), o.noEcho(r), o.ttl(r), o.data(r))
	case SendEvent:
		err = first(o.event(r), o.ack(r), o.data(r))
	case SequenceAck:
		r.SequenceID, _, err = o.uint(mSequenceID, true)
	case Invoke:
		err = first(o.id(mInvocationID, &r.InvocationID), o.target(), o.event(r))
		if err == nil && o.toks[mData].kind != 0 {
			err = o.data(r)
		}
	case CancelInvocation:
		err = o.id(mInvocationID, &r.InvocationID)
	case StreamData, StreamEnd:
		err = o.id(mStreamID, &r.StreamID)
	}
	return err
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// kinds are matched in any letter case (client-json.md section 3).
var kinds = func() map[string]Kind {
	byName := map[string]Kind{}
	for k := JoinGroup; k <= GroupState; k++ {
		byName[strings.ToLower(k.String())] = k
	}
	delete(byName, strings.ToLower(StreamStart.String())) // a sendToGroup with a stream
	delete(byName, strings.ToLower(GroupState.String()))
	for _, name := range []string{"setgroupstate", "subscribegroupstate", "unsubscribegroupstate"} {
		byName[name] = GroupState
	}
	return byName
}()

func (o *object) kind() (Kind, error) {
	t := o.toks[mType]
	if t.kind != '"' {
		return 0, invalid("the message needs a type, such as joinGroup, sendToGroup or event")
	}
	var lower [32]byte
	name := o.name(t)
	if len(name) > len(lower) {
		return 0, invalid("the message has an unknown type of %d bytes", len(name))
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	k, ok := kinds[string(lower[:len(name)])]
	if !ok {
		return 0, invalid("the message has the unknown type %q", name)
	}
	return k, nil
}

// text returns the bytes of a string member; they are the frame's unless it has escapes. ok is false when it is
// absent.
func (o *object) text(m member) (s []byte, ok bool, err error) {
	t := o.toks[m]
	if t.absent() {
		return nil, false, nil
	}
	if t.kind != '"' {
		return nil, false, invalid("%s must be a string", m)
	}
	s = o.b[t.start+1 : t.end-1]
	if t.escapes {
		if hasLoneSurrogate(s) {
			return nil, false, invalid("%s has half a surrogate pair, which is not text", m)
		}
		s = appendUnescaped(nil, s)
	}
	return s, true, nil
}

func (o *object) group(r *Request) error {
	s, ok, err := o.text(mGroup)
	switch {
	case err != nil:
		return err
	case !ok:
		return invalid("%s needs a group", r.Kind)
	case string(s) != r.lastGroup:
		name := string(s)
		if err := webpubsub.CheckGroup(name); err != nil {
			return invalid("%s", err)
		}
		r.lastGroup = name
	}
	r.Group = r.lastGroup
	return nil
}

func (o *object) event(r *Request) error {
	s, ok, err := o.text(mEvent)
	switch {
	case err != nil:
		return err
	case !ok:
		return invalid("%s needs the name of an event", r.Kind)
	case string(s) != r.lastEvent:
		name := string(s)
		if err := webpubsub.CheckEvent(name); err != nil {
			return invalid("%s", err)
		}
		r.lastEvent = name
	}
	r.Event = r.lastEvent
	return nil
}

// maxIDRunes bounds the ids that clients choose for invocations and streams.
const maxIDRunes = 256

func (o *object) id(m member, id *string) error {
	s, _, err := o.text(m)
	if err != nil {
		return err
	}
	if n := utf8.RuneCount(s); n == 0 || n > maxIDRunes {
		return invalid("%s has %d characters; it needs 1 to %d", m, n, maxIDRunes)
	}
	*id = string(s)
	return nil
}

func (o *object) target() error {
	s, _, err := o.text(mTarget)
	if err == nil && string(s) != "event" {
		err = invalid(`target must be "event"`)
	}
	return err
}

func (o *object) ack(r *Request) (err error) {
	r.AckID, r.HasAck, err = o.uint(mAckID, false)
	return err
}

func (o *object) ttl(r *Request) error {
	n, _, err := o.uint(mTTL, false)
	if err == nil && n > uint64(webpubsub.MaxTTL/time.Second) {
		err = invalid("ttlSeconds is %d; it must be 0 to %d", n, webpubsub.MaxTTL/time.Second)
	}
	r.TTL = time.Duration(n) * time.Second
	return err
}

// uint returns an unsigned integer, which a JSON number is only when it has digits and nothing else.
func (o *object) uint(m member, required bool) (n uint64, ok bool, err error) {
	t := o.toks[m]
	if t.absent() && !required {
		return 0, false, nil
	}
	n, ok = parseUint(o.b[t.start:t.end])
	if t.kind != '0' || !ok {
		return 0, false, invalid("%s must be an integer from 0 to 18446744073709551615", m)
	}
	return n, true, nil
}

func parseUint(digits []byte) (n uint64, ok bool) {
	for _, c := range digits {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(digits) > 0
}

func (o *object) noEcho(r *Request) error {
	t := o.toks[mNoEcho]
	if !t.absent() && t.kind != 't' && t.kind != 'f' {
		return invalid("noEcho must be true or false")
	}
	r.NoEcho = t.kind == 't'
	return nil
}

// streamStart finds the id of the stream that a sendToGroup is to start, in the object within it.
func (o *object) streamStart(r *Request) error {
	t := o.toks[mStream]
	var inner object
	if err := scanObject(o.b[t.start:t.end], &inner); err != nil {
		return invalid("stream must be an object")
	}
	return inner.id(mStreamID, &r.StreamID)
}

// data takes the payload over: as the JSON it is, or decoded when that JSON is not fit for others.
func (o *object) data(r *Request) (err error) {
	t, metadata := o.toks[mData], o.toks[mMetadata]
	if !metadata.absent() && metadata.kind != '{' {
		return invalid("metadata must be an object")
	}
	if t.kind == 0 && metadata.kind == '{' { // metadata alone goes with empty text (client-json.md 3.1)
		r.dataType, r.value, r.literal = webpubsub.DataText, []byte(`""`), true
		return nil
	}
	if t.absent() {
		return invalid("%s needs data, which must not be null", r.Kind)
	}
	if r.dataType, err = o.dataType(webpubsub.DataJSON); err != nil {
		return err
	}
	r.value, r.literal = o.b[t.start:t.end], true
	if r.dataType == webpubsub.DataJSON {
		return nil
	}
	if t.kind != '"' {
		return invalid("data must be a string when dataType is %s", r.dataType)
	}
	if r.dataType == webpubsub.DataText {
		if t.escapes && hasLoneSurrogate(r.value) {
			r.decodeText()
		}
		return nil
	}
	return r.checkBase64(t.escapes)
}

func (o *object) dataType(absent webpubsub.DataType) (webpubsub.DataType, error) {
	s, ok, err := o.text(mDataType)
	if err != nil || !ok {
		return absent, err
	}
	t, ok := parseDataType(s)
	if !ok {
		return 0, invalid("dataType must be text, json, binary or protobuf")
	}
	return t, nil
}

// parseDataType is webpubsub.ParseDataType; it allocates nothing for the spelling that we write ourselves.
func parseDataType(s []byte) (webpubsub.DataType, bool) {
	for t := webpubsub.DataText; t <= webpubsub.DataProtobuf; t++ {
		if string(s) == t.String() {
			return t, true
		}
	}
	return webpubsub.ParseDataType(string(s))
}

func (r *Request) decodeText() {
	r.scratch = appendUnescaped(r.scratch, r.value[1:len(r.value)-1])
	r.SetData(webpubsub.Data{Type: r.dataType, Bytes: r.scratch})
}

// checkBase64 accepts only base64 that every SDK can read. Escapes in it are legal JSON: \/ is not even rare.
func (r *Request) checkBase64(escapes bool) error {
	if escapes {
		r.scratch = append(r.scratch, '"')
		r.scratch = append(appendUnescaped(r.scratch, r.value[1:len(r.value)-1]), '"')
		r.value = r.scratch
	}
	if !validBase64(r.value[1 : len(r.value)-1]) {
		return invalid("data must be padded base64 when dataType is %s", r.dataType)
	}
	if escapes {
		raw, _ := base64.StdEncoding.AppendDecode(nil, r.value[1:len(r.value)-1])
		r.SetData(webpubsub.Data{Type: r.dataType, Bytes: raw})
	}
	return nil
}
