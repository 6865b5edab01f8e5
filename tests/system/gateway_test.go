package system_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestGatewayKilled kills one of two gateways. A person who was on it and does not come back is shown as gone
// within presenceTime; one who comes back by the other gateway is not, and finds what was said meanwhile.
func TestGatewayKilled(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{})
	carol := people.Come(t, top.B, "Carol", people.Plain)
	ada, bob := people.Come(t, top.A, "Ada", people.Reliable), people.Come(t, top.A, "Bob", people.Plain)
	tea := people.UUID(1)
	carol.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	ada.Do("joinChat", tea)
	bob.Do("joinChat", tea)

	top.Gateways[0].Kill()
	killed := time.Now()
	for _, p := range []*people.Person{ada, bob} {
		if _, err := p.Conn.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := carol.Say(tea, "meanwhile"); err != nil {
		t.Errorf("talking on the gateway that is left: %v", err)
	}
	ada.Front = top.Balanced
	if err := ada.Conn.Recover(t.Context()); err == nil {
		t.Error("a connection of a dead gateway was recovered")
	}
	ada.Open(people.Reliable)
	t.Logf("back on the other gateway after %v", time.Since(killed))
	ada.Keeps(tea, []string{"meanwhile"})
	if err := ada.Say(tea, "back"); err != nil {
		t.Error(err)
	}
	carol.Await("Ada again", people.Line("back"))
	carol.AwaitFor(presenceTime-time.Since(killed), "Bob is gone", people.Is("userOffline", bob.ID))
	t.Logf("presence right after %v", time.Since(killed))

	top.Gateways[0].Start()
	bob.Open(people.Reliable)
	if err := bob.Say(tea, "there again"); err != nil {
		t.Error(err)
	}
	ada.Await("Bob from the gateway that is back", people.Line("there again"))
	if told := carol.All(people.Is("userOffline", ada.ID)); told != nil {
		t.Errorf("Ada came back in time, but is said to have gone: %+v", told)
	}
}

// TestRollingRestart restarts both gateways, one after the other, while people who reconnect talk to each other.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const drainTime = 4 * time.Second
	top := topology.Services(t, topology.Options{Env: []string{"CHATR_GATEWAY_DRAIN_TIME=" + drainTime.String()}})
	tea := people.UUID(1)
	owner := people.Come(t, top.Balanced, "Owner", people.Plain)
	owner.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	stop := make(chan struct{})
	var talking sync.WaitGroup
	var all []*returning
	for i := range 20 {
		r := &returning{Person: people.SignIn(t, top.Balanced, fmt.Sprintf("Person %d", i))}
		if r.subprotocol = people.Plain; i%4 == 0 {
			r.subprotocol = people.Reliable
		}
		r.Open(r.subprotocol)
		r.Do("joinChat", tea)
		all = append(all, r)
		talking.Go(func() { r.talk(tea, stop) })
	}
	for _, g := range top.Gateways {
		if code := g.Stop(); code != 0 {
			t.Errorf("%s ended with status %d after SIGTERM, want 0", g.Name, code)
		}
		g.Start()
	}
	for _, r := range all {
		before := r.count()
		testkit.Eventually(t, people.Patience, func() bool { return r.count() > before+1 }, r.Name+" goes on talking")
	}
	close(stop)
	talking.Wait()

	var said []string
	var left []time.Time
	for _, r := range all {
		said = append(said, r.said...)
		left = append(left, r.left...)
		for _, code := range r.codes {
			if code != 1001 {
				t.Errorf("%s was closed with %d, want 1001", r.Name, code)
			}
		}
		if len(r.left) == 0 || len(r.left) > 2 {
			t.Errorf("%s was asked to leave %d times, want 1 or 2", r.Name, len(r.left))
		}
		for _, e := range append(r.gone, r.All(people.Named("userOffline"))...) {
			if e.Data != owner.ID {
				t.Errorf("%s was told that %s has gone, which has only reconnected", r.Name, e.Data)
			}
		}
	}
	checkSpread(t, left, drainTime)
	all[0].Keeps(tea, said)
	t.Logf("%d messages acknowledged during the restarts, %d leavings", len(said), len(left))
}

// returning is a person whose page connects again when it is asked to leave.
type returning struct {
	*people.Person
	subprotocol string

	mu   sync.Mutex // guards said
	said []string   // acknowledged

	left  []time.Time    // when it was closed
	codes []int          // of the closes
	gone  []people.Event // userOffline of earlier pages
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
		text := fmt.Sprintf("%s says %d", r.Name, n)
		if again != "" {
			text = again
		}
		if r.Say(chatID, text) == nil {
			r.mu.Lock()
			r.said = append(r.said, text)
			r.mu.Unlock()
			again = ""
			continue
		}
		again = text
		if !r.Closed() {
			continue
		}
		closed, _ := r.Conn.Wait(r.T.Context())
		r.left, r.codes = append(r.left, time.Now()), append(r.codes, closed.Code)
		r.gone = append(r.gone, r.All(people.Named("userOffline"))...)
		for r.TryOpen(r.subprotocol) != nil {
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
