// Package jsonscan reads JSON (RFC 8259) without building anything of it: it says where values lie. It is the one
// reader of what strangers send, in frames and tokens.
//
// It accepts nothing that the grammar does not. Repeated names are for its users to judge. Nothing allocates but
// texts that have escapes.
package jsonscan

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep a text may nest, itself included. The .NET SDK's reader gives up beyond, and what one client
// sends must not break the connection of another.
const MaxDepth = 64

// What is wrong with a text, to stand behind "the text is".
var (
	ErrSyntax = errors.New("not valid JSON")
	ErrUTF8   = errors.New("not valid UTF-8")
	ErrDepth  = errors.New("nested deeper than 64 levels")
)

// Check reports what keeps b from being one JSON value that may stand inside depth objects and arrays, or nil.
func Check(b []byte, depth int) error {
	s := New(b)
	s.depth = depth
	s.Space()
	if _, err := s.Value(); err != nil {
		return err
	}
	if !s.Done() {
		return ErrSyntax
	}
	return nil
}

// Scanner reads JSON from a text. It is of no use after an error.
type Scanner struct {
	b        []byte
	i        int // next byte
	depth    int // objects and arrays that are open
	maxDepth int
	anyBytes bool // in strings
}

// New returns a scanner of b, which has to be UTF-8 and nest at most MaxDepth levels deep.
func New(b []byte) Scanner { return Scanner{b: b, maxDepth: MaxDepth} }

// NewLenient returns a scanner that accepts what encoding/json does: strings that are not UTF-8, and 10,000 levels.
func NewLenient(b []byte) Scanner { return Scanner{b: b, maxDepth: 10_000, anyBytes: true} }

// Pos returns where the next byte is, after an error roughly the one that is wrong.
func (s *Scanner) Pos() int { return s.i }

// Done skips white space and reports whether nothing is left.
func (s *Scanner) Done() bool {
	s.Space()
	return s.i == len(s.b)
}

// Value is one JSON value: it lies from Start to End, a string with its quotes. The zero Value is one that is not there.
type Value struct {
	Kind       byte // its first byte, '0' for every number
	Escapes    bool // a string: has backslashes
	Start, End int32
}

// Absent reports whether v is not there or null, which mean the same for an optional member.
func (v Value) Absent() bool { return v.Kind == 0 || v.Kind == 'n' }

// Of returns v as it stands in b, the text that was scanned.
func (v Value) Of(b []byte) []byte { return b[v.Start:v.End:v.End] }

// Text returns what v, a string of b, means. Unless it has escapes that is a part of b. Half a surrogate pair becomes
// U+FFFD.
func (v Value) Text(b []byte) []byte {
	if v.Escapes {
		return v.unescaped(b)
	}
	return b[v.Start+1 : v.End-1]
}

// unescaped stands apart so that Text is inlined.
//
//go:noinline
func (v Value) unescaped(b []byte) []byte { return AppendUnescaped(nil, b[v.Start+1:v.End-1]) }

// Space skips white space.
func (s *Scanner) Space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// Eat skips white space and c, and reports whether c was there.
func (s *Scanner) Eat(c byte) bool {
	s.Space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// Value reads one value of any kind, starting at its first byte.
func (s *Scanner) Value() (Value, error) {
	if s.i >= len(s.b) {
		return Value{}, ErrSyntax
	}
	v := Value{Kind: s.b[s.i], Start: int32(s.i)}
	var err error
	switch v.Kind {
	case '"':
		v.Escapes, err = s.str()
	case '{':
		err = s.object()
	case '[':
		err = s.array()
	default:
		v.Kind, err = s.scalar()
	}
	v.End = int32(s.i)
	return v, err
}

// scalar reads a number, true, false or null, and returns its kind.
func (s *Scanner) scalar() (byte, error) {
	switch c := s.b[s.i]; c {
	case 't':
		return c, s.word("true")
	case 'f':
		return c, s.word("false")
	case 'n':
		return c, s.word("null")
	}
	return '0', s.number()
}

func (s *Scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return ErrSyntax
	}
	s.i += len(w)
	return nil
}

func (s *Scanner) number() error {
	if s.Peek() == '-' {
		s.i++
	}
	if s.Peek() == '0' {
		s.i++
	} else if !s.digits() {
		return ErrSyntax
	}
	if s.Peek() == '.' {
		s.i++
		if !s.digits() {
			return ErrSyntax
		}
	}
	if c := s.Peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.Peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return ErrSyntax
		}
	}
	return nil
}

// Peek returns the next byte, or 0 at the end, which no JSON text contains.
func (s *Scanner) Peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *Scanner) digits() bool {
	from := s.i
	for c := s.Peek(); '0' <= c && c <= '9'; c = s.Peek() {
		s.i++
	}
	return s.i > from
}

// Open goes into an object or array that ends with end, starting at its first byte, and reports whether it ends at
// once. EachMember and EachElement are simpler; this is for whoever cannot afford a call by a variable per member.
func (s *Scanner) Open(end byte) (empty bool, err error) {
	if s.depth++; s.depth > s.maxDepth {
		return false, ErrDepth
	}
	s.i++
	if s.Eat(end) {
		s.depth--
		return true, nil
	}
	return false, nil
}

// Next goes on behind a member or an element, and reports whether another has to follow.
func (s *Scanner) Next(end byte) (more bool, err error) {
	if s.Eat(',') {
		return true, nil
	}
	if !s.Eat(end) {
		return false, ErrSyntax
	}
	s.depth--
	return false, nil
}

// Pair reads a name and a value.
func (s *Scanner) Pair() (name, value Value, err error) {
	s.Space()
	if s.Peek() != '"' {
		return name, value, ErrSyntax
	}
	name = Value{Kind: '"', Start: int32(s.i)}
	if name.Escapes, err = s.str(); err != nil {
		return name, value, err
	}
	name.End = int32(s.i)
	if !s.Eat(':') {
		return name, value, ErrSyntax
	}
	s.Space()
	value, err = s.Value()
	return name, value, err
}

// EachMember reads an object, starting at its brace, and calls do for each member. It ends with the first error, its
// own or that of do.
func (s *Scanner) EachMember(do func(name, value Value) error) error {
	empty, err := s.Open('}')
	for more := !empty; more && err == nil; {
		var name, value Value
		if name, value, err = s.Pair(); err != nil {
			return err
		}
		if err = do(name, value); err != nil {
			return err
		}
		more, err = s.Next('}')
	}
	return err
}

// EachElement reads an array, starting at its bracket, and calls do for each element.
func (s *Scanner) EachElement(do func(Value)) error {
	empty, err := s.Open(']')
	for more := !empty; more && err == nil; {
		s.Space()
		var value Value
		if value, err = s.Value(); err != nil {
			return err
		}
		do(value)
		more, err = s.Next(']')
	}
	return err
}

// object skips an object, starting at its brace.
func (s *Scanner) object() error {
	empty, err := s.Open('}')
	for more := !empty; more && err == nil; {
		if _, _, err = s.Pair(); err != nil {
			return err
		}
		more, err = s.Next('}')
	}
	return err
}

// array skips an array, starting at its bracket.
func (s *Scanner) array() error {
	empty, err := s.Open(']')
	for more := !empty; more && err == nil; {
		s.Space()
		if _, err = s.Value(); err != nil {
			return err
		}
		more, err = s.Next(']')
	}
	return err
}

// str reads a string, starting at its opening quote. An escaped surrogate without its other half is let through,
// as browsers' JSON has them.
func (s *Scanner) str() (escapes bool, err error) {
	b, i := s.b, s.i+1
	for {
		i += plain(b[i:])
		if i >= len(b) {
			return false, ErrSyntax
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return escapes, nil
		case c == '\\':
			escapes = true
			n := escapeLen(b[i:])
			if n == 0 {
				return false, ErrSyntax
			}
			i += n
		case c < ' ':
			return false, ErrSyntax
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 && !s.anyBytes {
				return false, ErrUTF8
			}
			i += n
		}
	}
}

// plain returns how many leading bytes of b are ASCII that stands for itself in a string.
func plain(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 { // eight at a time; the lowest bit found is exact
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		special := (x | (x-ones*' ')&^x | (quote-ones)&^quote | (slash-ones)&^slash) & tops
		if special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}
