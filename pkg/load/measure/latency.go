// Package measure takes the figures of a load run: latencies, the use of processes, and metrics of servers.
package measure

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Kind is what a latency is of.
type Kind uint8

// The kinds of latency. All but Connect, Join and Late count from the moment the request was due, not from when it
// was sent: waiting in the client is waiting.
const (
	Connect   Kind = iota // from dialling to the connected message (or the handshake's end)
	Join                  // from asking to join to the ack
	Ack                   // from a message to its ack
	OneWay                // from a message to its arrival at another connection
	RoundTrip             // from a message to its arrival at its own sender
	REST                  // from a REST call to its answer
	Event                 // from an event or invocation to its answer
	Late                  // from when something was due to when this client did it
	Kinds
)

var kindNames = [Kinds]string{"connect", "join", "ack", "oneway", "roundtrip", "rest", "event", "late"}

// String is the name used in results and thresholds.
func (k Kind) String() string { return kindNames[k] }

const (
	leastLatency = 1_000                   // nanoseconds that are told apart
	mostLatency  = int64(10 * time.Minute) // longer ones are counted as this
	digits       = 3
)

// NewHistogram returns an empty histogram of nanoseconds.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(leastLatency, mostLatency, digits)
}

// Histograms is one of each kind; nil where nothing was recorded.
type Histograms [Kinds]*hdrhistogram.Histogram

// Add adds the values of other.
func (h *Histograms) Add(other *Histograms) {
	for k, o := range other {
		if o == nil {
			continue
		}
		if h[k] == nil {
			h[k] = NewHistogram()
		}
		h[k].Merge(o)
	}
}

const shards = 8

// Recorder takes latencies from many goroutines.
type Recorder struct{ shards [shards]shard }

type shard struct {
	mu sync.Mutex // guards h
	h  Histograms
	_  [64]byte // of another cache line
}

// Record adds a latency. Callers with different seats seldom wait for each other.
func (r *Recorder) Record(seat int, k Kind, d time.Duration) {
	s := &r.shards[seat%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h[k] == nil {
		s.h[k] = NewHistogram()
	}
	_ = s.h[k].RecordValue(min(max(int64(d), 0), mostLatency)) // in range, so it cannot fail
}

// Take returns what was recorded since the last time.
func (r *Recorder) Take() *Histograms {
	var all Histograms
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		taken := s.h
		s.h = Histograms{}
		s.mu.Unlock()
		all.Add(&taken)
	}
	return &all
}
