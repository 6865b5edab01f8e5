package wsclient

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// The subprotocols, without and with recovery.
var (
	pubSub   = []string{protocol.NameJSON, protocol.NameProtobuf}
	reliable = []string{protocol.NameReliableJSON, protocol.NameReliableProtobuf}
)

// server is a scripted platform: it answers requests, and passes what it got to the test.
type server struct {
	*httptest.Server
	requests chan protocol.Request
	sockets  chan *websocket.Conn
	refuse   bool // recoveries

	mu  sync.Mutex
	seq uint64
}

func newServer(t *testing.T) *server {
	s := &server{requests: make(chan protocol.Request, 16), sockets: make(chan *websocket.Conn, 16)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("access_token") == "bad" {
		http.Error(w, "bad token", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: append(pubSub, reliable...)})
	if err != nil {
		return
	}
	codec, ok := protocol.ByName(conn.Subprotocol())
	if !ok {
		codec = protocol.Simple
	}
	if id := r.URL.Query().Get("awps_connection_id"); id != "" && (s.refuse || id != "c-1" || r.URL.Query().Get("awps_reconnection_token") != "secret") {
		_ = conn.Close(1008, "unknown connection")
		return
	}
	s.sockets <- conn
	write := func(b []byte) {
		if len(b) > 0 {
			_ = conn.Write(r.Context(), messageType(codec), b)
		}
	}
	write(codec.AppendConnected(nil, protocol.Connected{UserID: "ana", ConnectionID: "c-1", ReconnectionToken: "secret"}))
	for {
		kind, b, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		var req protocol.Request
		if err := codec.Decode(kind == websocket.MessageBinary, b, &req); err != nil {
			write(codec.AppendDisconnected(nil, err.Error()))
			_ = conn.Close(protocol.CloseInvalidPayload, "")
			return
		}
		for _, answer := range s.answers(codec, &req) {
			write(answer)
		}
		s.requests <- req
	}
}

func messageType(codec protocol.Codec) websocket.MessageType {
	if codec.Binary() {
		return websocket.MessageBinary
	}
	return websocket.MessageText
}

func (s *server) answers(codec protocol.Codec, r *protocol.Request) (out [][]byte) {
	switch {
	case r.Event == "silence":
		return nil
	case r.Kind == protocol.Ping:
		return [][]byte{codec.AppendPong(nil)}
	case r.Kind == protocol.StreamStart:
		return [][]byte{codec.AppendStreamAck(nil, r.StreamID, 1), codec.AppendStreamClosed(nil, r.StreamID, nil)}
	case r.Kind == protocol.SubscribeGroupState:
		out = append(out, codec.AppendGroupState(nil, r.Group, true, nil))
	case r.Kind == protocol.Invoke:
		return [][]byte{codec.AppendInvokeResponse(nil, r.InvocationID, r.Data(), nil)}
	case r.Kind == protocol.SendToGroup:
		s.mu.Lock()
		s.seq++
		out = append(out, s.message(codec, r.Group, r.Data(), s.seq))
		s.mu.Unlock()
	case codec == protocol.Simple:
		out = append(out, s.message(codec, "", r.Data(), 0))
	}
	if r.HasAck {
		var failure *protocol.Failure
		if r.Group == "forbidden" {
			failure = &protocol.Failure{Name: protocol.Forbidden, Message: "no"}
		}
		out = append(out, codec.AppendAck(nil, r.AckID, failure))
	}
	return out
}

func (s *server) message(codec protocol.Codec, group string, d webpubsub.Data, seq uint64) []byte {
	b, _ := codec.AppendMessage(nil, protocol.NewEnvelope(&webpubsub.Message{Group: group, FromUserID: "ana", Data: d}))
	return codec.AppendNumbered(nil, b, seq)
}

func dial(t *testing.T, s *server, o Options) *Client {
	t.Helper()
	c, err := Dial(t.Context(), s.URL+"/client/hubs/h?access_token=t", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

func TestRequests(t *testing.T) {
	s := newServer(t)
	for _, name := range append(pubSub, reliable...) {
		codec, _ := protocol.ByName(name)
		c := dial(t, s, Options{Subprotocols: []string{name}})
		ctx := t.Context()
		if got := c.Info(); got.ConnectionID != "c-1" || got.UserID != "ana" {
			t.Errorf("%s: info is %+v", name, got)
		}
		if got := c.Subprotocol(); got != name {
			t.Errorf("subprotocol: got %q, want %q", got, name)
		}
		steps := map[string]func() error{
			"join":  func() error { return c.Join(ctx, "g") },
			"leave": func() error { return c.Leave(ctx, "g") },
			"event": func() error { return c.SendEvent(ctx, "e", webpubsub.Text("x")) },
			"ping":  func() error { return c.Ping(ctx) },
			"send":  func() error { return c.SendToGroup(ctx, "g", webpubsub.Text("hi"), SendOptions{NoEcho: true}) },
		}
		for step, do := range steps {
			if err := do(); err != nil {
				t.Errorf("%s: %s: %v", name, step, err)
			}
			<-s.requests
		}
		if m, err := c.Receive(ctx); err != nil || m.Group != "g" || (m.FromUserID == "ana") == codec.Binary() || string(m.Data.Bytes) != "hi" {
			t.Errorf("%s: received %+v, %v", name, m, err)
		}
		var ack *AckError
		if err := c.Join(ctx, "forbidden"); !errors.As(err, &ack) || ack.Name != protocol.Forbidden || ack.Message != "no" {
			t.Errorf("%s: got %v, want Forbidden", name, err)
		}
		<-s.requests
		s.seq = 0
		d, err := c.Invoke(ctx, "sum", webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`[1,2]`)})
		if err != nil || string(d.Bytes) != `[1,2]` {
			t.Errorf("%s: invoke: got %s, %v", name, d.Bytes, err)
		}
		<-s.requests
	}
}

func TestSimpleClient(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{})
	if err := c.Send(t.Context(), webpubsub.Text("raw")); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Receive(t.Context()); err != nil || string(m.Data.Bytes) != "raw" || m.Data.Type != webpubsub.DataText {
		t.Errorf("received %+v, %v", m, err)
	}
	if err := c.Join(t.Context(), "g"); !errors.Is(err, errSimple) {
		t.Errorf("Join: got %v, want %v", err, errSimple)
	}
}

func TestHandshakeIsRefused(t *testing.T) {
	s := newServer(t)
	_, err := Dial(t.Context(), s.URL+"?access_token=bad", Options{Subprotocols: []string{protocol.NameJSON}})
	var he *HandshakeError
	if !errors.As(err, &he) || he.Status != 401 || he.Body != "bad token\n" {
		t.Errorf("got %v, want 401 with its body", err)
	}
}

func TestCloseReasonIsVisible(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}})
	if err := c.SendFrame(t.Context(), false, []byte(`{"type":"dance"}`)); err != nil {
		t.Fatal(err)
	}
	end, err := c.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if end.Code != protocol.CloseInvalidPayload || end.System != `the message has the unknown type "dance"` {
		t.Errorf("got %d %q", end.Code, end.System)
	}
	if err := c.Join(t.Context(), "g"); !errors.As(err, &end) {
		t.Errorf("Join on a closed connection: got %v, want a *CloseError", err)
	}
}

func TestCloseTellsTheServer(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}})
	if err := c.Close(1000, "bye"); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestRecover loses a socket, recovers, and gets a message repeated.
func TestRecover(t *testing.T) {
	for _, name := range reliable {
		t.Run(name, func(t *testing.T) {
			codec, _ := protocol.ByName(name)
			s := newServer(t)
			c := dial(t, s, Options{Subprotocols: []string{name}, AckEvery: time.Millisecond})
			ctx := t.Context()
			if err := c.SendToGroup(ctx, "g", webpubsub.Text("1"), SendOptions{}); err != nil {
				t.Fatal(err)
			}
			if m, err := c.Receive(ctx); err != nil || m.SequenceID != 1 {
				t.Fatalf("received %+v, %v", m, err)
			}
			<-s.requests
			if r := <-s.requests; r.Kind != protocol.SequenceAck || r.SequenceID != 1 {
				t.Errorf("got %v %d, want an acknowledgement of 1", r.Kind, r.SequenceID)
			}
			c.Drop()
			<-s.sockets
			if err := c.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			socket := <-s.sockets
			for seq, text := range []string{1: "1", 2: "2"} {
				if seq > 0 {
					if err := socket.Write(ctx, messageType(codec), s.message(codec, "g", webpubsub.Text(text), uint64(seq))); err != nil {
						t.Fatal(err)
					}
				}
			}
			if m, err := c.Receive(ctx); err != nil || m.SequenceID != 2 || string(m.Data.Bytes) != "2" {
				t.Errorf("received %+v, %v, want the second message", m, err)
			}
			if got := c.Repeated(); got != 1 {
				t.Errorf("repeated: got %d, want 1", got)
			}
			s.refuse = true
			var end *CloseError
			if err := c.Recover(ctx); !errors.As(err, &end) || end.Code != 1008 || end.Reason != "unknown connection" {
				t.Errorf("refused recovery: got %v, want 1008", err)
			}
		})
	}
}

func TestWaitingEndsWithTheConnection(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}})
	socket := <-s.sockets
	go func() { _ = socket.CloseNow() }()
	var end *CloseError
	if _, err := c.Receive(t.Context()); !errors.As(err, &end) || end.Code != 1006 {
		t.Errorf("Receive: got %v, want 1006", err)
	}
	if err := c.Ping(t.Context()); !errors.As(err, &end) {
		t.Errorf("Ping: got %v, want a *CloseError", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dial(t, s, Options{}).Send(ctx, webpubsub.Text("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Send: got %v, want %v", err, context.Canceled)
	}
}

// TestUnansweredRequests ends waiting with the context or the connection.
func TestUnansweredRequests(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}})
	socket := <-s.sockets
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-s.requests; cancel() }()
	if err := c.SendEvent(ctx, "silence", webpubsub.Text("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := c.Ping(t.Context()); err != nil { // the connection is none the worse
		t.Errorf("Ping: %v", err)
	}
	<-s.requests
	go func() { <-s.requests; _ = socket.Close(1001, "going away") }()
	var end *CloseError
	if err := c.SendEvent(t.Context(), "silence", webpubsub.Text("x")); !errors.As(err, &end) || end.Code != 1001 || end.Reason != "going away" {
		t.Errorf("got %v, want 1001", err)
	}
	<-c.Done()
	if _, err := c.Invoke(t.Context(), "e", webpubsub.Text("x")); !errors.As(err, &end) {
		t.Errorf("Invoke on a closed connection: got %v, want a *CloseError", err)
	}
}

// TestCallback hands messages to OnMessage, one after the other.
func TestCallback(t *testing.T) {
	s := newServer(t)
	got := make(chan string, 3)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}, OnMessage: func(m Message) { got <- m.Group + " " + string(m.Data.Bytes) }})
	for _, text := range []string{"1", "2", "3"} {
		if err := c.SendToGroup(t.Context(), "g", webpubsub.Text(text), SendOptions{NoAck: true}); err != nil {
			t.Fatal(err)
		}
		if got, want := <-got, "g "+text; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestNotices gets what no method waits for, in order.
func TestNotices(t *testing.T) {
	s := newServer(t)
	c := dial(t, s, Options{Subprotocols: []string{protocol.NameJSON}})
	ctx := t.Context()
	called := &protocol.Request{Kind: protocol.Invoke, InvocationID: "mine", Event: "e"}
	called.SetData(webpubsub.Text("x"))
	for _, r := range []*protocol.Request{{Kind: protocol.StreamStart, Group: "g", StreamID: "s"},
		{Kind: protocol.SubscribeGroupState, Group: "g", HasAck: true}, called} {
		if err := c.Do(ctx, r); err != nil {
			t.Fatal(err)
		}
		<-s.requests
	}
	for _, want := range []protocol.ResponseKind{protocol.StreamAckResponse, protocol.StreamClosedResponse,
		protocol.GroupStateSnapshotResponse, protocol.InvokeResponse} {
		if got := <-c.Notices(); got.Kind != want {
			t.Errorf("got %+v, want kind %d", got, want)
		}
	}
}

func TestAPingThatWasNotSentTakesNobodysPong(t *testing.T) {
	c := dial(t, newServer(t), Options{Subprotocols: pubSub})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ping(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
