package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
)

// heldBus is a bus on which posts can be held up, and which can be away and lose payloads.
type heldBus struct {
	*membus.Bus
	away   atomic.Bool
	losses atomic.Uint64
	looks  atomic.Int64 // at how much it has lost

	mu   sync.Mutex // guards the following
	hold bool
	held []func()
}

func (b *heldBus) Ready() error {
	if b.away.Load() {
		return cluster.ErrUnavailable
	}
	return b.Bus.Ready()
}

func (b *heldBus) LossCount() uint64 {
	b.looks.Add(1)
	return b.losses.Load()
}

func (b *heldBus) GapCount() uint64 { return b.losses.Load() }

func (b *heldBus) PostKept(topic string, payload, _ []byte, done func(int, error)) {
	b.Post(topic, payload, done)
}

func (b *heldBus) Post(topic string, payload []byte, done func(int, error)) {
	b.mu.Lock()
	if b.hold {
		b.held = append(b.held, func() { b.Bus.Post(topic, payload, done) })
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.Bus.Post(topic, payload, done)
}

func (b *heldBus) holdPosts() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = true
}

func (b *heldBus) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.held)
}

func (b *heldBus) release() {
	b.mu.Lock()
	held := b.held
	b.hold, b.held = false, nil
	b.mu.Unlock()
	for _, post := range held {
		post()
	}
}

// TestRepeatedAckIDWhileTheFirstIsUnderWay: a client that has had no ack yet sends its message again. That is the same message: it is sent
// once and acknowledged once. Only then is it a duplicate.
//
// checklist:C14
func TestRepeatedAckIDWhileTheFirstIsUnderWay(t *testing.T) {
	t.Parallel()
	bus := &heldBus{Bus: membus.New()}
	s := start(t, setup{bus: bus})
	ben := s.join(protocol.NameJSON, "ben", "room")
	ana, _, err := websocket.Dial(within(t), s.clientURL("ana", all), &websocket.DialOptions{Subprotocols: []string{protocol.NameJSON}})
	must(t, err)
	t.Cleanup(func() { _ = ana.CloseNow() })
	_, _, err = ana.Read(within(t)) // connected
	must(t, err)
	read := func() (frame struct {
		Type    string
		AckID   int
		Success bool
		Error   struct{ Name string }
	}) {
		_, b, err := ana.Read(within(t))
		must(t, err)
		must(t, json.Unmarshal(b, &frame))
		return frame
	}
	once := []byte(`{"type":"sendToGroup","group":"room","ackId":7,"dataType":"text","data":"once"}`)

	bus.holdPosts()
	for _, frame := range [][]byte{once, once, []byte(`{"type":"ping"}`)} {
		must(t, ana.Write(within(t), websocket.MessageText, frame))
	}
	if got := read(); got.Type != "pong" { // both have been read
		t.Fatalf("got %+v, want nothing said about the message yet", got)
	}
	if n := bus.count(); n != 1 {
		t.Errorf("got %d posts of one message, want 1", n)
	}
	bus.release()
	if got := read(); got.Type != "ack" || got.AckID != 7 || !got.Success {
		t.Errorf("got %+v, want the ack", got)
	}
	must(t, ana.Write(within(t), websocket.MessageText, once))
	if got := read(); got.Type != "ack" || got.AckID != 7 || got.Success || got.Error.Name != protocol.Duplicate {
		t.Errorf("got %+v, want a duplicate, and no second ack", got)
	}
	must(t, s.rest().SendToGroup(within(t), "room", text("last")))
	wantMessage(t, ben, "once")
	wantMessage(t, ben, "last")
}

// TestRepeatedEventAfterRecovery: a client whose socket is lost before its event is acknowledged sends the event again on the
// next one, while the application is at work on it, and while it waits behind another. The application hears of each once, and the client is
// answered once, where it is now.
//
// checklist:C14 C18
func TestRepeatedEventAfterRecovery(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		release := make(chan struct{})
		heard := make(chan string, 10)
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/connect" && r.URL.Path != "/connected" {
				heard <- r.URL.Path
				<-release
			}
		})))
		c := s.join(codec, "ana")
		event := func(name string, ackID uint64) *protocol.Request {
			r := &protocol.Request{Kind: protocol.SendEvent, Event: name, HasAck: true, AckID: ackID}
			r.SetData(text("x"))
			return r
		}
		frame := func(name string, ackID uint64) {
			codec, _ := protocol.ByName(codec)
			must(t, c.SendFrame(within(t), codec.Binary(), codec.AppendRequest(nil, event(name, ackID))))
		}
		frame("order", 7)
		frame("waits", 8)
		if got := <-heard; got != "/order" {
			t.Fatalf("got %s first", got)
		}
		must(t, c.Ping(within(t))) // both have been read
		c.Drop()
		must(t, c.Recover(within(t)))
		again := make(chan error, 2)
		for id, name := range map[uint64]string{7: "order", 8: "waits"} {
			go func() { again <- c.Do(within(t), event(name, id)) }()
		}
		must(t, c.Ping(within(t)))
		close(release)
		for range 2 {
			must(t, <-again) // success, by the first one's ack
		}
		must(t, c.Do(within(t), event("last", 9)))
		if got := []string{<-heard, <-heard}; !slices.Equal(got, []string{"/waits", "/last"}) {
			t.Errorf("got %q heard after the first, want each event once", got)
		}
	})
}

// TestConnectionsThatMissedMessagesEndOnceTheBusIsBack: not before, as they could not come back, and would miss more.
//
// checklist:C18
func TestConnectionsThatMissedMessagesEndOnceTheBusIsBack(t *testing.T) {
	t.Parallel()
	bus := &heldBus{Bus: membus.New()}
	s := start(t, setup{bus: bus})
	c := s.join(protocol.NameReliableJSON, "ana")
	bus.away.Store(true)
	bus.losses.Add(1)
	before := bus.looks.Load()
	eventually(t, "the node has looked, and done what it does about it", func() bool { return bus.looks.Load() >= before+3 })
	must(t, c.Ping(within(t)))
	bus.away.Store(false)
	wantClose(t, c, 1008)
}

// TestNothingIsLoggedThatNobodyGets: while the bus is away a message is refused before the message logs have it.
//
// checklist:E13
func TestNothingIsLoggedThatNobodyGets(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		log, bus := &memoryLog{}, &heldBus{Bus: membus.New()}
		s := start(t, setup{log: log, bus: bus, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Listeners: []string{"history"}}}}})
		c := s.join(codec, "ana", "room")
		bus.away.Store(true)
		wantFailure(t, c.SendToGroup(within(t), "room", text("refused"), wsclient.SendOptions{}), protocol.InternalServerError)
		bus.away.Store(false)
		must(t, c.SendToGroup(within(t), "room", text("kept"), wsclient.SendOptions{}))
		log.mu.Lock()
		defer log.mu.Unlock()
		if len(log.entries) != 1 || string(log.entries[0].Data.Bytes) != "kept" {
			t.Errorf("got %d entries, want that of the message that was sent", len(log.entries))
		}
	})
}
