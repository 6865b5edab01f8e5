package socket

import "unicode/utf8"

// Sizes of the read buffer. Most sockets are idle most of the time, and their memory is mostly this.
const (
	idleBuffer = 512
	busyBuffer = 16 << 10 // for a client that sends faster than we read, or large messages
	quietReads = 2        // how many small reads make a busy socket an idle one: two pongs, say
)

// Read returns the next Text or Binary message, whole, text being valid UTF-8, or a Ping or Pong, also in between
// the fragments of a message. The payload is valid until the next Read. The error is always a *CloseError, and
// stays.
func (s *Socket) Read() (op Opcode, payload []byte, err error) {
	if s.err == nil {
		op, payload, s.err = s.read()
	}
	if s.err != nil {
		return 0, nil, s.err
	}
	return op, payload, nil
}

func (s *Socket) read() (Opcode, []byte, *CloseError) {
	if s.op == 0 {
		s.msg = 0 // the last message has been used
	}
	if s.plain != nil {
		s.forget()
	}
	for {
		h, payload, err := s.frame()
		if err != nil {
			return 0, nil, err
		}
		switch {
		case h.op == Close:
			return 0, nil, parseClose(payload)
		case h.op.control():
			if !s.Closing() {
				return h.op, payload, nil
			}
		default:
			op, whole, err := s.assemble(h, payload)
			if err != nil {
				return 0, nil, err
			}
			if op != 0 && !s.Closing() {
				return op, whole, nil
			}
			if op != 0 {
				s.msg = 0
			}
		}
	}
}

// frame returns the next frame, unmasked.
func (s *Socket) frame() (header, []byte, *CloseError) {
	for {
		h, need, err := parseHeader(s.buf[s.start:s.end], s.meaningless)
		if err != nil {
			return h, nil, err
		}
		if need == 0 {
			if err := s.admit(h); err != nil {
				return h, nil, err
			}
			need = h.size + int(h.n)
		}
		if s.end-s.start < need {
			if err := s.fill(need); err != nil {
				return h, nil, err
			}
			continue
		}
		payload := s.buf[s.start+h.size : s.start+need]
		s.start += need
		unmask(payload, h.key)
		return h, payload, nil
	}
}

// admit checks a frame's header against the message at hand before any of its payload is waited for.
func (s *Socket) admit(h header) *CloseError {
	switch {
	case h.op.control():
		return nil
	case h.op == continuation && s.op == 0:
		return broken("a continuation has no message to continue")
	case h.op != continuation && s.op != 0:
		return broken("a message starts before the last fragment of the one before it")
	}
	limit := s.limit
	if h.packed || s.op != 0 && s.packed {
		limit = packedLimit(limit)
	}
	if h.n > uint64(max(limit-s.msg, 0)) {
		return tooBig
	}
	return nil
}

var tooBig = &CloseError{Code: CodeTooBig, Reason: "the message is too large"}

// assemble adds a frame to the message at hand and returns the message with its opcode when that was the last.
func (s *Socket) assemble(h header, payload []byte) (Opcode, []byte, *CloseError) {
	if h.fin && s.op == 0 { // by far the most
		if h.packed {
			return s.unpack(h.op, payload)
		}
		if h.op == Text && !utf8.Valid(payload) {
			return 0, nil, errText
		}
		return h.op, payload, nil
	}
	if s.op == 0 {
		s.op, s.packed, s.valid = h.op, h.packed, 0
	}
	s.msg += copy(s.buf[s.msg:], payload)
	if s.op == Text && !s.packed && !s.checkText(h.fin) {
		return 0, nil, errText
	}
	if !h.fin {
		return 0, nil, nil
	}
	op := s.op
	s.op = 0
	if s.packed {
		return s.unpack(op, s.buf[:s.msg])
	}
	return op, s.buf[:s.msg], nil
}

var errText = &CloseError{Code: CodeInvalidText, Reason: "a text message is not UTF-8"}

// checkText checks the text gathered since the last call; a character may be unfinished unless it is the end.
func (s *Socket) checkText(end bool) bool {
	b := s.buf[s.valid:s.msg]
	if !end {
		b = b[:len(b)-unfinished(b)]
	}
	s.valid += len(b)
	return utf8.Valid(b)
}

// unfinished returns how many bytes at the end of b may be the beginning of a character.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// fill reads once, having made room: need bytes from start on are wanted.
func (s *Socket) fill(need int) *CloseError {
	s.makeRoom(need)
	n, err := s.conn.Read(s.buf[s.end:])
	if n > 0 {
		s.activity.Add(1)
		s.end += n
		if n > idleBuffer {
			s.quiet = 0
		} else if s.quiet < quietReads {
			s.quiet++
		}
		return nil
	}
	if err != nil {
		return &CloseError{Code: CodeAbnormal, Remote: true, cause: err}
	}
	return nil
}

// makeRoom leaves space behind the unread bytes. The buffer grows with what has come, not with what a header
// announces, so that announcing much costs the client as much as us.
func (s *Socket) makeRoom(need int) {
	size, full := len(s.buf), s.end == len(s.buf)
	switch {
	case s.start == s.end && s.msg == 0 && (size > busyBuffer || size > idleBuffer && s.quiet == quietReads):
		size = idleBuffer
	case full && size < busyBuffer:
		size = min(4*size, busyBuffer)
	case full && s.msg+need > size:
		size = min(2*size, s.msg+need)
	}
	if size != len(s.buf) {
		buf := make([]byte, size)
		copy(buf, s.buf[:s.msg])
		s.end = s.msg + copy(buf[s.msg:], s.buf[s.start:s.end])
		s.buf, s.start = buf, s.msg
	} else if s.start > s.msg {
		s.end = s.msg + copy(s.buf[s.msg:], s.buf[s.start:s.end])
		s.start = s.msg
	}
}

// HasBufferedFrame reports whether a whole further frame has been read already, so that Read will not wait: a writer may hold
// back until it has been handled. It is the reader's to call.
func (s *Socket) HasBufferedFrame() bool {
	h, need, err := parseHeader(s.buf[s.start:s.end], s.meaningless)
	return err == nil && need == 0 && h.n <= uint64(s.end-s.start-h.size)
}

// DiscardInput discards what still arrives until the client has closed, BeginClose's time is over or the socket is closed.
// It is the reader's to call after a broken message and a close frame: closing while unread bytes wait makes
// the kernel reset the connection, and the client would never see the close frame.
func (s *Socket) DiscardInput() {
	s.msg, s.start, s.end = 0, 0, 0
	for {
		if _, err := s.conn.Read(s.buf); err != nil {
			return
		}
	}
}
