//go:build !race

package hub

import "testing"

// The race detector makes pools forget on purpose, so that this is not tested under it.

func TestNoAllocationPerReceiver(t *testing.T) {
	const receivers = 200
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) {
			cost := func(receivers int) float64 {
				f := newFanOut(t, codec, receivers)
				m := []*Message{message("x", MessageOptions{}), message("y", MessageOptions{Except: f.conns[:1]})}
				for range 10 {
					f.round(m)
				}
				return testing.AllocsPerRun(20, func() { f.round(m) })
			}
			one, many := cost(1), cost(receivers)
			if perReceiver := (many - one) / receivers; perReceiver > 0.05 {
				t.Errorf("got %.2f allocations per receiver (%v for %d, %v for 1), want none", perReceiver, many, receivers, one)
			}
		})
	}
}
