package cloudevents

import "strings"

// A header value carries ASCII, and its outer spaces do not survive. Other characters of a user id are
// percent-encoded as CloudEvents prescribes; so is a percent sign that would be read as such an encoding, as
// two users must never look the same. Everything else stands as it is, since SDKs do not decode
// (event-handler.md section 4).

const hexDigits = "0123456789ABCDEF"

// Escape returns a text as a header carries it.
func Escape(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = !mustEscape(s, i)
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; mustEscape(s, i) {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEscape(s string, i int) bool {
	switch c := s[i]; {
	case c == ' ':
		return i == 0 || i == len(s)-1
	case c == '%':
		return isEncoded(s[i:])
	default:
		return c < ' ' || c > '~'
	}
}

func isEncoded(s string) bool {
	return len(s) >= 3 && s[0] == '%' && unhex(s[1]) >= 0 && unhex(s[2]) >= 0
}

func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if isEncoded(s[i:]) {
			b.WriteByte(byte(unhex(s[i+1])<<4 | unhex(s[i+2])))
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
