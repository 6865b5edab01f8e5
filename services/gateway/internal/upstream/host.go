package upstream

import (
	"net/http"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
)

// host is one authority (host and port) that serves handlers of one tenant. Another tenant's at the same authority is another host, so
// that neither waits for what the other asks it to do. Lifecycle events wait in its queue for workers. While the host fails
// a single worker tries one event at a time, so that its return is noticed without all events being sent to it at once; then all
// workers catch up.
type host struct {
	u      *Upstream
	tenant string
	name   string
	client *http.Client // whose TCP connections no other host uses: requests of several tenants on one could hold each other up
	slots  hostSlots    // guarded by the mutex of Upstream.slots

	mu         sync.Mutex // guards the following
	failures   int        // attempts in a row that found no working handler
	pause      time.Duration
	resume     time.Time // when it may be tried again, while it fails
	queue      []*Session
	workers    int
	reserved   int  // lifecycle events that wait for this host, retries included
	lossLogged bool // a loss has been logged since the host last worked
}

// downAfter is the number of failed attempts in a row after which a host counts as down.
const downAfter = 3

// Pauses between attempts of lifecycle events grow from the first to the second.
const (
	minPause = time.Second
	maxPause = 10 * time.Second
)

// hostKey says which host is meant.
type hostKey struct{ tenant, name string }

// host returns the host of that name that serves a tenant. Hosts are kept for good: there are as many as the settings have had.
func (u *Upstream) host(tenant, name string) *host {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := hostKey{tenant, name}
	h := u.hosts[key]
	if h == nil {
		client := *u.client
		if t, ok := client.Transport.(*http.Transport); ok {
			client.Transport = t.Clone()
		}
		h = &host{u: u, tenant: tenant, name: name, client: &client}
		u.hosts[key] = h
	}
	return h
}

// recordOutcome takes in how an attempt ended, and logs when the host goes down and when it is back.
func (h *host) recordOutcome(failure *Failure) {
	h.mu.Lock()
	before := h.failures
	switch {
	case failure == nil:
		h.failures, h.pause, h.lossLogged = 0, 0, false
	case failure.Status != 0 && !failure.retry: // it works: it has refused the event
		h.failures, h.pause = 0, 0
	case failure.retry, failure.Reason == ReasonTimeout, failure.Reason == ReasonSecret:
		h.failures++
	}
	after := h.failures
	h.mu.Unlock()

	switch {
	case before >= downAfter && after == 0:
		h.u.log.Info("event handler works again", "handler", h.name, "tenant", h.tenant)
		h.startWorkers() // the only one that is left may be pausing
	case before < downAfter && after >= downAfter:
		h.u.log.Warn("event handler is failing", "handler", h.name, "tenant", h.tenant, "reason", failure.Reason, "status", failure.Status, "detail", failure.detail)
	}
}

// push queues a session whose next lifecycle event goes to h.
func (h *host) push(s *Session) {
	h.mu.Lock()
	h.queue = append(h.queue, s)
	h.mu.Unlock()
	h.startWorkers()
}

// startWorkers starts as many workers as there are sessions in the queue, and as are allowed.
func (h *host) startWorkers() {
	h.mu.Lock()
	n := max(0, min(h.maxWorkers()-h.workers, len(h.queue)))
	h.workers += n
	h.mu.Unlock()
	for range n {
		h.u.start(h.work)
	}
}

// maxWorkers is how many workers h may have now. The larger part of its slots is left to requests that a client waits
// for.
// The caller holds h.mu.
func (h *host) maxWorkers() int {
	if h.failures >= downAfter {
		return 1
	}
	return max(1, h.u.cfg.InFlight/4)
}

// work is a worker: it delivers what is queued for h until nothing is, or there are too many workers.
func (h *host) work() {
	for s := h.nextSession(); s != nil; s = h.nextSession() {
		h.u.deliverNext(h, s)
	}
}

// nextSession returns the next session in the queue, after the pause if the host is failing. nil ends the worker.
func (h *host) nextSession() *Session {
	for {
		s, wait := h.tryNextSession()
		if wait <= 0 {
			return s
		}
		if backoff.Sleep(h.u.life, wait) != nil {
			return nil
		}
	}
}

// tryNextSession takes a session from the queue, or returns how long to wait before; nil and no wait end the worker, which is
// counted out under the same lock that finds the queue empty: push then starts another one.
func (h *host) tryNextSession() (s *Session, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 || h.workers > h.maxWorkers() || h.u.life.Err() != nil {
		h.workers--
		return nil, 0
	}
	if h.failures >= downAfter {
		if wait = time.Until(h.resume); wait > 0 {
			return nil, wait
		}
	}
	s, h.queue[0] = h.queue[0], nil
	h.queue = h.queue[1:]
	return s, 0
}

// backOff makes the workers of a failing host pause, for longer each time.
func (h *host) backOff() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures >= downAfter {
		h.pause = backoff.After(h.pause, minPause, maxPause)
		h.resume = time.Now().Add(h.pause)
	}
}

// reserve counts a lifecycle event against the limits of waiting ones, h's own and that of all hosts, and reports whether it may wait.
// The second half of each limit is for disconnected: a user who seems to be there but is gone is worse than one who
// is not seen yet.
func (h *host) reserve(k eventKind) bool {
	limit, total := h.u.cfg.LifecycleQueue, max(h.u.cfg.TotalLifecycleQueue, h.u.cfg.LifecycleQueue)
	if k != kindDisconnected {
		limit, total = (limit+1)/2, (total+1)/2
	}
	if !h.countReserved(limit) {
		return false
	}
	if !h.u.shares.add(h.tenant, total) {
		h.countOut()
		return false
	}
	h.u.addWaiting(1)
	return true
}

// unreserve counts out an event that reserve has counted.
func (h *host) unreserve() {
	h.countOut()
	h.u.shares.remove(h.tenant)
	h.u.addWaiting(-1)
}

func (h *host) countReserved(limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reserved >= limit {
		return false
	}
	h.reserved++
	return true
}

func (h *host) countOut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reserved--
}

// firstLoss reports whether giving up an event should be logged: it is the first since the host last worked.
func (h *host) firstLoss() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.lossLogged
	h.lossLogged = true
	return first
}
