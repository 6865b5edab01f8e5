package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// sample is a result whose latencies are factor times those of another.
func sample(name string, factor int) *result.Result {
	h := measure.NewHistogram()
	for i := range 10_000 {
		_ = h.RecordValue(int64(i+1) * int64(factor) * int64(time.Microsecond))
	}
	r := &result.Result{
		Name: name, Latency: map[string]*result.Latency{"ack": result.NewLatency(h)}, Truth: truth.Verdict{Due: 5000, Lost: 3, Examples: []string{"ben never got 3"}},
		Errors: map[string]int64{"REST: 429 <Throttled>": 7}, Totals: map[string]int64{"ready": 10}, Metrics: map[string]float64{"gateway_messages_delivered_total": 12345},
		Processes: []result.Process{{Name: "gateway", Cores: 0.5, RSS: 50e6}}, Client: result.Client{Available: 2, Limits: []string{"the client used 1.9 of its 2 cores"}},
	}
	for i := range 5 {
		r.Series = append(r.Series, result.Second{At: float64(i + 1), Sent: int64(i * 100), Delivered: 900, Connections: 10,
			Latency: map[string]result.Quick{"ack": {P50: float64(factor), P99: math.Pow(10, float64(i))}}, Cores: map[string]float64{"gateway": 0.5}, RSS: map[string]int64{"gateway": 50e6}})
	}
	return r
}

func render(t *testing.T, results ...*result.Result) string {
	t.Helper()
	var b bytes.Buffer
	if err := Page(&b, results...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageNeedsNothingElse(t *testing.T) {
	text := render(t, sample("one", 1))
	for _, bad := range []string{"<script", "src=", "href=", "@import", "url(", "ZgotmplZ", "NaN"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, want := range []string{"ack by percentile, ms", "ack over time, ms", "gateway: memory, MB", "deliveries per second", `class="bad">3<`, "ben never got 3",
		"the client used 1.9 of its 2 cores", "REST: 429 &lt;Throttled&gt;", "12\u202f345", "<polyline"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// shared is a result of three workers, of which the second is missing.
func shared() *result.Result {
	r := sample("shared", 1)
	r.Clocks = &result.Clocks{Across: 4321, Early: 7, ClockError: 0.25}
	r.Workers = []result.Worker{{Connections: 4}, {Connections: 5, Fate: "it <ended>"}, {Connections: 6}}
	r.Totals["planned"], r.Truth.Unjudged = 10, 99
	return r
}

func TestWorkersAreTold(t *testing.T) {
	page := render(t, shared(), sample("alone", 1))
	for _, want := range []string{"shared: worker 2 is missing: it &lt;ended&gt;; nobody knows what its 5 connections got", "4\u202f321", "0.25", `class="bad">1<`, `class="bad">99<`, "–"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(render(t, sample("alone", 1)), "one worker to another") {
		t.Error("the page of one process tells of workers")
	}
	var b bytes.Buffer
	Summary(&b, shared())
	for _, want := range []string{"10 of 15 connections ready", "4321 deliveries from one worker to another, timed to ± 250µs; 7 of them arrived before they were due",
		"99 made that nobody can judge", "MISSING    worker 2: it <ended>; nobody knows what its 5 connections got"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, &b)
		}
	}
}

func TestPictureStaysInsideItsFrame(t *testing.T) {
	for _, p := range plots(label([]*result.Result{sample("one", 1), sample("two", 3000)})) {
		if len(p.Curves) == 0 || len(p.XTicks) < 2 || len(p.YTicks) < 2 || len(p.YTicks) > 12 {
			t.Errorf("%s: got %d curves, %d and %d ticks", p.Title, len(p.Curves), len(p.XTicks), len(p.YTicks))
		}
		for _, c := range p.Curves {
			for _, xy := range strings.Fields(c.Points) {
				var x, y float64
				if n, err := fmt.Sscanf(xy, "%g,%g", &x, &y); n != 2 || err != nil || x < left || x > right || y < top || y > bottom {
					t.Fatalf("%s: point %s of %s is outside", p.Title, xy, c.Name)
				}
			}
		}
	}
}

func TestNamesAreText(t *testing.T) {
	text := render(t, sample(`<b onclick="x">`, 1))
	if strings.Contains(text, "<b onclick") {
		t.Error("a name became an element")
	}
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
	}
}

func TestRunsAreCompared(t *testing.T) {
	text := render(t, sample("same", 1), sample("same", 2))
	for _, want := range []string{"2 runs compared", "same (2)", "(×2.00)", "ack, same"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestNum(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12: "12", 1234567: "1\u202f234\u202f567", -1000: "-1\u202f000", 0.01234: "0.0123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.5: "1\u202f235", math.NaN(): "–"} {
		if got := num(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

func TestLiveWritesLinesWhereThereIsNoTerminal(t *testing.T) {
	var b bytes.Buffer
	live := NewLive(&b)
	live.Show(drive.Progress{Phase: "measure", Of: time.Second, Ready: 5, Wanted: 10, Problem: "REST: 429", Second: result.Second{At: 1.5, Sent: 100, Errors: 2, Latency: map[string]result.Quick{"ack": {P50: 0.5, P99: 12}}}})
	live.Show(drive.Progress{Phase: "settle"})
	want := "   1.5s measure  5/10 ready  sent 100/s  delivered 0/s  errors 2/s  client 0.00 cores  ack p50 500µs p99 12.0ms  mostly: REST: 429\n"
	if got, _, _ := strings.Cut(b.String(), "   0.0s"); got != want || strings.Contains(b.String(), "\x1b") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLiveDrawsOverItselfOnATerminal(t *testing.T) {
	var b bytes.Buffer
	live := &Live{out: &b, terminal: true}
	live.Show(drive.Progress{Phase: "connect", Ready: 5, Wanted: 10})
	first := b.String()
	live.Show(drive.Progress{Phase: "connect", Ready: 10, Wanted: 10})
	second := strings.TrimPrefix(b.String(), first)
	if !strings.Contains(first, " 50 %") || !strings.HasPrefix(second, "\x1b[3A\x1b[J") || !strings.Contains(second, "100 %") {
		t.Errorf("got %q, then %q", first, second)
	}
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	Summary(&b, sample("one", 1))
	for _, want := range []string{"3 lost, 0 doubled", "CAUTION: the client", "7 × REST: 429", "ack             10000     5.0ms"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, &b)
		}
	}
}
