package socket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// CheckHandshake reports whether r asks for a WebSocket as RFC 6455 section 4.2.1 wants it, and answers if not. It is
// to be called first, so that nobody hears of a client whose handshake is bound to fail: Accept comes only after
// the event handler's consent.
func CheckHandshake(w http.ResponseWriter, r *http.Request) bool {
	key := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		http.Error(w, fmt.Sprintf("WebSockets need HTTP/1.1; this request came by %.20s", r.Proto), http.StatusBadRequest)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "a WebSocket handshake is a GET request", http.StatusMethodNotAllowed)
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		http.Error(w, "this address is for WebSockets; the request must have the headers Connection: Upgrade and Upgrade: websocket", http.StatusBadRequest)
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "the header Sec-WebSocket-Version must be 13", http.StatusUpgradeRequired)
	case len(key) != 1 || !validKey(key[0]):
		http.Error(w, "there must be one header Sec-WebSocket-Key with 16 bytes in base64", http.StatusBadRequest)
	default:
		return true
	}
	return false
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	return err == nil && len(b) == 16
}

// Offered returns the subprotocols that the client offers, in its order.
func Offered(r *http.Request) []string {
	var names []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// Accept answers a handshake with 101 and takes the connection over; w and r are of no more use then, and the
// handler should return so that their memory is freed. The answer names subprotocol if the client has offered it.
// Any Origin may connect: what protects is the token, which no other site's page has. On an error w has been
// answered.
func Accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*Socket, error) {
	options := websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if subprotocol != "" {
		options.Subprotocols = []string{subprotocol}
	}
	taker := &taker{ResponseWriter: w}
	library, err := websocket.Accept(taker, r, &options)
	if err != nil {
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	_ = library.CloseNow() // has only the shell
	if err := taker.conn.SetDeadline(time.Time{}); err != nil {
		_ = taker.conn.Close()
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	return newSocket(taker.conn, taker.unread), nil
}

// taker is a ResponseWriter that keeps the connection which the library hijacks, and gives it a shell instead.
type taker struct {
	http.ResponseWriter
	conn   net.Conn
	unread []byte // came right behind the handshake
}

func (t *taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered())
	t.conn, t.unread = conn, bytes.Clone(unread)
	return shell{conn}, bufio.NewReadWriter(bufio.NewReaderSize(eof{}, 16), bufio.NewWriterSize(io.Discard, 16)), nil
}

// shell is a connection that its holder cannot close.
type shell struct{ net.Conn }

func (shell) Close() error { return nil }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
