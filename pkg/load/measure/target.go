package measure

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Target is something whose use of a machine is watched: a process on this one, by its PID, or any that serves
// Prometheus' process metrics, by their URL.
type Target struct {
	Name string
	pid  int
	url  string
}

// ParseTarget reads "4711", "gateway=4711", "http://host:9090/metrics" or "gateway=http://host:9090/metrics".
func ParseTarget(s string) (Target, error) {
	name, what, named := strings.Cut(s, "=")
	if !named || strings.HasPrefix(s, "http") {
		name, what = s, s
	}
	if strings.HasPrefix(what, "http://") || strings.HasPrefix(what, "https://") {
		return Target{Name: name, url: what}, nil
	}
	pid, err := strconv.Atoi(what)
	if err != nil || pid <= 0 {
		return Target{}, fmt.Errorf("%q is neither the number of a process nor the URL of metrics", s)
	}
	if !named {
		name = "pid " + what
	}
	return Target{Name: name, pid: pid}, nil
}

// Usage asks the target. The metrics are nil for a process on this machine.
func (t Target) Usage(ctx context.Context) (u Usage, metrics map[string]float64, err error) {
	if t.pid != 0 {
		u, err = ProcessUsage(t.pid)
		return u, nil, err
	}
	metrics, err = Scrape(ctx, t.url)
	seconds := metrics["process_cpu_seconds_total"]
	return Usage{CPU: time.Duration(seconds * float64(time.Second)), RSS: int64(metrics["process_resident_memory_bytes"])}, metrics, err
}
