package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

// problem returns code and target of an error answer, whose form it checks (rest-api.md section 1.4).
func problem(t testing.TB, w *httptest.ResponseRecorder) (code, target string) {
	t.Helper()
	var body struct {
		Code, Message, Target string
		Details               []any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("error body %q: %v", w.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %q, want application/json", got)
	}
	if body.Message == "" || body.Details == nil {
		t.Errorf("got error body %s, want a message and details", w.Body)
	}
	return body.Code, body.Target
}

// checklist:R26 R27 R28 R05 R06 R14 R04
func TestBadRequests(t *testing.T) {
	long := strings.Repeat("g", 1025)
	plain, asJSON := map[string]string{"Content-Type": textType}, map[string]string{"Content-Type": jsonType}
	for _, tt := range []struct {
		name   string
		q      request // path below /api/hubs/
		status int
		target string
	}{
		{"hub with a bad first character", request{method: "POST", path: "1chat/:send"}, 400, "hub"},
		{"hub that is too long", request{method: "POST", path: strings.Repeat("h", 129) + "/:send"}, 400, "hub"},
		{"hub with a slash", request{method: "POST", path: "a%2Fb/:send"}, 400, "hub"},
		{"empty hub", request{method: "POST", path: "/:send"}, 400, "hub"},

		{"unknown version", request{method: "POST", path: "chat/:send?api-version=2099-01-01"}, 400, "api-version"},
		{"empty version", request{method: "POST", path: "chat/:send?api-version="}, 400, "api-version"},
		{"repeated version", request{method: "POST", path: "chat/:send?api-version=2024-12-01&api-version=2024-12-01"}, 400, "api-version"},
		{"query not UTF-8", request{method: "POST", path: "chat/:closeConnections?reason=%ff"}, 400, "query"},

		{"empty group", request{method: "HEAD", path: "chat/groups/"}, 400, ""},
		{"blank group", request{method: "PUT", path: "chat/groups/%20%09/connections/c"}, 400, "group"},
		{"long group", request{method: "POST", path: "chat/groups/" + long + "/:send"}, 400, "group"},
		{"group not UTF-8", request{method: "POST", path: "chat/groups/%ff/:send"}, 400, "group"},
		{"empty user", request{method: "POST", path: "chat/users//:send"}, 400, "userId"},
		{"user not UTF-8", request{method: "POST", path: "chat/users/%c3/:send"}, 400, "userId"},
		{"empty connection", request{method: "DELETE", path: "chat/connections/"}, 400, "connectionId"},

		{"filter", request{method: "POST", path: "chat/:send?filter=userId%20eq"}, 400, "filter"},
		{"repeated filter", request{method: "POST", path: "chat/:send?filter=true&filter=true"}, 400, "filter"},
		{"filter of a close", request{method: "POST", path: "chat/:closeConnections?filter=userId%20eq"}, 400, "filter"},
		{"repeated reason", request{method: "POST", path: "chat/:closeConnections?reason=a&reason=b"}, 400, "reason"},
		{"ttl over 300", request{method: "POST", path: "chat/:send?messageTtlSeconds=301"}, 400, "messageTtlSeconds"},
		{"ttl below 0", request{method: "POST", path: "chat/:send?messageTtlSeconds=-1"}, 400, "messageTtlSeconds"},
		{"ttl not whole", request{method: "POST", path: "chat/:send?messageTtlSeconds=1.5"}, 400, "messageTtlSeconds"},
		{"ttl empty", request{method: "POST", path: "chat/:send?messageTtlSeconds="}, 400, "messageTtlSeconds"},
		{"ttl huge", request{method: "POST", path: "chat/:send?messageTtlSeconds=99999999999999999999"}, 400, "messageTtlSeconds"},

		{"broken JSON", request{method: "POST", path: "chat/:send", header: asJSON, body: `{"a":`}, 400, "body"},
		{"two JSON values", request{method: "POST", path: "chat/:send", header: asJSON, body: `{} {}`}, 400, "body"},
		{"empty JSON", request{method: "POST", path: "chat/:send", header: asJSON}, 400, "body"},
		{"JSON not UTF-8", request{method: "POST", path: "chat/:send", header: asJSON, body: "\"\xff\""}, 400, "body"},
		{"text not UTF-8", request{method: "POST", path: "chat/:send", header: plain, body: "\xff"}, 400, "body"},
		{"body too large", request{method: "POST", path: "chat/:send", header: plain, body: strings.Repeat("x", 1<<20+1)}, 400, "body"},
		{"content type", request{method: "POST", path: "chat/:send", header: map[string]string{"Content-Type": "text/html"}, body: "x"}, 415, "Content-Type"},
		{"malformed content type", request{method: "POST", path: "chat/:send", header: map[string]string{"Content-Type": ";;"}, body: "x"}, 415, "Content-Type"},
		{"charset", request{method: "POST", path: "chat/:send", header: map[string]string{"Content-Type": "text/plain; charset=klingon"}, body: "x"}, 415, "Content-Type"},
		{"charset without text", request{method: "POST", path: "chat/:send", header: map[string]string{"Content-Type": "text/plain; charset=iso-2022-kr"}, body: "x"}, 415, "Content-Type"},

		{"metadata value too long", request{method: "POST", path: "chat/:send", header: map[string]string{"X-WebPubSub-Metadata-a": strings.Repeat("v", 1025)}}, 400, "X-WebPubSub-Metadata-a"},
		{"metadata not ASCII", request{method: "POST", path: "chat/:send", header: map[string]string{"X-WebPubSub-Metadata-a": "é"}}, 400, "X-WebPubSub-Metadata-a"},
		{"metadata key too long", request{method: "POST", path: "chat/:send", header: map[string]string{"X-WebPubSub-Metadata-" + strings.Repeat("k", 257): ""}}, 400, "X-WebPubSub-Metadata-" + strings.Repeat("k", 257)},
		{"metadata with a control character", request{method: "POST", path: "chat/:send", header: map[string]string{"X-WebPubSub-Metadata-a": "\x01"}}, 400, "X-WebPubSub-Metadata-a"},
		{"metadata without key", request{method: "POST", path: "chat/:send", header: map[string]string{"X-WebPubSub-Metadata-": "v"}}, 400, "X-WebPubSub-Metadata-"},

		{"groups without body", request{method: "POST", path: "chat/:addToGroups"}, 400, "body"},
		{"groups null", request{method: "POST", path: "chat/:addToGroups", body: `{"groups":null}`}, 400, "body"},
		{"groups not an array", request{method: "POST", path: "chat/:removeFromGroups", body: `{"groups":"a"}`}, 400, "body"},
		{"groups with a null", request{method: "POST", path: "chat/:removeFromGroups", body: `{"groups":["a",null]}`}, 400, "groups[1]"},
		{"groups with bad filter", request{method: "POST", path: "chat/:addToGroups", body: `{"groups":["a"],"filter":"userId eq"}`}, 400, "filter"},
		{"groups as text", request{method: "POST", path: "chat/:addToGroups", header: plain, body: `{"groups":["a"]}`}, 415, "Content-Type"},

		{"page of 0", request{method: "GET", path: "chat/groups/g/connections?maxpagesize=0"}, 400, "maxpagesize"},
		{"page of 201", request{method: "GET", path: "chat/groups/g/connections?maxpagesize=201"}, 400, "maxpagesize"},
		{"top of 0", request{method: "GET", path: "chat/groups/g/connections?top=0"}, 400, "top"},
		{"top of 2^31", request{method: "GET", path: "chat/groups/g/connections?top=2147483648"}, 400, "top"},
		{"foreign continuation", request{method: "GET", path: "chat/groups/g/connections?continuationToken=abc"}, 400, "continuationToken"},
		{"empty continuation", request{method: "GET", path: "chat/groups/g/connections?continuationToken="}, 400, "continuationToken"},
		{"continuation of nothing", request{method: "GET", path: "chat/groups/g/connections?continuationToken=YWZ0ZXI6"}, 400, "continuationToken"},

		{"unknown permission", request{method: "PUT", path: "chat/permissions/fly/connections/c?targetName=g"}, 400, "permission"},
		{"no target", request{method: "PUT", path: "chat/permissions/sendToGroup/connections/c"}, 400, "targetName"},
		{"empty target", request{method: "DELETE", path: "chat/permissions/sendToGroup/connections/c?targetName="}, 400, "targetName"},

		{"minutes 0", request{method: "POST", path: "chat/:generateToken?minutesToExpire=0"}, 400, "minutesToExpire"},
		{"minutes over the cap", request{method: "POST", path: "chat/:generateToken?minutesToExpire=999999999"}, 400, "minutesToExpire"},
		{"client type", request{method: "POST", path: "chat/:generateToken?clientType=fax"}, 400, "clientType"},
		{"token for a blank group", request{method: "POST", path: "chat/:generateToken?group=%20"}, 400, "group"},

		{"invoke", request{method: "POST", path: "chat/:invoke"}, 404, ""},
		{"deeper", request{method: "POST", path: "chat/groups/g/x/:send"}, 404, ""},
		{"trailing slash", request{method: "POST", path: "chat/:send/"}, 404, ""},
		{"hub alone", request{method: "GET", path: "chat"}, 404, ""},
		{"method", request{method: "GET", path: "chat/:send"}, 405, ""},
		{"unknown host", request{method: "POST", path: "chat/:send", host: "nobody.example"}, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &recorder{}
			tt.q.path = "/api/hubs/" + tt.q.path
			w := tt.q.do(t, newHandler(n, rest.Options{}))
			if w.Code != tt.status || len(n.calls) > 0 {
				t.Errorf("got status %d and calls %q, want %d and none", w.Code, n.calls, tt.status)
			}
			if tt.q.method == "HEAD" {
				return
			}
			if _, target := problem(t, w); target != tt.target {
				t.Errorf("got target %q in %s, want %q", target, w.Body, tt.target)
			}
			if tt.status == 405 && w.Header().Get("Allow") != "POST" {
				t.Errorf("got Allow %q, want POST", w.Header().Get("Allow"))
			}
		})
	}
}

// checklist:A03
func TestAuthentication(t *testing.T) {
	const path = "/api/hubs/chat/groups/a%2Fb/:send?api-version=2024-12-01"
	const url = "http://localhost:8080" + path
	for _, tt := range []struct {
		name   string
		token  string
		host   string
		status int
	}{
		{"primary key", sign(t, acmeKey, url, time.Minute), "", 202},
		{"secondary key", sign(t, acmeOldKey, url, time.Minute), "", 202},
		{"audience without query", sign(t, acmeKey, "http://localhost:8080/api/hubs/chat/groups/a%2Fb/:send", time.Minute), "", 202},
		{"audience of another host", sign(t, acmeKey, "https://proxy.example/api/hubs/chat/groups/a%2Fb/:send", time.Minute), "", 202},
		{"no token", "none", "", 401},
		{"not a token", "abc", "", 401},
		{"expired", sign(t, acmeKey, url, -10*time.Minute), "", 401},
		{"another operation", sign(t, acmeKey, "http://localhost:8080/api/hubs/chat/:send", time.Minute), "", 401},
		{"another hub", sign(t, acmeKey, "http://localhost:8080/api/hubs/other/groups/a%2Fb/:send", time.Minute), "", 401},
		{"a client's token", sign(t, acmeKey, "http://localhost:8080/client/hubs/chat", time.Minute), "", 401},
		{"another tenant's key", sign(t, otherKey, url, time.Minute), "", 401},
		{"our key at another tenant", sign(t, acmeKey, "http://other.example"+path, time.Minute), "other.example", 401},
		{"the other tenant's key", sign(t, otherKey, "http://other.example"+path, time.Minute), "other.example", 202},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &recorder{}
			w := request{method: "POST", path: path, token: tt.token, host: tt.host}.do(t, newHandler(n, rest.Options{}))
			if w.Code != tt.status || (len(n.calls) == 1) != (tt.status == 202) {
				t.Errorf("got %d and calls %q, want %d", w.Code, n.calls, tt.status)
			}
			if tt.status == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("got WWW-Authenticate %q, want Bearer", w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

// checklist:A03
func TestAuthenticationByOtherSchemes(t *testing.T) {
	for _, header := range []string{"", "Bearer", "Basic YTpi", "bearer-ish x"} {
		w := request{method: "POST", path: "/api/hubs/chat/:send", token: "none", header: map[string]string{"Authorization": header}}.
			do(t, newHandler(&recorder{}, rest.Options{}))
		if w.Code != 401 {
			t.Errorf("Authorization %q: got %d, want 401", header, w.Code)
		}
	}
}

// checklist:A03 O09
func TestAcceptedHosts(t *testing.T) {
	h := newHandler(&recorder{}, rest.Options{AcceptedHosts: []string{"https://chat.example.com"}})
	for endpoint, want := range map[string]int{"https://chat.example.com": 202, "https://CHAT.example.com:443": 202, "http://localhost:8080": 401} {
		w := request{method: "POST", path: "/api/hubs/chat/:send", token: sign(t, acmeKey, endpoint+"/api/hubs/chat/:send", time.Minute)}.do(t, h)
		if w.Code != want {
			t.Errorf("audience at %s: got %d, want %d", endpoint, w.Code, want)
		}
	}
}

// Each tenant has its own hub of a name, and its own limit.
func TestTenants(t *testing.T) {
	for _, tt := range []struct {
		body   string
		status int
		call   string
	}{
		{"x", 202, `[send other/chat hub "" group="" binary "x" ttl=0s]`},
		{strings.Repeat("x", 1025), 400, "[]"},
	} {
		n := &recorder{}
		w := request{method: "POST", path: "/api/hubs/chat/:send", host: "other.example", body: tt.body,
			token: sign(t, otherKey, "http://other.example/api/hubs/chat/:send", time.Minute)}.do(t, newHandler(n, rest.Options{}))
		if got := fmt.Sprint(n.calls); w.Code != tt.status || got != tt.call {
			t.Errorf("%d bytes: got %d and %s, want %d and %s", len(tt.body), w.Code, got, tt.status, tt.call)
		}
	}
}
