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

// CheckHandshake reports whether r asks for a WebSocket as RFC 6455 section 4.2.1 demands, and answers if not. It is to be called
// first, so that the event handler is not asked about a client whose handshake is bound to fail: Accept is called only when the
// handler has agreed.
func CheckHandshake(w http.ResponseWriter, r *http.Request) bool {
	key := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		http.Error(w, fmt.Sprintf("WebSockets need HTTP/1.1; this request came by %.20s", r.Proto), http.StatusBadRequest)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "a WebSocket handshake is a GET request", http.StatusMethodNotAllowed)
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		http.Error(w, "this address is for WebSockets; the request must have the headers Connection: Upgrade and Upgrade: websocket",
			http.StatusBadRequest)
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

// hasToken reports whether a header that is a list has a token, in any case.
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

// validKey reports whether a Sec-WebSocket-Key is one (RFC 6455 section 4.1).
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

// Accept takes the connection of a handshake over; w and r must not be used any more then, and the HTTP handler should return so
// that their memory is freed. The response, which names subprotocol if the client has offered it, is left to be written:
// HandshakeResponse returns it. With compress, permessage-deflate is agreed on if the client has offered it. Any Origin may connect:
// what protects a client is its token, which a page of another site does not have. On an error w has been answered.
func Accept(w http.ResponseWriter, r *http.Request, subprotocol string, compress bool) (*Socket, error) {
	options := websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if subprotocol != "" {
		options.Subprotocols = []string{subprotocol}
	}
	handshake := &handshakeWriter{ResponseWriter: w}
	if _, err := websocket.Accept(handshake, r, &options); !handshake.agreed {
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
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // what the client has sent right after the handshake
	s := newSocket(conn, unread)
	if compress {
		s.compress(w.Header(), r.Header)
	}
	s.response = handshakeResponse(w.Header())
	return s, nil
}

// compress agrees to one of the client's offers of compression.
func (s *Socket) compress(answer, request http.Header) {
	if extension := negotiate(request); extension != "" {
		answer.Set("Sec-WebSocket-Extensions", extension)
		s.reservedBits &^= rsv1Bit
	}
}

// handshakeWriter is a ResponseWriter that ends the library's part once it has agreed to the handshake: the library does not get
// the connection, for which it would make buffers and a finalizer that we do not need.
type handshakeWriter struct {
	http.ResponseWriter
	agreed bool
}

var errNoHijack = errors.New("the connection is not the library's")

func (a *handshakeWriter) WriteHeader(status int) {
	switch {
	case a.agreed: // the library reports that it got no connection
	case status == http.StatusSwitchingProtocols:
		a.agreed = true
	default:
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *handshakeWriter) Write(b []byte) (int, error) {
	if a.agreed {
		return len(b), nil
	}
	return a.ResponseWriter.Write(b)
}

func (a *handshakeWriter) Header() http.Header {
	if a.agreed { // those of the response stay as they are
		return http.Header{}
	}
	return a.ResponseWriter.Header()
}

func (a *handshakeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errNoHijack }

// handshakeResponse returns the response to a handshake, with the headers h.
func handshakeResponse(h http.Header) []byte {
	b := bytes.NewBuffer(make([]byte, 0, 256))
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}
