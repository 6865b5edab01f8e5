package histories

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/tests/topology"
)

// OutageKind is what happens to a process.
type OutageKind string

// The kinds of outage.
const (
	Killed  OutageKind = "killed"  // without a warning, and started again
	Emptied OutageKind = "emptied" // the same, and what it has kept is gone
	Paused  OutageKind = "paused"  // it hangs
)

// Outage is what happens to one of the processes while the steps are made.
type Outage struct {
	At   time.Duration // since the first step
	Of   string
	Kind OutageKind
	For  time.Duration
}

// drawOnProcesses draws a history whose processes are real: what it takes is time, so it is not as slow as others may be.
func drawOnProcesses(seed uint64) History {
	h := draw(seed)
	r := rand.New(rand.NewPCG(seed, 11))
	h.Steps = append(h.Steps, draw(^seed).Steps...)
	h.Faults, h.Processes = nil, 2
	h.Steps = slices.DeleteFunc(h.Steps, func(s Step) bool { return s.Do == Kill })
	long := time.Duration(0)
	for i := range h.Steps { // more is said, where it can be heard
		s := &h.Steps[i]
		if s.By != "bot" && r.IntN(2) == 0 {
			*s = Step{After: s.After, By: s.By, Do: Say, Room: pick(r, "den", "tea")}
		}
		s.After %= 300 * time.Millisecond
		long += s.After
		if s.Do == Reconnect && r.IntN(2) == 0 {
			s.Do = Cut
		}
	}
	for range 1 + r.IntN(3) {
		o := Outage{Of: pick(r, "gateway 1", "gateway 2", "events", "events 2", "api", "redis", "postgres"), Kind: Killed}
		o.At = time.Duration(r.Int64N(int64(long + 500*time.Millisecond))).Truncate(time.Millisecond)
		o.For = time.Duration(50+r.IntN(1500)) * time.Millisecond
		switch {
		case o.Of == "redis":
			o.Kind = pick(r, Killed, Emptied, Emptied, Paused)
		case o.Of != "postgres" && r.IntN(3) == 0:
			o.Kind = Paused
			o.For *= 4
		}
		h.Outages = append(h.Outages, o)
	}
	slices.SortFunc(h.Outages, func(a, b Outage) int { return cmp.Compare(a.At, b.At) })
	return h
}

// town is a Chatr of real processes, in which one history happens after the other.
type town struct {
	t     *testing.T
	top   *topology.Topology
	store chat.Store
	http  *http.Client
	logs  string

	processes map[string]*topology.Process
	casts     cast        // so far
	busAway   []time.Time // when Redis went, and when everything was up again, in turn
	seen      figures
}

// figures are what has been seen of all histories.
type figures struct {
	histories, steps, acked, doubles int
	unheard                          int // by connections without sequence ids, while Redis was away
	outages                          map[string]int
	owed, settled                    []time.Duration // after everything was up
}

func newTown(t *testing.T) *town {
	logs, err := os.MkdirTemp("", "histories-")
	must(t, err)
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(logs)
			return
		}
		t.Logf("logs are in %s", logs)
	})
	y := &town{t: t, logs: logs, http: &http.Client{}, seen: figures{outages: map[string]int{}}}
	y.top = topology.Services(t, topology.Options{Events: 2, Logs: logs, Env: []string{"CHATR_LOG_LEVEL=info"}})
	y.store, err = sqlstore.OpenPostgres(t.Context(), y.top.Postgres.URL)
	must(t, err)
	t.Cleanup(func() { _ = y.store.Close() })
	y.processes = map[string]*topology.Process{
		"gateway 1": y.top.Gateways[0], "gateway 2": y.top.Gateways[1], "events": y.top.Events, "events 2": y.top.MoreEvents[0], "api": y.top.API,
	}
	return y
}

// busWasAway reports whether Redis, or a gateway's way to it, was away at a time.
func (y *town) busWasAway(at time.Time) bool {
	for i := 0; i+1 < len(y.busAway); i += 2 {
		if at.After(y.busAway[i]) && at.Before(y.busAway[i+1]) {
			return true
		}
	}
	return false
}

// up waits until every process is ready.
func (y *town) up() error {
	began := time.Now()
	for name, p := range y.processes {
		for reason := p.Ready(); reason != ""; reason = p.Ready() {
			if time.Since(began) > time.Minute {
				return fmt.Errorf("%s is not ready a minute after everything was started: %s", name, reason)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for err := y.store.Ready(y.t.Context()); err != nil; err = y.store.Ready(y.t.Context()) {
		if time.Since(began) > time.Minute {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// suffer lets the outages of a history happen, and returns when everything has been started again.
func (y *town) suffer(w *world, outages []Outage) {
	type event struct {
		at   time.Duration
		down bool
		o    Outage
	}
	var events []event
	for _, o := range outages {
		events = append(events, event{o.At, true, o}, event{o.At + o.For, false, o})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	down := map[string]Outage{}
	starting := map[string]chan struct{}{}
	began := time.Now()
	for _, e := range events {
		time.Sleep(e.at - time.Since(began))
		of, p := e.o.Of, y.processes[e.o.Of]
		if e.down {
			if _, already := down[of]; already {
				continue
			}
			if done := starting[of]; done != nil {
				select {
				case <-done:
				default: // it has not come up yet
					continue
				}
			}
			down[of] = e.o
			y.seen.outages[fmt.Sprintf("%s %s", strings.TrimRight(of, " 12"), e.o.Kind)]++
			w.note("%s is %s", of, e.o.Kind)
			if of == "redis" && len(y.busAway)%2 == 0 {
				y.busAway = append(y.busAway, time.Now())
			}
		} else {
			if down[of] != e.o {
				continue
			}
			delete(down, of)
			w.note("%s comes back", of)
		}
		switch {
		case of == "postgres" && e.down:
			y.top.Postgres.Stop()
		case of == "postgres":
			y.top.Postgres.Start()
		case of == "redis" && e.o.Kind == Paused && e.down:
			y.top.Redis.Pause()
		case of == "redis" && e.o.Kind == Paused:
			y.top.Redis.Resume()
		case of == "redis" && e.down:
			y.top.Redis.Stop()
		case of == "redis":
			if e.o.Kind == Emptied {
				y.top.Redis.Forget()
			}
			y.top.Redis.Start()
		case e.o.Kind == Paused && e.down:
			p.Signal(syscall.SIGSTOP)
		case e.o.Kind == Paused:
			p.Signal(syscall.SIGCONT)
		case e.down:
			p.Kill()
		default:
			done := make(chan struct{})
			starting[of] = done
			go func() {
				defer close(done)
				if err := p.Restart(); err != nil {
					w.failed("%v", err)
				}
				w.note("%s is up again", of)
			}()
		}
	}
	for _, done := range starting {
		<-done
	}
}

// run lets a history happen, and looks whether everybody ends up with the same.
func (y *town) run(h History) result {
	y.casts++
	ctx, end := context.WithCancel(context.Background())
	w := &world{h: h, ctx: ctx, store: y.store, cast: y.casts, people: map[string]*device{}, last: map[string]said{}, tick: func() {}}
	n := &wires{town: y, w: w, browsers: map[*device]*browser{}, wires: map[*conn]*wire{}, unheard: map[string]bool{}}
	w.net = n
	if err := y.up(); err != nil {
		y.t.Fatal(err)
	}
	populate(y.t, y.store, w.cast)
	var coming sync.WaitGroup
	for _, name := range devices {
		d := newDevice(w, name)
		w.people[name] = d
		coming.Go(d.connect)
	}
	w.people["bot"] = newDevice(w, "bot")
	coming.Wait()
	y.settle(w, "everybody has come")

	var steps sync.WaitGroup
	steps.Go(func() {
		for i, s := range h.Steps {
			time.Sleep(s.After)
			s.User = w.cast.user(s.User)
			w.people[s.By].steps <- numbered{number: i, step: s}
		}
	})
	y.suffer(w, h.Outages)
	steps.Wait()
	if err := y.up(); err != nil {
		w.failed("%v", err)
	}
	if len(y.busAway)%2 == 1 {
		y.busAway = append(y.busAway, time.Now())
	}
	watched := y.watchOwed(w)
	y.finishSteps(w)
	watched()
	y.settle(w, "those who stayed")
	for _, name := range devices {
		coming.Go(w.people[name].connect)
	}
	coming.Wait()
	y.settle(w, "everybody")

	y.seen.histories++
	y.seen.steps += len(h.Steps)
	y.seen.acked += len(w.acked)
	y.seen.doubles += w.doubles
	y.seen.unheard += len(n.unheard)
	if slices.ContainsFunc(h.Steps, func(s Step) bool { return s.Do == ChangeRole }) { // it is everybody's
		n.request(http.MethodDelete, "roles/"+chat.RoleMember, nil)
	}
	for _, name := range devices {
		w.people[name].drop()
	}
	end()
	w.work.Wait()
	return result{problems: w.problems, doubles: w.doubles, trace: w.trace}
}

// watchOwed has the test fail if anything is owed for too long from now on, until the function that it returns is called.
func (y *town) watchOwed(w *world) (end func()) {
	up, ended := time.Now(), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
			}
			n, since, err := w.store.EffectsOwed(w.ctx, tenantID)
			if since.Before(up) {
				since = up
			}
			if err == nil && n > 0 && time.Since(since) > settled {
				w.failed("%d effects are owed, one of them for %v since everything is up", n, time.Since(since))
				return
			}
		}
	})
	return func() { close(ended); watching.Wait() }
}

// finishSteps waits until everybody has done what they had to do. Whoever waits for an answer gets one.
func (y *town) finishSteps(w *world) {
	const patience = time.Minute
	late := time.After(patience)
	for _, name := range slices.Sorted(maps.Keys(w.people)) {
		done := make(chan struct{})
		w.people[name].steps <- numbered{done: done}
		select {
		case <-done:
		case <-late:
			w.failed("%s has not come to an end %v after everything was up", name, patience)
			return
		}
	}
}

// agreed is how long after nothing is owed it may take until every client has what the store has: gateways that have died are given up
// after their lease, and who was there is offline a while later.
const agreed = 30 * time.Second

// settle waits until nothing is owed, and then until everybody has the same. when says when that is.
func (y *town) settle(w *world, when string) {
	began := time.Now()
	for w.owes() {
		if time.Since(began) > settled {
			w.checkOwed()
			w.failed("%s: something is still owed %v after everything is up: %v", when, settled, w.differs)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	owed := time.Since(began)
	found := w.check(when)
	for len(found) > 0 && time.Since(began) < owed+agreed {
		time.Sleep(250 * time.Millisecond)
		found = w.check(when)
	}
	took := time.Since(began)
	w.note("%s: paid after %v, and agreed after %v", when, owed, took)
	w.mu.Lock()
	w.problems = append(w.problems, found...)
	w.mu.Unlock()
	y.seen.owed, y.seen.settled = append(y.seen.owed, owed), append(y.seen.settled, took)
}

// TestHistoriesOnProcesses lets HISTORIES histories happen on real processes, from the one that SEED is the seed of, while these are
// killed and hang. Without HISTORIES it is the first two in which Redis stays: gateways come back to it one after the other, and what the
// first is asked about connections of the others is lost until they are back (docs/deploying.md, "What can be lost"), once in some hundred
// histories.
func TestHistoriesOnProcesses(t *testing.T) {
	count, seed := number(t, "HISTORIES", 0), number(t, "SEED", 1)
	var drawn []History
	for n := uint64(seed); len(drawn) < max(count, 2); n++ {
		h := drawOnProcesses(n)
		if count > 0 || !slices.ContainsFunc(h.Outages, func(o Outage) bool { return o.Of == "redis" }) {
			drawn = append(drawn, h)
		}
	}
	if count > 0 {
		drawn = drawn[:count]
	}
	y := newTown(t)
	var smallest *History
	began := time.Now()
	failures := 0
	for n, h := range drawn {
		if end, limited := t.Deadline(); limited && time.Until(end) < 2*time.Minute {
			break
		}
		r := y.run(h)
		if (n+1)%10 == 0 {
			t.Logf("%d of %d", n+1, len(drawn))
		}
		if len(r.problems) == 0 {
			continue
		}
		failures++
		t.Logf("SEED=%d: %s", h.Seed, strings.Join(r.problems, "\n"))
		y.keep(h, r)
		if smallest == nil || len(h.Steps) < len(smallest.Steps) {
			smallest = &h
		}
	}
	y.report(time.Since(began), failures)
	if smallest != nil {
		y.shrink(*smallest)
	}
}

// keep writes down what has happened in a history that failed.
func (y *town) keep(h History, r result) {
	path := filepath.Join(y.logs, fmt.Sprintf("history-%d-%d.txt", h.Seed, y.casts))
	text := fmt.Sprintf("%s\n\n%#v\n\n%s\n", strings.Join(r.problems, "\n"), h, strings.Join(r.trace, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		y.t.Error(err)
	}
	y.t.Logf("what happened is in %s", path)
}

func (y *town) report(took time.Duration, failures int) {
	s := y.seen
	slices.Sort(s.owed)
	slices.Sort(s.settled)
	at := func(list []time.Duration, part float64) time.Duration {
		if len(list) == 0 {
			return 0
		}
		return list[int(part*float64(len(list)-1))].Round(time.Millisecond)
	}
	y.t.Logf("%d histories in %v, %d failed: %d steps, %d messages acked", s.histories, took.Round(time.Second), failures, s.steps, s.acked)
	y.t.Logf("%d heard twice by clients without numbers; %d not heard by clients without sequence ids, while Redis was away", s.doubles, s.unheard)
	for _, what := range slices.Sorted(maps.Keys(s.outages)) {
		y.t.Logf("%3d × %s", s.outages[what], what)
	}
	y.t.Logf("nothing owed after everything is up: median %v, p95 %v, at most %v", at(s.owed, .5), at(s.owed, .95), at(s.owed, 1))
	y.t.Logf("every client as the store: median %v, p95 %v, at most %v", at(s.settled, .5), at(s.settled, .95), at(s.settled, 1))
}

// shrink fails the test with a history as small as it can be made. What happens at which moment is different each time: so a step is
// dropped if the rest fails once in so many times.
func (y *town) shrink(h History) {
	const tries = 3
	var last result
	small := shrink(h, number(y.t, "SHRINK", 20), tries, func(h History) bool {
		r := y.run(h)
		if len(r.problems) > 0 {
			last = r
		}
		return len(r.problems) > 0
	})
	y.t.Errorf("as small as it was made:\n%#v\n\n%s\n%s", small, strings.Join(last.problems, "\n"), strings.Join(last.trace, "\n"))
}
