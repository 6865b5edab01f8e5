package drive

import (
	"crypto/tls"
	"net"
	"runtime"
)

// turns holds one for each TLS handshake that is being begun. There are as many as processors: thousands that made their
// keys at once would all end late, and whoever is to measure or to send in time would queue behind them. Those that have
// begun go on without a turn, so that what was begun first ends first.
var turns = make(chan struct{}, runtime.GOMAXPROCS(0))

// secure shakes hands over conn.
func secure(conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	h := &handshake{Conn: conn, turn: true}
	turns <- struct{}{}
	defer h.begun() // if it has not come to writing
	t := tls.Client(h, config)
	return t, t.Handshake()
}

// handshake is a connection below TLS. Its turn ends with the first thing written.
type handshake struct {
	net.Conn
	turn bool // it has one
}

func (h *handshake) begun() {
	if h.turn {
		h.turn = false
		<-turns
	}
}

// Write implements net.Conn.
func (h *handshake) Write(b []byte) (int, error) {
	h.begun()
	return h.Conn.Write(b)
}
