package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// TestASlowApplicationDelaysItselfOnly has the application of one tenant hang with more events than may be with it at a time. What the
// connections of these events send to groups is acknowledged. Another tenant has its application at the same address: its handshakes and
// events are answered, and it hears of ends.
//
// checklist:O06
func TestASlowApplicationDelaysItselfOnly(t *testing.T) {
	t.Parallel()
	const inFlight, conns, sends = 4, 12, 50
	release := make(chan struct{})
	var hanging, quick atomic.Int64
	gone := make(chan struct{}, 10)
	h := handler(t, func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/hang":
			hanging.Add(1)
			<-release
		case r.URL.Path == "/disconnected" && r.Header.Get("ce-userId") == "ben":
			gone <- struct{}{}
		case r.URL.Path == "/quick":
			quick.Add(1)
		}
	})
	hubs := []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{h}}}
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "slow", Hosts: []string{"127.0.0.1"}, Keys: tenant.Keys{Primary: key}, Hubs: hubs},
		tenant.Tenant{Name: "quick", Hosts: []string{"localhost"}, Keys: tenant.Keys{Primary: key}, Hubs: hubs})
	must(t, err)
	s := startWith(t, setup{config: Config{Upstream: upstream.Config{InFlight: inFlight}}}, tenants)

	var clients []*wsclient.Client
	for range conns {
		clients = append(clients, s.join(protocol.NameJSON, "ana"))
	}
	var events, groups sync.WaitGroup
	for _, c := range clients {
		for range 3 {
			events.Go(func() {
				if err := c.SendEvent(context.Background(), "hang", text("x")); err != nil {
					t.Error(err)
				}
			})
		}
		groups.Go(func() {
			eventually(t, "as many events as may are with the application", func() bool { return hanging.Load() == inFlight })
			for range sends {
				if err := c.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	groups.Wait()
	for range 8 {
		other := s.dial(strings.Replace(s.clientURL("ben", all), "127.0.0.1", "localhost", 1), protocol.NameJSON)
		must(t, other.SendEvent(within(t), "quick", text("x")))
		must(t, other.Close(1000, ""))
		select {
		case <-gone:
		case <-within(t).Done():
			t.Fatal("the other application does not hear of the end")
		}
	}
	if n := hanging.Load(); n != inFlight {
		t.Errorf("got %d events with the application that hangs, want %d", n, inFlight)
	}
	close(release)
	events.Wait()
	if got := [2]int64{hanging.Load(), quick.Load()}; got != [2]int64{conns * 3, 8} {
		t.Errorf("got %v events with the applications, want each once", got)
	}
}
