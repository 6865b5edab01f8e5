package histories

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/services/events"
)

const (
	tenantID = "default"
	testKey  = "a key for tests that is long enough, really"

	// settled is how long after everything is up nothing may be owed any more.
	settled = 15 * time.Second
)

// world is what a history happens in. Nothing in it is held locked while time passes.
type world struct {
	h      History
	ctx    context.Context // ends with the history
	store  chat.Store      // the truth
	tick   func()          // before each call
	wrap   func(w *world, s chat.Store) chat.Store
	g      *gateway // that net is, where it is played
	net    network
	api    http.Handler // the API service, where gateways are played
	cast   cast
	work   sync.WaitGroup
	people map[string]*device

	mu        sync.Mutex   // guards the following
	calls     int          // since the history began
	struck    strikes      // since then
	faulty    bool         // faults happen
	counted   map[bool]int // calls since they do: those that are ticks, and those that are not
	failing   int          // how many calls more fail
	fails     FaultKind    // how
	processes []*process   // by number; dead ones stay until they are replaced
	direct    string       // id of the direct room of ada and bob
	acked     []said
	last      map[string]said // of each user
	problems  []string
	differs   []string // what the check under way has found
	doubles   int      // events that a connection without numbers heard twice
	trace     []string // what has happened, for whoever looks at a failure
}

// said is a message that somebody was told is kept.
type said struct {
	room, author, text, key string
	seq, number             int64 // 0: the answer does not say
	at                      time.Time
	ackID                   string // of the original's
	conn                    string
}

func (w *world) failed(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// differ notes that a check has found something to be otherwise than the store has it.
func (w *world) differ(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.differs = append(w.differs, fmt.Sprintf(format, args...))
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf("%s #%d ", time.Now().Format("04:05.000000"), w.calls)+fmt.Sprintf(format, args...))
}

// random is what the service makes up: the names of processes in leases, and the ids of direct rooms.
var random = regexp.MustCompile(`[A-Z2-7]{26}|private_[a-z2-7]{26}`)

// dice returns a number that is the same whenever the same thing happens at the same time in the same history.
func (w *world) dice(what string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %d %s", w.h.Seed, time.Now().UnixNano(), random.ReplaceAllString(what, ""))
	return h.Sum64()
}

// wait lets the time pass that a call takes: most are fast, some are not.
func (w *world) wait(what string) {
	d := w.dice(what)
	took := 20*time.Microsecond + time.Duration(d%2_000_000)
	if d>>32%64 == 0 {
		took += time.Duration(d >> 40 % 700_000_000)
	}
	time.Sleep(took)
}

// misfortune reports whether a request of a page is not answered this time.
func (w *world) misfortune(what string) bool {
	w.mu.Lock()
	faulty := w.faulty && len(w.h.Faults) > 0
	w.mu.Unlock()
	return faulty && w.dice("unanswered "+what)%32 == 0
}

// process is one process of the events service.
type process struct {
	w       *world
	number  int
	handler http.Handler
	stop    context.CancelFunc
	died    chan struct{} // closed when it dies
}

func (p *process) isDead() bool {
	select {
	case <-p.died:
		return true
	default:
		return false
	}
}

// die ends the process between two instructions. Another takes its place after a while.
func (p *process) die() {
	p.w.mu.Lock()
	dead := p.isDead()
	if !dead {
		close(p.died)
	}
	p.w.mu.Unlock()
	if dead {
		return
	}
	p.w.note("process %d dies", p.number)
	p.stop()
	p.w.work.Go(func() {
		time.Sleep(500*time.Millisecond + time.Duration(p.w.dice("restart")%3_000_000_000))
		if p.w.ctx.Err() == nil {
			p.w.start(p.number)
		}
	})
}

var (
	errDead  = errors.New("the process is dead")
	errFails = errors.New("the call failed")
)

// call makes one of the process's calls of something outside of it, which takes its time and may go wrong.
func (p *process) call(what string, do func() error) error {
	if p.isDead() {
		return errDead
	}
	p.w.wait(fmt.Sprint(p.number, what))
	if p.isDead() {
		return errDead
	}
	p.w.tick()
	switch p.w.fault(what) {
	case DieBefore:
		p.w.note("process %d dies before %s", p.number, what)
		p.die()
		return errDead
	case DieAfter:
		err := do()
		p.w.note("process %d dies after %s: %v", p.number, what, err)
		p.die()
		return errDead
	case FailBefore:
		p.w.note("process %d: fails before %s", p.number, what)
		return errFails
	case FailAfter:
		err := do()
		p.w.note("process %d: fails after %s: %v", p.number, what, err)
		return errFails
	}
	err := do()
	if strings.HasPrefix(what, "ClaimEffects ") || strings.HasPrefix(what, "Untold") || strings.HasPrefix(what, "ClaimConnections") || strings.HasPrefix(what, "SweepOffline") {
		return err
	}
	p.w.note("process %d: %s: %v", p.number, what, err)
	return err
}

// fault counts a call and says what goes wrong with it, if anything.
func (w *world) fault(what string) (kind FaultKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if !w.faulty {
		return ""
	}
	call := callOf(what)
	tick := slices.Contains(ticks, call)
	w.counted[tick]++
	if w.failing > 0 {
		w.failing--
		kind = w.fails
	}
	for _, f := range w.h.Faults {
		if kind == "" && f.Tick == tick && f.Call == w.counted[tick] {
			kind, w.fails, w.failing = f.Kind, f.Kind, f.For
		}
	}
	w.struck.add(call, kind, 1)
	return kind
}

// ticks are the calls that processes make from time to time, whether or not anybody does anything.
var ticks = []string{"ClaimEffects", "Untold", "SweepOffline", "ClaimConnections", "EffectsOwed", "HEAD connections/*"}

// strikes counts calls by which they are, and by what goes wrong with them: "" for nothing.
type strikes map[string]map[FaultKind]int

func (s strikes) add(call string, kind FaultKind, n int) {
	if s[call] == nil {
		s[call] = map[FaultKind]int{}
	}
	s[call][kind] += n
}

func (s strikes) addAll(more strikes) {
	for call, kinds := range more {
		for kind, n := range kinds {
			s.add(call, kind, n)
		}
	}
}

// callOf returns which call of the store or of a gateway something is, without to whom and about what.
func callOf(what string) string {
	name, path, _ := strings.Cut(what, " ")
	path, isGateway := strings.CutPrefix(path, "/api/hubs/chat/")
	if !isGateway {
		return name
	}
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	for i := 1; i < len(parts); i++ { // each kind of thing is followed by which one
		if parts[i] != "connections" && !strings.HasPrefix(parts[i], ":") {
			parts[i] = "*"
		}
	}
	return name + " " + strings.Join(parts, "/")
}

// start starts the process of a number.
func (w *world) start(number int) {
	ctx, stop := context.WithCancel(w.ctx)
	p := &process{w: w, number: number, stop: stop, died: make(chan struct{})}
	s, err := events.New(events.Config{Tenant: tenantID, Hub: "chat", Origins: []string{"gateway"}}, events.Deps{
		Store: &faultyStore{Store: w.wrap(w, w.store), p: p}, Log: noLog{},
		Gateway: dataplane.New("http://gateway", testKey, "chat", dataplane.Options{HTTP: &http.Client{Transport: port{p}}}),
		Keys:    func() []string { return []string{testKey} },
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		panic(err)
	}
	p.handler = s.Handler()
	w.mu.Lock()
	for len(w.processes) <= number {
		w.processes = append(w.processes, nil)
	}
	w.processes[number] = p
	w.mu.Unlock()
	w.note("process %d starts", number)
	w.work.Go(func() { _ = s.Run(ctx) })
}

// anyProcess returns a process that lives, or nil.
func (w *world) anyProcess(what string) *process {
	d := w.dice(what)
	w.mu.Lock()
	defer w.mu.Unlock()
	var live []*process
	for _, p := range w.processes {
		if p != nil && !p.isDead() {
			live = append(live, p)
		}
	}
	if len(live) == 0 {
		return nil
	}
	return live[d%uint64(len(live))]
}

// noLog is a message log that nothing is ever in: gateways ask before they publish.
type noLog struct{}

func (noLog) Append(string, messagelog.Entry, func(error)) {}

func (noLog) Ready(context.Context) error { return nil }

func (noLog) Consume(ctx context.Context, _, _ string, _ func(context.Context, []messagelog.Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// result is what has come of a history.
type result struct {
	problems []string
	doubles  int
	calls    int
	struck   strikes
	trace    []string
}

func unchanged(_ *world, s chat.Store) chat.Store { return s }

// run lets a history happen on a copy of a store, and looks whether everybody ends up with the same.
func run(t *testing.T, h History, open func() (chat.Store, func()), wrap func(w *world, s chat.Store) chat.Store) (r result) {
	synctest.Test(t, func(*testing.T) {
		store, closeStore := open()
		defer closeStore()
		ctx, end := context.WithCancel(context.Background())
		w := &world{h: h, ctx: ctx, store: store, wrap: wrap, people: map[string]*device{}, last: map[string]said{}, struck: strikes{}, counted: map[bool]int{}}
		w.g = &gateway{w: w, conns: map[string]*conn{}, browsers: map[*device]*browser{}}
		w.api = newAPI(w)
		w.net = w.g
		w.tick = func() {}
		if c, ok := store.(*clocked); ok {
			w.tick = c.tick
		}
		time.Sleep(time.Hour) // what was there before was there before
		w.happen()
		end()
		w.work.Wait()
		r = result{w.problems, w.doubles, w.calls, w.struck, w.trace}
	})
	return r
}

// happen lets the history happen: everybody connects, the steps are made, everything is mended, and then it is looked at.
func (w *world) happen() {
	for n := range w.h.Processes {
		w.start(n)
	}
	for _, name := range devices {
		d := newDevice(w, name)
		w.people[name] = d
		d.connect()
	}
	w.people["bot"] = newDevice(w, "bot")
	time.Sleep(2 * time.Second)
	w.mu.Lock()
	w.faulty, w.calls = true, 0
	w.mu.Unlock()
	for i, s := range w.h.Steps {
		time.Sleep(s.After)
		if s.Do == Kill {
			w.mu.Lock()
			p := w.processes[s.N%w.h.Processes]
			w.mu.Unlock()
			p.die()
			continue
		}
		w.people[s.By].steps <- numbered{number: i, step: s}
	}
	for _, d := range w.people { // those who wait for an answer get one
		done := make(chan struct{})
		d.steps <- numbered{done: done}
		<-done
	}
	w.mu.Lock()
	calls := w.calls
	w.faulty = false
	w.mu.Unlock()
	time.Sleep(4 * time.Second) // the dead are replaced
	w.settle()
	w.problems = append(w.problems, w.check("those who stayed")...)
	for _, name := range devices {
		w.people[name].connect()
	}
	w.settle()
	w.problems = append(w.problems, w.check("everybody")...)
	w.mu.Lock()
	w.calls = calls
	w.mu.Unlock()
}

// settle waits until nothing is owed, for as long as that may take, and then for what is on its way to clients, and for those
// who come again.
func (w *world) settle() {
	time.Sleep(3 * time.Second)
	for began := time.Now(); w.owes() && time.Since(began) < settled; {
		time.Sleep(500 * time.Millisecond)
	}
	time.Sleep(4 * time.Second) // whose connection was closed at last connects again
	w.tick()
}

// owes reports whether something is owed, or a room not told.
func (w *world) owes() bool {
	n, _, err := w.store.EffectsOwed(w.ctx, tenantID)
	for _, name := range rooms {
		if id := w.room(name); id != "" {
			t, _ := w.store.TellingOf(w.ctx, tenantID, id) // of one that is not there nothing is to be told
			n += int(t.Last - t.Told)
		}
	}
	return n > 0 || err != nil
}
