// Package obs is how a process is observed: its log, its health, its metrics and profiles.
package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
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

// NotReady says why something cannot be used now. Reason is a word of a closed set, for metrics and strangers.
type NotReady struct {
	Reason string
	Err    error // for operators
}

func (e *NotReady) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *NotReady) Unwrap() error { return e.Err }

// NotReadyReason returns the reason.
func (e *NotReady) NotReadyReason() string { return e.Reason }

// Health answers whether a process is ready, and why not. The zero value is ready. It is safe for concurrent use.
type Health struct {
	mu     sync.Mutex // guards checks
	checks []check

	asking   sync.Mutex // guards the following, and is held while checks run: those who ask meanwhile share the answer
	asked    time.Time
	problems []problem
}

type check struct {
	name    string
	ready   func(context.Context) error
	reasons []string
}

// problem is a check that has failed.
type problem struct {
	name string
	err  error
}

// Add makes readiness depend on ready, which returns nil or a reason that operators may read. reasons are the words that its
// errors' NotReadyReason may return; what has another or none counts as "other" among the metrics.
func (h *Health) Add(name string, ready func(context.Context) error, reasons ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, ready, append(slices.Clone(reasons), otherReason)})
}

const otherReason = "other"

func (h *Health) list() []check {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.checks
}

// check runs all checks at once and returns those that have failed, in the order in which they were added.
func (h *Health) check(ctx context.Context) (failed []problem) {
	checks := h.list()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	reasons := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { reasons[i] = c.ready(ctx) })
	}
	wg.Wait()
	for i, err := range reasons {
		if err != nil {
			failed = append(failed, problem{checks[i].name, err})
		}
	}
	return failed
}

// recent returns what check has found within recentTime.
func (h *Health) recent(ctx context.Context) []problem {
	h.asking.Lock()
	defer h.asking.Unlock()
	if time.Since(h.asked) >= recentTime {
		h.problems = h.check(context.WithoutCancel(ctx)) // shared, so it may not end with one of those who ask
		h.asked = time.Now()
	}
	return h.problems
}

// recentTime is how long what has been found out counts for those who may ask often, so that they do not make work for the stores.
const recentTime = time.Second

var notReady = prometheus.NewDesc("chatr_not_ready",
	"1 for the reason why that part of the process cannot do what it is for now, 0 for all others. While one is 1 the process is not ready.",
	[]string{"part", "reason"}, nil)

// Describe implements prometheus.Collector.
func (h *Health) Describe(descs chan<- *prometheus.Desc) { descs <- notReady }

// Collect implements prometheus.Collector. What it says may be a second old.
func (h *Health) Collect(metrics chan<- prometheus.Metric) {
	failed := map[string]string{}
	checks := h.list()
	for _, p := range h.recent(context.Background()) {
		failed[p.name] = otherReason
		var named interface{ NotReadyReason() string }
		if errors.As(p.err, &named) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == p.name })
			if slices.Contains(checks[i].reasons, named.NotReadyReason()) {
				failed[p.name] = named.NotReadyReason()
			}
		}
	}
	for _, c := range checks {
		for _, reason := range c.reasons {
			value := 0.0
			if failed[c.name] == reason {
				value = 1
			}
			metrics <- prometheus.MustNewConstMetric(notReady, prometheus.GaugeValue, value, c.name, reason)
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
	for _, p := range h.check(r.Context()) {
		text += fmt.Sprintf("%s%s: %v\n", p.name, reason(p.err), p.err)
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

// Front puts the health path of the serving port, /api/health and /api/v1/health, before a service: 503 while the
// process is not ready, else next answers. Load balancers that check the port they send requests to need it.
//
// The serving port is open to strangers, so the answer names what is not ready and, as one word, what kind of reason it has
// if the error has a NotReadyReason. All of it is said by ServeHTTP, on the operations listener. An answer may be a second old.
func (h *Health) Front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); (path != "/api/health" && path != "/api/v1/health") || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
			next.ServeHTTP(w, r)
			return
		}
		var names []string
		for _, p := range h.recent(r.Context()) {
			names = append(names, p.name+reason(p.err))
		}
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
