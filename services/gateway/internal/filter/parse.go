package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Limits of a filter.
const (
	maxNesting = 100      // parentheses, functions and operators not, one inside the other
	maxTerms   = 1000     // names, literals, functions and operators
	maxText    = 64 << 10 // bytes
	maxWork    = 64 << 10 // bytes that functions may make for one connection
)

// shortList is up to how many elements a list is compared one by one; a longer one becomes a set.
const shortList = 8

// Parse reads a filter. Its error says at which character the filter is wrong and what would be right.
func Parse(text string) (f *Filter, err error) {
	p := &parser{rest: text}
	if len(text) > maxText {
		return nil, syntaxError{1, fmt.Sprintf("it has %d bytes; at most %d are allowed", len(text), maxText)}
	}
	defer func() {
		if e := recover(); e != nil {
			wrong, ok := e.(syntaxError)
			if !ok {
				panic(e)
			}
			f, err = nil, wrong
		}
	}()
	p.next()
	root := p.or()
	if p.tok.kind != tokEnd {
		p.fail(p.tok, "expected the end or one of and, or, eq, ne, gt, ge, lt, le, in, found %s", p.tok)
	}
	if root.kind != kindBoolean {
		p.failAt(1, "the filter must be true or false for a connection, but is %s", root.kind)
	}
	return &Filter{root.node}, nil
}

// syntaxError says what is wrong with a filter. The parser panics with it, and Parse returns it.
type syntaxError struct {
	position int // in characters, from 1
	text     string
}

func (e syntaxError) Error() string {
	return fmt.Sprintf("filter is wrong at character %d: %s", e.position, e.text)
}

// parser reads by recursive descent: a method for each rule of the grammar.
type parser struct {
	rest  string // after tok
	at    int    // characters before rest
	tok   token
	depth int
	terms int
	work  int
}

// token is a word, literal or mark of a filter's text.
type token struct {
	kind tokenKind
	text string // a string's value, else as written
	at   int    // position in characters, from 1
}

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokWord
	tokString
	tokInteger
	tokPunctuation // parenthesis or comma
)

// String describes t for an error. A string's value is left out: it may be long, or somebody's id.
func (t token) String() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "a string"
	}
	return fmt.Sprintf("%.40q", t.text)
}

// is reports whether t is the given word, parenthesis or comma. A string with that value is not.
func (t token) is(s string) bool {
	return t.text == s && (t.kind == tokWord || t.kind == tokPunctuation)
}

// expr is an expression with its type and where it begins.
type expr struct {
	*node
	kind kind
	at   int
}

// failAt ends the parse with an error about a position.
func (p *parser) failAt(position int, format string, args ...any) {
	panic(syntaxError{position, fmt.Sprintf(format, args...)})
}

func (p *parser) fail(t token, format string, args ...any) { p.failAt(t.at, format, args...) }

// enter counts how deep expressions stand in each other; leave it by p.depth--.
func (p *parser) enter(t token) {
	if p.depth++; p.depth > maxNesting {
		p.fail(t, "expressions are nested more than %d deep", maxNesting)
	}
}

// want fails unless e has a kind, which what needs.
func (p *parser) want(kind kind, e expr, what string) {
	if e.kind != kind {
		p.failAt(e.at, "%s needs %s, found %s", what, kind, e.kind)
	}
}

// wantOrNull also takes the literal null.
func (p *parser) wantOrNull(kind kind, e expr, what string) {
	if e.kind != kindNull {
		p.want(kind, e, what)
	}
}

// or and and read the operators that bind least; not, comparisons and values follow in this order.
func (p *parser) or() expr  { return p.chain("or", opOr, p.and) }
func (p *parser) and() expr { return p.chain("and", opAnd, p.not) }

// chain reads operands joined by a word.
func (p *parser) chain(word string, o op, operand func() expr) expr {
	left := operand()
	for p.tok.is(word) {
		p.next()
		right := operand()
		p.want(kindBoolean, left, word)
		p.want(kindBoolean, right, word)
		left = p.apply(o, kindBoolean, left.at, left.node, right.node)
	}
	return left
}

// apply returns the expression of an operation: what it yields, when that is the same for every connection.
func (p *parser) apply(o op, k kind, at int, args ...*node) expr {
	n := &node{op: o, args: args}
	constant := o != opInGroups
	for _, arg := range args {
		constant = constant && arg.op == opLiteral
	}
	if constant {
		v := n.eval(nil)
		return expr{&node{literal: v, size: len(v.s)}, k, at}
	}
	p.work += n.measure()
	if p.work > maxWork {
		p.failAt(at, "the functions up to here may have to make more than %d bytes for each connection", maxWork)
	}
	if o == opIn && len(args)-1 > shortList {
		n.index()
	}
	return expr{n, k, at}
}

// scanCost is how many bytes can be searched in the time in which one byte can be made.
const scanCost = 8

// measure sets the size of what a function yields, and returns how many bytes it may have to make.
func (n *node) measure() (work int) {
	switch n.op {
	case opToLower, opToUpper:
		n.size = 3 * n.args[0].size // a letter may have more bytes in the other case
		return n.size
	case opTrim, opSubstring: // a part of it, not a copy
		n.size = n.args[0].size
		return n.size / scanCost
	case opConcat:
		n.size = n.args[0].size + n.args[1].size
		return n.size
	case opContains, opIndexOf:
		return (n.args[0].size + n.args[1].size) / scanCost
	case opLength:
		return n.args[0].size / scanCost
	}
	return 0
}

// index makes a set of the list's literals, unless there are others in it.
func (n *node) index() {
	set := make(map[value]struct{}, len(n.args)-1)
	for _, arg := range n.args[1:] {
		if arg.op != opLiteral {
			return
		}
		set[arg.literal] = struct{}{}
	}
	n.set, n.args = set, n.args[:1]
}

// not reads a comparison, or not and what it negates.
func (p *parser) not() expr {
	if !p.tok.is("not") {
		return p.compare()
	}
	t := p.tok
	p.enter(t)
	p.next()
	e := p.not()
	p.depth--
	p.want(kindBoolean, e, "not")
	return p.apply(opNot, kindBoolean, t.at, e.node)
}

var comparisons = map[string]op{"eq": opEq, "ne": opNe, "gt": opGt, "ge": opGe, "lt": opLt, "le": opLe}

// compare reads a value and, if one follows, a comparison with another. Values are compared with those of their kind or with null;
// greater and less are for integers (rest-api.md section 8).
func (p *parser) compare() expr {
	left := p.value()
	if p.tok.is("in") {
		p.next()
		return p.in(left)
	}
	o, ok := comparisons[p.tok.text]
	if !ok || p.tok.kind != tokWord {
		return left
	}
	word := p.tok.text
	p.next()
	right := p.value()
	if o == opEq || o == opNe {
		if left.kind != kindNull {
			p.wantOrNull(left.kind, right, word)
		}
	} else {
		p.wantOrNull(kindInteger, left, word)
		p.wantOrNull(kindInteger, right, word)
	}
	return p.apply(o, kindBoolean, left.at, left.node, right.node)
}

// in reads what follows after in: groups, or a list of values.
func (p *parser) in(left expr) expr {
	if p.tok.kind == tokWord && strings.EqualFold(p.tok.text, "groups") {
		p.next()
		p.wantOrNull(kindString, left, "in groups")
		return p.apply(opInGroups, kindBoolean, left.at, left.node)
	}
	if !p.tok.is("(") {
		p.fail(p.tok, "expected groups or a list in parentheses after in, found %s", p.tok)
	}
	args := []*node{left.node}
	for _, e := range p.list() {
		if left.kind != kindNull {
			p.wantOrNull(left.kind, e, "in, after "+left.kind.String()+",")
		}
		args = append(args, e.node)
	}
	return p.apply(opIn, kindBoolean, left.at, args...)
}

// list reads values in parentheses, at least one.
func (p *parser) list() []expr {
	p.enter(p.tok)
	p.next()
	list := []expr{p.value()}
	for p.tok.is(",") {
		p.next()
		list = append(list, p.value())
	}
	p.closeParenthesis()
	return list
}

// closeParenthesis reads the end of what enter has counted.
func (p *parser) closeParenthesis() {
	if !p.tok.is(")") {
		p.fail(p.tok, `expected ")", found %s`, p.tok)
	}
	p.next()
	p.depth--
}

// value reads a literal, a name, a call of a function, or an expression in parentheses.
func (p *parser) value() expr {
	t := p.tok
	switch {
	case t.is("("):
		p.enter(t)
		p.next()
		e := p.or()
		p.closeParenthesis()
		return e
	case t.kind == tokString:
		p.next()
		return literal(text(t.text), t)
	case t.kind == tokInteger:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			p.fail(t, "%s is not an integer of 64 bits", t)
		}
		p.next()
		return literal(value{kind: kindInteger, n: n}, t)
	case t.kind == tokWord:
		return p.word()
	}
	p.fail(t, "expected a value, found %s", t)
	panic("unreachable")
}

// literal returns the expression of a literal.
func literal(v value, t token) expr { return expr{&node{literal: v, size: len(v.s)}, v.kind, t.at} }

// sizes are how many bytes a connection's names have at most; user ids are bounded where connections are made.
var sizes = map[op]int{opConnectionID: 64, opUserID: webpubsub.MaxUserID, opProtocol: 128}

// names are the identifiers, in lower case; they are not case-sensitive, other words are.
var names = map[string]op{"connectionid": opConnectionID, "userid": opUserID, "protocol": opProtocol}

// word reads a name, a constant or a call. Those that are wrong get an error that names what would be right.
func (p *parser) word() expr {
	t := p.tok
	p.next()
	switch t.text {
	case "true", "false":
		return literal(boolean(t.text == "true"), t)
	case "null":
		return literal(value{}, t)
	}
	if p.tok.is("(") {
		return p.call(t)
	}
	if o, ok := names[strings.ToLower(t.text)]; ok {
		return expr{&node{op: o, size: sizes[o]}, kindString, t.at}
	}
	switch {
	case strings.EqualFold(t.text, "groups"):
		p.fail(t, "groups may only stand after in")
	case functions[t.text].op != 0:
		p.fail(t, "function %s needs its arguments in parentheses", t.text)
	}
	p.fail(t, "%s is not a name that filters know; they are connectionId, userId, protocol, and groups after in", t)
	panic("unreachable")
}

// function is what the parser knows of a function.
type function struct {
	op       op
	args     []kind
	optional int // how many of args, at the end, may be missing
	result   kind
}

var functions = map[string]function{
	"tolower":    {opToLower, []kind{kindString}, 0, kindString},
	"toupper":    {opToUpper, []kind{kindString}, 0, kindString},
	"trim":       {opTrim, []kind{kindString}, 0, kindString},
	"concat":     {opConcat, []kind{kindString, kindString}, 0, kindString},
	"substring":  {opSubstring, []kind{kindString, kindInteger, kindInteger}, 1, kindString},
	"startswith": {opStartsWith, []kind{kindString, kindString}, 0, kindBoolean},
	"endswith":   {opEndsWith, []kind{kindString, kindString}, 0, kindBoolean},
	"contains":   {opContains, []kind{kindString, kindString}, 0, kindBoolean},
	"length":     {opLength, []kind{kindString}, 0, kindInteger},
	"indexof":    {opIndexOf, []kind{kindString, kindString}, 0, kindInteger},
}

// call reads the arguments of function t.
func (p *parser) call(t token) expr {
	f, ok := functions[t.text]
	if !ok {
		p.fail(t, "%s is not a function that filters know; they are "+
			"tolower, toupper, trim, concat, substring, startswith, endswith, contains, length, indexof", t)
	}
	list := p.list()
	if n := len(list); n > len(f.args) || n < len(f.args)-f.optional {
		p.fail(t, "function %s has %d arguments here; it takes %s", t.text, n, f.arity())
	}
	args := make([]*node, len(list))
	for i, e := range list {
		p.wantOrNull(f.args[i], e, "function "+t.text)
		args[i] = e.node
	}
	return p.apply(f.op, f.result, t.at, args...)
}

// arity says how many arguments f takes, for an error.
func (f function) arity() string {
	if f.optional > 0 {
		return fmt.Sprintf("%d or %d", len(f.args)-f.optional, len(f.args))
	}
	return strconv.Itoa(len(f.args))
}

// next reads the next token into p.tok.
func (p *parser) next() {
	p.skip(len(p.rest) - len(strings.TrimLeft(p.rest, " \t\r\n")))
	p.tok = token{at: p.at + 1}
	if p.rest == "" {
		return
	}
	n := 1
	switch c := p.rest[0]; {
	case c == '(' || c == ')' || c == ',':
		p.tok.kind = tokPunctuation
	case c == '\'':
		p.string()
		return
	case c == '-' || isDigit(c):
		p.tok.kind = tokInteger
		n += span(p.rest[1:], isWord)
		if digits := strings.TrimPrefix(p.rest[:n], "-"); digits == "" || span(digits, isDigit) < len(digits) {
			p.failAt(p.at+1, "%.40q is not an integer", p.rest[:n])
		}
	case isWord(c):
		p.tok.kind = tokWord
		n = span(p.rest, isWord)
	default:
		r, _ := utf8.DecodeRuneInString(p.rest)
		p.failAt(p.at+1, "unexpected character %s", strconv.QuoteRune(r))
	}
	p.tok.text = p.rest[:n]
	p.skip(n)
	if p.tok.kind != tokPunctuation {
		p.countTerm()
	}
}

// string reads a string in single quotes, in which a doubled quote is one.
func (p *parser) string() {
	start := p.at + 1
	var value strings.Builder
	for rest := p.rest[1:]; ; {
		end := strings.IndexByte(rest, '\'')
		if end < 0 {
			p.failAt(start, "the string that begins here has no closing quote")
		}
		value.WriteString(rest[:end])
		if rest = rest[end+1:]; !strings.HasPrefix(rest, "'") {
			p.skip(len(p.rest) - len(rest))
			break
		}
		value.WriteByte('\'')
		rest = rest[1:]
	}
	p.tok = token{tokString, value.String(), start}
	p.countTerm()
}

// skip moves on by n bytes.
func (p *parser) skip(n int) {
	p.at += utf8.RuneCountInString(p.rest[:n])
	p.rest = p.rest[n:]
}

// countTerm bounds how much there is to evaluate for each connection.
func (p *parser) countTerm() {
	if p.terms++; p.terms > maxTerms {
		p.fail(p.tok, "the filter has more than %d names, literals, functions and operators", maxTerms)
	}
}

// span returns how many bytes at the beginning of s are in a class.
func span(s string, in func(byte) bool) (n int) {
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isWord(c byte) bool {
	return c == '_' || isDigit(c) || c < utf8.RuneSelf && unicode.IsLetter(rune(c))
}
