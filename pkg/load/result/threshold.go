package result

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
)

// Threshold is a condition under which a run has failed, such as "ack.p99>50ms" or "lost>0".
type Threshold struct {
	text  string
	name  string
	op    string
	value float64 // milliseconds for latencies
}

var thresholdForm = regexp.MustCompile(`^\s*([a-z]+)(?:\.([a-z0-9.]+))?\s*(>=|<=|>|<)\s*([^\s<>=]+)\s*$`)

// counts are the names without a point.
var counts = map[string]func(r *Result) float64{
	"lost":       func(r *Result) float64 { return float64(r.Truth.Lost) },
	"doubled":    func(r *Result) float64 { return float64(r.Truth.Doubled) },
	"reordered":  func(r *Result) float64 { return float64(r.Truth.Reordered) },
	"stray":      func(r *Result) float64 { return float64(r.Truth.Stray) },
	"faults":     func(r *Result) float64 { return float64(r.Truth.Faults()) },
	"refused":    func(r *Result) float64 { return float64(r.Truth.Refused) },
	"unanswered": func(r *Result) float64 { return float64(r.Truth.Unanswered) },
	"unsent":     func(r *Result) float64 { return float64(r.Totals["unsent"]) },
	"ready":      func(r *Result) float64 { return float64(r.Totals["ready"]) },
	"errors": func(r *Result) (n float64) {
		for _, c := range r.Errors {
			n += float64(c)
		}
		return n
	},
	"unjudged": func(r *Result) float64 { return float64(r.Truth.Unjudged) },
	"missing":  func(r *Result) float64 { return float64(r.Missing()) },
	"limits":   func(r *Result) float64 { return float64(len(r.Client.Limits)) },
}

// figures are the names with a point that are not latencies.
var figures = map[string]func(r *Result) float64{
	"sent.rate":      func(r *Result) float64 { return r.Rates.Sent },
	"delivered.rate": func(r *Result) float64 { return r.Rates.Delivered },
	"client.cores":   func(r *Result) float64 { return r.Client.Cores },
}

// ParseThreshold reads a condition.
func ParseThreshold(s string) (Threshold, error) {
	parts := thresholdForm.FindStringSubmatch(s)
	if parts == nil {
		return Threshold{}, fmt.Errorf("%q is not a condition like ack.p99>50ms or lost>0", s)
	}
	t := Threshold{text: strings.TrimSpace(s), name: parts[1], op: parts[3]}
	if parts[2] != "" {
		t.name += "." + parts[2]
	}
	if figures[t.name] != nil || counts[t.name] != nil {
		n, err := strconv.ParseFloat(parts[4], 64)
		if err != nil || math.IsNaN(n) {
			return t, fmt.Errorf("%q: %q is not a number", s, parts[4])
		}
		t.value = n
		return t, nil
	}
	if _, ok := percentile(parts[2]); !ok || !isKind(parts[1]) {
		return t, fmt.Errorf("%q: there is no %s; conditions are about %s with .p50, .p99.9, .mean or .max, and about %s", s, t.name, kinds(), names())
	}
	d, err := time.ParseDuration(parts[4])
	if err != nil {
		return t, fmt.Errorf("%q: %q is not a duration like 50ms", s, parts[4])
	}
	t.value = float64(d) / 1e6
	return t, nil
}

// percentile reads p99.9, max or mean; the latter two are above 100.
func percentile(s string) (p float64, ok bool) {
	switch {
	case s == "max" || s == "mean":
		return 101, true
	case strings.HasPrefix(s, "p"):
		p, err := strconv.ParseFloat(s[1:], 64)
		return p, err == nil && p >= 0 && p <= 100
	}
	return 0, false
}

func isKind(s string) bool { return strings.Contains(" "+kinds()+",", " "+s+",") }

func kinds() string {
	var all []string
	for k := range measure.Kinds {
		all = append(all, k.String())
	}
	return strings.Join(all, ", ")
}

func names() string {
	return "lost, doubled, reordered, stray, faults, refused, unanswered, unsent, ready, errors, unjudged, missing, limits, sent.rate, delivered.rate, client.cores"
}

// String returns the condition as it was given.
func (t Threshold) String() string { return t.text }

// Check reports whether the condition is met, and why in words. What was not measured cannot be judged, and so has
// failed.
func (t Threshold) Check(r *Result) (failed bool, why string) {
	got, unit := 0.0, ""
	switch {
	case counts[t.name] != nil:
		got = counts[t.name](r)
	case figures[t.name] != nil:
		got = figures[t.name](r)
	default:
		kind, what, _ := strings.Cut(t.name, ".")
		l := r.Latency[kind]
		if l == nil {
			return true, fmt.Sprintf("%s: no %s latency was measured", t.text, kind)
		}
		got, unit = l.figure(what), " ms"
	}
	switch t.op {
	case ">":
		failed = got > t.value
	case ">=":
		failed = got >= t.value
	case "<":
		failed = got < t.value
	case "<=":
		failed = got <= t.value
	}
	return failed, fmt.Sprintf("%s: it is %.6g%s", t.text, got, unit)
}

func (l *Latency) figure(what string) float64 {
	switch what {
	case "max":
		return l.Max
	case "mean":
		return l.Mean
	}
	p, _ := percentile(what) // parsed before
	return l.At(p)
}
