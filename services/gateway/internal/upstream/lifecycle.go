package upstream

import (
	"context"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// queueLifecycle adds a lifecycle event, unless no handler wants it or too many wait for that handler's host. From here an event
// goes to submit, to the queue of its host, from there by a worker to deliverNext, and to finishLifecycle or, after a while, back
// to the host's queue.
func (s *Session) queueLifecycle(p lifecycle) {
	to, ok := s.lifecycleTarget(p)
	if !ok || !to.host.reserve(p.kind) {
		if ok {
			s.up.giveUp(to.host, s, p.kind, reasonOverflow)
		}
		if p.kind == kindDisconnected {
			s.release()
		}
		s.copyToLogs(p)
		return
	}
	p.reservedAt = to.host
	if !s.appendPending(p) {
		to.host.unreserve()
		return
	}
	if p.kind == kindDisconnected {
		s.holdEnd()
	}
	s.submit()
}

// lifecycleTarget returns where p goes: to the first handler that wants it.
func (s *Session) lifecycleTarget(p lifecycle) (target, bool) {
	if s.caller != nil {
		return s.up.ancestorTarget(s.hub, p.kind)
	}
	if p.kind == kindJoined || p.kind == kindLeft {
		return s.up.presenceTarget(s.hub, string(p.kind), p.group)
	}
	return s.up.systemTarget(s.hub, string(p.kind))
}

// appendPending appends p to what is pending and gives it its id. It reports false for anything but disconnected that comes
// after the end, which would make a user appear that has gone, and for all events once another process goes on with the session.
func (s *Session) appendPending(p lifecycle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tooLate(p.kind) {
		return false
	}
	if p.id == 0 { // else listeners have it with that id, or another process has tried to deliver it
		s.lastID++
		p.id = s.lastID
	}
	s.pending = append(s.pending, p)
	if p.kind == kindDisconnected && s.held && !s.claimed { // see holdEnd
		s.unwritten = true
	}
	return true
}

// tooLate reports whether an event of that kind must not be sent any more. The caller has mu.
func (s *Session) tooLate(k eventKind) bool { return k != kindDisconnected && s.closed || s.handedOver }

// submit puts the session into the queue of the host of its next lifecycle event, unless it is in one already. Disconnected
// waits for user events that are still under way, and what Held says waits until that is written.
func (s *Session) submit() {
	s.mu.Lock()
	if s.submitted || s.unwritten || len(s.pending) == 0 || s.pending[0].kind == kindDisconnected && s.userEvents > 0 {
		s.mu.Unlock()
		return
	}
	s.submitted = true
	p := s.pending[0]
	s.mu.Unlock()
	s.up.routeToHost(s, p)
}

// routeToHost puts a submitted session into the queue of the host that the settings have for p now.
func (u *Upstream) routeToHost(s *Session, p lifecycle) {
	to, ok := s.lifecycleTarget(p)
	if !ok { // the settings have changed
		u.finishLifecycle(s, p, ReasonNoHandler)
		return
	}
	to.host.push(s)
}

// reportPause is how long a lifecycle event waits that may not be sent now.
const reportPause = 200 * time.Millisecond

// deliverNext makes one attempt at the session's next lifecycle event. h is the host whose worker calls it.
func (u *Upstream) deliverNext(h *host, s *Session) {
	s.mu.Lock()
	p := s.pending[0] // the session is submitted, so there is one
	s.mu.Unlock()
	to, ok := s.lifecycleTarget(p)
	switch {
	case !ok:
		u.finishLifecycle(s, p, ReasonNoHandler)
		return
	case to.host != h:
		to.host.push(s)
		return
	case time.Since(p.time) > u.cfg.LifecycleKeep:
		u.finishLifecycle(s, p, reasonExpired)
		return
	}
	if !s.setPosting(true) {
		u.finishLifecycle(s, p, "")
		return
	}
	if s.isHeld() && !u.held.mayReport() { // another process may have told the end
		s.setPosting(false)
		time.AfterFunc(reportPause, func() { u.routeToHost(s, p) })
		return
	}
	failure := u.postLifecycle(s, to, p)
	s.setPosting(false)
	switch {
	case failure == nil:
		u.finishLifecycle(s, p, "")
	case u.life.Err() != nil: // Run counts what is left
	case mayTryAgain(failure):
		h.backOff() // other sessions would fail as well
		u.retryLater(s)
	default:
		u.finishLifecycle(s, p, failure.Reason)
	}
}

// postLifecycle posts a lifecycle event once. Only the answer to connected may set the connection state.
func (u *Upstream) postLifecycle(s *Session, to target, p lifecycle) *Failure {
	ctx, cancel := context.WithTimeout(u.life, u.cfg.LifecycleTimeout)
	defer cancel()
	e := s.event(p.kind.eventType(), string(p.kind), p.id, p.time)
	e.ContentType, e.Body = cloudevents.TypeSystem, p.body
	a, failure := u.attempt(ctx, s, to, p.kind, e, 0)
	if failure == nil && p.kind == kindConnected {
		if bad := s.setState(a); bad != nil { // the event has arrived nevertheless
			u.metrics.addFailure(p.kind, bad.Reason)
		}
	}
	return failure
}

// mayTryAgain reports whether a handler may take the event later. A refusal, status 3xx or 4xx but 429, is final.
func mayTryAgain(f *Failure) bool {
	return f.Reason != ReasonClientError || f.retry || f.Status == http.StatusTooManyRequests
}

// retryLater tries again after a while, longer each time. The host's own pause comes on top.
func (u *Upstream) retryLater(s *Session) {
	s.mu.Lock()
	p := &s.pending[0]
	p.pause = backoff.After(p.pause, minPause, maxPause)
	again := *p
	s.mu.Unlock()
	time.AfterFunc(again.pause, func() { u.routeToHost(s, again) })
}

// finishLifecycle ends the session's next lifecycle event, delivered (no reason) or given up, and goes on to the one
// after it.
func (u *Upstream) finishLifecycle(s *Session, p lifecycle, lost Reason) {
	if lost != "" {
		u.giveUp(p.reservedAt, s, p.kind, lost)
	}
	if p.kind == kindDisconnected {
		s.release()
	}
	s.removeFirst()
	p.reservedAt.unreserve()
	s.submit()
}

// giveUp counts a lifecycle event that is given up. Of many in a row only the first is logged.
func (u *Upstream) giveUp(h *host, s *Session, k eventKind, why Reason) {
	u.metrics.addDropped(why, 1)
	if h.firstLoss() {
		u.log.Warn("lifecycle event was given up; others may follow, see gateway_upstream_events_dropped_total", "handler", h.name,
			"tenant", s.hub.Tenant, "hub", s.hub.Hub, "connection", s.id, "event", string(k), "reason", why)
	}
}

// setPosting records that an attempt at the next lifecycle event begins or has ended, during which the session cannot be handed
// over. It reports false when another process goes on with the session, and with that event.
func (s *Session) setPosting(begins bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posting = begins && !s.handedOver
	return !s.handedOver
}

// removeFirst removes the lifecycle event that has been delivered or given up.
func (s *Session) removeFirst() {
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
