package upstream

import (
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
)

// host is one authority that serves handlers. Connected and disconnected events wait in its queue for workers.
// While the host fails a single worker tries one event at a time, so that its return is noticed without a crowd
// at the door; then all of them catch up.
type host struct {
	name  string
	slots chan struct{} // a token for each request under way

	mu       sync.Mutex // guards the following
	failures int        // attempts in a row that found no working handler
	pause    time.Duration
	resume   time.Time // not before, while the host fails
	queue    []*Session
	workers  int
	counted  int  // lifecycle events that wait for this host, retries included
	dropping bool // a loss has been logged since the host last worked
}

// failing is the number of failed attempts in a row after which a host counts as down.
const failing = 3

// Pauses between attempts of lifecycle events double between these.
const (
	minPause = time.Second
	maxPause = 10 * time.Second
)

func (u *Upstream) host(name string) *host {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := u.hosts[name]
	if h == nil {
		h = &host{name: name, slots: make(chan struct{}, u.cfg.InFlight)}
		u.hosts[name] = h
	}
	return h
}

// report notes how an attempt ended, and logs when the host goes down and when it is back.
func (u *Upstream) report(h *host, failure *Failure) {
	h.mu.Lock()
	before := h.failures
	switch {
	case failure == nil:
		h.failures, h.pause, h.dropping = 0, 0, false
	case failure.Status != 0 && !failure.retry: // it works, and refuses
		h.failures, h.pause = 0, 0
	case failure.retry, failure.Reason == ReasonTimeout, failure.Reason == ReasonSecret:
		h.failures++
	}
	after := h.failures
	h.mu.Unlock()

	switch {
	case before >= failing && after == 0:
		u.log.Info("event handler works again", "handler", h.name)
		u.hire(h) // the one that pauses need not be waited for
	case before < failing && after >= failing:
		u.log.Warn("event handler is failing", "handler", h.name, "reason", failure.Reason, "status", failure.Status, "detail", failure.detail)
	}
}

// push queues a session whose next lifecycle event goes to h.
func (u *Upstream) push(h *host, s *Session) {
	h.mu.Lock()
	h.queue = append(h.queue, s)
	h.mu.Unlock()
	u.hire(h)
}

// hire starts workers for what is queued.
func (u *Upstream) hire(h *host) {
	h.mu.Lock()
	n := max(0, min(u.crew(h)-h.workers, len(h.queue)))
	h.workers += n
	h.mu.Unlock()
	for range n {
		u.start(func() { u.serve(h) })
	}
}

// crew is how many workers h may have now. Requests that somebody waits for keep the larger part of its slots.
// The caller holds h.mu.
func (u *Upstream) crew(h *host) int {
	if h.failures >= failing {
		return 1
	}
	return max(1, u.cfg.InFlight/4)
}

// serve delivers what is queued for h until nothing is, or it is not needed.
func (u *Upstream) serve(h *host) {
	for s := u.take(h); s != nil; s = u.take(h) {
		u.deliver(h, s)
	}
}

// take returns the next session in the queue, after the pause that a failing host is given. nil ends the worker.
func (u *Upstream) take(h *host) *Session {
	for {
		s, wait := u.tryTake(h)
		if wait <= 0 {
			return s
		}
		if backoff.Sleep(u.life, wait) != nil {
			return nil
		}
	}
}

func (u *Upstream) tryTake(h *host) (s *Session, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 || h.workers > u.crew(h) || u.life.Err() != nil {
		h.workers--
		return nil, 0
	}
	if h.failures >= failing {
		if wait = time.Until(h.resume); wait > 0 {
			return nil, wait
		}
	}
	s, h.queue[0] = h.queue[0], nil
	h.queue = h.queue[1:]
	return s, 0
}

// rest makes the workers of a failing host pause, for longer each time.
func (h *host) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures >= failing {
		h.pause = backoff.After(h.pause, minPause, maxPause)
		h.resume = time.Now().Add(h.pause)
	}
}

// admit counts a lifecycle event against the limit of waiting ones and reports whether it may wait. The second
// half of the limit is for disconnected: a user who is missed is worse than one who is not yet seen.
func (h *host) admit(k kind, limit int) bool {
	if k != kindDisconnected {
		limit = (limit + 1) / 2
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counted >= limit {
		return false
	}
	h.counted++
	return true
}

func (h *host) dismiss() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counted--
}

// firstLoss reports whether a loss should be logged: the first since the host last worked.
func (h *host) firstLoss() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.dropping
	h.dropping = true
	return first
}
