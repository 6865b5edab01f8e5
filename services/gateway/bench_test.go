package gateway

import (
	"bytes"
	"net"
	"net/url"
	"testing"
	"time"
)

// BenchmarkConnect is what a connection costs to open, with its token checked, until the client is told so. The client
// is a bare TCP connection, whose share in the allocations is dialing.
func BenchmarkConnect(b *testing.B) {
	s := start(b, setup{})
	u, err := url.Parse(s.clientURL("ana", all))
	if err != nil {
		b.Fatal(err)
	}
	request := []byte("GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: json.webpubsub.azure.v1\r\n\r\n")
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			b.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // many runs must not use up the ports
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; !bytes.Contains(buf[:n], []byte(`"connected"`)); {
			k, err := conn.Read(buf[n:])
			if err != nil {
				b.Fatalf("%v after %q", err, buf[:n])
			}
			n += k
		}
		_ = conn.Close()
	}
}
