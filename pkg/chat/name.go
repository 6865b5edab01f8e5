package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// maxMarks is how many combining marks may follow each other: enough for every living language, too few to write over the
// lines around a name.
const maxMarks = 4

// CheckName returns a display name as it is kept, or an error for the person who chose it: in normal form C, with one space
// for each run of them and none around it. A name can be seen, and what cannot be seen does not tell two names apart: of the
// characters that leave no trace only those stay that emoji and some scripts need (UAX 31, section 2.3). Names hold no
// markup: pages of the original Chatr draw them as HTML.
func CheckName(name string) (string, error) { return checkLine("name", name, MaxNameRunes) }

// CheckTitle does the same for a room's title.
func CheckTitle(title string) (string, error) { return checkLine("title", title, MaxTitleRunes) }

func checkLine(what, s string, limit int) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("the %s is not valid text", what)
	}
	s = strings.TrimSpace(s)
	if strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) }) >= 0 {
		return "", fmt.Errorf("the %s contains control or invisible characters", what)
	}
	s = norm.NFC.String(strings.Join(strings.Fields(s), " "))
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "", fmt.Errorf("the %s is empty; give 1 to %d characters", what, limit)
	case n > limit:
		return "", fmt.Errorf("the %s has %d characters; at most %d are allowed", what, n, limit)
	case strings.ContainsAny(s, "<>"):
		return "", fmt.Errorf("the %s may not contain < or >", what)
	}
	if err := checkVisible([]rune(s)); err != nil {
		return "", fmt.Errorf("the %s %w", what, err)
	}
	return s, nil
}

var (
	errInvisible = errors.New("contains control or invisible characters")
	errNoLetter  = errors.New("shows nothing by itself; it needs a letter, a digit or a sign")
	errMarks     = fmt.Errorf("has more than %d accents on one letter", maxMarks)
)

// checkVisible reports what in a line cannot be seen, or nil.
func checkVisible(line []rune) error {
	marks, visible := 0, false
	for i, r := range line {
		if unicode.In(r, unicode.Mn, unicode.Me) && !unicode.Is(unicode.Variation_Selector, r) {
			if marks++; marks > maxMarks {
				return errMarks
			}
		} else if !leavesNoTrace(r) { // what is not seen does not part marks either
			marks = 0
		}
		switch {
		case leavesNoTrace(r):
			if !joins(line, i) {
				return errInvisible
			}
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsPunct(r) || unicode.IsSymbol(r):
			visible = true
		}
	}
	if !visible {
		return errNoLetter
	}
	return nil
}

// blankPattern is the one symbol that is drawn as nothing: the Braille cell without dots.
const blankPattern = '\u2800'

// leavesNoTrace reports whether a character is one that is not drawn (Default_Ignorable_Code_Point, UAX 44), or drawn
// differently on each machine (private use).
func leavesNoTrace(r rune) bool {
	return r == blankPattern || unicode.In(r, unicode.Cf, unicode.Co, unicode.Other_Default_Ignorable_Code_Point,
		unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

const (
	nonJoiner      = '\u200c'
	joiner         = '\u200d'
	emojiSelector  = '\ufe0f'
	textSelector   = '\ufe0e'
	enclosedKeycap = '\u20e3'
)

// letters knows in which context scripts need a joiner or a non-joiner (RFC 5892, appendices A.1 and A.2).
var letters = precis.NewFreeform()

// joins reports whether the invisible character at i makes what surrounds it look different.
func joins(line []rune, i int) bool {
	if i == 0 || i == len(line)-1 && line[i] != emojiSelector && line[i] != textSelector {
		return false
	}
	before := line[i-1]
	switch line[i] {
	case emojiSelector, textSelector:
		keycap := strings.ContainsRune("#*0123456789", before) && i+1 < len(line) && line[i+1] == enclosedKeycap
		return isEmoji(before) || keycap
	case joiner:
		if (isEmoji(before) || before == emojiSelector || unicode.Is(unicode.Sk, before)) && isEmoji(line[i+1]) {
			return true
		}
	case nonJoiner:
	default:
		return false
	}
	// Marks between the letters and the joiner count with them, so that all around it is looked at.
	start, end := i, i+1
	for start--; start > 0 && unicode.Is(unicode.Mn, line[start]); start-- {
	}
	for end < len(line)-1 && unicode.Is(unicode.Mn, line[end]) {
		end++
	}
	_, err := letters.String(string(line[start : end+1]))
	return err == nil
}

// isEmoji reports whether a character can be an emoji that a selector or a joiner follows.
func isEmoji(r rune) bool {
	return r != blankPattern && unicode.Is(unicode.So, r) || r > unicode.MaxLatin1 && unicode.Is(unicode.Sm, r) || strings.ContainsRune("\u203c\u2049\u3030", r)
}
