package truth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Codes of answers in an export; acceptance is wasAccepted plus the time from the sending to it.
const (
	wasUnanswered = iota
	wasRefused
	wasAccepted
)

// Export returns what this process has sent and what became of it, for Import elsewhere: some 3 bytes for each stream
// and 8 for each message. Nothing may be sent meanwhile.
func (l *Log) Export() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	next := uint32(0)
	for _, s := range l.streams {
		if s.elsewhere {
			continue
		}
		b = binary.AppendUvarint(b, uint64(s.ID-next))
		next = s.ID + 1
		b = s.export(b)
	}
	return b
}

func (s *Stream) export(b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b = binary.AppendUvarint(b, uint64(len(s.sent)))
	before := int64(0)
	for i, at := range s.sent {
		b = binary.AppendVarint(b, at-before)
		before = at
		switch a := s.answer[i]; a {
		case unanswered:
			b = append(b, wasUnanswered)
		case refused:
			b = append(b, wasRefused)
		default:
			b = binary.AppendUvarint(b, wasAccepted+uint64(max(a-at, 0)))
		}
	}
	return b
}

// Import takes another process's Export. Its clock may differ from this one's by slack: what that leaves open is judged
// neither lost nor stray.
func (l *Log) Import(b []byte, slack time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := reader{b: b}
	next := uint64(0)
	for len(r.b) > 0 && r.err == nil {
		id := next + r.number()
		next = id + 1
		if id >= uint64(len(l.streams)) || !l.streams[id].elsewhere {
			return fmt.Errorf("stream %d is not one that another process sends", id)
		}
		l.streams[id].receive(&r, int64(slack))
	}
	return r.err
}

func (s *Stream) receive(r *reader, slack int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := r.number()
	if n > uint64(len(r.b))/2 { // each message has two numbers
		r.err = errCut
		return
	}
	s.sent, s.answer = make([]int64, 0, n), make([]int64, 0, n)
	at := int64(0)
	for range n {
		at += r.signed()
		a := int64(unanswered)
		switch code := r.number(); code {
		case wasUnanswered:
		case wasRefused:
			a = refused
		default:
			a = at + int64(code-wasAccepted)
		}
		s.sent, s.answer = append(s.sent, at), append(s.answer, a)
	}
	s.known, s.slack = r.err == nil, slack
}

var errCut = errors.New("the account of what was sent is cut off")

// reader reads numbers until one is missing.
type reader struct {
	b   []byte
	err error
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	r.skip(n)
	return v
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.b)
	r.skip(n)
	return v
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.b, r.err = nil, errCut
		return
	}
	r.b = r.b[n:]
}
