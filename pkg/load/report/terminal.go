// Package report shows load results to people: on a terminal while they come, and as a page afterwards.
package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/result"
)

// Live shows the progress of a run: a block that is drawn over on a terminal, a line each second elsewhere.
type Live struct {
	out      io.Writer
	terminal bool
	lines    int // of the block on the screen
}

// NewLive shows on out.
func NewLive(out io.Writer) *Live { return &Live{out: out, terminal: isTerminal(out)} }

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

const barWidth = 30

// Show shows a reading.
func (l *Live) Show(p drive.Progress) {
	if !l.terminal {
		fmt.Fprintln(l.out, oneLine(p))
		return
	}
	text := block(p)
	if l.lines > 0 {
		fmt.Fprintf(l.out, "\x1b[%dA\x1b[J", l.lines)
	}
	fmt.Fprint(l.out, text)
	l.lines = strings.Count(text, "\n")
}

// oneLine is a reading in one line.
func oneLine(p drive.Progress) string {
	s := p.Second
	text := fmt.Sprintf("%6.1fs %-8s %d/%d ready  sent %d/s  delivered %d/s  errors %d/s  client %.2f cores",
		s.At, p.Phase, p.Ready, p.Wanted, s.Sent, s.Delivered, s.Errors, s.ClientCores)
	for _, kind := range []string{"connect", "ack", "oneway"} {
		if q, ok := s.Latency[kind]; ok {
			text += fmt.Sprintf("  %s p50 %s p99 %s", kind, ms(q.P50), ms(q.P99))
		}
	}
	if s.Errors > 0 {
		text += "  mostly: " + p.Problem
	}
	return text
}

// block is a reading for a terminal.
func block(p drive.Progress) string {
	s := p.Second
	share := 1.0
	if p.Of > 0 {
		share = min(p.Passed.Seconds()/p.Of.Seconds(), 1)
	}
	if p.Phase == "connect" {
		share = float64(p.Ready) / float64(max(p.Wanted, 1))
	}
	full := int(share * barWidth)
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s [%s%s] %3.0f %%  %s of at most %s\n", p.Phase, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), share*100,
		p.Passed.Round(100*time.Millisecond), p.Of)
	fmt.Fprintf(&b, "connections %d of %d   errors %d/s   client %.2f cores\n", s.Connections, p.Wanted, s.Errors, s.ClientCores)
	if p.Problem != "" {
		fmt.Fprintf(&b, "most frequent error: %s\n", p.Problem)
	}
	fmt.Fprintf(&b, "sent %d/s   delivered %d/s\n", s.Sent, s.Delivered)
	for _, kind := range []string{"connect", "join", "ack", "oneway", "roundtrip", "rest", "event"} {
		if q, ok := s.Latency[kind]; ok {
			fmt.Fprintf(&b, "%-10s p50 %-9s p99 %-9s max %s\n", kind, ms(q.P50), ms(q.P99), ms(q.Max))
		}
	}
	return b.String()
}

// ms writes milliseconds with three digits.
func ms(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%.1fs", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0fms", v)
	case v >= 1:
		return fmt.Sprintf("%.1fms", v)
	}
	return fmt.Sprintf("%.0fµs", v*1000)
}

// Summary writes a result in words.
func Summary(out io.Writer, r *result.Result) {
	planned := r.Totals["planned"]
	for _, w := range r.Workers {
		if w.Fate != "" {
			planned += int64(w.Connections)
		}
	}
	fmt.Fprintf(out, "\n%s: %d of %d connections ready, %.1f s measured\n", r.Name, r.Totals["ready"], planned, r.Elapsed)
	fmt.Fprintf(out, "\n%-10s %10s %9s %9s %9s %9s %9s\n", "latency", "count", "p50", "p90", "p99", "p99.9", "max")
	for _, kind := range r.Kinds() {
		l := r.Latency[kind]
		fmt.Fprintf(out, "%-10s %10d %9s %9s %9s %9s %9s\n", kind, l.Count, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	}
	fmt.Fprintf(out, "\nrates      sent %.0f/s, delivered %.0f/s, received %.1f MB/s\n", r.Rates.Sent, r.Rates.Delivered, r.Rates.Bytes/1e6)
	t := r.Truth
	fmt.Fprintf(out, "truth      %d sent, %d accepted, %d refused, %d unanswered; %d deliveries due, %d made\n", t.Sent, t.Accepted, t.Refused, t.Unanswered, t.Due, t.Delivered)
	fmt.Fprintf(out, "           %d lost, %d doubled, %d reordered, %d stray\n", t.Lost, t.Doubled, t.Reordered, t.Stray)
	if t.Unjudged > 0 {
		fmt.Fprintf(out, "           %d made that nobody can judge, because their senders' worker is missing\n", t.Unjudged)
	}
	for _, e := range t.Examples {
		fmt.Fprintf(out, "           - %s\n", e)
	}
	if c := r.Clocks; c != nil {
		fmt.Fprintf(out, "clocks     %d deliveries from one worker to another, timed to ± %s; %d of them arrived before they were due\n", c.Across, ms(c.ClockError), c.Early)
	}
	for _, p := range r.Processes {
		fmt.Fprintf(out, "server     %s: %.2f cores, %.0f MB, %.2f µs per delivery, %.1f KB per connection\n", p.Name, p.Cores, float64(p.RSS)/1e6, p.PerDelivery, float64(p.PerConnection)/1e3)
	}
	fmt.Fprintf(out, "client     %.2f of %d cores, %.0f MB\n", r.Client.Cores, r.Client.Available, float64(r.Client.RSS)/1e6)
	for _, why := range r.Client.Limits {
		fmt.Fprintf(out, "           CAUTION: %s\n", why)
	}
	for i, w := range r.Workers {
		if w.Fate != "" {
			fmt.Fprintf(out, "MISSING    worker %d: %s; nobody knows what its %d connections got\n", i+1, w.Fate, w.Connections)
		}
	}
	for _, what := range r.ErrorNames() {
		fmt.Fprintf(out, "error      %d × %s\n", r.Errors[what], what)
	}
}
