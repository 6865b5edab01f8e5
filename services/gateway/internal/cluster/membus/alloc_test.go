package membus

import (
	"testing"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/bustest"
)

func TestPostDoesNotAllocate(t *testing.T) {
	n := &bustest.Node{Bus: New()}
	heard := 0
	n.StartDeliver(t, func(string, []byte) { heard++ })
	n.MustSubscribe(t, "room")
	payload := make([]byte, 128)
	done := func(int, error) {}
	for range 10 { // the queue finds its size
		n.Post("room", payload, done)
	}
	if allocs := testing.AllocsPerRun(100, func() { n.Post("room", payload, done) }); allocs != 0 {
		t.Errorf("a post allocates %v times, want never", allocs)
	}
	if heard < 100 {
		t.Errorf("got %d deliveries, want each post's before it returns", heard)
	}
}
