package measure

import (
	"math"
	"runtime/metrics"
	"time"
)

// Waits is how long goroutines of this process have waited for a processor since it started.
type Waits struct {
	counts  []uint64
	buckets []float64 // their edges, in seconds
}

// ReadWaits asks the Go runtime.
func ReadWaits() Waits {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	return Waits{append([]uint64(nil), h.Counts...), h.Buckets}
}

// P99 returns the 99th percentile of the waits since earlier.
func (w Waits) P99(earlier Waits) time.Duration {
	var total uint64
	for i, n := range w.counts {
		total += n - earlier.counts[i]
	}
	if total == 0 {
		return 0
	}
	rest := total / 100
	for i := len(w.counts) - 1; i >= 0; i-- {
		n := w.counts[i] - earlier.counts[i]
		if n > rest {
			edge := w.buckets[i+1]
			if math.IsInf(edge, 1) {
				edge = w.buckets[i]
			}
			return time.Duration(edge * float64(time.Second))
		}
		rest -= n
	}
	return 0
}
