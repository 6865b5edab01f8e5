package protocol

import (
	"math"
	"strconv"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
)

// MaxGroupState is how many bytes the state of a connection in a group may have, as the JSON that it travels as.
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
	dst = append(appendString(dst, group), `,"items":`...)
	return append(appendItems(dst, items), '}')
}

// appendItems appends them as a JSON array.
func appendItems(dst []byte, items []GroupStateItem) []byte {
	dst = append(dst, '[')
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
	return append(dst, ']')
}

// AppendGroupState leaves the number out that reliable connections may get, as in JSON: after a recovery there is a
// snapshot, and what was missed is in it.
func (protobufCodec) AppendGroupState(dst []byte, group string, snapshot bool, items []GroupStateItem) []byte {
	start := len(dst)
	dst = appendText(dst, groupName, group)
	for _, item := range items {
		from := len(dst)
		dst = appendText(dst, itemConnectionID, item.ConnectionID)
		dst = appendText(dst, itemUserID, item.UserID)
		dst = appendState(dst, itemState, item.State)
		dst = enclose(appendUint(dst, itemUpdatedAt, uint64(item.UpdatedAt)), from, stateItems)
	}
	if snapshot {
		return enclose(dst, start, downStates)
	}
	return enclose(dst, start, downStateUpdate)
}

// appendState appends the JSON object as a GroupState under tag, or nothing when there is none.
func appendState(dst []byte, tag uint64, state []byte) []byte {
	if state == nil {
		return dst
	}
	start := len(dst)
	_ = eachEntry(state, func(key, value string) { // was checked when it was accepted
		from := len(dst)
		dst = enclose(appendText(appendText(dst, entryKey, key), entryValue, value), from, stateEntries)
	})
	return enclose(dst, start, tag)
}

var (
	errGroupState = invalid("state must be an object of strings")
	errLongState  = invalid("The state is too long; as JSON at most %d bytes are allowed.", MaxGroupState)
)

// groupState reads what a connection says of itself. It is taken over as it is.
func (o *object) groupState(r *Request) error {
	t := o.toks[mState]
	switch {
	case t.Absent():
		return nil
	case t.Kind != '{':
		return errGroupState
	}
	if err := eachEntry(o.b[t.Start:t.End], func(_, _ string) {}); err != nil {
		return err
	}
	r.setState(o.b[t.Start:t.End])
	return nil
}

// CheckGroupState reports what keeps b from being the state of a connection in a group, or nil.
func CheckGroupState(b []byte) error {
	if len(b) > MaxGroupState {
		return errLongState
	}
	if err := CheckJSON(b); err != nil || b[0] != '{' {
		return errGroupState
	}
	return eachEntry(b, func(_, _ string) {})
}

// setState takes a state over, or refuses it for its size.
func (r *Request) setState(state []byte) {
	r.State = state
	if len(state) > MaxGroupState {
		r.Refusal = errLongState.Error()
	}
}

// eachEntry calls entry for each entry of an object of strings, which is valid JSON.
func eachEntry(object []byte, entry func(key, value string)) error {
	s := jsonscan.New(object)
	return s.EachMember(func(key, value jsonscan.Value) error {
		if value.Kind != '"' {
			return errGroupState
		}
		entry(string(key.Text(object)), string(value.Text(object)))
		return nil
	})
}

// readState reads a GroupState and makes of it the JSON object that states travel as. Of entries with the same key the
// last counts, as for any reader of the object.
func (r *Request) readState(b []byte) error {
	state, err := appendEntries(r.scratch[:0], b, MaxGroupState)
	r.scratch = state
	r.setState(state)
	return err
}

// appendEntries appends what a GroupState says as a JSON object. It stops where that is longer than most, which is left
// to be found.
func appendEntries(dst, b []byte, most int) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '{')
	f := fields{rest: b}
	for f.next() {
		if f.tag != stateEntries || len(dst)-start > most {
			continue
		}
		if len(dst)-start > 1 {
			dst = append(dst, ',')
		}
		x := f.entry()
		dst = appendString(append(appendString(dst, x.Key), ':'), x.Value)
	}
	return append(dst, '}'), f.err
}

func (r *Response) readStates(b []byte) error {
	var items []GroupStateItem
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case groupName:
			r.Group = string(f.text())
		case stateItems:
			item, err := readItem(f.b)
			f.fail(err)
			items = append(items, item)
		}
	}
	r.Items = appendItems(nil, items)
	return f.err
}

func readItem(b []byte) (item GroupStateItem, err error) {
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case itemConnectionID:
			item.ConnectionID = string(f.text())
		case itemUserID:
			item.UserID = string(f.text())
		case itemState:
			item.State, err = appendEntries(nil, f.b, math.MaxInt)
			f.fail(err)
		case itemUpdatedAt:
			item.UpdatedAt = int64(f.n)
		}
	}
	return item, f.err
}
