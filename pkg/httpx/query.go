package httpx

import (
	"net/url"
	"strings"
)

// ParseQuery reads a query string as browsers and most servers do (WHATWG URL, application/x-www-form-urlencoded parsing):
// members end at & only, + is a space, and what is not an escape stays as it is. Unlike the url package it refuses nothing: no
// member vanishes, and none that means nothing here makes a request fail, because of a bare semicolon or percent sign. What
// escapes stand for need not be UTF-8; who stores or shows it checks.
func ParseQuery(raw string) url.Values {
	values := url.Values{}
	for member := range strings.SplitSeq(raw, "&") {
		if member == "" {
			continue
		}
		name, value, _ := strings.Cut(member, "=")
		name = unescape(name)
		values[name] = append(values[name], unescape(value))
	}
	return values
}

func unescape(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	if strings.Contains(s, "%") {
		var b strings.Builder
		b.Grow(len(s))
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
				b.WriteByte(hexDigit(s[i+1])<<4 | hexDigit(s[i+2]))
				i += 2
				continue
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	return s
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func hexDigit(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
