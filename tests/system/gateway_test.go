package system_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestGatewayKilled kills one of two gateways. Who was on it and does not come back is gone within the time of
// presence; who comes back by the other gateway never was, and finds what was said meanwhile.
func TestGatewayKilled(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{})
	carol := come(t, top.B, "Carol", plain)
	ada, bob := come(t, top.A, "Ada", reliable), come(t, top.A, "Bob", plain)
	tea := uuid(1)
	carol.do("createChat", object{"id": tea, "name": "Tea"})
	ada.do("joinChat", tea)
	bob.do("joinChat", tea)

	top.Gateways[0].Kill()
	killed := time.Now()
	for _, p := range []*person{ada, bob} {
		if _, err := p.conn.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := carol.say(tea, "meanwhile"); err != nil {
		t.Errorf("talking on the gateway that is left: %v", err)
	}
	ada.front = top.Balanced
	if err := ada.conn.Recover(t.Context()); err == nil {
		t.Error("a connection of a dead gateway was recovered")
	}
	ada.open(reliable)
	t.Logf("back on the other gateway after %v", time.Since(killed))
	ada.keeps(tea, []string{"meanwhile"})
	if err := ada.say(tea, "back"); err != nil {
		t.Error(err)
	}
	carol.await("Ada again", line("back"))
	carol.awaitFor(presenceTime-time.Since(killed), "Bob is gone", is("userOffline", bob.id))
	t.Logf("presence right after %v", time.Since(killed))

	top.Gateways[0].Start()
	bob.open(reliable)
	if err := bob.say(tea, "there again"); err != nil {
		t.Error(err)
	}
	ada.await("Bob from the gateway that is back", line("there again"))
	if told := carol.all(is("userOffline", ada.id)); told != nil {
		t.Errorf("Ada came back in time, but is said to have gone: %+v", told)
	}
}

// TestRollingRestart restarts both gateways, one after the other, while people who reconnect talk to each other.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const drainTime = 4 * time.Second
	top := topology.Services(t, topology.Options{Env: []string{"CHATR_GATEWAY_DRAIN_TIME=" + drainTime.String()}})
	tea := uuid(1)
	owner := come(t, top.Balanced, "Owner", plain)
	owner.do("createChat", object{"id": tea, "name": "Tea"})
	stop := make(chan struct{})
	var people sync.WaitGroup
	var all []*returning
	for i := range 20 {
		r := &returning{person: signIn(t, top.Balanced, fmt.Sprintf("Person %d", i))}
		if r.subprotocol = plain; i%4 == 0 {
			r.subprotocol = reliable
		}
		r.open(r.subprotocol)
		r.do("joinChat", tea)
		all = append(all, r)
		people.Go(func() { r.talk(tea, stop) })
	}
	for _, g := range top.Gateways {
		if code := g.Stop(); code != 0 {
			t.Errorf("%s ended with status %d after SIGTERM, want 0", g.Name, code)
		}
		g.Start()
	}
	for _, r := range all {
		before := r.count()
		testkit.Eventually(t, patience, func() bool { return r.count() > before+1 }, r.name+" goes on talking")
	}
	close(stop)
	people.Wait()

	var said []string
	var left []time.Time
	for _, r := range all {
		said = append(said, r.said...)
		left = append(left, r.left...)
		for _, code := range r.codes {
			if code != 1001 {
				t.Errorf("%s was closed with %d, want 1001", r.name, code)
			}
		}
		if len(r.left) == 0 || len(r.left) > 2 {
			t.Errorf("%s was asked to leave %d times, want 1 or 2", r.name, len(r.left))
		}
		for _, e := range append(r.gone, r.all(named("userOffline"))...) {
			if e.data != owner.id {
				t.Errorf("%s was told that %s had gone, who has only reconnected", r.name, e.data)
			}
		}
	}
	checkSpread(t, left, drainTime)
	all[0].keeps(tea, said)
	t.Logf("%d messages acknowledged during the restarts, %d leavings", len(said), len(left))
}

// returning is a person whose page connects again when it is asked to leave.
type returning struct {
	*person
	subprotocol string

	mu   sync.Mutex // guards said
	said []string   // acknowledged

	left  []time.Time // when it was closed
	codes []int       // of the closes
	gone  []event     // userOffline of earlier pages
}

// talk says something every now and then until stop is closed. What had no ack is said again.
func (r *returning) talk(chatID string, stop <-chan struct{}) {
	moments := time.NewTicker(200 * time.Millisecond)
	defer moments.Stop()
	again := ""
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-moments.C:
		}
		text := fmt.Sprintf("%s says %d", r.name, n)
		if again != "" {
			text = again
		}
		if r.say(chatID, text) == nil {
			r.mu.Lock()
			r.said = append(r.said, text)
			r.mu.Unlock()
			again = ""
			continue
		}
		again = text
		if !r.closed() {
			continue
		}
		closed, _ := r.conn.Wait(r.t.Context())
		r.left, r.codes = append(r.left, time.Now()), append(r.codes, closed.Code)
		r.gone = append(r.gone, r.all(named("userOffline"))...)
		for r.tryOpen(r.subprotocol) != nil {
			select {
			case <-stop:
				return
			case <-moments.C:
			}
		}
	}
}

// count is how many texts have been acknowledged.
func (r *returning) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.said)
}

// checkSpread checks that people did not have to leave all at once: no tenth of the drain time saw more than half of
// them.
func checkSpread(t *testing.T, left []time.Time, drainTime time.Duration) {
	t.Helper()
	for _, at := range left {
		n := 0
		for _, other := range left {
			if d := other.Sub(at); d >= 0 && d < drainTime/10 {
				n++
			}
		}
		if n > len(left)/2 {
			t.Errorf("%d of %d had to leave within %v of %v", n, len(left), drainTime/10, drainTime)
			return
		}
	}
}
