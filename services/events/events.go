// Package events is the chat's event handler: what people may do, what it changes, and who is told.
//
// Gateways post each connection's events here (protocol/event-handler.md); answers go back by the data-plane REST
// API. Who acts is always the connection's authenticated user, never something a payload says. An event is
// answered when everything it asks for has been done, and doing it twice does no harm. Facts live in the
// chat.Store, so any number of processes may run. The wire is described in docs/chat.md.
//
// This package only wires: what is heard comes in by one of the doors (doors/page, doors/invoke, doors/rest,
// doors/system), is decided and committed by rules, brings connections in line by effects, and is told by telling.
// Who is here is kept by presence.
package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
	"github.com/chatr-dev/chatr/services/events/doors/page"
	"github.com/chatr-dev/chatr/services/events/doors/rest"
	"github.com/chatr-dev/chatr/services/events/doors/system"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/presence"
	"github.com/chatr-dev/chatr/services/events/rules"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Config of the events service. New gives fields with a default that one when they are zero.
type Config struct {
	Tenant       string // whose chat this is; required
	Hub          string // that the chat uses; required
	LegacyGuests bool   // the original Chatr's guests, whose ids come from their browser, may connect

	Origins         []string      // gateways that may attach, by the host they announce; "*" any; empty: none
	OfflineGrace    time.Duration `default:"5s" min:"1ns"` // from losing the last connection to being offline
	CheckInterval   time.Duration `default:"3s" min:"1ns"` // how often a connection is checked to be still there
	EventsPerSecond int           `default:"10" min:"1"`   // of one person, on average, with bursts of four times that
}

const (
	invocationsPerEvent = 10 // a page says something without an event; a client of the chat protocol does not

	workInterval    = 250 * time.Millisecond // between two looks for what another process may have left undone
	measureInterval = 5 * time.Second

	eventTime = 20 * time.Second // for one event; below what a gateway waits
)

// checked returns c with its defaults and its hub as gateways write it, or what is wrong with it.
func (c Config) checked() (Config, error) {
	config.Defaults(&c)
	var problems []error
	if c.Tenant == "" {
		problems = append(problems, errors.New("events: tenant must say whose chat this is"))
	}
	hub, err := webpubsub.ParseHub(c.Hub)
	if err != nil {
		problems = append(problems, fmt.Errorf("events: %w", err))
	}
	c.Hub = hub
	config.Check(&c, "events", func(path string, err error) { problems = append(problems, fmt.Errorf("%s %w", path, err)) })
	return c, errors.Join(problems...)
}

// Deps are what the service works with.
type Deps struct {
	Store   chat.Store
	Log     messagelog.Log    // what clients sent to groups, for the history
	Gateway *dataplane.Client // of the same tenant and hub
	Keys    func() []string   // that gateways may sign events with
	Origins func() []string   // instead of Config.Origins, where they change; may be nil
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the events service.
type Service struct {
	cfg      Config
	deps     Deps
	metrics  *metrics
	effects  *effects.Effects
	presence *presence.Presence
	tell     *telling.Teller
	heard    *page.Heard

	system *system.Door
	page   *page.Door
	invoke *invoke.Door
	rest   *rest.Door
}

// New returns a service that works with deps.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Store == nil || deps.Log == nil || deps.Gateway == nil || deps.Keys == nil || deps.Logger == nil || deps.Metrics == nil {
		return nil, errors.New("events: a dependency is missing")
	}
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	deps.Logger = obs.Bounded(deps.Logger)
	r := rules.New(deps.Store, cfg.Tenant, cfg.LegacyGuests)
	tell := telling.New(telling.Config{
		Store: deps.Store, Tenant: cfg.Tenant, Rules: r, Gateway: deps.Gateway, LegacyGuests: cfg.LegacyGuests, Logger: deps.Logger, Metrics: deps.Metrics,
	})
	live := effects.NewLive(deps.Store, cfg.Tenant, deps.Gateway, tell)
	tell.Align = live.AlignOwed
	follow := effects.New(live, tell, deps.Logger, deps.Metrics)
	here := presence.New(presence.Config{
		Store: deps.Store, Tenant: cfg.Tenant, Rules: r, Gateway: deps.Gateway, Tell: tell, Effects: follow, Metrics: deps.Metrics,
		OfflineGrace: cfg.OfflineGrace, CheckInterval: cfg.CheckInterval,
	})
	ready := deps.Store.Ready
	return &Service{
		cfg: cfg, deps: deps, metrics: newMetrics(deps.Metrics), effects: follow, presence: here, tell: tell,
		heard:  page.NewHeard(r, tell, webpubsub.HubKey{Tenant: cfg.Tenant, Hub: cfg.Hub}, deps.Metrics),
		system: &system.Door{Rules: r, Presence: here, Live: live, Gateway: deps.Gateway},
		page: page.New(page.Config{
			Rules: r, Presence: here, Effects: follow, Live: live, Tell: tell, Logger: deps.Logger, Ready: ready, EventsPerSecond: cfg.EventsPerSecond,
		}),
		invoke: invoke.New(invoke.Config{
			Rules: r, Presence: here, Effects: follow, Tell: tell, Logger: deps.Logger, Ready: ready, PerSecond: invocationsPerEvent * cfg.EventsPerSecond,
		}),
		rest: rest.New(rest.Config{
			Rules: r.Applications(), Effects: follow, Hub: cfg.Hub, Keys: deps.Keys, Logger: deps.Logger, Ready: ready, Time: eventTime,
		}),
	}, nil
}

// Handler serves /eventhandler and what is below it, and the chat's REST API below /api/hubs/{hub}/chat. It must be reachable for gateways only, though events that
// no gateway signed are refused.
func (s *Service) Handler() http.Handler {
	receiver := &cloudevents.Receiver{Keys: s.deps.Keys, Hub: s.cfg.Hub, Origins: s.cfg.Origins, CurrentOrigins: s.deps.Origins}
	events := receiver.Handler(s.handle)
	mux := http.NewServeMux()
	mux.Handle("/eventhandler", events)
	mux.Handle("/eventhandler/", events)
	for _, path := range []string{"/api/health", "/api/v1/health"} { // as gateways have them, for load balancers
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), rest.Prefix) { // before the mux, which would clean the path
			s.rest.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Run keeps presence true and the history complete until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keepHistory(ctx) })
	group.Go(func() error { return s.every(ctx, time.Second, "presence not kept", s.presence.Sweep) })
	group.Go(func() error { return s.every(ctx, workInterval, "effects not paid", s.effects.Work) })
	group.Go(func() error { return s.every(ctx, measureInterval, "effects not counted", s.effects.Measure) })
	group.Go(func() error { return s.every(ctx, workInterval, "rooms not told", s.tell.Work) })
	group.Go(func() error { return s.every(ctx, s.cfg.CheckInterval/2, "connections not checked", s.presence.Check) })
	defer s.tell.Wait()
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Finish waits until what the last requests have brought has been told, or ctx ends. Others would do that after a while, but those of the
// version before, to which a deployment may be on its way back, do not know that it is owed.
func (s *Service) Finish(ctx context.Context) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.tell.Wait()
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// Ready returns nil, or why events cannot be handled now.
func (s *Service) Ready(ctx context.Context) error {
	return errors.Join(s.deps.Store.Ready(ctx), s.deps.Log.Ready(ctx))
}

// every does work now and at each interval, until ctx ends. Of failures in a row the first is logged, as failure.
func (s *Service) every(ctx context.Context, interval time.Duration, failure string, work func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		err := work(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.deps.Logger.Error(failure, "error", err)
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
