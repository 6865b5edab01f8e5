package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/obs"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/services/gateway/internal/overload"
)

// TestANodeWithoutRoomRefusesNewcomers has less memory than it uses already.
func TestANodeWithoutRoomRefusesNewcomers(t *testing.T) {
	t.Parallel()
	tenants, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}})
	must(t, err)
	g, err := New(Config{MemoryLimit: 1 << 20}, Deps{Tenants: tenants, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry()})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Run(ctx)
	}()
	front := httptest.NewServer(g.Handler())
	t.Cleanup(func() {
		stop()
		<-done
		front.Close()
	})
	eventually(t, "the node to say that it has no room", func() bool {
		var why *obs.NotReady
		return errors.As(g.Ready(ctx), &why) && why.Reason == overload.ReasonMemory
	})
	s := &server{Gateway: g, t: t, url: front.URL}
	r, err := http.NewRequest(http.MethodGet, s.clientURL("ana", nil), nil)
	must(t, err)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	answer, err := httpClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || !answer.Close {
		t.Errorf("got %d, Retry-After %q, close %v; want 503, some seconds, and the end of the connection", answer.StatusCode, answer.Header.Get("Retry-After"), answer.Close)
	}
}
