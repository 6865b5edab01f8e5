package result

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/chatr-dev/chatr/pkg/load/measure"
)

// Merge makes one result of those of several processes that carried out one plan, each with connections of its own. What
// can be added is added, distributions included. In the series, latencies are those of the process that had it worst
// in each second.
func Merge(parts []*Result) *Result {
	first := parts[0]
	all := &Result{
		Name: first.Name, Started: first.Started, Machine: first.Machine, Scenario: first.Scenario,
		Latency: map[string]*Latency{}, Totals: map[string]int64{}, Errors: map[string]int64{}, Metrics: map[string]float64{},
	}
	for _, p := range parts {
		if p.Started.Before(all.Started) {
			all.Started = p.Started
		}
		all.Elapsed = max(all.Elapsed, p.Elapsed)
		all.Stopped = all.Stopped || p.Stopped
		all.Truth.Add(p.Truth)
		all.Rates.Sent += p.Rates.Sent
		all.Rates.Delivered += p.Rates.Delivered
		all.Rates.Bytes += p.Rates.Bytes
		add(all.Totals, p.Totals)
		add(all.Errors, p.Errors)
		maps.Copy(all.Metrics, p.Metrics) // one process alone has watched servers
		all.Client.add(p)
		all.addClocks(p.Clocks)
	}
	for k := range measure.Kinds {
		if l := mergeLatency(k.String(), parts); l != nil {
			all.Latency[k.String()] = l
		}
	}
	if late := all.Latency[measure.Late.String()]; late != nil {
		all.Client.LateP99 = late.P99
	}
	for _, p := range parts {
		for _, w := range p.Processes {
			all.Processes = append(all.Processes, all.shared(w, p))
		}
	}
	all.Series = mergeSeries(parts)
	return all
}

func add(sum, more map[string]int64) {
	for k, n := range more {
		sum[k] += n
	}
}

func (r *Result) addClocks(c *Clocks) {
	switch {
	case c == nil:
	case r.Clocks == nil:
		sum := *c
		r.Clocks = &sum
	default:
		r.Clocks.Across += c.Across
		r.Clocks.Early += c.Early
		r.Clocks.ClockError = max(r.Clocks.ClockError, c.ClockError)
	}
}

// add adds a process's own use. Its limits are told with its name.
func (c *Client) add(p *Result) {
	c.Cores += p.Client.Cores
	c.Available += p.Client.Available
	c.RSS += p.Client.RSS
	c.WaitP99 = max(c.WaitP99, p.Client.WaitP99)
	for _, why := range p.Client.Limits {
		c.Limits = append(c.Limits, fmt.Sprintf("%s: %s", p.Name, why))
	}
}

func mergeLatency(kind string, parts []*Result) *Latency {
	sum := measure.NewHistogram()
	for _, p := range parts {
		if l := p.Latency[kind]; l != nil {
			sum.Merge(l.histogram)
		}
	}
	if sum.TotalCount() == 0 {
		return nil
	}
	return NewLatency(sum)
}

// shared turns what one process saw of a server into what it means for the deliveries and connections of all.
func (r *Result) shared(w Process, seenBy *Result) Process {
	if r.Rates.Delivered > 0 {
		w.PerDelivery = w.Cores * 1e6 / r.Rates.Delivered
	}
	if n := r.Totals["ready"]; n > 0 {
		w.PerConnection = w.PerConnection * seenBy.Totals["ready"] / n
	}
	return w
}

func mergeSeries(parts []*Result) []Second {
	bySecond := map[int]*Second{}
	for _, p := range parts {
		offset := p.Started.Sub(parts[0].Started).Seconds()
		own := map[int]Second{} // the last reading that falls to each second
		for _, s := range p.Series {
			own[int(math.Round(s.At+offset))] = s
		}
		for at, s := range own {
			sum := bySecond[at]
			if sum == nil {
				sum = &Second{At: float64(at), Latency: map[string]Quick{}, Cores: map[string]float64{}, RSS: map[string]int64{}}
				bySecond[at] = sum
			}
			sum.add(s)
		}
	}
	var all []Second
	for _, at := range slices.Sorted(maps.Keys(bySecond)) {
		all = append(all, *bySecond[at])
	}
	return all
}

func (s *Second) add(o Second) {
	s.Measuring = s.Measuring || o.Measuring
	s.Connections += o.Connections
	s.Sent += o.Sent
	s.Delivered += o.Delivered
	s.Errors += o.Errors
	s.ClientCores += o.ClientCores
	maps.Copy(s.Cores, o.Cores)
	maps.Copy(s.RSS, o.RSS)
	for kind, q := range o.Latency {
		was := s.Latency[kind]
		s.Latency[kind] = Quick{max(was.P50, q.P50), max(was.P99, q.P99), max(was.Max, q.Max)}
	}
}
