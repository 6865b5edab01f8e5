package httpx

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ListenTLS is Listen for TLS by config, made for thousands of clients that connect at the same moment: the costly part
// of a handshake, from a client's first message to our answer, is done for at most half as many clients at a time as there
// are processors, in order of arrival. If all handshakes went on at once, all would end late or time out, and a
// goroutine with a message to deliver would wait for a processor behind thousands of them. A client that is slow or
// sends nothing delays no other.
func ListenTLS(address string, config *tls.Config) (net.Listener, error) {
	l, err := Listen(address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, hello.Conn.(*handshakeConn).acquire(hello)
	}
	return tls.NewListener(&handshakeLimiter{l, make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))}, config), nil
}

// handshakeLimiter is a listener whose connections share a limited number of slots for handshakes.
type handshakeLimiter struct {
	net.Listener
	slots chan struct{} // has one element for each slot in use
}

func (l *handshakeLimiter) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &handshakeConn{TCPConn: c.(*net.TCPConn), slots: l.slots}, nil
}

// handshakeConn is the TCP connection below a TLS connection. It holds a slot from the client's first message until our
// first answer, or until it is closed. When that answer asks the client for another key exchange, which is rare, the
// rest of its handshake is done without a slot.
type handshakeConn struct {
	*net.TCPConn
	slots   chan struct{}
	holding atomic.Bool // whether it holds a slot
}

// handshakeTime is how long a client may take once it has a slot. The time it has waited for one is not counted:
// net/http's own time-out, which counts from the start, would close those that have waited longest.
const handshakeTime = 10 * time.Second

// slotTime is how long a client may wait for a slot. Most clients have given up by then.
const slotTime = 10 * time.Second

var errTooManyHandshakes = errors.New("too many TLS handshakes are under way")

// acquire waits for a slot. A client that has given up meanwhile is noticed before anything is computed for it: otherwise,
// when more clients come than can be served in time, all work would go to clients that have left.
func (c *handshakeConn) acquire(hello *tls.ClientHelloInfo) error {
	tooLong := time.NewTimer(slotTime)
	defer tooLong.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-tooLong.C:
		return errTooManyHandshakes
	case <-hello.Context().Done():
		return hello.Context().Err()
	}
	c.holding.Store(true)
	if c.closedByClient() {
		c.release()
		return net.ErrClosed
	}
	return c.SetDeadline(time.Now().Add(handshakeTime)) // which net/http takes back after the handshake
}

// closedByClient reports whether the client has closed the connection.
func (c *handshakeConn) closedByClient() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var read int
	var next [1]byte
	var failed error
	err = raw.Control(func(fd uintptr) {
		read, _, failed = unix.Recvfrom(int(fd), next[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err != nil || failed == nil && read == 0 || failed != nil && !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
}

// release gives the slot back, if there is one.
func (c *handshakeConn) release() {
	if c.holding.CompareAndSwap(true, false) {
		<-c.slots
	}
}

// Write implements net.Conn.
func (c *handshakeConn) Write(b []byte) (int, error) {
	c.release()
	return c.TCPConn.Write(b)
}

// Close implements net.Conn.
func (c *handshakeConn) Close() error {
	c.release()
	return c.TCPConn.Close()
}
