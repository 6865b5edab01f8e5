package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
)

// pbField is a field of bytes or text in a protobuf message.
func pbField(number protowire.Number, body string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), body))
}

func pbVarint(number protowire.Number, n uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n))
}

// checklist:C20 C22
func TestBadFrames(t *testing.T) {
	t.Parallel()
	pbSend := func(rest string) string { return pbField(1, pbField(1, "g")+rest) }
	pbText := func(text string) string { return pbField(3, pbField(1, text)) }
	for name, tt := range map[string]struct {
		json, protobuf string
		code           int
	}{
		"not the format":         {`hello`, "\x0a\x05ab", 1007},
		"not a message":          {`[1]`, pbVarint(9, 1), 1007},
		"no type":                {`{}`, "", 1007},
		"unknown type":           {`{"type":"shout"}`, pbField(10, "shout"), 1007},
		"no group":               {`{"type":"joinGroup","ackId":1}`, pbField(6, pbVarint(2, 1)), 1007},
		"group is a number":      {`{"type":"joinGroup","group":7}`, pbField(6, pbVarint(1, 7)), 1007},
		"ackId out of range":     {`{"type":"joinGroup","group":"g","ackId":-1}`, pbField(6, pbField(1, "g")+"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), 1007},
		"no data":                {`{"type":"sendToGroup","group":"g"}`, pbSend(""), 1007},
		"null data":              {`{"type":"sendToGroup","group":"g","data":null}`, pbSend(pbField(3, pbField(4, "null"))), 1007},
		"data of another type":   {`{"type":"sendToGroup","group":"g","dataType":"binary","data":"?"}`, pbSend(pbField(3, pbField(4, "{"))), 1007},
		"bad event name":         {`{"type":"event","event":"1","data":1}`, pbField(5, pbField(1, "1")+pbField(2, pbField(1, "x"))), 1007},
		"ttl out of range":       {`{"type":"sendToGroup","group":"g","data":1,"ttlSeconds":301}`, pbSend(pbText("x") + pbVarint(5, 301)), 1007},
		"frame of 2 MB":          {`{"type":"event","event":"e","dataType":"text","data":"` + strings.Repeat("x", 2<<20) + `"}`, pbSend(pbText(strings.Repeat("x", 2<<20))), 1009},
		"text that is not UTF-8": {"{\"type\":\"ping\",\"x\":\"\xff\"}", pbSend(pbText("\xff")), 1007},
	} {
		t.Run(name, func(t *testing.T) {
			eachPubSub(t, func(t *testing.T, codec string) {
				frame := tt.json
				if isProtobuf(codec) {
					frame = tt.protobuf
				}
				wantRefusal(t, codec, isProtobuf(codec), frame, tt.code)
			})
		})
	}
}

// checklist:C20
func TestTextFramesAreNotForProtobuf(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{protocol.NameProtobuf, protocol.NameReliableProtobuf} {
		wantRefusal(t, codec, false, `{"type":"ping"}`, 1003)
	}
}

// wantRefusal sends a frame that ends its connection with code, and disturbs nobody else.
func wantRefusal(t *testing.T, codec string, binary bool, frame string, code int) {
	t.Helper()
	s := start(t, setup{})
	bystander := s.join(codec, "ben", "g")
	c := s.join(codec, "ana", "g")
	_ = c.SendFrame(within(t), binary, []byte(frame)) // the server may close while we write
	wantClose(t, c, code)
	if isReliable(codec) {
		if err := c.Recover(within(t)); !isClosed(err, 1008) {
			t.Errorf("got %v, want no recovery after a protocol error", err)
		}
	}
	must(t, bystander.SendToGroup(within(t), "g", text("undisturbed"), wsclient.SendOptions{}))
	wantMessage(t, bystander, "undisturbed")
}

func TestUnsupportedRequestsAreDeclined(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	c := s.join(protocol.NameJSON, "ana")
	must(t, c.SendFrame(within(t), false, []byte(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`)))
	must(t, c.SendFrame(within(t), false, []byte(`{"type":"setGroupState","group":"g","ackId":1}`)))
	must(t, c.SendFrame(within(t), false, []byte(`{"type":"sequenceAck","sequenceId":99}`)))
	must(t, c.Ping(within(t)))
}

// checklist:C22
func TestTenantsMessageSize(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{tenant: tenant.Tenant{Limits: tenant.Limits{MessageBytes: 1000}}})
		c := s.join(codec, "ana", "g")
		must(t, c.SendToGroup(within(t), "g", text(strings.Repeat("x", 800)), wsclient.SendOptions{}))
		_ = c.SendToGroup(within(t), "g", text(strings.Repeat("x", 1000)), wsclient.SendOptions{})
		wantClose(t, c, 1009)
	})
}

func TestMessageRateIsHeldDown(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{tenant: tenant.Tenant{Limits: tenant.Limits{MessagesPerSecond: 1000}, Hubs: []tenant.Hub{{Name: "chat", MessagesPerSecond: 20}}}})
		c := s.join(codec, "ana", "g")
		begin := time.Now()
		for range 26 {
			must(t, c.SendToGroup(within(t), "g", text("x"), wsclient.SendOptions{}))
		}
		if took := time.Since(begin); took < 200*time.Millisecond {
			t.Errorf("26 messages took %v, want the last 6 to be held back at 20 a second", took)
		}
	})
}

// stuck is a client that says hello and then reads no more.
func (s *server) stuck(codec string, groups ...string) net.Conn {
	s.t.Helper()
	u, err := url.Parse(s.clientURL("stuck", all, groups...))
	must(s.t, err)
	conn, err := net.Dial("tcp", u.Host)
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	header := ""
	if codec != "" {
		header = "Sec-WebSocket-Protocol: " + codec + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", u.RequestURI(), u.Host, header)
	must(s.t, err)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	must(s.t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("got status %d, want 101", resp.StatusCode)
	}
	return conn
}

func TestSlowClientCostsOnlyItself(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		t.Parallel()
		s := start(t, setup{})
		s.stuck(codec, "room")
		sender := s.join(protocol.NameJSON, "ben")
		member, err := wsclient.Dial(within(t), s.clientURL("ana", all, "room"), wsclient.Options{
			Subprotocols: offer(codec), AckEvery: time.Millisecond})
		must(t, err)
		t.Cleanup(member.Drop)
		large := strings.Repeat("x", 32<<10)
		ended := func() bool {
			exists, err := s.rest().UserExists(within(t), "stuck")
			return err == nil && !exists
		}
		sent := 0
		for ; !ended(); sent++ {
			if sent > 3000 {
				t.Fatal("the stuck client is still connected after 3000 messages")
			}
			must(t, sender.SendToGroup(within(t), "room", text(large), wsclient.SendOptions{}))
			if got := receive(t, member); len(got) != len(large) {
				t.Fatalf("got a message of %d bytes, want %d", len(got), len(large))
			}
		}
		t.Logf("closed after %d messages", sent)
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	disconnected := make(chan string, 10)
	draining := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/disconnected" {
			disconnected <- r.Header.Get("Ce-Connectionid")
		}
	}))
	s := start(t, draining)
	plain, reliable := s.join(protocol.NameJSON, "ana"), s.join(protocol.NameReliableJSON, "ben")
	want := map[string]bool{plain.Info().ConnectionID: true, reliable.Info().ConnectionID: true}
	s.stop()
	eventually(t, "the gateway is no longer ready", func() bool { return s.Ready(within(t)) != nil })
	_, err := s.tryDial(s.clientURL("late", nil), protocol.NameJSON)
	var refused *wsclient.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("got %v while draining, want 503 with Retry-After", err)
	}
	wantClose(t, plain, 1001)
	wantClose(t, reliable, 1001)
	<-s.done
	close(disconnected)
	for id := range disconnected {
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("handlers did not hear of the end of %v", want)
	}
}

func TestBusStopsAndReturns(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := start(t, setup{bus: redisBus(t, redis.URL)}), start(t, setup{bus: redisBus(t, redis.URL)})
	ana, ben := a.join(protocol.NameJSON, "ana", "room"), b.join(protocol.NameJSON, "ben", "room")
	reliable := b.join(protocol.NameReliableJSON, "cara", "room")
	redis.Stop()
	eventually(t, "both nodes say why they are not ready", func() bool {
		return a.Ready(within(t)) != nil && b.Ready(within(t)) != nil
	})
	wantFailure(t, ana.SendToGroup(within(t), "room", text("lost"), wsclient.SendOptions{}), protocol.InternalServerError)
	wantFailure(t, ana.Join(within(t), "new"), protocol.InternalServerError)
	if err := a.node.Send(within(t), webpubsub.Audience{Hub: chat}, webpubsub.Message{Data: text("lost")}); err == nil {
		t.Error("got nil from a send without a bus")
	}
	must(t, ben.Ping(within(t)))
	redis.Start()
	eventually(t, "both nodes are ready", func() bool { return a.Ready(within(t)) == nil && b.Ready(within(t)) == nil })
	must(t, ana.SendToGroup(within(t), "room", text("back"), wsclient.SendOptions{}))
	wantMessage(t, ben, "back")
	must(t, ana.Join(within(t), "new"))
	must(t, b.rest().SendToGroup(within(t), "new", text("to the new group")))
	wantMessage(t, ana, "back")
	wantMessage(t, ana, "to the new group")
	wantMessage(t, reliable, "back") // Redis has kept what it had: nothing was missed
}

// TestWhoHasMissedMessagesIsTold: Redis comes back empty, so that nobody knows what was said while it was away.
func TestWhoHasMissedMessagesIsTold(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	s := start(t, setup{bus: redisBus(t, redis.URL)})
	plain, reliable := s.join(protocol.NameJSON, "ana", "room"), s.join(protocol.NameReliableJSON, "ben", "room")
	redis.Stop()
	eventually(t, "the node says that the bus is away", func() bool { return s.Ready(within(t)) != nil })
	redis.Forget()
	redis.Start()
	wantClose(t, reliable, 1008)
	wantClose(t, plain, 1001)
}

func TestFloodOfRequestsWithoutReading(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		conn := s.stuck(codec)
		frame := clientFrame(codec, &protocol.Request{Kind: protocol.JoinGroup, Group: "g", HasAck: true, AckID: 1})
		go func() { // ends when the server closes
			for {
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		}()
		eventually(t, "the client that never reads its acks is closed", func() bool { return s.conns.Len() == 0 })
	})
}

// clientFrame returns a short request as a masked frame; the mask is zero.
func clientFrame(name string, r *protocol.Request) []byte {
	codec, _ := protocol.ByName(name)
	op := byte(socket.Text)
	if codec.Binary() {
		op = byte(socket.Binary)
	}
	b := codec.AppendRequest(nil, r)
	return append([]byte{0x80 | op, 0x80 | byte(len(b)), 0, 0, 0, 0}, b...)
}

func TestOrderIsKept(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		const n = 300
		groups := []string{"a", "b", "c"}
		var clients []*wsclient.Client
		for range 5 {
			clients = append(clients, s.join(codec, "ana", groups...))
		}
		sender := s.join(protocol.NameJSON, "ben")
		go func() {
			for i := range n {
				r := &protocol.Request{Kind: protocol.SendToGroup, Group: groups[i%3]}
				r.SetData(text(fmt.Sprint(i)))
				if sender.Do(context.Background(), r) != nil {
					return
				}
			}
		}()
		for _, c := range clients {
			for i := range n {
				wantMessage(t, c, fmt.Sprint(i))
			}
		}
	})
}

// TestNoRefusalIsWithoutRequestID makes a REST call that is refused: its caller's report has to lead to the log line.
func TestNoRefusalIsWithoutRequestID(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	answer, err := httpClient.Post(s.url+"/api/hubs/chat/:send", "text/plain", strings.NewReader("x"))
	must(t, err)
	defer answer.Body.Close()
	if id := answer.Header.Get("X-Request-Id"); answer.StatusCode != http.StatusUnauthorized || id == "" {
		t.Errorf("got %d with request id %q, want 401 with one", answer.StatusCode, id)
	}
}

// TestGarbageLeavesNothing has clients that are in the middle of things send what ends their connections: of them nothing
// is left, neither a goroutine, nor a connection, nor a subscription.
//
// checklist:C20
func TestGarbageLeavesNothing(t *testing.T) { // not in parallel, as it counts what runs in the process
	s := start(t, setup{config: Config{RecoveryTime: 50 * time.Millisecond}})
	const each = 20
	topics := map[string]bool{}
	attack := func(wave int) {
		eachPubSub(t, func(t *testing.T, codec string) {
			for i := range each {
				name := fmt.Sprintf("%s %d %d", codec, wave, i)
				topics[cluster.Topic(chat, webpubsub.ScopeGroup, name)] = true
				topics[cluster.Topic(chat, webpubsub.ScopeUser, name)] = true
				c := s.join(codec, name, name)
				must(t, c.SendToGroup(within(t), name, text("x"), wsclient.SendOptions{}))
				publish(t, c).start("s", name) // and does not end it
				_ = c.SendFrame(within(t), isProtobuf(codec), []byte("\x0a\xff{garbage"))
				c.Drop()
			}
		})
	}
	settled := func(limit int) {
		t.Helper()
		eventually(t, "all connections have ended", func() bool { return len(s.conns.Conns()) == 0 && s.clients.PendingEffects() == 0 })
		eventually(t, "nobody is counted", func() bool {
			return s.admission.Idle()
		})
		for topic := range topics {
			eventually(t, "nothing is subscribed to", func() bool {
				nodes, err := s.bus.SubscriberCount(within(t), topic)
				return err == nil && nodes == 0
			})
		}
		eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= limit })
	}
	attack(0)
	settled(math.MaxInt)
	httpClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	for wave := range 3 {
		attack(wave + 1)
	}
	settled(before + 5) // of timers and servers that come and go
}
