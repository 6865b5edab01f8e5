package socket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// chunks is a connection whose reads return a few bytes each, then EOF.
type chunks struct {
	net.Conn
	b    []byte
	size int
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.size)], c.b)
	c.b = c.b[n:]
	return n, nil
}

const fuzzLimit = 300

// reference reads a client's bytes the plain way: RFC 6455 from top to bottom, with RFC 7692 if it is agreed on.
func reference(sent []byte, agreed bool) (got []message, end CloseError) {
	r := bytes.NewReader(sent)
	wrong := func(code int) ([]message, CloseError) { return got, CloseError{Code: code} }
	var (
		begun   bool
		packed  bool
		kind    Opcode
		payload []byte
	)
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return got, CloseError{Code: CodeAbnormal, Remote: true}
		}
		fin, op, n := head[0] >= 128, Opcode(head[0]%16), uint64(head[1]%128)
		known := op <= 2 || op >= 8 && op <= 10
		rsv := head[0] / 16 % 8
		if agreed && rsv == 4 && (op == Text || op == Binary) {
			rsv = 0
		}
		if rsv != 0 || !known || head[1] < 128 || op >= 8 && (!fin || n > 125) {
			return wrong(CodeProtocol)
		}
		ext := map[uint64]int{126: 2, 127: 8}[n]
		tail := make([]byte, ext+4)
		if _, err := io.ReadFull(r, tail); err != nil {
			return got, CloseError{Code: CodeAbnormal, Remote: true}
		}
		switch ext {
		case 2:
			if n = uint64(binary.BigEndian.Uint16(tail)); n < 126 {
				return wrong(CodeProtocol)
			}
		case 8:
			if n = binary.BigEndian.Uint64(tail); n < 65536 || n>>63 == 1 {
				return wrong(CodeProtocol)
			}
		}
		if op < 8 && (op == 0) != begun {
			return wrong(CodeProtocol)
		}
		if op == Text || op == Binary {
			packed = head[0]&0x40 != 0
		}
		most := uint64(fuzzLimit)
		if packed {
			most += fuzzLimit/8 + 64
		}
		if op < 8 && uint64(len(payload))+n > most {
			return wrong(CodeTooBig)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return got, CloseError{Code: CodeAbnormal, Remote: true}
		}
		for i := range body {
			body[i] ^= tail[ext+i%4]
		}
		switch op {
		case Ping, Pong:
			got = append(got, message{op, string(body)})
			continue
		case Close:
			switch {
			case n == 0:
				return got, CloseError{Code: CodeNoStatus, Remote: true}
			case n == 1:
				return wrong(CodeProtocol)
			}
			code := int(body[0])*256 + int(body[1])
			if code < 1000 || code >= 1004 && code <= 1006 || code >= 1015 && code < 3000 || code >= 5000 {
				return wrong(CodeProtocol)
			}
			if !utf8.Valid(body[2:]) {
				return wrong(CodeInvalidText)
			}
			return got, CloseError{Code: code, Reason: string(body[2:]), Remote: true}
		}
		if !begun {
			kind, payload = op, nil
		}
		payload = append(payload, body...)
		begun = !fin
		if packed {
			if !fin {
				continue
			}
			var code int
			if payload, code = plainInflate(payload); code != 0 {
				return wrong(code)
			}
		}
		if kind == Text && !beginsUTF8(payload, fin) {
			return wrong(CodeInvalidText)
		}
		if fin {
			got = append(got, message{kind, string(payload)})
			payload = nil
		}
	}
}

// plainInflate decompresses a message, or says why not.
func plainInflate(payload []byte) (out []byte, code int) {
	in := bytes.NewReader(append(bytes.Clone(payload), 0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF))
	for range maxLastBlocks {
		r := flate.NewReaderDict(in, out[max(0, len(out)-windowSize):])
		block, err := io.ReadAll(io.LimitReader(r, int64(fuzzLimit+1-len(out))))
		if out = append(out, block...); len(out) > fuzzLimit {
			return nil, CodeTooBig
		}
		if err != nil {
			return nil, CodeInvalidText
		}
		if in.Len() <= 9 {
			return out, 0
		}
	}
	return nil, CodeInvalidText
}

// What an offer looks like, and a parameter of one.
const (
	tokenPattern = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
	valuePattern = `(?:` + tokenPattern + `|"(?:\\?` + "[!#$%&'*+\\-.^_`|~0-9A-Za-z]" + `)+")`
)

var (
	offerPattern     = regexp.MustCompile(`^[ \t]*(` + tokenPattern + `)[ \t]*((?:;[ \t]*` + tokenPattern + `[ \t]*(?:=[ \t]*` + valuePattern + `[ \t]*)?)*)(?:,|$)`)
	parameterPattern = regexp.MustCompile(`^;[ \t]*(` + tokenPattern + `)[ \t]*(?:=[ \t]*(` + valuePattern + `)[ \t]*)?`)
)

// plainNegotiate reads one header line the plain way: by patterns.
func plainNegotiate(line string) string {
	for {
		line = strings.TrimLeft(line, ", \t")
		m := offerPattern.FindStringSubmatch(line)
		if m == nil {
			return ""
		}
		line = line[len(m[0]):]
		good, seen := m[1] == "permessage-deflate", map[string]string{}
		for rest := m[2]; rest != ""; {
			p := parameterPattern.FindStringSubmatch(rest)
			rest = rest[len(p[0]):]
			if _, twice := seen[p[1]]; twice {
				good = false
			}
			seen[p[1]] = strings.NewReplacer(`"`, "", `\`, "").Replace(p[2])
		}
		for name, value := range seen {
			switch n, _ := strconv.Atoi(value); name {
			case "server_no_context_takeover", "client_no_context_takeover":
				good = good && value == ""
			case "server_max_window_bits":
				good = good && value == "15"
			case "client_max_window_bits":
				good = good && (value == "" || n >= 8 && n <= 15 && value == strconv.Itoa(n))
			default:
				good = false
			}
		}
		if _, ours := seen["server_max_window_bits"]; good && ours {
			return acceptedOffer + "; server_max_window_bits=15"
		} else if good {
			return acceptedOffer
		}
	}
}

// beginsUTF8 reports whether b is UTF-8 or, before the end, could become so.
func beginsUTF8(b []byte, end bool) bool {
	for len(b) > 0 {
		if !end && !utf8.FullRune(b) {
			return true
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return false
		}
		b = b[n:]
	}
	return true
}

func FuzzRead(f *testing.F) {
	f.Add(join(whole(Text, "Hello"), part(Text, "\xf0\x9f"), whole(Ping, "p"), whole(continuation, "\x98\x80"), whole(Close, "\x03\xe8bye")), uint16(1), uint16(0))
	f.Add(join(whole(Binary, string(make([]byte, 200))), part(Binary, "x"), part(continuation, string(make([]byte, 200))), whole(continuation, string(make([]byte, 120)))), uint16(7), uint16(3))
	f.Add([]byte{0x81, 0xFE, 0, 125, 1, 2, 3, 4}, uint16(600), uint16(8))
	f.Add([]byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, uint16(3), uint16(2))
	f.Fuzz(func(t *testing.T, sent []byte, size, early uint16) { fuzzRead(t, sent, size, early, false) })
}

// fuzzRead compares what a socket reads, with or without compression, with the reference.
func fuzzRead(t *testing.T, sent []byte, size, early uint16, compressed bool) {
	want, end := reference(sent, compressed)
	cut := int(early) % (len(sent) + 1) // this much came with the handshake
	s := newSocket(&chunks{b: bytes.Clone(sent[cut:]), size: int(size)%700 + 1}, bytes.Clone(sent[:cut]))
	if compressed {
		s.reservedBits &^= rsv1Bit
	}
	s.SetLimit(fuzzLimit)
	for i := 0; ; i++ {
		more := s.HasBufferedFrame()
		op, payload, err := s.Read()
		if err != nil {
			var got *CloseError
			if !errors.As(err, &got) || got.Code != end.Code || got.Remote != end.Remote || got.Remote && got.Reason != end.Reason {
				t.Fatalf("ends with %+v, want %+v", err, end)
			}
			if i < len(want) {
				t.Fatalf("read %d messages, want %d", i, len(want))
			}
			return
		}
		if i == len(want) || op != want[i].op || string(payload) != want[i].payload {
			t.Fatalf("message %d (more: %v): got %d %q, want %+v and then %+v", i, more, op, payload, want, end)
		}
	}
}

// FuzzServerFrames reads our own frames with the reference.
func FuzzServerFrames(f *testing.F) {
	f.Add([]byte("Hello"), uint8(1), 1000, "bye")
	f.Add(make([]byte, 300), uint8(2), 1008, "a\xff")
	f.Fuzz(func(t *testing.T, payload []byte, op uint8, code int, reason string) {
		kind := Text + Opcode(op%2)
		if b := AppendFrame(nil, kind, payload); len(payload) <= fuzzLimit && (kind == Binary || utf8.Valid(payload)) {
			if got, _ := reference(withMask(b, len(b)-len(payload)), false); len(got) != 1 || got[0] != (message{kind, string(payload)}) {
				t.Fatalf("%q reads as %+v", b, got)
			}
		}
		if code = 1000 + code&0x7FF; !sendable(code) {
			return
		}
		b := AppendClose(nil, code, reason)
		if _, end := reference(withMask(b, 2), false); end.Code != code || !end.Remote {
			t.Fatalf("%q reads as %+v", b, end)
		}
	})
}

// withMask makes a server frame with a header of the given size a client's, with a mask of zeros.
func withMask(b []byte, header int) []byte {
	out := append(bytes.Clone(b[:header]), 0, 0, 0, 0)
	out[1] |= maskBit
	return append(out, b[header:]...)
}
