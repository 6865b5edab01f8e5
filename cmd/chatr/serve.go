package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/gatewaypaths"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/obs"
)

// lastRequests is how long running requests may take to finish once a service has stopped.
const lastRequests = 5 * time.Second

// process is what every serving command has: its log, metrics, health and listeners.
type process struct {
	log     *slog.Logger
	metrics *prometheus.Registry
	health  *obs.Health
	clients *httpx.Acceptance
	ops     map[string]http.Handler // beside obs.OpsHandler, by pattern
}

func newProcess(s *settings, loaded *config.Loaded, name string) (*process, error) {
	log, err := obs.NewLogger(os.Stderr, s.Log, isTerminal(os.Stderr))
	if err != nil {
		return nil, err
	}
	p := &process{log: log.With("service", name), metrics: obs.NewRegistry(), health: &obs.Health{}, ops: map[string]http.Handler{}}
	warnRenamed(loaded, p.log)
	if loaded.Empty {
		p.log.Warn("the settings file is empty", "files", loaded.Files)
	}
	version := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "chatr_build_info", Help: "1, with the version as label.",
		ConstLabels: prometheus.Labels{"version": buildVersion()},
	})
	version.Set(1)
	p.metrics.MustRegister(version, p.health)
	p.clients = httpx.NewAcceptance(p.log, p.metrics)
	p.health.Add("listener", func(context.Context) error { return p.clients.Ready() }, httpx.ReasonDescriptors, httpx.ReasonAccept)
	return p, nil
}

// warnRenamed logs each former name of a setting that was used.
func warnRenamed(loaded *config.Loaded, log *slog.Logger) {
	for _, r := range loaded.Renamed {
		log.Warn("a setting has a new name, and the old one will be gone in the next version", "old", r.Old, "new", r.New, "place", r.Place)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// service is what the packages below services make.
type service interface {
	Run(ctx context.Context) error
	Ready(ctx context.Context) error
}

// A service may have a method Finish(context.Context), which is called when the last requests have been answered, after Run, for what they
// have left to do. It returns when that is done, or when ctx ends.

// run serves handler on l and operations on opsListen until ctx ends. The service then drains first, while both
// still answer: connections that leave cause requests, and probes must see why the process is not ready.
func (p *process) run(ctx context.Context, s service, handler http.Handler, listen, opsListen string) error {
	l, err := httpx.Listen(listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	ops, err := net.Listen("tcp", opsListen)
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("listen for operations: %w", err)
	}
	p.log.Info("listening", "address", l.Addr().String(), "operations", ops.Addr().String(), "version", buildVersion())

	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServers()
	group, groupCtx := errgroup.WithContext(servers)
	handler = httpx.Leaving(ctx, p.health.Front(handler))
	if g, ok := s.(interface {
		Listener(net.Listener) net.Listener
	}); ok {
		l = g.Listener(l)
	}
	group.Go(func() error { return httpx.Serve(groupCtx, p.newServer(handler), p.clients.Watch(l), lastRequests) })
	group.Go(func() error {
		return httpx.Serve(groupCtx, httpx.NewServer(p.opsHandler()), ops, lastRequests)
	})
	group.Go(func() error {
		defer stopServers()
		return s.Run(mergeDone(ctx, groupCtx))
	})
	err = group.Wait()
	if f, ok := s.(interface{ Finish(context.Context) }); ok {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
		defer cancel()
		f.Finish(last)
	}
	p.log.Info("stopped")
	return err
}

// newServer returns a server whose own complaints go to the log, but for those that p.clients makes.
func (p *process) newServer(handler http.Handler) *http.Server {
	server := httpx.NewServer(handler)
	server.ErrorLog = log.New(complaints{p.log}, "", 0)
	return server
}

// complaints is where an http.Server writes lines.
type complaints struct{ log *slog.Logger }

// Write implements io.Writer.
func (c complaints) Write(line []byte) (int, error) {
	if !bytes.Contains(line, []byte("Accept error")) {
		c.log.Warn("http server", "message", string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

// opsHandler is what the operations listener serves.
func (p *process) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", obs.OpsHandler(p.metrics, p.health))
	for pattern, handler := range p.ops {
		mux.Handle(pattern, handler)
	}
	return mux
}

// mergeDone returns ctx, ended also when other ends: a server that fails must end the service as well.
func mergeDone(ctx, other context.Context) context.Context {
	merged, cancel := context.WithCancel(ctx)
	context.AfterFunc(other, cancel)
	return merged
}

// routed sends the gateway's paths to gateway and all others to api, as every front of the product does.
func routed(gateway, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaypaths.Has(r.URL.Path) {
			gateway.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// either returns a if it is set, else b.
func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
