package httpx

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestListenTLSReleasesSlots: when more clients than there are slots have sent nothing, broken off or refused our
// certificate, others that come after them are served.
func TestListenTLSReleasesSlots(t *testing.T) {
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS()
	defer example.Close()
	trusting := example.Client().Transport.(*http.Transport).TLSClientConfig

	l, err := ListenTLS("127.0.0.1:0", &tls.Config{Certificates: example.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			t.Error("the request does not say that it came over TLS")
		}
	}))
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, server, l, time.Minute) }()

	dial := func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range 2 * runtime.GOMAXPROCS(0) {
		dial() // says nothing
		if err := tls.Client(deaf{dial()}, trusting).Handshake(); err == nil {
			t.Error("a client that does not receive the server's answer has completed the handshake")
		}
		if _, err := tls.Dial("tcp", address, &tls.Config{ServerName: "example.com"}); err == nil {
			t.Error("a client that does not trust the server has completed the handshake")
		}
		old := trusting.Clone()
		old.MaxVersion = tls.VersionTLS12
		if c, err := tls.Dial("tcp", address, old); err != nil {
			t.Errorf("TLS 1.2: %v", err)
		} else {
			_ = c.Close()
		}
	}
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			transport := &http.Transport{TLSClientConfig: trusting}
			defer transport.CloseIdleConnections()
			response, err := (&http.Client{Transport: transport}).Get("https://" + address)
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
		})
	}
	clients.Wait()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestClosedClientsGetNoSlot: it is noticed that a client has closed the connection while it waited; a client that has only
// sent more is not taken for one.
func TestClosedClientsGetNoSlot(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := (&handshakeLimiter{l, make(chan struct{}, 1)}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	n := accepted.(*handshakeConn)
	if n.closedByClient() {
		t.Error("a silent client is taken for gone")
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n.closedByClient() {
		t.Error("a client that says something is taken for gone")
	}
	if _, err := n.Read(make([]byte, 1)); err != nil {
		t.Errorf("got %v, want what the client has said still to be there", err)
	}
	_ = client.Close()
	testkit.Eventually(t, 10*time.Second, n.closedByClient, "a client that has closed is gone")
}

// deaf is a connection that fails instead of reading, and stays open.
type deaf struct{ net.Conn }

func (deaf) Read([]byte) (int, error) { return 0, net.ErrClosed }
