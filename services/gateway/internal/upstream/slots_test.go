package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// sharedHandler runs f, in fake time, with an Upstream of tenants whose handlers all are at one address, as answer has them.
func sharedHandler(t *testing.T, cfg Config, names []string, answer func(tenant string, r *http.Request) (int, error), f func(t *testing.T, u *Upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var all []tenant.Tenant
		for _, name := range names {
			h := handlerOf("http://app.example/" + name)
			h.SkipValidation = true
			all = append(all, tenant.Tenant{Name: name, Hosts: []string{name + ".example"}, Keys: tenant.Keys{Primary: name + key},
				Hubs: []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{h}}}})
		}
		tenants, err := tenant.NewStatic(all...)
		if err != nil {
			t.Fatal(err)
		}
		u := New(cfg, tenants, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		u.client.Transport = &script{start: time.Now(), answer: func(_ int, r *http.Request) (int, error) {
			var of string
			_, _ = fmt.Sscanf(r.URL.Path, "/%3s", &of)
			return answer(of, r)
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			u.Run(ctx) //nolint:errcheck // always nil
		}()
		f(t, u)
		stop()
		<-ended
	})
}

func hubOf(name string) webpubsub.HubKey { return webpubsub.HubKey{Tenant: name, Hub: "chat"} }

// TestATenantsSlowHandlerDelaysNoOther has the handler of one tenant answer in 8 seconds, what 350 connections ask of it, and fail at
// their ends. Another tenant has its handler at the same address: its connections and events are with it at once.
func TestATenantsSlowHandlerDelaysNoOther(t *testing.T) {
	answer := func(of string, r *http.Request) (int, error) {
		if of == "old" {
			time.Sleep(8 * time.Second)
			if r.Header.Get("ce-eventName") == "disconnected" {
				return 503, nil
			}
		}
		return 204, nil
	}
	sharedHandler(t, Config{}, []string{"old", "new"}, answer, func(t *testing.T, u *Upstream) {
		var slow sync.WaitGroup
		for i := range 350 {
			s := u.Open(hubOf("old"), fmt.Sprint("slow", i))
			s.setAccepted(nil)
			slow.Go(func() {
				if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
					t.Error(err)
				}
				s.Closed("")
			})
		}
		for range 8 {
			synctest.Wait()
			began := time.Now()
			s := u.Open(hubOf("new"), "quick")
			s.setAccepted(nil)
			s.Established("ana", "")
			if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
				t.Error(err)
			}
			s.Closed("")
			synctest.Wait()
			s.mu.Lock()
			pending := len(s.pending)
			s.mu.Unlock()
			if took := time.Since(began); took > 0 || pending > 0 {
				t.Errorf("got %d events pending and %v waited for the handler, want no waiting", pending, took)
			}
			time.Sleep(5 * time.Second)
		}
		slow.Wait()
	})
}

// TestSlotsAreSharedOut has a tenant ask for more than there is in all. Another one does not wait, as long as it wants no more than what
// is its own; what is given back goes to the one that has less.
func TestSlotsAreSharedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(Config{InFlight: 32, TotalInFlight: 40})
		a, b, c := &host{tenant: "greedy", name: "a"}, &host{tenant: "greedy", name: "b"}, &host{tenant: "modest", name: "a"}
		var mu sync.Mutex
		got := map[*host]int{}
		want := func(n int, h *host) {
			for range n {
				go func() {
					if s.acquire(t.Context(), h, false) == nil {
						mu.Lock()
						defer mu.Unlock()
						got[h]++
					}
				}()
			}
			synctest.Wait()
		}
		check := func(what string, wantA, wantB, wantC int) {
			t.Helper()
			if got[a] != wantA || got[b] != wantB || got[c] != wantC {
				t.Errorf("%s: got %d, %d and %d, want %d, %d and %d", what, got[a], got[b], got[c], wantA, wantB, wantC)
			}
		}
		want(50, a)
		check("one host", 32, 0, 0)
		want(50, b)
		check("two of its own and 40 shared", 32, 10, 0)
		want(10, c)
		check("another tenant has its own", 32, 10, 2)
		for range 8 {
			s.release(a)
		}
		synctest.Wait()
		check("the other is served first", 32, 10, 10)
		for range 4 {
			s.release(c)
		}
		synctest.Wait()
		if got[a]+got[b] != 46 {
			t.Errorf("got %d for the first tenant, want what nobody else waits for: 46", got[a]+got[b])
		}
	})
}

// TestWorkersGetASlotFirst: there are few of them, and what they deliver would otherwise wait behind all that clients ask for.
func TestWorkersGetASlotFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newSlots(Config{InFlight: 1, TotalInFlight: 10}), &host{tenant: "default"}
		if err := s.acquire(t.Context(), h, false); err != nil {
			t.Fatal(err)
		}
		served := make(chan string, 3)
		for _, who := range []string{"client", "worker"} {
			go func() {
				if s.acquire(t.Context(), h, who == "worker") == nil {
					served <- who
				}
			}()
			synctest.Wait()
		}
		for _, want := range []string{"worker", "client"} {
			s.release(h)
			if got := <-served; got != want {
				t.Errorf("got the %s served, want the %s", got, want)
			}
		}
	})
}

// TestWhoGivesUpWaitingTakesNoSlot: none is lost when it is given at that very moment.
func TestWhoGivesUpWaitingTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newSlots(Config{InFlight: 1, TotalInFlight: 10}), &host{tenant: "default"}
		for i := range 1000 {
			if err := s.acquire(t.Context(), h, false); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- s.acquire(ctx, h, false) }()
			synctest.Wait()
			if i%2 == 0 {
				cancel()
			}
			s.release(h)
			cancel()
			if err := <-result; err == nil {
				s.release(h)
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that of the context", err)
			}
			synctest.Wait()
			if h.slots.inUse != 0 || h.slots.awaited() || len(s.waiting) != 0 || len(s.tenants) != 0 || s.used != 0 {
				t.Fatalf("got %+v of %+v in use after all, want nothing", h.slots, s)
			}
		}
	})
}

// TestLifecycleEventsOfAllTenants are bounded together. One tenant cannot take the room of another.
func TestLifecycleEventsOfAllTenants(t *testing.T) {
	down := func(string, *http.Request) (int, error) { return 0, errDown }
	sharedHandler(t, Config{TotalLifecycleQueue: 20, LifecycleQueue: 20}, []string{"old", "new"}, down, func(t *testing.T, u *Upstream) {
		ends := func(of string, n int) {
			for i := range n {
				s := u.Open(hubOf(of), fmt.Sprint(of, i))
				s.setAccepted(nil)
				s.Closed("")
			}
		}
		ends("old", 50)
		wantDropped(t, u, reasonOverflow, 30)
		ends("new", 50)
		wantDropped(t, u, reasonOverflow, 70)
		if got := testutil.ToFloat64(u.metrics.waiting); got != 30 {
			t.Errorf("got %v waiting, want the 20 there may be and the share of the second tenant", got)
		}
	})
}
