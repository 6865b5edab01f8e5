package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
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

// BenchmarkIdle is what a connection costs that does nothing, in memory and goroutines. The client is a bare TCP connection, whose part is
// small. One of each two has been used: it has sent an event and a message to a group.
func BenchmarkIdle(b *testing.B) {
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer app.Close()
	s := start(b, withHandler(tenant.Handler{URL: app.URL + "/{event}", UserEvents: "*", SkipValidation: true}))
	const conns = 2000
	raw := func(used bool) net.Conn {
		u, err := url.Parse(s.clientURL("ana", all))
		must(b, err)
		conn, err := net.Dial("tcp", u.Host)
		must(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write([]byte("GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: json.webpubsub.azure.v1\r\n\r\n"))
		must(b, err)
		await := func(text string) {
			var got []byte
			buf := make([]byte, 512)
			for !bytes.Contains(got, []byte(text)) {
				n, err := conn.Read(buf)
				must(b, err)
				got = append(got, buf[:n]...)
			}
		}
		await(`"connected"`)
		if used {
			event := &protocol.Request{Kind: protocol.SendEvent, Event: "e", HasAck: true, AckID: 1}
			event.SetData(text("x"))
			message := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: 2}
			message.SetData(text("x"))
			_, err = conn.Write(append(clientFrame(protocol.NameJSON, event), clientFrame(protocol.NameJSON, message)...))
			must(b, err)
			await(`"ackId":1`)
		}
		return conn
	}
	raw(true)
	measure := func() (heap, stacks, goroutines int) {
		httpClient.CloseIdleConnections()
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine()
	}
	for b.Loop() {
		heap, stacks, goroutines := measure()
		for i := range conns {
			raw(i%2 == 0)
		}
		heapAfter, stacksAfter, running := measure()
		b.ReportMetric(float64(heapAfter-heap)/conns, "heap-B/conn")
		b.ReportMetric(float64(stacksAfter-stacks)/conns, "stack-B/conn")
		b.ReportMetric(float64(running-goroutines)/conns, "goroutines/conn")
	}
}

// BenchmarkAsk is what an acked message costs in all, client and handler included, where no handler is asked, and where one is asked that
// lets it pass or takes it; of 64 clients at once.
func BenchmarkAsk(b *testing.B) {
	for name, answer := range map[string]int{"nobody": 0, "passes": http.StatusNoContent, "takes": http.StatusAccepted} {
		b.Run(name, func(b *testing.B) {
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(answer)
			}))
			defer app.Close()
			s := start(b, withHandler(tenant.Handler{URL: app.URL + "/{event}", UserEvents: "*", SkipValidation: true,
				BeforePublish: tenant.BeforePublish{Enabled: answer != 0}}))
			const clients = 64
			idle := make(chan *wsclient.Client, clients)
			for range clients {
				idle <- s.join(protocol.NameJSON, "ben")
			}
			b.ReportAllocs()
			b.ResetTimer()
			inParallel(clients, b.N, func(int) {
				c := <-idle
				if err := c.SendToGroup(context.Background(), "room", text("a message as people write it"), wsclient.SendOptions{}); err != nil {
					b.Error(err)
				}
				idle <- c
			})
		})
	}
}

// BenchmarkTopics is how long 100,000 users and 100,000 groups take to come to one node, over Redis, and to leave it, and
// what becomes of the latency of somebody else's messages meanwhile. The groups are joined one at a time by 1,000
// connections.
func BenchmarkTopics(b *testing.B) {
	const users, joiners, groups = 100_000, 1000, 100
	s := start(b, setup{bus: redisBus(b, testkit.Redis(b).URL)})
	probe := s.probe(b)
	for b.Loop() {
		key := webpubsub.HubKey{Tenant: "default", Hub: "chat"}
		conns := make([]*hub.Conn, users)
		var gone sync.WaitGroup
		gone.Add(users)
		probe.time(b, "users", func() {
			inParallel(256, users, func(i int) {
				var err error
				conns[i], err = s.node.Open(b.Context(), hub.ConnOptions{ID: s.node.NewConnectionID(), Hub: key, UserID: fmt.Sprint("user", i),
					Codec: protocol.JSON, Owner: s.clients.New(nil, "default", session.Mode{}), OnClosed: func(*hub.Conn, hub.Closing) { gone.Done() }}, nil)
				if err != nil {
					b.Error(err)
				}
			})
		})
		if b.Failed() {
			return
		}
		probe.time(b, "joins", func() {
			inParallel(joiners, joiners, func(i int) {
				for j := range groups {
					if err := s.node.JoinConn(b.Context(), conns[i], fmt.Sprintf("group %d of %d", j, i)); err != nil {
						b.Error(err)
					}
				}
			})
		})
		probe.time(b, "leaves", func() {
			for _, c := range conns {
				s.conns.Close(c, hub.ReasonRequested.Closing(""))
			}
			gone.Wait()
		})
	}
}

// inParallel calls f with 0 to n-1 from so many goroutines.
func inParallel(goroutines, n int, f func(i int)) {
	var next atomic.Int64
	var work sync.WaitGroup
	for range goroutines {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	work.Wait()
}

// probe is a client that sends itself messages, one after another, and takes their time.
type probe struct{ c *wsclient.Client }

func (s *server) probe(b *testing.B) probe {
	b.Helper()
	return probe{s.dial(s.clientURL("probe", all, "probe"), protocol.NameJSON)}
}

// time reports how long do takes, and the latency of messages meanwhile.
func (p probe) time(b *testing.B, name string, do func()) {
	ended := make(chan struct{})
	start := time.Now()
	go func() {
		defer close(ended)
		do()
	}()
	var times []time.Duration
	for running := true; running; {
		sent := time.Now()
		err := p.c.SendToGroup(b.Context(), "probe", webpubsub.Text("x"), wsclient.SendOptions{})
		if err == nil {
			_, err = p.c.Receive(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(sent))
		select {
		case <-ended:
			running = false
		default:
		}
	}
	b.ReportMetric(time.Since(start).Seconds(), name+"-s")
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, name+"-p99-ms")
	b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, name+"-max-ms")
}
