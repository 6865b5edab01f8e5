package upstream

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// UserEvent is an event of a client on its way to the hub's handler and listeners. Put or Withdraw is to be called, once; until then the
// disconnected event waits. It is for one goroutine at a time.
type UserEvent struct {
	session *Session
	name    string
	data    webpubsub.Data
	answers bool // it must have an answer, which listeners do not give
	since   time.Time
	turn    turn
	ended   bool // the connection had ended before, so that there is no turn
}

// Event prepares a user event. It takes no more than a moment, and little of the stack: readers of sockets call it.
func (s *Session) Event(name string, d webpubsub.Data) *UserEvent { return s.userEvent(name, d, false) }

// Invocation is Event for an event that must have an answer, which listeners do not give (event-handler.md section 6.3).
func (s *Session) Invocation(name string, d webpubsub.Data) *UserEvent {
	return s.userEvent(name, d, true)
}

func (s *Session) userEvent(name string, d webpubsub.Data, answers bool) *UserEvent {
	e := &UserEvent{session: s, name: name, data: d, answers: answers, since: time.Now()}
	var ok bool
	e.turn, ok = s.takeTurn(amongEvents)
	e.ended = !ok
	return e
}

// targets returns where the event goes: to a handler, which has no host if there is none, and to the logs of listeners. The error is
// ErrNoHandler.
func (e *UserEvent) targets() (to target, logs []string, err error) {
	s := e.session
	to, handled := s.up.userTarget(s.hub, e.name)
	if s.caller != nil {
		to, handled = s.up.ancestorTarget(s.hub, kindUser)
	}
	logs = s.up.userListeners(s.hub, e.name)
	if !handled && (e.answers || len(logs) == 0) {
		s.up.metrics.addFailure(kindUser, ReasonNoHandler)
		return to, nil, ErrNoHandler
	}
	return to, logs, nil
}

// Put brings the event to the hub's handler and listeners once no other user event of the connection is under way, and returns what the
// connection is to receive as a message from the server, nil for nothing (event-handler.md section 6). It blocks, for at most
// Config.EventTimeout; an event that has waited for as long before is given up. Without a handler an event has arrived when the logs of
// its listeners have it. Errors are ErrNoHandler or a *Failure.
func (e *UserEvent) Put(ctx context.Context) (*webpubsub.Data, error) {
	to, logs, err := e.targets()
	if err != nil {
		e.Withdraw()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.session.up.cfg.EventTimeout)
	defer cancel()
	data, failure := e.put(ctx, to, logs)
	if failure != nil {
		return nil, failure
	}
	return data, nil
}

// Withdraw ends an event that need not be put any more.
func (e *UserEvent) Withdraw() {
	if !e.ended {
		e.turn.giveUp()
	}
}

// awaitTurn returns when the event may be posted to h. If it fails the turn is over.
func (e *UserEvent) awaitTurn(ctx context.Context, h *host) *Failure {
	switch {
	case e.ended:
		return &Failure{Reason: ReasonCanceled}
	case time.Since(e.since) > e.session.up.cfg.EventTimeout:
		e.turn.giveUp()
		return &Failure{Reason: ReasonBusy}
	}
	return e.turn.await(ctx, h)
}

// put copies the event to logs, and posts it to its handler if it has one.
func (e *UserEvent) put(ctx context.Context, to target, logs []string) (*webpubsub.Data, *Failure) {
	s, d := e.session, e.data
	if failure := e.awaitTurn(ctx, to.host); failure != nil {
		s.up.metrics.addFailure(kindUser, failure.Reason)
		return nil, failure
	}
	defer e.turn.finish()
	event := s.event(cloudevents.UserPrefix+e.name, e.name, e.turn.id, time.Now())
	event.ContentType, event.Body, event.Metadata = contentType(d.Type), d.Bytes, d.Metadata
	copied := s.copyToListeners(logs, event, d)
	if to.host == nil {
		failure := awaitCopies(ctx, len(logs), copied)
		if failure != nil {
			s.up.metrics.addFailure(kindUser, failure.Reason)
		}
		return nil, failure
	}
	a, failure := s.up.callWithRetries(ctx, ctx, s, to, kindUser, event, maxUserAnswer)
	if failure != nil {
		return nil, failure
	}
	data, failure := a.data(s.caller != nil)
	if failure == nil {
		failure = s.setState(a)
	}
	if failure != nil {
		s.up.metrics.addFailure(kindUser, failure.Reason)
		return nil, failure
	}
	return data, nil
}

// Refuse is the failure of an event that is not even prepared, since as many of the connection wait as may.
func (s *Session) Refuse() error {
	s.up.metrics.addFailure(kindUser, ReasonFull)
	return &Failure{Reason: ReasonFull}
}
