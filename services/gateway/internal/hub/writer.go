package hub

import (
	"context"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// closeWait is how long a client may take to answer a close frame.
const closeWait = 5 * time.Second

// writer writes to its share of the connections. The goroutine that holds owner has the writer's work and state to itself, so
// that neither its connections nor its parts of lists need a lock of their own: that is the goroutine in run or, for a few
// messages that were deferred, the goroutine that calls Flush. The order of locks is owner before jobQueue.mu; Registry.mu may be held
// while something is queued without waiting, and is taken by the owner when connections come and go.
type writer struct {
	jobQueue
	r     *Registry
	index int
	done  chan struct{} // closed when the writer has ended

	owner       sync.Mutex // held while doing the writer's work; guards the following
	taken       []job      // what was taken from the queue
	takenFrames []byte     // the frames of taken
	helping     bool       // the owner is a goroutine that helps out: it may hold locks and must not be kept
	now         int64      // Unix milliseconds when taken was taken
	pings       pingWheel

	deliveredCopies int // for the metrics, until taken is done
	writtenBytes    int // for the metrics too

	// Of the segment at hand, see write.
	segment      uint64  // its number; what carries another number is of an earlier segment
	touchedLists []*list // those that have messages in it
	anyMixed     bool
	stages       []stage
	scratch      []byte // of one connection at a time
	encoder      encoder

	// Of the list at hand: its messages as frames of each codec, plain and then compressed, made when the first member needs them.
	runFrames   [2 * protocol.Count][]byte
	runBuffers  [2 * protocol.Count][]byte // the space that runFrames uses, kept for the next list
	runFirstSeq [2 * protocol.Count]uint64 // of reliable codecs: the number that runFrames begins with
}

func newWriter(r *Registry, index int) *writer {
	w := &writer{
		r: r, index: index, jobQueue: jobQueue{wake: make(chan struct{}, 1)}, done: make(chan struct{}),
		encoder: encoder{expired: r.metrics.expired},
	}
	w.hasRoom.L = &w.mu
	return w
}

// helpOrWake does what is queued, and returns its cost, when that is no more than budget and run is neither at work nor about to be.
// Otherwise it wakes run and returns 0. Waking run costs as much as a write.
func (w *writer) helpOrWake(budget int) int {
	w.mu.Lock()
	cost := w.cost
	switch {
	case len(w.queue) == 0 || w.awake:
		w.mu.Unlock()
		return 0
	case cost > budget || w.ended || !w.owner.TryLock():
		w.unlockAndWake()
		return 0
	}
	defer w.owner.Unlock()
	w.takeQueue()
	w.mu.Unlock()
	w.helping = true
	w.doTaken()
	w.helping = false
	return cost
}

// takeQueue takes what is queued and reports whether that is anything. The caller has owner and mu. Queue and taken change
// places, so that neither allocates once both are large enough.
func (w *writer) takeQueue() bool {
	w.taken, w.queue = w.queue, w.taken[:0]
	w.takenFrames, w.queuedFrames, w.queuedBytes, w.cost = w.queuedFrames, w.takenFrames[:0], 0, 0
	w.hasRoom.Broadcast()
	return len(w.taken) > 0
}

// run does what is queued until ctx ends.
func (w *writer) run(ctx context.Context) {
	defer w.stop()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-w.wake:
			w.workOffQueue()
		case <-ticker.C:
			w.owner.Lock()
			w.keepAlive()
			w.owner.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// workOffQueue does what is queued until nothing is. awake is cleared under the lock that queues, together with finding
// nothing: the next that queues sees it and wakes run again.
func (w *writer) workOffQueue() {
	w.owner.Lock()
	defer w.owner.Unlock()
	for {
		w.mu.Lock()
		w.awake = w.takeQueue()
		more := w.awake
		w.mu.Unlock()
		if !more {
			return
		}
		w.doTaken()
	}
}

// stop says that the writer has ended, and releases those who wait for it.
func (w *writer) stop() {
	w.owner.Lock() // a goroutine that helps out has finished
	defer w.owner.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.hasRoom.Broadcast()
	close(w.done)
}

// doTaken does the jobs that were taken: each stretch of messages and frames as one segment, other jobs one by one. Metrics are
// counted once at the end, since counters are shared by all writers.
func (w *writer) doTaken() {
	w.now = time.Now().UnixMilli()
	for rest := w.taken; len(rest) > 0; {
		n := 0
		for n < len(rest) && rest[n].op.isDelivery() {
			n++
		}
		if n > 0 {
			w.write(rest[:n], w.takenFrames)
			rest = rest[n:]
			continue
		}
		w.apply(rest[0])
		rest = rest[1:]
	}
	w.r.metrics.delivered.Add(float64(w.deliveredCopies))
	w.r.metrics.bytesOut.Add(float64(w.writtenBytes))
	w.deliveredCopies, w.writtenBytes = 0, 0
	clear(w.taken)
	w.taken, w.takenFrames = shrink(w.taken, 4096), shrink(w.takenFrames, 64<<10)
}

// shrink returns s, or nil if it is larger than what should be kept after a burst.
func shrink[T any](s []T, limit int) []T {
	if cap(s) > limit {
		return nil
	}
	return s
}

// apply does a job that is neither message nor frame.
func (w *writer) apply(j job) {
	c := j.conn
	switch j.op {
	case opJoin:
		w.join(j.list, c, j.reportJoin)
	case opLeave:
		w.leave(j.list, c)
	case opList:
		conns := append([]*Conn(nil), j.list.parts[w.index].conns...)
		for i, c := range conns {
			if c.shadowOf != nil { // the connection that is listed is the one that moves
				conns[i] = c.shadowOf
			}
		}
		j.extra.(chan []*Conn) <- conns
	case opAttach:
		a := j.extra.(attachment)
		a.answer <- w.attach(c, a.sock, a.connected)
	case opDetach:
		d := j.extra.(detachment)
		w.detach(c, d.sock, d.final, d.closing)
	case opExpire:
		if c.state == stateDetached && c.detachments == j.seq {
			w.endConn(c, ReasonLost.Closing("The connection was not recovered in time."))
		}
	case opClose:
		w.close(c, j.extra.(Closing))
	case opCloseList:
		conns := append([]*Conn(nil), j.list.parts[w.index].conns...)
		for _, c := range conns {
			if !j.msg.excludes(c) {
				w.close(c, j.extra.(Closing))
			}
		}
	case opAskToReconnect:
		w.askToReconnect(c, j.extra.(Closing))
	case opMeasure:
		j.extra.(chan []Buffered) <- w.measure()
	case opDivertToShadow:
		c.divertToShadow(j.list)
	default:
		w.handoffStep(j)
	}
}

// join puts c on w's part of l. One that has ended meanwhile is removed from the count again.
func (w *writer) join(l *list, c *Conn, report bool) {
	if c.state == stateEnded {
		w.r.removeMember(l, c)
		return
	}
	p := l.parts[w.index]
	c.places = append(c.places, place{l, len(p.conns)})
	p.conns = append(p.conns, c)
	if report {
		c.reportMembership(l, true)
	}
}

// leave takes c off w's part of l. One that has ended is on no list any more.
func (w *writer) leave(l *list, c *Conn) {
	for i, at := range c.places {
		if at.list == l {
			c.places[i] = c.places[len(c.places)-1]
			c.places = c.places[:len(c.places)-1]
			l.parts[w.index].remove(l, at.index)
			w.r.removeMember(l, c)
			c.reportMembership(l, false)
			return
		}
	}
}

// leaveAll takes member off all lists: c itself, or the shadow that stands in c's place on some. What is reported is c's membership.
func (w *writer) leaveAll(c, member *Conn) {
	for _, at := range member.places {
		at.list.parts[w.index].remove(at.list, at.index)
		w.r.removeMember(at.list, c)
		c.reportMembership(at.list, false)
	}
	member.places = nil
}

// remove takes the member at index off p, a writer's part of l; the last member takes its place.
func (p *part) remove(l *list, index int) {
	end := len(p.conns) - 1
	last := p.conns[end]
	p.conns[index], p.conns[end] = last, nil
	p.conns = p.conns[:end]
	for i := range last.places {
		if last.places[i].list == l {
			last.places[i].index = index
		}
	}
}
