package token

import (
	"bytes"
	"encoding/json"
	"iter"
)

// member is one claim, as it stands in the token.
type member struct {
	name  string
	value json.RawMessage
}

// members are the claims in their order. There are few, so that looking through them costs less than a map.
type members []member

// readObject returns the members of an object; ok is false when b is none, or has a name that is no text.
func readObject(b []byte) (m members, ok bool) {
	b = bytes.Trim(b, " \t\r\n") // what JSON calls white space; TrimSpace would take more away
	if len(b) == 0 || b[0] != '{' || !json.Valid(b) {
		return nil, false
	}
	return readMembers(b)
}

// readMembers returns the members of an object that is valid JSON.
func readMembers(object []byte) (m members, ok bool) {
	m = make(members, 0, 8)
	var name string
	named := false
	for value := range parts(object) {
		if named {
			m = append(m, member{name, value})
		} else if name, ok = text(value); !ok {
			return nil, false
		}
		named = !named
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

// parts yields what an array or object that is valid JSON consists of: its elements, or names and values in turn.
// encoding/json would read each value twice more, and allocate for each several times.
func parts(b []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for i := 1; i < len(b); {
			switch b[i] {
			case ' ', '\t', '\r', '\n', ',', ':', ']', '}':
				i++
				continue
			}
			start := i
			i = valueEnd(b, i)
			if !yield(b[start:i:i]) {
				return
			}
		}
	}
}

// valueEnd returns where the value that starts at i ends.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // of what holds the value
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringEnd returns where the quote is that ends the string that starts at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}
