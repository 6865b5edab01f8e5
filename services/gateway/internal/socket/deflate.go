package socket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"
)

// permessage-deflate (RFC 7692) as it is done here: each message is compressed by itself, in both directions (no context takeover).
// So the same bytes are right for every receiver, and an idle connection does not hold a window in memory.

// acceptedOffer is the answer to an offer that is accepted.
const acceptedOffer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// negotiate returns the answer to the first of a client's offers of permessage-deflate that we can accept, or nothing. An
// offer that is wrong in any way is declined, as RFC 7692 section 7.1 demands; of a line that breaks the grammar of RFC 6455
// section 9.1 the offers before that point count.
func negotiate(h http.Header) string {
	for _, line := range h.Values("Sec-WebSocket-Extensions") {
		for rest := scanner(line); ; {
			o, ok := rest.offer()
			if !ok {
				break
			}
			if answer := o.answer(); answer != "" {
				return answer
			}
		}
	}
	return ""
}

// offer is one extension that a client offers, as far as that can be permessage-deflate.
type offer struct {
	declined bool
	seen     [4]bool // parameters, in the order of deflateParameters
}

var deflateParameters = [4]string{
	"server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits",
}

// serverBits is the place of server_max_window_bits, whose presence asks for it in the answer.
const serverBits = 2

// parameter takes in a parameter of the offer; given says whether it has a value. Our windows have 15 bits, which
// compress/flate cannot change; a client may use a smaller one without our agreement.
func (o *offer) parameter(name, value string, given bool) {
	for i, known := range deflateParameters {
		if name != known {
			continue
		}
		allowed := !given
		switch i {
		case serverBits:
			allowed = value == "15"
		case serverBits + 1:
			allowed = !given || isWindowBits(value)
		}
		o.declined = o.declined || !allowed || o.seen[i]
		o.seen[i] = true
		return
	}
	o.declined = true
}

func isWindowBits(s string) bool {
	switch s {
	case "8", "9", "10", "11", "12", "13", "14", "15":
		return true
	}
	return false
}

// answer returns what to answer to the offer; empty when it is declined.
func (o *offer) answer() string {
	switch {
	case o.declined:
		return ""
	case o.seen[serverBits]:
		return acceptedOffer + "; server_max_window_bits=15"
	}
	return acceptedOffer
}

// scanner is what is unread of a header line.
type scanner string

// offer reads one extension; it reports false at the end of the line, or where the line is malformed.
func (s *scanner) offer() (o offer, ok bool) {
	for s.separator(',') { // elements of a list may be empty
	}
	name := s.token()
	o.declined = name != "permessage-deflate"
	for s.separator(';') {
		parameter := s.token()
		if parameter == "" {
			return o, false
		}
		value, given := "", s.separator('=')
		if given {
			if value = s.value(); value == "" {
				return o, false
			}
		}
		o.parameter(parameter, value, given)
	}
	return o, name != "" && (*s == "" || s.separator(','))
}

// skipSpace drops white space.
func (s *scanner) skipSpace() { *s = scanner(strings.TrimLeft(string(*s), " \t")) }

// separator reads the separator c and the white space around it, and reports whether it came next.
func (s *scanner) separator(c byte) bool {
	s.skipSpace()
	if *s == "" || (*s)[0] != c {
		return false
	}
	*s = (*s)[1:]
	s.skipSpace()
	return true
}

// token reads a token and the white space after it; it is empty if there is none.
func (s *scanner) token() string {
	n := 0
	for n < len(*s) && isTokenByte((*s)[n]) {
		n++
	}
	token := string((*s)[:n])
	*s = (*s)[n:]
	s.skipSpace()
	return token
}

// value reads a token that may be quoted; it is empty if there is none.
func (s *scanner) value() string {
	if *s == "" || (*s)[0] != '"' {
		return s.token()
	}
	var value []byte
	for i := 1; i < len(*s); i++ {
		c := (*s)[i]
		switch {
		case c == '"':
			*s = (*s)[i+1:]
			s.skipSpace()
			return string(value)
		case c == '\\':
			if i++; i == len(*s) {
				return ""
			}
			c = (*s)[i]
		}
		if !isTokenByte(c) {
			return "" // what is quoted must be a token as well
		}
		value = append(value, c)
	}
	return ""
}

// isTokenByte follows RFC 2616 section 2.2, which RFC 6455 refers to.
func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7F && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, rune(c))
}

// The end of what a compressor flushes is left out of a message and put back for the reader; a last block, of which that is
// the rest, tells our reader that the message is over.
const (
	tail      = "\x00\x00\xff\xff"
	lastBlock = "\x01" + tail
)

// deflater compresses to out. It needs 1.2 MB, so that they are pooled: there are as many as compress at the same time.
type deflater struct {
	w   *flate.Writer
	out []byte
}

func (d *deflater) Write(b []byte) (int, error) {
	d.out = append(d.out, b...)
	return len(b), nil
}

// The fastest level: from one message to the next it need not clear its tables. With other levels that costs more than to compress
// a message of usual size.
var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(d, flate.BestSpeed) // the level exists
	return d
}}

// Compress returns a text or binary frame that AppendFrame has made as a frame for sockets that are Compressed, or nil if
// that would not be shorter.
func Compress(frame []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	payload := Payload(frame)
	if !d.append(BeginFrame(d.out[:0]), payload, len(payload)) {
		return nil
	}
	return bytes.Clone(endCompressed(d.out, 0, Opcode(frame[0]&^finBit))) // of just its size, as it may be kept for long
}

// append compresses b to what then is out, behind dst, without the tail. It reports whether that has added fewer than most bytes.
func (d *deflater) append(dst, b []byte, most int) bool {
	d.out = dst
	d.w.Reset(d)
	_, err := d.w.Write(b)
	if err == nil {
		err = d.w.Flush()
	}
	d.out = d.out[:len(d.out)-len(tail)]
	return err == nil && len(d.out)-len(dst) < most // an error is impossible, as Write has none
}

// endCompressed is EndFrame for a frame that is compressed.
func endCompressed(b []byte, start int, op Opcode) []byte {
	b = EndFrame(b, start, op)
	b[start] |= rsv1Bit
	return b
}

// A message whose beginning differs for each receiver, and whose rest is the same for all, is sent as two blocks of DEFLATE: a stored
// one, which costs no work, and a compressed one, which is made once.

// Deflate returns b compressed, for EndSharedTail, or nil if that would not be shorter.
func Deflate(b []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	if !d.append(d.out[:0], b, len(b)-storedHeader) {
		return nil
	}
	return bytes.Clone(d.out)
}

// storedHeader is the size of what a block that is not compressed begins with.
const storedHeader = 5

// BeginSharedTail appends room for a header, as BeginFrame does. The message's beginning, of at most 65,535 bytes, is
// to be appended next, then EndSharedTail called with start, which is len(dst) before.
func BeginSharedTail(dst []byte) []byte { return append(BeginFrame(dst), 0, 0, 0, 0, 0) }

// EndSharedTail appends rest, which Deflate has made, to what was appended to b since BeginSharedTail, at start, and makes it a
// frame for sockets that are Compressed.
func EndSharedTail(b []byte, start int, rest []byte, op Opcode) []byte {
	block := b[start+usualHeader:]
	n := uint16(len(block) - storedHeader)
	binary.LittleEndian.PutUint16(block[1:], n)
	binary.LittleEndian.PutUint16(block[3:], ^n)
	return endCompressed(append(b, rest...), start, op)
}

// inflater decompresses one message at a time. It needs 44 KB, so that they are pooled.
type inflater struct {
	r interface {
		io.Reader
		flate.Resetter
	}
	message []byte
	at      int // read so far, of the message and what comes behind it
}

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(i).(interface {
		io.Reader
		flate.Resetter
	})
	return i
}}

// afterMessage is what the decompressor reads behind a message.
const afterMessage = tail + lastBlock

// ReadByte gives the decompressor no byte more than it needs.
func (i *inflater) ReadByte() (byte, error) {
	at := i.at
	if i.at < len(i.message)+len(afterMessage) {
		i.at++
	}
	switch n := at - len(i.message); {
	case n < 0:
		return i.message[at], nil
	case n < len(afterMessage):
		return afterMessage[n], nil
	}
	return 0, io.EOF
}

// Read reads the bytes of an uncompressed block.
func (i *inflater) Read(b []byte) (n int, err error) {
	if i.at < len(i.message) {
		n = copy(b, i.message[i.at:])
	} else {
		n = copy(b, afterMessage[i.at-len(i.message):])
	}
	i.at += n
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// A block may be marked as the last one while others follow (RFC 7692 section 7.2.1). After each the decompressor starts anew,
// which costs much, and the client only a few bytes: so there is a limit.
const maxLastBlocks = 16

// windowSize is how far back in a message a block may refer.
const windowSize = 32 << 10

var (
	errInflatedTooLarge  = errors.New("the message is too large")
	errTooManyLastBlocks = errors.New("too many last blocks")
)

// inflate appends the message to out. It stops with errTooBig when that would have more than limit bytes.
func (i *inflater) inflate(out, message []byte, limit int) ([]byte, error) {
	i.message, i.at = message, 0
	defer func() { i.message = nil }()
	_ = i.r.Reset(i, nil) // cannot fail
	for lasts := 0; ; {
		if len(out) == cap(out) {
			if len(out) > limit {
				return out, errInflatedTooLarge
			}
			out = grow(out, limit+1)
		}
		n, err := i.r.Read(out[len(out):min(cap(out), limit+1)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			return out, errInflatedTooLarge
		case err == nil:
		case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return out, err
		case i.at >= len(message):
			return out, nil
		default:
			if lasts++; lasts == maxLastBlocks {
				return out, errTooManyLastBlocks
			}
			_ = i.r.Reset(i, out[max(0, len(out)-windowSize):])
		}
	}
}

// grow returns out with more room: up to most bytes, of which it has fewer.
func grow(out []byte, most int) []byte {
	bigger := make([]byte, len(out), min(max(2*cap(out), minInflated), most))
	copy(bigger, out)
	return bigger
}

// Buffers of inflated messages are kept for the next one up to a size.
const (
	minInflated = 2 << 10
	maxInflated = 64 << 10
)

var inflatedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// inflate returns the compressed message at hand. It is valid until the next Read.
func (s *Socket) inflate(op Opcode, payload []byte) (Opcode, []byte, *CloseError) {
	s.inflated = inflatedBuffers.Get().(*[]byte)
	i := inflaters.Get().(*inflater)
	message, err := i.inflate((*s.inflated)[:0], payload, s.limit)
	inflaters.Put(i)
	*s.inflated = message
	var wrong *CloseError
	switch {
	case errors.Is(err, errInflatedTooLarge):
		wrong = errTooLarge
	case err != nil:
		wrong = &CloseError{Code: CodeInvalidText, Reason: "a compressed message cannot be decompressed"}
	case op == Text && !utf8.Valid(message):
		wrong = errText
	default:
		return op, message, nil
	}
	s.releaseInflated()
	return 0, nil, wrong
}

// releaseInflated gives the memory of the last compressed message back to the pool, unless it is too large to be kept.
func (s *Socket) releaseInflated() {
	if cap(*s.inflated) > maxInflated {
		*s.inflated = nil
	}
	inflatedBuffers.Put(s.inflated)
	s.inflated = nil
}

// compressedLimit is how large a compressed message may be that has no more than limit bytes: not much larger, even if it could
// not be compressed.
func compressedLimit(limit int) int { return limit + limit/8 + 64 }
