// Package httproute finds the operation of a request in a table of methods and paths.
//
// It goes by the raw path and decodes each segment once, so that a parameter may hold any text, "a/b" included.
// http.ServeMux cannot be used for that: it cleans paths. The package writes no answer: every API has its own form
// of errors.
package httproute

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ErrNotFound says that no operation has the path.
var ErrNotFound = errors.New("there is no such route")

// MethodError says that operations have the path, but none of them the method.
type MethodError struct {
	Method string
	Allow  []string // the methods that are possible, in the table's order
}

func (e *MethodError) Error() string {
	return fmt.Sprintf("%.20s is not allowed here; use %s", e.Method, strings.Join(e.Allow, ", "))
}

// Param is a parameter of a path, decoded. It need not be valid UTF-8, and may be empty.
type Param struct{ Name, Value string }

// Params are the parameters of a path, in the order of the path.
type Params []Param

// Get returns the value of the parameter with that name, or "" when the path has none.
func (p Params) Get(name string) string {
	for _, param := range p {
		if param.Name == name {
			return param.Value
		}
	}
	return ""
}

// Table is a table of operations. It does not change after New, and is safe for concurrent use.
type Table[Op any] struct {
	routes []route[Op]
}

type route[Op any] struct {
	method   string
	segments []segment
	op       *Op
}

type segment struct {
	text  string // the name, if it is a parameter
	param bool
}

// New returns a table of operations, whose methods and paths describe says. A path has no leading slash; a segment
// of it such as {group} is a parameter, any other stands for itself.
func New[Op any](operations []Op, describe func(*Op) (method, path string)) *Table[Op] {
	t := &Table[Op]{}
	for i := range operations {
		op := &operations[i]
		method, path := describe(op)
		r := route[Op]{method: method, op: op}
		for text := range strings.SplitSeq(path, "/") {
			name, param := strings.CutPrefix(text, "{")
			if param {
				text = strings.TrimSuffix(name, "}")
			}
			r.segments = append(r.segments, segment{text, param})
		}
		t.routes = append(t.routes, r)
	}
	return t
}

// Find returns the operation of a method and an escaped path without leading slash, with the path's parameters. The
// error is ErrNotFound, a *MethodError, with which the parameters are known as well, or an url.EscapeError.
func (t *Table[Op]) Find(method, path string) (*Op, Params, error) {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, nil, err
		}
		segments[i] = decoded
	}
	var other *route[Op] // has the path, but not the method
	var allow []string
	for i := range t.routes {
		r := &t.routes[i]
		if !r.matches(segments) {
			continue
		}
		if r.method == method {
			return r.op, r.params(segments), nil
		}
		if other == nil {
			other = r
		}
		if !slices.Contains(allow, r.method) { // two operations can have the path
			allow = append(allow, r.method)
		}
	}
	if other == nil {
		return nil, nil, ErrNotFound
	}
	return nil, other.params(segments), &MethodError{Method: method, Allow: allow}
}

func (r *route[Op]) matches(segments []string) bool {
	return slices.EqualFunc(r.segments, segments, func(want segment, got string) bool { return want.param || want.text == got })
}

func (r *route[Op]) params(segments []string) Params {
	var p Params
	for i, s := range r.segments {
		if s.param {
			p = append(p, Param{s.text, segments[i]})
		}
	}
	return p
}
