// Package upstream calls event handlers: it tells the application what happens to connections and asks it what
// should happen (protocol/event-handler.md).
//
// Events of one connection reach a handler one after another, in order. Connect and user events block their
// caller, for a limited time. Connected, disconnected, joined and left do not: they are kept and retried while the handler is
// down, within limits, and each one given up is counted under a reason. Event listeners get copies in message logs, which
// webhooks get in batches from there. A slow or dead handler delays only
// the connections of its tenant whose events go to it: the requests to one handler host at a time are bounded for each tenant, and those
// to all hosts are shared out among the tenants.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Config says how handlers are called. A zero field means its default.
type Config struct {
	PublicURL        string        `old:"gateway.upstream.origin" help:"public address of the service as event handlers know it, whose host is announced to them: that of the endpoint in applications' connection strings; https://host or just the host; empty: the tenant's first exact host, else localhost"`
	ConnectTimeout   time.Duration `default:"10s" min:"100ms" max:"10m" help:"how long a handshake may wait for the connect event's answer, retries included"`
	EventTimeout     time.Duration `default:"100s" min:"100ms" max:"1h" help:"how long a user event may wait for its answer, retries included"`
	LifecycleTimeout time.Duration `default:"30s" min:"100ms" max:"10m" help:"how long one attempt to deliver connected, disconnected, joined or left may take"`
	LifecycleKeep    time.Duration `default:"1h" min:"1s" max:"168h" help:"how long connected, disconnected, joined and left are kept and retried while their handler is down"`
	LifecycleQueue   int           `default:"100000" min:"1" max:"10000000" help:"how many connected, disconnected, joined and left events may wait for one handler host of a tenant"`
	InFlight         int           `default:"256" min:"1" max:"10000" help:"requests to one handler host at a time, for each tenant"`

	TotalLifecycleQueue int `default:"300000" min:"1" max:"100000000" help:"how many connected, disconnected, joined and left events may wait for all handlers together, at least lifecycleQueue; beyond that only those of tenants that have less than their share of them"`
	TotalInFlight       int `default:"1024" min:"1" max:"100000" help:"requests to all handlers at a time, at least inFlight; beyond that each tenant may have as many as a sixteenth of inFlight, so that none waits until another's handlers answer"`
}

// Upstream calls the handlers of all hubs. It is safe for concurrent use.
type Upstream struct {
	cfg     Config
	tenants tenant.Source
	log     *slog.Logger
	metrics *metrics
	client  *http.Client
	held    *Held // nil: no other process reports ends when this one dies

	messages messagelog.Log // nil: there are no listeners

	consents consents
	tokens   tokens
	slots    *slots
	shares   shares

	life context.Context // ends with Run; the context of requests that no caller waits for
	stop context.CancelFunc

	mu         sync.Mutex // guards the following
	hosts      map[hostKey]*host
	copies     map[string]*copies // by log
	stopped    bool
	goroutines sync.WaitGroup
	waiting    int           // lifecycle events not yet delivered or given up
	drained    chan struct{} // closed when waiting falls to zero; nil: Drain is not waiting
}

// New returns an Upstream at work; Run ends it. Without messages there are no event listeners.
func New(cfg Config, tenants tenant.Source, messages messagelog.Log, log *slog.Logger, reg prometheus.Registerer) *Upstream {
	config.Defaults(&cfg)
	life, stop := context.WithCancel(context.Background())
	u := &Upstream{
		cfg: cfg, tenants: tenants, messages: messages, log: log, metrics: newMetrics(reg), client: newClient(cfg),
		life: life, stop: stop,
		slots: newSlots(cfg), shares: shares{of: map[string]int{}},
		hosts: map[hostKey]*host{}, copies: map[string]*copies{},
	}
	u.consents = consents{u: u, byKey: map[consentKey]*consent{}}
	u.tokens = tokens{u: u, bearers: map[tenant.HandlerAuth]*bearer{}}
	return u
}

// newClient returns the client for requests to those who give out tokens, of which each host has a twin for requests to its handlers. It
// keeps as many idle connections to a host as there may be requests.
func newClient(cfg Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           4 * cfg.InFlight,
			MaxIdleConnsPerHost:    cfg.InFlight,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true, // sizes are bounded as they arrive
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect is an answer like any other that is not 2xx (event-handler.md section 7.4).
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run returns when ctx has ended and everything under way has stopped; lifecycle events that still wait are
// given up. Call Drain before ctx ends to have them delivered.
func (u *Upstream) Run(ctx context.Context) error {
	if u.messages != nil {
		u.start(webhooks{u}.run)
	}
	<-ctx.Done()
	u.mu.Lock()
	u.stopped = true
	lost := u.waiting
	u.mu.Unlock()
	u.stop()
	u.goroutines.Wait()
	u.closeIdleConnections()
	if lost > 0 {
		u.metrics.addDropped(reasonStopped, lost)
		u.log.Warn("lifecycle events were not delivered before the end", "events", lost)
	}
	return nil
}

// closeIdleConnections closes the TCP connections that are kept for the next request.
func (u *Upstream) closeIdleConnections() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.client.CloseIdleConnections()
	for _, h := range u.hosts {
		h.client.CloseIdleConnections()
	}
}

// Drain returns when no lifecycle event waits any more, or ctx's error when it ends before.
func (u *Upstream) Drain(ctx context.Context) error {
	u.mu.Lock()
	if u.waiting == 0 {
		u.mu.Unlock()
		return nil
	}
	if u.drained == nil {
		u.drained = make(chan struct{})
	}
	drained := u.drained
	u.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("deliver lifecycle events: %w", ctx.Err())
	}
}

// addWaiting counts lifecycle events that wait; n is negative for those that no longer do.
func (u *Upstream) addWaiting(n int) {
	u.metrics.waiting.Add(float64(n))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting += n
	if u.waiting == 0 && u.drained != nil {
		close(u.drained)
		u.drained = nil
	}
}

// start runs f in a goroutine that Run waits for, unless Run has ended.
func (u *Upstream) start(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopped {
		u.goroutines.Go(f)
	}
}

// target is where an event goes.
type target struct {
	hub      webpubsub.HubKey
	category string // of an ancestor's event
	event    string
	host     *host
	origin   string
	keys     []string
	auth     tenant.HandlerAuth
	trusted  bool // it need not be asked for its consent
	awaits   bool // it may come to know an event that it does not know yet
	urlFor   func(event string) (string, error)
}

// address returns the URL that an event goes to. It may have secrets, so that it must not be logged.
func (t target) address(event string) (string, *Failure) {
	address, err := t.urlFor(event)
	if err != nil {
		return "", &Failure{Reason: ReasonSecret, detail: err}
	}
	return address, nil
}

// systemTarget returns the first handler of hub that wants a system event.
func (u *Upstream) systemTarget(hub webpubsub.HubKey, event string) (target, bool) {
	return u.choose(hub, event, func(h *tenant.Handler) bool { return h.WantsSystem(event) })
}

// presenceTarget returns the first handler of hub that wants a presence event of the group.
func (u *Upstream) presenceTarget(hub webpubsub.HubKey, event, group string) (target, bool) {
	return u.choose(hub, event, func(h *tenant.Handler) bool { return h.WantsPresence(event, group) })
}

// userTarget returns the first handler of hub that wants a user event.
func (u *Upstream) userTarget(hub webpubsub.HubKey, event string) (target, bool) {
	return u.choose(hub, event, func(h *tenant.Handler) bool { return h.WantsUser(event) })
}

// choose returns the first handler of hub that wants an event. The settings are read for each event: they may change at any time.
func (u *Upstream) choose(hub webpubsub.HubKey, event string, wants func(*tenant.Handler) bool) (target, bool) {
	t := u.tenants.ByName(hub.Tenant)
	if t == nil {
		return target{}, false
	}
	handlers := t.Hub(hub.Hub).Handlers
	for i := range handlers {
		if h := &handlers[i]; wants(h) {
			return u.targetOf(hub, event, t, h), true
		}
	}
	return target{}, false
}

// targetOf returns the target that sends an event of hub to h.
func (u *Upstream) targetOf(hub webpubsub.HubKey, event string, t *tenant.Tenant, h *tenant.Handler) target {
	return target{
		hub: hub, event: event, host: u.host(t.Name, h.Host()), origin: u.origin(t), keys: t.Keys.All(), auth: h.Auth, trusted: h.SkipValidation,
		urlFor: func(event string) (string, error) { return h.URLFor(hub.Hub, event) },
	}
}

// origin is what handlers of t know this service by. It must not come from a client's request, which could make
// handlers refuse us (event-handler.md section 3).
func (u *Upstream) origin(t *tenant.Tenant) string {
	if u.cfg.PublicURL != "" {
		return httpx.HostOf(u.cfg.PublicURL)
	}
	return t.Origin()
}

// Reason says why an event failed or was given up. It is the metric label and log value.
type Reason string

// The reasons.
const (
	ReasonNoHandler   Reason = "no_handler"   // no handler wants the event
	ReasonNetwork     Reason = "network"      // the handler cannot be reached
	ReasonTimeout     Reason = "timeout"      // it did not answer in time
	ReasonBusy        Reason = "busy"         // it was busy with other events for too long
	ReasonFull        Reason = "full"         // too many events of the connection wait for the handler
	ReasonUnordered   Reason = "unordered"    // an earlier event of the connection has not reached it yet
	ReasonClientError Reason = "client_error" // it answered 3xx or 4xx
	ReasonServerError Reason = "server_error" // it answered 5xx
	ReasonValidation  Reason = "validation"   // it does not consent to events from us
	ReasonLog         Reason = "log"          // the message log of a listener does not take it
	ReasonSecret      Reason = "secret"       // a secret or token that it wants to see cannot be got
	ReasonAnswer      Reason = "answer"       // it answered 2xx with something that cannot be used
	ReasonCanceled    Reason = "canceled"     // the caller, or its connection, has ended

	reasonOverflow Reason = "overflow" // of a lifecycle event: too many wait for the host
	reasonExpired  Reason = "expired"  // of a lifecycle event: kept for too long
	reasonStopped  Reason = "stopped"  // of a lifecycle event: the process ended
)

// ErrNoHandler says that no handler wants the event.
var ErrNoHandler = errors.New("no event handler is set for this event")

// Failure is why an event got no usable answer. Its text is for operators; it has neither payload nor URL.
type Failure struct {
	Reason      Reason
	Status      int    // of the handler's answer; 0: there was none
	ContentType string // of Body
	Body        []byte // the beginning of an answer that is not 2xx

	detail error
	retry  bool // another attempt may succeed
}

// Error implements error.
func (f *Failure) Error() string {
	text := "the event handler failed: " + string(f.Reason)
	if f.Status != 0 {
		text = fmt.Sprintf("%s, status %d", text, f.Status)
	}
	if f.detail != nil {
		text += ": " + f.detail.Error()
	}
	return text
}

// Unwrap returns what caused the failure, if that is known.
func (f *Failure) Unwrap() error { return f.detail }
