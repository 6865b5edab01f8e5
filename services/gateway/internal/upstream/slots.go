package upstream

import (
	"context"
	"slices"
	"sync"
)

// slots bounds the requests to handlers that are under way: those to one host of a tenant, and all together. Each tenant has some that
// it shares with nobody, so that it never waits until another's handlers answer. The others go, when they are scarce, to the tenant
// that has the fewest. It is safe for concurrent use.
type slots struct {
	perHost int // slots for one host of a tenant
	own     int // slots that each tenant has for itself
	shared  int // slots for all tenants besides

	mu      sync.Mutex     // guards the following, and the hostSlots of all hosts
	used    int            // shared ones
	tenants map[string]int // how many a tenant has, of both kinds; no entry: none
	waiting []*host        // for which somebody waits; those that got one last are behind
}

// hostSlots is what slots keeps with a host.
type hostSlots struct {
	inUse   int
	clients []chan struct{} // who waits, in order; closed when a slot is given
	workers []chan struct{} // those who deliver lifecycle events; they go first, for there are few of them
}

func newSlots(cfg Config) *slots {
	return &slots{perHost: cfg.InFlight, own: max(1, cfg.InFlight/16), shared: max(cfg.TotalInFlight, cfg.InFlight), tenants: map[string]int{}}
}

// acquire returns when there is a slot for a request to h, which release gives back, or ctx's error when that has ended before. A
// worker is somebody who delivers lifecycle events.
func (s *slots) acquire(ctx context.Context, h *host, worker bool) error {
	s.mu.Lock()
	if !h.slots.awaited() && s.free(h) {
		s.give(h)
		s.mu.Unlock()
		return nil
	}
	if !h.slots.awaited() {
		s.waiting = append(s.waiting, h)
	}
	given, queue := make(chan struct{}), h.slots.queue(worker)
	*queue = append(*queue, given)
	s.mu.Unlock()
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(*queue, given); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
		s.forgetUnawaited(h)
	} else { // it was given meanwhile
		s.takeBack(h)
	}
	return ctx.Err()
}

// release gives back a slot that acquire has given.
func (s *slots) release(h *host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeBack(h)
}

// The following need mu.

func (h *hostSlots) awaited() bool { return len(h.clients)+len(h.workers) > 0 }

func (h *hostSlots) queue(worker bool) *[]chan struct{} {
	if worker {
		return &h.workers
	}
	return &h.clients
}

// free reports whether there is a slot for h.
func (s *slots) free(h *host) bool {
	return h.slots.inUse < s.perHost && (s.tenants[h.tenant] < s.own || s.used < s.shared)
}

func (s *slots) give(h *host) {
	h.slots.inUse++
	s.tenants[h.tenant]++
	if s.tenants[h.tenant] > s.own {
		s.used++
	}
}

// takeBack takes a slot of h back, and gives what is free now to those who wait.
func (s *slots) takeBack(h *host) {
	h.slots.inUse--
	if s.tenants[h.tenant] > s.own {
		s.used--
	}
	if s.tenants[h.tenant]--; s.tenants[h.tenant] == 0 {
		delete(s.tenants, h.tenant)
	}
	for next := s.nextServed(); next != nil; next = s.nextServed() {
		s.give(next)
		queue := next.slots.queue(len(next.slots.workers) > 0)
		close((*queue)[0])
		*queue = slices.Delete(*queue, 0, 1)
		i := slices.Index(s.waiting, next)
		s.waiting = append(slices.Delete(s.waiting, i, i+1), next)
		s.forgetUnawaited(next)
	}
}

// nextServed returns the host that is to get the next slot, nil if there is none that can.
func (s *slots) nextServed() (next *host) {
	for _, h := range s.waiting {
		if s.free(h) && (next == nil || s.tenants[h.tenant] < s.tenants[next.tenant]) {
			next = h
		}
	}
	return next
}

// forgetUnawaited takes h off the list of those for which somebody waits, if nobody does.
func (s *slots) forgetUnawaited(h *host) {
	if !h.slots.awaited() {
		if i := slices.Index(s.waiting, h); i >= 0 {
			s.waiting = slices.Delete(s.waiting, i, i+1)
		}
	}
}

// shares bounds how many lifecycle events wait for all hosts together. Once there are as many as may be, a tenant that has more than its
// share of them gets no more, and others do. It is safe for concurrent use.
type shares struct {
	mu  sync.Mutex // guards the following
	all int
	of  map[string]int // by tenant; no entry: none
}

// add counts an event of a tenant, and reports false if it may not wait, since there are limit.
func (s *shares) add(tenant string, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenants := len(s.of)
	if s.of[tenant] == 0 {
		tenants++
	}
	if s.all >= limit && s.of[tenant] >= limit/tenants {
		return false
	}
	s.all++
	s.of[tenant]++
	return true
}

// remove counts out an event that add has counted.
func (s *shares) remove(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[tenant]--; s.of[tenant] == 0 {
		delete(s.of, tenant)
	}
}
