package protocol

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0 // s[from:i] is yet to be appended, as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := decodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

func decodeRune[T string | []byte](s T) (rune, int) {
	var head [utf8.UTFMax]byte
	return utf8.DecodeRune(head[:copy(head[:], s)])
}

func hasEscape(s []byte) bool { return bytes.IndexByte(s, '\\') >= 0 }

// inside returns what stands between the quotes of a JSON string.
func inside(literal []byte) []byte {
	if len(literal) < 2 {
		return nil
	}
	return literal[1 : len(literal)-1]
}

// validBase64 reports whether s is base64 of the standard alphabet, padded.
func validBase64(s []byte) bool {
	if len(s)%4 != 0 {
		return false
	}
	for pad := 0; pad < 2 && len(s) > 0 && s[len(s)-1] == '='; pad++ {
		s = s[:len(s)-1]
	}
	for _, c := range s {
		if !base64Char[c] {
			return false
		}
	}
	return true
}

var base64Char = func() (set [256]bool) {
	for c := range 64 {
		set[base64.StdEncoding.EncodeToString([]byte{byte(c << 2)})[0]] = true
	}
	return set
}()
