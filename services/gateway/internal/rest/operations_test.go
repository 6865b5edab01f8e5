package rest_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

const (
	jsonType = "application/json"
	textType = "text/plain"
)

// operation is an operation of rest-api.md section 2, called with parameters of odd names.
type operation struct {
	id, method, path  string
	contentType, body string
	call              string // what the node is asked; empty: nothing
	status            int    // of success
	missing           int    // when the node finds no receiver, by an error or by its answer
}

var all = []operation{
	{"R02", "POST", "/:send?excluded=c1&excluded=c%202&filter=userId%20ne%20null&messageTtlSeconds=300", textType, "hi",
		`send acme/chat hub "" except ["c1" "c 2"] where "userId ne null" group="" text "hi" ttl=5m0s`, 202, 202},
	{"R03", "POST", "/:closeConnections?excluded=c1&reason=good%20bye", "", "",
		`close acme/chat hub "" except ["c1"] "good bye"`, 204, 204},
	{"R04", "POST", "/:generateToken?userId=ana", "", "", "", 200, 0},
	{"R05", "POST", "/:addToGroups", jsonType, `{"groups":["a","b c"],"filter":"userId eq 'ana'"}`,
		`join acme/chat hub "" where "userId eq 'ana'" ["a" "b c"]`, 200, 200},
	{"R06", "POST", "/:removeFromGroups", jsonType, `{"groups":["a"],"filter":null}`,
		`leave acme/chat hub "" ["a"]`, 200, 200},
	{"R07", "HEAD", "/connections/c%2F1", "", "", `exists acme/chat connection "c/1"`, 200, 404},
	{"R08", "DELETE", "/connections/c1?reason=r", "", "", `close acme/chat connection "c1" "r"`, 204, 204},
	{"R09", "POST", "/connections/c1/:send?messageTtlSeconds=0", jsonType, `{"a": 1}`,
		`send acme/chat connection "c1" group="" json "{\"a\": 1}" ttl=0s`, 202, 202},
	{"R10", "DELETE", "/connections/c1/groups", "", "", `leave acme/chat connection "c1" []`, 204, 204},
	{"R11", "HEAD", "/groups/a%2Fb", "", "", `exists acme/chat group "a/b"`, 200, 404},
	{"R12", "POST", "/groups/a%2Fb%20+%25%3F%C3%A9/:send", "application/octet-stream", "\x00\xff",
		`send acme/chat group "a/b +%?é" group="a/b +%?é" binary "\x00\xff" ttl=0s`, 202, 202},
	{"R13", "POST", "/groups/g/:closeConnections?excluded=c1", "", "", `close acme/chat group "g" except ["c1"] ""`, 204, 204},
	{"R14", "GET", "/groups/g/connections", "", "", `members acme/chat "g" after "" limit 201`, 200, 200},
	{"R15", "PUT", "/groups/a%2Fb/connections/c1", "", "", `join acme/chat connection "c1" ["a/b"]`, 200, 404},
	{"R16", "DELETE", "/groups/g/connections/c1", "", "", `leave acme/chat connection "c1" ["g"]`, 204, 204},
	{"R17", "HEAD", "/users/a%40b.c", "", "", `exists acme/chat user "a@b.c"`, 200, 404},
	{"R18", "POST", "/users/..%2F..%2Fana/:send?filter=", "", "",
		`send acme/chat user "../../ana" group="" binary "" ttl=0s`, 202, 202},
	{"R19", "POST", "/users/ana/:closeConnections", "", "", `close acme/chat user "ana" ""`, 204, 204},
	{"R20", "PUT", "/users/a+b/groups/g", "", "", `join acme/chat user "a+b" ["g"]`, 200, 404},
	{"R21", "DELETE", "/users/ana/groups/g%252F", "", "", `leave acme/chat user "ana" ["g%2F"]`, 204, 204},
	{"R22", "DELETE", "/users/ana/groups", "", "", `leave acme/chat user "ana" []`, 204, 204},
	{"R23", "PUT", "/permissions/SENDtogroup/connections/c1?targetName=*", "", "", `grant acme/chat "c1" sendToGroup "*"`, 200, 404},
	{"R24", "DELETE", "/permissions/joinLeaveGroup/connections/c1?targetName=a%2Fb", "", "", `revoke acme/chat "c1" joinLeaveGroup "a/b"`, 204, 204},
	{"R25", "HEAD", "/permissions/sendToGroup/connections/c1?targetName=g", "", "", `allowed acme/chat "c1" sendToGroup "g"`, 200, 404},
}

func (o operation) request() request {
	separator := "?"
	if strings.Contains(o.path, "?") {
		separator = "&"
	}
	q := request{method: o.method, path: "/api/hubs/Chat" + o.path + separator + "api-version=2024-12-01", body: o.body}
	if o.contentType != "" {
		q.header = map[string]string{"Content-Type": o.contentType}
	}
	return q
}

// checklist:R02 R03 R05 R06 R07 R08 R09 R10 R11 R12 R13 R14 R15 R16 R17 R18 R19 R20 R21 R22 R23 R24 R25 R28
func TestOperations(t *testing.T) {
	for _, o := range all {
		t.Run(o.id, func(t *testing.T) {
			n := &recorder{yes: true}
			w := o.request().do(t, newHandler(n, rest.Options{}))
			if w.Code != o.status {
				t.Errorf("got status %d %s, want %d", w.Code, w.Body, o.status)
			}
			if got := strings.Join(n.calls, "; "); got != o.call {
				t.Errorf("node was asked:\n got %s\nwant %s", got, o.call)
			}
			if hasBody := o.id == "R04" || o.id == "R14"; (w.Body.Len() > 0) != hasBody {
				t.Errorf("got body %q, want one: %v", w.Body, hasBody)
			}
			if got := w.Header().Get("Api-Supported-Versions"); !strings.HasPrefix(got, "2021-10-01, ") {
				t.Errorf("api-supported-versions: got %q, want the list", got)
			}
		})
	}
}

// checklist:R26
func TestEscapedColon(t *testing.T) {
	n := &recorder{}
	w := request{method: "POST", path: "/api/hubs/chat/groups/%3Asend/%3Asend"}.do(t, newHandler(n, rest.Options{}))
	want := `send acme/chat group ":send" group=":send" binary "" ttl=0s`
	if got := strings.Join(n.calls, "; "); w.Code != 202 || got != want {
		t.Errorf("got %d and %s, want 202 and %s", w.Code, got, want)
	}
}

// checklist:R07 R08 R09 R10 R11 R12 R15 R16 R17 R18 R20 R21 R22 R23 R24 R25
func TestMissingTarget(t *testing.T) {
	for _, o := range all {
		if o.call == "" {
			continue
		}
		for name, n := range map[string]*recorder{"by error": {err: node.ErrNotFound}, "by answer": {}} {
			if name == "by answer" && (o.method != "HEAD" || o.missing != 404) {
				continue // such an operation has no answer but an error
			}
			w := o.request().do(t, newHandler(n, rest.Options{}))
			if w.Code != o.missing {
				t.Errorf("%s %s: got status %d, want %d", o.id, name, w.Code, o.missing)
			}
		}
	}
}

// checklist:R26
func TestNodeErrors(t *testing.T) {
	for _, tt := range []struct {
		err        error
		status     int
		code       string
		retryAfter string
	}{
		{fmt.Errorf("ask: %w", node.ErrPartial), 503, "Error.ServiceUnavailable", "1"},
		{fmt.Errorf("publish: %w", node.ErrUnavailable), 503, "Error.ServiceUnavailable", "1"},
		{webpubsub.ErrRuleLimit, 409, "Error.Conflict", ""},
		{errors.New("dial tcp 10.0.0.7: secret detail"), 500, "Error.InternalServerError", ""},
	} {
		for _, o := range all {
			if o.call == "" {
				continue
			}
			w := o.request().do(t, newHandler(&recorder{err: tt.err}, rest.Options{}))
			if w.Code != tt.status || w.Header().Get("Retry-After") != tt.retryAfter || w.Header().Get("X-Ms-Error-Code") != tt.code {
				t.Errorf("%s with %v: got %d %v, want %d", o.id, tt.err, w.Code, w.Header(), tt.status)
			}
			if o.method == http.MethodHead {
				if w.Body.Len() > 0 {
					t.Errorf("%s: got body %q, want none", o.id, w.Body)
				}
				continue
			}
			if code, _ := problem(t, w); code != tt.code {
				t.Errorf("%s with %v: got code %q, want %q", o.id, tt.err, code, tt.code)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s: the answer leaks: %s", o.id, w.Body)
			}
		}
	}
}

// checklist:R01 O07
func TestHealth(t *testing.T) {
	for _, path := range []string{"/api/health", "/api/v1/health"} {
		for _, method := range []string{"HEAD", "GET"} {
			w := request{method: method, path: path, token: "none", host: "nobody.example"}.do(t, newHandler(&recorder{}, rest.Options{}))
			if w.Code != 200 || w.Body.Len() > 0 {
				t.Errorf("%s %s: got %d %q, want 200 and no body", method, path, w.Code, w.Body)
			}
		}
	}
}

// checklist:R05 R06
func TestNoGroupsIsNothingToDo(t *testing.T) {
	for _, name := range []string{":addToGroups", ":removeFromGroups"} {
		n := &recorder{}
		w := request{method: "POST", path: "/api/hubs/chat/" + name, body: `{"groups":[]}`}.do(t, newHandler(n, rest.Options{}))
		if w.Code != 200 || len(n.calls) > 0 {
			t.Errorf("%s: got %d and calls %q, want 200 and none", name, w.Code, n.calls)
		}
	}
}

// Every published version is served alike, previews and none at all too; only the stable ones are announced.
//
// checklist:R26
func TestVersions(t *testing.T) {
	h := newHandler(&recorder{}, rest.Options{})
	for _, query := range []string{"", "?api-version=2021-10-01", "?api-version=2022-11-01", "?api-version=2023-07-01", "?api-version=2024-01-01",
		"?api-version=2024-12-01", "?api-version=2021-08-01-preview", "?api-version=2026-02-01-preview"} {
		w := request{method: "POST", path: "/api/hubs/chat/:send" + query}.do(t, h)
		if got := w.Header().Get("Api-Supported-Versions"); w.Code != 202 || strings.Contains(got, "preview") || !strings.Contains(got, "2024-12-01") {
			t.Errorf("%q: got %d with versions %q, want 202 and the stable ones", query, w.Code, got)
		}
	}
}
