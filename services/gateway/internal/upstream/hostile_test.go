package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// A handler is somebody's code, and may be taken over. Whatever it answers costs the event that it answers, within the
// time and size that events have, and neither other connections nor later events of the same one.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, status int, chunk string, pause time.Duration) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		b := bufio.NewWriter(w)
		for {
			if _, err := b.WriteString(chunk); err != nil {
				return
			}
			if pause > 0 {
				if b.Flush() != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				time.Sleep(pause)
			}
		}
	}
	for name, tc := range map[string]struct {
		why    string
		answer http.HandlerFunc
		want   Reason
		status int
	}{
		"a body without end": {"memory must not grow with it, nor the event wait for its end",
			func(w http.ResponseWriter, _ *http.Request) { endless(w, 200, strings.Repeat("x", 64<<10), 0) }, ReasonAnswer, 0},
		"a refusal without end": {"only the beginning of a refusal is wanted",
			func(w http.ResponseWriter, _ *http.Request) { endless(w, 400, strings.Repeat("x", 64<<10), 0) }, ReasonClientError, 400},
		"a body that trickles": {"each byte resets naive timeouts",
			func(w http.ResponseWriter, _ *http.Request) { endless(w, 200, "x", 10*time.Millisecond) }, ReasonTimeout, 0},
		"a long one that is compressed": {"what is small on the wire may be large in memory, so nothing is unpacked",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = io.WriteString(w, "\x1f\x8b\x08\xff")
			}, ReasonAnswer, 0},
		"a status that HTTP does not have": {"only 2xx is success",
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(999) }, ReasonServerError, 999},
		"an interim answer only": {"100 Continue and the like are no answer",
			func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusEarlyHints)
				<-r.Context().Done()
			}, ReasonTimeout, 0},
		"a state with control characters": {"it would stand in a header of each later event, which could then not be sent",
			raw("HTTP/1.1 200 OK\r\nce-connectionState: a\x01b\r\nContent-Length: 0\r\n\r\n"), ReasonNetwork, 0},
		"two lengths": {"requests could be smuggled past a proxy that believes the other",
			raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ReasonNetwork, 0},
		"a switch of protocols": {"a connection that is no HTTP any more must not be used again",
			raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), ReasonClientError, 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var healed atomic.Bool
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				if healed.Load() || r.Header.Get("ce-connectionId") != connID {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				tc.answer(w, r)
			})
			u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
			other := func() {
				t.Helper()
				if _, err := u.Open(chat, "other").Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
					t.Errorf("another connection: got %v", err)
				}
			}
			other() // so that the handler is validated, which is not to take of the time limit below
			s, limit := u.Open(chat, connID), time.Minute
			if tc.want == ReasonTimeout {
				limit = time.Second
			}
			if f := attempt(t, s, limit); f == nil || f.Reason != tc.want || f.Status != tc.status {
				t.Errorf("got %v, want reason %s and status %d: %s", f, tc.want, tc.status, tc.why)
			}
			other()
			healed.Store(true)
			if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
				t.Errorf("the next event: got %v", err)
			}
		})
	}
}

// attempt posts one user event once, without the attempts that would follow a failure.
func attempt(t *testing.T, s *Session, limit time.Duration) *Failure {
	t.Helper()
	to, ok := s.up.userTarget(s.hub, "e")
	if !ok {
		t.Fatal("no handler wants the event")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	impatient, stop := context.WithCancel(ctx)
	stop()
	e := s.event(cloudevents.UserPrefix+"e", "e", 1, time.Now())
	e.ContentType, e.Body = cloudevents.TypeText, []byte("x")
	a, failure := s.up.callWithRetries(ctx, impatient, s, to, kindUser, e, maxUserAnswer)
	if failure == nil {
		_, failure = a.data(false)
	}
	return failure
}

// raw answers with these bytes and ends the connection.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

// The answer to connect decides what later requests carry; it must not be able to spoil them.
func TestHostileAnswersToConnect(t *testing.T) {
	for name, body := range map[string]string{
		"a subprotocol that breaks a header":    `{"subprotocol":"a\r\nce-userId: root"}`,
		"a subprotocol with a character of NUL": `{"subprotocol":"a\u0000"}`,
		"depth without end":                     `{"x":` + strings.Repeat("[", 1<<20),
		"an array for an object":                `[{"userId":"root"}]`,
		"the same member twice, once wrong":     `{"groups":["a"],"groups":[7]}`,
	} {
		a := newApp(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
		refused := new(Refused)
		if got, err := u.Open(chat, connID).Connect(t.Context(), handshake(), "ana", noClaims, []string{"a"}); !errors.As(err, &refused) || refused.Status != 500 {
			t.Errorf("%s: got %+v %v, want refused with 500", name, got, err)
		}
	}
}

// Operators say which addresses are called. An answer cannot make this service call another one, which may be an inner one:
// no redirect is followed, of events, of validation, or of what nobody waits for, and no cookie goes to another host.
//
// checklist:E03 E09
func TestAnswersCannotChooseAddresses(t *testing.T) {
	inner := newApp(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inner.URL+"/latest/meta-data", status)
		})
		u, _ := newUpstream(t, Config{}, handlerOf(a.URL))
		s := u.Open(chat, connID)
		refused := new(Refused)
		if _, err := s.Connect(t.Context(), handshake(), "ana", noClaims, nil); !errors.As(err, &refused) || refused.Status != 500 {
			t.Errorf("%d, connect: got %v, want refused with 500", status, err)
		}
		if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err == nil {
			t.Errorf("%d, event: got no error", status)
		}
		s.Established("ana", "")
		drain(t, u)
		if got := testutil.ToFloat64(u.metrics.dropped.WithLabelValues(string(ReasonClientError))); got != 1 {
			t.Errorf("%d, connected: %v given up, want 1", status, got)
		}
	}
	validation := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	t.Cleanup(validation.Close)
	u, _ := newUpstream(t, Config{}, tenant.Handler{URL: validation.URL, UserEvents: "*"})
	f := new(Failure)
	if _, err := u.Open(chat, connID).Event("e", webpubsub.Text("x")).Put(t.Context()); !errors.As(err, &f) || f.Reason != ReasonValidation {
		t.Errorf("a redirected validation: got %v, want reason %s", err, ReasonValidation)
	}
	if got := len(inner.requests); got != 0 {
		t.Errorf("the inner address got %d requests, want none", got)
	}
}
