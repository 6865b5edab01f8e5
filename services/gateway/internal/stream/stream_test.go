package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// world is a publisher that notes what it is told, and a bus that answers when the test says so.
type world struct {
	*Set
	t *testing.T

	mu   sync.Mutex // guards the following
	said []string
	ends []string
	over int
	bus  error // of the ends that are published
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	w.Set = New(t.Context(), Port{
		Ack: func(id string, expected uint64) { w.say("ack %s %d", id, expected) },
		Nack: func(id string, expected uint64, f *protocol.Failure) {
			w.say("nack %s %d %s", id, expected, f.Name)
		},
		Closed: func(id string, f *protocol.Failure) {
			if f == nil {
				f = &protocol.Failure{Name: "done"}
			}
			w.say("closed %s %s", id, f.Name)
		},
		End: func(f Fragment, done func(error)) {
			w.mu.Lock()
			cause := ""
			if f.Info.Error != nil {
				cause = f.Info.Error.Name
			}
			w.ends = append(w.ends, fmt.Sprintf("%s %s %d %s", f.Group, f.Info.StreamID, f.Info.Sequence, cause))
			err := w.bus
			w.mu.Unlock()
			done(err)
		},
		Over: func() {
			w.mu.Lock()
			w.over++
			w.mu.Unlock()
		},
	})
	w.closedAfter = 0 // but for the test of it
	return w
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

// want checks what the publisher has been told since the last time.
func (w *world) want(said ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.said, said) {
		w.t.Errorf("the publisher was told %q, want %q", w.said, said)
	}
	w.said = nil
}

// wantEnds checks what ends have been published since the last time.
func (w *world) wantEnds(ends ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.ends, ends) {
		w.t.Errorf("the ends published are %q, want %q", w.ends, ends)
	}
	w.ends = nil
}

// send sends a fragment that has to be accepted and returns it.
func (w *world) send(id string, number uint64) Fragment {
	w.t.Helper()
	f, ok := w.Data(id, number, nil)
	if !ok || f.Info.StreamID != id || f.Info.Sequence != number {
		w.t.Fatalf("fragment %d: got %+v, %v; want it accepted", number, f, ok)
	}
	return f
}

// refuse sends a fragment that must not be accepted.
func (w *world) refuse(id string, number uint64, failed *protocol.Failure) {
	w.t.Helper()
	if f, ok := w.Data(id, number, failed); ok {
		w.t.Fatalf("fragment %d: got %+v accepted, want it refused", number, f)
	}
}

func TestFragmentsInOrder(t *testing.T) {
	w := newWorld(t)
	if !w.Start("s", "room", true, 0) {
		t.Fatal("the stream did not start")
	}
	w.want("ack s 1")
	f := w.send("s", 1)
	if f.Group != "room" || !f.NoEcho {
		t.Errorf("got %+v, want it for room, without echo", f)
	}
	w.want()
	f.Done(nil)
	w.want("ack s 2")

	w.refuse("s", 1, nil) // again
	w.want("ack s 2")
	w.refuse("s", 4, nil) // a gap
	w.want("nack s 2 InvalidSequenceId")
	w.send("s", 2).Done(nil)
	w.want("ack s 3")

	w.refuse("s", 3, &protocol.Failure{Name: protocol.TransientError})
	w.want("nack s 3 TransientError")
	w.send("s", 3).Done(nil)
	w.want("ack s 4")

	w.End("s", nil)
	w.wantEnds("room s 4 ")
	w.want("closed s done")
	w.refuse("s", 4, nil)
	w.KeepAlive("s")
	w.End("s", nil)
	w.want("closed s StreamNotFound", "closed s StreamNotFound", "closed s StreamNotFound")
	if w.over != 1 {
		t.Errorf("the stream is over %d times, want once", w.over)
	}
}

// TestNumbersNeverGoBack has a publisher told of a gap while earlier fragments are on their way: what they are
// acknowledged with afterwards must not be less, which SDKs take for a violation.
func TestNumbersNeverGoBack(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	first, second := w.send("s", 1), w.send("s", 2)
	w.refuse("s", 1, nil) // again, while it is on its way: nothing has arrived yet
	w.want("ack s 1", "ack s 1")
	w.refuse("s", 9, nil)
	w.want("nack s 3 InvalidSequenceId")
	first.Done(nil)
	w.refuse("s", 1, nil)
	w.want("ack s 3")
	second.Done(nil)
	w.want("ack s 3")
}

func TestAcksAreBatchedWhileMoreIsOnItsWay(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	var underWay []Fragment
	for n := range uint64(40) {
		underWay = append(underWay, w.send("s", n+1))
	}
	for _, f := range underWay {
		f.Done(nil)
	}
	w.want("ack s 1", "ack s 17", "ack s 33", "ack s 41")
}

func TestEndFollowsTheLastFragment(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	first, second := w.send("s", 1), w.send("s", 2)
	w.End("s", &protocol.StreamError{Name: "mine", Message: "crashed"})
	w.refuse("s", 3, nil) // nothing is said: the end is coming
	first.Done(nil)
	w.wantEnds()
	w.want("ack s 1")
	if w.Start("s", "room", false, 0) {
		t.Error("the id is free before subscribers know of the end")
	}
	w.want("closed s BadRequest")
	second.Done(nil)
	w.wantEnds("room s 3 UserError")
	w.want("closed s done")
	if !w.Start("s", "other", false, 0) {
		t.Error("the id is not free after the end")
	}
	w.want("ack s 1")
}

func TestLostFragmentEndsTheStream(t *testing.T) {
	for name, ended := range map[string]bool{"open": false, "ended by its publisher": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Start("s", "room", false, 0)
			first, second, third := w.send("s", 1), w.send("s", 2), w.send("s", 3)
			if ended {
				w.End("s", nil)
			}
			first.Done(errors.New("connection reset"))
			second.Done(nil)
			w.wantEnds()
			third.Done(errors.New("connection reset"))
			w.wantEnds("room s 4 InternalServerError")
			w.want("ack s 1", "closed s InternalServerError")
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Start("short", "room", false, time.Second)
		w.Start("long", "room", false, 0)
		for range 3 { // fragments and keepalives count, duplicates and gaps do not
			time.Sleep(900 * time.Millisecond)
			w.KeepAlive("short")
		}
		time.Sleep(900 * time.Millisecond)
		w.send("short", 1).Done(nil)
		time.Sleep(900 * time.Millisecond)
		w.refuse("short", 1, nil)
		w.refuse("short", 5, nil)
		w.want("ack short 1", "ack long 1", "ack short 2", "ack short 2", "nack short 2 InvalidSequenceId")
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		w.wantEnds("room short 2 IdleTimeout")
		w.want("closed short IdleTimeout")
		time.Sleep(protocol.DefaultIdleTimeout)
		synctest.Wait()
		w.wantEnds("room long 1 IdleTimeout")
		w.want("closed long IdleTimeout")
	})
}

func TestEndIsPublishedAgainWhenTheBusIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bus = errors.New("down")
		w.Start("s", "room", false, 0)
		w.End("s", nil)
		time.Sleep(3*endEvery + endEvery/2)
		w.want("ack s 1")
		w.mu.Lock()
		w.bus = nil
		w.mu.Unlock()
		time.Sleep(endEvery)
		w.want("closed s done")
		w.wantEnds("room s 1 ", "room s 1 ", "room s 1 ", "room s 1 ", "room s 1 ")

		w.bus = errors.New("down for good")
		w.Start("s", "room", false, 0)
		w.End("s", nil)
		time.Sleep(2 * endAttempts * endEvery)
		w.want("ack s 1", "closed s InternalServerError")
	})
}

// TestPublisherIsNotToldTooSoon leaves an SDK the time to notice that it has sent the end. It is told at once of what it
// has not asked for.
func TestPublisherIsNotToldTooSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.closedAfter = closedAfter
		w.Start("s", "room", false, 0)
		w.Start("forbidden", "room", false, 0)
		w.End("s", nil)
		w.Fail("forbidden", &protocol.Failure{Name: protocol.Forbidden})
		w.wantEnds("room s 1 ", "room forbidden 1 Forbidden")
		w.want("ack s 1", "ack forbidden 1", "closed forbidden Forbidden")
		time.Sleep(closedAfter)
		synctest.Wait()
		w.want("closed s done")
	})
}

func TestEndIsGivenUpWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		life, stop := context.WithCancel(t.Context())
		w.life, w.bus = life, errors.New("down")
		w.Start("s", "room", false, 0)
		w.Cancel()
		stop()
		time.Sleep(endEvery)
		synctest.Wait()
		if w.over != 1 {
			t.Errorf("the stream is over %d times, want once", w.over)
		}
	})
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	w.send("s", 1).Done(nil)
	w.Cancel()
	w.wantEnds("room s 2 Cancelled")
	w.want("ack s 1", "ack s 2", "closed s Cancelled")
	if w.Start("t", "room", false, 0) {
		t.Error("a stream started after the connection's end")
	}
}

func TestFail(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	if group, ok := w.Group("s"); group != "room" || !ok {
		t.Errorf("got group %q, %v; want room", group, ok)
	}
	w.Fail("s", &protocol.Failure{Name: protocol.Forbidden, Message: "no"})
	w.wantEnds("room s 1 Forbidden")
	w.want("ack s 1", "closed s Forbidden")
	if _, ok := w.Group("s"); ok {
		t.Error("the stream is open, want it ended")
	}
}

// TestPublisherThatWasAway asks on a new socket for streams that ended on the old one.
func TestPublisherThatWasAway(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"complete", "forbidden"} {
		w.Start(id, "room", false, 0)
	}
	w.End("complete", nil)
	w.Fail("forbidden", &protocol.Failure{Name: protocol.Forbidden})
	w.said = nil
	w.End("complete", nil)
	w.want("closed complete StreamNotFound") // it was told a moment ago
	w.NewSocket()
	w.End("complete", nil)
	w.refuse("forbidden", 1, nil)
	w.refuse("unknown", 1, nil)
	w.want("closed complete done", "closed forbidden Forbidden", "closed unknown StreamNotFound")
	w.Start("complete", "room", false, 0)
	w.End("complete", nil)
	w.End("complete", nil)
	w.want("ack complete 1", "closed complete done", "closed complete StreamNotFound")
	for n := range maxEnded {
		w.Start(fmt.Sprint(n), "room", false, 0)
		w.End(fmt.Sprint(n), nil)
	}
	w.said = nil
	w.NewSocket()
	w.End("forbidden", nil)
	w.want("closed forbidden StreamNotFound") // as many ends as that are not remembered
}

func TestStartIsRefused(t *testing.T) {
	w := newWorld(t)
	w.Start("s", "room", false, 0)
	w.send("s", 1).Done(nil)
	w.want("ack s 1", "ack s 2")
	if w.Start("s", "room", false, 0) {
		t.Error("two open streams have one id")
	}
	w.want("closed s BadRequest")
	w.send("s", 2) // the first one goes on
	for n := range MaxOpen - 1 {
		w.Start(fmt.Sprint(n), "room", false, 0)
	}
	w.said = nil
	if w.Start("one more", "room", false, 0) {
		t.Errorf("more than %d streams are open", MaxOpen)
	}
	w.want("closed one more BadRequest")
	w.Cancel()
}

// TestConcurrency has a bus that answers from elsewhere while a publisher sends, repeats and leaves gaps. What it is
// told must be monotonic and never ahead.
func TestConcurrency(t *testing.T) {
	var mu sync.Mutex
	var told, sent uint64
	closed := make(chan struct{})
	tell := func(_ string, expected uint64) {
		mu.Lock()
		defer mu.Unlock()
		if expected < told || expected > sent+1 {
			t.Errorf("told to send %d after %d, with %d sent", expected, told, sent)
		}
		told = expected
	}
	s := New(t.Context(), Port{
		Ack:    tell,
		Nack:   func(id string, expected uint64, _ *protocol.Failure) { tell(id, expected) },
		Closed: func(string, *protocol.Failure) { close(closed) },
		End:    func(_ Fragment, done func(error)) { done(nil) },
		Over:   func() {},
	})
	s.Start("s", "room", false, 0)
	bus := make(chan Fragment, 64)
	go func() {
		for f := range bus {
			f.Done(nil)
		}
	}()
	for n := uint64(1); n <= 5000; n++ {
		mu.Lock()
		sent = n
		mu.Unlock()
		f, ok := s.Data("s", n, nil)
		if !ok {
			t.Fatalf("fragment %d is refused", n)
		}
		bus <- f
		if n%7 == 0 {
			s.Data("s", n/2+1, nil)
			s.Data("s", n+2, nil)
		}
	}
	s.End("s", nil)
	close(bus)
	<-closed
}
