package hub

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/protocol"
)

// BenchmarkSlowReceiver is what a receiver that takes nothing costs the others of its group of 1,000: processor time, and
// the time after which all others have a message, each as a ratio to the group without it. Rounds with and without it
// take turns. It is not slow enough to be closed for it while it is measured.
func BenchmarkSlowReceiver(b *testing.B) {
	const receivers = 1000
	f := newFanOut(b, protocol.JSON, receivers)
	var alone, beside cost
	for b.Loop() {
		alone.add(f)
		slow, client := f.connect("slow", protocol.JSON)
		large := message(strings.Repeat("x", 64<<10), MessageOptions{})
		for range 200 { // more than the kernel keeps for it, less than may wait
			f.Send(slow, large)
		}
		<-f.written()
		if slow.outbox == nil {
			b.Fatal("got a receiver that keeps up, want a slow one")
		}
		beside.add(f)
		f.Close(slow, ReasonRequested.Closing(""))
		_ = client.CloseNow()
		<-f.gone
	}
	b.ReportMetric(float64(beside.cpu)/float64(alone.cpu), "cpu-ratio")
	b.ReportMetric(float64(beside.p99())/float64(alone.p99()), "p99-ratio")
	b.ReportMetric(float64(alone.cpu.Nanoseconds())/float64(len(alone.times)*receivers), "cpu-ns/delivery")
}

// cost is what messages to a group have taken.
type cost struct {
	cpu   time.Duration
	times []time.Duration // until the writer was done with one
}

// add sends some messages, one after another.
func (c *cost) add(f *fanOut) {
	before := measure.OwnCPU()
	for range 500 {
		start := time.Now()
		f.Deliver("list", message("x", MessageOptions{}))
		<-f.written()
		c.times = append(c.times, time.Since(start))
	}
	c.cpu += measure.OwnCPU() - before
}

func (c *cost) p99() time.Duration {
	slices.Sort(c.times)
	return c.times[len(c.times)*99/100]
}
