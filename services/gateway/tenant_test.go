package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestTenantsByHost has the same hub, group and user at two tenants of one gateway.
func TestTenantsByHost(t *testing.T) {
	keys := map[string]string{"one.test": "the key of tenant one, long enough.", "two.test": "the key of tenant two, long enough."}
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "one", Hosts: []string{"one.test"}, Keys: tenant.Keys{Primary: keys["one.test"]}},
		tenant.Tenant{Name: "two", Hosts: []string{"two.test"}, Keys: tenant.Keys{Primary: keys["two.test"]}})
	must(t, err)
	s := startWith(t, setup{}, tenants)
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.url[len("http://"):])
	}}}
	t.Cleanup(web.CloseIdleConnections)
	dial := func(host, key string) (*wsclient.Client, error) {
		raw, err := token.Sign(key, "http://"+host+"/client/hubs/chat", time.Hour,
			token.Options{Subject: "ana", Roles: all, Groups: []string{"room"}})
		must(t, err)
		c, err := wsclient.Dial(within(t), "http://"+host+"/client/hubs/chat?access_token="+raw,
			wsclient.Options{HTTP: web, Subprotocols: []string{protocol.NameReliableJSON}})
		if err == nil {
			t.Cleanup(c.Drop)
		}
		return c, err
	}
	clients := map[string]*wsclient.Client{}
	for host, key := range keys {
		clients[host], err = dial(host, key)
		must(t, err)
	}
	for _, host := range []string{"one.test", "two.test"} {
		rest := dataplane.New("http://"+host, keys[host], "chat", dataplane.Options{HTTP: web})
		must(t, rest.SendToAll(within(t), text(host)))
		must(t, rest.SendToUser(within(t), "ana", text(host)))
		must(t, clients[host].SendToGroup(within(t), "room", text(host), wsclient.SendOptions{}))
		for range 3 {
			wantMessage(t, clients[host], host)
		}
	}
	var refused *wsclient.HandshakeError
	if _, err := dial("two.test", keys["one.test"]); !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("got %v with the other tenant's key, want 401", err)
	}
	if _, err := dial("three.test", keys["one.test"]); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("got %v at a host of no tenant, want 404", err)
	}
	// A connection of tenant one cannot be recovered at tenant two.
	info := clients["one.test"].Info()
	address := "http://two.test/client/hubs/chat?awps_connection_id=" + info.ConnectionID + "&awps_reconnection_token=" + info.ReconnectionToken
	if _, err := wsclient.Dial(within(t), address, wsclient.Options{HTTP: web, Subprotocols: []string{protocol.NameReliableJSON}}); !isClosed(err, 1008) {
		t.Errorf("got %v, want a close with 1008", err)
	}
	must(t, clients["one.test"].Ping(within(t)))
}
