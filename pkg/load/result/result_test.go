package result

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// acks is a latency of 1 to n milliseconds.
func acks(n int) *Latency {
	h := measure.NewHistogram()
	for i := range n {
		_ = h.RecordValue(int64(i+1) * int64(time.Millisecond))
	}
	return NewLatency(h)
}

func TestFileKeepsTheDistribution(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	r := &Result{Name: "a", Latency: map[string]*Latency{"ack": acks(1000)}, Errors: map[string]int64{"x": 2}}
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.Latency["ack"], got.Latency["ack"]
	for _, p := range []float64{1, 50, 99, 99.95, 100} {
		if a.At(p) != b.At(p) {
			t.Errorf("p%g: got %v, want %v", p, b.At(p), a.At(p))
		}
	}
	if b.Count != 1000 || b.P99 < 985 || b.P99 > 995 || got.Errors["x"] != 2 {
		t.Errorf("got %+v", b)
	}
}

func TestReadRefusesOtherFiles(t *testing.T) {
	if _, err := Read("result_test.go"); err == nil || !strings.Contains(err.Error(), "is not a result of chatr load") {
		t.Errorf("got %v, want that it is no result", err)
	}
	var l Latency
	if err := json.Unmarshal([]byte(`{"count":1,"hdr":"nonsense"}`), &l); err == nil {
		t.Error("a broken distribution is no error")
	}
}

func TestThresholds(t *testing.T) {
	r := &Result{
		Latency: map[string]*Latency{"ack": acks(100)}, Truth: truth.Verdict{Lost: 1}, Errors: map[string]int64{"a": 2, "b": 1},
		Rates: Rates{Delivered: 500}, Totals: map[string]int64{"ready": 10}, Workers: []Worker{{Connections: 3}, {Connections: 2, Fate: "gone"}},
	}
	r.Truth.Unjudged = 4
	tests := map[string]bool{
		"lost>0": true, "lost>1": false, "lost>=1": true, "doubled>0": false, "faults>0": true, "errors>2": true, "ready<11": true, "missing>0": true, "missing>1": false, "unjudged>=4": true, "unjudged>4": false,
		"ack.p50>49ms": true, "ack.p50>51ms": false, "ack.p99.9<1s": true, "ack.max>=100ms": true, "ack.mean<=51ms": true, "ack.p99>50000us": true,
		"delivered.rate<500": false, "delivered.rate <= 500": true, "oneway.p99>1h": true, // not measured
	}
	for text, want := range tests {
		c, err := ParseThreshold(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, why := c.Check(r); got != want || !strings.HasPrefix(why, strings.TrimSpace(text)) {
			t.Errorf("%s: got %v, %q, want %v", text, got, why, want)
		}
	}
}

func TestBadThresholds(t *testing.T) {
	for _, text := range []string{"", "ack", "ack.p99", "ack.p99>fast", "ack.p101>1ms", "ack.p>1ms", "acc.p99>1ms", "lost>many", "lost=0", "lost>NaN", "ack>1ms", "ack.>1ms"} {
		if c, err := ParseThreshold(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, c)
		}
	}
}

func TestMerge(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	low := &Result{
		Name: "one", Started: start, Elapsed: 10, Latency: map[string]*Latency{"ack": acks(100), "late": acks(10)}, Rates: Rates{Sent: 10, Delivered: 100},
		Totals: map[string]int64{"ready": 5}, Errors: map[string]int64{"x": 1}, Truth: truth.Verdict{Due: 100, Lost: 1, Examples: []string{"a"}},
		Client:    Client{Cores: 0.5, Available: 2, WaitP99: 3, Limits: []string{"full"}},
		Processes: []Process{{Name: "gateway", Cores: 1, PerDelivery: 10_000, PerConnection: 3000}}, Metrics: map[string]float64{"m": 4},
		Clocks: &Clocks{Across: 10, Early: 1, ClockError: 0.5},
		Series: []Second{{At: 0.6, Sent: 9}, {At: 1, Sent: 10, Connections: 5, Latency: map[string]Quick{"ack": {P50: 1, P99: 9}}}, {At: 2.01, Sent: 11}},
	}
	high := &Result{
		Name: "two", Started: start.Add(-100 * time.Millisecond), Elapsed: 11, Latency: map[string]*Latency{"ack": acks(1000)}, Rates: Rates{Sent: 20, Delivered: 300},
		Totals: map[string]int64{"ready": 10}, Errors: map[string]int64{"x": 2, "y": 1}, Truth: truth.Verdict{Due: 50, Doubled: 2, Unjudged: 3}, Stopped: true,
		Clocks: &Clocks{Across: 20, ClockError: 0.75},
		Client: Client{Cores: 1, Available: 2, WaitP99: 1}, Series: []Second{{At: 1.1, Sent: 20, Connections: 10, Latency: map[string]Quick{"ack": {P50: 2, P99: 3}}}},
	}
	got := Merge([]*Result{low, high})
	if l := got.Latency["ack"]; l.Count != 1100 || l.Max < 999 || l.P50 < 440 || l.P50 > 460 {
		t.Errorf("acks: got %+v, want those of both", l)
	}
	if got.Rates.Sent != 30 || got.Totals["ready"] != 15 || got.Errors["x"] != 3 || got.Truth.Due != 150 || got.Truth.Faults() != 3 || !got.Stopped || got.Elapsed != 11 {
		t.Errorf("got %+v", got)
	}
	if want := (Clocks{Across: 30, Early: 1, ClockError: 0.75}); got.Clocks == nil || *got.Clocks != want || got.Truth.Unjudged != 3 || low.Clocks.Across != 10 {
		t.Errorf("clocks: got %+v, %d unjudged; want %+v and 3", got.Clocks, got.Truth.Unjudged, want)
	}
	if c := got.Client; c.Cores != 1.5 || c.Available != 4 || c.WaitP99 != 3 || c.LateP99 != got.Latency["late"].P99 || len(c.Limits) != 1 || c.Limits[0] != "one: full" {
		t.Errorf("client: got %+v", c)
	}
	if p := got.Processes[0]; p.PerDelivery != 2500 || p.PerConnection != 1000 || got.Metrics["m"] != 4 {
		t.Errorf("process: got %+v, want it shared by all deliveries and connections", p)
	}
	if len(got.Series) != 2 || got.Series[0].Sent != 30 || got.Series[0].Connections != 15 || got.Series[0].Latency["ack"] != (Quick{2, 9, 0}) || got.Series[1].Sent != 11 {
		t.Errorf("series: got %+v", got.Series)
	}
	if got.Started != high.Started {
		t.Errorf("started: got %v, want the earlier", got.Started)
	}
}
