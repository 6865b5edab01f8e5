package obs

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
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
