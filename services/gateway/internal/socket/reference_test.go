package socket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// lenient says where the library's server takes what RFC 6455 forbids, or does not say what was wrong: what a client sees
// of it. It does not look at UTF-8, takes lengths in any form, and takes what has come for the whole when a message is cut off.
var lenient = map[string]string{
	"16-bit length not minimal":     "1:0 end",
	"64-bit length not minimal":     "1:0 end",
	"64-bit length enormous":        "1:0 end",
	"64-bit length negative":        "end",
	"not masked":                    "end",
	"UTF-8 invalid":                 "1:3 end",
	"UTF-8 invalid in the first":    "1:2 end",
	"UTF-8 invalid over fragments":  "1:2 end",
	"UTF-8 overlong":                "1:2 end",
	"UTF-8 surrogate":               "1:3 end",
	"UTF-8 unfinished":              "1:5 end",
	"UTF-8 unfinished in fragments": "1:3 end",
	"close reason not UTF-8":        "close 1000",
}

// TestLikeTheLibrary has two servers that echo, one of ours and one of the library's, and compares what a client sees of
// them in each case of the conformance table. Where they differ, the table of differences says how and is kept true.
func TestLikeTheLibrary(t *testing.T) {
	likeTheLibrary(t, conformanceCases(), lenient, "")
}

// likeTheLibrary does so for a client that offers extensions, if there are any.
func likeTheLibrary(t *testing.T, cases map[string]conformance, lenient map[string]string, extensions string) {
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := answered(w, r, "", true); err == nil {
			s.SetLimit(1 << 20)
			_ = echo(s)
		}
	}))
	defer ours.Close()
	library := httptest.NewServer(http.HandlerFunc(echoWithLibrary))
	defer library.Close()
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, want := seen(t, ours, extensions, test.sent), seen(t, library, extensions, test.sent)
			if other, ok := lenient[name]; ok {
				if want != other {
					t.Errorf("the library's server shows %q, which the table of differences has as %q", want, other)
				}
				return
			}
			if got != want {
				t.Errorf("ours shows %q, the library's %q", got, want)
			}
		})
	}
}

// echoWithLibrary is a server that echoes messages, on the library alone, which takes compressed ones and sends none.
func echoWithLibrary(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: math.MaxInt})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	for {
		kind, payload, err := c.Read(context.WithoutCancel(r.Context()))
		if err != nil {
			return
		}
		if err := c.Write(context.WithoutCancel(r.Context()), kind, payload); err != nil {
			return
		}
	}
}

// seen sends bytes to a server that echoes, and says what came back: kinds and sizes of frames, and how it ended.
func seen(t *testing.T, server *httptest.Server, extensions string, sent []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := openPeer(t, conn, extensions)
	go func() { // the server may end before it has read all
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var all []string
	for {
		op, payload, err := p.next()
		switch {
		case errors.Is(err, io.EOF):
			return strings.Join(append(all, "end"), " ")
		case err != nil:
			return strings.Join(append(all, err.Error()), " ")
		case op == Close:
			code := CodeNoStatus
			if len(payload) >= 2 {
				code = int(payload[0])<<8 | int(payload[1])
			}
			return strings.Join(append(all, fmt.Sprintf("close %d", code)), " ")
		default:
			all = append(all, fmt.Sprintf("%d:%d", op, len(payload)))
		}
	}
}

// openPeer does the handshake of a client that offers extensions, or nothing, and returns the answer's headers.
func openPeer(t *testing.T, conn net.Conn, extensions string) (*peer, http.Header) {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t, conn, bufio.NewReader(conn)}
	request := handshake
	if extensions != "" {
		request += "Sec-WebSocket-Extensions: " + extensions + "\r\n"
	}
	p.send([]byte(request + "\r\n"))
	_ = conn.SetReadDeadline(time.Now().Add(hangTimeout))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: got %v, %v", resp, err)
	}
	return p, resp.Header
}
