// Package stream keeps the group streams that one connection publishes: which are open, which fragment each of them
// expects next, what of it the bus has, and when it has been silent for too long (client-json.md section 6).
//
// A publisher is promised that what it is told has arrived was published, once and in order, and that the numbers it
// is told never go back; subscribers, that the end of a stream follows its last fragment. When the bus fails a
// fragment, so that it is unknown who has it, the stream ends: it could not go on in order.
//
// Streams belong to the connection and survive its sockets. Package stream knows neither frames nor the bus; it
// reaches both by a Port.
package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// MaxOpen is how many streams a connection may have open. The protocol names no limit; memory does.
const MaxOpen = 1000

// Port is how streams reach their publisher and their subscribers. Answers are given one at a time, in order.
type Port struct {
	Ack    func(id string, expected uint64)
	Nack   func(id string, expected uint64, failure *protocol.Failure)
	Closed func(id string, failure *protocol.Failure)

	// End publishes the end of a stream. done is called once, perhaps before End returns.
	End func(f Fragment, done func(error))
	// Over is called once for each stream that was started, when all is done about it.
	Over func()
}

// Fragment is a fragment, or the end, of a stream on its way to the stream's group.
type Fragment struct {
	Group  string
	NoEcho bool
	Info   protocol.StreamInfo
	// Done is to be called once with what the bus says of it. It may be called by any goroutine and does not block.
	Done func(error)
}

// Set is the streams of a connection. Its methods are safe for concurrent use.
type Set struct {
	port Port
	life context.Context // ends with the node, which gives up on ends that it could not publish

	closedAfter time.Duration

	mu         sync.Mutex         // guards the following, and the streams
	open       map[string]*stream // also those that are ending, until their subscribers know
	ended      []ended            // the last maxEnded, oldest first
	sockets    int                // how many the connection has had
	connEnded  bool               // the connection has ended
	handedOver bool               // another node has the streams
	telling    bool               // a goroutine is telling the publisher what it has to know
	toTell     []*stream          // what it is to be told about
}

// stream is one of them. Its fields are guarded by Set.mu.
type stream struct {
	id, group string
	noEcho    bool
	idle      time.Duration
	timer     *time.Timer
	heard     time.Time // of the last fragment or keepalive

	expected uint64 // number of the next fragment
	underWay int    // accepted fragments that the bus has not answered for
	end      *end   // nil: open

	told   uint64 // the greatest number that the publisher was told to be expected; zero: not even that it has started
	ack    bool   // it is to be told what the bus has
	nack   *protocol.Failure
	closed bool // it is to be told that the stream is over
	toTell bool // stands in Set.toTell
}

// end is how a stream ends.
type end struct {
	cause    *protocol.StreamError // for subscribers
	failure  *protocol.Failure     // for the publisher
	asked    bool                  // by the publisher
	attempts int
}

// ended remembers how a stream ended, for a publisher that was away when it was told.
type ended struct {
	id      string
	failure *protocol.Failure
	socket  int // the one on which it was told
}

// maxEnded is how many ends are remembered.
const maxEnded = 64

// How often, and how many times, the end of a stream is published again when the bus fails: for about as long as it
// may be gone before subscribers' own idle timeouts have to do.
const (
	endEvery    = time.Second
	endAttempts = 60
)

// closedAfter is how long a publisher that has ended a stream waits to be told so. The JavaScript SDK 1.1 fails its
// end() when the answer is there before its own write has been reported as done, which a service nearby can manage.
const closedAfter = 50 * time.Millisecond

// New returns a connection's streams, none yet. life ends with the node.
func New(life context.Context, p Port) *Set {
	return &Set{port: p, life: life, open: map[string]*stream{}, closedAfter: closedAfter}
}

func badRequest(format string, args ...any) *protocol.Failure {
	return &protocol.Failure{Name: protocol.BadRequest, Message: fmt.Sprintf(format, args...)}
}

// Start opens a stream; the publisher is told so, or why not. It reports whether the stream is open.
func (s *Set) Start(id, group string, noEcho bool, idle time.Duration) bool {
	if idle <= 0 {
		idle = protocol.DefaultIdleTimeout
	}
	if failure := s.start(id, group, noEcho, idle); failure != nil {
		s.port.Closed(id, failure)
		return false
	}
	s.tell()
	return true
}

func (s *Set) start(id, group string, noEcho bool, idle time.Duration) *protocol.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.connEnded:
		return badRequest("The connection has ended.")
	case s.open[id] != nil:
		return badRequest("The stream '%s' is open; streams of one connection need ids of their own.", id)
	case len(s.open) >= MaxOpen:
		return badRequest("The connection has %d streams open; more are not allowed.", MaxOpen)
	}
	s.forget(id)
	st := &stream{id: id, group: group, noEcho: noEcho, idle: idle, heard: time.Now(), expected: 1}
	st.timer = time.AfterFunc(idle, func() { s.expire(st) })
	s.open[id] = st
	s.queueNotice(st)
	return nil
}

// forget lets go of how an earlier stream of that id ended.
func (s *Set) forget(id string) {
	for i := range s.ended {
		if s.ended[i].id == id {
			s.ended = append(s.ended[:i], s.ended[i+1:]...)
			return
		}
	}
}

// Group returns the group of an open stream.
func (s *Set) Group(id string) (group string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.open[id]; st != nil && st.end == nil {
		return st.group, true
	}
	return "", false
}

// Data takes in the fragment of that number. When ok it is to be published as f; else the publisher has been told
// why not, or will be told that the stream has ended. failed is why nothing can be published now; nil: it can.
func (s *Set) Data(id string, number uint64, failed *protocol.Failure) (f Fragment, ok bool) {
	st := s.find(id)
	if st == nil {
		return f, false
	}
	f, ok = s.accept(st, number, failed)
	s.tell()
	return f, ok
}

func (s *Set) accept(st *stream, number uint64, failed *protocol.Failure) (f Fragment, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.end != nil:
		return f, false
	case number < st.expected: // again, because the publisher was not told that it had arrived
		st.ack = true
		s.queueNotice(st)
		return f, false
	case number > st.expected:
		failed = &protocol.Failure{Name: protocol.InvalidSequenceID,
			Message: fmt.Sprintf("Fragment %d has come, but %d is expected next.", number, st.expected)}
	}
	if failed != nil {
		st.nack = failed
		s.queueNotice(st)
		return f, false
	}
	st.expected++
	st.underWay++
	st.heard = time.Now()
	return Fragment{Group: st.group, NoEcho: st.noEcho, Info: protocol.StreamInfo{StreamID: st.id, Sequence: number},
		Done: func(err error) { s.published(st, err) }}, true
}

// ackEvery is how many fragments the bus takes before the publisher is told while more are on their way.
const ackEvery = 16

// published takes in what the bus says of a fragment.
func (s *Set) published(st *stream, err error) {
	s.mu.Lock()
	st.underWay--
	if err != nil {
		st.stop(failed(protocol.InternalServerError, "A fragment may be lost, so that the stream has ended."))
	}
	if st.end == nil && (st.underWay == 0 || st.arrived() >= st.told+ackEvery) {
		st.ack = true
		s.queueNotice(st)
	}
	complete := st.end != nil && st.underWay == 0
	s.mu.Unlock()
	s.tell()
	if complete {
		s.publishEnd(st)
	}
}

// arrived is the number after that of the last fragment that the bus has.
func (st *stream) arrived() uint64 { return st.expected - uint64(st.underWay) }

// KeepAlive notes that the publisher of a stream is there.
func (s *Set) KeepAlive(id string) {
	if st := s.find(id); st != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.heard = time.Now()
	}
}

// End ends a stream as its publisher wants: complete, or with an error for subscribers.
func (s *Set) End(id string, cause *protocol.StreamError) {
	if cause != nil {
		cause = &protocol.StreamError{Name: protocol.UserError, Message: cause.Message, UserErrorCode: cause.UserErrorCode}
	}
	if st := s.find(id); st != nil {
		s.end(st, end{cause: cause, asked: true})
	}
}

// Fail ends a stream with a failure that both sides are told.
func (s *Set) Fail(id string, failure *protocol.Failure) {
	if st := s.find(id); st != nil {
		s.end(st, failed(failure.Name, failure.Message))
	}
}

// failed is the end of a stream that both sides are told is a failure.
func failed(name, message string) end {
	return end{cause: &protocol.StreamError{Name: name, Message: message}, failure: &protocol.Failure{Name: name, Message: message}}
}

// Cancel ends all streams, as their connection has ended. What was handed over to another node ends there.
func (s *Set) Cancel() {
	s.mu.Lock()
	s.connEnded = true
	if s.handedOver {
		s.mu.Unlock()
		return
	}
	all := make([]*stream, 0, len(s.open))
	for _, st := range s.open {
		all = append(all, st)
	}
	s.mu.Unlock()
	for _, st := range all {
		s.end(st, failed(protocol.Cancelled, "The connection of the publisher has ended."))
	}
}

// NewSocket says that the connection has a new socket. How streams ended before is told again to a publisher that
// asks for them.
func (s *Set) NewSocket() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets++
}

// find returns the stream of that id. Without one the publisher is told.
func (s *Set) find(id string) *stream {
	st, failure := s.lookUp(id)
	if st == nil {
		s.port.Closed(id, failure)
	}
	return st
}

func (s *Set) lookUp(id string) (st *stream, failure *protocol.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st = s.open[id]; st != nil {
		return st, nil
	}
	for _, e := range s.ended {
		if e.id == id && e.socket < s.sockets {
			return nil, e.failure
		}
	}
	return nil, NotFound(id)
}

// NotFound is what a publisher is told about a stream that it has not open.
func NotFound(id string) *protocol.Failure {
	return &protocol.Failure{Name: protocol.StreamNotFound, Message: fmt.Sprintf("The connection has no open stream '%s'.", id)}
}

// expire ends a stream that has been silent for too long.
func (s *Set) expire(st *stream) {
	s.mu.Lock()
	if s.handedOver {
		s.mu.Unlock()
		return
	}
	if left := st.idle - time.Since(st.heard); left > 0 && st.end == nil {
		st.timer.Reset(left)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.end(st, failed(protocol.IdleTimeout, "The stream was silent for longer than its idle timeout."))
}

// end ends a stream that is open: once the bus has its fragments, subscribers are told, then the publisher.
func (s *Set) end(st *stream, e end) {
	s.mu.Lock()
	if st.end != nil {
		s.mu.Unlock()
		return
	}
	st.stop(e)
	now := st.underWay == 0
	s.mu.Unlock()
	if now {
		s.publishEnd(st)
	}
}

// stop lets no more fragments in. The caller has Set.mu.
func (st *stream) stop(e end) {
	st.timer.Stop()
	st.end = &e
}

func (s *Set) publishEnd(st *stream) {
	s.mu.Lock()
	f := Fragment{Group: st.group, NoEcho: st.noEcho, Info: protocol.StreamInfo{
		StreamID: st.id, Sequence: st.expected, End: true, Error: st.end.cause}}
	s.mu.Unlock()
	s.port.End(f, func(err error) { s.endPublished(st, err) })
}

// endPublished sees to it that the publisher is told that a stream is over, unless its subscribers are still to be told.
func (s *Set) endPublished(st *stream, err error) {
	s.mu.Lock()
	if st.end.attempts++; err != nil && st.end.attempts < endAttempts && s.life.Err() == nil {
		s.mu.Unlock()
		time.AfterFunc(endEvery, func() { s.publishEnd(st) })
		return
	}
	if err != nil && st.end.failure == nil {
		st.end.failure = &protocol.Failure{Name: protocol.InternalServerError, Message: "The end of the stream could not be sent."}
	}
	wait := s.closedAfter
	if !st.end.asked {
		wait = 0
	}
	s.mu.Unlock()
	if wait > 0 {
		time.AfterFunc(wait, func() { s.forgetEnded(st) })
		return
	}
	s.forgetEnded(st)
}

// forgetEnded forgets a stream whose subscribers know its end, and tells the publisher.
func (s *Set) forgetEnded(st *stream) {
	s.mu.Lock()
	delete(s.open, st.id)
	if over := len(s.ended) - maxEnded + 1; over > 0 {
		s.ended = append(s.ended[:0], s.ended[over:]...)
	}
	s.ended = append(s.ended, ended{st.id, st.end.failure, s.sockets})
	st.closed = true
	s.queueNotice(st)
	s.mu.Unlock()
	s.tell()
	s.port.Over()
}

// queueNotice lets the publisher be told something about st. The caller has mu and calls tell afterwards.
func (s *Set) queueNotice(st *stream) {
	if !st.toTell {
		st.toTell = true
		s.toTell = append(s.toTell, st)
	}
}

// tell tells the publisher what it has to know, unless somebody else is at it: who takes the numbers also says them,
// so that they cannot overtake one another.
func (s *Set) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.telling {
		return
	}
	s.telling = true
	for len(s.toTell) > 0 {
		st := s.toTell[0]
		s.toTell = s.toTell[1:]
		n := st.takeNotice()
		s.mu.Unlock()
		n.send(&s.port)
		s.mu.Lock()
	}
	s.toTell, s.telling = nil, false
}

// notice is what a publisher is told about one stream.
type notice struct {
	id            string
	start         bool
	ack, expected uint64 // zero: none
	nack          *protocol.Failure
	closed        bool
	failure       *protocol.Failure
}

// takeNotice returns what is to be told about st. The caller has Set.mu.
func (st *stream) takeNotice() notice {
	n := notice{id: st.id, start: st.told == 0, nack: st.nack, closed: st.closed}
	st.told = max(st.told, 1)
	if st.ack {
		st.told = max(st.told, st.arrived())
		n.ack = st.told
	}
	if st.nack != nil {
		st.told = st.expected
		n.expected = st.told
	}
	if st.closed {
		n.failure = st.end.failure
	}
	st.ack, st.nack, st.toTell = false, nil, false
	return n
}

// send tells the publisher by p.
func (n *notice) send(p *Port) {
	if n.start {
		p.Ack(n.id, 1)
	}
	if n.ack > 0 {
		p.Ack(n.id, n.ack)
	}
	if n.nack != nil {
		p.Nack(n.id, n.expected, n.nack)
	}
	if n.closed {
		p.Closed(n.id, n.failure)
	}
}
