package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/load/result"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"num": num, "inc": func(i int) int { return i + 1 }}).Parse(pageText))

// Page writes one or more results as an HTML page that needs nothing but itself: no script, no font, no network.
func Page(out io.Writer, results ...*result.Result) error {
	runs := label(results)
	view := struct {
		Title     string
		Runs      []run
		Facts     []row
		Latencies []latencyRow
		Plots     []plot
		Metrics   []row
	}{Title: "Load: " + results[0].Name, Runs: runs, Facts: facts(runs), Latencies: latencies(runs), Plots: plots(runs), Metrics: metrics(runs)}
	if len(runs) > 1 {
		view.Title = fmt.Sprintf("Load: %d runs compared", len(runs))
	}
	return page.Execute(out, view)
}

// run is a result with a name that no other has.
type run struct {
	Label    string
	Result   *result.Result
	Scenario string
}

func label(results []*result.Result) []run {
	seen := map[string]int{}
	runs := make([]run, len(results))
	for i, r := range results {
		name := r.Name
		if seen[r.Name]++; seen[r.Name] > 1 {
			name = fmt.Sprintf("%s (%d)", r.Name, seen[r.Name])
		}
		scenario, _ := json.MarshalIndent(r.Scenario, "", "  ") // plain values only, so it cannot fail
		runs[i] = run{name, r, string(scenario)}
	}
	return runs
}

// row is a line of a table with a value for each run.
type row struct {
	Name   string
	Values []value
}

type value struct{ Text, Class string }

// facts are what to look at first.
func facts(runs []run) []row {
	var rows []row
	add := func(name string, f func(r *result.Result) value) {
		row := row{Name: name}
		for _, r := range runs {
			row.Values = append(row.Values, f(r.Result))
		}
		rows = append(rows, row)
	}
	number := func(name string, f func(r *result.Result) float64) {
		add(name, func(r *result.Result) value { return value{Text: num(f(r))} })
	}
	fault := func(name string, f func(r *result.Result) int64) {
		add(name, func(r *result.Result) value {
			v := value{num(float64(f(r))), "good"}
			if f(r) > 0 {
				v.Class = "bad"
			}
			return v
		})
	}
	number("messages sent per second", func(r *result.Result) float64 { return r.Rates.Sent })
	number("deliveries per second", func(r *result.Result) float64 { return r.Rates.Delivered })
	number("received, MB per second", func(r *result.Result) float64 { return r.Rates.Bytes / 1e6 })
	number("deliveries due", func(r *result.Result) float64 { return float64(r.Truth.Due) })
	fault("lost", func(r *result.Result) int64 { return r.Truth.Lost })
	fault("doubled", func(r *result.Result) int64 { return r.Truth.Doubled })
	fault("reordered", func(r *result.Result) int64 { return r.Truth.Reordered })
	fault("stray", func(r *result.Result) int64 { return r.Truth.Stray })
	if slices.ContainsFunc(runs, func(r run) bool { return len(r.Result.Workers) > 0 }) {
		fault("workers missing", func(r *result.Result) int64 { return r.Missing() })
		fault("deliveries that nobody can judge", func(r *result.Result) int64 { return r.Truth.Unjudged })
		clocks := func(name string, f func(c *result.Clocks) float64) {
			number(name, func(r *result.Result) float64 {
				if r.Clocks == nil {
					return math.NaN()
				}
				return f(r.Clocks)
			})
		}
		clocks("deliveries from one worker to another", func(c *result.Clocks) float64 { return float64(c.Across) })
		clocks("their latency is true to ±, ms", func(c *result.Clocks) float64 { return c.ClockError })
		clocks("arrived before they were due, by the clocks", func(c *result.Clocks) float64 { return float64(c.Early) })
	}
	fault("refused", func(r *result.Result) int64 { return r.Truth.Refused })
	fault("unanswered", func(r *result.Result) int64 { return r.Truth.Unanswered })
	fault("errors", func(r *result.Result) (n int64) {
		for _, c := range r.Errors {
			n += c
		}
		return n
	})
	number("client, cores", func(r *result.Result) float64 { return r.Client.Cores })
	for _, name := range processNames(runs) {
		process := func(what string, f func(p result.Process) float64) {
			number(name+", "+what, func(r *result.Result) float64 {
				for _, p := range r.Processes {
					if p.Name == name {
						return f(p)
					}
				}
				return math.NaN()
			})
		}
		process("cores", func(p result.Process) float64 { return p.Cores })
		process("MB at most", func(p result.Process) float64 { return float64(p.RSS) / 1e6 })
		process("µs of processor per delivery", func(p result.Process) float64 { return p.PerDelivery })
		process("KB per connection", func(p result.Process) float64 { return float64(p.PerConnection) / 1e3 })
	}
	return rows
}

func processNames(runs []run) (names []string) {
	for _, r := range runs {
		for _, p := range r.Result.Processes {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

type latencyRow struct {
	Name  string
	Cells []string
}

// latencies has a line for each kind and run, so that runs stand below each other.
func latencies(runs []run) (rows []latencyRow) {
	for _, kind := range allKinds(runs) {
		var base *result.Latency
		for _, r := range runs {
			l := r.Result.Latency[kind]
			if l == nil {
				continue
			}
			name := kind
			if len(runs) > 1 {
				name += ", " + r.Label
			}
			row := latencyRow{Name: name, Cells: []string{num(float64(l.Count))}}
			for _, f := range []func(l *result.Latency) float64{
				func(l *result.Latency) float64 { return l.Mean }, func(l *result.Latency) float64 { return l.P50 },
				func(l *result.Latency) float64 { return l.P90 }, func(l *result.Latency) float64 { return l.P99 },
				func(l *result.Latency) float64 { return l.P999 }, func(l *result.Latency) float64 { return l.Max },
			} {
				text := num(f(l))
				if base != nil && f(base) > 0 {
					text += fmt.Sprintf(" (×%.2f)", f(l)/f(base))
				}
				row.Cells = append(row.Cells, text)
			}
			if base == nil {
				base = l
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func allKinds(runs []run) (kinds []string) {
	for _, r := range runs {
		for _, k := range r.Result.Kinds() {
			if !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}

func metrics(runs []run) (rows []row) {
	names := map[string]bool{}
	for _, r := range runs {
		for name := range r.Result.Metrics {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := row{Name: name}
		for _, r := range runs {
			v, ok := r.Result.Metrics[name]
			if !ok {
				v = math.NaN()
			}
			row.Values = append(row.Values, value{Text: num(v)})
		}
		rows = append(rows, row)
	}
	return rows
}

// num writes a number for people: three digits that count, or whole.
func num(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v) || a >= 1000:
		return grouped(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// grouped writes a whole number with a thin space between thousands.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign, digits := strings.TrimRight(digits, "0123456789"), strings.TrimLeft(digits, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return sign + digits
}
