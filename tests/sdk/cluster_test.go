package sdk_test

import (
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/services/gateway"
	"github.com/chatr-dev/chatr/tests/nodetest"
)

const clusterKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"

// The SDKs cannot tell three gateways that share a Redis, or a Redis Cluster, from one: each request and each handshake goes
// to the next of them, so that hardly any operation starts on the node that holds the connections it is about, and hardly
// any connection is taken up again where it was.
func TestOfficialSDKsAcrossGateways(t *testing.T) {
	nodetest.Install(t)
	for name, redisURL := range map[string]func() string{
		"Redis":         func() string { return testkit.Redis(t).URL },
		"Redis Cluster": func() string { return testkit.NewRedisCluster(t, false).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ports := handlerPorts(t)
			s := acrossGateways(t, redisURL(), tenant.Tenant{
				Hubs:      []tenant.Hub{hubWithHandler("handler_1_0", ports), hubWithHandler("handler_1_1", ports)},
				LiveTrace: tenant.LiveTrace{Enabled: true},
			})
			runNode(t, s, ports, "client.test.mjs", "express.test.mjs", "livetrace.test.mjs", "protobuf.test.mjs", "rest.test.mjs", "streams.test.mjs")
		})
	}
}

// acrossGateways runs three gateways on a Redis with one tenant, which has all hosts, and returns a front that leads each
// request to the next of them.
func acrossGateways(t *testing.T, redisURL string, of tenant.Tenant) service {
	t.Helper()
	of.Name, of.Hosts, of.Keys = "default", []string{"*"}, tenant.Keys{Primary: clusterKey}
	tenants, err := tenant.NewStatic(of)
	if err != nil {
		t.Fatal(err)
	}
	nodes := make([]http.Handler, 3)
	for i := range nodes {
		nodes[i] = startGateway(t, redisURL, tenants)
	}
	var turn atomic.Uint64
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nodes[turn.Add(1)%uint64(len(nodes))].ServeHTTP(w, r)
	})
	plain, secure := httptest.NewServer(next), httptest.NewTLSServer(next)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(authority, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return service{
		http:      "Endpoint=" + plain.URL + ";AccessKey=" + clusterKey + ";Version=1.0;",
		https:     "Endpoint=" + secure.URL + ";AccessKey=" + clusterKey + ";Version=1.0;",
		authority: authority,
	}
}

// startGateway runs a gateway until the end of the test and returns when it is ready. Proxies are those it believes.
func startGateway(t *testing.T, redisURL string, tenants tenant.Source, proxies ...netip.Prefix) http.Handler {
	t.Helper()
	cfg := gateway.Config{DrainTime: time.Second, TrustedProxies: httpx.TrustedProxies{Ranges: proxies}}
	cfg.Upstream.PublicURL = "127.0.0.1" // the host of the endpoints that handlers allow
	cfg.Redis.URL, cfg.Redis.Prefix = redisURL, "sdk"
	g, err := gateway.New(cfg, gateway.Deps{
		Tenants: tenants,
		Logger:  slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("gateway ended with %v", err)
		}
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return g.Ready(ctx) == nil }, "the gateway is ready")
	return g.Handler()
}

func hubWithHandler(name string, ports map[string]int) tenant.Hub {
	return tenant.Hub{Name: name, Handlers: []tenant.Handler{{
		URL:          handlerURL(ports[name]),
		UserEvents:   "*",
		SystemEvents: []string{"connect", "connected", "disconnected"},
	}}}
}
