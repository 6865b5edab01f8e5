package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// testTeam stands for the processes of a team, all of them in this process.
type testTeam struct {
	of    int
	skew  time.Duration // by which the clock of the last one is wrong
	mute  bool          // the first one's account does not reach the others
	rooms []string

	mu     sync.Mutex // guards the following
	points map[Point]*meeting
	sent   [][]byte
}

type meeting struct {
	here int
	at   time.Time
	done chan struct{}
}

func (c *testTeam) meet(ctx context.Context, p Point) (time.Time, error) {
	c.mu.Lock()
	m := c.points[p]
	if m == nil {
		m = &meeting{done: make(chan struct{})}
		c.points[p] = m
	}
	if m.here++; m.here == c.of {
		m.at = time.Now()
		close(m.done)
	}
	c.mu.Unlock()
	select {
	case <-m.done:
		return m.at, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

func (c *testTeam) team(index int) *Team {
	return &Team{
		Share: scenario.Share{Index: index, Of: c.of}, Run: truth.NewRun(7), Rooms: c.rooms,
		Meet: func(ctx context.Context, p Point) (time.Time, error) {
			at, err := c.meet(ctx, p)
			if p == Begin && index == c.of-1 {
				at = at.Add(-c.skew)
			}
			return at, err
		},
		Exchange: func(ctx context.Context, sent []byte, take func([]byte, time.Duration) error) error {
			c.mu.Lock()
			c.sent[index] = sent
			c.mu.Unlock()
			if _, err := c.meet(ctx, "exchange"); err != nil {
				return err
			}
			for i, b := range c.sent {
				if i != index && !(i == 0 && c.mute) {
					if err := take(b, c.skew); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// drive runs a short scenario against s, shared by all processes, and returns what each found and the sum.
func (c *testTeam) drive(t *testing.T, s *server, args ...string) (parts []*result.Result, sum *result.Result) {
	t.Helper()
	c.points, c.sent = map[Point]*meeting{}, make([][]byte, c.of)
	parts = make([]*result.Result, c.of)
	problems := make([]error, c.of)
	sc := settings(t, s.URL, args...)
	var working sync.WaitGroup
	for i := range c.of {
		working.Go(func() { parts[i], problems[i] = Run(t.Context(), sc, Options{Key: testKey, Team: c.team(i)}) })
	}
	working.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	return parts, result.Merge(parts)
}

// TestTeamDoesEverythingAtOnce has the machine for itself, as far as this package goes: several processes take several
// times as much.
func TestTeamDoesEverythingAtOnce(t *testing.T) {
	for of := 2; of <= 3; of++ {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			parts, r := (&testTeam{of: of}).drive(t, newServer(t), "--subprotocols=json,reliable,simple,protobuf,reliable-protobuf", "--publish-rate=60",
				"--rest-group-rate=30", "--rest-user-rate=30", "--churn-rate=30", "--event-rate=30", "--publish-sizes=64,3000", "--groups-count=1")
			faultless(t, r)
			if r.Totals["ready"] != 20 || r.Totals["planned"] != 20 || r.Totals["churned"] == 0 || r.Latency["connect"].Count != 20 || r.Latency["rest"] == nil {
				t.Errorf("totals: got %v", r.Totals)
			}
			if r.Clocks == nil || r.Clocks.Across == 0 || r.Clocks.Early != 0 {
				t.Errorf("clocks: got %+v, want deliveries from one to another, on one clock", r.Clocks)
			}
			for i, p := range parts {
				if p.Truth.Due == 0 || p.Truth.Sent == 0 || p.Clocks.Across == 0 {
					t.Errorf("process %d: got %+v and %+v, want that it sent and received", i, p.Truth, p.Clocks)
				}
			}
		})
	}
}

// TestTeamStorms cuts connections in all processes.
func TestTeamStorms(t *testing.T) {
	t.Parallel()
	_, r := (&testTeam{of: 2}).drive(t, newServer(t), "--subprotocols=reliable", "--publish-rate=50", "--storm-every=500ms", "--storm-share=10", "--publish-outside=1",
		"--groups-count=1", "--duration=3s")
	if r.Truth.Faults() != 0 || r.Truth.Due == 0 || r.Totals["recoveries"] == 0 {
		t.Errorf("got %+v and totals %v, want recoveries and no faults", r.Truth, r.Totals)
	}
}

// TestFaultsAcrossATeam lets the service lose, repeat and swap one delivery of some hundred, from a sender in one process
// to a receiver in another.
func TestFaultsAcrossATeam(t *testing.T) {
	t.Parallel()
	for _, tt := range faults {
		for of := 2; of <= 3; of++ {
			t.Run(fmt.Sprintf("%s, %d processes", tt.name, of), func(t *testing.T) {
				t.Parallel()
				s := newServer(t)
				s.to = "user-3" // in another process than user-4, which does the publishing
				s.faultAt(50, tt.fault)
				c := &testTeam{of: of}
				parts, r := c.drive(t, s, "--connections=4", "--groups-count=1", "--publish-outside=1", "--publish-rate=200", "--duration=3s", "--in-flight=0s")
				if got := [3]int64{r.Truth.Lost, r.Truth.Doubled, r.Truth.Reordered}; got != tt.want || r.Truth.Stray != 0 || r.Truth.Due < 4*51 || len(r.Truth.Examples) != 1 {
					t.Fatalf("got %v lost, doubled, reordered of %d, %d stray; %q; want %v", got, r.Truth.Due, r.Truth.Stray, r.Truth.Examples, tt.want)
				}
				if says := r.Truth.Examples[0]; !strings.HasPrefix(says, "user-3 ") || !strings.Contains(says, "of user-4's messages") || !strings.Contains(says, "number 50") {
					t.Errorf("got %q, want user-3, user-4 and number 50", says)
				}
				for i, p := range parts {
					if found := p.Truth.Faults() == 1; found != (i == 3%of) || (p.Truth.Sent > 0) != (i == 4%of) {
						t.Errorf("process %d of %d: got %+v, want the fault where the receiver is, and not where the sender is", i, of, p.Truth)
					}
				}
			})
		}
	}
}

func TestClocksThatDisagreeAreTold(t *testing.T) {
	t.Parallel()
	parts, r := (&testTeam{of: 2, skew: time.Hour}).drive(t, newServer(t), "--connections=2", "--groups-count=1", "--publish-rate=100")
	if a, b := parts[0].Clocks, parts[1].Clocks; a.Across == 0 || b.Across == 0 || a.Early != a.Across || b.Early != 0 {
		t.Errorf("got %+v and %+v, want that everything is early for the process whose clock is behind, and nothing for the other", a, b)
	}
	if r.Clocks.ClockError != time.Hour.Seconds()*1e3 {
		t.Errorf("clock error: got %v ms, want an hour", r.Clocks.ClockError)
	}
	if parts[0].Latency["oneway"].Max > 0.001 || parts[0].Latency["roundtrip"].Max >= float64(10*time.Minute/time.Millisecond) {
		t.Errorf("got one-way latencies up to %v ms and round trips up to %v, want none below zero, and the latter of one clock", parts[0].Latency["oneway"].Max, parts[0].Latency["roundtrip"].Max)
	}
}

func TestGoneProcessLeavesThingsOpen(t *testing.T) {
	t.Parallel()
	parts, _ := (&testTeam{of: 2, mute: true}).drive(t, newServer(t), "--connections=2", "--groups-count=1", "--publish-outside=1", "--publish-rate=100")
	if got := parts[1].Truth; got.Unjudged == 0 || got.Unjudged != got.Delivered || got.Faults() != 0 || got.Due != 0 {
		t.Errorf("got %+v, want that nothing is due or faulty and everything unjudged", got)
	}
}

func TestTeamClosedLoop(t *testing.T) {
	t.Parallel()
	_, r := (&testTeam{of: 3}).drive(t, newServer(t), "--publish-window=8", "--publish-outside=2", "--groups-count=2", "--duration=3s")
	faultless(t, r)
	if r.Totals["sent"] <= 8 {
		t.Errorf("sent %d, want more than the first window", r.Totals["sent"])
	}
}

// TestSameSeedSendsTheSameInAnyTeam compares what each user sent to which group, with one, two and three processes, as
// far as the runs came.
func TestSameSeedSendsTheSameInAnyTeam(t *testing.T) {
	t.Parallel()
	sent := func(of int) map[string][]string {
		s := newServer(t)
		_, r := (&testTeam{of: of}).drive(t, s, "--publish-rate=200", "--publish-sizes=64,128,256", "--connections=6", "--groups-count=4", "--groups-per-connection=2", "--duration=2s")
		faultless(t, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sent
	}
	one := sent(1)
	if len(one) != 6 {
		t.Fatalf("%d users sent, want all 6", len(one))
	}
	for of := 2; of <= 3; of++ {
		got := sent(of)
		for user, list := range one {
			if n := min(len(list), len(got[user])); n < 5 || !slices.Equal(list[:n], got[user][:n]) {
				t.Errorf("%s sent %v, and with %d processes %v", user, list, of, got[user])
			}
		}
	}
}

// TestPlanOfATeam looks at who connects and at the numbers of streams, which must be the same for all.
func TestPlanOfATeam(t *testing.T) {
	t.Parallel()
	sc := settings(t, "http://127.0.0.1:1", "--connections=10", "--subprotocols=json,reliable,simple", "--slow-connections=2", "--groups-per-connection=2",
		"--publish-rate=1", "--rest-group-rate=1", "--rest-user-rate=1")
	make := func(index, of int) *run {
		plan, err := scenario.NewPlan(sc)
		if err != nil {
			t.Fatal(err)
		}
		r := &run{scenario: sc, plan: plan, share: scenario.Share{Index: index, Of: of}, errors: map[string]int64{}}
		r.makeClients()
		r.activities()
		return r
	}
	whole := make(0, 1)
	for of := 2; of <= 3; of++ {
		var owners []int32
		for index := range of {
			r := make(index, of)
			for _, c := range r.clients {
				if w := whole.clients[c.index]; c.userID != w.userID || c.Subprotocol != w.Subprotocol || c.Slow != w.Slow || !slices.Equal(c.Groups, w.Groups) || c.endpoint != w.endpoint {
					t.Errorf("%d of %d: client %d is %+v, and of one process %+v", index, of, c.index, c.Client, w.Client)
				}
			}
			if index == 0 {
				owners = r.owners
			}
			if !slices.Equal(owners, r.owners) {
				t.Errorf("%d of %d: streams belong to %v, and for the first to %v", index, of, r.owners, owners)
			}
		}
	}
}
