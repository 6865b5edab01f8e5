package httpx

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
	"time"
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

// newcomer is a connection below TLS. Its turn ends when it answers, or is closed.
type newcomer struct {
	*net.TCPConn
	turns chan struct{}
	turn  atomic.Bool // it is this one's
}

// handshakeTime is how long a client may take from its turn on. That it has had to wait is not its fault; net/http's own
// time-out, from the beginning, would throw away those who have waited longest.
const handshakeTime = 10 * time.Second

func (n *newcomer) begin(hello *tls.ClientHelloInfo) error {
	select {
	case n.turns <- struct{}{}:
		n.turn.Store(true)
		return n.SetDeadline(time.Now().Add(handshakeTime)) // which net/http takes back after the handshake
	case <-hello.Context().Done():
		return hello.Context().Err()
	}
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
