//go:build !race

package hub

import (
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// The race detector makes pools forget on purpose, so that this is not tested under it.

func TestNoAllocationPerReceiver(t *testing.T) {
	for name, codec := range eachCodec {
		t.Run(name, func(t *testing.T) { testNoAllocationPerReceiver(t, codec, (*harness).sink) })
		t.Run(name+", compressed", func(t *testing.T) { testNoAllocationPerReceiver(t, codec, (*harness).compressedSink) })
	}
}

func testNoAllocationPerReceiver(t *testing.T, codec protocol.Codec, sink func(*harness, string, protocol.Codec) *Conn) {
	const receivers = 200
	cost := func(receivers int) float64 {
		f := newFanOutOf(t, codec, receivers, sink)
		m := []*Message{message("x", MessageOptions{}), message(strings.Repeat("y", 1000), MessageOptions{Except: f.conns[:1]})}
		for range 10 {
			f.round(m)
		}
		return testing.AllocsPerRun(20, func() { f.round(m) })
	}
	one, many := cost(1), cost(receivers)
	if perReceiver := (many - one) / receivers; perReceiver > 0.05 {
		t.Errorf("got %.2f allocations per receiver (%v for %d, %v for 1), want none", perReceiver, many, receivers, one)
	}
}

// TestOneCompressionForAll compresses a message as often for two hundred receivers as for one.
func TestOneCompressionForAll(t *testing.T) {
	const receivers = 200
	for name, codec := range eachCodec {
		cost := func(receivers int) float64 {
			f := newFanOutOf(t, codec, receivers, (*harness).compressedSink)
			text := strings.Repeat("worth it ", 200)
			return testing.AllocsPerRun(20, func() { f.round([]*Message{message(text, MessageOptions{})}) })
		}
		one, many := cost(1), cost(receivers)
		if many-one > receivers/10 {
			t.Errorf("%s: got %v allocations for %d receivers and %v for one, want about the same", name, many, receivers, one)
		}
	}
}
