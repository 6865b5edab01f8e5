package socket

import "golang.org/x/sys/unix"

// ClientGone reports whether the client has closed its end, also while what it has sent before waits to be read. Only then can it be
// seen: a client that vanishes without a word has not.
func (s *Socket) ClientGone() (gone bool) {
	if s.raw == nil {
		return false
	}
	_ = s.raw.Control(func(fd uintptr) { // an error means that it is closed, which Read tells
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone
}
