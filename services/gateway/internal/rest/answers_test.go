package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/rest"
)

func members(n int) []node.Member {
	all := make([]node.Member, n)
	for i := range all {
		all[i].ConnectionID = fmt.Sprintf("c%03d", i)
	}
	return all
}

// Following nextLink as it stands yields each connection once, at most top in all, in pages of maxpagesize.
//
// checklist:R14
func TestListPages(t *testing.T) {
	for _, tt := range []struct {
		connections int
		query       string
		pages       string // their lengths
	}{
		{0, "", "[0]"},
		{5, "", "[5]"},
		{200, "", "[200]"},
		{201, "?api-version=2024-12-01", "[200 1]"},
		{5, "?maxpagesize=2", "[2 2 1]"},
		{4, "?maxpagesize=2", "[2 2]"},
		{5, "?maxpagesize=2&top=3", "[2 1]"},
		{5, "?maxpagesize=2&top=2", "[2]"},
		{5, "?top=1", "[1]"},
		{5, "?top=2147483647", "[5]"},
	} {
		h := newHandler(&recorder{members: members(tt.connections)}, rest.Options{})
		var pages []int
		seen := map[string]bool{}
		for link := "/api/hubs/Chat/groups/a%2Fb/connections" + tt.query; link != ""; {
			w := request{method: "GET", path: strings.TrimPrefix(link, "http://localhost:8080")}.do(t, h)
			var page struct {
				Value    []map[string]string
				NextLink string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || page.Value == nil {
				t.Fatalf("%d connections %s: got %d %s, want 200 and a page", tt.connections, tt.query, w.Code, w.Body)
			}
			pages = append(pages, len(page.Value))
			for _, c := range page.Value {
				seen[c["connectionId"]] = true
			}
			if strings.Contains(tt.query, "api-version") && page.NextLink != "" && !strings.Contains(page.NextLink, "api-version=2024-12-01") {
				t.Errorf("got next link %s, want the api-version kept", page.NextLink)
			}
			link = page.NextLink
		}
		total := 0
		for _, n := range pages {
			total += n
		}
		if got := fmt.Sprint(pages); got != tt.pages || len(seen) != total {
			t.Errorf("%d connections %s: got pages %s of %d connections, want %s, all different", tt.connections, tt.query, got, len(seen), tt.pages)
		}
	}
}

// checklist:R14
func TestListBody(t *testing.T) {
	n := &recorder{members: []node.Member{{ConnectionID: "c1", UserID: "ana"}, {ConnectionID: "c2"}, {ConnectionID: "c3"}}}
	w := request{method: "GET", path: "/api/hubs/chat/groups/g/connections?api-version=2024-12-01&maxpagesize=2&top=3"}.do(t, newHandler(n, rest.Options{}))
	want := `{"value":[{"connectionId":"c1","userId":"ana"},{"connectionId":"c2"}],"nextLink":` +
		`"http://localhost:8080/api/hubs/chat/groups/g/connections?api-version=2024-12-01\u0026maxpagesize=2\u0026top=1\u0026continuationToken=YWZ0ZXI6YzI"}`
	if got := w.Body.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// checklist:R14 O09
func TestNextLinkNamesTheHostTheCallerUsed(t *testing.T) {
	for _, tt := range []struct{ proto, host, want string }{
		{"", "", "http://localhost:8080/"},
		{"https", "chat.example.com", "https://chat.example.com/"},
		{"https, http", "chat.example.com:8443, inner", "https://chat.example.com:8443/"},
		{"gopher", "evil.example/path", "http://localhost:8080/"},
		{"", "user@evil.example", "http://localhost:8080/"},
		{"", ":80", "http://localhost:8080/"},
	} {
		q := request{method: "GET", path: "/api/hubs/chat/groups/g/connections?maxpagesize=1",
			header: map[string]string{"X-Forwarded-Proto": tt.proto, "X-Forwarded-Host": tt.host}}
		w := q.do(t, newHandler(&recorder{members: members(2)}, rest.Options{}))
		var page struct{ NextLink string }
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || !strings.HasPrefix(page.NextLink, tt.want+"api/hubs/chat/groups/g/connections?") {
			t.Errorf("forwarded %q %q: got %s, want a link at %s", tt.proto, tt.host, w.Body, tt.want)
		}
	}
}

// checklist:R02
func TestContentTypes(t *testing.T) {
	for _, tt := range []struct{ contentType, body, want string }{
		{"", "\xff", `binary "\xff"`},
		{"application/octet-stream; charset=klingon", "\xff", `binary "\xff"`},
		{"TEXT/Plain", "hé", `text "hé"`},
		{"text/plain;charset=UTF-8", "hé", `text "hé"`},
		{"text/plain; charset=iso-8859-1", "h\xe9", `text "hé"`},
		{`text/plain; charset="shift_jis"`, "\x83\x65", `text "テ"`},
		{"text/plain; charset=utf-16le", "h\x00i\x00", `text "hi"`},
		{"text/plain", "", `text ""`},
		{"application/json; odata=verbose", " {\"b\":1, \"a\":1.0}\n", `json " {\"b\":1, \"a\":1.0}\n"`}, // verbatim
		{"application/json", `"\u0000"`, `json "\"\\u0000\""`},
	} {
		n := &recorder{}
		q := request{method: "POST", path: "/api/hubs/chat/:send", body: tt.body}
		if tt.contentType != "" {
			q.header = map[string]string{"Content-Type": tt.contentType}
		}
		w := q.do(t, newHandler(n, rest.Options{}))
		want := `[send acme/chat hub "" group="" ` + tt.want + ` ttl=0s]`
		if got := fmt.Sprint(n.calls); w.Code != 202 || got != want {
			t.Errorf("%s: got %d and %s, want 202 and %s", tt.contentType, w.Code, got, want)
		}
	}
}

// checklist:C23
func TestMetadataGoWithTheMessage(t *testing.T) {
	n := &recorder{}
	w := request{method: "POST", path: "/api/hubs/chat/:send", header: map[string]string{"X-WebPubSub-Metadata-Trace.ID": "a b", "x-webpubsub-metadata-a": ""}}.
		do(t, newHandler(n, rest.Options{}))
	want := `[send acme/chat hub "" group="" binary "" ttl=0s metadata=[{"a" ""} {"trace.id" "a b"}]]`
	if got := fmt.Sprint(n.calls); w.Code != 202 || got != want {
		t.Errorf("got %d %s and %s, want 202 and %s", w.Code, w.Body, got, want)
	}
}

func TestMetadataHasATotal(t *testing.T) {
	header := map[string]string{}
	for i := range 9 {
		header[fmt.Sprintf("X-WebPubSub-Metadata-%d", i)] = strings.Repeat("v", 1000)
	}
	w := request{method: "POST", path: "/api/hubs/chat/:send", header: header}.do(t, newHandler(&recorder{}, rest.Options{}))
	if w.Code != 400 {
		t.Errorf("got %d, want 400", w.Code)
	}
}

// checklist:R04
func TestGenerateToken(t *testing.T) {
	for _, tt := range []struct {
		query   string
		options rest.Options
		want    string
		life    time.Duration
	}{
		{"", rest.Options{}, `"" ["http://localhost:8080/client/hubs/Chat"] [] []`, time.Hour},
		{"?userId=ana%20b&role=r1&role=webpubsub.sendToGroup.a.b&group=g1&group=g%2F2&minutesToExpire=5&clientType=default", rest.Options{},
			`"ana b" ["http://localhost:8080/client/hubs/Chat"] ["r1" "webpubsub.sendToGroup.a.b"] ["g1" "g/2"]`, 5 * time.Minute},
		{"?clientType=MQTT", rest.Options{PublicURL: "https://chat.example.com/"},
			`"" ["https://chat.example.com/clients/mqtt/hubs/Chat"] [] []`, time.Hour},
	} {
		w := request{method: "POST", path: "/api/hubs/Chat/:generateToken" + tt.query}.do(t, newHandler(&recorder{}, tt.options))
		var answer struct{ Token string }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s: got %d %s: %v", tt.query, w.Code, w.Body, err)
		}
		c, err := token.NewKeyVerifier(acmeKey).Verify(context.Background(), answer.Token)
		if got := fmt.Sprintf("%q %q %q %q", c.Subject, c.Audience, c.Roles, c.Groups); err != nil || got != tt.want {
			t.Errorf("%s: got %s and error %v, want %s", tt.query, got, err, tt.want)
		}
		if life := time.Until(c.ExpiresAt); life > tt.life || life < tt.life-time.Minute {
			t.Errorf("%s: got a token for %s, want %s", tt.query, life, tt.life)
		}
	}
}

// A body without a length is read no further than the limit.
func TestChunkedBodyOverTheLimit(t *testing.T) {
	server := httptest.NewServer(newHandler(&recorder{}, rest.Options{}))
	defer server.Close()
	url := server.URL + "/api/hubs/chat/:send"
	r, err := http.NewRequest("POST", url, io.LimitReader(zeros{}, 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+sign(t, acmeKey, url, time.Minute))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A caller that never sends its body gets an answer all the same, and holds nothing up for longer than bodyTime.
func TestBodyThatNeverArrives(t *testing.T) {
	for name, tt := range map[string]struct {
		path, token string
		status      int
	}{
		"of an operation with a body": {"/api/hubs/chat/:send", sign(t, acmeKey, "http://localhost/api/hubs/chat/:send", 24*365*100*time.Hour), 408},
		"without a token":             {"/api/hubs/chat/:send", "none", 401},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				server := &http.Server{Handler: newHandler(&recorder{}, rest.Options{})}
				go func() { _ = server.Serve(&oneConn{conn: far}) }()
				defer server.Close()
				start := time.Now()
				go fmt.Fprintf(near, "POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\npart", tt.path, tt.token)
				res, err := http.ReadResponse(bufio.NewReader(near), nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); res.StatusCode != tt.status || took > 30*time.Second {
					t.Errorf("got %d after %s, want %d within 30s", res.StatusCode, took, tt.status)
				}
			})
		})
	}
}

// oneConn is a listener that yields one connection.
type oneConn struct{ conn net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn != nil {
		conn := l.conn
		l.conn = nil
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Our own client and this API agree on names, statuses and pages.
func TestDataplaneClient(t *testing.T) {
	n := &recorder{yes: true, members: members(450)}
	server := httptest.NewServer(newHandler(n, rest.Options{}))
	defer server.Close()
	client := dataplane.New(server.URL, acmeKey, "Chat", dataplane.Options{Retries: -1})
	ctx := context.Background()
	const odd = "a/b +%?é\x00\n:send"
	for _, err := range []error{
		client.SendToAll(ctx, webpubsub.Text("hé"), dataplane.Except("c 1"), dataplane.Filter("userId eq 'a+b'"), dataplane.TTL(time.Minute)),
		client.SendToGroup(ctx, odd, webpubsub.Text("")),
		client.SendToUser(ctx, odd, webpubsub.Text("")),
		client.SendToConnection(ctx, odd, webpubsub.Text("")),
		client.AddConnectionToGroup(ctx, odd, "c1"),
		client.AddUserToGroup(ctx, "..", "."),
		client.RemoveUserFromGroup(ctx, odd, "ana"),
		client.RemoveConnectionFromGroup(ctx, odd, "c1"),
		client.Grant(ctx, "c1", webpubsub.SendToGroup, odd),
		client.Revoke(ctx, "c1", webpubsub.JoinLeaveGroup, odd),
		client.CloseConnection(ctx, "c1", "a&b=c d"),
		client.CloseGroup(ctx, odd, ""),
		client.CloseUser(ctx, odd, "r"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`send acme/chat hub "" except ["c 1"] where "userId eq 'a+b'" group="" text "hé" ttl=1m0s`,
		fmt.Sprintf(`send acme/chat group %q group=%[1]q text "" ttl=0s`, odd),
		fmt.Sprintf(`send acme/chat user %q group="" text "" ttl=0s`, odd),
		fmt.Sprintf(`send acme/chat connection %q group="" text "" ttl=0s`, odd),
		fmt.Sprintf(`join acme/chat connection "c1" [%q]`, odd),
		`join acme/chat user "." [".."]`,
		fmt.Sprintf(`leave acme/chat user "ana" [%q]`, odd),
		fmt.Sprintf(`leave acme/chat connection "c1" [%q]`, odd),
		fmt.Sprintf(`grant acme/chat "c1" sendToGroup %q`, odd),
		fmt.Sprintf(`revoke acme/chat "c1" joinLeaveGroup %q`, odd),
		`close acme/chat connection "c1" "a&b=c d"`,
		fmt.Sprintf(`close acme/chat group %q ""`, odd),
		fmt.Sprintf(`close acme/chat user %q "r"`, odd),
	}
	if got, want := strings.Join(n.calls, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("node was asked:\n%s\nwant:\n%s", got, want)
	}

	listed, err := client.ListConnections(ctx, odd)
	if err != nil || len(listed) != 450 || listed[449].ConnectionID != "c449" {
		t.Errorf("list: got %d connections and error %v, want 450", len(listed), err)
	}
	if ok, err := client.GroupExists(ctx, odd); !ok || err != nil {
		t.Errorf("exists: got %v and error %v, want true", ok, err)
	}
	n.yes = false
	if ok, err := client.UserExists(ctx, odd); ok || err != nil {
		t.Errorf("exists: got %v and error %v, want false", ok, err)
	}
	n.err = node.ErrNotFound
	if err := client.AddConnectionToGroup(ctx, odd, "c1"); !errors.Is(err, dataplane.ErrNotFound) {
		t.Errorf("add of a missing connection: got %v, want ErrNotFound", err)
	}
	n.err = node.ErrPartial
	var service *dataplane.Error
	if err := client.AddConnectionToGroup(ctx, odd, "c1"); !errors.As(err, &service) || service.Code != "Error.ServiceUnavailable" {
		t.Errorf("partial: got %v, want Error.ServiceUnavailable", err)
	}
}

// checklist:O01
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := rest.New(&recorder{}, tenants(), rest.Options{}, slog.New(slog.DiscardHandler), registry)
	for _, q := range []request{
		{method: "POST", path: "/api/hubs/chat/:send"},
		{method: "POST", path: "/api/hubs/chat/:send", token: "none"},
		{method: "POST", path: "/api/hubs/chat/a-route-of-the-callers"},
	} {
		q.do(t, h)
	}
	got, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var series []string
	for _, m := range got[0].GetMetric() {
		series = append(series, m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue())
	}
	if want := "SendToAll 2xx, SendToAll 4xx, Uncategorized 4xx"; strings.Join(series, ", ") != want {
		t.Errorf("got series %q, want %s", series, want)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// What callers send does not reach the log.
func TestLogsHoldNoPayloadsAndTokens(t *testing.T) {
	var log strings.Builder
	h := rest.New(&recorder{}, tenants(), rest.Options{}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), prometheus.NewRegistry())
	json := map[string]string{"Content-Type": "application/json"}
	request{method: "POST", path: "/api/hubs/chat/groups/SECRET/:send", header: json, body: "SECRET"}.do(t, h)
	request{method: "POST", path: "/api/hubs/chat/:send", token: "SECRET"}.do(t, h)
	if got := log.String(); strings.Contains(got, "SECRET") || strings.Count(got, "\n") != 2 {
		t.Errorf("got log\n%s\nwant two lines without SECRET", got)
	}
}

// Whatever is asked, the answer is one of ours, and the node is asked only what holds for a hub, a group, a user.
func FuzzHandler(f *testing.F) {
	for _, o := range all {
		q := o.request()
		f.Add(q.method, strings.TrimPrefix(q.path, "/api/hubs/"), q.header["Content-Type"], q.body)
	}
	f.Add("POST", "chat/groups/%00/:send?filter=%27&excluded=&messageTtlSeconds=1e9", "text/plain; charset=utf-7", "+AGE-")
	f.Fuzz(func(t *testing.T, method, path, contentType, body string) {
		r, err := http.NewRequest(method, "http://localhost/api/hubs/"+path, strings.NewReader(body))
		if err != nil {
			return // no server could be sent this
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", "Bearer "+sign(t, acmeKey, r.URL.String(), time.Minute))
		n := &recorder{}
		w := httptest.NewRecorder()
		newHandler(n, rest.Options{}).ServeHTTP(w, r)
		switch w.Code {
		case 200, 202, 204, 400, 401, 404, 405, 415:
		default:
			t.Errorf("got status %d %s", w.Code, w.Body)
		}
		if len(n.calls) > 1 || len(n.calls) == 1 && !strings.Contains(n.calls[0], " acme/") {
			t.Errorf("node was asked %q", n.calls)
		}
	})
}

func BenchmarkSend(b *testing.B) {
	h := newHandler(&recorder{}, rest.Options{})
	url := "http://localhost/api/hubs/chat/groups/room-7/:send?api-version=2024-12-01"
	raw := "Bearer " + sign(b, acmeKey, url, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("POST", url, strings.NewReader(`{"text":"hello"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", raw)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
