package hub

import (
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// Attach gives the connection a socket: its first, or a new one for a reliable connection, whose old socket is
// closed. The connection says connected, then comes what waits. ok receives false when the connection has ended.
func (r *Registry) Attach(c *Conn, sock *socket.Socket, connected protocol.Connected) (ok bool) {
	answer := make(chan bool, 1)
	c.w.push(job{op: opAttach, conn: c, extra: attachment{sock, connected, answer}})
	select {
	case ok = <-answer:
	case <-c.w.done:
	}
	return ok
}

// attachment is the extra of opAttach.
type attachment struct {
	sock      *socket.Socket
	connected protocol.Connected
	answer    chan<- bool
}

// Detach says that a socket of the connection is gone. When final, or when the connection is not reliable, the
// connection ends with it; else it waits for another one. It does nothing when the connection has another socket.
func (r *Registry) Detach(c *Conn, sock *socket.Socket, final bool, closing Closing) {
	c.w.push(job{op: opDetach, conn: c, extra: detachment{sock, final, closing}})
}

// detachment is the extra of opDetach.
type detachment struct {
	sock    *socket.Socket
	final   bool
	closing Closing
}

// AskToReconnect closes the socket of a reliable connection with a code that makes its client recover; the connection
// waits for that. Other connections end.
func (r *Registry) AskToReconnect(c *Conn, closing Closing) {
	c.w.push(job{op: opAskToReconnect, conn: c, extra: closing})
}

// Close ends a connection for good. PubSub clients are told first (client-json.md 5.4).
func (r *Registry) Close(c *Conn, closing Closing) {
	c.w.push(job{op: opClose, conn: c, extra: closing})
}
