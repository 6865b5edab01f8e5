package upstream

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// asking runs f with an Upstream whose only handler is a script, in fake time, which is asked before messages are published.
func asking(t *testing.T, policy string, answer func(n int, r *http.Request) (int, error), f func(t *testing.T, u *Upstream, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, other := handlerOf("http://app.example"), handlerOf("http://another.example")
		h.SkipValidation, other.SkipValidation = true, true
		h.BeforePublish = tenant.BeforePublish{Enabled: true, WhenFailing: policy}
		u := New(Config{}, newTenants(t, other, h), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
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

func ask(s *Session) *Question {
	return s.AskBeforePublish(GroupMessage{Group: "room", Data: webpubsub.Text("x")})
}

// TestVerdictComesInTime: attempts are repeated as those of user events are, all within the five seconds that are the default.
func TestVerdictComesInTime(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(n int, r *http.Request) (int, error)
		want   []string
		after  time.Duration
	}{
		{"5xx", func(int, *http.Request) (int, error) { return 503, nil }, []string{"0 beforePublish/1", "1 beforePublish/1", "4 beforePublish/1"}, 4 * time.Second},
		{"network", func(int, *http.Request) (int, error) { return 0, errDown }, []string{"0 beforePublish/1", "1 beforePublish/1", "4 beforePublish/1"}, 4 * time.Second},
		{"does not know the event", func(int, *http.Request) (int, error) { return 404, nil }, []string{"0 beforePublish/1", "1 beforePublish/1", "4 beforePublish/1"}, 4 * time.Second},
		{"silence", func(_ int, r *http.Request) (int, error) {
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, []string{"0 beforePublish/1"}, 5 * time.Second},
		{"silence after a failure", func(n int, r *http.Request) (int, error) {
			if n == 0 {
				return 500, nil
			}
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, []string{"0 beforePublish/1", "1 beforePublish/1"}, 5 * time.Second},
	} {
		for policy, want := range map[string]Outcome{"": OutcomeFailed, tenant.RefuseWhenFailing: OutcomeFailed, tenant.PassWhenFailing: OutcomeUnchecked} {
			t.Run(tc.name+" "+policy, func(t *testing.T) {
				asking(t, policy, tc.answer, func(t *testing.T, u *Upstream, s *script) {
					began := time.Now()
					v := ask(u.Open(chat, connID)).Put(t.Context())
					if v.Outcome != want || v.Err == nil {
						t.Errorf("got %+v, want %s and why", v, want)
					}
					if took := time.Since(began); took != tc.after {
						t.Errorf("got the verdict after %v, want %v", took, tc.after)
					}
					wantSeen(t, s, tc.want...)
					if got := testutil.ToFloat64(u.metrics.asked[want]); got != 1 {
						t.Errorf("got %v counted as %s, want 1", got, want)
					}
				})
			})
		}
	}
}

// TestAskingTakesNoLongerThanAnEvent: the time that is set for events bounds it, too.
func TestAskingTakesNoLongerThanAnEvent(t *testing.T) {
	asking(t, "", nil, func(t *testing.T, u *Upstream, _ *script) {
		session := u.Open(chat, connID)
		for event, want := range map[time.Duration]time.Duration{2 * time.Second: 2 * time.Second, time.Minute: 5 * time.Second} {
			u.cfg.EventTimeout = event
			q := ask(session)
			if got := q.Timeout(); got != want {
				t.Errorf("with %v for events: got %v, want %v", event, got, want)
			}
			q.Withdraw()
		}
	})
}

// TestHandlerComesBackWhileAsking has it work at the second attempt.
func TestHandlerComesBackWhileAsking(t *testing.T) {
	for status, want := range map[int]Outcome{200: OutcomePassed, 202: OutcomeTaken, 204: OutcomePassed, 400: OutcomeRefused, 403: OutcomeRefused, 429: OutcomeRefused} {
		answer := func(n int, _ *http.Request) (int, error) { return []int{404, status}[n], nil }
		asking(t, "", answer, func(t *testing.T, u *Upstream, s *script) {
			if v := ask(u.Open(chat, connID)).Put(t.Context()); v.Outcome != want {
				t.Errorf("%d: got %+v, want %s", status, v, want)
			}
			wantSeen(t, s, "0 beforePublish/1", "1 beforePublish/1")
		})
	}
}

// TestTheEndWaitsForQuestions: the handler hears of the end of a connection after it has been asked about its last message, and asked
// about none after that.
func TestTheEndWaitsForQuestions(t *testing.T) {
	asking(t, tenant.PassWhenFailing, func(int, *http.Request) (int, error) { return 202, nil }, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		session.setAccepted(nil)
		first, second, third, fourth := ask(session), ask(session), ask(session), ask(session)
		session.Closed("gone")
		late := ask(session)
		if v := first.Put(t.Context()); v.Outcome != OutcomeTaken {
			t.Errorf("got %+v, want what was sent before the end taken", v)
		}
		first.Done()
		second.Withdraw()
		if v := third.GiveUp(); v.Outcome != OutcomeUnchecked {
			t.Errorf("got %+v for a message that has waited too long, want it to pass as the settings say", v)
		}
		synctest.Wait()
		if v := late.Put(t.Context()); v.Outcome != OutcomeFailed {
			t.Errorf("got %+v about a message after the end, want failure", v)
		}
		wantSeen(t, s, "0 beforePublish/1")
		fourth.Put(t.Context())
		synctest.Wait()
		wantSeen(t, s, "0 beforePublish/4") // the message may have to be published yet
		fourth.Done()
		synctest.Wait()
		wantSeen(t, s, "0 disconnected/5")
	})
}

// TestNothingIsPublishedWhenTheProcessEnds, whatever the settings say.
func TestNothingIsPublishedWhenTheProcessEnds(t *testing.T) {
	answer := func(_ int, r *http.Request) (int, error) {
		<-r.Context().Done()
		return 0, r.Context().Err()
	}
	asking(t, tenant.PassWhenFailing, answer, func(t *testing.T, u *Upstream, _ *script) {
		ctx, cancel := context.WithCancel(t.Context())
		verdicts := make(chan Verdict)
		go func() { verdicts <- ask(u.Open(chat, connID)).Put(ctx) }()
		synctest.Wait()
		cancel()
		if v := <-verdicts; v.Outcome != OutcomeFailed {
			t.Errorf("got %+v, want failure", v)
		}
	})
}

// TestQuestionsTakeTurns among themselves, and a session with one under way is not handed over. User events do not wait for them, nor they
// for user events.
func TestQuestionsTakeTurns(t *testing.T) {
	asking(t, "", func(int, *http.Request) (int, error) { time.Sleep(time.Second); return 202, nil }, func(t *testing.T, u *Upstream, s *script) {
		session := u.Open(chat, connID)
		done := make(chan struct{}, 4)
		first, second := ask(session), ask(session)
		if _, err := session.HandOver(); err == nil {
			t.Error("a session was handed over with a question pending")
		}
		for _, put := range []func(){
			func() { first.Put(t.Context()); first.Done() },
			func() { second.Put(t.Context()); second.Done() },
			func() { session.Event("e", webpubsub.Text("x")).Put(t.Context()) }, //nolint:errcheck // only when it comes counts
			func() { session.Event("e", webpubsub.Text("x")).Put(t.Context()) }, //nolint:errcheck // as above
		} {
			go func() {
				put()
				done <- struct{}{}
			}()
			time.Sleep(100 * time.Millisecond)
		}
		for range cap(done) {
			<-done
		}
		wantSeen(t, s, "0 beforePublish/1", "0 e/3", "1 beforePublish/2", "1 e/4")
	})
}

// TestNobodyIsAskedWhoDoesNotWantTo: without a handler that is asked there is no question.
func TestNobodyIsAskedWhoDoesNotWantTo(t *testing.T) {
	scripted(t, Config{}, false, nil, func(t *testing.T, u *Upstream, _ *script) {
		if q := ask(u.Open(chat, connID)); q != nil {
			t.Errorf("got %+v, want no question", q)
		}
	})
}
