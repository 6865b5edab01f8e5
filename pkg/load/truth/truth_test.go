package truth

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const messages = 10_000

// world is one stream of messages to g and three members of it. deliver may change what the second one gets.
func world(deliver func(r *Receiver, number uint32)) Verdict {
	var log Log
	s := log.Stream("ana", "g", StreamOptions{})
	var members []*Receiver
	for _, name := range []string{"one", "two", "three"} {
		r := log.Receiver(name)
		r.Joining("g", 0)
		r.Joined("g", 1)
		members = append(members, r)
	}
	for i := range int64(messages) {
		n := s.Send(10 + i)
		s.Accepted(n, 10+i)
		for j, r := range members {
			if j == 1 {
				deliver(r, n)
			} else {
				r.Got(s.ID, n)
			}
		}
	}
	return log.Check(time.Second)
}

// fault is what a receiver misses or gets too much of ana's messages, and what is said of it.
type fault struct {
	name    string
	deliver func(r *Receiver, n uint32)
	want    Verdict // beside what all have in common
	says    string
}

// faults are told of wherever the sender and the receiver are.
var faults = []fault{
	{"none", func(r *Receiver, n uint32) { r.Got(0, n) }, Verdict{}, ""},
	{"one of 10,000 lost", func(r *Receiver, n uint32) {
		if n != 7000 {
			r.Got(0, n)
		}
	}, Verdict{Lost: 1}, "two never got 1 of ana's messages to g, the first being number 7000"},
	{"the last one lost", func(r *Receiver, n uint32) {
		if n != messages {
			r.Got(0, n)
		}
	}, Verdict{Lost: 1}, "number 10000"},
	{"one swap", func(r *Receiver, n uint32) {
		switch n {
		case 500:
			r.Got(0, 501)
		case 501:
			r.Got(0, 500)
		default:
			r.Got(0, n)
		}
	}, Verdict{Reordered: 1}, "two got 1 of ana's messages to g after later ones, the first being number 500"},
	{"one duplicate", func(r *Receiver, n uint32) {
		r.Got(0, n)
		if n == 42 {
			r.Got(0, n)
		}
	}, Verdict{Doubled: 1}, "two got 1 of ana's messages to g again, the first being number 42"},
	{"one that nobody sent", func(r *Receiver, n uint32) {
		r.Got(0, n)
		if n == messages {
			r.Got(0, n+1)
		}
	}, Verdict{Stray: 1}, "never sent"},
}

func TestInjectedFaults(t *testing.T) {
	tests := append([]fault{
		{"the first one lost", func(r *Receiver, n uint32) {
			if n != 1 {
				r.Got(0, n)
			}
		}, Verdict{Lost: 1}, "number 1"},
		{"the first two swapped", func(r *Receiver, n uint32) {
			switch n {
			case 1:
				r.Got(0, 2)
			case 2:
				r.Got(0, 1)
			default:
				r.Got(0, n)
			}
		}, Verdict{Reordered: 1}, "number 1"},
		{"a stream that nobody has", func(r *Receiver, n uint32) {
			r.Got(0, n)
			if n == 1 {
				r.Got(9, n)
			}
		}, Verdict{Stray: 1}, "stream 9"},
	}, faults...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := world(tt.deliver)
			if got.Sent != messages || got.Accepted != messages || got.Due != 3*messages {
				t.Errorf("got %d sent, %d accepted, %d due; want %d, %[4]d, %d", got.Sent, got.Accepted, got.Due, messages, 3*messages)
			}
			found := Verdict{Lost: got.Lost, Doubled: got.Doubled, Reordered: got.Reordered, Stray: got.Stray}
			if !reflect.DeepEqual(found, tt.want) {
				t.Errorf("faults: got %+v, want %+v", found, tt.want)
			}
			if said := strings.Join(got.Examples, "\n"); !strings.Contains(said, tt.says) || (tt.says == "") != (said == "") {
				t.Errorf("examples: got %q, want %q", said, tt.says)
			}
		})
	}
}

// TestMembership sends message n at the time 100 n and looks at what a member for a time is asked for.
func TestMembership(t *testing.T) {
	const inFlight = 150
	tests := []struct {
		name  string
		spans func(r *Receiver)
		got   []uint32
		want  Verdict
	}{
		{"due from the join on", func(r *Receiver) { r.Joining("g", 250); r.Joined("g", 310) },
			[]uint32{4, 5, 6, 7, 8, 9, 10}, Verdict{Due: 7}},
		{"what was under way at the join may come", func(r *Receiver) { r.Joining("g", 250); r.Joined("g", 310) },
			[]uint32{2, 3, 4, 5, 6, 7, 8, 9, 10}, Verdict{Due: 7}},
		{"what was long before the join may not", func(r *Receiver) { r.Joining("g", 450); r.Joined("g", 510) },
			[]uint32{1, 6, 7, 8, 9, 10}, Verdict{Due: 5, Stray: 1}},
		{"what was under way at the leave need not come", func(r *Receiver) {
			r.Joining("g", 0)
			r.Joined("g", 10)
			r.Leaving("g", 610)
			r.Left("g", 650)
		}, []uint32{1, 2, 3, 4}, Verdict{Due: 4}},
		{"nothing comes after the leave", func(r *Receiver) {
			r.Joining("g", 0)
			r.Joined("g", 10)
			r.Leaving("g", 610)
			r.Left("g", 650)
		}, []uint32{1, 2, 3, 4, 5, 6, 7}, Verdict{Due: 4, Stray: 1}},
		{"nothing is due between two memberships", func(r *Receiver) {
			r.Joining("g", 0)
			r.Joined("g", 10)
			r.Leaving("g", 310)
			r.Left("g", 320)
			r.Joining("g", 780)
			r.Joined("g", 790)
		}, []uint32{1, 8, 9, 10}, Verdict{Due: 4}},
		{"a stray between two memberships is found", func(r *Receiver) {
			r.Joining("g", 0)
			r.Joined("g", 10)
			r.Leaving("g", 310)
			r.Left("g", 320)
			r.Joining("g", 780)
			r.Joined("g", 790)
		}, []uint32{1, 5, 8, 9, 10}, Verdict{Due: 4, Stray: 1}},
		{"a join without an answer promises nothing", func(r *Receiver) { r.Joining("g", 0) }, []uint32{1, 2}, Verdict{}},
		{"a lost connection ends it", func(r *Receiver) { r.Joining("g", 0); r.Joined("g", 10); r.Gone(500, 500) },
			[]uint32{1, 2, 3}, Verdict{Due: 3}},
		{"no member", func(*Receiver) {}, []uint32{3}, Verdict{Stray: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log Log
			s := log.Stream("ana", "g", StreamOptions{})
			r := log.Receiver("ben")
			tt.spans(r)
			for i := range int64(10) {
				s.Accepted(s.Send(100*(i+1)), 100*(i+1)+5)
			}
			for _, n := range tt.got {
				r.Got(s.ID, n)
			}
			got := log.Check(inFlight)
			tt.want.Sent, tt.want.Accepted, tt.want.Delivered = 10, 10, int64(len(tt.got))
			got.Examples = nil
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestOnlyAcceptedMessagesAreDue(t *testing.T) {
	var log Log
	s := log.Stream("ana", "g", StreamOptions{})
	r := log.Receiver("ben")
	r.Joining("g", 0)
	r.Joined("g", 1)
	s.Accepted(s.Send(10), 11)
	s.Refused(s.Send(20))
	s.Send(30)
	got := log.Check(0)
	want := Verdict{Sent: 3, Accepted: 1, Refused: 1, Unanswered: 1, Due: 1, Lost: 1}
	got.Examples = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestLateAcceptanceIsUnderWay leaves before a message was accepted that had been sent long before.
func TestLateAcceptanceIsUnderWay(t *testing.T) {
	var log Log
	s := log.Stream("ana", "g", StreamOptions{})
	r := log.Receiver("ben")
	r.Joining("g", 0)
	r.Joined("g", 1)
	s.Accepted(s.Send(10), 5000)
	r.Leaving("g", 4000)
	r.Left("g", 4010)
	if got := log.Check(100); got.Due != 0 || got.Faults() != 0 {
		t.Errorf("got %+v, want nothing due", got)
	}
}

func TestStreamOptions(t *testing.T) {
	var log Log
	r := log.Receiver("ben")
	own := log.Stream("ben", "g", StreamOptions{Skip: r})
	rest := log.Stream("rest", "g", StreamOptions{Unordered: true})
	r.Joining("g", 0)
	r.Joined("g", 1)
	for i := range int64(3) {
		own.Accepted(own.Send(i+2), i+3)
		rest.Accepted(rest.Send(i+2), i+3)
	}
	for _, n := range []uint32{3, 1, 2} {
		r.Got(rest.ID, n)
	}
	if got := log.Check(0); got.Faults() != 0 || got.Due != 3 {
		t.Errorf("got %+v, want no faults and 3 due", got)
	}
	r.Got(own.ID, 1)
	if got := log.Check(0); got.Stray != 1 {
		t.Errorf("an echo that was not wanted: got %+v, want 1 stray", got)
	}
}

func TestAdd(t *testing.T) {
	a := world(func(r *Receiver, n uint32) { r.Got(0, n) })
	b := world(func(r *Receiver, n uint32) {
		if n > 1 {
			r.Got(0, n)
		}
	})
	a.Add(b)
	if a.Sent != 2*messages || a.Due != 6*messages || a.Delivered != 6*messages-1 || a.Lost != 1 || len(a.Examples) != 1 {
		t.Errorf("got %+v", a)
	}
}

func TestStamp(t *testing.T) {
	run := NewRun(7)
	want := Stamp{Stream: 3, Number: 1 << 31, Due: 1234567890123}
	for _, size := range []int{0, StampSize, 1000} {
		payload := run.Append([]byte(`{"data":"`), want, size)
		if got := len(payload) - len(`{"data":"`); got != max(size, StampSize) {
			t.Errorf("size %d: got %d", size, got)
		}
		if got, ok := run.Find(append(payload, `"}`...)); !ok || got != want {
			t.Errorf("size %d: got %+v, %v, want %+v", size, got, ok, want)
		}
	}
	other := NewRun(8).Append(nil, want, 0)
	if got, ok := run.Find(other); ok {
		t.Errorf("another run's stamp: got %+v, want none", got)
	}
	if got, ok := run.Find(run.Append(append(other[:9:9], "~~~"...), want, 0)); !ok || got != want {
		t.Errorf("behind a broken stamp: got %+v, %v, want %+v", got, ok, want)
	}
	if _, ok := run.Find(run.Append(nil, want, 0)[:StampSize-1]); ok {
		t.Error("a cut stamp was found")
	}
}

func TestGotDoesNotAllocate(t *testing.T) {
	r := (&Log{}).Receiver("ben")
	n := uint32(0)
	if got := testing.AllocsPerRun(1000, func() { n++; r.Got(1, n) }); got != 0 {
		t.Errorf("got %v allocations for a message in order, want 0", got)
	}
}
