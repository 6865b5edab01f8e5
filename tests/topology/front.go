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

	"github.com/chatr-dev/chatr/pkg/gatewaypaths"
)

// front starts a reverse proxy that routes as every front of Chatr does: the gateway's paths to the gateways in turn,
// all others to the API service. It returns its address.
func front(t testing.TB, api string, gateways ...string) string {
	toGateway, toAPI := proxy(nil, gateways...), proxy(nil, api)
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaypaths.Has(r.URL.Path) {
			toGateway.ServeHTTP(w, r)
			return
		}
		toAPI.ServeHTTP(w, r)
	}))
}

func serve(t testing.TB, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// proxy passes requests to the given addresses in turn, leaving out those that refuse connections and, where ready is
// given, those that are not.
func proxy(ready func(i int) bool, addresses ...string) http.Handler {
	var turn atomic.Uint64
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		refused := errors.New("nobody is ready")
		first := int(turn.Add(1))
		for i := range addresses {
			i = (first + i) % len(addresses)
			if ready != nil && !ready(i) {
				continue
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addresses[i])
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
