package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// checklist:E07 C12
func TestEventIsAnsweredBeforeItsAck(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/echo" {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "text/plain")
				_, _ = w.Write(append(body, '!'))
			}
		})))
		var got []string
		c, err := wsclient.Dial(within(t), s.clientURL("ana", nil), wsclient.Options{Subprotocols: []string{codec},
			OnMessage: func(m wsclient.Message) { got = append(got, string(m.Data.Bytes)) }})
		must(t, err)
		defer c.Drop()
		must(t, c.SendEvent(within(t), "echo", text("hello")))
		if len(got) != 1 || got[0] != "hello!" { // the reading goroutine has handed the message over before the ack
			t.Errorf("got messages %q with the ack, want hello!", got)
		}
		must(t, c.SendEvent(within(t), "silent", text("hello")))
		if len(got) != 1 {
			t.Errorf("got messages %q, want none for an empty answer", got)
		}
	})
}

// checklist:E07 C12
func TestFailedEvent(t *testing.T) {
	t.Parallel()
	fails := handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/connect" {
			http.Error(w, "no", http.StatusBadRequest)
		}
	})
	for name, s := range map[string]setup{"no handler": {}, "handler fails": withHandler(fails)} {
		t.Run(name, func(t *testing.T) {
			eachCodec(t, func(t *testing.T, codec string) {
				s := start(t, s)
				c := s.join(codec, "ana")
				if codec == "" {
					must(t, c.Send(within(t), text("hello")))
					wantClose(t, c, 1011)
					return
				}
				wantFailure(t, c.SendEvent(within(t), "any", text("hello")), protocol.InternalServerError)
				must(t, c.Ping(within(t)))
			})
		})
	}
}

// checklist:E07 C08
func TestSimpleClientTalksToTheHandler(t *testing.T) {
	t.Parallel()
	s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/message" {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.Copy(w, r.Body)
		}
	})))
	c := s.join("", "ana")
	must(t, c.Send(within(t), text("hello")))
	wantMessage(t, c, "hello")
}

// TestEventHoldsUpOnlyEvents has an event that takes until the test is done. What else its connection does goes on, other events wait.
//
// checklist:C13
func TestEventHoldsUpOnlyEvents(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		release, begun := make(chan struct{}), make(chan struct{})
		var second atomic.Bool
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				close(begun)
				<-release
			case "/second":
				second.Store(true)
			}
		})))
		c, other := s.join(codec, "ana", "room"), s.join(codec, "ben", "room")
		results := make(chan error, 2)
		go func() { results <- c.SendEvent(context.Background(), "slow", text("x")) }()
		wantSoon(t, begun, "the event is with the application")
		go func() { results <- c.SendEvent(context.Background(), "second", text("x")) }()
		must(t, other.SendToGroup(within(t), "room", text("meanwhile"), wsclient.SendOptions{})) // the other one is not held up
		wantMessage(t, c, "meanwhile")                                                           // it still receives
		must(t, c.SendToGroup(within(t), "room", text("mine"), wsclient.SendOptions{}))
		wantMessage(t, c, "mine")
		wantMessage(t, other, "meanwhile")
		wantMessage(t, other, "mine")
		must(t, c.Join(within(t), "new"))
		must(t, c.Leave(within(t), "room"))
		must(t, c.Ping(within(t)))
		if second.Load() {
			t.Error("the second event came before the first was answered")
		}
		close(release)
		must(t, <-results)
		must(t, <-results)
	})
}

// TestARightThatAnEventGives: what a client without acks does right after an event that gives it the right to do so is done, not refused.
func TestARightThatAnEventGives(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		var s *server
		ready := make(chan struct{})
		s = start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/enter" {
				<-ready
				id := r.Header.Get("ce-connectionId")
				for _, p := range []webpubsub.Permission{webpubsub.SendToGroup, webpubsub.JoinLeaveGroup} {
					if err := s.rest().Grant(r.Context(), id, p, "room"); err != nil {
						t.Error(err)
					}
				}
			}
		})))
		c, member := s.dial(s.clientURL("ana", nil), codec), s.join(codec, "ben", "room")
		for _, r := range []*protocol.Request{{Kind: protocol.SendEvent, Event: "enter"}, {Kind: protocol.JoinGroup, Group: "room"},
			{Kind: protocol.SendToGroup, Group: "room"}} {
			if r.Kind != protocol.JoinGroup {
				r.SetData(text("hello"))
			}
			must(t, c.Do(within(t), r))
		}
		close(ready)
		wantMessage(t, member, "hello")
		wantMessage(t, c, "hello")
	})
}

// TestEventsBeforeAClose: what a client sends before it leaves reaches the application in order, and then its end; the client does not wait
// for that.
//
// checklist:C12 E06
func TestEventsBeforeAClose(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		var mu sync.Mutex
		var got []string
		release, begun := make(chan struct{}), make(chan struct{})
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) == "0" {
				close(begun)
				<-release
			}
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Path == "/disconnected" {
				body = []byte("the end")
			}
			if r.URL.Path != "/connect" && r.URL.Path != "/connected" {
				got = append(got, string(body))
			}
		})))
		c := s.join(codec, "ana")
		for i := range 5 {
			if codec == "" {
				must(t, c.Send(within(t), text(fmt.Sprint(i))))
				continue
			}
			r := &protocol.Request{Kind: protocol.SendEvent, Event: "e"}
			r.SetData(text(fmt.Sprint(i)))
			must(t, c.Do(within(t), r))
		}
		wantSoon(t, begun, "the first is with the application")
		must(t, c.Close(1000, ""))
		eventually(t, "the connection has ended", func() bool {
			exists, err := s.rest().UserExists(within(t), "ana")
			return err == nil && !exists
		})
		close(release)
		eventually(t, "all reach the application in order", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(got, []string{"0", "1", "2", "3", "4", "the end"})
		})
	})
}

// TestEventsOfWhoIsThrownOut do not reach the application any more, and it hears of the end at once, although it is at work on one.
func TestEventsOfWhoIsThrownOut(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		var events atomic.Int64
		begun, ended, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
		defer close(release)
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/connect", "/connected":
			case "/disconnected":
				close(ended)
			default:
				if events.Add(1) == 1 {
					close(begun)
				}
				<-release
			}
		})))
		c := s.join(codec, "ana")
		for range 3 {
			if codec == "" {
				must(t, c.Send(within(t), text("x")))
			} else {
				r := &protocol.Request{Kind: protocol.SendEvent, Event: "e"}
				r.SetData(text("x"))
				must(t, c.Do(within(t), r))
			}
		}
		wantSoon(t, begun, "the first is with the application")
		must(t, s.rest().CloseUser(within(t), "ana", "enough"))
		wantSoon(t, ended, "the application hears of the end")
		if n := events.Load(); n != 1 {
			t.Errorf("got %d events with the application, want none after the first", n)
		}
	})
}

// checklist:E06
func TestLifecycleEvents(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		var mu sync.Mutex
		var got []string
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, r.URL.Path)
		})))
		c := s.join(codec, "ana")
		must(t, c.Close(1000, ""))
		eventually(t, "connect, connected and disconnected, in order", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(got) == "[/connect /connected /disconnected]"
		})
	})
}

// memoryLog is a message log that may fail.
type memoryLog struct {
	mu      sync.Mutex
	name    string // of the log that got the last entry
	entries []messagelog.Entry
	err     error
}

func (l *memoryLog) Append(name string, e messagelog.Entry, done func(error)) {
	l.mu.Lock()
	l.name = name
	if l.err == nil {
		l.entries = append(l.entries, e)
	}
	err := l.err
	l.mu.Unlock()
	go done(err)
}

func (l *memoryLog) Consume(context.Context, string, string, func(context.Context, []messagelog.Entry) error) error {
	return nil
}

func (l *memoryLog) Ready(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// checklist:E13
func TestListenersGetWhatClientsSend(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		log := &memoryLog{}
		s := start(t, setup{log: log, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Listeners: []string{"history"}}}}})
		c := s.join(codec, "ana", "room")
		before := time.Now()
		must(t, c.SendToGroup(within(t), "room", text("kept"), wsclient.SendOptions{}))
		must(t, s.rest().SendToGroup(within(t), "room", text("from the server")))
		log.mu.Lock()
		if len(log.entries) != 1 {
			t.Fatalf("got %d entries, want the client's message only", len(log.entries))
		}
		got := log.entries[0]
		if want := messagelog.Name(chat.Tenant, "history"); log.name != want {
			t.Errorf("got it in log %q, want %q, which no other tenant writes to", log.name, want)
		}
		log.err = fmt.Errorf("disk full")
		log.mu.Unlock()
		if got.Hub != chat || got.Group != "room" || got.ConnectionID != c.Info().ConnectionID || got.FromUserID != "ana" ||
			string(got.Data.Bytes) != "kept" || got.Data.Type != webpubsub.DataText || got.Time.Before(before) {
			t.Errorf("got entry %+v, want what the client sent", got)
		}
		wantFailure(t, c.SendToGroup(within(t), "room", text("lost"), wsclient.SendOptions{}), protocol.InternalServerError)
		if err := s.Ready(within(t)); err == nil {
			t.Error("got ready, want not with a log that fails")
		}
	})
}

// checklist:C14
func TestAckIDIsProcessedOnce(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, member := s.join(codec, "ana"), s.join(codec, "ben", "room")
		send := func(id uint64, body string) error {
			r := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: id}
			r.SetData(text(body))
			return c.Do(within(t), r)
		}
		must(t, send(5, "first"))
		wantFailure(t, send(5, "again"), protocol.Duplicate)
		wantFailure(t, c.Do(within(t), &protocol.Request{Kind: protocol.JoinGroup, Group: "room", HasAck: true, AckID: 5}), protocol.Duplicate)
		must(t, send(3, "lower"))
		wantMessage(t, member, "first")
		wantMessage(t, member, "lower")
	})
}

// checklist:C14
func TestFailedRequestMayBeRepeated(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.dial(s.clientURL("ana", nil), codec)
		join := func() error {
			return c.Do(within(t), &protocol.Request{Kind: protocol.JoinGroup, Group: "room", HasAck: true, AckID: 9})
		}
		wantFailure(t, join(), protocol.Forbidden)
		must(t, s.rest().Grant(within(t), c.Info().ConnectionID, webpubsub.JoinLeaveGroup, "room"))
		must(t, join())
	})
}

// checklist:C14
func TestAThousandAcksAreRemembered(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana")
		join := func(id int) error {
			return c.Do(within(t), &protocol.Request{Kind: protocol.JoinGroup, Group: "room", HasAck: true, AckID: uint64(id)})
		}
		for id := range 1001 {
			must(t, join(id+1))
		}
		must(t, join(1)) // was forgotten first
		wantFailure(t, join(3), protocol.Duplicate)
	})
}

func TestRequestsAreDoneInOrder(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, member := s.join(codec, "ana"), s.join(codec, "ben", "room")
		for _, step := range []struct {
			protocol.Request
			text string
		}{
			{protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "first"},
			{protocol.Request{Kind: protocol.JoinGroup, Group: "room"}, ""},
			{protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "second"},
			{protocol.Request{Kind: protocol.LeaveGroup, Group: "room"}, ""},
			{protocol.Request{Kind: protocol.SendToGroup, Group: "room"}, "third"},
		} {
			if step.text != "" {
				step.SetData(text(step.text))
			}
			must(t, c.Do(within(t), &step.Request)) // without waiting for an ack
		}
		wantMessage(t, member, "first")
		wantMessage(t, member, "second")
		wantMessage(t, member, "third")
		wantMessage(t, c, "second")
		must(t, s.rest().SendToUser(within(t), "ana", text("last")))
		wantMessage(t, c, "last") // not the third: it had left
	})
}

// checklist:E06
func TestCloseReasonReachesTheHandler(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		reasons := make(chan string, 1)
		s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/disconnected" {
				body, _ := io.ReadAll(r.Body)
				reasons <- string(body)
			}
		})))
		c := s.join(codec, "ana")
		must(t, s.rest().CloseUser(within(t), "ana", "enough"))
		wantClose(t, c, 1000)
		select {
		case got := <-reasons:
			if got != `{"reason":"enough"}` {
				t.Errorf("got %s, want the reason of the close", got)
			}
		case <-within(t).Done():
			t.Error("the handler did not hear of the end")
		}
	})
}
