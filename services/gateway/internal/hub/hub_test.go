package hub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// harness is a registry at work and a server that gives connections real sockets.
type harness struct {
	*Registry
	t     testing.TB
	http  *httptest.Server
	socks chan *socket.Socket
	gone  chan Closing
}

func newHarness(t testing.TB, o Options) *harness {
	o.Recovery = 30 * time.Second
	h := &harness{Registry: NewRegistry(o, prometheus.NewRegistry()), t: t, socks: make(chan *socket.Socket, 1), gone: make(chan Closing, 1000)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	h.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := socket.Accept(w, r, "", true)
		if err != nil {
			t.Error(err)
			return
		}
		if err := s.Write(s.HandshakeResponse(), time.Time{}); err != nil {
			t.Error(err)
		}
		h.socks <- s
	}))
	t.Cleanup(func() {
		stop()
		<-done
		h.http.Close()
	})
	return h
}

// Deliver delivers as the bus does that has nothing else at hand.
func (h *harness) Deliver(topic string, m *Message) {
	h.Registry.Deliver(topic, m)
	h.Flush()
}

// connect returns a connection that is on the list "list", and its client's end.
func (h *harness) connect(id string, codec protocol.Codec) (*Conn, *websocket.Conn) {
	h.t.Helper()
	return h.connectBy(nil, id, codec)
}

func (h *harness) connectBy(o *websocket.DialOptions, id string, codec protocol.Codec) (*Conn, *websocket.Conn) {
	h.t.Helper()
	client, _, err := websocket.Dial(context.Background(), h.http.URL, o)
	if err != nil {
		h.t.Fatal(err)
	}
	client.SetReadLimit(-1)
	h.t.Cleanup(func() { _ = client.CloseNow() })
	c := h.add(id, codec)
	if !h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: id}) {
		h.t.Fatal("got a connection that has ended")
	}
	if codec != protocol.Simple {
		h.read(client) // connected
	}
	return c, client
}

func (h *harness) add(id string, codec protocol.Codec) *Conn {
	c := h.Add(ConnOptions{ID: id, UserID: id, Codec: codec, OnClosed: func(_ *Conn, closing Closing) { h.gone <- closing }})
	if _, err := h.Join(c, "list", "list"); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func left(h *harness, c *Conn) bool {
	left, err := h.Leave(c, "list", "list")
	return left && err == nil
}

func (h *harness) read(client *websocket.Conn) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, b, err := client.Read(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func message(text string, o MessageOptions) *Message {
	return NewMessage(protocol.NewEnvelope(&webpubsub.Message{Group: "g", Data: webpubsub.Text(text)}), o)
}

var eachCodec = map[string]protocol.Codec{"simple": protocol.Simple, "json": protocol.JSON, "reliable json": protocol.ReliableJSON,
	"protobuf": protocol.Protobuf, "reliable protobuf": protocol.ReliableProtobuf}

// readKind reads a frame of codec and checks what it is.
func (h *harness) readKind(client *websocket.Conn, codec protocol.Codec, want protocol.ResponseKind) {
	h.t.Helper()
	frame := h.read(client)
	var r protocol.Response
	if err := codec.DecodeResponse(codec.Binary(), []byte(frame), &r); err != nil || r.Kind != want {
		h.t.Errorf("got %q, a response of kind %d (%v), want kind %d", frame, r.Kind, err, want)
	}
}

// TestEverySourceKeepsItsPlace mixes messages to lists, to the connection and answers, so that they wait together.
func TestEverySourceKeepsItsPlace(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{Writers: 1})
			c, client := h.connect("c", codec)
			other, _ := h.connect("other", codec)
			_, _ = h.Join(c, "second", "second")
			nobody, err := filter.Parse("userId eq 'nobody'")
			if err != nil {
				t.Fatal(err)
			}
			const n = 500
			go func() {
				for i := range n {
					m := message(fmt.Sprintf("<%d>", i), MessageOptions{Except: []*Conn{other}})
					switch i % 5 {
					case 0:
						h.Deliver("list", m)
					case 1:
						h.Deliver("second", m)
					case 2:
						h.Send(c, m)
					case 3:
						h.SendFrame(c, socket.Text, []byte(fmt.Sprintf("<%d>", i)))
					case 4:
						h.Deliver("list", message("not for c", MessageOptions{Except: []*Conn{c}}))
						h.Deliver("list", message("not for c", MessageOptions{Filter: nobody}))
						h.Deliver("list", m)
					}
				}
			}()
			for i := range n {
				if got, want := h.read(client), fmt.Sprintf("<%d>", i); !strings.Contains(got, want) {
					t.Fatalf("got %q, want %s", got, want)
				}
			}
		})
	}
}

func TestWhatComesBeforeTheSocketWaits(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{})
			c := h.add("c", codec)
			for i := range 100 {
				h.Deliver("list", message(fmt.Sprintf("<%d>", i), MessageOptions{}))
			}
			client, _, err := websocket.Dial(context.Background(), h.http.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseNow()
			h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: "c"})
			if codec != protocol.Simple {
				h.readKind(client, codec, protocol.ConnectedResponse)
			}
			for i := range 100 {
				if got, want := h.read(client), fmt.Sprintf("<%d>", i); !strings.Contains(got, want) {
					t.Fatalf("got %q, want %s", got, want)
				}
			}
		})
	}
}

func TestLeftConnectionsGetNothing(t *testing.T) {
	h := newHarness(t, Options{Writers: 2})
	var conns []*Conn
	var clients []*websocket.Conn
	for i := range 20 {
		c, client := h.connect(fmt.Sprint(i), protocol.JSON)
		conns, clients = append(conns, c), append(clients, client)
	}
	for i, c := range conns {
		switch {
		case i%3 == 0 && !left(h, c):
			t.Errorf("connection %d: got that it was not on the list", i)
		case i%3 == 1:
			h.Close(c, ReasonRequested.Closing("bye"))
		}
	}
	if left(h, conns[0]) {
		t.Error("got that a connection left twice")
	}
	h.Deliver("list", message("for the rest", MessageOptions{}))
	for i, c := range conns {
		if i%3 != 2 {
			h.Send(c, message("for one", MessageOptions{}))
		}
	}
	for i, want := range []string{"for one", "bye", "for the rest"} {
		for ; i < len(conns); i += 3 {
			if got := h.read(clients[i]); !strings.Contains(got, want) {
				t.Errorf("connection %d: got %s, want %s", i, got, want)
			}
		}
	}
	if got := len(h.Members(h.List("list"), "", 100)); got != 6 {
		t.Errorf("got %d members, want 6", got)
	}
}

// TestSilentSocketIsCutOff has clients that answer no ping.
//
// checklist:C21
func TestSilentSocketIsCutOff(t *testing.T) {
	for _, codec := range protocol.Codecs {
		t.Run(codec.Name(), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, Options{})
			c := h.Add(ConnOptions{ID: "c", Codec: codec, KeepAlive: time.Second,
				OnClosed: func(_ *Conn, closing Closing) { h.gone <- closing }})
			conn := h.handshake()
			h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: "c"})
			got, _ := io.ReadAll(conn)
			if n := bytes.Count(got, []byte{0x89, 0}); n != 1 {
				t.Errorf("got %d pings before the end, want 1", n)
			}
			want := ReasonPing
			if codec.Reliable() { // its client may come back
				want = ReasonRequested
				if h.Conn("c") != c {
					t.Error("the connection has gone with its socket")
				}
				h.Close(c, want.Closing(""))
			}
			if closing := <-h.gone; closing.Reason != want {
				t.Errorf("got reason %s, want %s", closing.Reason, want)
			}
		})
	}
}

// TestGoodbyeCountsAfterALoss has a write fail between the client's close frame and what is made of it.
func TestGoodbyeCountsAfterALoss(t *testing.T) {
	h := newHarness(t, Options{})
	c := h.add("c", protocol.ReliableJSON)
	h.handshake()
	old := <-h.socks
	h.Attach(c, old, protocol.Connected{ConnectionID: "c"})
	h.Detach(c, old, false, ReasonLost.Closing(""))
	h.handshake()
	sock := <-h.socks
	h.Attach(c, sock, protocol.Connected{ConnectionID: "c"})
	h.Detach(c, old, true, Closing{Reason: ReasonClient, Text: "of a socket before"})
	h.Detach(c, sock, false, ReasonLost.Closing(""))
	h.Detach(c, sock, true, Closing{Reason: ReasonClient, Text: "of the last socket"})
	if closing := <-h.gone; closing.Reason != ReasonClient || closing.Text != "of the last socket" {
		t.Errorf("got the end %+v, want that of the last socket's close", closing)
	}
}

// TestEachHasItsNumbers: members of a group share frames when they are at the same number, and only then.
func TestEachHasItsNumbers(t *testing.T) {
	h := newHarness(t, Options{Writers: 1})
	conns, clients := make([]*Conn, 5), make([]*websocket.Conn, 5)
	for i := range conns {
		conns[i], clients[i] = h.connect(fmt.Sprint(i), protocol.ReliableJSON)
	}
	ahead := map[int]uint64{1: 1, 3: 2, 4: 2} // messages of their own
	for i, n := range ahead {
		for range n {
			h.Send(conns[i], message("own", MessageOptions{}))
			h.want(clients[i], "own")
		}
	}
	w := h.writers[0]
	for burst := 1; burst <= 3; burst++ {
		w.owner.Lock() // so that all wait at once
		for m := range burst {
			h.Deliver("list", message(fmt.Sprintf("%d of %d", m, burst), MessageOptions{}))
		}
		h.Flush()
		w.owner.Unlock()
		for i, client := range clients {
			for m := range burst {
				number := ahead[i] + uint64((burst-1)*burst/2+m+1)
				if got, want := h.read(client), fmt.Sprintf(`{"sequenceId":%d,`, number); !strings.HasPrefix(got, want) || !strings.Contains(got, fmt.Sprintf("%d of %d", m, burst)) {
					t.Fatalf("client %d, message %d of %d: got %s, want it to begin with %s", i, m, burst, got, want)
				}
			}
		}
	}
}

// checklist:C17
func TestReliableBuffer(t *testing.T) {
	var u unackedBuffer
	m := message("x", MessageOptions{})
	for want := range uint64(maxWaiting) {
		if seq, ok := u.add(m); seq != want+1 || !ok {
			t.Fatalf("got number %d, %v; want %d", seq, ok, want+1)
		}
	}
	if _, ok := u.add(m); ok {
		t.Error("got room for more than 1000 messages")
	}
	u.each(func(seq uint64, _ *Message) {
		if seq > maxWaiting {
			t.Errorf("a refused message has moved the numbers: got %d", seq)
		}
	})
	u = unackedBuffer{}
	next := uint64(1)
	for round := range 100 { // trims that wrap around the ring
		for range 30 {
			u.add(m)
		}
		u.trim(uint64(round * 30))
		u.trim(uint64(round*30 - 5)) // older values are harmless
		next = uint64(round*30) + 1
		u.each(func(seq uint64, _ *Message) {
			if seq != next {
				t.Fatalf("got number %d, want %d", seq, next)
			}
			next++
		})
	}
	u.trim(1 << 60)
	if u.n != 0 || u.bytes != 0 {
		t.Errorf("got %d messages and %d bytes after everything was acknowledged", u.n, u.bytes)
	}
	expired := message("x", MessageOptions{Expires: time.Now().Add(-time.Second)})
	for i := range 3 * maxWaiting {
		if i == 2*maxWaiting { // nothing makes room behind a message that has not expired
			expired = m
		}
		if _, ok := u.add(expired); ok != (i < 3*maxWaiting) {
			t.Fatalf("expired message %d: got kept %v", i+1, ok)
		}
	}
	if _, ok := u.add(m); ok {
		t.Error("got room for more than 1000 messages that have not expired")
	}
	u = unackedBuffer{}
	large := message(strings.Repeat("x", 1<<20), MessageOptions{})
	for i := range 17 {
		if _, ok := u.add(large); ok != (i < 15) { // 16 are a little more than 16 MiB
			t.Errorf("message %d of 1 MiB: got kept %v", i+1, ok)
		}
	}
}

// TestExpiredMessagesMakeRoom has a client that does not read. What expires while it waits neither reaches the client nor
// counts against what may wait.
//
// checklist:R28
func TestExpiredMessagesMakeRoom(t *testing.T) {
	small := &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(128 << 10)
		}
		return c, err
	}}}}
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{Writers: 1})
			c, client := h.connectBy(small, "c", codec)
			const large, n = 8, 900 // two times n is more than may wait
			for range large {       // what the kernel takes, and more
				h.Deliver("list", message("large"+strings.Repeat("x", 1<<20), MessageOptions{}))
			}
			<-h.written() // so that they have their numbers
			h.Acknowledge(c, large)
			expires := time.Now().Add(20 * time.Millisecond)
			for range n {
				h.Deliver("list", message("short-lived", MessageOptions{Expires: expires}))
			}
			testkit.Eventually(t, 10*time.Second, func() bool { return time.Now().After(expires.Add(time.Millisecond)) }, "the short lives are over")
			for range n {
				h.Deliver("list", message("for ever", MessageOptions{}))
			}
			for i := range large + n {
				want := "large"
				if i >= large {
					want = "for ever"
				}
				if got := h.read(client); !strings.Contains(got[:min(len(got), 200)], want) {
					t.Fatalf("message %d: got %.200q, want %q", i, got, want)
				}
			}
			if got := testutil.ToFloat64(h.metrics.expired); got != n {
				t.Errorf("got %v messages counted as expired, want %d", got, n)
			}
		})
	}
}

// sink connects a client that reads and forgets, without allocating.
func (h *harness) sink(id string, codec protocol.Codec) *Conn {
	h.t.Helper()
	conn := h.handshake()
	go func() { // ends with the connection
		b := make([]byte, 1<<16)
		for {
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	}()
	c := h.add(id, codec)
	h.Attach(c, <-h.socks, protocol.Connected{ConnectionID: id})
	return c
}

// handshake opens a socket, with further headers, and leaves what comes over it to the caller.
func (h *harness) handshake(headers ...string) net.Conn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.http.Listener.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+strings.Join(append(headers, "\r\n"), "\r\n"))
	return conn
}

// fanOut sends rounds of messages to receivers and returns when they have been written.
type fanOut struct {
	*harness
	conns []*Conn
	seq   uint64
}

func newFanOut(t testing.TB, codec protocol.Codec, receivers int) *fanOut {
	return newFanOutOf(t, codec, receivers, (*harness).sink)
}

func newFanOutOf(t testing.TB, codec protocol.Codec, receivers int, sink func(*harness, string, protocol.Codec) *Conn) *fanOut {
	f := &fanOut{harness: newHarness(t, Options{Writers: 1})}
	for i := range receivers {
		f.conns = append(f.conns, sink(f.harness, fmt.Sprint(i), codec))
	}
	return f
}

func (f *fanOut) round(messages []*Message) {
	for _, m := range messages {
		f.Deliver("list", m)
	}
	f.seq += uint64(len(messages))
	for _, c := range f.conns {
		f.Acknowledge(c, f.seq)
	}
	<-f.written()
}

// written returns a channel that is closed when the writer has done everything before.
func (h *harness) written() <-chan []*Conn {
	answer := make(chan []*Conn, 1)
	h.writers[0].push(job{op: opList, list: &list{parts: []*part{{}}}, extra: answer})
	return answer
}

func BenchmarkFanOut(b *testing.B) {
	for _, name := range []string{"simple", "json", "protobuf", "reliable json", "reliable protobuf"} {
		for _, burst := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/burst=%d", name, burst), func(b *testing.B) {
				const receivers = 200
				f := newFanOut(b, eachCodec[name], receivers)
				messages := make([]*Message, burst)
				text := strings.Repeat("x", 128)
				b.ReportAllocs()
				before := measure.OwnCPU() // steadier than the time on a machine that others use; the clients' part is in it
				for b.Loop() {
					for i := range messages { // new ones, as their frames are kept
						messages[i] = message(text, MessageOptions{})
					}
					f.round(messages)
				}
				b.ReportMetric(float64((measure.OwnCPU()-before).Nanoseconds())/float64(b.N*burst*receivers), "cpu-ns/delivery")
			})
		}
	}
}

func TestCloseIsQueuedBehindMessages(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{})
			c, client := h.connect("c", codec)
			h.Deliver("list", message("last words", MessageOptions{}))
			h.Close(c, ReasonRequested.Closing(strings.Repeat("é", 100)))
			if got := h.read(client); !strings.Contains(got, "last words") {
				t.Errorf("got %s, want the message first", got)
			}
			if codec != protocol.Simple {
				h.readKind(client, codec, protocol.DisconnectedResponse)
			}
			_, _, err := client.Read(context.Background())
			if got := websocket.CloseStatus(err); got != CodeNormal {
				t.Errorf("got close %d, want %d", got, CodeNormal)
			}
			testkit.Eventually(t, 10*time.Second, func() bool { return h.Len() == 0 }, "the connection is forgotten")
		})
	}
}

// TestLargeMessagesKeepTheirOrder has more wait than is joined for one write, for clients that cannot take it at once.
func TestLargeMessagesKeepTheirOrder(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Options{Writers: 1})
			var clients []*websocket.Conn
			for i := range 3 {
				c, client := h.connect(fmt.Sprint(i), codec)
				clients = append(clients, client)
				if i == 0 { // whose frames are gathered
					_, _ = h.Join(c, "second", "second")
				}
			}
			const n = 100
			large := strings.Repeat("x", 90<<10)
			for i := range n {
				h.Deliver("list", message(fmt.Sprintf("<%d>%s", i, large), MessageOptions{}))
				h.Deliver("second", message("second", MessageOptions{}))
			}
			for at, client := range clients {
				for i := range n {
					got, want := h.read(client), fmt.Sprintf("<%d>", i)
					if !strings.Contains(got[:min(200, len(got))], want) || len(got) < len(large) {
						t.Fatalf("client %d: got %.100q, want %s and %d bytes", at, got, want, len(large))
					}
					if at == 0 && !strings.Contains(h.read(client), "second") {
						t.Fatalf("got no message of the second list behind %s", want)
					}
				}
			}
		})
	}
}
