// Package strictjson reads the JSON that outsiders send: what it takes means the same to everybody who reads it.
//
// Member names are exact, letter case included; a name that stands twice in one object is refused, and so is what is
// not UTF-8, and the character NUL in any text, which Postgres cannot keep. Members that nobody asked for are left out.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error says what is wrong with a JSON text, for the person who wrote it.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// Decode reads data, all of it, into v. Its error is an *Error and does not repeat what data holds beyond the names of
// members.
func Decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return explain(err)
	}
	if hasNUL(data) {
		return &Error{"a text must not contain NUL characters"}
	}
	return nil
}

// Heard is Decode as a browser reads: of a name that stands twice the last counts, and NUL is a character like others.
// It is for what has been heard already, so that what is kept of it is what was heard.
func Heard(data []byte, v any) error {
	if err := json.Unmarshal(data, v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return explain(err)
	}
	return nil
}

func explain(err error) error {
	var wrong *json.SemanticError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return &Error{fmt.Sprintf("the member %.50q is given twice", syntax.JSONPointer.LastToken())}
	case errors.As(err, &wrong) && wrong.JSONPointer != "":
		return &Error{fmt.Sprintf("%.50s must not be a JSON %s", strings.TrimPrefix(string(wrong.JSONPointer), "/"), kind(wrong.JSONKind))}
	case errors.As(err, &wrong):
		return &Error{fmt.Sprintf("a JSON %s is not what is expected here", kind(wrong.JSONKind))}
	}
	return &Error{"this is not valid JSON in UTF-8"}
}

func kind(k jsontext.Kind) string {
	switch k {
	case '{':
		return "object"
	case '[':
		return "array"
	}
	return k.String()
}

// hasNUL reports whether a text in valid JSON has the character NUL, which can only stand there as an escape.
func hasNUL(data []byte) bool {
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			return false
		}
		if data = data[i+1:]; bytes.HasPrefix(data, []byte("u0000")) {
			return true
		}
		data = data[1:] // what is escaped, a backslash too
	}
}
