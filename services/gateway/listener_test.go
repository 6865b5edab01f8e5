package gateway

import (
	"fmt"
	"testing"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// An event that only a listener wants counts as handled, for every kind of client: it is acked once the log has it, and
// nothing is sent back. One that nobody wants does not.
//
// checklist:E13
func TestListenersHandleEvents(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		log := &memoryLog{}
		s := start(t, setup{log: log, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", EventListeners: []tenant.Listener{
			{Log: "audit", UserEvents: "message, bought", SystemEvents: []string{"connected", "disconnected"}}}}}}})
		c := s.join(codec, "ana")
		name := "bought"
		if codec == "" {
			name = protocol.SimpleEvent
			must(t, c.Send(within(t), text("a book")))
		} else {
			must(t, c.SendEvent(within(t), name, text("a book")))
			wantFailure(t, c.SendEvent(within(t), "sold", text("a book")), protocol.InternalServerError)
		}
		var got []messagelog.Entry
		entries := func(n int) func() bool {
			return func() bool {
				log.mu.Lock()
				defer log.mu.Unlock()
				got = log.entries
				return len(got) == n
			}
		}
		eventually(t, "connected and the event are copied", entries(2))
		if got[1].Hub != chat || got[1].FromUserID != "ana" || got[1].Event.Name != name || got[1].Event.Subprotocol != codec ||
			string(got[1].Data.Bytes) != "a book" || got[1].Data.Type != webpubsub.DataText || log.name != messagelog.Name(chat.Tenant, "audit") {
			t.Errorf("got %+v %+v in %s, want what the client sent", got[1], got[1].Event, log.name)
		}
		must(t, c.Close(1000, ""))
		eventually(t, "disconnected is copied", entries(3))
		if names := fmt.Sprint(got[0].Event.Name, got[2].Event.Name); names != "connecteddisconnected" {
			t.Errorf("got %s, want connected and disconnected around it", names)
		}
	})
}

// The ack is a promise: without the log there is none, and a simple client is told by the end of its connection.
//
// checklist:E13
func TestListenersWithoutTheirLog(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		log := &memoryLog{}
		s := start(t, setup{log: log, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", EventListeners: []tenant.Listener{{Log: "audit", UserEvents: "*"}}}}}})
		c := s.join(codec, "ana")
		log.mu.Lock()
		log.err = fmt.Errorf("disk full")
		log.mu.Unlock()
		if codec == "" {
			must(t, c.Send(within(t), text("a book")))
			wantClose(t, c, 1011)
			return
		}
		wantFailure(t, c.SendEvent(within(t), "bought", text("a book")), protocol.InternalServerError)
		must(t, c.Ping(within(t)))
	})
}
