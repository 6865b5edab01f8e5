package session

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// newEventQueue returns a queue with budgets, and what they are part of.
func newEventQueue() (*eventQueue, *waitingEvents) {
	var w waitingEvents
	return &eventQueue{budget: w.of("default"), gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})}, &w
}

// goWork runs work in a goroutine of its own.
func goWork(work func()) { go work() }

// TestEventsAreBounded: a reader waits once as many events wait as may, by number or by bytes.
func TestEventsAreBounded(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": maxEventBytes / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newEventQueue()
				answer := make(chan struct{})
				var entered, handled atomic.Int64
				want := int64(min(maxEvents, maxEventBytes/size))
				go func() {
					for range want + 2 {
						q.enter(size, true)
						entered.Add(1)
						q.push(func() { <-answer; handled.Add(1) }, size, goWork)
					}
				}()
				for n := range int64(3) {
					time.Sleep(time.Hour) // none is refused to who is patient
					if entered.Load() != want+n || handled.Load() != n {
						t.Errorf("got %d let through and %d handled, want %d and %d", entered.Load(), handled.Load(), want+n, n)
					}
					if n < 2 {
						answer <- struct{}{}
					}
				}
				close(answer)
				synctest.Wait() // the goroutine that handles them ends with them, or the test does not end
				if q.busy() || testutil.ToFloat64(q.gauge) != 0 || q.budget.ofAll.Load() != 0 || q.budget.ofTenant.Load() != 0 {
					t.Error("got events counted that have been answered")
				}
			})
		})
	}
}

// TestEventsAreRefusedOnceNoneIsAnswered, so that a hanging application does not hold up what else a client wants; not before, nor as long
// as it answers.
func TestEventsAreRefusedOnceNoneIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newEventQueue()
		answer := make(chan struct{})
		defer close(answer)
		enter := func() (ok bool, after time.Duration) {
			began := time.Now()
			if ok = q.enter(1, false); ok {
				q.push(func() { <-answer }, 1, goWork)
			}
			return ok, time.Since(began)
		}
		for range maxEvents {
			enter()
		}
		for range 3 { // it is slow, but answers
			time.AfterFunc(maxStall-time.Second, func() { answer <- struct{}{} })
			if ok, after := enter(); !ok || after != maxStall-time.Second {
				t.Errorf("got %v after %v, want room as soon as there is some", ok, after)
			}
		}
		if ok, after := enter(); ok || after != maxStall {
			t.Errorf("got %v after %v, want a refusal after %v", ok, after, maxStall)
		}
		if ok, after := enter(); ok || after != 0 {
			t.Errorf("got %v after %v, want a refusal at once as nothing has been answered since", ok, after)
		}
		answer <- struct{}{}
		synctest.Wait()
		if ok, after := enter(); !ok || after != 0 {
			t.Errorf("got %v after %v, want it let through once there is room", ok, after)
		}
	})
}

// TestWhoWaitsForAnswers waits for the events before, not for later ones, nor for an application that hangs.
func TestWhoWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newEventQueue()
		answer := make(chan struct{})
		push := func(n int) {
			for range n {
				q.enter(1, false)
				q.push(func() { <-answer }, 1, goWork)
			}
		}
		push(2)
		began, waited := time.Now(), make(chan time.Duration, 1)
		go func() {
			q.awaitAnswers()
			waited <- time.Since(began)
		}()
		synctest.Wait()
		push(1)
		for range 2 {
			time.Sleep(maxStall - time.Second)
			answer <- struct{}{}
		}
		if got := <-waited; got != 2*(maxStall-time.Second) {
			t.Errorf("got %v, want until the second is answered", got)
		}
		began = time.Now()
		q.awaitAnswers()
		if got := time.Since(began); got != maxStall {
			t.Errorf("got %v, want %v as none is answered", got, maxStall)
		}
		close(answer)
	})
}

// TestEventsOfSeveralSocketsKeepTheirOrder: a reader of the socket before may wait for room when the client comes back.
func TestEventsOfSeveralSocketsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newEventQueue()
		answer := make(chan struct{})
		var got, want []int
		for i := range maxEvents + 40 {
			want = append(want, i)
			go func() {
				q.enter(1, true)
				q.push(func() { <-answer; got = append(got, i) }, 1, goWork)
			}()
			synctest.Wait()
		}
		close(answer)
		synctest.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want the order of asking for room", got)
		}
	})
}

// TestEventsOfAllConnectionsHaveABudget: when it is used up each connection may have one event waiting; other tenants have one of their own.
func TestEventsOfAllConnectionsHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := newEventQueue()
		answer := make(chan struct{})
		open := func(tenant string) (entered *int) {
			q := &eventQueue{budget: w.of(tenant), gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})}
			entered = new(int)
			go func() {
				for range 3 {
					q.enter(maxEventBytes/2, true)
					*entered++
					q.push(func() { <-answer }, maxEventBytes/2, goWork)
				}
			}()
			synctest.Wait()
			return entered
		}
		for range eventBudgetOfTenants / maxEventBytes {
			if n := open("default"); *n != 2 {
				t.Fatalf("got %d of a connection let through, want 2", *n)
			}
		}
		if n := open("default"); *n != 1 {
			t.Errorf("got %d of a connection let through without a budget, want 1", *n)
		}
		if n := open("other"); *n != 2 {
			t.Errorf("got %d of another tenant's connection let through, want 2", *n)
		}
		close(answer)
		synctest.Wait()
		if w.all.Load() != 0 {
			t.Errorf("got %d bytes counted of events that have been answered", w.all.Load())
		}
	})
}

// TestEventsThatOutliveTheirConnection: what a client has sent before it left has some time, what somebody has sent who was thrown out none.
func TestEventsThatOutliveTheirConnection(t *testing.T) {
	for reason, want := range map[hub.Reason]time.Duration{hub.ReasonClient: lastWords, hub.ReasonLost: lastWords, hub.ReasonDrain: lastWordsDrain,
		hub.ReasonRequested: 0, hub.ReasonUpstream: 0} {
		synctest.Test(t, func(t *testing.T) {
			q, _ := newEventQueue()
			a := &asks{events: eventQueue{budget: q.budget, gauge: q.gauge}}
			a.life, a.stop = context.WithCancel(t.Context())
			a.events.enter(1, true)
			a.events.push(func() { <-a.life.Done() }, 1, goWork)
			began := time.Now()
			a.end(reason)
			<-a.life.Done()
			if took := time.Since(began); took != want {
				t.Errorf("%s: got %v, want %v", reason, took, want)
			}
			synctest.Wait()
			if a.questions.stopped.Load() != (want == 0) {
				t.Errorf("%s: got questions stopped: %v", reason, a.questions.stopped.Load())
			}
		})
	}
}
