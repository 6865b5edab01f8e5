package protocol

// DecodeResponse reads one server message. Like the SDKs it takes numbers and strings as they should be and
// ignores types that it does not know.
func (jsonCodec) DecodeResponse(_ bool, frame []byte, r *Response) error {
	*r = Response{}
	var o object
	if err := scanObject(frame, &o); err != nil {
		return err
	}
	kind, err := o.str(mType)
	if err != nil {
		return err
	}
	switch kind {
	case "ack":
		r.Kind = AckResponse
		r.AckID, _, err = o.uint(mAckID, true)
		return first(err, o.failure(r))
	case "message":
		r.Kind = MessageResponse
		return o.message(r)
	case "system":
		return o.system(r)
	case "pong":
		r.Kind = PongResponse
	case "invokeResponse":
		r.Kind = InvokeResponse
		err = first(o.id(mInvocationID, &r.InvocationID), o.failure(r))
		if err == nil && !o.toks[mData].Absent() {
			err = o.responseData(r)
		}
		return err
	case "groupStateSnapshot":
		r.Kind = GroupStateSnapshotResponse
		return o.groupStates(r)
	case "groupStateUpdate":
		r.Kind = GroupStateUpdateResponse
		return o.groupStates(r)
	case "streamAck":
		r.Kind = StreamAckResponse
		r.Expected, _, err = o.uint(mExpected, true)
		return first(err, o.id(mStreamID, &r.StreamID))
	case "streamNack":
		r.Kind = StreamNackResponse
		return o.streamNack(r)
	case "streamClosed":
		r.Kind = StreamClosedResponse
		err = o.id(mStreamID, &r.StreamID)
		if err == nil && !o.toks[mError].Absent() {
			r.Failure, err = o.errorObject()
		}
		return err
	}
	return nil
}

// str returns a string member, empty when absent.
func (o *object) str(m member) (string, error) {
	s, _, err := o.text(m)
	return string(s), err
}

func (o *object) message(r *Response) (err error) {
	var from string
	if from, err = o.str(mFrom); err != nil {
		return err
	}
	if from != "group" && from != "server" {
		return invalid(`from must be "group" or "server"`)
	}
	var groupErr, userErr, seqErr, streamErr error
	r.Group, groupErr = o.str(mGroup)
	r.FromUserID, userErr = o.str(mFromUserID)
	r.SequenceID, _, seqErr = o.uint(mSequenceID, false)
	r.Stream, streamErr = o.streamInfo()
	if err := first(groupErr, userErr, seqErr, streamErr, o.responseData(r)); err != nil {
		return err
	}
	r.Data.Metadata, err = o.metadata()
	return err
}

func (o *object) groupStates(r *Response) (err error) {
	t := o.toks[mItems]
	if t.Kind != '[' {
		return invalid("items must be an array")
	}
	r.Items = o.b[t.Start:t.End]
	r.Group, err = o.str(mGroup)
	return err
}

func (o *object) streamNack(r *Response) error {
	name, nameErr := o.str(mName)
	message, messageErr := o.str(mMessage)
	r.Failure = &Failure{Name: name, Message: message}
	var err error
	r.Expected, _, err = o.uint(mExpected, true)
	return first(err, nameErr, messageErr, o.id(mStreamID, &r.StreamID))
}

// responseData decodes data. dataType is never absent (client-json.md 3.1).
func (o *object) responseData(r *Response) error {
	if o.toks[mDataType].Absent() {
		return invalid("dataType is missing")
	}
	var req Request
	if err := o.data(&req); err != nil {
		return err
	}
	r.Data = req.Data()
	return nil
}

func (o *object) system(r *Response) error {
	event, err := o.str(mEvent)
	if err != nil {
		return err
	}
	switch event {
	case "connected":
		r.Kind = ConnectedResponse
		var userErr, idErr, tokenErr error
		r.Connected.UserID, userErr = o.str(mUserID)
		r.Connected.ConnectionID, idErr = o.str(mConnectionID)
		r.Connected.ReconnectionToken, tokenErr = o.str(mReconnectionToken)
		return first(userErr, idErr, tokenErr)
	case "disconnected":
		r.Kind = DisconnectedResponse
		r.Reason, err = o.str(mMessage)
	}
	return err
}

// failure reads success and error.
func (o *object) failure(r *Response) (err error) {
	switch o.toks[mSuccess].Kind {
	case 't':
		return nil
	case 'f':
		r.Failure, err = o.errorObject()
		return err
	}
	return invalid("success must be true or false")
}

func (o *object) errorObject() (*Failure, error) {
	t := o.toks[mError]
	if t.Absent() {
		return &Failure{}, nil
	}
	var inner object
	if err := scanObject(o.b[t.Start:t.End], &inner); err != nil {
		return nil, invalid("error must be an object")
	}
	name, nameErr := inner.str(mName)
	message, messageErr := inner.str(mMessage)
	return &Failure{Name: name, Message: message}, first(nameErr, messageErr)
}
