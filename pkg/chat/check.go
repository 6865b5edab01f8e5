package chat

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckName returns a display name with its outer white space removed, or an error for the person who chose it.
// Names hold no markup: pages of the original Chatr draw them as HTML.
func CheckName(name string) (string, error) { return checkLine("name", name, MaxNameRunes) }

// CheckTitle does the same for a room's title.
func CheckTitle(title string) (string, error) { return checkLine("title", title, MaxTitleRunes) }

func checkLine(what, s string, limit int) (string, error) {
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return "", fmt.Errorf("the %s is not valid text", what)
	case n == 0:
		return "", fmt.Errorf("the %s is empty; give 1 to %d characters", what, limit)
	case n > limit:
		return "", fmt.Errorf("the %s has %d characters; at most %d are allowed", what, n, limit)
	case strings.ContainsAny(s, "<>"):
		return "", fmt.Errorf("the %s may not contain < or >", what)
	case strings.IndexFunc(s, invisible) >= 0:
		return "", fmt.Errorf("the %s contains control or invisible characters", what)
	}
	return s, nil
}

// invisible finds control, bidirectional and other format characters, with which one name could pose as
// another. The zero-width joiner stays, emoji need it.
func invisible(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) ||
		unicode.Is(unicode.Cf, r) && r != '\u200d'
}
