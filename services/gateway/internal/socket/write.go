package socket

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TryWrite hands frames to the kernel without waiting for room, and returns how many bytes it took: less than len(b)
// when the client is slower than we are, or when a Write is under way. Then the rest must be given to Write. An error means that
// the connection has been lost. It does not allocate.
func (s *Socket) TryWrite(b []byte) (n int, err error) {
	if s.raw == nil || len(b) == 0 || !s.writing.TryLock() {
		return 0, nil
	}
	defer s.writing.Unlock()
	if s.secure {
		return s.tryWriteTLS(b)
	}
	a := writeAttempts.Get().(*writeAttempt)
	a.b = b
	err = s.raw.Write(a.write)
	if err == nil {
		err = a.err
	}
	n = a.n
	a.b, a.n, a.err = nil, 0, nil
	writeAttempts.Put(a)
	return n, err
}

// Write writes all of b, waiting for a slow client until deadline; the zero time means no deadline. After an error the
// connection cannot be used any more; the error is os.ErrDeadlineExceeded when the deadline has passed.
func (s *Socket) Write(b []byte, deadline time.Time) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.writeUntil(b, deadline)
	return err
}

// writeUntil writes all of b, until deadline, and returns how much it has written. The caller has writing.
func (s *Socket) writeUntil(b []byte, deadline time.Time) (n int, err error) {
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	if n, err = s.conn.Write(b); err != nil {
		return n, err
	}
	return n, s.conn.SetWriteDeadline(time.Time{}) // a deadline that has passed would fail TryWrite, and what TLS itself writes
}

// writeAttempt is the state of one TryWrite. It is pooled, with its bound method, so that a write does not allocate and a socket,
// of which there are many, does not contain it.
type writeAttempt struct {
	b     []byte
	n     int
	err   error
	write func(fd uintptr) bool
}

var writeAttempts = sync.Pool{New: func() any {
	a := new(writeAttempt)
	a.write = a.once
	return a
}}

// once writes once; it returns true so that RawConn does not wait for the kernel to have room.
func (a *writeAttempt) once(fd uintptr) bool {
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

// Over TLS a record must be written whole, which may mean waiting. So we write as little at a time as the kernel
// surely takes once it reports that it has room: that is a third of its buffer, of which the smallest has 16 KiB. Should
// a write wait nevertheless, tlsWriteTimeout bounds that, and the connection is lost.
const (
	tlsChunk        = 4 << 10
	tlsWriteTimeout = time.Second
)

// tryWriteTLS is TryWrite over TLS. The caller has writing.
func (s *Socket) tryWriteTLS(b []byte) (n int, err error) {
	for n < len(b) && s.hasRoom() {
		k, err := s.writeUntil(b[n:min(n+tlsChunk, len(b))], time.Now().Add(tlsWriteTimeout))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// hasRoom reports whether the kernel would take some bytes now, or has an error to report.
func (s *Socket) hasRoom() bool {
	poll := [1]unix.PollFd{{Events: unix.POLLOUT}}
	err := s.raw.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		_, _ = unix.Poll(poll[:], 0) // an error leaves Revents empty
	})
	return err != nil || poll[0].Revents != 0
}
