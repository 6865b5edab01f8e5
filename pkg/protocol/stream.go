package protocol

import (
	"bytes"
	"strconv"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// DefaultIdleTimeout is how long a stream may be silent when its start does not say (client-json.md 6.1).
const DefaultIdleTimeout = 5 * time.Minute

// StreamInfo says which fragment of a group stream a message is (client-json.md 6.5).
type StreamInfo struct {
	StreamID string
	Sequence uint64       // 1 for the first fragment, then one more each
	End      bool         // the stream is over; the message has no data
	Error    *StreamError // why it ended before its publisher was done; nil otherwise
}

// StreamError says why a stream ended. A publisher that gives one up does not name it.
type StreamError struct{ Name, Message, UserErrorCode string }

// Error implements error, for clients' use.
func (e *StreamError) Error() string { return e.Name + ": " + e.Message }

// AppendFragment appends the envelope of a stream's fragment, with the data of the request, like AppendMessage.
func (r *Request) AppendFragment(dst []byte, group, fromUserID string, s *StreamInfo) (out []byte, e Envelope) {
	start := len(dst)
	dst = appendMessageHead(dst, group, fromUserID, r.dataType)
	data := len(dst)
	dst = r.appendValue(dst)
	return finishEnvelope(appendStreamInfo(dst, s), start, data, len(dst), r.dataType)
}

// AppendStreamEnd appends the envelope of a stream's end, like AppendMessage. It has empty text for data, as SDKs
// drop messages without (client-json.md 6.5).
func AppendStreamEnd(dst []byte, group, fromUserID string, s *StreamInfo) (out []byte, e Envelope) {
	start := len(dst)
	dst = appendMessageHead(dst, group, fromUserID, webpubsub.DataText)
	data := len(dst)
	dst = append(dst, `""`...)
	return finishEnvelope(appendStreamInfo(dst, s), start, data, len(dst), webpubsub.DataText)
}

func appendStreamInfo(dst []byte, s *StreamInfo) []byte {
	dst = appendString(append(dst, streamHead...), s.StreamID)
	dst = strconv.AppendUint(append(dst, `,"streamSequenceId":`...), s.Sequence, 10)
	if s.End {
		dst = append(dst, `,"endOfStream":true`...)
	}
	if s.Error != nil {
		dst = appendString(append(dst, `,"error":{"name":`...), s.Error.Name)
		dst = appendOptional(dst, `,"message":`, s.Error.Message)
		dst = appendOptional(dst, `,"userErrorCode":`, s.Error.UserErrorCode)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// streamHead is what stands behind the data of a message that is of a stream.
const streamHead = `,"stream":{"streamId":`

// Stream returns what the message says of a stream; nil when it is of none.
func (e Envelope) Stream() *StreamInfo {
	if !bytes.HasPrefix(e.JSON[e.End:], []byte(streamHead)) {
		return nil
	}
	var o object
	if scanObject(append([]byte{'{'}, e.JSON[e.End+1:]...), &o) != nil {
		return nil
	}
	s, err := o.streamInfo()
	if err != nil {
		return nil
	}
	return s
}

// EndsStream reports whether the message is the end of a stream. Simple clients, which cannot tell one from an empty
// message, get none.
func (e Envelope) EndsStream() bool {
	s := e.Stream()
	return s != nil && s.End
}

func (jsonCodec) AppendStreamAck(dst []byte, streamID string, expected uint64) []byte {
	dst = appendString(append(dst, `{"type":"streamAck","streamId":`...), streamID)
	dst = strconv.AppendUint(append(dst, `,"expectedSequenceId":`...), expected, 10)
	return append(dst, '}')
}

func (jsonCodec) AppendStreamNack(dst []byte, streamID string, expected uint64, failure *Failure) []byte {
	dst = appendString(append(dst, `{"type":"streamNack","streamId":`...), streamID)
	dst = strconv.AppendUint(append(dst, `,"expectedSequenceId":`...), expected, 10)
	dst = appendString(append(dst, `,"name":`...), failure.Name)
	dst = appendString(append(dst, `,"message":`...), failure.Message)
	return append(dst, '}')
}

func (jsonCodec) AppendStreamClosed(dst []byte, streamID string, failure *Failure) []byte {
	dst = append(dst, `{"type":"streamClosed","streamId":`...)
	return append(appendFailure(appendString(dst, streamID), failure), '}')
}

// appendStream appends the members of the requests about streams.
func (r *Request) appendStream(dst []byte) []byte {
	if r.Kind == StreamStart {
		dst = appendString(append(dst, `,"stream":{"streamId":`...), r.StreamID)
		if r.IdleTimeout > 0 {
			dst = strconv.AppendInt(append(dst, `,"idleTimeoutMs":`...), r.IdleTimeout.Milliseconds(), 10)
		}
		return append(dst, '}')
	}
	dst = appendString(append(dst, `,"streamId":`...), r.StreamID)
	if r.StreamSequence > 0 {
		dst = strconv.AppendUint(append(dst, `,"streamSequenceId":`...), r.StreamSequence, 10)
	}
	if r.StreamError != nil {
		dst = appendString(append(dst, `,"error":{"message":`...), r.StreamError.Message)
		dst = append(appendOptional(dst, `,"userErrorCode":`, r.StreamError.UserErrorCode), '}')
	}
	return dst
}

// maxIdleTimeout is what the protobuf subprotocols' 32 bits hold, in milliseconds.
const maxIdleTimeout = 1<<32 - 1

// streamStart reads a sendToGroup that starts a stream (client-json.md 6.1). What is wrong with one whose stream has
// an id can be told to its publisher, which knows it by that: it goes to r.Refusal.
func (o *object) streamStart(r *Request) error {
	t := o.toks[mStream]
	var inner object
	if err := scanObject(o.b[t.Start:t.End], &inner); err != nil {
		return invalid("stream must be an object")
	}
	ms, given, err := inner.uint(mIdleTimeout, false)
	if err := first(inner.id(mStreamID, &r.StreamID), err, o.noEcho(r)); err != nil {
		return err
	}
	r.setIdleTimeout(ms, given)
	r.refuseStart(!o.toks[mData].Absent() || !o.toks[mDataType].Absent(), !o.toks[mAckID].Absent())
	return nil
}

// setIdleTimeout takes over how long a stream may be silent.
func (r *Request) setIdleTimeout(ms uint64, given bool) {
	if given && (ms == 0 || ms > maxIdleTimeout) {
		r.Refusal = "idleTimeoutMs must be 1 to 4294967295."
		return
	}
	r.IdleTimeout = time.Duration(ms) * time.Millisecond
}

// refuseStart refuses the start of a stream that has what only other sends have.
func (r *Request) refuseStart(data, ack bool) {
	switch {
	case data:
		r.Refusal = "The start of a stream has no data; send it as streamData."
	case ack:
		r.Refusal = "The start of a stream has no ackId; streamAck answers it."
	}
}

var errPartialFragment = invalid("streamData needs streamSequenceId, dataType and data, or none of them")

// streamData reads a fragment, or a keepalive (client-json.md 6.2).
func (o *object) streamData(r *Request) error {
	if err := o.id(mStreamID, &r.StreamID); err != nil {
		return err
	}
	number, dataType, data := !o.toks[mStreamSequence].Absent(), !o.toks[mDataType].Absent(), !o.toks[mData].Absent()
	switch {
	case !number && !dataType && !data:
		return nil
	case !number || !dataType || !data:
		return errPartialFragment
	}
	var err error
	if r.StreamSequence, _, err = o.uint(mStreamSequence, true); err == nil {
		err = r.checkSequence()
	}
	return first(err, o.data(r))
}

func (r *Request) checkSequence() error {
	if r.StreamSequence == 0 {
		return invalid("streamSequenceId must be at least 1")
	}
	return nil
}

// streamEnd reads the end of a stream (client-json.md 6.3).
func (o *object) streamEnd(r *Request) error {
	err := o.id(mStreamID, &r.StreamID)
	if err != nil || o.toks[mError].Absent() {
		return err
	}
	r.StreamError, err = o.streamError()
	if err == nil {
		r.StreamError.Name = ""
	}
	return err
}

func (o *object) streamError() (*StreamError, error) {
	var inner object
	t := o.toks[mError]
	if err := scanObject(o.b[t.Start:t.End], &inner); err != nil {
		return nil, invalid("error must be an object")
	}
	name, nameErr := inner.str(mName)
	message, messageErr := inner.str(mMessage)
	code, codeErr := inner.str(mUserErrorCode)
	return &StreamError{Name: name, Message: message, UserErrorCode: code}, first(nameErr, messageErr, codeErr)
}

// streamInfo reads the stream member of a message. Like the SDKs it takes one without id or number for none.
func (o *object) streamInfo() (*StreamInfo, error) {
	t := o.toks[mStream]
	if t.Absent() {
		return nil, nil
	}
	var inner object
	if err := scanObject(o.b[t.Start:t.End], &inner); err != nil {
		return nil, invalid("stream must be an object")
	}
	if inner.toks[mStreamID].Absent() || inner.toks[mStreamSequence].Absent() {
		return nil, nil
	}
	s := &StreamInfo{End: inner.toks[mEndOfStream].Kind == 't'}
	var err error
	if s.Sequence, _, err = inner.uint(mStreamSequence, true); err == nil {
		err = inner.id(mStreamID, &s.StreamID)
	}
	if err == nil && !inner.toks[mError].Absent() {
		s.Error, err = inner.streamError()
	}
	return s, err
}
