package protocol

import (
	"errors"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
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
	mStreamSequence
	mIdleTimeout
	mError
	mMessage
	mUserErrorCode
	mState

	mFrom
	mFromUserID
	mUserID
	mConnectionID
	mReconnectionToken
	mSuccess
	mName
	mEndOfStream
	mExpected
	mItems
	members
)

var memberNames = [members]string{
	"type", "group", "event", "ackId", "noEcho", "dataType", "data", "sequenceId", "invocationId", "target",
	"ttlSeconds", "metadata", "stream", "streamId", "streamSequenceId", "idleTimeoutMs", "error", "message",
	"userErrorCode", "state", "from", "fromUserId", "userId", "connectionId", "reconnectionToken", "success", "name",
	"endOfStream", "expectedSequenceId", "items",
}

func (m member) String() string { return memberNames[m] }

// object is one JSON object: where its known members lie.
type object struct {
	b    []byte
	toks [members]jsonscan.Value
}

// scanObject reads one JSON object, which must be all of b.
func scanObject(b []byte, o *object) error {
	o.b = b
	s := jsonscan.New(b)
	s.Space()
	if s.Peek() != '{' {
		return invalid("a message must be one JSON object in UTF-8")
	}
	if err := o.members(&s); err != nil {
		var told *DecodeError
		if errors.As(err, &told) {
			return told
		}
		return invalid("the message is %s at byte %d", err, s.Pos())
	}
	if !s.Done() {
		return invalid("a message must be one JSON object; there is more after its end")
	}
	return nil
}

// members notes the members of the object that s is at. It is on the path of every frame: hence no EachMember.
func (o *object) members(s *jsonscan.Scanner) error {
	empty, err := s.Open('}')
	for more := !empty; more && err == nil; {
		var name, value jsonscan.Value
		if name, value, err = s.Pair(); err != nil {
			return err
		}
		if err = o.note(name, value); err != nil {
			return err
		}
		more, err = s.Next('}')
	}
	return err
}

// note keeps the value of a member that we know.
func (o *object) note(name, value jsonscan.Value) error {
	m := memberByName(name.Text(o.b))
	if m == members {
		return nil
	}
	if o.toks[m].Kind != 0 {
		return invalid("the message has %s twice", m)
	}
	o.toks[m] = value
	return nil
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
	case "streamSequenceId":
		return mStreamSequence
	case "idleTimeoutMs":
		return mIdleTimeout
	case "state":
		return mState
	case "items":
		return mItems
	case "userErrorCode":
		return mUserErrorCode
	case "endOfStream":
		return mEndOfStream
	case "expectedSequenceId":
		return mExpected
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

// text returns the bytes of a string member; they are the frame's unless it has escapes. ok is false when it is
// absent.
func (o *object) text(m member) (s []byte, ok bool, err error) {
	t := o.toks[m]
	if t.Absent() {
		return nil, false, nil
	}
	if t.Kind != '"' {
		return nil, false, invalid("%s must be a string", m)
	}
	if t.Escapes && jsonscan.HasLoneSurrogate(inside(t.Of(o.b))) {
		return nil, false, invalid("%s has half a surrogate pair, which is not text", m)
	}
	return t.Text(o.b), true, nil
}

func (o *object) id(m member, id *string) error {
	s, _, err := o.text(m)
	if err != nil {
		return err
	}
	return setID(id, m, s)
}

// uint returns an unsigned integer, which a JSON number is only when it has digits and nothing else.
func (o *object) uint(m member, required bool) (n uint64, ok bool, err error) {
	t := o.toks[m]
	if t.Absent() && !required {
		return 0, false, nil
	}
	n, ok = parseUint(o.b[t.Start:t.End])
	if t.Kind != '0' || !ok {
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

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
