package socket

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Opcode is the type of a frame.
type Opcode byte

// The opcodes of RFC 6455 section 5.2.
const (
	continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

func (op Opcode) control() bool { return op&0x8 != 0 }

const (
	finBit     = 0x80
	rsvBits    = 0x70
	rsv1Bit    = 0x40 // the message is compressed
	maskBit    = 0x80
	maxControl = 125
)

// AppendFrame appends one whole server frame. The payload of a control frame must be at most 125 bytes.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	switch n := len(payload); {
	case n <= maxControl:
		dst = append(dst, finBit|byte(op), byte(n))
	case n < 1<<16:
		dst = append(dst, finBit|byte(op), 126, byte(n>>8), byte(n))
	default:
		dst = append(dst, finBit|byte(op), 127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, payload...)
}

// Payload returns the payload of a frame that AppendFrame has made.
func Payload(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}

// usualHeader is the size of the header of a frame of 126 to 65,535 bytes.
const usualHeader = 4

// BeginFrame appends room for a header. The payload is to be appended next, then EndFrame called with start, which is
// len(dst) before the call. So a payload that is made for one receiver is written where it is sent from, and not copied.
func BeginFrame(dst []byte) []byte { return append(dst, 0, 0, 0, 0) }

// EndFrame makes what was appended to b since BeginFrame, at start, a frame.
func EndFrame(b []byte, start int, op Opcode) []byte {
	n := len(b) - start - usualHeader
	switch {
	case n <= maxControl:
		copy(b[start+2:], b[start+usualHeader:])
		b[start], b[start+1] = finBit|byte(op), byte(n)
		return b[:start+2+n]
	case n < 1<<16:
		b[start], b[start+1], b[start+2], b[start+3] = finBit|byte(op), 126, byte(n>>8), byte(n)
		return b
	}
	b = append(b, 0, 0, 0, 0, 0, 0)
	copy(b[start+10:], b[start+usualHeader:])
	b[start], b[start+1] = finBit|byte(op), 127
	binary.BigEndian.PutUint64(b[start+2:], uint64(n))
	return b
}

// AppendClose appends a close frame. A reason that is too long is cut off, and bytes that are not UTF-8 are replaced. CodeNoStatus
// makes a frame without a code; CodeAbnormal appends nothing, as it stands for having no frame.
func AppendClose(dst []byte, code int, reason string) []byte {
	switch code {
	case CodeAbnormal:
		return dst
	case CodeNoStatus:
		return AppendFrame(dst, Close, nil)
	}
	var payload [maxControl]byte
	binary.BigEndian.PutUint16(payload[:], uint16(code))
	n := 2 + copy(payload[2:], cut(strings.ToValidUTF8(reason, "\uFFFD"), maxControl-2))
	return AppendFrame(dst, Close, payload[:n])
}

// cut returns the longest prefix of valid UTF-8 s that has at most n bytes and ends with a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// header is the beginning of a client frame.
type header struct {
	op         Opcode
	fin        bool
	compressed bool   // the payload begins a compressed message
	size       int    // bytes of the header
	n          uint64 // bytes of the payload
	key        uint32 // masking key, as it lies in memory on a little-endian machine
}

// parseHeader reads the header that b begins with. When b is too short it returns how many bytes are needed to
// get further. A header that is wrong in itself gives an error as soon as that can be known.
// reservedBits are the bits of the first byte that must be zero.
func parseHeader(b []byte, reservedBits byte) (h header, need int, err *CloseError) {
	if len(b) < 2 {
		return h, 2, nil
	}
	h.op, h.fin, h.compressed, h.size, h.n = Opcode(b[0]&0xF), b[0]&finBit != 0, b[0]&rsv1Bit != 0, 6, uint64(b[1]&^maskBit)
	if err := h.check(b[0], b[1], reservedBits); err != nil {
		return h, 0, err
	}
	switch h.n {
	case 126:
		h.size = 8
	case 127:
		h.size = 14
	}
	if len(b) < h.size {
		return h, h.size, nil
	}
	switch h.size {
	case 8:
		h.n = uint64(binary.BigEndian.Uint16(b[2:]))
		if h.n <= maxControl {
			return h, 0, protocolError("a length is not in its shortest form")
		}
	case 14:
		h.n = binary.BigEndian.Uint64(b[2:])
		if h.n < 1<<16 {
			return h, 0, protocolError("a length is not in its shortest form")
		}
		if h.n >= 1<<63 {
			return h, 0, protocolError("a length has its highest bit set")
		}
	}
	h.key = binary.LittleEndian.Uint32(b[h.size-4:])
	return h, 0, nil
}

// check finds what the first two bytes of a frame show to be wrong.
func (h *header) check(first, second, reservedBits byte) *CloseError {
	switch {
	case first&reservedBits != 0:
		return protocolError("a reserved bit is set, though no extension was agreed on that uses it")
	case h.op > Binary && h.op < Close || h.op > Pong:
		return protocolError("the opcode is a reserved one")
	case second&maskBit == 0:
		return protocolError("a client's frame must be masked")
	case h.op.control() && !h.fin:
		return protocolError("a control frame must not be fragmented")
	case h.op.control() && h.n > maxControl:
		return protocolError("a control frame has at most 125 bytes")
	case h.compressed && h.op != Text && h.op != Binary:
		return protocolError("only the first frame of a message may be marked as compressed")
	}
	return nil
}

func protocolError(reason string) *CloseError { return &CloseError{Code: CodeProtocol, Reason: reason} }

// unmask takes the mask off b, eight bytes at a time.
func unmask(b []byte, key uint32) {
	if key == 0 {
		return
	}
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i & 3)))
	}
}

// parseClose reads the payload of a close frame (RFC 6455 section 5.5.1).
func parseClose(payload []byte) *CloseError {
	switch len(payload) {
	case 0:
		return &CloseError{Code: CodeNoStatus, Remote: true}
	case 1:
		return protocolError("a close frame has one byte; it needs a code of two, or none")
	}
	code, reason := int(binary.BigEndian.Uint16(payload)), payload[2:]
	if !sendable(code) {
		return protocolError("the close code is one that must not be sent")
	}
	if !utf8.Valid(reason) {
		return &CloseError{Code: CodeInvalidText, Reason: "the reason in a close frame is not UTF-8"}
	}
	return &CloseError{Code: code, Reason: string(reason), Remote: true}
}

// sendable reports whether a close frame may carry code (RFC 6455 section 7.4 and the IANA registry).
func sendable(code int) bool {
	return 1000 <= code && code <= 1003 || 1007 <= code && code <= 1014 || 3000 <= code && code <= 4999
}
