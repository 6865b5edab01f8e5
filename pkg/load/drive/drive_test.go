package drive

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/load/scenario"
)

// drive runs a short scenario against s. Machines are busy: a test that counts messages of an open loop lets it run for as long
// as makes a multiple of what it wants, and a message may be under way for long and is waited for.
func drive(t *testing.T, s *server, args ...string) *result.Result {
	t.Helper()
	r, err := Run(t.Context(), settings(t, s.URL, args...), Options{Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func settings(t *testing.T, endpoint string, args ...string) *scenario.Scenario {
	t.Helper()
	var sc scenario.Scenario
	short := []string{"--endpoint", endpoint, "--connections=20", "--ramp=0s", "--warmup=0s", "--duration=1s", "--in-flight=10s", "--settle=1m", "--groups-count=4"}
	if _, err := config.Load(&sc, "load", config.Source{Args: append(short, args...)}, io.Discard); err != nil {
		t.Fatal(err)
	}
	return &sc
}

// faultless fails the test unless everything arrived, and something did.
func faultless(t *testing.T, r *result.Result) {
	t.Helper()
	if r.Truth.Faults() != 0 || r.Truth.Due == 0 || len(r.Errors) != 0 || r.Truth.Unanswered != 0 {
		t.Errorf("got %+v and errors %v, want deliveries and no faults", r.Truth, r.Errors)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	r := drive(t, newServer(t), "--subprotocols=json,reliable,simple,protobuf,reliable-protobuf", "--publish-rate=100", "--rest-group-rate=20", "--rest-user-rate=20",
		"--churn-rate=20", "--event-rate=20", "--publish-sizes=64,3000", "--duration=2s")
	faultless(t, r)
	for _, kind := range []string{"connect", "join", "ack", "oneway", "roundtrip", "rest", "event", "late"} {
		if r.Latency[kind] == nil || r.Latency[kind].P50 < 0 {
			t.Errorf("there is no %s latency", kind)
		}
	}
	if got := r.Totals["sent"]; got < 100 {
		t.Errorf("sent %d, want at least 100 of 320", got)
	}
	if r.Totals["churned"] == 0 || r.Totals["ready"] != 20 {
		t.Errorf("totals: got %v", r.Totals)
	}
	if r.Truth.Sent != r.Truth.Accepted || r.Client.Cores <= 0 || len(r.Series) == 0 {
		t.Errorf("got %+v, %+v and %d seconds", r.Truth, r.Client, len(r.Series))
	}
}

func TestInvocations(t *testing.T) {
	t.Parallel()
	r := drive(t, newServer(t), "--event-rate=100", "--event-invoke", "--duration=2s")
	if got := r.Latency["event"]; got == nil || got.Count < 20 || len(r.Errors) > 0 {
		t.Errorf("got %+v and errors %v, want about 200 answers", got, r.Errors)
	}
}

func TestClosedLoopKeepsAWindow(t *testing.T) {
	t.Parallel()
	r := drive(t, newServer(t), "--publish-window=8", "--publish-outside=2", "--groups-count=2", "--duration=3s")
	faultless(t, r)
	if r.Latency["roundtrip"] != nil {
		t.Error("publishers outside the groups got their own messages")
	}
	if r.Totals["sent"] <= 8 {
		t.Errorf("sent %d, want more than the first window", r.Totals["sent"])
	}
}

// faults are what a service may do with one delivery.
var faults = []struct {
	name  string
	fault func(do func(), later func(func()))
	want  [3]int64 // lost, doubled, reordered
}{
	{"loss", func(func(), func(func())) {}, [3]int64{1, 0, 0}},
	{"duplicate", func(do func(), _ func(func())) { do(); do() }, [3]int64{0, 1, 0}},
	{"swap", func(do func(), later func(func())) { later(do) }, [3]int64{0, 0, 1}},
}

// TestInjectedFaults lets the service lose, repeat and swap one delivery of some hundred.
func TestInjectedFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.faultAt(50, tt.fault)
			// One receiver and one sender, so that the next delivery is of the same stream.
			r := drive(t, s, "--connections=1", "--groups-count=1", "--publish-outside=1", "--publish-rate=200", "--duration=3s", "--in-flight=0s")
			if got := [3]int64{r.Truth.Lost, r.Truth.Doubled, r.Truth.Reordered}; got != tt.want || r.Truth.Due < 51 || len(r.Truth.Examples) != 1 {
				t.Errorf("got %v lost, doubled, reordered of %d; %q; want %v", got, r.Truth.Due, r.Truth.Examples, tt.want)
			}
		})
	}
}

func TestStormsLoseNothingOfReliableConnections(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := drive(t, s, "--subprotocols=reliable,reliable-protobuf", "--publish-rate=100", "--storm-every=250ms", "--storm-share=20", "--publish-outside=1", "--duration=2s")
	if r.Truth.Faults() != 0 || r.Truth.Due == 0 {
		t.Errorf("got %+v, want no faults", r.Truth)
	}
	if r.Totals["storms"] == 0 || r.Totals["recoveries"] == 0 {
		t.Errorf("totals: got %v, want storms and recoveries", r.Totals)
	}
}

func TestStormsOfPlainConnections(t *testing.T) {
	t.Parallel()
	r := drive(t, newServer(t), "--subprotocols=json,protobuf,simple", "--publish-rate=100", "--storm-every=300ms", "--storm-share=10", "--duration=2s")
	if r.Truth.Faults() != 0 || r.Truth.Due == 0 {
		t.Errorf("got %+v, want no faults", r.Truth)
	}
	if got := r.Totals["connects"]; got <= 20 || r.Totals["recoveries"] != 0 {
		t.Errorf("totals: got %v, want new connections and no recoveries", r.Totals)
	}
}

func TestRefusedRecoveryIsTold(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.forget = true
	r := drive(t, s, "--subprotocols=reliable", "--publish-rate=100", "--storm-every=100ms", "--storm-share=50")
	if r.Errors["closed by the server with 1008 unknown"] == 0 {
		t.Errorf("got errors %v, want refused recoveries", r.Errors)
	}
}

func TestRefusedMessagesAreNotDue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.refuse = 5
	r := drive(t, s, "--publish-rate=100")
	if r.Truth.Refused != 5 || r.Truth.Lost != 0 || r.Errors["message refused: Forbidden"] != 5 {
		t.Errorf("got %+v and errors %v, want 5 refused", r.Truth, r.Errors)
	}
}

func TestSlowReadersAreNotAsked(t *testing.T) {
	t.Parallel()
	r := drive(t, newServer(t), "--slow-connections=3", "--slow-rate=100", "--publish-rate=100")
	faultless(t, r)
}

// TestSameSeedSendsTheSame compares what each user of two runs sent to which group, as far as both runs came.
func TestSameSeedSendsTheSame(t *testing.T) {
	t.Parallel()
	sent := func(seed string) map[string][]string {
		s := newServer(t)
		faultless(t, drive(t, s, "--publish-rate=200", "--publish-sizes=64,128,256", "--connections=3", "--groups-per-connection=4", "--duration=2s", "--seed", seed))
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sent
	}
	a, b, c := sent("1"), sent("1"), sent("2")
	for user, list := range a {
		n := min(len(list), len(b[user]))
		if n < 5 || !slices.Equal(list[:n], b[user][:n]) {
			t.Errorf("%s sent %v, and with the same seed %v", user, list, b[user])
		}
		if m := min(len(list), len(c[user])); slices.Equal(list[:m], c[user][:m]) {
			t.Errorf("%s sent %v with two seeds", user, list[:m])
		}
	}
}

func TestNothingAnswers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, settings(t, "http://127.0.0.1:1"), Options{Key: testKey}); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("got %v, want that it was stopped", err)
	}
}

func TestRefusedTokensEndTheRun(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, err := Run(t.Context(), settings(t, s.URL), Options{Key: "another key, which is long enough too"})
	if err == nil || !strings.Contains(err.Error(), "401 Unauthorized: bad token") {
		t.Errorf("got %v, want the server's 401", err)
	}
}

func TestStoppedRunHasAResult(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	o := Options{Key: testKey, Progress: func(p Progress) {
		if p.Phase == "warm up" {
			cancel(errors.New("enough"))
		}
	}}
	r, err := Run(ctx, settings(t, s.URL, "--publish-rate=100", "--warmup=200ms", "--duration=1h"), o)
	if err != nil || !r.Stopped {
		t.Errorf("got %+v, %v, want a stopped run's result", r, err)
	}
}
