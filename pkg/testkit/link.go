package testkit

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// Link is a way over TCP to one server that a test can cut and hang. New connections are led to the target; what happens to them
// and to those that are there is up to the test. Its methods are safe for concurrent use.
type Link struct {
	Addr string // where the link listens, "127.0.0.1:21345"

	mu     sync.Mutex // guards the following
	cond   *sync.Cond // something of it has changed
	target string
	cut    bool // connections are refused
	hung   Way
	ended  bool
	conns  map[*linked]bool
}

// Way is what of a link hangs. Bytes stay where they are, and connections stay open.
type Way int

// What of a link may hang, to be added up.
const (
	Up         Way = 1 << iota // from whoever connects to the server
	Down                       // from the server
	Subscribed                 // both directions of the connections that subscribe at a Redis and are there; new ones go on
	Ends                       // the end of a connection is not passed on: the other side believes that it is still there

	Both = Up | Down
	Gone = Up | Down | Ends // as a machine that has lost its power, or its cable
)

// linked is a connection through a link.
type linked struct {
	near, far  net.Conn
	subscribes bool // guarded by Link.mu
	stuck      bool // guarded by Link.mu: hangs, whatever others do
}

// NewLink returns a link to an address; it ends with the test.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Addr: listener.Addr().String(), target: target, conns: map[*linked]bool{}}
	l.cond = sync.NewCond(&l.mu)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.serve(near) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.Mend()
		l.change(func() { l.ended = true })
		l.drop()
		serving.Wait()
	})
	return l
}

// SetTarget leads new connections to another address. Those that are there stay where they are.
func (l *Link) SetTarget(addr string) { l.change(func() { l.target = addr }) }

// Cut ends all connections, and refuses new ones until Mend.
func (l *Link) Cut() {
	l.change(func() { l.cut = true })
	l.drop()
}

// Hang lets nothing through on the given ways until Mend; connections stay, and new ones are taken, which hang likewise.
func (l *Link) Hang(ways Way) {
	l.change(func() {
		l.hung = ways
		for c := range l.conns {
			c.stuck = ways&Subscribed != 0 && c.subscribes
		}
	})
}

// Mend ends a Cut or a Hang. What was held back goes on; connections whose end was held back end.
func (l *Link) Mend() {
	l.change(func() {
		l.cut, l.hung = false, 0
		for c := range l.conns {
			c.stuck = false
		}
	})
}

func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.cond.Broadcast()
}

func (l *Link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.near.Close()
		_ = c.far.Close()
	}
}

func (l *Link) serve(near net.Conn) {
	defer near.Close()
	l.mu.Lock()
	target, refused := l.target, l.cut || l.ended
	l.mu.Unlock()
	if refused {
		_ = near.(*net.TCPConn).SetLinger(0) // a reset, as where nobody listens
		return
	}
	far, err := net.Dial("tcp", target)
	if err != nil {
		_ = near.(*net.TCPConn).SetLinger(0)
		return
	}
	defer far.Close()
	c := &linked{near: near, far: far}
	l.mu.Lock()
	refused = l.cut || l.ended
	l.conns[c] = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	}()
	if refused {
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() { l.pass(c, Up, far, near) })
	ways.Go(func() { l.pass(c, Down, near, far) })
	ways.Wait()
}

// pass carries one direction of a connection.
func (l *Link) pass(c *linked, way Way, to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if way == Up {
			l.look(c, buf[:n])
		}
		l.wait(c, way)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	l.mu.Lock()
	for l.hung&Ends != 0 {
		l.cond.Wait()
	}
	l.mu.Unlock()
	_ = to.Close()
	_ = from.Close()
}

// look notes whether a connection subscribes. Clients write the name of a command in one piece.
func (l *Link) look(c *linked, b []byte) {
	if bytes.Contains(bytes.ToLower(b[:min(len(b), 256)]), []byte("subscribe\r\n")) {
		l.change(func() { c.subscribes = true })
	}
}

// wait returns when a direction of a connection does not hang.
func (l *Link) wait(c *linked, way Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.hung&way != 0 || c.stuck {
		l.cond.Wait()
	}
}
