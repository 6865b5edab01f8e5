package session

import (
	"context"
	"sync"
)

// How much of one connection may be on its way to the bus before its reader waits.
const (
	maxInFlight      = 128
	maxInFlightBytes = 4 << 20
)

// inFlight is the messages of a connection that the bus has not answered for, and the requests that are to be acknowledged.
type inFlight struct {
	mu     sync.Mutex // guards the following
	n      int        // messages
	bytes  int
	ackIDs []uint64   // of requests that have not been acknowledged
	room   *sync.Cond // made when somebody waits
}

// acquire counts a message of that size, waiting for room.
func (f *inFlight) acquire(size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.full() {
		f.wait()
	}
	f.add(size)
}

// tryAcquire counts a message of that size if there is room.
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

// release removes a message from the count.
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
