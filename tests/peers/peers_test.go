package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/tests/topology"
)

// TestCompare plays scenarios of each form once, at a scale that shows only that it works: each phase has a result and no
// delivery is missing. How long anything takes is not asked.
func TestCompare(t *testing.T) {
	tools := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(tools, "floor"), "./floor").CombinedOutput(); err != nil {
		t.Fatalf("build the floor: %v\n%s", err, out)
	}
	o := options{chatr: topology.Binary(t), tools: tools, scripts: ".", rounds: 1, small: true,
		warm: 20 * time.Millisecond, phase: 50 * time.Millisecond}
	servers := []string{"chatr", "chatr-reliable", "chatr-protobuf", "floor"}
	var log bytes.Buffer
	results, err := compare(o, servers, []string{"S1", "S2", "S3", "S5c"}, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for _, r := range results {
		if r.Missing != 0 || r.PerSecond == 0 {
			t.Errorf("got %+v, want nothing missing and something delivered", r)
		}
	}
	// Connecting, the closed loop and the fixed rate of three scenarios; connecting and idling of S3.
	if got, want := len(results), len(servers)*(3*3+2); got != want {
		t.Errorf("got %d results, want %d\n%s", got, want, &log)
	}
	var table bytes.Buffer
	printTable(&table, results)
	for _, want := range []string{"### S1 max", "### S3 idle", "### S5c rate", "| chatr-reliable |", "| µs | min–max | / floor |"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
}

func TestTableHasRatiosOfMedians(t *testing.T) {
	var results []result
	for i, cpu := range []float64{3, 9, 5} {
		results = append(results, result{Server: "chatr", Scenario: "S1", Phase: "max", CPU: cpu},
			result{Server: "other", Scenario: "S1", Phase: "max", CPU: []float64{4, 1, 2}[i], Missing: 1})
	}
	var b bytes.Buffer
	printTable(&b, results)
	for _, want := range []string{"| chatr | 5.00 | 3.00–9.00 | 2.50 |", "| other | 2.00 | 1.00–4.00 | 1.00 |", "| 3 |\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant it to have %q", &b, want)
		}
	}
}

func TestLatenciesArePercentiles(t *testing.T) {
	var l latencies
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Microsecond)
	}
	p50, p99 := l.take()
	if !near(p50, 500*time.Microsecond) || !near(p99, 990*time.Microsecond) {
		t.Errorf("got %v and %v, want about 500µs and 990µs", p50, p99)
	}
	if p50, p99 := l.take(); p50 != 0 || p99 != 0 {
		t.Errorf("got %v and %v of nothing, want 0", p50, p99)
	}
}

func near(got, want time.Duration) bool { return got > want*15/16-1 && got <= want }
