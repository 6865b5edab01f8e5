package socket

import (
	"sync"
	"syscall"
	"time"
)

// TryWrite hands frames to the kernel with one write(2) that does not wait, and returns how many bytes it took:
// less than len(b) when the client is slower than we are, when a Write is under way, and always over TLS, whose
// records cannot be taken half. Then the rest is for Write. An error means that the connection is gone.
func (s *Socket) TryWrite(b []byte) (n int, err error) {
	if s.raw == nil || len(b) == 0 || !s.write.TryLock() {
		return 0, nil
	}
	a := attempts.Get().(*attempt)
	a.b = b
	err = s.raw.Write(a.write)
	if err == nil {
		err = a.err
	}
	n = a.n
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	s.write.Unlock()
	return n, err
}

// Write writes all of b, waiting for a slow client until deadline; the zero time means for ever. The connection is
// of no more use after an error, which is os.ErrDeadlineExceeded when time was up.
func (s *Socket) Write(b []byte, deadline time.Time) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	return s.conn.SetWriteDeadline(time.Time{}) // else TryWrite would fail once it has passed
}

// attempt is the state of one TryWrite. It is pooled, with its bound method, so that a write allocates nothing and
// a socket carries none of it.
type attempt struct {
	b     []byte
	n     int
	err   error
	write func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.write = a.once
	return a
}}

// once writes once; it returns true so that RawConn does not wait for the kernel to have room.
func (a *attempt) once(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), a.b)
		switch err {
		case nil:
			a.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			a.err = err
		}
		return true
	}
}
