package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// script stands in for the network, so that time can be fake: it answers requests as told and notes when which
// came.
type script struct {
	answer func(n int, r *http.Request) (status int, err error) // n counts requests from 0
	header http.Header

	mu    sync.Mutex
	start time.Time
	seen  []string // "seconds method name/id"
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.seen)
	s.seen = append(s.seen, fmt.Sprintf("%v %s", time.Since(s.start).Round(time.Second).Seconds(), what(r)))
	s.mu.Unlock()
	status, err := s.answer(n, r)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Webhook-Allowed-Origin": {"*"}}
	if s.header != nil {
		header = s.header
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func what(r *http.Request) string {
	if r.Method != http.MethodPost {
		return r.Method
	}
	return r.Header.Get("ce-eventName") + "/" + r.Header.Get("ce-id")
}

func (s *script) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

var errDown = errors.New("connection refused")

// scripted runs f with an Upstream whose only handler is a script, in fake time. The handler is not validated
// unless validated is set.
func scripted(t *testing.T, cfg Config, validated bool, answer func(n int, r *http.Request) (int, error), f func(t *testing.T, u *Upstream, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := handlerOf("http://app.example")
		h.SkipValidation = !validated
		u := New(cfg, newTenants(t, h), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		s := &script{answer: answer, start: time.Now()}
		u.client.Transport = s
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			u.Run(ctx) //nolint:errcheck // always nil
		}()
		f(t, u, s)
		stop()
		<-ended
	})
}

func wantSeen(t *testing.T, s *script, want ...string) {
	t.Helper()
	if got := s.take(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// checklist:E09
func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		name       string
		status     int
		err        error
		want       []string
		wantReason Reason
	}{
		{"5xx", 503, nil, []string{"0 e/1", "1 e/1", "4 e/1", "9 e/1"}, ReasonServerError},
		{"408", 408, nil, []string{"0 e/1", "1 e/1", "4 e/1", "9 e/1"}, ReasonClientError},
		{"network", 0, errDown, []string{"0 e/1", "1 e/1", "4 e/1", "9 e/1"}, ReasonNetwork},
		{"429", 429, nil, []string{"0 e/1"}, ReasonClientError},
		{"404", 404, nil, []string{"0 e/1"}, ReasonClientError},
		{"timeout", 0, context.DeadlineExceeded, []string{"0 e/1"}, ReasonTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scripted(t, Config{}, false, func(int, *http.Request) (int, error) { return tc.status, tc.err }, func(t *testing.T, u *Upstream, s *script) {
				_, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context())
				if f := new(Failure); !errors.As(err, &f) || f.Reason != tc.wantReason {
					t.Errorf("got %v, want reason %s", err, tc.wantReason)
				}
				wantSeen(t, s, tc.want...)
			})
		})
	}
}

// checklist:E09
func TestARetryThatSucceeds(t *testing.T) {
	scripted(t, Config{}, false, func(n int, _ *http.Request) (int, error) { return []int{500, 204, 204}[n], nil }, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		for range 2 {
			if _, err := session.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
				t.Error(err)
			}
		}
		wantSeen(t, s, "0 e/1", "1 e/1", "1 e/2")
	})
}

// checklist:E09
func TestConnectGivesUpEarlier(t *testing.T) {
	scripted(t, Config{ConnectTimeout: 3 * time.Second}, false, func(int, *http.Request) (int, error) { return 503, nil }, func(t *testing.T, u *Upstream, s *script) {
		_, err := u.Open(chat, connID).Connect(t.Context(), handshake(), "ana", noClaims, nil)
		if refused := new(Refused); !errors.As(err, &refused) || refused.Status != 503 {
			t.Errorf("got %v, want a refusal with 503", err)
		}
		wantSeen(t, s, "0 connect/0", "1 connect/0") // the next pause would not fit
		if got := time.Since(s.start); got != time.Second {
			t.Errorf("got an answer after %v, want 1s: nothing is gained by waiting on", got)
		}
	})
}

func TestConnectStopsRetryingForAClientThatLeft(t *testing.T) {
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) { return 0, errDown }, func(t *testing.T, u *Upstream, s *script) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := u.Open(chat, connID).Connect(ctx, handshake(), "ana", noClaims, nil)
		if refused := new(Refused); !errors.As(err, &refused) || refused.Status != 500 {
			t.Errorf("got %v, want a refusal with 500", err)
		}
		wantSeen(t, s, "0 connect/0", "1 connect/0")
	})
}

// checklist:E03
func TestValidationIsCachedAndRefreshed(t *testing.T) {
	scripted(t, Config{}, true, func(int, *http.Request) (int, error) { return 204, nil }, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		for range 3 {
			if _, err := session.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(59 * time.Second)
			synctest.Wait()
		}
		seen := s.take()
		slices.Sort(seen[3:]) // the refresh and the event that caused it go side by side
		if want := []string{"0 OPTIONS", "0 e/1", "59 e/2", "118 OPTIONS", "118 e/3"}; !reflect.DeepEqual(seen, want) {
			t.Errorf("got %q, want %q", seen, want)
		}
	})
}

func TestFirstEventsShareOneValidation(t *testing.T) {
	scripted(t, Config{}, true, func(_ int, r *http.Request) (int, error) {
		if r.Method == http.MethodOptions {
			time.Sleep(5 * time.Second)
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantSeen(t, s, "0 OPTIONS", "5 e/1", "5 e/1", "5 e/1")
	})
}

// checklist:E03
func TestValidationFallsBackToGET(t *testing.T) {
	scripted(t, Config{}, true, func(_ int, r *http.Request) (int, error) {
		if r.Method == http.MethodOptions {
			return 404, nil
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		if _, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
			t.Error(err)
		}
		wantSeen(t, s, "0 OPTIONS", "0 GET", "0 e/1")
	})
}

// checklist:E03
func TestRefusedValidationBacksOff(t *testing.T) {
	for name, header := range map[string]http.Header{"no origin": {}, "another origin": {"Webhook-Allowed-Origin": {"other.example"}}} {
		t.Run(name, func(t *testing.T) {
			scripted(t, Config{}, true, func(int, *http.Request) (int, error) { return 200, nil }, func(t *testing.T, u *Upstream, s *script) {
				s.header = header
				session := u.Open(chat, connID)
				for time.Since(s.start) < 3*time.Minute { // an event each second
					_, err := session.Event("e", webpubsub.Text("x")).Put(t.Context())
					if f := new(Failure); !errors.As(err, &f) || f.Reason != ReasonValidation {
						t.Fatalf("got %v, want reason %s", err, ReasonValidation)
					}
					time.Sleep(time.Second)
				}
				wantSeen(t, s, "0 OPTIONS", "1 OPTIONS", "3 OPTIONS", "7 OPTIONS", "15 OPTIONS", "31 OPTIONS", "63 OPTIONS", "123 OPTIONS")
				_, err := u.Open(chat, connID).Connect(t.Context(), handshake(), "ana", noClaims, nil)
				if refused := new(Refused); !errors.As(err, &refused) || refused.Status != 500 {
					t.Errorf("got %v, want a refusal with 500", err)
				}
			})
		})
	}
}

func TestValidationOfAHandlerThatIsStarting(t *testing.T) {
	scripted(t, Config{}, true, func(n int, _ *http.Request) (int, error) {
		if n < 2 {
			return 0, errDown
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		if _, err := u.Open(chat, connID).Connect(t.Context(), handshake(), "ana", noClaims, nil); err != nil {
			t.Error(err)
		}
		wantSeen(t, s, "0 OPTIONS", "1 OPTIONS", "4 OPTIONS", "4 connect/0")
	})
}

func TestAHandlerThatWasAwayIsSoonAskedAgain(t *testing.T) {
	var start time.Time
	scripted(t, Config{}, true, func(int, *http.Request) (int, error) {
		if time.Since(start) < 5*time.Minute {
			return 0, errDown
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		start = time.Now()
		for {
			_, err := u.Open(chat, connID).Connect(t.Context(), handshake(), "ana", noClaims, nil)
			if err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 5*time.Minute+2*unreachablePause {
			t.Errorf("accepted %v after it was back, want soon", took-5*time.Minute)
		}
	})
}

func TestConsentOutlivesAnUnreachableHandlerButNotARefusal(t *testing.T) {
	var mode string
	scripted(t, Config{}, true, func(_ int, r *http.Request) (int, error) {
		switch {
		case r.Method == http.MethodPost || mode == "":
			return 204, nil
		case mode == "down":
			return 0, errDown
		}
		return 403, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		event := func() error {
			_, err := session.Event("e", webpubsub.Text("x")).Put(t.Context())
			synctest.Wait()
			return err
		}
		if err := event(); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			mode        string
			first, then bool // whether events pass
		}{{"down", true, true}, {"refused", true, false}} {
			mode = tc.mode
			time.Sleep(2 * time.Minute)
			if got := event() == nil; got != tc.first {
				t.Errorf("%s, while it is refreshed: got %v, want %v", mode, got, tc.first)
			}
			if got := event() == nil; got != tc.then {
				t.Errorf("%s, after it was: got %v, want %v", mode, got, tc.then)
			}
		}
	})
}

// checklist:E06
func TestLifecycleEventsOutliveADeadHandler(t *testing.T) {
	down := true
	var mu sync.Mutex
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) {
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if down {
			return 0, errDown
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		const connections = 50
		for i := range connections {
			session := u.Open(chat, fmt.Sprint("c", i))
			session.setAccepted(nil)
			session.Established("ana", "")
			session.Closed("gone")
		}
		if got := testutil.ToFloat64(u.metrics.waiting); got != 2*connections {
			t.Errorf("got %v events waiting, want %d", got, 2*connections)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := len(s.take()); got > 200 {
			t.Errorf("got %d attempts in ten minutes, want the dead host left in peace", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := u.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain while it is down: got %v, want a deadline", err)
		}

		mu.Lock()
		down = false
		mu.Unlock()
		back := time.Now()
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(back); took > 2*maxPause {
			t.Errorf("caught up after %v, want within %v", took, 2*maxPause)
		}
		order := map[string]int{}
		for _, line := range s.take() {
			_, name, _ := strings.Cut(line, " ")
			order[name]++
		}
		if order["connected/1"] != connections || order["disconnected/2"] != connections {
			t.Errorf("got %v, want each of %d connections once", order, connections)
		}
		if got := testutil.ToFloat64(u.metrics.waiting); got != 0 {
			t.Errorf("got %v events waiting, want none", got)
		}
	})
}

func TestAHostThatIsBackIsServedByAllWorkers(t *testing.T) {
	var back time.Time
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) {
		time.Sleep(time.Second)
		if time.Now().Before(back) {
			return 0, errDown
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		back = time.Now().Add(5 * time.Minute)
		for i := range 100 {
			u.Open(chat, fmt.Sprint("c", i)).Established("ana", "")
		}
		if err := u.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(back); took > 2*maxPause {
			t.Errorf("caught up after %v, want within %v", took, 2*maxPause)
		}
	})
}

func TestAUserEventThatPassesEndsThePause(t *testing.T) {
	down := true
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) {
		if down {
			return 0, errDown
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		for i := range 50 {
			u.Open(chat, fmt.Sprint("c", i)).Established("ana", "")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		down = false
		back := time.Now()
		if _, err := u.Open(chat, "other").Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if waiting := testutil.ToFloat64(u.metrics.waiting); time.Since(back) != 0 || waiting > 5 {
			t.Errorf("got %v events waiting, want at most those whose own retry is due later", waiting)
		}
	})
}

// checklist:E06
func TestEventsKeepTheirOrderPerConnection(t *testing.T) {
	failures := map[string]int{"c/connected/1": 2, "c/e/2": 1, "c/disconnected/3": 1}
	var mu sync.Mutex
	var done []string
	scripted(t, Config{}, false, func(_ int, r *http.Request) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		name := r.Header.Get("ce-connectionId") + "/" + what(r)
		if failures[name] > 0 {
			failures[name]--
			return 503, nil
		}
		done = append(done, name)
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, "c")
		session.setAccepted(nil)
		session.Established("ana", "")
		ended := make(chan error)
		go func() {
			_, err := session.Event("e", webpubsub.Text("x")).Put(t.Context())
			ended <- err
		}()
		synctest.Wait()
		session.Closed("gone") // while the event is under way
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := u.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		want := []string{"c/connected/1", "c/e/2", "c/disconnected/3"}
		if !reflect.DeepEqual(done, want) {
			t.Errorf("got %v, want %v", done, want)
		}
	})
}

func TestAUserEventDoesNotOvertakeConnectedForLong(t *testing.T) {
	scripted(t, Config{}, false, func(_ int, r *http.Request) (int, error) {
		if r.Header.Get("ce-type") == cloudevents.Connected {
			return 503, nil
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		session.setAccepted(nil)
		session.Established("ana", "")
		_, err := session.Event("e", webpubsub.Text("x")).Put(t.Context())
		if f := new(Failure); !errors.As(err, &f) || f.Reason != ReasonUnordered {
			t.Errorf("got %v, want reason %s", err, ReasonUnordered)
		}
		if got := time.Since(s.start); got != maxOrderWait {
			t.Errorf("got a failure after %v, want %v", got, maxOrderWait)
		}
		other := u.Open(chat, "other") // has nothing to wait for
		if _, err := other.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
			t.Errorf("another connection: %v", err)
		}
	})
}

// checklist:E07
func TestUserEventsOfAConnectionGoOneByOne(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	scripted(t, Config{}, false, func(int, *http.Request) (int, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(time.Second)
		mu.Lock()
		now--
		mu.Unlock()
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := session.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 1 {
			t.Errorf("got %d at a time, want 1", most)
		}
		for i, line := range s.take() {
			if !strings.HasPrefix(line, fmt.Sprint(i, " e/")) {
				t.Errorf("got %s, want one event a second", line)
			}
		}
	})
}

func TestLifecycleEventsThatAreGivenUp(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		scripted(t, Config{}, false, func(_ int, r *http.Request) (int, error) {
			if r.Header.Get("ce-type") == cloudevents.Connected {
				return 403, nil
			}
			return 204, nil
		}, func(t *testing.T, u *Upstream, s *script) {
			session := u.Open(chat, connID)
			session.setAccepted(nil)
			session.Established("ana", "")
			session.Closed("")
			if err := u.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			wantSeen(t, s, "0 connected/1", "0 disconnected/2")
			wantDropped(t, u, ReasonClientError, 1)
			if u.host("default", "app.example").lossLogged {
				t.Error("the next loss would not be logged, though the host worked in between")
			}
		})
	})
	t.Run("many refused are logged once", func(t *testing.T) {
		scripted(t, Config{}, false, func(int, *http.Request) (int, error) { return 403, nil }, func(t *testing.T, u *Upstream, s *script) {
			logged := &logBuffer{}
			u.log = slog.New(slog.NewTextHandler(logged, nil))
			for i := range 10 {
				u.Open(chat, fmt.Sprint("c", i)).Established("ana", "")
			}
			if err := u.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			wantDropped(t, u, ReasonClientError, 10)
			if got := strings.Count(logged.String(), "lifecycle event was given up"); got != 1 {
				t.Errorf("got %d lines in the log, want 1", got)
			}
		})
	})
	t.Run("too many requests is not a refusal", func(t *testing.T) {
		scripted(t, Config{}, false, func(n int, _ *http.Request) (int, error) { return []int{429, 204}[n], nil }, func(t *testing.T, u *Upstream, s *script) {
			u.Open(chat, connID).Established("ana", "")
			if err := u.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			wantSeen(t, s, "0 connected/1", "1 connected/1")
		})
	})
	t.Run("expired", func(t *testing.T) {
		scripted(t, Config{LifecycleKeep: time.Minute}, false, func(int, *http.Request) (int, error) { return 503, nil }, func(t *testing.T, u *Upstream, s *script) {
			u.Open(chat, connID).Established("ana", "")
			if err := u.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if got := time.Since(s.start); got < time.Minute || got > 2*time.Minute {
				t.Errorf("given up after %v, want soon after a minute", got)
			}
			wantDropped(t, u, reasonExpired, 1)
		})
	})
	t.Run("overflow", func(t *testing.T) {
		scripted(t, Config{LifecycleQueue: 10}, false, func(int, *http.Request) (int, error) { return 503, nil }, func(t *testing.T, u *Upstream, s *script) {
			sessions := make([]*Session, 20)
			for i := range sessions {
				sessions[i] = u.Open(chat, fmt.Sprint("c", i))
				sessions[i].setAccepted(nil)
				sessions[i].Established("ana", "")
			}
			wantDropped(t, u, reasonOverflow, 15) // the other half is for disconnected
			for _, session := range sessions[:7] {
				session.Closed("")
			}
			wantDropped(t, u, reasonOverflow, 17)
			if got := testutil.ToFloat64(u.metrics.waiting); got != 10 {
				t.Errorf("got %v waiting, want 10", got)
			}
		})
	})
	t.Run("stopped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := handlerOf("http://app.example")
			h.SkipValidation = true
			u := New(Config{}, newTenants(t, h), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			u.client.Transport = &script{answer: func(_ int, r *http.Request) (int, error) {
				<-r.Context().Done()
				return 0, r.Context().Err()
			}}
			u.Open(chat, connID).Established("ana", "")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			if err := u.Run(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("Run returned after %v, want 10s: what is under way is interrupted", took)
			}
			wantDropped(t, u, reasonStopped, 1)
			time.Sleep(time.Minute) // whatever retry was planned finds nobody
		})
	})
}

func wantDropped(t *testing.T, u *Upstream, why Reason, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(u.metrics.dropped.WithLabelValues(string(why))); got != want {
		t.Errorf("dropped as %s: got %v, want %v", why, got, want)
	}
}

func TestASickEventDoesNotHoldUpOthers(t *testing.T) {
	scripted(t, Config{}, false, func(_ int, r *http.Request) (int, error) {
		if r.Header.Get("ce-connectionId") == "sick" {
			return 500, nil
		}
		return 204, nil
	}, func(t *testing.T, u *Upstream, s *script) {
		u.Open(chat, "sick").Established("ana", "")
		for range 60 {
			time.Sleep(time.Second)
			session := u.Open(chat, "well")
			session.setAccepted(nil)
			session.Established("ana", "")
			began := time.Now()
			if _, err := session.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("a well connection waited %v", took)
			}
		}
	})
}

// checklist:E01
func TestAReloadMovesWaitingEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := func(host string) tenant.Handler {
			h := handlerOf("http://" + host)
			h.SkipValidation = true
			return h
		}
		tenants := newTenants(t, handler("old.example"))
		u := New(Config{}, tenants, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		var mu sync.Mutex
		arrived := map[string]int{}
		s := &script{start: time.Now(), answer: func(_ int, r *http.Request) (int, error) {
			if r.URL.Host == "old.example" {
				return 0, errDown
			}
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			arrived[r.Header.Get("ce-connectionId")+" at "+r.URL.Host]++
			return 204, nil
		}}
		u.client.Transport = s
		want := map[string]int{}
		for i := range 50 {
			id := fmt.Sprint("c", i)
			want[id+" at new.example"] = 1
			u.Open(chat, id).Established("ana", "")
		}
		time.Sleep(time.Minute)
		if got := len(arrived); got != 0 {
			t.Fatalf("got %v before the reload, want nothing", arrived)
		}
		if err := tenants.Set(*copyOf(tenants, handler("new.example"))); err != nil {
			t.Fatal(err)
		}
		reloaded := time.Now()
		if err := u.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(reloaded); took > 2*maxPause {
			t.Errorf("delivered after %v, want within %v: the new host is not to wait like the old", took, 2*maxPause)
		}
		if !reflect.DeepEqual(arrived, want) {
			t.Errorf("got %v, want %v", arrived, want)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		u.Run(ctx) //nolint:errcheck // always nil
	})
}

func copyOf(s *tenant.Static, h tenant.Handler) *tenant.Tenant {
	changed := *s.ByName("default")
	changed.Hubs = []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{h}}}
	return &changed
}
