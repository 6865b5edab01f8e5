package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// asks is what the application is asked about a connection: events and invocations, one after another (eventQueue), and whether messages
// to groups may be published, one after another (questions). A question does not wait for events, so that a slow event holds up nothing
// that goes to groups; an event waits for the questions that were asked before it (docs/handlers.md).
type asks struct {
	events    eventQueue
	questions questions

	life context.Context // ends when no event is to be put for the connection any more
	stop context.CancelFunc
}

// theAsks returns what the application is asked about the connection, which is nothing at first.
func (c *Client) theAsks() *asks {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asks == nil {
		a := &asks{events: eventQueue{budget: c.shared.events.of(c.tenant), gauge: c.shared.metrics.eventsWaiting}}
		a.life, a.stop = context.WithCancel(c.shared.life)
		if c.hasEnded {
			a.stop()
			a.questions.stopped.Store(true)
		}
		c.asks = a
	}
	return c.asks
}

// How long the application may take for the events that a client has sent before its connection ended. Then they are given up, and it
// hears of the end.
const (
	lastWords      = 10 * time.Second
	lastWordsDrain = 2 * time.Second // the node ends soon
)

// end is called when the connection has ended. What its client has sent before it left still reaches the application, but not what
// somebody has sent who was thrown out.
func (a *asks) end(reason hub.Reason) {
	switch {
	case endsPublishing(reason):
		a.questions.stopped.Store(true)
		a.stop()
	case !a.events.busy():
		a.stop()
	case reason == hub.ReasonDrain:
		time.AfterFunc(lastWordsDrain, a.stop)
	default:
		time.AfterFunc(lastWords, a.stop)
	}
}

// How many events and invocations of one connection may wait for the application, the one included that is with it, and how much data of
// theirs, before its reader does. All connections of a node and of a tenant together have a budget; when that is used up each may have one.
const (
	maxEvents            = 64
	maxEventBytes        = 4 << 20
	eventBudget          = 128 << 20
	eventBudgetOfTenants = 32 << 20
	eventOverhead        = 1 << 10 // bytes that an event takes besides its data, about
)

// maxStall is how long a reader waits for room while none of the events that wait is answered. Then it does not hold up what else the
// client wants, and events are refused instead until there is room.
const maxStall = 10 * time.Second

// eventQueue is the events and invocations of a connection, over all its sockets, that the application has not answered. One at a time is
// with the application. It is safe for concurrent use.
type eventQueue struct {
	budget *eventBudgets
	gauge  prometheus.Gauge

	mu       sync.Mutex // guards the following
	waiting  []func()   // in order
	working  bool       // a goroutine works at them
	n        int        // of those that have room, the one included that is with the application
	bytes    int
	answered time.Time  // when one was answered last, or there was none
	pushed   uint64     // all that have been queued
	handled  uint64     // of those
	tickets  uint64     // of those who have asked for room, in order
	served   uint64     // of those who have got it, or have given up
	changed  *sync.Cond // made when somebody waits
}

// enter waits for room for an event of that size; push is to be called then. Readers of several sockets get it in the order in
// which they call. If patient is not set, enter reports false when none of those that wait has been answered for maxStall.
func (q *eventQueue) enter(size int, patient bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ticket := q.tickets
	q.tickets++
	for ticket != q.served || q.full() {
		stalled := time.Since(q.answered)
		if ticket == q.served && !patient && stalled >= maxStall {
			q.next()
			return false
		}
		q.wait(maxStall - stalled)
	}
	if q.n == 0 {
		q.answered = time.Now()
	}
	q.count(1, size)
	return true
}

// push queues an event that has entered. work is called with a function that works at what waits, unless somebody does already.
func (q *eventQueue) push(event func(), size int, work func(func())) {
	q.mu.Lock()
	q.waiting = append(q.waiting, func() {
		event()
		q.leave(size)
	})
	q.pushed++
	q.next()
	start := !q.working
	q.working = true
	q.mu.Unlock()
	if start {
		work(q.work)
	}
}

// work handles what waits until nothing does.
func (q *eventQueue) work() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.working, q.waiting = false, nil
			q.mu.Unlock()
			return
		}
		event := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		event()
	}
}

// leave counts out an event that has been answered.
func (q *eventQueue) leave(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answered = time.Now()
	q.handled++
	q.count(-1, -size)
	q.wake()
}

// awaitAnswers waits until all events that have been queued are answered, unless none has been for maxStall.
func (q *eventQueue) awaitAnswers() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for until := q.pushed; q.handled < until; {
		stalled := time.Since(q.answered)
		if stalled >= maxStall {
			return
		}
		q.wait(maxStall - stalled)
	}
}

// busy reports whether any event waits.
func (q *eventQueue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n > 0
}

// The following need mu.

func (q *eventQueue) full() bool {
	return q.n >= maxEvents || q.bytes >= maxEventBytes || q.n > 0 && q.budget.spent()
}

// count counts n events with so many bytes of data, both negative for those that have been answered.
func (q *eventQueue) count(n, size int) {
	q.n += n
	q.bytes += size
	q.budget.add(size + n*eventOverhead)
	q.gauge.Add(float64(n))
}

// next serves the next ticket.
func (q *eventQueue) next() {
	q.served++
	q.wake()
}

// wait returns when something has changed, or after d if that is positive.
func (q *eventQueue) wait(d time.Duration) {
	if q.changed == nil {
		q.changed = sync.NewCond(&q.mu)
	}
	if d > 0 {
		timer := time.AfterFunc(d, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.wake()
		})
		defer timer.Stop()
	}
	q.changed.Wait()
}

func (q *eventQueue) wake() {
	if q.changed != nil {
		q.changed.Broadcast()
	}
}

// eventBudgets is how many bytes the waiting events of a tenant take, and those of all tenants.
type eventBudgets struct{ ofTenant, ofAll *atomic.Int64 }

func (b *eventBudgets) add(size int) {
	b.ofTenant.Add(int64(size))
	b.ofAll.Add(int64(size))
}

func (b *eventBudgets) spent() bool {
	return b.ofTenant.Load() >= eventBudgetOfTenants || b.ofAll.Load() >= eventBudget
}

// waitingEvents is how many bytes the events take that wait on a node.
type waitingEvents struct {
	all     atomic.Int64
	tenants sync.Map // by name, as *eventBudgets; kept for good: there are as many as the settings have had
}

// of returns the budgets of a tenant.
func (w *waitingEvents) of(tenant string) *eventBudgets {
	if b, ok := w.tenants.Load(tenant); ok {
		return b.(*eventBudgets)
	}
	b, _ := w.tenants.LoadOrStore(tenant, &eventBudgets{ofTenant: new(atomic.Int64), ofAll: &w.all})
	return b.(*eventBudgets)
}
