package protocol

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"
)

// maxDepth is how deep a message may nest, itself included. The .NET SDK's reader gives up beyond, and what one
// client sends must not break the connection of another.
const maxDepth = 64

var (
	errSyntax = errors.New("not valid JSON")
	errUTF8   = errors.New("not valid UTF-8")
	errDepth  = errors.New("nested deeper than 64 levels")
)

// CheckJSON reports what keeps b from being one JSON value that can be sent as json data, or nil.
func CheckJSON(b []byte) error {
	s := scanner{b: b, depth: 1} // it will stand in a message
	s.space()
	if _, err := s.value(); err != nil {
		return err
	}
	s.space()
	if s.i != len(b) {
		return errSyntax
	}
	return nil
}

// scanner reads JSON (RFC 8259) from b, strictly: it accepts nothing that the grammar does not, and only UTF-8.
type scanner struct {
	b     []byte
	i     int // next byte
	depth int // objects and arrays that are open
}

// token is one JSON value: b[start:end], a string with its quotes. The zero token is an absent value.
type token struct {
	kind       byte // its first byte, '0' for every number
	escapes    bool // a string: has backslashes
	start, end int32
}

func (t token) absent() bool { return t.kind == 0 || t.kind == 'n' } // null means absent for optional members

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// eat skips white space and c, and reports whether c was there.
func (s *scanner) eat(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// value reads one value of any kind, starting at its first byte.
func (s *scanner) value() (token, error) {
	if s.i >= len(s.b) {
		return token{}, errSyntax
	}
	t := token{kind: s.b[s.i], start: int32(s.i)}
	var err error
	switch t.kind {
	case '"':
		t.escapes, err = s.str()
	case '{':
		err = s.object(nil)
	case '[':
		err = s.array()
	default:
		t.kind, err = s.scalar()
	}
	t.end = int32(s.i)
	return t, err
}

// scalar reads a number, true, false or null, and returns its kind.
func (s *scanner) scalar() (byte, error) {
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

func (s *scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return errSyntax
	}
	s.i += len(w)
	return nil
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return errSyntax
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

// peek returns the next byte, or 0 at the end, which no JSON text contains.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) digits() bool {
	from := s.i
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > from
}

// object reads an object, starting at its brace. Unless o is nil it notes the members in it.
func (s *scanner) object(o *object) error {
	if s.depth++; s.depth > maxDepth {
		return errDepth
	}
	s.i++
	if s.eat('}') {
		s.depth--
		return nil
	}
	for {
		if err := s.member(o); err != nil {
			return err
		}
		if s.eat('}') {
			s.depth--
			return nil
		}
		if !s.eat(',') {
			return errSyntax
		}
	}
}

// member reads a name and a value. Unless o is nil it notes them in it.
func (s *scanner) member(o *object) error {
	name, value, err := s.pair()
	if err != nil || o == nil {
		return err
	}
	return o.note(name, value)
}

// pair reads a name and a value.
func (s *scanner) pair() (name, value token, err error) {
	s.space()
	if s.peek() != '"' {
		return name, value, errSyntax
	}
	name = token{kind: '"', start: int32(s.i)}
	if name.escapes, err = s.str(); err != nil {
		return name, value, err
	}
	name.end = int32(s.i)
	if !s.eat(':') {
		return name, value, errSyntax
	}
	s.space()
	value, err = s.value()
	return name, value, err
}

// array reads an array, starting at its bracket.
func (s *scanner) array() error {
	if s.depth++; s.depth > maxDepth {
		return errDepth
	}
	s.i++
	if s.eat(']') {
		s.depth--
		return nil
	}
	for {
		s.space()
		if _, err := s.value(); err != nil {
			return err
		}
		if s.eat(']') {
			s.depth--
			return nil
		}
		if !s.eat(',') {
			return errSyntax
		}
	}
}

// str reads a string, starting at its opening quote. An escaped surrogate without its other half is let through,
// as browsers' JSON has them.
func (s *scanner) str() (escapes bool, err error) {
	b, i := s.b, s.i+1
	for {
		i += plain(b[i:])
		if i >= len(b) {
			return false, errSyntax
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return escapes, nil
		case c == '\\':
			escapes = true
			n := escapeLen(b[i:])
			if n == 0 {
				return false, errSyntax
			}
			i += n
		case c < ' ':
			return false, errSyntax
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return false, errUTF8
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

// escapeLen returns the length of the escape sequence that b starts with, or 0 when it is not one.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
