package upstream

import (
	"context"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// queue adds a lifecycle event, unless no handler wants it or too many wait for that handler's host.
func (s *Session) queue(p lifecycle) {
	to, ok := s.targetOf(p)
	if !ok || !to.host.admit(p.kind, s.up.cfg.LifecycleQueue) {
		if ok {
			s.up.lose(to.host, s, p.kind, reasonOverflow)
		}
		if p.kind == kindDisconnected {
			s.release()
		}
		return
	}
	s.up.expect(1)
	p.counted = to.host
	if !s.add(p) {
		to.host.dismiss()
		s.up.expect(-1)
		return
	}
	s.submit()
}

// targetOf returns the first handler that wants p.
func (s *Session) targetOf(p lifecycle) (target, bool) {
	if s.caller != nil {
		return s.ancestorTarget(p.kind)
	}
	if p.kind == kindJoined || p.kind == kindLeft {
		return s.up.presenceTarget(s.hub, string(p.kind), p.group)
	}
	return s.up.systemTarget(s.hub, string(p.kind))
}

// add appends p to what is pending and gives it its id. It reports false for anything but disconnected that comes
// after the end, which would make a user appear who is gone, and for all once another process goes on with the session.
func (s *Session) add(p lifecycle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outOfPlace(p.kind) {
		return false
	}
	if p.id == 0 { // else it has been told to listeners by it, or by another process to its handler
		s.lastID++
		p.id = s.lastID
	}
	s.pending = append(s.pending, p)
	return true
}

// outOfPlace reports whether an event of that kind must not be told any more. The caller has mu.
func (s *Session) outOfPlace(k kind) bool { return k != kindDisconnected && s.closed || s.given }

// submit hands the session to the host of its next lifecycle event, unless it is there already. Disconnected
// waits for user events that are still under way.
func (s *Session) submit() {
	s.mu.Lock()
	if s.submitted || len(s.pending) == 0 || s.pending[0].kind == kindDisconnected && s.events > 0 {
		s.mu.Unlock()
		return
	}
	s.submitted = true
	p := s.pending[0]
	s.mu.Unlock()
	s.up.route(s, p)
}

// route brings a submitted session to the host that is right now.
func (u *Upstream) route(s *Session, p lifecycle) {
	to, ok := s.targetOf(p)
	if !ok { // the settings have changed
		u.settle(s, p, ReasonNoHandler)
		return
	}
	u.push(to.host, s)
}

// deliver makes one attempt at the session's next lifecycle event.
func (u *Upstream) deliver(h *host, s *Session) {
	p := s.next()
	to, ok := s.targetOf(p)
	switch {
	case !ok:
		u.settle(s, p, ReasonNoHandler)
		return
	case to.host != h:
		u.push(to.host, s)
		return
	case time.Since(p.time) > u.cfg.LifecycleKeep:
		u.settle(s, p, reasonExpired)
		return
	}
	if !s.attempt(true) {
		u.settle(s, p, "")
		return
	}
	failure := u.postLifecycle(s, to, p)
	s.attempt(false)
	switch {
	case failure == nil:
		u.settle(s, p, "")
	case u.life.Err() != nil: // Run counts it
	case keepTrying(failure):
		h.rest()
		u.later(s)
	default:
		u.settle(s, p, failure.Reason)
	}
}

func (u *Upstream) postLifecycle(s *Session, to target, p lifecycle) *Failure {
	ctx, cancel := context.WithTimeout(u.life, u.cfg.LifecycleTimeout)
	defer cancel()
	e := s.event(p.kind.eventType(), string(p.kind), p.id, p.time)
	e.ContentType, e.Body = cloudevents.TypeSystem, p.body
	a, failure := u.post(ctx, s, to, p.kind, e, 0)
	if failure == nil && p.kind == kindConnected {
		if bad := s.setState(a); bad != nil { // the event has arrived all the same
			u.metrics.failed(p.kind, bad.Reason)
		}
	}
	return failure
}

// keepTrying reports whether a handler may take the event later. Its plain refusal is final.
func keepTrying(f *Failure) bool {
	return f.Reason != ReasonClientError || f.retry || f.Status == http.StatusTooManyRequests
}

// later tries again after a while, longer each time. The host's own pause comes on top.
func (u *Upstream) later(s *Session) {
	s.mu.Lock()
	p := &s.pending[0]
	p.pause = backoff.After(p.pause, minPause, maxPause)
	again := *p
	s.mu.Unlock()
	time.AfterFunc(again.pause, func() { u.route(s, again) })
}

// settle ends the session's next lifecycle event, delivered (no reason) or given up, and goes on to the one
// after it.
func (u *Upstream) settle(s *Session, p lifecycle, lost Reason) {
	p.counted.dismiss()
	if lost != "" {
		u.lose(p.counted, s, p.kind, lost)
	}
	if p.kind == kindDisconnected {
		s.release()
	}
	s.shift()
	u.expect(-1)
	s.submit()
}

// lose counts a lifecycle event that is given up. The log has only the first of many.
func (u *Upstream) lose(h *host, s *Session, k kind, why Reason) {
	u.metrics.lost(why, 1)
	if h.firstLoss() {
		u.log.Warn("lifecycle event was given up; others may follow, see gateway_upstream_events_dropped_total", "handler", h.name,
			"tenant", s.hub.Tenant, "hub", s.hub.Hub, "connection", s.id, "event", string(k), "reason", why)
	}
}

// next returns the lifecycle event to deliver. The session is submitted, so there is one.
func (s *Session) next() lifecycle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[0]
}

// attempt says that an attempt at the next lifecycle event begins or has ended. It reports false when another process
// goes on with the session, and with that event.
func (s *Session) attempt(begins bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posting = begins && !s.given
	return !s.given
}

// shift removes the lifecycle event that is settled.
func (s *Session) shift() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[0].kind == kindConnected && s.connected != nil {
		close(s.connected)
	}
	s.pending = s.pending[1:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	s.submitted = false
}
