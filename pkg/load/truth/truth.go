// Package truth decides whether a messaging system delivered what it promised: of everything that was sent, what
// each receiver got, missed, got twice or got in the wrong order.
//
// A message belongs to a stream: one sender's messages to one target, numbered from 1. A receiver owes its account
// only for the time it was a member of the target: from the moment its join was confirmed until it asked to leave,
// and only for messages whose acceptance was confirmed. What was under way at either edge may arrive or not and is
// never called lost; what was sent after a leave was confirmed, or to a target that the receiver never joined, must
// not arrive and is called stray.
//
// Several processes can share a run: each has a Log with the same streams in the same order, those that another one
// sends marked as Elsewhere, and judges its own receivers once it knows from the others what was sent (Export, Import).
//
// Times are nanoseconds on one clock, the Log's user's. Everything is safe for concurrent use.
package truth

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"
)

// Never is the time of what has not happened.
const Never = math.MaxInt64

// maxExamples bounds how many faults a Verdict tells in words.
const maxExamples = 20

// Log keeps what was sent and received during one run.
type Log struct {
	mu        sync.Mutex // guards the following
	streams   []*Stream
	receivers []*Receiver
}

// Stream is the messages of one sender to one target.
type Stream struct {
	ID     uint32
	Sender string
	Target string

	unordered bool
	skip      *Receiver
	elsewhere bool

	mu     sync.Mutex // guards the following
	known  bool       // what another process has sent
	slack  int64      // by which its clock may differ from that of the receivers
	sent   []int64    // times, rising; message n is at n-1
	answer []int64    // times of acceptance, or one of the following
}

const (
	unanswered int64 = math.MinInt64
	refused    int64 = math.MinInt64 + 1
)

// StreamOptions change what is asked of a stream.
type StreamOptions struct {
	Unordered bool      // several messages may be under way at once by separate routes, so order is not promised
	Skip      *Receiver // gets none of these messages: their sender, which asked for no echo
	Elsewhere bool      // another process sends them; what, is unknown until Import says so
}

// Stream adds a stream.
func (l *Log) Stream(sender, target string, o StreamOptions) *Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Stream{ID: uint32(len(l.streams)), Sender: sender, Target: target, unordered: o.Unordered, skip: o.Skip, elsewhere: o.Elsewhere}
	l.streams = append(l.streams, s)
	return s
}

// Send takes the next number for a message that is sent not before the time now. Times of one stream do not fall.
func (s *Stream) Send(now int64) (number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, now)
	s.answer = append(s.answer, unanswered)
	return uint32(len(s.sent))
}

// Accepted says that the system confirmed a message.
func (s *Stream) Accepted(number uint32, now int64) { s.answered(number, now) }

// Refused says that the system declined a message, which need not arrive but may.
func (s *Stream) Refused(number uint32) { s.answered(number, refused) }

func (s *Stream) answered(number uint32, a int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number >= 1 && int(number) <= len(s.answer) {
		s.answer[number-1] = a
	}
}

// Receiver is one connection as the application sees it.
type Receiver struct {
	Name string

	mu    sync.Mutex // guards the following
	spans map[string][]span
	seen  map[uint32]*seen
}

// span is one membership. joined is Never until confirmed; leaving and left are Never while it lasts.
type span struct{ joining, joined, leaving, left int64 }

// Receiver adds a receiver.
func (l *Log) Receiver(name string) *Receiver {
	r := &Receiver{Name: name, spans: map[string][]span{}, seen: map[uint32]*seen{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.receivers = append(l.receivers, r)
	return r
}

// Joining says that the receiver asked to become a member of a target.
func (r *Receiver) Joining(target string, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans[target] = append(r.spans[target], span{now, Never, Never, Never})
}

// Joined says that this was confirmed: every message sent from now on is due.
func (r *Receiver) Joined(target string, now int64) { r.last(target, func(s *span) { s.joined = now }) }

// Leaving says that the receiver asked to leave, or lost its connection: nothing sent from now on is due.
func (r *Receiver) Leaving(target string, now int64) {
	r.last(target, func(s *span) { s.leaving = min(s.leaving, now) })
}

// Left says that the leave was confirmed: nothing sent from now on may arrive.
func (r *Receiver) Left(target string, now int64) { r.last(target, func(s *span) { s.left = now }) }

// Gone says that the receiver lost its connection between two moments, and with it every membership: nothing sent since
// the first is due, and nothing sent after the second may arrive.
func (r *Receiver) Gone(since, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, spans := range r.spans {
		s := &spans[len(spans)-1]
		s.leaving, s.left = min(s.leaving, since), min(s.left, now)
	}
}

func (r *Receiver) last(target string, change func(*span)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if spans := r.spans[target]; len(spans) > 0 {
		change(&spans[len(spans)-1])
	}
}

// Got says that message number of the stream arrived.
func (r *Receiver) Got(stream, number uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[stream]
	if s == nil {
		s = &seen{}
		r.seen[stream] = s
	}
	s.add(number)
}

// Verdict is what a Log adds up to.
type Verdict struct {
	Sent       int64 `json:"sent"`
	Accepted   int64 `json:"accepted"`
	Refused    int64 `json:"refused"`
	Unanswered int64 `json:"unanswered"` // sent, and neither accepted nor refused by the end

	Due       int64 `json:"due"`       // deliveries that were promised
	Delivered int64 `json:"delivered"` // deliveries that happened, each counted once
	Lost      int64 `json:"lost"`      // due and not delivered
	Doubled   int64 `json:"doubled"`   // deliveries beyond the first of the same message to the same receiver
	Reordered int64 `json:"reordered"` // came after a later message of the same stream
	Stray     int64 `json:"stray"`     // came to a receiver that had not joined or had left

	Unjudged int64 `json:"unjudged,omitempty"` // delivered, but whether due is unknown: their sender's process gave no account

	Examples []string `json:"examples,omitempty"`
}

// Faults is the number of broken promises.
func (v *Verdict) Faults() int64 { return v.Lost + v.Doubled + v.Reordered + v.Stray }

// Add adds another run's verdict, over other streams and receivers.
func (v *Verdict) Add(o Verdict) {
	v.Sent += o.Sent
	v.Accepted += o.Accepted
	v.Refused += o.Refused
	v.Unanswered += o.Unanswered
	v.Due += o.Due
	v.Delivered += o.Delivered
	v.Lost += o.Lost
	v.Doubled += o.Doubled
	v.Reordered += o.Reordered
	v.Stray += o.Stray
	v.Unjudged += o.Unjudged
	for _, e := range o.Examples {
		v.example("%s", e)
	}
}

func (v *Verdict) example(format string, args ...any) {
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// Check judges the run. inFlight is how long a message may be under way: one accepted less than that before a leave
// is not due, one sent less than that before a join may arrive. Nothing may be sent or received meanwhile. Messages of
// other processes count as sent there and not here; those that Import said nothing of are unjudged.
func (l *Log) Check(inFlight time.Duration) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	var v Verdict
	byTarget := map[string][]*Stream{}
	for _, s := range l.streams {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.sent) > 0 {
			byTarget[s.Target] = append(byTarget[s.Target], s)
		}
		if !s.elsewhere {
			v.countSent(s)
		}
	}
	for _, r := range l.receivers {
		r.mu.Lock()
		defer r.mu.Unlock()
		v.countSeen(r, l.streams)
		for target, spans := range r.spans {
			for _, s := range byTarget[target] {
				v.judge(r, s, spans, int64(inFlight))
			}
		}
	}
	return v
}

func (v *Verdict) countSent(s *Stream) {
	v.Sent += int64(len(s.sent))
	for _, a := range s.answer {
		switch a {
		case refused:
			v.Refused++
		case unanswered:
			v.Unanswered++
		default:
			v.Accepted++
		}
	}
}

// countSeen counts what arrived, whatever was promised.
func (v *Verdict) countSeen(r *Receiver, streams []*Stream) {
	for id, seen := range r.seen {
		if int(id) >= len(streams) {
			v.Stray += seen.count(0, math.MaxUint32)
			v.example("%s got messages of stream %d, which nobody sent", r.Name, id)
			continue
		}
		s := streams[id]
		v.Delivered += seen.count(0, math.MaxUint32)
		v.Doubled += seen.doubled
		if seen.doubled > 0 {
			v.example("%s got %d of %s's messages to %s again, the first being number %d", r.Name, seen.doubled, s.Sender, s.Target, seen.firstDoubled)
		}
		if seen.late > 0 && !s.unordered {
			v.Reordered += seen.late
			v.example("%s got %d of %s's messages to %s after later ones, the first being number %d", r.Name, seen.late, s.Sender, s.Target, seen.firstLate)
		}
		member := len(r.spans[s.Target]) > 0 && s.skip != r
		if s.elsewhere && !s.known {
			if n := seen.count(0, math.MaxUint32); member {
				v.Unjudged += n
			} else {
				v.stray(r, s, n)
			}
			continue
		}
		if unsent := seen.count(uint32(len(s.sent))+1, math.MaxUint32); unsent > 0 {
			v.Stray += unsent
			v.example("%s got %d messages from %s to %s that were never sent", r.Name, unsent, s.Sender, s.Target)
		}
		if !member {
			v.stray(r, s, seen.count(1, uint32(len(s.sent))+1))
		}
	}
}

func (v *Verdict) stray(r *Receiver, s *Stream, n int64) {
	if n > 0 {
		v.Stray += n
		v.example("%s got %d of %s's messages to %s, of which it was no member", r.Name, n, s.Sender, s.Target)
	}
}

// judge compares what r got of s with its memberships. Where the sender's clock may differ, moments that are closer to
// each other than that are both before and after.
func (v *Verdict) judge(r *Receiver, s *Stream, spans []span, inFlight int64) {
	if s.skip == r {
		return
	}
	got := r.seen[s.ID]
	left := int64(math.MinInt64)
	for _, m := range spans {
		v.stray(r, s, got.count(s.after(left), s.from(m.joining-inFlight-s.slack)))
		if left = m.left; left != Never {
			left += s.slack
		}
		if m.joined == Never {
			continue
		}
		before := int64(Never)
		if m.leaving != Never {
			before = m.leaving - inFlight - s.slack
		}
		v.lost(r, s, got, s.from(m.joined+s.slack), s.from(before), before)
	}
	if left != Never && left != math.MinInt64 {
		v.stray(r, s, got.count(s.after(left), uint32(len(s.sent))+1))
	}
}

// lost looks for the messages from from and below until that were accepted before the given time.
func (v *Verdict) lost(r *Receiver, s *Stream, got *seen, from, until uint32, before int64) {
	var lost int64
	var first uint32
	for n := from; n < until; n++ {
		if a := s.answer[n-1]; a <= refused || a >= before {
			continue
		}
		v.Due++
		if got.count(n, n+1) == 0 {
			if lost == 0 {
				first = n
			}
			lost++
		}
	}
	if lost > 0 {
		v.Lost += lost
		v.example("%s never got %d of %s's messages to %s, the first being number %d", r.Name, lost, s.Sender, s.Target, first)
	}
}

// from is the number of the first message sent at t or later.
func (s *Stream) from(t int64) uint32 {
	return uint32(sort.Search(len(s.sent), func(i int) bool { return s.sent[i] >= t })) + 1
}

// after is the number of the first message sent later than t.
func (s *Stream) after(t int64) uint32 {
	return uint32(sort.Search(len(s.sent), func(i int) bool { return s.sent[i] > t })) + 1
}

// seen is the set of numbers received of one stream: first to next without the gaps. It takes little room as long
// as little is missing.
type seen struct {
	first, next uint32
	gaps        []gap // in order, apart from each other

	doubled, late           int64
	firstDoubled, firstLate uint32
}

type gap struct{ from, until uint32 }

func (s *seen) add(n uint32) {
	switch {
	case s.next == 0:
		s.first, s.next = n, n+1
	case n == s.next:
		s.next++
	case n > s.next:
		s.gaps = append(s.gaps, gap{s.next, n})
		s.next = n + 1
	case n < s.first:
		s.addLate(n)
		if n+1 < s.first {
			s.gaps = slices.Insert(s.gaps, 0, gap{n + 1, s.first})
		}
		s.first = n
	case s.fill(n):
		s.addLate(n)
	default:
		if s.doubled == 0 {
			s.firstDoubled = n
		}
		s.doubled++
	}
}

func (s *seen) addLate(n uint32) {
	if s.late == 0 {
		s.firstLate = n
	}
	s.late++
}

// fill takes n out of the gaps and reports whether it was in one.
func (s *seen) fill(n uint32) bool {
	i := sort.Search(len(s.gaps), func(i int) bool { return s.gaps[i].until > n })
	if i == len(s.gaps) || s.gaps[i].from > n {
		return false
	}
	g := s.gaps[i]
	var parts []gap
	if g.from < n {
		parts = append(parts, gap{g.from, n})
	}
	if n+1 < g.until {
		parts = append(parts, gap{n + 1, g.until})
	}
	s.gaps = slices.Replace(s.gaps, i, i+1, parts...)
	return true
}

// count returns how many numbers from from and below until were received.
func (s *seen) count(from, until uint32) int64 {
	if s == nil {
		return 0
	}
	from, until = max(from, s.first), min(until, s.next)
	if from >= until {
		return 0
	}
	n := int64(until - from)
	i := sort.Search(len(s.gaps), func(i int) bool { return s.gaps[i].until > from })
	for ; i < len(s.gaps) && s.gaps[i].from < until; i++ {
		n -= int64(min(s.gaps[i].until, until)) - int64(max(s.gaps[i].from, from))
	}
	return n
}
