package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/redisbus"
)

// ancestorApp is an application of the ancestor protocol: users name themselves in the query, and what it hears is noted.
type ancestorApp struct {
	*httptest.Server
	mu    sync.Mutex
	heard []string
}

func newAncestorApp(t *testing.T) *ancestorApp {
	a := &ancestorApp{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		a.mu.Lock()
		a.heard = append(a.heard, fmt.Sprintf("%s %s/%s %s %s %q", r.URL.Path, h.Get("x-asrs-category"), h.Get("x-asrs-event"), h.Get("x-asrs-hub"), h.Get("x-asrs-user-id"), body))
		a.mu.Unlock()
		query, _ := url.ParseQuery(h.Get("x-asrs-client-query"))
		switch h.Get("x-asrs-event") {
		case "connect":
			if query.Get("name") == "eve" {
				http.Error(w, "not you", http.StatusForbidden)
				return
			}
			if offered := h.Get("Sec-WebSocket-Protocol"); offered != "" {
				w.Header().Set("Sec-WebSocket-Protocol", strings.TrimSpace(strings.Split(offered, ",")[0]))
			}
			if name := query.Get("name"); name != "" {
				w.Header().Set("x-asrs-user-id", name)
				w.Header().Add("x-asrs-connection-group", "all of "+name)
				_, _ = io.WriteString(w, "welcome "+name)
			}
		case "message":
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = fmt.Fprintf(w, "got %s", body)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *ancestorApp) setup() setup {
	return setup{tenant: tenant.Tenant{Upstream: []tenant.Template{
		{URLTemplate: a.URL + "/first/{hub}/{category}/{event}", HubPattern: "other, Demo ,_default", CategoryPattern: "connections"},
		{URLTemplate: a.URL + "/second/{event}", HubPattern: "demo", EventPattern: "message"},
	}}}
}

func (a *ancestorApp) wantHeard(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, strings.Join(want, "\n"), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Equal(a.heard, want)
	})
}

// ancestor calls the ancestor's REST API and returns the status.
func (s *server) ancestor(method, path, body string) int {
	s.t.Helper()
	withoutPort := "http://127.0.0.1" // the audience of the protocol's helper
	route, _, _ := strings.Cut(path, "?")
	raw, err := token.Sign(key, withoutPort+route, time.Minute, token.Options{})
	must(s.t, err)
	r, err := http.NewRequestWithContext(within(s.t), method, s.url+path, strings.NewReader(body))
	must(s.t, err)
	r.Header.Set("Authorization", "Bearer "+raw)
	r.Header.Set("Content-Type", "text/plain")
	resp, err := httpClient.Do(r)
	must(s.t, err)
	must(s.t, resp.Body.Close())
	return resp.StatusCode
}

func (s *server) ancestorDial(path string, protocols ...string) (*wsclient.Client, error) {
	s.t.Helper()
	c, err := wsclient.Dial(within(s.t), s.url+path, wsclient.Options{Subprotocols: protocols})
	if err == nil {
		s.t.Cleanup(c.Drop)
	}
	return c, err
}

// status is that with which a handshake was refused.
func status(err error) int {
	var refused *wsclient.HandshakeError
	if errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}

// checklist:E15
func TestAncestorsEvents(t *testing.T) {
	t.Parallel()
	a := newAncestorApp(t)
	s := start(t, a.setup())
	c, err := s.ancestorDial("/ws/client/hubs/Demo/?name=ana&webpubsub_mode=nonsense", "protocol1", "protocol2")
	must(t, err)
	if got := c.Subprotocol(); got != "protocol1" {
		t.Errorf("got subprotocol %q, want the one chosen", got)
	}
	wantMessage(t, c, "welcome ana")
	must(t, c.Send(within(t), text("hello")))
	wantMessage(t, c, "got hello")
	must(t, c.Close(1000, ""))
	a.wantHeard(t, `/first/demo/connections/connect connections/connect demo  ""`,
		`/second/message messages/message demo ana "hello"`,
		`/first/demo/connections/disconnect connections/disconnect demo ana ""`)
}

// checklist:E15
func TestAncestorsHandshakes(t *testing.T) {
	t.Parallel()
	a := newAncestorApp(t)
	s := start(t, a.setup())
	for _, path := range []string{"/ws/client?name=a", "/ws/client/?name=a", "/ws/client?hub=demo&name=a", "/ws/client/hubs/demo?name=a", "/ws/client/hubs/other/?name=a"} {
		c, err := s.ancestorDial(path)
		must(t, err)
		wantMessage(t, c, "welcome a")
	}
	signed := func(audience string) string {
		raw, err := token.Sign(key, audience, time.Hour, token.Options{Subject: "tim"})
		must(t, err)
		return "?access_token=" + raw
	}
	c, err := s.ancestorDial("/ws/client/hubs/demo/" + signed("http://127.0.0.1/ws/client/hubs/demo"))
	must(t, err) // a user by token, of whom the application says nothing
	must(t, dataplane.New(s.url, key, "demo", dataplane.Options{}).SendToUser(within(t), "tim", text("for tim")))
	wantMessage(t, c, "for tim")
	for path, want := range map[string]int{
		"/ws/client/hubs/demo/?name=eve":  403, // as the application said
		"/ws/client/hubs/demo/":           401, // nobody
		"/ws/client/hubs/unknown/?name=a": 404,
		"/ws/client/hubs/9/?name=a":       400,
		"/ws/client/else":                 404,
		"/ws/client/hubs/demo/" + signed("http://127.0.0.1/client/hubs/demo"): 401, // a token for the newer protocol
		"/client/hubs/_default": 400,
	} {
		if _, err := s.ancestorDial(path); status(err) != want {
			t.Errorf("%.60s: got %v, want status %d", path, err, want)
		}
	}
	if _, err := start(t, setup{}).ancestorDial("/ws/client/hubs/demo/?name=a"); status(err) != 404 {
		t.Errorf("without templates: got %v, want status 404", err)
	}
}

// The operations of both generations, from the node that does not hold the connection.
//
// checklist:E15
func TestAncestorsREST(t *testing.T) {
	t.Parallel()
	a := newAncestorApp(t)
	redis := testkit.Redis(t)
	on := func() *server {
		s := a.setup()
		s.bus = redisBus(t, redis.URL)
		s.config.Redis = redisbus.Config{URL: redis.URL, Prefix: "test"}
		return start(t, s)
	}
	s, other := on(), on()
	for _, base := range []string{"/ws/api/v1/hubs/demo/", "/ws/api/hubs/demo/", "/ws/api/"} {
		hub := "demo"
		if base == "/ws/api/" {
			hub = "_default"
		}
		t.Run(base, func(t *testing.T) {
			ana, err := s.ancestorDial("/ws/client?name=ana&hub=" + strings.TrimPrefix(hub, "_default"))
			must(t, err)
			wantMessage(t, ana, "welcome ana")
			want := func(status int, method, path string) {
				t.Helper()
				if got := other.ancestor(method, base+path, path); got != status {
					t.Errorf("%s %s%s: got %d, want %d", method, base, path, got, status)
				}
			}
			said := func(path string) {
				t.Helper()
				want(202, "POST", path)
				wantMessage(t, ana, path)
			}
			said("messages")
			if base != "/ws/api/" {
				said("")
			}
			said("users/ana")
			said("users/ana/messages")
			said("groups/all%20of%20ana")
			said("groups/all%20of%20ana/messages")
			want(200, "HEAD", "users/ana")
			want(404, "HEAD", "users/ben")
			want(200, "HEAD", "groups/all%20of%20ana")
			want(404, "HEAD", "groups/empty")
			want(404, "HEAD", "connections/unknown")
			want(404, "PUT", "groups/g/connections/unknown")
			want(404, "POST", "rooms/x")
			want(405, "PATCH", "messages")

			// A user who is added is in the group with later connections too, and out of it with none.
			want(200, "PUT", "groups/later/users/ben")
			want(200, "PUT", "users/ana/groups/later")
			said("groups/later")
			ben, err := other.ancestorDial("/ws/client?name=ben&hub=" + strings.TrimPrefix(hub, "_default"))
			must(t, err)
			wantMessage(t, ben, "welcome ben")
			want(202, "POST", "groups/later")
			wantMessage(t, ben, "groups/later")
			wantMessage(t, ana, "groups/later")
			want(200, "DELETE", "groups/later/users/ben")
			want(200, "DELETE", "users/ana/groups/later")
			want(404, "HEAD", "groups/later")
			must(t, ben.Close(1000, ""))
			again, err := s.ancestorDial("/ws/client?name=ben&hub=" + strings.TrimPrefix(hub, "_default"))
			must(t, err)
			wantMessage(t, again, "welcome ben")
			want(404, "HEAD", "groups/later")
			must(t, again.Close(1000, ""))
			must(t, ana.Close(1000, ""))
			eventually(t, "nobody is left", func() bool { return s.admission.Connections()+other.admission.Connections() == 0 })
		})
	}
	if got := other.ancestor("POST", "/ws/api/v1/hubs/unknown/", "x"); got != 404 {
		t.Errorf("a hub without templates: got %d, want 404", got)
	}
	r, err := http.NewRequestWithContext(within(t), "POST", s.url+"/ws/api/v1/hubs/demo/", strings.NewReader("x"))
	must(t, err)
	resp, err := httpClient.Do(r)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != 401 {
		t.Errorf("without a token: got %d, want 401", resp.StatusCode)
	}
}

// What else can be done to a connection by its id, which its application knows from the events.
//
// checklist:E15
func TestAncestorsConnections(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-asrs-user-id", "ana")
		if r.Header.Get("x-asrs-event") == "connect" {
			ids <- r.Header.Get("x-asrs-connection-id")
		}
	}))
	t.Cleanup(app.Close)
	s := start(t, setup{tenant: tenant.Tenant{Upstream: []tenant.Template{{URLTemplate: app.URL}}}})
	c, err := s.ancestorDial("/ws/client/hubs/demo")
	must(t, err)
	at := "/ws/api/v1/hubs/demo/connections/" + <-ids
	for _, tc := range []struct {
		status       int
		method, path string
	}{
		{200, "HEAD", at}, {202, "POST", at}, {200, "PUT", strings.Replace(at, "connections/", "groups/g/connections/", 1)},
		{202, "POST", "/ws/api/v1/hubs/demo/groups/g"}, {200, "DELETE", strings.Replace(at, "connections/", "groups/g/connections/", 1)},
		{404, "HEAD", "/ws/api/v1/hubs/demo/groups/g"}, {200, "DELETE", at + "?reason=enough"},
	} {
		if got := s.ancestor(tc.method, tc.path, tc.path); got != tc.status {
			t.Errorf("%s %s: got %d, want %d", tc.method, tc.path, got, tc.status)
		}
	}
	wantMessage(t, c, at)
	wantMessage(t, c, "/ws/api/v1/hubs/demo/groups/g")
	if e := wantClose(t, c, 1000); e.Reason != "enough" {
		t.Errorf("got reason %q, want the caller's", e.Reason)
	}
}
