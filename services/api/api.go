// Package api serves what a browser needs over HTTP: sign-in, the lists of chats and people, history, the address to
// connect to, and the page itself.
//
// It reads the chat.Store and signs client tokens; changes to chats are events and go through package events. The
// user is known by the signed session cookie, never by a parameter. Shapes are those of docs/chat.md, a superset of the
// original Chatr's. Errors are problem details that hold nothing internal.
package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

// Config of the API service. New gives fields with a default that one when they are zero.
type Config struct {
	Tenant     string // whose chat this is; required
	Hub        string // that the chat uses; required
	SessionKey string // signs session cookies; at least 32 bytes, the same in every process, never shown

	PublicURL        string               // of the page, such as "https://chat.example"; empty: what each request says
	GatewayPublicURL string               // of the gateways for browsers, such as "wss://chat.example"; empty: the page's own
	TrustedProxies   httpx.TrustedProxies // in front, whose X-Forwarded-For gives the client's address

	SessionTime time.Duration `min:"1s"` // how long a session lasts; required

	NoGuests     bool          // people may not sign in with just a name
	LegacyGuests bool          // the original Chatr's guests get tokens and read lists without a session
	IdleAfter    time.Duration `min:"1s"`             // without mouse, key, touch or scroll a page counts as idle; required
	GuestsPerMin int           `default:"30" min:"1"` // guest sign-ins of one client address per minute, with bursts of twice that

	// RequestsPerSecond is how many one person may make for lists, history and tokens, on average, with bursts of ten times that.
	RequestsPerSecond int `default:"20" min:"1"`
}

const (
	requestTime = 15 * time.Second
	tokenTTL    = 5 * time.Minute
	maxBody     = 16 << 10 // bytes; nothing here takes more than a name
)

// Deps are what the service works with.
type Deps struct {
	Store   chat.Store
	Gateway *dataplane.Client  // to close the sockets of users who sign out
	Keys    func() tenant.Keys // sign client tokens
	Web     fs.FS              // the built page, index.html at its root
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the API service.
type Service struct {
	cfg     Config
	store   chat.Store
	gateway *dataplane.Client
	keys    func() tenant.Keys
	logger  *slog.Logger
	metrics *metrics
	guests  *ratelimit.Limiter // by client address
	limit   *ratelimit.Limiter // by asker
	page    *page
	handler http.Handler
}

// New returns a service that works with deps.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Store == nil || deps.Gateway == nil || deps.Keys == nil || deps.Web == nil || deps.Logger == nil || deps.Metrics == nil {
		return nil, errors.New("api: a dependency is missing")
	}
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	page, err := loadPage(deps.Web)
	if err != nil {
		return nil, fmt.Errorf("load page: %w", err)
	}
	s := &Service{
		cfg:     cfg,
		store:   deps.Store,
		gateway: deps.Gateway,
		keys:    deps.Keys,
		logger:  obs.Bounded(deps.Logger),
		metrics: newMetrics(deps.Metrics),
		guests:  ratelimit.New(float64(cfg.GuestsPerMin)/60, 2*cfg.GuestsPerMin),
		limit:   ratelimit.New(float64(cfg.RequestsPerSecond), 10*cfg.RequestsPerSecond),
		page:    page,
	}
	s.handler, err = s.routes()
	return s, err
}

// checked returns c with its defaults, or what is wrong with it.
func (c Config) checked() (Config, error) {
	config.Defaults(&c)
	var problems []error
	if c.Tenant == "" || c.Hub == "" {
		problems = append(problems, errors.New("api: tenant and hub must say whose chat this is"))
	}
	config.Check(&c, "api", func(path string, err error) { problems = append(problems, fmt.Errorf("%s %w", path, err)) })
	if len(c.SessionKey) < 32 {
		problems = append(problems, fmt.Errorf("the session key has %d bytes; at least 32 are needed", len(c.SessionKey)))
	}
	for name, value := range map[string]*string{"public URL": &c.PublicURL, "the gateways' public URL": &c.GatewayPublicURL} {
		normal, err := origin(*value)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %q: %w", name, *value, err))
		}
		*value = normal
	}
	return c, errors.Join(problems...)
}

// origin returns scheme and host of a URL with an http or ws scheme as http(s)://host[:port]; "" stays.
func origin(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	scheme := map[string]string{"http": "http", "https": "https", "ws": "http", "wss": "https"}[strings.ToLower(u.Scheme)]
	if scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", errors.New("must be http(s)://host[:port] or ws(s)://host[:port], with nothing behind")
	}
	return scheme + "://" + u.Host, nil
}

// Handler serves every path that is not the gateway's.
func (s *Service) Handler() http.Handler { return s.handler }

func (s *Service) routes() (http.Handler, error) {
	packed, err := compressing()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.auth/me", s.me)
	mux.HandleFunc("POST /.auth/login/guest", s.loginGuest)
	mux.HandleFunc("GET /.auth/login/{provider}", s.login)
	mux.HandleFunc("GET /.auth/logout", s.logout)
	mux.HandleFunc("GET /api/config", s.config)
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /api/users":               s.users,
		"GET /api/blocked":             s.blocked,
		"GET /api/chats":               s.chats,
		"GET /api/chats/{id}":          s.chat,
		"GET /api/chats/{id}/messages": s.messages,
		"GET /api/rooms":               s.respond(s.rooms),
		"GET /api/directory":           s.respond(s.directory),
		"GET /api/rooms/{id}":          s.respond(s.room),
		"GET /api/rooms/{id}/members":  s.respond(s.members),
		"GET /api/rooms/{id}/messages": s.respond(s.window),
		"GET /api/rooms/{id}/events":   s.respond(s.events),
	} {
		mux.Handle(pattern, packed(s.limited(handle)))
	}
	mux.HandleFunc("POST /api/negotiate", s.limited(s.negotiate)) // never packed: see compressing
	mux.HandleFunc("GET /api/getToken", s.limited(s.getToken))
	for _, path := range []string{"/api/health", "/api/v1/health"} { // as gateways have them, for load balancers
		mux.HandleFunc("GET "+path, healthy)
	}
	mux.HandleFunc("/.auth/", s.unknown)
	mux.HandleFunc("/api/", s.unknown)
	mux.HandleFunc("/", s.servePage)

	sameOrigin := http.NewCrossOriginProtection()
	if s.cfg.PublicURL != "" {
		if err := sameOrigin.AddTrustedOrigin(s.cfg.PublicURL); err != nil {
			return nil, err
		}
	}
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, http.StatusForbidden, "this request came from another site")
	}))
	return httpx.WithRequestID(s.secure(sameOrigin.Handler(s.measure(s.bounded(mux))))), nil
}

// bounded gives each request a time by which it is answered, whatever the store does.
func (s *Service) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		inner := r.WithContext(ctx)
		next.ServeHTTP(w, inner)
		r.Pattern = inner.Pattern // the route, for measure
	})
}

// limited bounds how often one asker may make requests that need the store, before the store is used. Signing out is not
// limited.
func (s *Service) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ok, wait := s.limit.Allow(s.asker(r)); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
			problem(w, r, http.StatusTooManyRequests, fmt.Sprintf("you ask too often; at most %d requests a second are answered", s.cfg.RequestsPerSecond))
			return
		}
		next(w, r)
	}
}

// asker returns what requests are counted by: the user of the session, or the client's address if there is no session.
func (s *Service) asker(r *http.Request) string {
	if cookie, err := r.Cookie(s.cookieName(r)); err == nil {
		if v, ok := s.open(cookie.Value); ok {
			return "user " + v.UserID
		}
	}
	return "address " + s.clientAddress(r)
}

// secure sets the headers that keep other sites and injected markup out (security fault 40). No answer of this
// service may be drawn in a frame, sniffed into another type, or run anything that we have not shipped.
func (s *Service) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "+
			"connect-src 'self' "+webSocket(s.clientEndpoint(r))+"; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if s.trustworthy(r) {
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if strings.HasPrefix(s.cfg.PublicURL, "https:") { // not for a trial's localhost, which serves http too
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// Run returns when ctx ends; the service has no work of its own.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready returns nil, or why requests cannot be served now.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ready(ctx) }

// healthy answers that the service works. Whether it is ready has been checked before a request comes here.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Service) unknown(w http.ResponseWriter, r *http.Request) {
	problem(w, r, http.StatusNotFound, "there is nothing at this path, or not for this method")
}

// config answers with what a page needs to know before anybody has signed in.
func (s *Service) config(w http.ResponseWriter, _ *http.Request) {
	httpx.WriteJSON(w, http.StatusOK, map[string]any{
		"hub":              s.cfg.Hub,
		"idleAfterSeconds": int(s.cfg.IdleAfter / time.Second),
		"providers":        s.providers(),
		"legacyGuests":     s.cfg.LegacyGuests,
		"limits": map[string]int{
			"name":  chat.MaxNameRunes,
			"title": chat.MaxTitleRunes,
			"text":  chat.MaxTextRunes,
			"key":   chat.MaxKeyBytes,
			"page":  chat.MaxPage,
		},
	})
}
