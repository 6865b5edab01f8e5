package protocol

import (
	"bytes"
	"encoding/base64"
	"unicode/utf16"
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

// appendUnescaped appends what the inside s of a JSON string means. Half a surrogate pair becomes U+FFFD, as
// browsers make of it in text that they send. From a broken escape on, s stands for itself.
func appendUnescaped(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || escapeLen(s[i:]) == 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		r, n := unescape(s[i:])
		dst = utf8.AppendRune(dst, r)
		s = s[i+n:]
	}
}

// unescape reads the valid escape sequence, or the pair of them, that s starts with. Half a pair gives U+FFFD.
func unescape(s []byte) (r rune, n int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, _ = hex4(s[2:])
	default:
		return rune(s[1]), 2
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		if low, ok := hex4(s[8:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
	}
	return utf8.RuneError, 6
}

// hasLoneSurrogate reports whether the valid inside s of a JSON string has half a surrogate pair.
func hasLoneSurrogate(s []byte) bool {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return false
		}
		r, n := unescape(s[i:])
		if r == utf8.RuneError && !bytes.EqualFold(s[i:i+n], []byte(`\ufffd`)) {
			return true
		}
		s = s[i+n:]
	}
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
