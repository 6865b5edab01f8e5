// Package filter evaluates the OData filter that a send, close or other operation may carry
// (protocol/rest-api.md section 8): a boolean expression over one connection.
//
// Types are checked when a filter is parsed, so that a match cannot fail. So is what a match may cost, since a message to a hub is
// matched with each of its connections, and delays those behind it. What does not depend on the connection is computed once. A filter
// without functions that make strings matches without allocating.
package filter

import (
	"strings"
	"unicode/utf8"
)

// Subject is the connection that a filter is about. One Subject may be filled in again for each of many
// connections, so that InGroup is made once.
type Subject struct {
	ConnectionID string
	UserID       string            // empty for an anonymous connection, null in the filter
	InGroup      func(string) bool // says whether the connection is in a group
	Protocol     string            // subprotocol, empty for none
}

// Filter is a parsed filter. It does not change and may be used by many goroutines.
type Filter struct{ root *node }

// Match says whether the filter is true for s.
func (f *Filter) Match(s *Subject) bool { return f.root.eval(s).truth }

// node is an expression: an operation and what it is applied to.
type node struct {
	op      op
	args    []*node
	literal value              // of opLiteral
	set     map[value]struct{} // of opIn: the literals of a long list, in place of all args but the first
	size    int                // bytes that a string of it may have, at most
}

// op is what a node does with its arguments.
type op uint8

const (
	opLiteral op = iota
	opConnectionID
	opUserID
	opProtocol
	opInGroups // args[0] is the name
	opIn       // args[0] is one of the rest
	opAnd
	opOr
	opNot
	opEq
	opNe
	opGt
	opGe
	opLt
	opLe
	opToLower
	opToUpper
	opTrim
	opConcat
	opSubstring
	opStartsWith
	opEndsWith
	opContains
	opLength
	opIndexOf
)

// kind is the type of an expression, and of a value, which may also be null where its expression's kind is not.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInteger
	kindString
)

func (k kind) String() string { return [...]string{"null", "a boolean", "an integer", "a string"}[k] }

// value is what an expression yields for a connection. Only the field of its kind is set, so == compares values.
type value struct {
	kind  kind
	truth bool
	n     int64
	s     string
}

func boolean(b bool) value { return value{kind: kindBoolean, truth: b} }
func integer(n int) value  { return value{kind: kindInteger, n: int64(n)} }
func text(s string) value  { return value{kind: kindString, s: s} }
func (v value) null() bool { return v.kind == kindNull }
func (v value) runes() int { return utf8.RuneCountInString(v.s) }

// eval returns what the expression yields for a connection. Types have been checked by the parser, so that the fields of a value
// can be read without looking at its kind; only null has to be looked for.
func (n *node) eval(s *Subject) value {
	switch n.op {
	case opLiteral:
		return n.literal
	case opConnectionID:
		return text(s.ConnectionID)
	case opUserID:
		if s.UserID == "" {
			return value{}
		}
		return text(s.UserID)
	case opProtocol:
		return text(s.Protocol)
	case opAnd:
		return boolean(n.args[0].eval(s).truth && n.args[1].eval(s).truth)
	case opOr:
		return boolean(n.args[0].eval(s).truth || n.args[1].eval(s).truth)
	case opNot:
		return boolean(!n.args[0].eval(s).truth)
	}

	a := n.args[0].eval(s)
	switch n.op {
	case opInGroups:
		return boolean(!a.null() && s.InGroup(a.s))
	case opIn:
		if n.set != nil {
			_, in := n.set[a]
			return boolean(in)
		}
		for _, arg := range n.args[1:] {
			if a == arg.eval(s) {
				return boolean(true)
			}
		}
		return boolean(false)
	case opToLower, opToUpper, opTrim, opLength:
		return unary(n.op, a)
	case opSubstring:
		return n.substring(a, s)
	}
	return binary(n.op, a, n.args[1].eval(s))
}

// unary applies a function of one string; that of null is null.
func unary(o op, a value) value {
	switch {
	case a.null():
		return value{}
	case o == opToLower:
		return text(strings.ToLower(a.s))
	case o == opToUpper:
		return text(strings.ToUpper(a.s))
	case o == opTrim:
		return text(strings.TrimSpace(a.s))
	}
	return integer(a.runes())
}

// binary applies an operator or function of two arguments. Comparisons with null are false, but for eq and ne, as in
// OData; startswith, endswith and contains are false for null, too.
func binary(o op, a, b value) value {
	null := a.null() || b.null()
	switch o {
	case opEq:
		return boolean(a == b)
	case opNe:
		return boolean(a != b)
	case opGt:
		return boolean(!null && a.n > b.n)
	case opGe:
		return boolean(!null && a.n >= b.n)
	case opLt:
		return boolean(!null && a.n < b.n)
	case opLe:
		return boolean(!null && a.n <= b.n)
	case opStartsWith:
		return boolean(!null && strings.HasPrefix(a.s, b.s))
	case opEndsWith:
		return boolean(!null && strings.HasSuffix(a.s, b.s))
	case opContains:
		return boolean(!null && strings.Contains(a.s, b.s))
	case opIndexOf:
		return indexOf(a, b, null)
	case opConcat:
		if null {
			return value{}
		}
		return text(a.s + b.s)
	}
	panic("filter: operation without a meaning")
}

// indexOf counts characters, and is -1 when there is nothing to find or nowhere to look.
func indexOf(a, b value, null bool) value {
	i := strings.Index(a.s, b.s)
	if null || i < 0 {
		return integer(-1)
	}
	return integer(utf8.RuneCountInString(a.s[:i]))
}

// substring counts characters. What lies outside of the string is left out.
func (n *node) substring(a value, s *Subject) value {
	start, size := n.args[1].eval(s), a.runes()
	length := integer(size)
	if len(n.args) == 3 {
		length = n.args[2].eval(s)
	}
	if a.null() || start.null() || length.null() {
		return value{}
	}
	from := clamp(start.n, size)
	to := from + clamp(length.n, size-from)
	return text(a.s[offset(a.s, from):offset(a.s, to)])
}

// clamp returns n, but at least 0 and at most most.
func clamp(n int64, most int) int { return int(min(max(0, n), int64(most))) }

// offset returns where character i of s starts, in bytes.
func offset(s string, i int) int {
	for at := range s {
		if i == 0 {
			return at
		}
		i--
	}
	return len(s)
}
