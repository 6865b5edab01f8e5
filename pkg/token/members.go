package token

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/jsonscan"
)

// member is one claim, as it stands in the token.
type member struct {
	name  string
	value json.RawMessage
}

// members are the claims in their order. There are few, so that looking through them costs less than a map.
type members []member

// readObject returns the members of an object; ok is false when b is none. It accepts whatever encoding/json does:
// what the owner of a key has signed was never judged more strictly.
func readObject(b []byte) (m members, ok bool) {
	s := jsonscan.NewLenient(b)
	if s.Space(); s.Peek() != '{' {
		return nil, false
	}
	m = make(members, 0, 8)
	err := s.EachMember(func(name, value jsonscan.Value) error {
		m = append(m, member{decoded(name, b), value.Of(b)})
		return nil
	})
	if err != nil || !s.Done() {
		return nil, false
	}
	return m, true
}

// value returns the last value under a name, nil when there is none.
func (m members) value(name string) json.RawMessage {
	for i := len(m) - 1; i >= 0; i-- {
		if m[i].name == name {
			return m[i].value
		}
	}
	return nil
}

// decoded returns what v, a string of b, means. As with encoding/json, each byte that is not UTF-8 becomes U+FFFD.
func decoded(v jsonscan.Value, b []byte) string {
	s := v.Text(b)
	if utf8.Valid(s) {
		return string(s)
	}
	return string([]rune(string(s)))
}

// text decodes a value that is a string.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	s := jsonscan.NewLenient(raw)
	v, err := s.Value()
	if err != nil {
		return "", false
	}
	return decoded(v, raw), true
}

// elements calls do for each element of a value that is an array.
func elements(array json.RawMessage, do func(json.RawMessage)) {
	s := jsonscan.NewLenient(array)
	_ = s.EachElement(func(v jsonscan.Value) { do(v.Of(array)) }) // the array has been read before
}
