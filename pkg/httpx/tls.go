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

// ListenTLS is Listen for TLS by config, made for crowds: the costly part of a handshake, from a client's first message
// to our answer, is done by as many goroutines at a time as half of the processors, in order of arrival. Handshakes that
// all went on at once would all end late, if they did not time out, and whoever has a message to deliver would queue for
// a processor behind thousands of them. A client that is slow, or says nothing, holds nobody up.
func ListenTLS(address string, config *tls.Config) (net.Listener, error) {
	l, err := Listen(address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, hello.Conn.(*newcomer).begin(hello)
	}
	return tls.NewListener(&orderly{l, make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))}, config), nil
}

// orderly lets few handshakes at a time be worked on.
type orderly struct {
	net.Listener
	turns chan struct{} // holds one for each
}

func (o *orderly) Accept() (net.Conn, error) {
	c, err := o.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &newcomer{TCPConn: c.(*net.TCPConn), turns: o.turns}, nil
}

// newcomer is a connection below TLS. Its turn ends when it is answered, be it that a client which guessed the key
// exchange wrong is asked for another (the rest of that rare handshake is done out of turn), or is closed.
type newcomer struct {
	*net.TCPConn
	turns chan struct{}
	turn  atomic.Bool // it is this one's
}

// handshakeTime is how long a client may take from its turn on. That it has had to wait is not its fault; net/http's own
// time-out, from the beginning, would throw away those who have waited longest.
const handshakeTime = 10 * time.Second

// turnTime is how long a client may wait for its turn. Most have given up by then.
const turnTime = 10 * time.Second

var errCrowd = errors.New("too many TLS handshakes are under way")

// begin waits for the turn. A client that has given up meanwhile is noticed before anything is computed for it, or else a
// crowd that is larger than can be served in time would leave nobody served.
func (n *newcomer) begin(hello *tls.ClientHelloInfo) error {
	tooLong := time.NewTimer(turnTime)
	defer tooLong.Stop()
	select {
	case n.turns <- struct{}{}:
	case <-tooLong.C:
		return errCrowd
	case <-hello.Context().Done():
		return hello.Context().Err()
	}
	n.turn.Store(true)
	if n.gone() {
		n.end()
		return net.ErrClosed
	}
	return n.SetDeadline(time.Now().Add(handshakeTime)) // which net/http takes back after the handshake
}

// gone reports whether the client has closed the connection.
func (n *newcomer) gone() bool {
	raw, err := n.SyscallConn()
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

func (n *newcomer) end() {
	if n.turn.CompareAndSwap(true, false) {
		<-n.turns
	}
}

// Write implements net.Conn.
func (n *newcomer) Write(b []byte) (int, error) {
	n.end()
	return n.TCPConn.Write(b)
}

// Close implements net.Conn.
func (n *newcomer) Close() error {
	n.end()
	return n.TCPConn.Close()
}
