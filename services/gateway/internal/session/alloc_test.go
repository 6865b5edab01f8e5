//go:build !race

package session

import "testing"

// TestSendsInFlightAreReused holds the pool of what waits for the bus: a message costs no allocation there.
func TestSendsInFlightAreReused(t *testing.T) {
	c := &Client{shared: &Clients{}}
	allocs := testing.AllocsPerRun(1000, func() {
		if !c.inFlight.tryAcquire(10) {
			t.Fatal("got no room for the only message")
		}
		newPendingSend(c, ack{}, 10).done(1, nil)
	})
	if allocs != 0 {
		t.Errorf("got %v allocations for each message in flight, want none", allocs)
	}
}
