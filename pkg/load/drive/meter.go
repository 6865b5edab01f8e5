package drive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
)

// meter takes a run through its phases and makes its result. It belongs to one goroutine.
type meter struct {
	*run
	phase     string
	measuring bool
	of        time.Duration // of the phase
	began     int64         // the phase

	before     counters // at the end of the last second
	all        measure.Histograms
	series     []result.Second
	watched    []watched
	clockError time.Duration // by which the clock of another process may differ
}

// counters are the values of all counters at some moment.
type counters struct {
	at                             int64
	sent, delivered, bytes, errors int64
	own                            measure.Usage
	waits                          measure.Waits
	usage                          []measure.Usage
	metrics                        []map[string]float64
}

// watched is what the meter knows of a target.
type watched struct {
	maxRSS    int64
	unloaded  int64 // memory before anything connected
	connected int64 // memory when all were connected
}

func newMeter(r *run) *meter {
	return &meter{run: r, watched: make([]watched, len(r.options.Targets))}
}

// measure runs the phases.
func (m *meter) measure(ctx context.Context) (*result.Result, error) {
	living, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	activities := m.activities()
	first, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.startClock(ctx); err != nil {
		return nil, err
	}
	first.at = m.now()
	m.before = first
	for i, u := range first.usage {
		m.watched[i].unloaded = u.RSS
	}

	var clients sync.WaitGroup
	clients.Go(func() { m.connect(living, &clients) })
	clients.Go(func() { m.acknowledge(living) })
	defer m.disconnectAll(&clients, disconnect)
	if err := m.connected(ctx); err != nil {
		return nil, err
	}

	if err := m.waitForStart(ctx); err != nil {
		return nil, err
	}
	for i, u := range m.before.usage {
		m.watched[i].connected = u.RSS
	}
	acting, stopActing := context.WithCancel(ctx)
	defer stopActing()
	var actors sync.WaitGroup
	for _, act := range activities {
		actors.Go(func() { act(acting) })
	}
	m.runPhase(ctx, "warm up", m.scenario.Warmup, nil)
	m.measuring = true
	start := m.before
	m.runPhase(ctx, "measure", m.scenario.Duration, nil)
	end := m.before
	stopActing()
	actors.Wait()
	m.measuring = false
	m.waitUntilIdle(ctx)
	if m.team != nil {
		if err := m.exchangeSent(ctx); err != nil {
			return nil, err
		}
	}
	res := m.result(start, end)
	res.Stopped = ctx.Err() != nil
	return res, nil
}

// connected waits until every client has been ready.
func (m *meter) connected(ctx context.Context) error {
	most := m.scenario.Ramp + connectWait
	m.runPhase(ctx, "connect", most, func() bool {
		select {
		case <-m.allReady:
			return true
		default:
			return m.allDeclined()
		}
	})
	switch ready := m.ready.Load(); {
	case ctx.Err() != nil:
		return fmt.Errorf("stopped before everything was connected: %w", context.Cause(ctx))
	case ready == 0:
		return fmt.Errorf("no connection could be made: %s", m.topError())
	case ready < int64(len(m.clients)):
		m.failed(fmt.Sprintf("%d connections were not ready %v after they were begun", int64(len(m.clients))-ready, connectWait))
	}
	return nil
}

// allDeclined reports whether the server has declined every handshake so far, as it does when the key is wrong.
func (m *meter) allDeclined() bool {
	return m.declined.Load() != nil && m.totals.connects.Load() == 0
}

// topError returns the most frequent error so far, "" if there is none.
func (m *meter) topError() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	most, of := "", int64(0)
	for what, n := range m.errors {
		if n > of || n == of && what < most {
			most, of = what, n
		}
	}
	return most
}

// waitUntilIdle waits until nothing is under way any more.
func (m *meter) waitUntilIdle(ctx context.Context) {
	isQuiet := m.newQuietCheck()
	m.runPhase(ctx, "settle", m.scenario.Settle, func() bool {
		idle := m.unanswered.Load() == 0 && m.connections.Load() == int64(len(m.clients)) // read before the deliveries are
		return isQuiet() && idle
	})
}

// newQuietCheck returns a function, to be called after each of many short sleeps, that reports whether nothing has arrived for
// a while: no delivery to a client that keeps up, and no new connection, which may still get what it has missed. The time
// alone is not enough: when the whole process has been stopped for a moment, deliveries wait that have not been read.
func (m *meter) newQuietCheck() (isQuiet func() bool) {
	type counts struct{ delivered, connects int64 }
	last, since, times := counts{-1, -1}, int64(0), 0
	return func() bool {
		if n := (counts{m.totals.promptly.Load(), m.totals.connects.Load()}); n != last {
			last, since, times = n, m.now(), 0
			return false
		}
		times++
		return times >= quietTimes && m.now()-since >= int64(quiet)
	}
}

// runPhase waits for the end of a phase and takes a reading each second and at the end. done, unless nil, may end it early.
func (m *meter) runPhase(ctx context.Context, phase string, of time.Duration, done func() bool) {
	m.phase, m.of, m.began = phase, of, m.now()
	end := m.began + int64(of)
	next := m.began + int64(time.Second)
	for m.now() < end && ctx.Err() == nil && (done == nil || !done()) {
		wake := min(next, end)
		if done != nil {
			wake = min(wake, m.now()+int64(10*time.Millisecond))
		}
		m.sleep(ctx, time.Duration(wake-m.now()))
		if m.now() >= next {
			m.recordSecond(ctx)
			for next <= m.now() { // one for all that were missed
				next += int64(time.Second)
			}
		}
	}
	if m.now()-m.before.at > int64(50*time.Millisecond) || len(m.series) == 0 {
		m.recordSecond(ctx)
	}
}

// recordSecond adds a second to the series.
func (m *meter) recordSecond(ctx context.Context) {
	now, err := m.read(context.WithoutCancel(ctx))
	if err != nil {
		m.failed(err.Error())
	}
	taken := m.recorder.Take()
	kept := *taken
	if !m.measuring && m.phase != "settle" {
		kept = measure.Histograms{}
		kept[measure.Connect], kept[measure.Join] = taken[measure.Connect], taken[measure.Join]
	}
	m.all.Add(&kept)
	elapsed := max(float64(now.at-m.before.at), 1) / 1e9
	s := result.Second{
		At: seconds(now.at), Measuring: m.measuring, Connections: m.connections.Load(), Errors: now.errors - m.before.errors,
		Sent: perSecond(now.sent-m.before.sent, elapsed), Delivered: perSecond(now.delivered-m.before.delivered, elapsed),
		Latency: map[string]result.Quick{}, Cores: map[string]float64{}, RSS: map[string]int64{},
		ClientCores: (now.own.CPU - m.before.own.CPU).Seconds() / elapsed,
	}
	for k, l := range result.Latencies(taken) {
		s.Latency[k] = result.Quick{P50: l.P50, P99: l.P99, Max: l.Max}
	}
	for i, t := range m.options.Targets {
		s.Cores[t.Name] = (now.usage[i].CPU - m.before.usage[i].CPU).Seconds() / elapsed
		s.RSS[t.Name] = now.usage[i].RSS
		m.watched[i].maxRSS = max(m.watched[i].maxRSS, now.usage[i].RSS)
	}
	m.series = append(m.series, s)
	m.before = now
	if m.options.Progress != nil {
		m.options.Progress(Progress{m.phase, m.of, time.Duration(now.at - m.began), int(m.ready.Load()), len(m.clients), s, m.topError()})
	}
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

func perSecond(n int64, elapsed float64) int64 { return int64(float64(n)/elapsed + 0.5) }

// read takes every counter. A target that does not answer keeps its last figures and gives an error.
func (m *meter) read(ctx context.Context) (counters, error) {
	c := counters{
		at: m.now(), sent: m.totals.sent.Load(), delivered: m.totals.delivered(), bytes: m.totals.bytes.Load(),
		errors: m.totals.errors.Load(), own: own(), waits: measure.ReadWaits(),
		usage: make([]measure.Usage, len(m.options.Targets)), metrics: make([]map[string]float64, len(m.options.Targets)),
	}
	problems := make([]error, len(m.options.Targets))
	var asking sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for i, t := range m.options.Targets {
		asking.Go(func() {
			if c.usage[i], c.metrics[i], problems[i] = t.Usage(ctx); problems[i] != nil && m.before.usage != nil {
				c.usage[i], c.metrics[i] = m.before.usage[i], m.before.metrics[i]
			}
		})
	}
	asking.Wait()
	return c, errors.Join(problems...)
}

// disconnectAll closes every connection and waits until the clients have ended.
func (m *meter) disconnectAll(clients *sync.WaitGroup, disconnect func()) {
	m.ending.Store(true)
	for _, c := range m.clients {
		c.closeNormally()
	}
	for end := m.now() + int64(byeTime); m.connections.Load() > 0 && m.now() < end; {
		m.sleep(context.Background(), 5*time.Millisecond)
	}
	disconnect()
	clients.Wait()
}

// result sums the run up. Rates and uses are of the time between start and end.
func (m *meter) result(start, end counters) *result.Result {
	elapsed := max(seconds(end.at-start.at), 1e-9)
	delivered := end.delivered - start.delivered
	r := &result.Result{
		Name: m.scenario.Name, Started: m.epoch.UTC(), Elapsed: elapsed, Machine: result.ThisMachine(), Scenario: *m.scenario,
		Latency: result.Latencies(&m.all), Series: m.series, Truth: m.log.Check(m.scenario.InFlight),
		Rates: result.Rates{Sent: float64(end.sent-start.sent) / elapsed, Delivered: float64(delivered) / elapsed, Bytes: float64(end.bytes-start.bytes) / elapsed},
		Totals: map[string]int64{
			"sent": m.totals.sent.Load(), "unsent": m.totals.unsent.Load(), "delivered": m.totals.delivered(),
			"connects": m.totals.connects.Load(), "recoveries": m.totals.recoveries.Load(), "repeated": m.totals.repeated.Load(),
			"storms": m.totals.storms.Load(), "churned": m.totals.churned.Load(), "ready": m.ready.Load(), "planned": int64(len(m.clients)),
		},
		Client: result.Client{
			Cores: (end.own.CPU - start.own.CPU).Seconds() / elapsed, Available: runtime.GOMAXPROCS(0), RSS: end.own.RSS,
			WaitP99: end.waits.P99(start.waits).Seconds() * 1e3,
		},
		Metrics: map[string]float64{},
	}
	if late := r.Latency[measure.Late.String()]; late != nil {
		r.Client.LateP99 = late.P99
	}
	m.mu.Lock()
	r.Errors = maps.Clone(m.errors)
	m.mu.Unlock()
	for i, t := range m.options.Targets {
		r.Processes = append(r.Processes, m.process(i, t, elapsed, delivered, start, end))
		addMetrics(r.Metrics, start.metrics[i], end.metrics[i])
	}
	if m.team != nil {
		r.Clocks = &result.Clocks{Across: m.totals.across.Load(), Early: m.totals.early.Load(), ClockError: m.clockError.Seconds() * 1e3}
	}
	r.Client.Limits = limits(r)
	return r
}

func (m *meter) process(i int, t measure.Target, elapsed float64, delivered int64, start, end counters) result.Process {
	cpu := end.usage[i].CPU - start.usage[i].CPU
	w := m.watched[i]
	p := result.Process{Name: t.Name, Cores: cpu.Seconds() / elapsed, RSS: w.maxRSS}
	if delivered > 0 {
		p.PerDelivery = float64(cpu.Microseconds()) / float64(delivered)
	}
	if n := m.ready.Load(); n > 0 {
		p.PerConnection = max(w.connected-w.unloaded, 0) / n
	}
	return p
}

// addMetrics adds a server's metrics to those of others: the change of what counts, the last value of the rest.
func addMetrics(sum, start, end map[string]float64) {
	for name, v := range end {
		if strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum") {
			v -= start[name]
		}
		sum[name] += v
	}
}

// Bounds above which the figures may show the load generator's own limits rather than the server's.
const (
	tightCores = 0.85 // of those available
	lateLimit  = 10.0 // milliseconds
	waitLimit  = 5.0
)

// limits says why the client rather than the server may have been the limit.
func limits(r *result.Result) (why []string) {
	c := r.Client
	all := c.Cores
	for _, p := range r.Processes {
		all += p.Cores
	}
	switch available := tightCores * float64(c.Available); {
	case c.Cores >= available:
		why = append(why, fmt.Sprintf("the client used %.1f of its %d cores; spread it over more processes or machines", c.Cores, c.Available))
	case all >= available && len(r.Processes) > 0:
		why = append(why, fmt.Sprintf("client and watched processes used %.1f cores together; where they share a machine of %d, it was full", all, c.Available))
	}
	if c.LateP99 > lateLimit {
		why = append(why, fmt.Sprintf("1 %% of the sends were more than %.0f ms late, which their latencies include", c.LateP99))
	}
	if c.WaitP99 > waitLimit {
		why = append(why, fmt.Sprintf("1 %% of the client's wake-ups waited more than %.0f ms for a core, so receipts were noted late", c.WaitP99))
	}
	if n := r.Totals["unsent"]; n > 0 {
		why = append(why, fmt.Sprintf("%d messages could not be sent because their senders were not connected", n))
	}
	return why
}
