package protocol

import "strconv"

// MaxGroupState is how many bytes the state of a connection in a group may have, as JSON.
const MaxGroupState = 8 << 10

// GroupStateItem is what a connection says of itself in a group (client-json.md section 7).
type GroupStateItem struct {
	ConnectionID string
	UserID       string // empty: anonymous
	State        []byte // a JSON object of strings; nil: it says nothing any more
	UpdatedAt    int64  // Unix milliseconds; of two items of a connection the one with the greater is the newer
}

func (jsonCodec) AppendGroupState(dst []byte, group string, snapshot bool, items []GroupStateItem) []byte {
	if snapshot {
		dst = append(dst, `{"type":"groupStateSnapshot","group":`...)
	} else {
		dst = append(dst, `{"type":"groupStateUpdate","group":`...)
	}
	dst = append(appendString(dst, group), `,"items":[`...)
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"connectionId":`...), item.ConnectionID)
		dst = appendOptional(dst, `,"userId":`, item.UserID)
		if item.State != nil {
			dst = append(append(dst, `,"state":`...), item.State...)
		}
		dst = strconv.AppendInt(append(dst, `,"updatedAt":`...), item.UpdatedAt, 10)
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

var errGroupState = invalid("state must be an object of strings")

// groupState reads what a connection says of itself. It is taken over as it is.
func (o *object) groupState(r *Request) error {
	t := o.toks[mState]
	switch {
	case t.absent():
		return nil
	case t.kind != '{':
		return errGroupState
	}
	s := scanner{b: o.b[t.start+1 : t.end]}
	for !s.eat('}') {
		if _, value, err := s.pair(); err != nil || value.kind != '"' {
			return errGroupState
		}
		s.eat(',') // what is valid JSON has one between two
	}
	r.State = o.b[t.start:t.end]
	if n := len(r.State); n > MaxGroupState {
		r.Refusal = "The state has " + strconv.Itoa(n) + " bytes; at most " + strconv.Itoa(MaxGroupState) + " are allowed."
	}
	return nil
}
