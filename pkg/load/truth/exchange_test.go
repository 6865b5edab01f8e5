package truth

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// two is a run of two processes: ana sends messages to g in the first one, at the times 10, 11 …; a member in each gets
// them. deliver may change what the second one's gets.
func two(t *testing.T, deliver func(r *Receiver, number uint32)) (here, there Verdict) {
	t.Helper()
	var a, b Log
	s := a.Stream("ana", "g", StreamOptions{})
	b.Stream("ana", "g", StreamOptions{Elsewhere: true})
	a.Stream("ben", "g", StreamOptions{Elsewhere: true})
	b.Stream("ben", "g", StreamOptions{})
	one, two := a.Receiver("one"), b.Receiver("two")
	for _, r := range []*Receiver{one, two} {
		r.Joining("g", 0)
		r.Joined("g", 1)
	}
	for i := range int64(messages) {
		n := s.Send(10 + i)
		s.Accepted(n, 10+i)
		one.Got(s.ID, n)
		deliver(two, n)
	}
	swap(t, &a, &b)
	return a.Check(time.Second), b.Check(time.Second)
}

func swap(t *testing.T, a, b *Log) {
	t.Helper()
	fromA, fromB := a.Export(), b.Export()
	if err := a.Import(fromB, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Import(fromA, 0); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsBetweenProcesses(t *testing.T) {
	tests := append([]fault{
		{"all lost", func(*Receiver, uint32) {}, Verdict{Lost: messages}, "two never got 10000"},
		{"one of a process that sent nothing at all", func(r *Receiver, n uint32) {
			r.Got(0, n)
			if n == 1 {
				r.Got(1, n)
			}
		}, Verdict{Stray: 1}, "from ben to g that were never sent"},
	}, faults...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			here, got := two(t, tt.deliver)
			if here.Sent != messages || here.Accepted != messages || here.Due != messages || here.Faults() != 0 {
				t.Errorf("the sender's process: got %+v", here)
			}
			if got.Sent != 0 || got.Due != messages {
				t.Errorf("the receiver's process: got %d sent, %d due; want none and %d", got.Sent, got.Due, messages)
			}
			found := Verdict{Lost: got.Lost, Doubled: got.Doubled, Reordered: got.Reordered, Stray: got.Stray, Unjudged: got.Unjudged}
			if !reflect.DeepEqual(found, tt.want) {
				t.Errorf("faults: got %+v, want %+v", found, tt.want)
			}
			if said := strings.Join(got.Examples, "\n"); !strings.Contains(said, tt.says) || (tt.says == "") != (said == "") {
				t.Errorf("examples: got %q, want %q", said, tt.says)
			}
		})
	}
}

// TestAnswersTravel looks at what is due of messages that were accepted, refused, and not answered elsewhere, and at what
// a member for a time is asked for.
func TestAnswersTravel(t *testing.T) {
	var a, b Log
	s := a.Stream("ana", "g", StreamOptions{})
	b.Stream("ana", "g", StreamOptions{Elsewhere: true})
	r := b.Receiver("ben")
	r.Joining("g", 0)
	r.Joined("g", 250)
	r.Leaving("g", 1000)
	r.Left("g", 1010)
	for _, at := range []int64{-100, 200, 300, 400, 500, 600, 950, 2000} {
		n := s.Send(at)
		switch at {
		case 400:
			s.Refused(n)
		case 500:
		case 600:
			s.Accepted(n, 995) // under way when ben left
		default:
			s.Accepted(n, at+5)
		}
	}
	if err := b.Import(a.Export(), 0); err != nil {
		t.Fatal(err)
	}
	r.Got(0, 8) // long after ben had left
	got := b.Check(20)
	got.Examples = nil
	if want := (Verdict{Due: 2, Delivered: 1, Lost: 2, Stray: 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v: 300 and 950 are due", got, want)
	}
}

// TestClocksThatDiffer sends just after a join and just before and after a leave: with clocks that may differ by as much,
// nothing of that is due or stray.
func TestClocksThatDiffer(t *testing.T) {
	judged := func(slack time.Duration) Verdict {
		var a, b Log
		s := a.Stream("ana", "g", StreamOptions{})
		b.Stream("ana", "g", StreamOptions{Elsewhere: true})
		r := b.Receiver("ben")
		r.Joining("g", 1000)
		r.Joined("g", 1010)
		r.Leaving("g", 3000)
		r.Left("g", 3010)
		for _, at := range []int64{990, 1015, 2000, 2990, 3020} {
			s.Accepted(s.Send(at), at)
		}
		for _, n := range []uint32{1, 3, 5} {
			r.Got(0, n)
		}
		if err := b.Import(a.Export(), slack); err != nil {
			t.Fatal(err)
		}
		got := b.Check(0)
		got.Examples = nil
		return got
	}
	if got, want := judged(0), (Verdict{Due: 3, Delivered: 3, Lost: 2, Stray: 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("one clock: got %+v, want %+v", got, want)
	}
	if got, want := judged(20), (Verdict{Due: 1, Delivered: 3}); !reflect.DeepEqual(got, want) {
		t.Errorf("two clocks: got %+v, want %+v", got, want)
	}
}

// TestMissingAccountIsUnjudged lets a process be gone before it says what it sent.
func TestMissingAccountIsUnjudged(t *testing.T) {
	var l Log
	s := l.Stream("ana", "g", StreamOptions{Elsewhere: true})
	r, stranger := l.Receiver("ben"), l.Receiver("eve")
	r.Joining("g", 0)
	r.Joined("g", 1)
	for _, n := range []uint32{1, 2, 4, 5, 5, 7, 6} {
		r.Got(s.ID, n)
	}
	stranger.Got(s.ID, 3)
	got := l.Check(0)
	got.Examples = nil
	if want := (Verdict{Delivered: 7, Unjudged: 6, Doubled: 1, Reordered: 1, Stray: 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v: what was lost is unknown, the rest is not", got, want)
	}
}

func TestBrokenAccountsAreRefused(t *testing.T) {
	var a, b Log
	s := a.Stream("ana", "g", StreamOptions{})
	b.Stream("ana", "g", StreamOptions{Elsewhere: true})
	b.Stream("own", "g", StreamOptions{})
	s.Accepted(s.Send(10), 11)
	s.Send(12)
	whole := a.Export()
	for i := 1; i < len(whole); i++ {
		if err := b.Import(whole[:i], 0); err == nil {
			t.Errorf("the first %d bytes of %d are no error", i, len(whole))
		}
	}
	for name, bad := range map[string][]byte{"own stream": {1, 0}, "unknown stream": {2, 0}, "many messages": {0, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		if err := b.Import(bad, 0); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := b.Import(whole, 0); err != nil {
		t.Error(err)
	}
}

// FuzzImport looks for accounts that break the one who takes them.
func FuzzImport(f *testing.F) {
	var a Log
	s := a.Stream("ana", "g", StreamOptions{})
	s.Accepted(s.Send(10), 11)
	f.Add(a.Export())
	f.Add([]byte{0, 1, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Log
		l.Stream("ana", "g", StreamOptions{Elsewhere: true})
		r := l.Receiver("ben")
		r.Joining("g", 0)
		r.Joined("g", 1)
		r.Got(0, 1)
		_ = l.Import(b, time.Millisecond)
		_ = l.Check(time.Second)
	})
}

// TestExportIsSmall: what is sent to one group of any size costs bytes for each message, not for each delivery.
func TestExportIsSmall(t *testing.T) {
	var l Log
	now := int64(math.MaxInt32)
	for range 2000 {
		s := l.Stream("ana", "g", StreamOptions{})
		for range 50 {
			now += int64(time.Millisecond)
			s.Accepted(s.Send(now), now+int64(3*time.Millisecond))
		}
	}
	if got := len(l.Export()); got > 10*2000*50 {
		t.Errorf("got %d bytes for 100,000 messages, want at most 10 each", got)
	}
}
