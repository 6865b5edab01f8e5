package team

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/drive"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// coordinator is the coordinator's side of a run.
type coordinator struct {
	build   string // of Chatr, which must be that of all workers
	jobs    []job
	clock   *clock
	silence time.Duration   // after which a worker is given up
	notify  func(string)    // tells the person who started the run
	over    context.Context // ends with the run; its cause says why
	end     context.CancelCauseFunc

	mu        sync.Mutex // guards the following
	joined    int
	allJoined chan struct{} // closed when all have joined
	points    map[drive.Point]*point
	members   []*member
}

// point is where workers wait for each other.
type point struct {
	here []bool
	at   int64         // when the last one reached it, or when to go on
	done chan struct{} // closed when all workers that are not gone have reached it
}

// member is a worker, as the coordinator knows it.
type member struct {
	fate    string        // why it is gone
	done    chan struct{} // closed when it has reported, or is gone
	silence *time.Timer   // from when it joined: gives it up, unless it gives a sign of life

	sent      []byte        // the Export of its truth.Log
	accounted chan struct{} // closed when sent is there, or the worker is gone
	clock     estimate

	result *result.Result
}

// Coordinate runs a scenario with n workers of the same build, which connect to the listener, and returns the merged result.
// One of them watches the targets, so these should be URLs. The result's Workers names each worker that was lost under load.
func Coordinate(ctx context.Context, build string, l net.Listener, s *scenario.Scenario, watch []string, n int, notify func(string)) (*result.Result, error) {
	c, err := newCoordinator(ctx, build, s, watch, n, notify)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return c.run(ctx, l, s)
}

func newCoordinator(ctx context.Context, build string, s *scenario.Scenario, watch []string, n int, notify func(string)) (*coordinator, error) {
	if err := s.CheckWorkers(n); err != nil {
		return nil, err
	}
	c := &coordinator{
		build: build, jobs: make([]job, n), clock: newClock(), silence: silence, notify: notify,
		allJoined: make(chan struct{}), points: map[drive.Point]*point{}, members: make([]*member, n),
	}
	c.over, c.end = context.WithCancelCause(ctx)
	common := job{Run: truth.NewRun(rand.Uint32()), Scenario: *s}
	if s.Chat.Journeys {
		common.Rooms = drive.NewRooms(s.Groups.Count)
	}
	for i := range c.jobs {
		c.jobs[i] = common
		c.jobs[i].Share = scenario.Share{Index: i, Of: n}
		c.members[i] = &member{
			done: make(chan struct{}), accounted: make(chan struct{}),
			silence: time.AfterFunc(math.MaxInt64, func() { c.lose(i, fmt.Sprintf("it gave no sign of life for %v", c.silence)) }),
		}
	}
	c.jobs[0].Watch = watch
	for _, p := range drive.Points {
		c.points[p] = &point{here: make([]bool, n), done: make(chan struct{})}
	}
	return c, nil
}

func (c *coordinator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", c.join)
	mux.HandleFunc("GET /clock", c.read)
	mux.HandleFunc("POST /alive", c.alive)
	mux.HandleFunc("POST /meet", c.meet)
	mux.HandleFunc("POST /sent", c.receiveSent)
	mux.HandleFunc("GET /sent", c.serveSent)
	mux.HandleFunc("POST /result", c.report)
	return mux
}

func (c *coordinator) run(ctx context.Context, l net.Listener, s *scenario.Scenario) (*result.Result, error) {
	server := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	defer func() {
		c.end(errors.New("the run is over"))
		for _, m := range c.members {
			m.silence.Stop()
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		_ = server.Shutdown(closing) // answers the last worker
	}()
	c.notify(fmt.Sprintf("waiting at %s for %d workers", l.Addr(), len(c.jobs)))
	if err := c.within(comeTime, c.allJoined); err != nil {
		return nil, fmt.Errorf("wait for workers: %d of %d came: %w", c.here(), len(c.jobs), err)
	}
	c.notify("all workers are here")
	if err := c.ready(s.Ramp + finishTime); err != nil {
		return nil, err
	}
	if err := c.collect(s.Warmup + s.Duration + 2*s.Settle + finishTime); err != nil { // they settle, meet, and settle again
		return nil, err
	}
	return c.merge(s)
}

var errLate = errors.New("it took too long")

// within waits for done; the error says why it is not.
func (c *coordinator) within(limit time.Duration, done <-chan struct{}) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		if isClosed(done) {
			return nil
		}
		return errLate
	case <-c.over.Done():
		return context.Cause(c.over)
	}
}

func (c *coordinator) here() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined
}

// ready waits until every worker is, without which there is no run.
func (c *coordinator) ready(limit time.Duration) error {
	err := c.within(limit, c.points[drive.Ready].done)
	if !errors.Is(err, errLate) {
		return err
	}
	c.loseAwaited() // which ends the run
	return context.Cause(c.over)
}

// collect waits until every worker has reported or is gone. At the limit it gives up the workers that the others wait for, and
// the others get time to finish without them.
func (c *coordinator) collect(limit time.Duration) error {
	for {
		err := c.finished(limit)
		if !errors.Is(err, errLate) {
			return err
		}
		c.loseAwaited()
		limit = finishTime
	}
}

// finished waits until every worker has reported or is gone.
func (c *coordinator) finished(limit time.Duration) error {
	end := time.Now().Add(limit)
	for _, m := range c.members {
		if err := c.within(time.Until(end), m.done); err != nil {
			return err
		}
	}
	return nil
}

// loseAwaited gives up the workers that the others wait for.
func (c *coordinator) loseAwaited() {
	for _, i := range c.awaited() {
		c.lose(i, "it did not finish in time")
	}
}

// awaited lists the workers that are missing at the first step at which any is missing: a point where workers meet, the
// account of what each has sent, or the results.
func (c *coordinator) awaited() (all []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var steps []func(i int) (done bool)
	for _, name := range drive.Points {
		steps = append(steps, func(i int) bool { return c.points[name].here[i] })
	}
	steps = append(steps, func(i int) bool { return isClosed(c.members[i].accounted) }, func(int) bool { return false })
	for _, done := range steps {
		for i, m := range c.members {
			if !isClosed(m.done) && !done(i) {
				all = append(all, i)
			}
		}
		if len(all) > 0 {
			break
		}
	}
	return all
}

// merge adds up what was reported. Missing workers are listed as such and counted as errors, since half of the load is not the load.
func (c *coordinator) merge(s *scenario.Scenario) (*result.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []*result.Result
	var workers []result.Worker
	missing := map[string]int64{}
	for i, m := range c.members {
		workers = append(workers, result.Worker{
			Connections: c.jobs[i].Share.Count(s.Connections + s.Publish.Outside), Fate: m.fate,
			Offset: m.clock.offset.Seconds() * 1e3, ClockError: m.clock.clockError.Seconds() * 1e3,
		})
		if m.fate != "" {
			missing[fmt.Sprintf("worker %d is missing: %s", i+1, m.fate)]++
			continue
		}
		m.result.Started = time.Unix(0, c.points[drive.Begin].at).UTC() // whatever its clock says
		parts = append(parts, m.result)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("every worker is missing, the first because: %s", c.members[0].fate)
	}
	merged := result.Merge(parts)
	merged.Name, merged.Scenario, merged.Workers = s.Name, *s, workers
	for what, n := range missing {
		merged.Errors[what] += n
	}
	return merged, nil
}

// lose gives a worker up, unless it has reported or the run is over. Before the load has begun this ends the run.
func (c *coordinator) lose(i int, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[i]
	if isClosed(m.done) || c.over.Err() != nil {
		return
	}
	if !isClosed(c.points[drive.Ready].done) {
		c.end(fmt.Errorf("worker %d: %s", i+1, why))
		return
	}
	m.fate = why
	close(m.done)
	if !isClosed(m.accounted) {
		close(m.accounted)
	}
	for name, p := range c.points {
		c.check(name, p)
	}
	c.notify(fmt.Sprintf("worker %d is missing: %s", i+1, why))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// check lets the workers go on when all have reached the point. The caller holds mu.
func (c *coordinator) check(name drive.Point, p *point) {
	for i, m := range c.members {
		if !p.here[i] && m.fate == "" {
			return
		}
	}
	if isClosed(p.done) {
		return
	}
	p.at = c.clock.now()
	if name == drive.Ready {
		p.at += int64(startDelay)
	}
	close(p.done)
}

// join gives a worker its part. One of another build may make another plan of the same scenario.
func (c *coordinator) join(w http.ResponseWriter, r *http.Request) {
	if build := r.URL.Query().Get("build"); build != c.build {
		problem := fmt.Sprintf("the worker is chatr %q and the coordinator chatr %q; all must be of one build", build, c.build)
		c.notify("refused a worker: " + problem)
		http.Error(w, problem, http.StatusConflict)
		return
	}
	c.mu.Lock()
	i := c.joined
	if i >= len(c.jobs) {
		c.mu.Unlock()
		http.Error(w, fmt.Sprintf("there are %d workers already", len(c.jobs)), http.StatusConflict)
		return
	}
	c.joined++
	c.members[i].silence.Reset(c.silence)
	if c.joined == len(c.jobs) {
		close(c.allJoined)
	}
	c.mu.Unlock()
	reply(w, c.jobs[i]) // a worker that is gone gives no sign of life
}

// reply answers with JSON; the worker may be gone.
func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// read tells the time.
func (c *coordinator) read(w http.ResponseWriter, _ *http.Request) {
	reply(w, reading{c.clock.now(), c.clock.boot})
}

// alive reads a worker's signs of life for as long as it lives, and answers when the run or the worker's part in it is over.
func (c *coordinator) alive(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	m := c.members[i]
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // the answer does not wait for the signs to end
	w.Header().Set("Connection", "close")
	var interrupting sync.WaitGroup
	heard := make(chan struct{})
	interrupting.Go(func() {
		select {
		case <-m.done:
		case <-c.over.Done():
		case <-heard:
			return
		}
		_ = control.SetReadDeadline(time.Unix(1, 0))
	})
	why := ""
	for sign := make([]byte, 64); why == ""; {
		switch _, err := r.Body.Read(sign); {
		case err == nil:
			m.silence.Reset(c.silence)
		case errors.Is(err, io.EOF):
			why = "it ended without a result"
		default:
			why = "its connection broke"
		}
	}
	close(heard)
	interrupting.Wait()
	c.lose(i, why) // without effect after an interruption: the worker is done, or the run is over
	c.refuse(w, i)
}

// refuse answers a worker that has been given up, or whose run is over, with the reason.
func (c *coordinator) refuse(w http.ResponseWriter, i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := c.members[i].fate
	if why == "" && c.over.Err() != nil {
		why = context.Cause(c.over).Error()
	}
	http.Error(w, why, http.StatusGone)
}

// meet answers when every worker has come to the same point.
func (c *coordinator) meet(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	name := drive.Point(r.URL.Query().Get("at"))
	p := c.points[name]
	if p == nil {
		http.Error(w, "at must be a point where workers meet", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	p.here[i] = true
	c.check(name, p)
	c.mu.Unlock()
	select {
	case <-p.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		reply(w, moment{p.at})
	case <-c.over.Done():
		c.refuse(w, i)
	case <-c.members[i].done:
		c.refuse(w, i)
	case <-r.Context().Done():
	}
}

// receiveSent stores the account of what a worker has sent, and how its clock differs.
func (c *coordinator) receiveSent(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	offset, err1 := time.ParseDuration(r.URL.Query().Get("offset"))
	clockError, err2 := time.ParseDuration(r.URL.Query().Get("apart"))
	body, err3 := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err := errors.Join(err1, err2, err3); err != nil {
		http.Error(w, "this is not what was sent: "+err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[i]
	if isClosed(m.accounted) {
		http.Error(w, "this worker has given its account already, or was given up: "+m.fate, http.StatusConflict)
		return
	}
	m.sent, m.clock = body, estimate{offset, clockError}
	close(m.accounted)
	w.WriteHeader(http.StatusNoContent)
}

// clockErrorHeader says by how much a worker's clock may differ from what it believes.
const clockErrorHeader = "Clock-Apart"

// serveSent answers with the account of what a worker has sent, as soon as there is one.
func (c *coordinator) serveSent(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	m := c.members[i]
	select {
	case <-m.accounted:
	case <-c.over.Done():
		c.refuse(w, i)
		return
	case <-r.Context().Done():
		return
	}
	c.mu.Lock()
	sent, clockError, fate := m.sent, m.clock.clockError, m.fate
	c.mu.Unlock()
	if sent == nil {
		http.Error(w, fate, http.StatusNotFound)
		return
	}
	w.Header().Set(clockErrorHeader, clockError.String())
	_, _ = w.Write(sent) // a worker that is gone is noticed elsewhere
}

// report takes a worker's result, or why it has none.
func (c *coordinator) report(w http.ResponseWriter, r *http.Request) {
	i, ok := c.index(w, r)
	if !ok {
		return
	}
	if why := r.URL.Query().Get("error"); why != "" {
		c.lose(i, why)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	got := &result.Result{}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(got); err != nil {
		http.Error(w, "this is not a result: "+err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[i]
	if isClosed(m.done) {
		http.Error(w, "this worker has reported already, or was given up: "+m.fate, http.StatusConflict)
		return
	}
	m.result = got
	close(m.done)
	w.WriteHeader(http.StatusNoContent)
}

func (c *coordinator) index(w http.ResponseWriter, r *http.Request) (int, bool) {
	i, err := strconv.Atoi(r.URL.Query().Get("index"))
	if err != nil || i < 0 || i >= len(c.jobs) {
		http.Error(w, "index must be that of a job", http.StatusBadRequest)
		return 0, false
	}
	return i, true
}
