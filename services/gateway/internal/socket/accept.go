package socket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
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

// OfferedSubprotocols returns the subprotocols that the client offers, in its order.
func OfferedSubprotocols(r *http.Request) []string {
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

// Accept takes the connection of a handshake over; w and r are of no more use then, and the handler should return so
// that their memory is freed. The answer, which names subprotocol if the client has offered it, is left to be written:
// Answer returns it. With compress, permessage-deflate is agreed on if the client has offered it. Any Origin may connect:
// what protects is the token, which no other site's page has. On an error w has been answered.
func Accept(w http.ResponseWriter, r *http.Request, subprotocol string, compress bool) (*Socket, error) {
	options := websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if subprotocol != "" {
		options.Subprotocols = []string{subprotocol}
	}
	agreed := &agreement{ResponseWriter: w}
	if _, err := websocket.Accept(agreed, r, &options); !agreed.reached {
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		clear(w.Header())
		http.Error(w, "the connection cannot become a WebSocket", http.StatusInternalServerError)
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // came right behind the handshake
	s := newSocket(conn, unread)
	if compress {
		s.compress(w.Header(), r.Header)
	}
	s.answer = switching(w.Header())
	return s, nil
}

// compress agrees to one of the client's offers of compression.
func (s *Socket) compress(answer, request http.Header) {
	if extension := negotiate(request); extension != "" {
		answer.Set("Sec-WebSocket-Extensions", extension)
		s.meaningless &^= rsv1Bit
	}
}

// agreement is a ResponseWriter that ends the library's part once it has agreed to the handshake: it is not given
// the connection, for which it would make buffers and a finalizer that nobody needs.
type agreement struct {
	http.ResponseWriter
	reached bool
}

var errTaken = errors.New("the connection is not the library's")

func (a *agreement) WriteHeader(status int) {
	switch {
	case a.reached: // says that there is no connection
	case status == http.StatusSwitchingProtocols:
		a.reached = true
	default:
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *agreement) Write(b []byte) (int, error) {
	if a.reached {
		return len(b), nil
	}
	return a.ResponseWriter.Write(b)
}

func (a *agreement) Header() http.Header {
	if a.reached { // the answer's stay as they are
		return http.Header{}
	}
	return a.ResponseWriter.Header()
}

func (a *agreement) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errTaken }

// switching returns the answer to a handshake.
func switching(h http.Header) []byte {
	b := bytes.NewBuffer(make([]byte, 0, 256))
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}
