package system_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// raw is a WebSocket connection whose frames are made by hand. It answers no pings.
type raw struct {
	net.Conn
	closed chan int // the code of the server's close frame, 1006 without one; once
	done   chan struct{}
}

// rawClient connects and reads; text gets each text message.
func rawClient(t *testing.T, address, subprotocol string, text func([]byte)) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", hostOf(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r, err := http.NewRequest("GET", "http"+strings.TrimPrefix(address, "ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {subprotocol}}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	res, err := http.ReadResponse(from, r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: got %v %v, want 101", res, err)
	}
	c := &raw{Conn: conn, closed: make(chan int, 1), done: make(chan struct{})}
	go c.read(from, text)
	return c
}

// read reads server frames, which are never in pieces, until the close.
func (c *raw) read(from *bufio.Reader, text func([]byte)) {
	defer close(c.done)
	for {
		op, payload, err := readFrame(from)
		switch {
		case err != nil:
			c.closed <- 1006
			return
		case op == 8:
			code := 1005
			if len(payload) >= 2 {
				code = int(payload[0])<<8 | int(payload[1])
			}
			c.closed <- code
			return
		case op == 1 && text != nil:
			text(payload)
		}
	}
}

func (c *raw) isClosed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func readFrame(from *bufio.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(from, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1] & 0x7f)
	if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
		var size [8]byte
		if _, err = io.ReadFull(from, size[:more]); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range size[:more] {
			n = n<<8 | uint64(b)
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(from, payload)
	return head[0] & 0x0f, payload, err
}

func opcode(binary bool) byte {
	if binary {
		return 0x82
	}
	return 0x81
}

// send writes one frame with the given first byte.
func (c *raw) send(first byte, payload []byte) error {
	_, err := c.Write(frame(first, payload))
	return err
}

// frame makes a client's frame, masked with zeros.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// pieces is one message in n frames of size bytes each.
func pieces(n, size int) (b []byte) {
	piece := []byte(strings.Repeat("x", size))
	b = frame(0x01, piece)
	for range n - 2 {
		b = append(b, frame(0x00, piece)...)
	}
	return append(b, frame(0x80, piece)...)
}
