// Package obs is how a process is observed: its log, its health, its metrics and profiles.
package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config of the log.
type Config struct {
	Level  string `default:"info" oneof:"debug info warn error" case:"any" help:"least level that is logged: debug (per connection), info (for operators), warn, error"`
	Format string `default:"auto" oneof:"json text auto" help:"json, text, or auto: text on a terminal, else json"`
}

// NewLogger returns a logger to w. terminal tells whether w is one.
func NewLogger(w io.Writer, c Config, terminal bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log level %q is unknown; use debug, info, warn or error", c.Level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch {
	case c.Format == "json", c.Format == "auto" && !terminal:
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case c.Format == "text", c.Format == "auto":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, fmt.Errorf("log format %q is unknown; use json, text or auto", c.Format)
}

// NewRegistry returns a registry with the metrics of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// checkTime bounds one readiness check, so that a probe gets an answer while a dependency hangs.
const checkTime = 2 * time.Second

// Health answers whether a process is ready, and why not. The zero value is ready. It is safe for concurrent use.
type Health struct {
	mu     sync.Mutex // guards checks
	checks []check
}

type check struct {
	name  string
	ready func(context.Context) error
}

// Add makes readiness depend on ready, which returns nil or a reason that operators may read.
func (h *Health) Add(name string, ready func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, ready})
}

// problems runs all checks at once and yields the name and the reason of each that is not ready, in the order in which
// they were added.
func (h *Health) problems(ctx context.Context) iter.Seq2[string, error] {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	reasons := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { reasons[i] = c.ready(ctx) })
	}
	wg.Wait()
	return func(yield func(string, error) bool) {
		for i, err := range reasons {
			if err != nil && !yield(checks[i].name, err) {
				return
			}
		}
	}
}

// reason returns a word of a closed set for why something is not ready, with a space and parentheses around it; "" unless
// err has one.
func reason(err error) string {
	var named interface{ NotReadyReason() string }
	if errors.As(err, &named) {
		return " (" + named.NotReadyReason() + ")"
	}
	return ""
}

// ServeHTTP answers 200 "ready", or 503 with a line for each thing that is not.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text := ""
	for name, err := range h.problems(r.Context()) {
		text += fmt.Sprintf("%s%s: %v\n", name, reason(err), err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if text != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, text)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// frontTime is how long Front keeps what it found out, so that strangers who ask often do not make work for the stores.
const frontTime = time.Second

// Front puts the health path of the serving port, /api/health and /api/v1/health, before a service: 503 while the
// process is not ready, else next answers. Load balancers that check the port they send requests to need it.
//
// The serving port is open to strangers, so the answer names what is not ready and, as one word, what kind of reason it has
// if the error has a NotReadyReason. All of it is said by ServeHTTP, on the operations listener. An answer may be a second old.
func (h *Health) Front(next http.Handler) http.Handler {
	var (
		mu      sync.Mutex // guards the following, and is held while checks run: those who ask meanwhile share the answer
		checked time.Time
		waiting []string // names of checks that failed, with their reasons
	)
	notReady := func(ctx context.Context) []string {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(checked) >= frontTime {
			waiting = nil
			for name, err := range h.problems(context.WithoutCancel(ctx)) { // shared, so it may not end with one of those who ask
				waiting = append(waiting, name+reason(err))
			}
			checked = time.Now()
		}
		return waiting
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); (path != "/api/health" && path != "/api/v1/health") || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
			next.ServeHTTP(w, r)
			return
		}
		names := notReady(r.Context())
		if len(names) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "not ready: %s; /readyz on the operations port says why\n", strings.Join(names, ", "))
	})
}

// OpsHandler serves /metrics, /healthz (the process answers), /readyz and /debug/pprof. It is for operators and
// must not be reachable by clients.
func OpsHandler(reg *prometheus.Registry, ready *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "alive\n") })
	mux.Handle("GET /readyz", ready)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
