package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/chatr-dev/chatr/pkg/load/result"
)

// plot is a diagram, laid out in the units of its picture.
type plot struct {
	Title, XName   string
	XTicks, YTicks []tick
	Curves         []curve
}

type tick struct {
	At   float64
	Text string
}

type curve struct {
	Name   string
	Color  int
	Points string
}

// line is a curve before it is laid out.
type line struct {
	name string
	x, y []float64
}

func (l *line) add(x, y float64) {
	if !math.IsNaN(y) {
		l.x, l.y = append(l.x, x), append(l.y, y)
	}
}

// The picture: 560 by 240, with room for the ticks' texts.
const (
	left, right, top, bottom = 52, 550, 10, 205
	colors                   = 8
)

// plots are all diagrams that the runs have something for.
func plots(runs []run) (all []plot) {
	add := func(title string, f func(s result.Second) float64) {
		all = appendPlot(all, overTime(title, runs, f))
	}
	for _, kind := range allKinds(runs) {
		all = appendPlot(all, byPercentile(kind, runs))
		all = appendPlot(all, latencyOverTime(kind, runs))
	}
	add("messages sent per second", func(s result.Second) float64 { return float64(s.Sent) })
	add("deliveries per second", func(s result.Second) float64 { return float64(s.Delivered) })
	add("connections", func(s result.Second) float64 { return float64(s.Connections) })
	add("errors in each second", func(s result.Second) float64 { return float64(s.Errors) })
	add("client: cores used", func(s result.Second) float64 { return s.ClientCores })
	for _, name := range processNames(runs) {
		add(name+": cores used", func(s result.Second) float64 { return known(s.Cores, name) })
		add(name+": memory, MB", func(s result.Second) float64 {
			if rss, ok := s.RSS[name]; ok {
				return float64(rss) / 1e6
			}
			return math.NaN()
		})
	}
	return all
}

func known(m map[string]float64, name string) float64 {
	if v, ok := m[name]; ok {
		return v
	}
	return math.NaN()
}

func appendPlot(all []plot, p *plot) []plot {
	if p == nil {
		return all
	}
	return append(all, *p)
}

func overTime(title string, runs []run, f func(s result.Second) float64) *plot {
	var lines []line
	for _, r := range runs {
		l := line{name: r.Label}
		for _, s := range r.Result.Series {
			l.add(s.At, f(s))
		}
		lines = append(lines, l)
	}
	return lay(plot{Title: title, XName: "seconds since the start"}, lines, linear, false)
}

func latencyOverTime(kind string, runs []run) *plot {
	var lines []line
	for _, r := range runs {
		p50, p99 := line{name: r.Label + " p50"}, line{name: r.Label + " p99"}
		for _, s := range r.Result.Series {
			if q, ok := s.Latency[kind]; ok {
				p50.add(s.At, q.P50)
				p99.add(s.At, q.P99)
			}
		}
		lines = append(lines, p50, p99)
	}
	return lay(plot{Title: kind + " over time, ms", XName: "seconds since the start"}, lines, linear, true)
}

// nines are percentages, each a step further into the tail.
var nines = []float64{0, 50, 90, 99, 99.9, 99.99, 99.999}

// nine maps a percentage so that each further nine takes the same room.
func nine(p float64) float64 { return -math.Log10(1 - min(p, 99.9999)/100) }

func byPercentile(kind string, runs []run) *plot {
	var lines []line
	most := 0.0
	for _, r := range runs {
		l := r.Result.Latency[kind]
		if l == nil {
			continue
		}
		curve := line{name: r.Label}
		end := nine(100 * (1 - 1/float64(l.Count+1)))
		most = max(most, end)
		const steps = 120
		for i := range steps + 1 {
			x := end * float64(i) / steps
			curve.add(x, l.At(100*(1-math.Pow(10, -x))))
		}
		lines = append(lines, curve)
	}
	ticks := func(float64) (all []tick) {
		for _, p := range nines {
			if x := nine(p); x <= most+1e-9 {
				all = append(all, tick{x, fmt.Sprintf("%g %%", p)})
			}
		}
		return all
	}
	return lay(plot{Title: kind + " by percentile, ms", XName: "this share took no longer"}, lines, ticks, true)
}

// lay lays lines out from 0 up; nil when there is nothing to show, or a single point. Values that range over more than two decades
// are shown on a logarithmic scale where that is allowed.
func lay(p plot, lines []line, xTicks func(most float64) []tick, logarithmic bool) *plot {
	mostX, mostY, leastY, longest := 0.0, 0.0, math.Inf(1), 0
	for _, l := range lines {
		longest = max(longest, len(l.x))
		for i := range l.x {
			mostX, mostY = max(mostX, l.x[i]), max(mostY, l.y[i])
			if l.y[i] > 0 {
				leastY = min(leastY, l.y[i])
			}
		}
	}
	if mostX == 0 || mostY == 0 || longest < 2 {
		return nil
	}
	y, yTicks := func(v float64) float64 { return v / mostY }, linear(mostY)
	if logarithmic && mostY/leastY > 100 {
		low, high := math.Floor(math.Log10(leastY)), math.Log10(mostY)
		y = func(v float64) float64 { return max((math.Log10(v)-low)/(high-low), 0) }
		yTicks = nil
		for e := low; e <= high; e++ {
			yTicks = append(yTicks, tick{math.Pow(10, e), num(math.Pow(10, e))})
		}
	}
	for _, t := range xTicks(mostX) {
		p.XTicks = append(p.XTicks, tick{round(left + t.At/mostX*(right-left)), t.Text})
	}
	for _, t := range yTicks {
		p.YTicks = append(p.YTicks, tick{round(bottom - y(t.At)*(bottom-top)), t.Text})
	}
	for i, l := range lines {
		var points strings.Builder
		for j := range l.x {
			fmt.Fprintf(&points, "%g,%g ", round(left+l.x[j]/mostX*(right-left)), round(bottom-y(l.y[j])*(bottom-top)))
		}
		if len(l.x) > 0 {
			p.Curves = append(p.Curves, curve{l.name, i % colors, strings.TrimSpace(points.String())})
		}
	}
	return &p
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// linear are about five ticks at round numbers from 0 to most.
func linear(most float64) (ticks []tick) {
	step := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, f := range []float64{5, 2} {
		if most/(step*f) >= 3 {
			step *= f
			break
		}
	}
	for i := 0; float64(i)*step <= most*1.0001; i++ {
		ticks = append(ticks, tick{float64(i) * step, num(math.Round(float64(i)*step*1e9) / 1e9)})
	}
	return ticks
}
