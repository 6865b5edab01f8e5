// Package front is where clients come in: it answers their handshakes, and lets those in who may, as long as there is
// room. A client that comes back gets its connection again, wherever that is.
//
// What a client then asks for is package session's.
package front

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// TracePath is where operators watch what happens (service-limits-and-ops.md section 6).
const TracePath = "/livetrace"

// Deps is what handshakes need.
type Deps struct {
	Tenants    tenant.Source
	Node       *node.Node
	Conns      *hub.Registry
	Upstream   *upstream.Upstream
	UserGroups *asrs.UserGroups
	Admission  *Admission
	Clients    *session.Clients
	Audit      *audit.Log
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	Admit      func() bool // reports whether the node has room for a newcomer

	AcceptedHosts  []string             // that a token's audience may name; none: any
	TrustedProxies httpx.TrustedProxies // that stand between clients and the node
	Sockets        *sync.WaitGroup      // counts the goroutines that have a socket in their hands
}

// Front answers handshakes. Its methods are safe for concurrent use.
type Front struct {
	Deps
	metrics  metrics
	refusals *ratelimit.Limiter // of lines about clients without a right, by tenant and status

	draining atomic.Bool
	closed   atomic.Bool     // see Close
	watching context.Context // ends when the node begins to drain, which does not wait for those who only watch
	stop     context.CancelFunc
}

// New returns a front that lets clients in.
func New(d Deps) *Front {
	f := &Front{Deps: d, metrics: newMetrics(d.Metrics, d.Admission.Utilization), refusals: ratelimit.New(1, 20)}
	f.watching, f.stop = context.WithCancel(context.Background())
	return f
}

// Drain lets nobody in any more, and ends the sockets of those who only watch.
func (f *Front) Drain() {
	f.draining.Store(true)
	f.stop()
}

// Draining reports whether nobody is let in any more.
func (f *Front) Draining() bool { return f.draining.Load() }

// Close lets nobody in until Open is called.
func (f *Front) Close() { f.closed.Store(true) }

// Open lets clients in again after Close.
func (f *Front) Open() { f.closed.Store(false) }

// Closed reports whether Close has been called last.
func (f *Front) Closed() bool { return f.closed.Load() }

// ServeClient answers a handshake (client-json.md sections 1 and 8.2).
func (f *Front) ServeClient(w http.ResponseWriter, r *http.Request) {
	if !socket.CheckHandshake(w, r) {
		f.metrics.refused.WithLabelValues("400").Inc()
		f.metrics.answered.WithLabelValues(clientType(r.URL.Path), "400").Inc()
		return
	}
	h := handshake{front: f, w: w, r: r}
	if refused := h.connect(); refused != nil {
		f.refuse(w, r, refused)
		return
	}
	f.metrics.answered.WithLabelValues(clientType(r.URL.Path), "101").Inc()
}

// ServeUnknown answers clients of protocols that are not served.
func (f *Front) ServeUnknown(w http.ResponseWriter, r *http.Request) {
	f.metrics.answered.WithLabelValues(clientType(r.URL.Path), strconv.Itoa(http.StatusNotFound)).Inc()
	http.Error(w, "only WebSocket clients at /client/hubs/{hub} are served; MQTT and Socket.IO are not", http.StatusNotFound)
}

// clientType is the kind of client that a path is for, as the cloud service's metrics call it.
func clientType(path string) string {
	switch {
	case strings.HasPrefix(path, "/clients/mqtt/"):
		return "MQTT"
	case strings.HasPrefix(path, "/clients/socketio/"):
		return "SocketIO"
	}
	return "WebPubSub"
}
