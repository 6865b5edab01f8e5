// Package result is what a load run came to: figures that can be kept as JSON, merged with those of other processes,
// and held against thresholds.
package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// Result is the outcome of one run. Times are in seconds unless a name says otherwise.
type Result struct {
	Name     string            `json:"name"`
	Started  time.Time         `json:"started"`
	Elapsed  float64           `json:"elapsed"` // of measuring
	Stopped  bool              `json:"stopped"` // before its time
	Machine  Machine           `json:"machine"`
	Scenario scenario.Scenario `json:"scenario"`

	Latency map[string]*Latency `json:"latency"` // by measure.Kind
	Rates   Rates               `json:"rates"`
	Totals  map[string]int64    `json:"totals"` // of the whole run, warm-up included
	Truth   truth.Verdict       `json:"truth"`
	Errors  map[string]int64    `json:"errors"` // what went wrong, and how often

	Clocks  *Clocks  `json:"clocks,omitempty"`  // where several processes made the load
	Workers []Worker `json:"workers,omitempty"` // these

	Client    Client             `json:"client"`
	Processes []Process          `json:"processes,omitempty"`
	Metrics   map[string]float64 `json:"metrics,omitempty"` // of servers: the change of counters, the last value of others
	Series    []Second           `json:"series"`
}

// Machine is where the client ran.
type Machine struct {
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
}

// ThisMachine describes the machine of this process.
func ThisMachine() Machine {
	return Machine{runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), runtime.Version()}
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
	HDR   string  `json:"hdr,omitempty"` // all of it, in nanoseconds: HdrHistogram V2, compressed, base64

	histogram *hdrhistogram.Histogram
}

// NewLatency sums a histogram of nanoseconds up.
func NewLatency(h *hdrhistogram.Histogram) *Latency {
	l := &Latency{Count: h.TotalCount(), Mean: h.Mean() / 1e6, Max: milliseconds(h.Max()), histogram: h}
	l.P50, l.P90 = l.At(50), l.At(90)
	l.P99, l.P999 = l.At(99), l.At(99.9)
	return l
}

// At returns the latency in milliseconds that the given percentage did not exceed.
func (l *Latency) At(percentile float64) float64 {
	return milliseconds(l.histogram.ValueAtQuantile(percentile))
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

// MarshalJSON adds the whole distribution.
func (l *Latency) MarshalJSON() ([]byte, error) {
	b, err := l.histogram.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, err
	}
	type plain Latency
	p := plain(*l)
	p.HDR = string(b)
	return json.Marshal(p)
}

// UnmarshalJSON believes the distribution, not the figures made of it.
func (l *Latency) UnmarshalJSON(b []byte) error {
	type plain Latency
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	h, err := hdrhistogram.Decode([]byte(p.HDR))
	if err != nil {
		return fmt.Errorf("latency: hdr: %w", err)
	}
	*l = *NewLatency(h)
	return nil
}

// Latencies sums up every kind that was recorded.
func Latencies(h *measure.Histograms) map[string]*Latency {
	all := map[string]*Latency{}
	for k, one := range h {
		if one != nil && one.TotalCount() > 0 {
			all[measure.Kind(k).String()] = NewLatency(one)
		}
	}
	return all
}

// Rates are per second, while measuring.
type Rates struct {
	Sent      float64 `json:"sent"`
	Delivered float64 `json:"delivered"`
	Bytes     float64 `json:"bytes"` // received, frames and all
}

// Clocks says how far one can trust latencies that were taken on two processes' clocks: of messages from one to another.
type Clocks struct {
	Across     int64   `json:"across"` // deliveries timed so
	Early      int64   `json:"early"`  // of these, arrived before they were due; counted as if no time had passed
	ClockError float64 `json:"apart"`  // milliseconds by which two clocks may differ, in either direction
}

// Worker is one of several processes that made the load.
type Worker struct {
	Connections int     `json:"connections"`    // it was to open
	Offset      float64 `json:"offset"`         // milliseconds by which the coordinator's clock was ahead of its own
	ClockError  float64 `json:"apart"`          // milliseconds by which this may be wrong, in either direction
	Fate        string  `json:"fate,omitempty"` // why its part of the result is missing; empty: it is there
}

// Missing counts the workers whose part of the result is missing: nobody knows what their connections got.
func (r *Result) Missing() (n int64) {
	for _, w := range r.Workers {
		if w.Fate != "" {
			n++
		}
	}
	return n
}

// Client is how the load generator itself did.
type Client struct {
	Cores     float64  `json:"cores"`            // used, on average
	Available int      `json:"available"`        // cores it could have used
	RSS       int64    `json:"rss"`              // bytes, at most
	LateP99   float64  `json:"lateP99"`          // milliseconds after its time that something was sent
	WaitP99   float64  `json:"waitP99"`          // milliseconds that a goroutine waited for a core, so how late a receipt may be noted
	Limits    []string `json:"limits,omitempty"` // why the figures may be the client's rather than the server's
}

// Process is one that was watched.
type Process struct {
	Name          string  `json:"name"`
	Cores         float64 `json:"cores"`                   // used, on average
	RSS           int64   `json:"rss"`                     // bytes, at most
	PerDelivery   float64 `json:"perDelivery,omitempty"`   // microseconds of processor time per message delivered
	PerConnection int64   `json:"perConnection,omitempty"` // bytes of memory that opening the connections added, for each
}

// Second is one second of the run.
type Second struct {
	At          float64            `json:"at"` // of the run, at its end
	Measuring   bool               `json:"measuring"`
	Connections int64              `json:"connections"`
	Sent        int64              `json:"sent"`
	Delivered   int64              `json:"delivered"`
	Errors      int64              `json:"errors"`
	Latency     map[string]Quick   `json:"latency,omitempty"`
	ClientCores float64            `json:"clientCores"`
	Cores       map[string]float64 `json:"cores,omitempty"` // of processes
	RSS         map[string]int64   `json:"rss,omitempty"`   // bytes
}

// Quick is a distribution in short, in milliseconds.
type Quick struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Encode writes a result as JSON that starts and ends with a brace on a line of its own.
func (r *Result) Encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return nil
}

// Write keeps a result in a file.
func (r *Result) Write(file string) error {
	var b bytes.Buffer
	if err := r.Encode(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// Read reads a result that Write kept.
func Read(file string) (*Result, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s is not a result of chatr load: %w", file, err)
	}
	return &r, nil
}

// Kinds lists the kinds of latency that r has, in the order of measure.
func (r *Result) Kinds() []string {
	var kinds []string
	for k := range measure.Kinds {
		if r.Latency[k.String()] != nil {
			kinds = append(kinds, k.String())
		}
	}
	return kinds
}

// ErrorNames lists what went wrong, the most frequent first.
func (r *Result) ErrorNames() []string {
	return slices.SortedFunc(maps.Keys(r.Errors), func(a, b string) int {
		if d := r.Errors[b] - r.Errors[a]; d != 0 {
			return int(d)
		}
		return cmpString(a, b)
	})
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}
