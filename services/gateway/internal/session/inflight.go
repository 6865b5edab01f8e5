package session

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How much of one connection may be on its way to the bus before its reader waits.
const (
	maxInFlight      = 128
	maxInFlightBytes = 4 << 20
)

// inFlight is the messages of a connection that the bus has not answered for, and the requests that are to be acknowledged.
type inFlight struct {
	mu    sync.Mutex // guards the following
	n     int        // messages
	bytes int
	ids   []uint64   // ackIds of requests that have not been acknowledged
	room  *sync.Cond // made when somebody waits
}

// acquire counts a message of that size in, waiting for room.
func (f *inFlight) acquire(size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.full() {
		f.wait()
	}
	f.add(size)
}

// tryAcquire counts a message of that size in if there is room.
func (f *inFlight) tryAcquire(size int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full() {
		return false
	}
	f.add(size)
	return true
}

func (f *inFlight) full() bool { return f.n >= maxInFlight || f.bytes >= maxInFlightBytes }

func (f *inFlight) add(size int) {
	f.n++
	f.bytes += size
}

func (f *inFlight) wait() {
	if f.room == nil {
		f.room = sync.NewCond(&f.mu)
	}
	f.room.Wait()
}

// release counts a message out.
func (f *inFlight) release(size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	f.bytes -= size
	f.wake()
}

func (f *inFlight) wake() {
	if f.room != nil {
		f.room.Broadcast()
	}
}

// begin notes that a request with that ackId is under way, once no other one is. A connection has several readers for a
// moment when its client comes back before the old socket is read to its end, so that looking and noting are one step.
func (f *inFlight) begin(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for slices.Contains(f.ids, id) {
		f.wait()
	}
	f.ids = append(f.ids, id)
}

// tryBegin is begin without waiting; it reports whether it could be done.
func (f *inFlight) tryBegin(id uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.ids, id) {
		return false
	}
	f.ids = append(f.ids, id)
	return true
}

// end notes that the request with that ackId is not under way any more.
func (f *inFlight) end(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.ids, id); i >= 0 {
		f.ids = slices.Delete(f.ids, i, i+1)
	}
	f.wake()
}

// awaitNone waits until nothing is under way. The bus answers for everything, if only that it is gone.
func (f *inFlight) awaitNone(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wake()
	})
	defer stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.n > 0 && ctx.Err() == nil {
		f.wait()
	}
	return ctx.Err()
}

// throttle bounds how many messages of a connection come a second: a limit's worth may come at once, then as many a
// second. The zero value has no limit yet.
type throttle struct {
	bucket    *rate.Limiter // nil: nothing has been limited
	perSecond int           // of bucket
}

// wait returns when the next message may come.
func (t *throttle) wait(perSecond int) {
	switch {
	case t.bucket == nil:
		t.bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	case t.perSecond != perSecond: // the settings have changed
		t.bucket.SetLimit(rate.Limit(perSecond))
		t.bucket.SetBurst(perSecond)
	}
	t.perSecond = perSecond
	time.Sleep(t.bucket.Reserve().Delay())
}
