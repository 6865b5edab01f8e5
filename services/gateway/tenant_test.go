package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestTenantsByHost has the same hub, group and user at two tenants of one gateway.
func TestTenantsByHost(t *testing.T) {
	t.Parallel()
	keys := map[string]string{"one.test": "the key of tenant one, long enough.", "two.test": "the key of tenant two, long enough."}
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "one", Hosts: []string{"one.test"}, Keys: tenant.Keys{Primary: keys["one.test"]}},
		tenant.Tenant{Name: "two", Hosts: []string{"two.test"}, Keys: tenant.Keys{Primary: keys["two.test"]}})
	must(t, err)
	s := startWith(t, setup{}, tenants)
	toGateway := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.url[len("http://"):])
	}
	web := &http.Client{Transport: &http.Transport{DialContext: toGateway}}
	t.Cleanup(web.CloseIdleConnections)
	dial := func(host, key string) (*wsclient.Client, error) {
		raw, err := token.Sign(key, "http://"+host+"/client/hubs/chat", time.Hour,
			token.Options{Subject: "ana", Roles: all, Groups: []string{"room"}})
		must(t, err)
		c, err := wsclient.Dial(within(t), "http://"+host+"/client/hubs/chat?access_token="+raw,
			wsclient.Options{Dial: toGateway, Subprotocols: []string{protocol.NameReliableJSON}})
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
	if _, err := wsclient.Dial(within(t), address, wsclient.Options{Dial: toGateway, Subprotocols: []string{protocol.NameReliableJSON}}); !isClosed(err, 1008) {
		t.Errorf("got %v, want a close with 1008", err)
	}
	must(t, clients["one.test"].Ping(within(t)))
}

// TestOneTenantCannotTakeAllHandshakes has the event handler of one tenant hang.
func TestOneTenantCannotTakeAllHandshakes(t *testing.T) {
	t.Parallel()
	var asked, refused atomic.Int32
	hang := make(chan struct{})
	handler := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-hang
	}))
	t.Cleanup(handler.Close)
	hubs := []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{
		{URL: handler.URL, SystemEvents: []string{"connect"}, SkipValidation: true}}}}
	tenants, err := tenant.NewStatic(
		tenant.Tenant{Name: "one", Hosts: []string{"127.0.0.1"}, Keys: tenant.Keys{Primary: key}, Hubs: hubs},
		tenant.Tenant{Name: "two", Hosts: []string{"localhost"}, Keys: tenant.Keys{Primary: key}})
	must(t, err)
	s := startWith(t, setup{config: Config{Handshakes: 4}}, tenants)
	var hanging sync.WaitGroup
	for range 4 {
		hanging.Go(func() {
			c, err := wsclient.Dial(within(t), s.clientURL("ana", nil), wsclient.Options{})
			if err != nil {
				refused.Add(1)
				return
			}
			c.Drop()
		})
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return asked.Load()+refused.Load() == 4 }, "handshakes wait for the handler")
	other := strings.Replace(s.clientURL("ben", nil), "127.0.0.1", "localhost", 1)
	c, err := wsclient.Dial(within(t), other, wsclient.Options{})
	if err != nil {
		t.Errorf("got %v for the other tenant's client, want a connection", err)
	} else {
		c.Drop()
	}
	close(hang)
	hanging.Wait()
	if got := refused.Load(); got != 1 {
		t.Errorf("got %d handshakes refused, want 1", got)
	}
}
