package socket

import "unicode/utf8"

// Sizes of the read buffer. Most sockets are idle most of the time, and their memory is mostly this.
const (
	idleBuffer = 512
	busyBuffer = 16 << 10 // for a client that sends faster than we read, or large messages
	idleAfter  = 2        // after how many small reads in a row a busy socket counts as idle: two pongs, say
)

// Read returns the next Text or Binary message, whole, text being valid UTF-8, or a Ping or Pong, also in between
// the fragments of a message. The payload is valid until the next Read. The error is always a *CloseError, and every later call
// returns it too.
func (s *Socket) Read() (op Opcode, payload []byte, err error) {
	if s.err == nil {
		op, payload, s.err = s.read()
	}
	if s.err != nil {
		return 0, nil, s.err
	}
	return op, payload, nil
}

// read is Read without the memory of errors. A control frame does not disturb the message whose fragments it comes between.
func (s *Socket) read() (Opcode, []byte, *CloseError) {
	if s.op == 0 {
		s.msg = 0 // the caller is done with the last message
	}
	if s.inflated != nil {
		s.releaseInflated()
	}
	for {
		h, payload, err := s.nextFrame()
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

// nextFrame returns the next frame, unmasked.
func (s *Socket) nextFrame() (header, []byte, *CloseError) {
	for {
		h, need, err := parseHeader(s.buf[s.unreadStart:s.unreadEnd], s.reservedBits)
		if err != nil {
			return h, nil, err
		}
		if need == 0 {
			if err := s.checkHeader(h); err != nil {
				return h, nil, err
			}
			need = h.size + int(h.n)
		}
		if s.unreadEnd-s.unreadStart < need {
			if err := s.readMore(need); err != nil {
				return h, nil, err
			}
			continue
		}
		payload := s.buf[s.unreadStart+h.size : s.unreadStart+need]
		s.unreadStart += need
		unmask(payload, h.key)
		return h, payload, nil
	}
}

// checkHeader checks a frame's header against the message at hand, before any of its payload is read: a message that is too large is
// refused at once.
func (s *Socket) checkHeader(h header) *CloseError {
	switch {
	case h.op.control():
		return nil
	case h.op == continuation && s.op == 0:
		return protocolError("a continuation has no message to continue")
	case h.op != continuation && s.op != 0:
		return protocolError("a message starts before the last fragment of the one before it")
	}
	limit := s.limit
	if h.compressed || s.op != 0 && s.msgCompressed {
		limit = compressedLimit(limit)
	}
	if h.n > uint64(max(limit-s.msg, 0)) {
		return errTooLarge
	}
	return nil
}

var errTooLarge = &CloseError{Code: CodeTooBig, Reason: "the message is too large"}

// assemble adds a frame to the message at hand and returns the message with its opcode when that was the last.
func (s *Socket) assemble(h header, payload []byte) (Opcode, []byte, *CloseError) {
	if h.fin && s.op == 0 { // most messages: they are used where they lie in the buffer
		if h.compressed {
			return s.inflate(h.op, payload)
		}
		if h.op == Text && !utf8.Valid(payload) {
			return 0, nil, errText
		}
		return h.op, payload, nil
	}
	if s.op == 0 {
		s.op, s.msgCompressed, s.validText = h.op, h.compressed, 0
	}
	s.msg += copy(s.buf[s.msg:], payload)
	if s.op == Text && !s.msgCompressed && !s.checkText(h.fin) {
		return 0, nil, errText
	}
	if !h.fin {
		return 0, nil, nil
	}
	op := s.op
	s.op = 0
	if s.msgCompressed {
		return s.inflate(op, s.buf[:s.msg])
	}
	return op, s.buf[:s.msg], nil
}

var errText = &CloseError{Code: CodeInvalidText, Reason: "a text message is not UTF-8"}

// checkText checks the text gathered since the last call; a character may be unfinished unless it is the end.
func (s *Socket) checkText(end bool) bool {
	b := s.buf[s.validText:s.msg]
	if !end {
		b = b[:len(b)-unfinished(b)]
	}
	s.validText += len(b)
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

// readMore makes room and reads once. need is how many unread bytes the caller wants there to be.
func (s *Socket) readMore(need int) *CloseError {
	s.makeRoom(need)
	n, err := s.conn.Read(s.buf[s.unreadEnd:])
	if n > 0 {
		s.activity.Add(1)
		s.unreadEnd += n
		if n > idleBuffer {
			s.smallReads = 0
		} else if s.smallReads < idleAfter {
			s.smallReads++
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
	size, full := len(s.buf), s.unreadEnd == len(s.buf)
	switch {
	case s.unreadStart == s.unreadEnd && s.msg == 0 && (size > busyBuffer || size > idleBuffer && s.smallReads == idleAfter):
		size = idleBuffer
	case full && size < busyBuffer:
		size = min(4*size, busyBuffer)
	case full && s.msg+need > size:
		size = min(2*size, s.msg+need)
	}
	if size != len(s.buf) {
		buf := make([]byte, size)
		copy(buf, s.buf[:s.msg])
		s.unreadEnd = s.msg + copy(buf[s.msg:], s.buf[s.unreadStart:s.unreadEnd])
		s.buf, s.unreadStart = buf, s.msg
	} else if s.unreadStart > s.msg {
		s.unreadEnd = s.msg + copy(s.buf[s.msg:], s.buf[s.unreadStart:s.unreadEnd])
		s.unreadStart = s.msg
	}
}

// HasBufferedFrame reports whether a whole further frame has been read already, so that Read will not wait. Answers may then be held
// back, to be written together with those to that frame. Only the reader may call it.
func (s *Socket) HasBufferedFrame() bool {
	h, need, err := parseHeader(s.buf[s.unreadStart:s.unreadEnd], s.reservedBits)
	return err == nil && need == 0 && h.n <= uint64(s.unreadEnd-s.unreadStart-h.size)
}

// DiscardInput discards what still arrives until the client has closed, BeginClose's time is over or the socket is closed.
// Only the reader may call it, after a broken message and a close frame: closing while unread bytes wait makes
// the kernel reset the connection, and the client would never see the close frame.
func (s *Socket) DiscardInput() {
	s.msg, s.unreadStart, s.unreadEnd = 0, 0, 0
	for {
		if _, err := s.conn.Read(s.buf); err != nil {
			return
		}
	}
}
