package rest

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// What is below /api/hubs/{hub}/chat/ is about rooms and their messages (chat-preview.md section 6), of which a gateway knows
// nothing. It checks the caller as for its own operations, and passes the request on to the service that the hub names, with a token
// that it signs for that request.

var chatOperation = operation{category: "Chat"}

const (
	chatTimeout   = 30 * time.Second // for the service to answer
	chatTokenLife = time.Minute      // how long a token for it is valid
)

// chatHub returns the name of the hub, as written, whose chat a request is about.
func chatHub(r *http.Request) (string, bool) {
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok {
		return "", false
	}
	hubName, below, _ := strings.Cut(below, "/")
	return hubName, below == "chat" || strings.HasPrefix(below, "chat/")
}

// chatDestination is where a request is passed on to.
type chatDestination struct {
	base      *url.URL
	authority string // the Authorization header
	from      string // the endpoint that the caller used
}

type chatDestinationKey struct{}

// proxiedHeaders are the caller's headers that are passed on.
var proxiedHeaders = []string{"Accept", "Content-Type", "Content-Length", "If-Match", "If-None-Match", "X-Ms-Client-Request-Id"}

// newChatProxy returns the proxy to chat services. Where it sends a request, and with which token, is in the request's context.
// Nothing but proxiedHeaders is passed on, so that a caller cannot set what the service believes of us.
func newChatProxy() *httputil.ReverseProxy {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the service is one of ours
	transport.MaxIdleConnsPerHost = 64
	transport.ResponseHeaderTimeout = chatTimeout
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			to := p.In.Context().Value(chatDestinationKey{}).(chatDestination)
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = to.base.Scheme, to.base.Host, to.base.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // as the caller wrote it: the service checks it
			p.Out.Header = http.Header{}
			for _, name := range proxiedHeaders {
				if values := p.In.Header[name]; len(values) > 0 {
					p.Out.Header[name] = values
				}
			}
			scheme, host, _ := strings.Cut(to.from, "://")
			p.Out.Header.Set("X-Forwarded-Proto", scheme)
			p.Out.Header.Set("X-Forwarded-Host", host)
			p.Out.Header.Set("Authorization", to.authority)
		},
	}
}

// proxyChat has the hub's chat service answer a request, and returns the status. When it returns an error nothing is written.
func (h *Handler) proxyChat(w http.ResponseWriter, r *http.Request, hubName string) (status int, err error) {
	t, err := h.authorizedTenant(r)
	if err != nil {
		return 0, err
	}
	to, err := h.chatTarget(r, t, hubName)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), chatDestinationKey{}, to), chatTimeout)
	defer cancel()
	answer := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	proxy := *h.chat
	proxy.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, cause error) {
		h.log.Warn("chat service not reached", "hub", hubName, "error", cause)
		err = &problem{status: http.StatusServiceUnavailable, message: "the chat service cannot be reached now; try again"}
	}
	proxy.ServeHTTP(answer, r.WithContext(ctx))
	return answer.status, err
}

// chatTarget returns where a request about the chat of a hub is passed on to. The token is for the path of this very request.
func (h *Handler) chatTarget(r *http.Request, t *tenant.Tenant, hubName string) (to chatDestination, err error) {
	plain, err := url.PathUnescape(hubName)
	if err != nil {
		return to, badRequest("path", "the path has an invalid escape: %s", err)
	}
	name, err := webpubsub.ParseHub(plain)
	if err != nil {
		return to, badRequest("hub", "%s", err)
	}
	address := t.Hub(name).Chat
	if address == "" {
		return to, notFound("this hub has no chat", "hub")
	}
	if to.base, err = url.Parse(address); err != nil {
		return to, err
	}
	to.from = (&request{http: r}).endpoint()
	signed, err := token.Sign(t.Keys.Primary, to.base.Scheme+"://"+to.base.Host+r.URL.EscapedPath(), chatTokenLife, token.Options{})
	to.authority = "Bearer " + signed
	return to, err
}

// statusRecorder is a ResponseWriter that records the status.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController access to deadlines.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
