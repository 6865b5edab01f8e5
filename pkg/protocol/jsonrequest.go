package protocol

import (
	"encoding/base64"
	"strings"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

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
	case JoinGroup, LeaveGroup, SubscribeGroupState, UnsubscribeGroupState:
		err = first(o.group(r), o.ack(r))
	case SetGroupState:
		err = first(o.group(r), o.ack(r), o.groupState(r))
	case SendToGroup:
		if !o.toks[mStream].Absent() {
			r.Kind = StreamStart
			return first(o.group(r), o.streamStart(r))
		}
		err = first(o.group(r), o.ack(r), o.noEcho(r), o.ttl(r), o.dataAndMetadata(r))
	case SendEvent:
		err = first(o.event(r), o.ack(r), o.dataAndMetadata(r))
	case SequenceAck:
		r.SequenceID, _, err = o.uint(mSequenceID, true)
	case Invoke:
		err = first(o.id(mInvocationID, &r.InvocationID), o.target(), o.event(r))
		if err == nil && o.toks[mData].Kind != 0 {
			err = o.data(r)
		}
	case CancelInvocation:
		err = o.id(mInvocationID, &r.InvocationID)
	case StreamData:
		err = o.streamData(r)
	case StreamEnd:
		err = o.streamEnd(r)
	}
	return err
}

// kinds are matched in any letter case (client-json.md section 3).
var kinds = func() map[string]Kind {
	byName := map[string]Kind{}
	for k := JoinGroup; k <= UnsubscribeGroupState; k++ {
		byName[strings.ToLower(k.String())] = k
	}
	delete(byName, strings.ToLower(StreamStart.String())) // a sendToGroup with a stream
	return byName
}()

func (o *object) kind() (Kind, error) {
	t := o.toks[mType]
	if t.Kind != '"' {
		return 0, invalid("the message needs a type, such as joinGroup, sendToGroup or event")
	}
	var lower [32]byte
	name := t.Text(o.b)
	if string(name) == "sendToGroup" { // by far the most
		return SendToGroup, nil
	}
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

func (o *object) group(r *Request) error {
	s, ok, err := o.text(mGroup)
	switch {
	case err != nil:
		return err
	case !ok:
		return invalid("%s needs a group", r.Kind)
	}
	return r.setGroup(s)
}

func (o *object) event(r *Request) error {
	s, ok, err := o.text(mEvent)
	switch {
	case err != nil:
		return err
	case !ok:
		return invalid("%s needs the name of an event", r.Kind)
	}
	return r.setEvent(s)
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
	if err != nil {
		return err
	}
	return r.setTTL(n)
}

func (o *object) noEcho(r *Request) error {
	t := o.toks[mNoEcho]
	if !t.Absent() && t.Kind != 't' && t.Kind != 'f' {
		return invalid("noEcho must be true or false")
	}
	r.NoEcho = t.Kind == 't'
	return nil
}

// dataAndMetadata takes both over. Metadata alone goes with empty text (client-json.md 3.1).
func (o *object) dataAndMetadata(r *Request) (err error) {
	if o.toks[mData].Kind == 0 && o.toks[mMetadata].Kind == '{' {
		r.SetData(webpubsub.Data{Type: webpubsub.DataText})
	} else if err := o.data(r); err != nil {
		return err
	}
	r.metadata, err = o.metadata()
	return err
}

// data takes the payload over: as the JSON it is, or decoded when that JSON is not fit for others.
func (o *object) data(r *Request) (err error) {
	t := o.toks[mData]
	if t.Absent() {
		return invalid("%s needs data, which must not be null", r.Kind)
	}
	if r.dataType, err = o.dataType(webpubsub.DataJSON); err != nil {
		return err
	}
	r.value, r.literal = o.b[t.Start:t.End], true
	if r.dataType == webpubsub.DataJSON {
		return nil
	}
	if r.Kind == SendEvent && r.dataType == webpubsub.DataText && t.Kind == '0' {
		// The original Chatr's guests have numbers for ids, and their pages send them as text.
		r.SetData(webpubsub.Data{Type: webpubsub.DataText, Bytes: r.value})
		return nil
	}
	if t.Kind != '"' {
		return invalid("data must be a string when dataType is %s", r.dataType)
	}
	if r.dataType == webpubsub.DataText {
		if t.Escapes && jsonscan.HasLoneSurrogate(r.value) {
			r.decodeText()
		}
		return nil
	}
	return r.checkBase64(t.Escapes)
}

func (r *Request) decodeText() {
	r.scratch = jsonscan.AppendUnescaped(r.scratch, inside(r.value))
	r.SetData(webpubsub.Data{Type: r.dataType, Bytes: r.scratch})
}

// checkBase64 accepts only base64 that every SDK can read. Escapes in it are legal JSON: \/ is not even rare.
func (r *Request) checkBase64(escapes bool) error {
	if escapes {
		r.scratch = append(r.scratch, '"')
		r.scratch = append(jsonscan.AppendUnescaped(r.scratch, inside(r.value)), '"')
		r.value = r.scratch
	}
	if !validBase64(inside(r.value)) {
		return invalid("data must be padded base64 when dataType is %s", r.dataType)
	}
	if escapes {
		raw, _ := base64.StdEncoding.AppendDecode(nil, inside(r.value))
		r.SetData(webpubsub.Data{Type: r.dataType, Bytes: raw})
	}
	return nil
}
