package upstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// listeners returns the message logs of hub that want a copy of an event, each once.
func (u *Upstream) listeners(hub webpubsub.HubKey, wants func(*tenant.Listener) bool) []string {
	if u.messages == nil {
		return nil
	}
	t := u.tenants.ByName(hub.Tenant)
	if t == nil {
		return nil
	}
	var logs []string
	all := t.Hub(hub.Hub).EventListeners
	for i := range all {
		if name := messagelog.Name(hub.Tenant, all[i].Log); wants(&all[i]) && !slices.Contains(logs, name) {
			logs = append(logs, name)
		}
	}
	return logs
}

func (u *Upstream) userListeners(hub webpubsub.HubKey, event string) []string {
	return u.listeners(hub, func(l *tenant.Listener) bool { return l.WantsUser(event) })
}

func (u *Upstream) systemListeners(hub webpubsub.HubKey, event string) []string {
	return u.listeners(hub, func(l *tenant.Listener) bool { return l.WantsSystem(event) })
}

// copyToListeners gives logs a copy of a user event. The channel gets a result for each log, and has room for all, so that a caller
// need not wait: what a handler answers does not depend on it (event-handler.md section 10).
func (s *Session) copyToListeners(logs []string, e cloudevents.Event, d webpubsub.Data) <-chan error {
	result := make(chan error, len(logs))
	for _, name := range logs {
		s.up.messages.Append(name, logEntry(s.hub, e, d), func(err error) {
			s.up.metrics.addCopy(err)
			result <- err
		})
	}
	return result
}

// awaitCopies returns nil when n logs have their copy.
func awaitCopies(ctx context.Context, n int, result <-chan error) *Failure {
	for range n {
		select {
		case err := <-result:
			if err != nil {
				return &Failure{Reason: ReasonLog, detail: err}
			}
		case <-ctx.Done():
			return interrupted(ctx)
		}
	}
	return nil
}

// logEntry returns an event of a hub as the log of a listener has it.
func logEntry(hub webpubsub.HubKey, e cloudevents.Event, d webpubsub.Data) messagelog.Entry {
	return messagelog.Entry{
		Hub: hub, ConnectionID: e.ConnectionID, FromUserID: e.UserID, Time: e.Time, Data: d,
		Event: &messagelog.Event{Type: e.Type, Name: e.Name, ID: e.ID, Subprotocol: e.Subprotocol, State: e.State},
	}
}

// reportLifecycle queues a connected or disconnected event for its handler, and for the listeners that want it.
func (s *Session) reportLifecycle(p lifecycle) {
	logs := s.up.systemListeners(s.hub, string(p.kind))
	if len(logs) > 0 && !s.assignID(&p) {
		return
	}
	p.copyTo = logs
	if p.kind != kindDisconnected || !s.isHeld() || s.claimed { // else another process may have told this end
		s.copyToLogs(p)
		p.copyTo = nil
	}
	s.queueLifecycle(p)
}

// copyToLogs copies a lifecycle event to the logs that are to get it.
func (s *Session) copyToLogs(p lifecycle) {
	for _, name := range p.copyTo {
		e := s.event(p.kind.eventType(), string(p.kind), p.id, p.time)
		s.up.copiesOf(name).append(logEntry(s.hub, e, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: p.body}))
	}
}

// assignID gives p its id before it is queued, so that handler and listeners get it with the same one. It reports false when p
// would not be queued any more.
func (s *Session) assignID(p *lifecycle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tooLate(p.kind) {
		return false
	}
	if p.id == 0 { // else another process was about to send it with that id
		s.lastID++
		p.id = s.lastID
	}
	return true
}

// copies are the lifecycle events on their way to one log, in order. While the log takes them they pass at once; when it
// does not they wait, the later ones behind the earlier.
type copies struct {
	u    *Upstream
	name string // of the log

	mu       sync.Mutex // guards the following
	waiting  []messagelog.Entry
	retrying bool // a goroutine is in retry
}

// copiesOf returns the copies for a log.
func (u *Upstream) copiesOf(name string) *copies {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.copies[name]
	if c == nil {
		c = &copies{u: u, name: name}
		u.copies[name] = c
	}
	return c
}

// append gives the log an event without waiting: it is stored at least once, and in order as long as the log accepts what it is
// given. An event that the log does not accept is kept as long, and in as large a number, as events for handlers are.
func (c *copies) append(e messagelog.Entry) {
	c.u.addWaiting(1)
	c.mu.Lock()
	if c.retrying || len(c.waiting) > 0 {
		c.mu.Unlock()
		c.keep(e)
		return
	}
	c.mu.Unlock()
	c.u.messages.Append(c.name, e, func(err error) {
		c.u.metrics.addCopy(err)
		if err != nil {
			c.keep(e)
			return
		}
		c.u.addWaiting(-1)
	})
}

// keep keeps an event that the log does not take, unless too many are kept, and has a goroutine try again.
func (c *copies) keep(e messagelog.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= c.u.cfg.LifecycleQueue {
		c.u.addWaiting(-1)
		c.u.metrics.addDropped(reasonOverflow, 1)
		return
	}
	c.waiting = append(c.waiting, e)
	if !c.retrying {
		c.retrying = true
		c.u.start(c.retry)
	}
}

// retry gives the log what waits until nothing does, one after another.
func (c *copies) retry() {
	u := c.u
	u.log.Warn("message log does not take events; they are kept and tried again", "log", c.name)
	for again := (backoff.Backoff{First: minPause, Last: maxPause}); ; {
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.retrying, c.waiting = false, nil
			c.mu.Unlock()
			u.log.Info("message log takes events again", "log", c.name)
			return
		}
		e := c.waiting[0]
		c.mu.Unlock()

		switch expired := time.Since(e.Time) > u.cfg.LifecycleKeep; {
		case expired:
			u.metrics.addDropped(reasonExpired, 1)
		case c.appendNow(e) != nil:
			if again.Wait(u.life) != nil { // Run counts what is left
				return
			}
			continue
		}
		again.Reset()
		c.mu.Lock()
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		u.addWaiting(-1)
	}
}

// appendNow gives the log an event and waits for its answer.
func (c *copies) appendNow(e messagelog.Entry) error {
	result := make(chan error, 1)
	c.u.messages.Append(c.name, e, func(err error) { result <- err })
	err := <-result // logs answer within seconds
	c.u.metrics.addCopy(err)
	return err
}
