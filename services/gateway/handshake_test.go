package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// checklist:C03 C04 A02
func TestHandshakeIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, setup{tenant: tenant.Tenant{Hosts: []string{"127.0.0.1"}, Hubs: []tenant.Hub{{Name: "open", Anonymous: true}}}})
	sign := func(key, path string, ttl time.Duration, groups ...string) string {
		raw, err := token.Sign(key, s.url+path, ttl, token.Options{Groups: groups})
		must(t, err)
		return "access_token=" + raw
	}
	good := sign(key, "/client/hubs/chat", time.Hour)
	long, err := token.Sign(key, s.url+"/client/hubs/chat", time.Hour, token.Options{Subject: strings.Repeat("u", 1025)})
	must(t, err)
	for name, tt := range map[string]struct {
		path, query string
		status      int
		says        string
	}{
		"no token":           {"/client/hubs/chat", "", 401, "access token is needed"},
		"not a token":        {"/client/hubs/chat", "access_token=x.y.z", 401, ""},
		"foreign key":        {"/client/hubs/chat", sign(strings.Repeat("x", 40), "/client/hubs/chat", time.Hour), 401, ""},
		"expired":            {"/client/hubs/chat", sign(key, "/client/hubs/chat", -time.Hour), 401, "expired"},
		"other hub":          {"/client/hubs/chat", sign(key, "/client/hubs/other", time.Hour), 401, "Expected Audiences"},
		"token for REST":     {"/client/hubs/chat", sign(key, "/api/hubs/chat/:send", time.Hour), 401, "Expected Audiences"},
		"blank group":        {"/client/hubs/chat", sign(key, "/client/hubs/chat", time.Hour, " "), 400, "group name"},
		"long user id":       {"/client/hubs/chat", "access_token=" + long, 400, "user id has 1025 bytes"},
		"no hub":             {"/client/", good, 400, "hub name"},
		"bad hub":            {"/client/hubs/1chat", good, 400, "must start with a letter"},
		"below the hub":      {"/client/hubs/chat/x", good, 400, "hub name"},
		"unknown path":       {"/client/x", good, 404, "/client/hubs/{hub}"},
		"socket.io":          {"/clients/socketio/hubs/chat", good, 404, "not"},
		"bad mode":           {"/client/hubs/open", "webpubsub_mode=shout", 400, "sendEvent or sendToGroup"},
		"last mode counts":   {"/client/hubs/open", "webpubsub_mode=sendEvent&webpubsub_mode=shout", 400, "shout"},
		"mode without group": {"/client/hubs/open", "webpubsub_mode=SendToGroup", 400, "parameter group"},
		"bad noEcho":         {"/client/hubs/open", "webpubsub_mode=sendToGroup&group=g&noEcho=1", 400, "true or false"},
		"token on open hub":  {"/client/hubs/open", "access_token=x", 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wsclient.Dial(within(t), s.url+tt.path+"?"+tt.query, wsclient.Options{})
			var refused *wsclient.HandshakeError
			if !errors.As(err, &refused) || refused.Status != tt.status || !strings.Contains(refused.Body, tt.says) {
				t.Errorf("got %v, want status %d and a text with %q", err, tt.status, tt.says)
			}
		})
	}
	if n := s.conns.Len(); n != 0 || !s.admission.Idle() {
		t.Errorf("got %d connections after refusals, and somebody is counted: %v; want none", n, !s.admission.Idle())
	}
}

// checklist:C01
func TestHandshakeNeedsAnUpgrade(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	resp, err := httpClient.Get(s.clientURL("ana", nil))
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got status %d, want 400", resp.StatusCode)
	}
}

// checklist:C01 C02 C03 C04 C05
func TestHandshakeForms(t *testing.T) {
	t.Parallel()
	s := start(t, setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "open", Anonymous: true}}}})
	raw, err := token.Sign(key, s.url+"/client/hubs/Chat", time.Hour, token.Options{Subject: "ana"})
	must(t, err)
	query := "access_token=" + raw
	for name, address := range map[string]string{
		"path":                   "/client/hubs/chat?" + query,
		"hub in upper case":      "/client/hubs/CHAT?" + query,
		"query":                  "/client/?hub=chat&" + query,
		"query, no slash":        "/client?hub=chat&" + query,
		"anonymous":              "/client/hubs/open",
		"what is no escape":      "/client/hubs/open?room=a;b&sale=100%&group=%zz",
		"token in upper case":    "/client/hubs/chat?ACCESS_TOKEN=" + strings.TrimPrefix(query, "access_token="),
		"what sendEvent ignores": "/client/hubs/open?webpubsub_mode=&group=%20&noEcho=maybe",
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(s.url+address, protocol.NameJSON)
			if c.Info().ConnectionID == "" {
				t.Error("got no connection id")
			}
		})
	}
	t.Run("header", func(t *testing.T) {
		c, err := wsclient.Dial(within(t), s.url+"/client/hubs/chat", wsclient.Options{
			Subprotocols: []string{protocol.NameJSON}, Header: http.Header{"Authorization": {"Bearer " + raw}}})
		must(t, err)
		defer c.Drop()
		if got := c.Info().UserID; got != "ana" {
			t.Errorf("got user %q, want ana", got)
		}
	})
	t.Run("query wins over header", func(t *testing.T) {
		_, err := wsclient.Dial(within(t), s.url+"/client/hubs/chat?access_token=x", wsclient.Options{
			Header: http.Header{"Authorization": {"Bearer " + raw}}})
		if err == nil {
			t.Error("got a connection, want the token of the query to be refused")
		}
	})
}

// checklist:C06
func TestSubprotocolSelection(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, tt := range []struct {
		offered []string
		want    string
	}{
		{nil, ""},
		{[]string{"mine", protocol.NameReliableJSON, protocol.NameJSON}, protocol.NameReliableJSON},
		{[]string{protocol.NameJSON, protocol.NameReliableJSON}, protocol.NameJSON},
		{[]string{"mine", protocol.NameReliableProtobuf, protocol.NameProtobuf, protocol.NameJSON}, protocol.NameReliableProtobuf},
		{[]string{protocol.NameProtobuf, protocol.NameReliableJSON}, protocol.NameProtobuf},
		{[]string{"mine"}, ""},
	} {
		c, err := wsclient.Dial(within(t), s.clientURL("ana", nil), wsclient.Options{Subprotocols: tt.offered})
		must(t, err)
		if got := c.Subprotocol(); got != tt.want {
			t.Errorf("offered %v: got %q, want %q", tt.offered, got, tt.want)
		}
		c.Drop()
	}
}

// TestConnectionIsThereWithThe101 sends before the client has read anything.
//
// checklist:C07
func TestConnectionIsThereWithThe101(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		for range 20 {
			c := s.join(codec, "ana")
			must(t, s.rest().SendToUser(within(t), "ana", text("now")))
			wantMessage(t, c, "now")
			_ = c.Close(1000, "")
			eventually(t, "the connection is gone", func() bool { return s.conns.Len() == 0 })
		}
	})
}

// checklist:O03
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := start(t, setup{tenant: tenant.Tenant{Limits: tenant.Limits{Connections: 2}}})
	first := s.join(protocol.NameJSON, "a")
	s.join("", "b")
	_, err := s.tryDial(s.clientURL("c", nil), protocol.NameJSON)
	var refused *wsclient.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusTooManyRequests {
		t.Fatalf("got %v, want status 429", err)
	}
	must(t, first.Close(1000, ""))
	eventually(t, "there is room again", func() bool {
		_, err := s.tryDial(s.clientURL("c", nil), protocol.NameJSON)
		return err == nil
	})
}

// handler is an application's event handler.
func handler(t *testing.T, h http.HandlerFunc) tenant.Handler {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions { // it is not asked its consent: that is for a server of another test, which had this port before
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}))
	t.Cleanup(server.Close)
	return tenant.Handler{URL: server.URL + "/{event}", UserEvents: "*", SystemEvents: []string{"connect", "connected", "disconnected"}, SkipValidation: true}
}

func withHandler(h tenant.Handler) setup {
	return setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{h}}}}}
}

// checklist:E05
func TestConnectHandlerDecides(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/connect" {
				_, _ = io.WriteString(w, `{"userId":"renamed","groups":["given"],"roles":["webpubsub.sendToGroup.given"],"subprotocol":"`+codec+`"}`)
			}
		})))
		c, err := wsclient.Dial(within(t), s.clientURL("ana", all, "token"), wsclient.Options{
			Subprotocols: codecs[1:]}) // of which the first would be chosen otherwise
		must(t, err)
		defer c.Drop()
		if got := c.Info().UserID; got != "renamed" {
			t.Errorf("got user %q, want the handler's", got)
		}
		if got := c.Subprotocol(); got != codec {
			t.Errorf("got subprotocol %q, want the handler's %q", got, codec)
		}
		must(t, c.SendToGroup(within(t), "given", text("member"), wsclient.SendOptions{}))
		wantMessage(t, c, "member")
		wantFailure(t, c.SendToGroup(within(t), "other", text("x"), wsclient.SendOptions{}), protocol.Forbidden)
		if exists, _ := s.rest().GroupExists(within(t), "token"); exists {
			t.Error("the token's group exists, want the handler's instead")
		}
	})
}

// checklist:E05
func TestConnectHandlerRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, withHandler(handler(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "members only", http.StatusForbidden)
	})))
	_, err := s.tryDial(s.clientURL("ana", nil), protocol.NameJSON)
	var refused *wsclient.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(refused.Body, "members only") {
		t.Errorf("got %v, want the handler's 403 and text", err)
	}
	if !s.admission.Idle() {
		t.Error("somebody is counted after a refusal")
	}
}

// checklist:E05 C06
func TestCustomSubprotocolIsSimple(t *testing.T) {
	t.Parallel()
	s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connect" {
			_, _ = io.WriteString(w, `{"subprotocol":"mine"}`)
		}
	})))
	c := s.dial(s.clientURL("ana", nil), "mine")
	if got := c.Subprotocol(); got != "mine" {
		t.Errorf("got %q, want mine", got)
	}
	must(t, s.rest().SendToAll(within(t), text("raw")))
	wantMessage(t, c, "raw")
}
