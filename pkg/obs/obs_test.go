package obs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReadinessSaysWhyNot(t *testing.T) {
	var h Health
	var redis error
	h.Add("bus", func(context.Context) error { return redis })
	h.Add("store", func(context.Context) error { return nil })
	ops := OpsHandler(NewRegistry(), &h)
	for _, c := range []struct {
		redis error
		code  int
		body  string
	}{
		{nil, 200, "ready\n"},
		{errors.New("connection refused"), 503, "bus: connection refused\n"},
		{nil, 200, "ready\n"},
	} {
		redis = c.redis
		w := httptest.NewRecorder()
		ops.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != c.code || w.Body.String() != c.body {
			t.Errorf("got %d %q, want %d %q", w.Code, w.Body, c.code, c.body)
		}
	}
}

// TestFrontSaysWhoIsNotReady: the path that load balancers ask is open to strangers, who learn no addresses by it, and
// cannot make the checks run more than once a second.
func TestFrontSaysWhoIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		var redis error
		asked := 0
		h.Add("gateway", func(context.Context) error { asked++; return redis })
		h.Add("api", func(context.Context) error { return nil })
		front := h.Front(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		for _, c := range []struct {
			redis error
			code  int
			body  string
		}{
			{nil, 200, ""},
			{errors.New("dial tcp 10.0.0.7:6379"), 503, "not ready: gateway; /readyz on the operations port says why\n"},
			{fmt.Errorf("write to 10.0.0.8: %w", readOnly{}), 503, "not ready: gateway (read-only); /readyz on the operations port says why\n"},
			{nil, 200, ""},
		} {
			redis, asked = c.redis, 0
			time.Sleep(recentTime)
			for _, request := range []string{"GET /api/health", "HEAD /api/health", "GET /api/v1/health?api-version=1", "HEAD /api/v1/health"} {
				method, path, _ := strings.Cut(request, " ")
				w := httptest.NewRecorder()
				front.ServeHTTP(w, httptest.NewRequest(method, path, nil))
				if w.Code != c.code || w.Body.String() != c.body {
					t.Errorf("%s: got %d %q, want %d %q", request, w.Code, w.Body, c.code, c.body)
				}
			}
			if asked != 1 {
				t.Errorf("got %d checks within a second, want 1", asked)
			}
			for _, request := range []string{"POST /api/health", "GET /api/healthy", "GET /api/hubs/chat"} {
				method, path, _ := strings.Cut(request, " ")
				w := httptest.NewRecorder()
				if front.ServeHTTP(w, httptest.NewRequest(method, path, nil)); w.Code != 200 {
					t.Errorf("%s: got %d, want it left to the service", request, w.Code)
				}
			}
		}
	})
}

func TestOpsPaths(t *testing.T) {
	ops := OpsHandler(NewRegistry(), &Health{})
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/other": 404} {
		w := httptest.NewRecorder()
		ops.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("GET %s: got %d, want %d", path, w.Code, want)
		}
	}
}

func TestNewLoggerRefusesUnknownSettings(t *testing.T) {
	for _, c := range []Config{{Level: "loud", Format: "json"}, {Level: "info", Format: "xml"}} {
		if _, err := NewLogger(nil, c, false); err == nil {
			t.Errorf("%+v: got no error, want one", c)
		}
	}
}

// readOnly is an error with a reason.
type readOnly struct{}

func (readOnly) Error() string          { return "cannot execute UPDATE in a read-only transaction" }
func (readOnly) NotReadyReason() string { return "read-only" }

// TestBoundedLogger: what happens again and again is logged, and does not hide what happens besides.
func TestBoundedLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		log := Bounded(slog.New(slog.NewTextHandler(&text, nil)))
		lines := func(message string) int { return strings.Count(text.String(), fmt.Sprintf("msg=%q", message)) }
		for range 1000 {
			log.With("service", "events").Error("event not handled", "error", errors.New("disk full"))
		}
		log.Error("something else")
		if got := lines("event not handled"); got != 20 || lines("something else") != 1 {
			t.Errorf("got %d lines of a thousand and %d of one, want 20 and 1", got, lines("something else"))
		}
		time.Sleep(3 * time.Second)
		for range 10 {
			log.Error("event not handled")
		}
		if got := lines("event not handled"); got != 23 {
			t.Errorf("three seconds later: got %d lines, want 3 more", got)
		}
	})
}

// TestNotReadyIsAMetric: each reason is one, and one at a time.
func TestNotReadyIsAMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		var err error
		h.Add("redis", func(context.Context) error { return err }, "full", "read-only")
		h.Add("api", func(context.Context) error { return nil }, "slow")
		for _, c := range []struct {
			err  error
			want string // the reason
		}{
			{nil, ""},
			{fmt.Errorf("write: %w", readOnly{}), "read-only"},
			{&NotReady{Reason: "full", Err: errors.New("OOM")}, "full"},
			{&NotReady{Reason: "a new one", Err: errors.New("what")}, "other"},
			{errors.New("what"), "other"},
			{nil, ""},
		} {
			err = c.err
			time.Sleep(recentTime)
			reg := prometheus.NewPedanticRegistry()
			reg.MustRegister(&h)
			families, gathered := reg.Gather()
			if gathered != nil || len(families) != 1 {
				t.Fatalf("got %v, %v; want one metric", families, gathered)
			}
			got := ""
			for _, m := range families[0].Metric {
				part, reason := m.Label[0].GetValue(), m.Label[1].GetValue()
				if m.Gauge.GetValue() == 1 {
					got += part + " " + reason
				}
			}
			if want := strings.TrimSpace("redis " + c.want); got != want && (got != "" || c.want != "") {
				t.Errorf("%v: got %q, want %q", c.err, got, want)
			}
			if n := len(families[0].Metric); n != 5 {
				t.Errorf("got %d rows, want one for each reason", n)
			}
		}
	})
}
