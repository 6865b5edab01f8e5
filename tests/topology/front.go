package topology

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// front starts a reverse proxy that routes as every front of Chatr does: the gateway's paths to the gateways in turn,
// all others to the API service. It returns its address.
func front(t testing.TB, api string, gateways ...string) string {
	routes := http.NewServeMux()
	gateway := proxy(gateways...)
	for _, path := range []string{"/client", "/client/", "/clients/", "/ws/", "/livetrace", "/api/hubs/", "/api/health", "/api/v1/health"} {
		routes.Handle(path, gateway)
	}
	routes.Handle("/", proxy(api))
	server := httptest.NewServer(routes)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// proxy passes requests to the given addresses in turn, leaving out those that refuse connections.
func proxy(addresses ...string) http.Handler {
	var turn atomic.Uint64
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var refused error
		first := turn.Add(1)
		for i := range addresses {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addresses[(first+uint64(i))%uint64(len(addresses))])
			if err == nil {
				return conn, nil
			}
			refused = errors.Join(refused, err)
		}
		return nil, refused
	}
	return &httputil.ReverseProxy{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, // so that each request has its turn
		ErrorLog:  log.New(io.Discard, "", 0),                                  // what is away is away on purpose
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addresses[0]})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
	}
}
