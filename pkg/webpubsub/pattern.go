package webpubsub

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var errPattern = errors.New("invalid group pattern")

// pattern is a compiled role pattern: ? is one character but a full stop, * any number of those, ** any
// characters at all, and a backslash escapes *, ? and itself (auth.md section 4).
type pattern []token

type token struct {
	kind tokenKind
	r    rune
}

type tokenKind uint8

const (
	tokenRune tokenKind = iota
	tokenOne
	tokenMany
	tokenAll
)

func compilePattern(s string) (pattern, error) {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxPatternRunes {
		return nil, errPattern
	}
	var p pattern
	wildcards := 0
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case '\\':
			i++
			if i == len(runes) || runes[i] != '\\' && runes[i] != '*' && runes[i] != '?' {
				return nil, errPattern
			}
			p = append(p, token{tokenRune, runes[i]})
		case '?':
			wildcards++
			p = append(p, token{kind: tokenOne})
		case '*':
			wildcards++
			kind := tokenMany
			for i+1 < len(runes) && runes[i+1] == '*' { // three or more count as **
				kind = tokenAll
				i++
			}
			p = append(p, token{kind: kind})
		default:
			p = append(p, token{tokenRune, r})
		}
	}
	if wildcards > maxWildcards {
		return nil, errPattern
	}
	return p, nil
}

// String returns a text that compiles to p.
func (p pattern) String() string {
	var b strings.Builder
	for _, t := range p {
		switch {
		case t.kind == tokenOne:
			b.WriteByte('?')
		case t.kind == tokenMany:
			b.WriteByte('*')
		case t.kind == tokenAll:
			b.WriteString("**")
		case t.r == '\\' || t.r == '*' || t.r == '?':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(t.r)
		}
	}
	return b.String()
}

// literal returns the group that the pattern means when it has no wildcard.
func (p pattern) literal() (string, bool) {
	runes := make([]rune, 0, len(p))
	for _, t := range p {
		if t.kind != tokenRune {
			return "", false
		}
		runes = append(runes, t.r)
	}
	return string(runes), true
}

// match reports whether the whole of s matches. It steps through s once with the set of positions that the
// pattern can be in, so that no pattern can make it slow.
func (p pattern) match(s string) bool {
	at := make([]bool, len(p)+1)
	next := make([]bool, len(p)+1)
	at[0] = true
	p.skip(at)
	for _, r := range s {
		clear(next)
		for i, t := range p {
			if !at[i] {
				continue
			}
			switch t.kind {
			case tokenRune:
				next[i+1] = next[i+1] || r == t.r
			case tokenOne:
				next[i+1] = next[i+1] || r != '.'
			case tokenMany:
				next[i] = next[i] || r != '.'
			case tokenAll:
				next[i] = true
			}
		}
		p.skip(next)
		at, next = next, at
	}
	return at[len(p)]
}

// skip lets stars match nothing.
func (p pattern) skip(at []bool) {
	for i, t := range p {
		if at[i] && (t.kind == tokenMany || t.kind == tokenAll) {
			at[i+1] = true
		}
	}
}
