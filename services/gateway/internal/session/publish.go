package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// How many messages of one connection a handler may have yet to be asked about, and how much data of theirs may wait, before its
// reader does.
const (
	maxAsked      = 64
	maxAskedBytes = 4 << 20
)

// questions is the messages of a connection that a handler has yet to be asked about, or has yet to answer.
type questions struct {
	stopped atomic.Bool // none is to be published any more

	mu       sync.Mutex // guards the following
	n        int
	bytes    int
	room     *sync.Cond    // made when somebody waits
	answered chan struct{} // closed when all have been; nil: there was none
}

// acquire counts a message of that size, waiting for room.
func (q *questions) acquire(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n >= maxAsked || q.bytes >= maxAskedBytes {
		if q.room == nil {
			q.room = sync.NewCond(&q.mu)
		}
		q.room.Wait()
	}
	q.n++
	q.bytes += size
}

// release removes a message from the count.
func (q *questions) release(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.n--
	q.bytes -= size
	if q.room != nil {
		q.room.Broadcast()
	}
}

// takeTurn takes a turn after all questions that have been asked before, also by a reader of a former socket. It comes when before is
// closed; done is to be closed when it is over.
func (q *questions) takeTurn() (before <-chan struct{}, done chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before = q.answered
	if before == nil {
		before = over
	}
	done = make(chan struct{})
	q.answered = done
	return before, done
}

// last returns a channel that is closed when all that has been asked until now is answered.
func (q *questions) last() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.answered == nil {
		return over
	}
	return q.answered
}

// over is a turn that is over.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// endsPublishing reports whether what a client has sent is not to be published any more when its connection ends for that reason:
// somebody has put an end to it. When the client itself has left, or was lost, it is.
func endsPublishing(r hub.Reason) bool {
	switch r {
	case hub.ReasonRequested, hub.ReasonRemoved, hub.ReasonProtocol, hub.ReasonForbidden, hub.ReasonUpstream, hub.ReasonUnavailable:
		return true
	}
	return false
}

// askedSend is a message to a group about which a handler is asked.
type askedSend struct {
	*Client
	questions *questions // of the connection
	question  *upstream.Question
	req       protocol.Request
	logs      []string
	ack       ack
	size      int
}

// askBeforePublish asks the hub's handler about the request once all that was asked before has been answered, and publishes it if
// the handler says so. The reader goes on meanwhile, unless as many wait as may. It reports false when no handler wants to be asked.
func (r *reader) askBeforePublish(a ack) bool {
	if err := r.shared.bus.Ready(); err != nil { // as for messages that nobody is asked about
		r.answerPost(a, err)
		return true
	}
	s := &askedSend{Client: r.Client, questions: &r.theAsks().questions, logs: r.listeners(), ack: a, size: r.req.DataSize(),
		req: protocol.Request{Kind: protocol.SendToGroup, Group: r.req.Group, NoEcho: r.req.NoEcho, TTL: r.req.TTL}}
	s.req.SetData(dataOf(&r.req))
	s.question = r.events.AskBeforePublish(upstream.GroupMessage{Group: s.req.Group, NoEcho: s.req.NoEcho, HasAck: a.wanted, AckID: a.id,
		Data: s.req.Data()})
	if s.question == nil {
		return false
	}
	r.blocked(func() { s.questions.acquire(s.size) })
	before, done := s.questions.takeTurn()
	r.lastAsked = done
	r.goWork(func() {
		defer close(done)
		s.run(before)
		<-before // what comes next keeps the order also with what came before this one
	})
	return true
}

// awaitAsked waits until the messages have been published that a handler was asked about, so that one about which none is asked any
// more does not overtake them.
func (r *reader) awaitAsked() {
	if r.lastAsked != nil {
		r.blocked(func() { <-r.lastAsked })
		r.lastAsked = nil
	}
}

// run asks about the message and does what the handler says. before is closed when its turn has come; it does not wait for that longer
// than for the handler's answer.
func (s *askedSend) run(before <-chan struct{}) {
	defer s.questions.release(s.size)
	defer s.question.Done()
	inTime := true
	timer := time.NewTimer(s.question.Timeout())
	defer timer.Stop()
	select {
	case <-before:
	case <-timer.C:
		inTime = false
	}
	var v upstream.Verdict
	switch {
	case s.questions.stopped.Load():
		s.question.Withdraw()
		v.Outcome = upstream.OutcomeFailed
	case inTime:
		v = s.question.Put(s.shared.life)
	default:
		if v = s.question.GiveUp(); v.Outcome == upstream.OutcomeUnchecked {
			<-before
		}
	}
	s.apply(v)
}

// apply does what is to become of the message.
func (s *askedSend) apply(v upstream.Verdict) {
	switch {
	case v.Outcome == upstream.OutcomeTaken:
		s.acknowledge(s.ack, nil)
	case v.Outcome == upstream.OutcomeRefused:
		s.refuse(v.Text)
	case v.Outcome == upstream.OutcomeFailed:
		s.fail(v.Err)
	case s.questions.stopped.Load():
		s.fail(nil)
	default:
		s.publish(v)
	}
}

// publish posts the message, as the client has sent it or as the handler has replaced it.
func (s *askedSend) publish(v upstream.Verdict) {
	if v.Err != nil {
		s.warn("message published without asking", v.Err)
	}
	if v.Outcome == upstream.OutcomeReplaced {
		s.req.SetData(v.Data)
	}
	if err := s.shared.bus.Ready(); err != nil {
		s.answerPost(s.ack, err)
		return
	}
	size := s.req.DataSize()
	s.inFlight.acquire(size)
	s.post(&s.req, s.logs, new(node.Address), s.ack, size)
}

// refuse tells the client what the handler says. A client that cannot be told otherwise is disconnected.
func (s *askedSend) refuse(text string) {
	if text == "" {
		text = "The application has refused the message."
	}
	if s.mode.Group != "" {
		s.questions.stopped.Store(true)
		s.shared.conns.Close(s.conn, hub.ReasonForbidden.Closing(text))
		return
	}
	s.acknowledge(s.ack, forbidden("%s", text))
}

// fail tells the client that the message is not published because the handler could not be asked; err is nil if there is nobody left to
// be told.
func (s *askedSend) fail(err error) {
	if err != nil {
		s.warn("ask before publishing", err)
	}
	if s.mode.Group != "" {
		s.questions.stopped.Store(true)
		s.shared.conns.Close(s.conn, hub.ReasonUpstream.Closing("The application could not be asked about the message."))
		return
	}
	s.acknowledge(s.ack, internal("The application could not be asked about the message; please try again."))
}
