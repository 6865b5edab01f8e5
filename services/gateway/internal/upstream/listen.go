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

// copyUser gives logs a copy of a user event. The channel gets nil when all have it, else an error; nobody need wait: what
// a handler answers does not depend on it (event-handler.md section 10).
func (s *Session) copyUser(logs []string, e cloudevents.Event, d webpubsub.Data) <-chan error {
	result := make(chan error, len(logs))
	for _, name := range logs {
		s.up.messages.Append(name, s.entry(e, d), func(err error) {
			s.up.metrics.copied(err)
			result <- err
		})
	}
	return result
}

// await returns nil when n logs have their copy.
func await(ctx context.Context, n int, result <-chan error) *Failure {
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

func (s *Session) entry(e cloudevents.Event, d webpubsub.Data) messagelog.Entry {
	return messagelog.Entry{
		Hub: s.hub, ConnectionID: e.ConnectionID, FromUserID: e.UserID, Time: e.Time, Data: d,
		Event: &messagelog.Event{Type: e.Type, Name: e.Name, ID: e.ID, Subprotocol: e.Subprotocol, State: e.State},
	}
}

// tell queues a connected or disconnected event for its handler, and for the listeners that want it.
func (s *Session) tell(p lifecycle) {
	logs := s.up.systemListeners(s.hub, string(p.kind))
	if len(logs) > 0 && !s.number(&p) {
		return
	}
	for _, name := range logs {
		e := s.event(p.kind.eventType(), string(p.kind), p.id, p.time)
		s.up.copyLater(name, s.entry(e, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: p.body}))
	}
	s.queue(p)
}

// number gives p its id before it is queued, unless it would not be queued any more.
func (s *Session) number(p *lifecycle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outOfPlace(p.kind) {
		return false
	}
	s.lastID++
	p.id = s.lastID
	return true
}

// copies are the lifecycle events on their way to one log, in order. While the log takes them they pass at once; when it
// does not they wait, the later ones behind the earlier.
type copies struct {
	mu      sync.Mutex // guards the following
	waiting []messagelog.Entry
	busy    bool // somebody tries again
}

func (u *Upstream) copiesOf(name string) *copies {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.copies[name]
	if c == nil {
		c = &copies{}
		u.copies[name] = c
	}
	return c
}

// copyLater gives the named log an event that nobody waits for: at least once, and in order as far as the log takes what it
// is given. It is kept as long, and in as large a number, as events for handlers are.
func (u *Upstream) copyLater(name string, e messagelog.Entry) {
	u.expect(1)
	c := u.copiesOf(name)
	c.mu.Lock()
	if c.busy || len(c.waiting) > 0 {
		c.mu.Unlock()
		u.keepCopy(c, name, e)
		return
	}
	c.mu.Unlock()
	u.messages.Append(name, e, func(err error) {
		u.metrics.copied(err)
		if err != nil {
			u.keepCopy(c, name, e)
			return
		}
		u.expect(-1)
	})
}

func (u *Upstream) keepCopy(c *copies, name string, e messagelog.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= u.cfg.LifecycleQueue {
		u.expect(-1)
		u.metrics.lost(reasonOverflow, 1)
		return
	}
	c.waiting = append(c.waiting, e)
	if !c.busy {
		c.busy = true
		u.start(func() { u.retryCopies(c, name) })
	}
}

// retryCopies gives the log what waits until nothing does, one after another.
func (u *Upstream) retryCopies(c *copies, name string) {
	u.log.Warn("message log does not take events; they are kept and tried again", "log", name)
	for again := (backoff.Backoff{First: minPause, Last: maxPause}); ; {
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.busy, c.waiting = false, nil
			c.mu.Unlock()
			u.log.Info("message log takes events again", "log", name)
			return
		}
		e := c.waiting[0]
		c.mu.Unlock()

		switch expired := time.Since(e.Time) > u.cfg.LifecycleKeep; {
		case expired:
			u.metrics.lost(reasonExpired, 1)
		case u.appendNow(name, e) != nil:
			if again.Wait(u.life) != nil { // Run counts what is lost
				return
			}
			continue
		}
		again.Reset()
		c.mu.Lock()
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		u.expect(-1)
	}
}

func (u *Upstream) appendNow(name string, e messagelog.Entry) error {
	result := make(chan error, 1)
	u.messages.Append(name, e, func(err error) { result <- err })
	err := <-result // logs answer within seconds
	u.metrics.copied(err)
	return err
}
