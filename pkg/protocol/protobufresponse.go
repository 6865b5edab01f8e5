package protocol

import "github.com/chatr-dev/chatr/pkg/webpubsub"

// DecodeResponse reads one DownstreamMessage. Members that it does not know give UnknownResponse.
func (protobufCodec) DecodeResponse(binary bool, frame []byte, r *Response) error {
	*r = Response{}
	if !binary {
		return &DecodeError{Code: CloseUnsupportedData, Text: "a message must be a binary frame with a DownstreamMessage"}
	}
	var member uint64
	var body []byte
	f := fields{rest: frame}
	for f.next() {
		switch f.tag {
		case downAck, downData, downSystem, downPong, downInvoke, downStreamAck, downStreamNack, downStreamClosed, downStateUpdate, downStates:
			member, body = f.tag, f.b
		}
	}
	if f.err != nil {
		return f.err
	}
	switch member {
	case downAck:
		r.Kind = AckResponse
		return r.readAck(body)
	case downData:
		r.Kind = MessageResponse
		return r.readMessage(body)
	case downSystem:
		return r.readSystem(body)
	case downPong:
		r.Kind = PongResponse
		return checkFields(body)
	case downInvoke:
		r.Kind = InvokeResponse
		return r.readAnswer(body)
	case downStateUpdate:
		r.Kind = GroupStateUpdateResponse
		return r.readStates(body)
	case downStates:
		r.Kind = GroupStateSnapshotResponse
		return r.readStates(body)
	case downStreamAck:
		r.Kind = StreamAckResponse
		return r.readStreamAck(body)
	case downStreamNack:
		r.Kind = StreamNackResponse
		return r.readStreamNack(body)
	case downStreamClosed:
		r.Kind = StreamClosedResponse
		return r.readStreamClosed(body)
	}
	return nil
}

func (r *Response) readAck(b []byte) (err error) {
	success := false
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case ackID:
			r.AckID = f.n
		case ackSuccess:
			success = f.n != 0
		case ackError:
			r.Failure, err = readError(f.b)
			f.fail(err)
		}
	}
	r.matchFailureTo(success)
	return f.err
}

// matchFailureTo makes the failure agree with success, which counts.
func (r *Response) matchFailureTo(success bool) {
	switch {
	case success:
		r.Failure = nil
	case r.Failure == nil:
		r.Failure = &Failure{}
	}
}

func (r *Response) readAnswer(b []byte) (err error) {
	success := false
	var id []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case answerID:
			id = f.text()
		case answerSuccess:
			success = f.n != 0
		case answerData:
			r.Data, err = readMessageData(f.b)
			f.fail(err)
		case answerError:
			r.Failure, err = readError(f.b)
			f.fail(err)
		}
	}
	r.matchFailureTo(success)
	return first(f.err, setID(&r.InvocationID, mInvocationID, id))
}

func readError(b []byte) (*Failure, error) {
	failure := &Failure{}
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case errorName:
			failure.Name = string(f.text())
		case errorMessage:
			failure.Message = string(f.text())
		}
	}
	return failure, f.err
}

func (r *Response) readMessage(b []byte) (err error) {
	var from string
	var metadata webpubsub.Metadata
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case messageFrom:
			from = string(f.text())
		case messageGroup:
			r.Group = string(f.text())
		case messageData:
			r.Data, err = readMessageData(f.b)
			f.fail(err)
		case messageNumber:
			r.SequenceID = f.n
		case messageMetadata:
			metadata = f.metadataEntry(metadata)
		case messageStream:
			r.Stream, err = readStreamInfo(f.b)
			f.fail(err)
		}
	}
	switch {
	case f.err != nil:
		return f.err
	case from != "group" && from != "server":
		return invalid(`from must be "group" or "server"`)
	case r.Data.Type == 0:
		return invalid("the message needs data")
	}
	r.Data.Metadata = metadata
	return checkMetadata(metadata)
}

func readStreamInfo(b []byte) (*StreamInfo, error) {
	s := &StreamInfo{}
	var id, failure []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case infoNumber:
			s.Sequence = f.n
		case infoEnd:
			s.End = f.n != 0
		case infoError:
			failure = f.b
		}
	}
	if err := first(f.err, setID(&s.StreamID, mStreamID, id)); err != nil || failure == nil {
		return s, err
	}
	s.Error = &StreamError{}
	f = fields{rest: failure}
	for f.next() {
		switch f.tag {
		case errorName:
			s.Error.Name = string(f.text())
		case errorMessage:
			s.Error.Message = string(f.text())
		case errorUserCode:
			s.Error.UserErrorCode = string(f.text())
		}
	}
	return s, f.err
}

func (r *Response) readStreamAck(b []byte) error {
	var id []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case streamAckExpected:
			r.Expected = f.n
		}
	}
	return first(f.err, setID(&r.StreamID, mStreamID, id))
}

func (r *Response) readStreamNack(b []byte) error {
	var id []byte
	r.Failure = &Failure{}
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case nackName:
			r.Failure.Name = string(f.text())
		case nackMessage:
			r.Failure.Message = string(f.text())
		case nackExpected:
			r.Expected = f.n
		}
	}
	return first(f.err, setID(&r.StreamID, mStreamID, id))
}

func (r *Response) readSystem(b []byte) error {
	var member uint64
	var body []byte
	f := fields{rest: b}
	for f.next() {
		if f.tag == systemConnected || f.tag == systemDisconnected {
			member, body = f.tag, f.b
		}
	}
	if f.err != nil {
		return f.err
	}
	switch member {
	case systemConnected:
		r.Kind = ConnectedResponse
		return r.readConnected(body)
	case systemDisconnected:
		r.Kind = DisconnectedResponse
		return r.readDisconnected(body)
	}
	return nil
}

func (r *Response) readConnected(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case connectedID:
			r.Connected.ConnectionID = string(f.text())
		case connectedUserID:
			r.Connected.UserID = string(f.text())
		case connectedToken:
			r.Connected.ReconnectionToken = string(f.text())
		}
	}
	return f.err
}

func (r *Response) readDisconnected(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		if f.tag == disconnectedReason {
			r.Reason = string(f.text())
		}
	}
	return f.err
}

func (r *Response) readStreamClosed(b []byte) (err error) {
	var id []byte
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case streamID:
			id = f.text()
		case closedError:
			r.Failure, err = readError(f.b)
			f.fail(err)
		}
	}
	return first(f.err, setID(&r.StreamID, mStreamID, id))
}
