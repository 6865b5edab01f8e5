package httpx

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/obs"
)

// Reasons why nobody can connect.
const (
	ReasonDescriptors = "descriptors" // as many files and sockets are open as may be
	ReasonAccept      = "accept"      // another one
)

// How often failures are logged, and how long after one nobody is expected to be able to connect.
const (
	acceptLogInterval = 5 * time.Second
	acceptFailedFor   = 3 * time.Second
)

// Acceptance watches whether those who connect can be accepted. A server that cannot, as it has no file descriptors left, tries again
// by itself, and without this says nothing. It is safe for concurrent use.
type Acceptance struct {
	log      *slog.Logger
	failures *prometheus.CounterVec

	mu       sync.Mutex // guards the following
	failedAt time.Time
	failure  error
	loggedAt time.Time
}

// NewAcceptance returns an Acceptance, whose metrics are registered with reg.
func NewAcceptance(log *slog.Logger, reg prometheus.Registerer) *Acceptance {
	a := &Acceptance{log: log, failures: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chatr_accept_failures_total", Help: "Attempts to take the next client of a listener that failed: descriptors (no files and sockets are left) or accept."}, []string{"reason"})}
	reg.MustRegister(a.failures)
	return a
}

// Watch returns l, with its failures noted.
func (a *Acceptance) Watch(l net.Listener) net.Listener { return &watchedListener{l, a} }

type watchedListener struct {
	net.Listener
	acceptance *Acceptance
}

// Accept implements net.Listener.
func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.acceptance.failed(err)
	}
	return c, err
}

func (a *Acceptance) failed(err error) {
	a.failures.WithLabelValues(acceptReason(err)).Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failedAt, a.failure = time.Now(), err
	if time.Since(a.loggedAt) >= acceptLogInterval {
		a.loggedAt = a.failedAt
		a.log.Error("clients cannot be accepted", "reason", acceptReason(err), "error", err)
	}
}

// Ready returns nil, or an *obs.NotReady that says why nobody could connect a moment ago.
func (a *Acceptance) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure == nil || time.Since(a.failedAt) > acceptFailedFor {
		return nil
	}
	return &obs.NotReady{Reason: acceptReason(a.failure), Err: fmt.Errorf("clients cannot be accepted: %w", a.failure)}
}

func acceptReason(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return ReasonDescriptors
	}
	return ReasonAccept
}
