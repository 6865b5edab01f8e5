// Package rest is the data-plane REST API (protocol/rest-api.md): it reads a request, calls one method of the node
// for one audience, and writes the answer.
//
// The Host header of a request says which tenant it is about, and only that tenant's keys give access. The handler
// matches the raw path, so it must not stand behind a mux that cleans paths, as http.ServeMux does.
package rest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/repeat"
)

const (
	verbTimeout = 10 * time.Second // for the node to carry a request out
	bodyTimeout = 30 * time.Second // for the caller to send a body, also one that is not needed
)

// Verbs is what the API asks the node to do; *node.Node implements it. Errors are node.ErrNotFound, node.ErrPartial and
// node.ErrUnavailable, which have statuses of their own (rest-api.md section 1.4); others are internal.
type Verbs interface {
	Send(ctx context.Context, a webpubsub.Audience, m webpubsub.Message) error
	SendRepeatable(ctx context.Context, a webpubsub.Audience, m webpubsub.Message, id string, again bool) error
	Close(ctx context.Context, a webpubsub.Audience, reason string) error
	Exists(ctx context.Context, a webpubsub.Audience) (bool, error)
	Join(ctx context.Context, a webpubsub.Audience, groups ...string) error
	Leave(ctx context.Context, a webpubsub.Audience, groups ...string) error
	Grant(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error
	Revoke(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error
	Allowed(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) (bool, error)
	Members(ctx context.Context, hub webpubsub.HubKey, group, after string, limit int) ([]node.Member, error)
}

// Options change how the API works; the zero value is fine.
type Options struct {
	// AcceptedHosts are the hosts that a token's audience may name: host[:port], or https://host[:port].
	// Empty: any, since a token is bound to a path and a key all the same.
	AcceptedHosts []string
	// PublicURL is the address that generated client tokens are for. Default: that of the request.
	PublicURL string
	// TrustedProxies are the proxies in front, which say where a request comes from.
	TrustedProxies httpx.TrustedProxies
	// UserGroups are the groups of users in the ancestor protocol.
	UserGroups *asrs.UserGroups
	// Repeats remembers the sends that may come twice. Default: in this process.
	Repeats *repeat.Requests
	// OnAnswered is called with each request that has been answered, by the goroutine that has answered it. It may be nil.
	OnAnswered func(AnsweredRequest)
	// MaxTokenLife is how long a generated client token may be valid. Default: 365 days.
	MaxTokenLife time.Duration
}

// Handler serves /api/hubs/… and the health routes. It is safe for concurrent use.
type Handler struct {
	node        Verbs
	tenants     tenant.Source
	providers   *token.Providers
	options     Options
	log         *slog.Logger
	refusalLogs *ratelimit.Limiter // by host: limits the log lines about callers without a right
	duration    *prometheus.HistogramVec
	repeats     *prometheus.CounterVec
	chat        *httputil.ReverseProxy
}

// New returns the handler. Its metrics are registered with metrics.
func New(n Verbs, tenants tenant.Source, o Options, log *slog.Logger, metrics prometheus.Registerer) *Handler {
	if o.UserGroups == nil {
		o.UserGroups = asrs.NewUserGroups(nil, "")
	}
	if o.Repeats == nil {
		o.Repeats = repeat.New(nil, "")
	}
	if o.MaxTokenLife <= 0 {
		o.MaxTokenLife = 365 * 24 * time.Hour
	}
	h := &Handler{
		node: n, tenants: tenants, providers: token.NewProviders(), options: o, log: log, chat: newChatProxy(), refusalLogs: ratelimit.New(1, 20),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_rest_request_duration_seconds",
			Help: "Time to answer a data-plane REST request, by operation and status class.",
		}, []string{"category", "status"}),
		repeats: newRepeatMetric(),
	}
	metrics.MustRegister(h.duration, h.repeats)
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if r.ContentLength != 0 {
		setReadDeadline(w, start.Add(bodyTimeout))
	}
	if hubName, is := chatHub(r); is {
		status, err := h.proxyChat(w, r, hubName)
		if err != nil {
			status = h.writeProblem(w, r, &chatOperation, err)
		}
		h.duration.WithLabelValues(chatOperation.category, statusClass(status)).Observe(time.Since(start).Seconds())
		return
	}
	w.Header().Set("Api-Supported-Versions", supportedVersions)
	w.Header().Set("Cache-Control", "no-store")
	op, status, body, err := h.run(w, r)
	if err != nil {
		status = h.writeProblem(w, r, op, err)
	} else {
		write(w, r, status, body)
	}
	took := time.Since(start)
	h.duration.WithLabelValues(op.category, statusClass(status)).Observe(took.Seconds())
	if h.options.OnAnswered != nil {
		h.options.OnAnswered(h.answered(r, op, status, took))
	}
}

// AnsweredRequest is a request that has been answered.
type AnsweredRequest struct {
	Request   *http.Request
	Tenant    string // empty: no tenant has the request's host
	Category  string // the protocol's RestApiCategory
	Route     string // with its parameters by name
	Status    int
	Time      time.Duration
	RequestID string
}

// answered describes a request that has been answered, for Options.OnAnswered.
func (h *Handler) answered(r *http.Request, op *operation, status int, took time.Duration) AnsweredRequest {
	d := AnsweredRequest{Request: r, Category: op.category, Status: status, Time: took, RequestID: httpx.RequestID(r.Context())}
	if t := h.tenants.ByHost(r.Host); t != nil {
		d.Tenant = t.Name
	}
	if op.path != "" {
		d.Route = prefix + hubParam + "/" + op.path
	}
	return d
}

// run finds the operation and carries it out. It returns an operation also with an error, for metrics and logs.
func (h *Handler) run(w http.ResponseWriter, r *http.Request) (op *operation, status int, body any, err error) {
	if isHealth(r) {
		return &health, http.StatusOK, nil, nil
	}
	find := route
	if isAncestor(r) {
		find = routeAncestor
	}
	op, params, routeErr := find(r)
	t, err := h.authorizedTenant(r)
	if err != nil {
		return op, 0, nil, err
	}
	if routeErr != nil {
		return op, 0, nil, routeErr
	}
	q, err := newRequest(w, r, t, op, params)
	if err != nil {
		return op, 0, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), verbTimeout)
	defer cancel()
	body, err = op.run(h, ctx, q)
	return op, op.success, body, op.ignoreMissing(err)
}

// authorizedTenant returns the tenant that a request is about, if the caller has the right to use its API.
func (h *Handler) authorizedTenant(r *http.Request) (*tenant.Tenant, error) {
	t := h.tenants.ByHost(r.Host)
	if t == nil {
		return nil, notFound("no service has this host name", "")
	}
	if !t.Permits(tenant.RESTAPI, h.options.TrustedProxies.ClientAddr(r)) {
		return nil, forbidden("the service does not allow REST requests from your network")
	}
	return t, h.authenticate(r, t)
}

// authenticate checks the token of a request: signed with a key of the tenant for this very path, or by a provider whom
// the tenant trusts to say who may use the API.
func (h *Handler) authenticate(r *http.Request, t *tenant.Tenant) error {
	header := r.Header["Authorization"]
	if len(header) == 0 && (r.URL.Path == "/" || r.URL.Path == "") { // probes expect an answer that shows that there is a service
		return forbidden("there is nothing to see here; applications use /api/hubs/{hub}, clients /client/hubs/{hub}")
	}
	if len(header) != 1 {
		return unauthorized("the request needs one Authorization header with a bearer token")
	}
	scheme, raw, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return unauthorized("the Authorization header must be of the form: Bearer {token}")
	}
	raw = strings.TrimSpace(raw)
	if provider := t.Auth.Provider(token.UnverifiedIssuer(raw)); provider != nil {
		return h.authorize(r, provider, raw)
	}
	claims, err := token.NewKeyVerifier(t.TokenKeys()...).Verify(r.Context(), raw)
	if err != nil {
		return unauthorized(err.Error())
	}
	accepted := t.AudienceHosts(h.options.AcceptedHosts)
	if isAncestor(r) { // its audiences lack the port
		accepted = nil
	}
	if err := token.CheckRESTAudience(claims, r, accepted); err != nil {
		return unauthorized(err.Error())
	}
	return nil
}

// authorize checks a token of an OpenID Connect provider: that it is genuine, and that the settings give its subject access.
func (h *Handler) authorize(r *http.Request, provider *tenant.OIDC, raw string) error {
	claims, err := h.providers.Verifier(provider.Pinned()).Verify(r.Context(), raw)
	switch {
	case errors.Is(err, token.ErrNoKeys):
		return err
	case err != nil:
		return unauthorized(err.Error())
	case !provider.Admits(claims):
		return forbidden("the token is good, but neither its subject nor any of its roles and scopes opens this service")
	}
	return nil
}

// isHealth reports whether r asks one of the health routes (rest-api.md section 9). They say that the process
// answers; whether it should get traffic is said on the operations listener.
func isHealth(r *http.Request) bool {
	path := r.URL.EscapedPath()
	return (path == "/api/health" || path == "/api/v1/health") && (r.Method == http.MethodHead || r.Method == http.MethodGet)
}

// setReadDeadline sets until when the request may be read. An error is ignored: only a test's ResponseWriter has no deadlines.
func setReadDeadline(w http.ResponseWriter, t time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(t)
}

// write writes an answer; body is written as JSON unless it is nil.
func write(w http.ResponseWriter, r *http.Request, status int, body any) {
	if body == nil || r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	text, err := json.Marshal(body)
	if err != nil { // cannot happen with our types
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// statusClass returns 2xx for 204, and so on: a metric label with few values.
func statusClass(status int) string { return string(rune('0'+status/100)) + "xx" }
