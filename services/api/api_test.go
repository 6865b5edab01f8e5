package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/chat/sqlstore"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
)

const (
	accessKey  = "an access key for tests, long enough"
	sessionKey = "a session key for tests, long enough"
)

type object = map[string]any

// world is the service on a real store.
type world struct {
	t      *testing.T
	s      *Service
	store  chat.Store
	server *httptest.Server

	mu     sync.Mutex // guards closed
	closed []string   // users whose sockets the gateway was asked to close
}

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t}
	store, err := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.store = store
	gateway := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/hubs/chat/users/"), "/:closeConnections"); ok {
			w.mu.Lock()
			w.closed = append(w.closed, user)
			w.mu.Unlock()
		}
		rw.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(gateway.Close)
	cfg.SessionKey, cfg.Tenant, cfg.Hub, cfg.SessionTime = sessionKey, cmp.Or(cfg.Tenant, "default"), cmp.Or(cfg.Hub, "chat"), 720*time.Hour
	cfg.IdleAfter = cmp.Or(cfg.IdleAfter, time.Minute)
	w.s, err = New(cfg, Deps{
		Store:   store,
		Gateway: dataplane.New(gateway.URL, accessKey, "chat", dataplane.Options{Retries: -1}),
		Keys:    func() tenant.Keys { return tenant.Keys{Primary: accessKey} },
		Web: fstest.MapFS{
			"index.html":           {Data: []byte("<!doctype html><title>Chatr</title>" + strings.Repeat(" ", 500))},
			"assets/app-1a2b.js":   {Data: []byte("export {}")},
			"favicon.svg":          {Data: []byte("<svg/>")},
			".hidden":              {Data: []byte("x")},
			"manifest.webmanifest": {Data: []byte("{}")},
		},
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(w.s.Handler())
	t.Cleanup(w.server.Close)
	return w
}

// browser is a person's browser: it keeps cookies and does not follow redirects.
type browser struct {
	w    *world
	http *http.Client
	id   string // of the user signed in

	cookie string // of the session; a jar does not send a Secure one to our plain test server
}

func (w *world) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{w: w, http: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// guest is a browser with a guest signed in.
func (w *world) guest(name string, headers ...string) *browser {
	w.t.Helper()
	b := w.browser()
	status, body, res := b.do("POST", "/.auth/login/guest", object{"name": name}, headers...)
	if status != 200 {
		w.t.Fatalf("sign in as %s: got %d %v, want 200", name, status, body)
	}
	b.id = body["clientPrincipal"].(object)["userId"].(string)
	b.cookie = res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
	return b
}

// do makes a request with a JSON body, if one is given. headers are names and values in turn.
func (b *browser) do(method, path string, body any, headers ...string) (int, object, *http.Response) {
	b.w.t.Helper()
	var reader io.Reader
	if body != nil {
		text, _ := json.Marshal(body)
		reader = strings.NewReader(string(text))
		headers = append([]string{"Content-Type", "application/json"}, headers...)
	}
	return b.send(method, path, reader, headers...)
}

func (b *browser) send(method, path string, body io.Reader, headers ...string) (int, object, *http.Response) {
	b.w.t.Helper()
	r, err := http.NewRequestWithContext(b.w.t.Context(), method, b.w.server.URL+path, body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := b.http.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	answer := object{}
	if json.Unmarshal(text, &answer) != nil {
		answer = object{"text": string(text)}
	}
	return res.StatusCode, answer, res
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func TestSigningInAndOut(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.browser()
	_, me, _ := b.do("GET", "/.auth/me", nil)
	equal[any](t, "before", me, object{"clientPrincipal": nil})
	_, in, res := b.do("POST", "/.auth/login/guest", object{"name": "  Ada "})
	cookie := res.Cookies()[0]
	equal(t, "cookie", []any{cookie.HttpOnly, cookie.SameSite, cookie.Secure, cookie.Path, cookie.MaxAge},
		[]any{true, http.SameSiteLaxMode, false, "/", 30 * 24 * 3600})
	_, me, res = b.do("GET", "/.auth/me", nil)
	equal[any](t, "me", me, in)
	equal(t, "nobody keeps it", res.Header.Get("Cache-Control"), "no-store")
	principal := me["clientPrincipal"].(object)
	id := principal["userId"].(string)
	equal[any](t, "principal", principal, object{"identityProvider": "guest", "userId": id, "userDetails": "Ada",
		"userRoles": []string{"anonymous", "authenticated"}, "claims": []string{}})

	status, _, res := b.do("GET", "/.auth/logout?post_logout_redirect_uri=/login.html", nil)
	equal(t, "logout", []any{status, res.Header.Get("Location")}, []any{302, "/login.html"})
	equal(t, "sockets closed", w.closed, []string{id})
	_, me, _ = b.do("GET", "/.auth/me", nil)
	equal[any](t, "after", me, object{"clientPrincipal": nil})
}

func TestCookieOverHTTPS(t *testing.T) {
	w := newWorld(t, Config{})
	_, _, res := w.browser().do("POST", "/.auth/login/guest", object{"name": "Ada"}, "X-Forwarded-Proto", "https")
	cookie := res.Cookies()[0]
	equal(t, "cookie", []any{cookie.Name, cookie.Secure, cookie.Path, cookie.Domain}, []any{"__Host-chatr_session", true, "/", ""})
	equal(t, "https is not forced on who also serves http", res.Header.Get("Strict-Transport-Security"), "")
	public := newWorld(t, Config{PublicURL: "https://chat.example"})
	_, _, res = public.browser().do("GET", "/", nil)
	equal(t, "https is kept to", res.Header.Get("Strict-Transport-Security"), "max-age=31536000")
}

func TestGuestByForm(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.browser()
	form := url.Values{"name": {"Ada"}}.Encode()
	status, _, res := b.send("POST", "/.auth/login/guest", strings.NewReader(form), "Content-Type", "application/x-www-form-urlencoded")
	equal(t, "answer", []any{status, res.Header.Get("Location")}, []any{303, "/"})
	_, me, _ := b.do("GET", "/.auth/me", nil)
	equal[any](t, "name", me["clientPrincipal"].(object)["userDetails"], "Ada")
}

func TestProviders(t *testing.T) {
	w := newWorld(t, Config{})
	for path, want := range map[string]int{"/.auth/login/github": 404, "/.auth/login/guest": 405, "/.auth/nothing": 404} {
		status, body, res := w.browser().do("GET", path, nil)
		equal(t, path, status, want)
		equal(t, path+" form", res.Header.Get("Content-Type"), "application/problem+json")
		if path == "/.auth/login/github" && !strings.HasSuffix(body["detail"].(string), "available: guest") {
			t.Errorf("detail: got %q, want the configured providers", body["detail"])
		}
	}
	none := newWorld(t, Config{NoGuests: true})
	status, _, _ := none.browser().do("POST", "/.auth/login/guest", object{"name": "Ada"})
	equal(t, "without guests", status, 404)
	_, config, _ := none.browser().do("GET", "/api/config", nil)
	equal[any](t, "providers without guests", config["providers"], []string{})
}

func TestConfig(t *testing.T) {
	w := newWorld(t, Config{IdleAfter: 90 * time.Second})
	_, got, _ := w.browser().do("GET", "/api/config", nil)
	equal[any](t, "config", got, object{"hub": "chat", "idleAfterSeconds": 90, "legacyGuests": false, "providers": []string{"guest"},
		"limits": object{"name": 64, "title": 100, "text": 8000, "key": 128, "page": 200}})
}

// claims verifies a client URL as a gateway does.
func claims(t *testing.T, clientURL string) token.Claims {
	t.Helper()
	u, err := url.Parse(clientURL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := token.NewKeyVerifier(accessKey).Verify(t.Context(), u.Query().Get("access_token"))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", u.Path, nil)
	if err := token.CheckClientAudience(c, r, "chat", []string{"http" + strings.TrimPrefix(u.Scheme, "ws") + "://" + u.Host}); err != nil {
		t.Error(err)
	}
	return c
}

func TestNegotiate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg     Config
		headers []string
		want    string // start of the url; %s is the server's own host
	}{
		"own host":        {Config{}, nil, "ws://%s/client/hubs/chat?"},
		"behind a proxy":  {Config{}, []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "chat.example"}, "wss://chat.example/client/hubs/chat?"},
		"host with rogue": {Config{}, []string{"X-Forwarded-Host", "evil.example/x?"}, "ws://localhost/client/hubs/chat?"},
		"configured":      {Config{GatewayPublicURL: "wss://gateway.example/"}, nil, "wss://gateway.example/client/hubs/chat?"},
		"http endpoint":   {Config{GatewayPublicURL: "http://gateway.example:81"}, nil, "ws://gateway.example:81/client/hubs/chat?"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			b := w.guest("Ada", c.headers...)
			status, body, res := b.do("POST", "/api/negotiate", nil, append(c.headers, "Cookie", b.cookie)...)
			equal(t, "status", status, 200)
			got, _ := body["url"].(string)
			want := c.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, strings.TrimPrefix(w.server.URL, "http://"))
			}
			if !strings.HasPrefix(got, want) {
				t.Fatalf("url: got %q, want prefix %q", got, want)
			}
			equal(t, "subject", claims(t, got).Subject, b.id)
			equal(t, "nobody keeps it", res.Header.Get("Cache-Control"), "no-store")
		})
	}
}

func TestGetToken(t *testing.T) {
	closed, open := newWorld(t, Config{}), newWorld(t, Config{LegacyGuests: true})
	if err := open.store.AddUsers(t.Context(), "default", chat.User{ID: "otto", Name: "Otto", Provider: "token"}, chat.User{ID: "123", Name: "Grace", Provider: "guest"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b    *browser
		id   string
		want int
	}{
		"no id":                                {closed.browser(), "", 400},
		"no session":                           {closed.browser(), "123", 401},
		"legacy guest":                         {open.browser(), "8437591842", 200},
		"legacy guest with the id of a user":   {open.browser(), open.guest("Bob").id, 401},
		"legacy guest with an id out of bound": {open.browser(), "a b", 401},
		"legacy guest who was here before":     {open.browser(), "123", 200},
		"an application's user":                {open.browser(), "otto", 401},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, res := c.b.do("GET", "/api/getToken?userId="+url.QueryEscape(c.id), nil)
			equal(t, "status", status, c.want)
			if status == 200 {
				equal(t, "subject", claims(t, body["url"].(string)).Subject, c.id)
				equal[any](t, "base", body["url"], body["baseUrl"].(string)+"?access_token="+body["token"].(string))
			} else if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("content type: got %q, want plain text", res.Header.Get("Content-Type"))
			}
		})
	}
	ada := closed.guest("Ada")
	status, _, _ := ada.do("GET", "/api/getToken?userId="+ada.id, nil)
	equal(t, "one's own", status, 200)
	status, _, _ = ada.do("GET", "/api/getToken?userId=guest_x", nil)
	equal(t, "another's", status, 403)
}

// fill makes Ada's public room with n messages, and a direct room of hers with Bob.
func fill(t *testing.T, w *world, ada, bob *browser, n int) (public, direct string) {
	t.Helper()
	ctx := t.Context()
	public = "3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77"
	if _, err := w.store.CreateRoom(ctx, "default", chat.Room{ID: public, Title: "Tea", Kind: chat.KindPublic, OwnerID: ada.id}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := chat.Message{RoomID: public, AuthorID: ada.id, Text: fmt.Sprint("line ", i+1), Key: fmt.Sprint("k", i+1), SentAt: time.Unix(1_800_000_000, 0)}
		if _, _, err := w.store.AddMessage(ctx, "default", m); err != nil {
			t.Fatal(err)
		}
	}
	room, _, err := w.store.DirectRoom(ctx, "default", ada.id, bob.id)
	if err != nil {
		t.Fatal(err)
	}
	return public, room.ID
}

func TestChats(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.guest("Ada"), w.guest("Bob"), w.guest("Eve")
	public, direct := fill(t, w, ada, bob, 3)
	_, body, _ := bob.do("GET", "/api/chats", nil)
	chats := body["chats"].(object)
	got := chats[public].(object)
	created, err := time.Parse(time.RFC3339Nano, got["createdAt"].(string))
	if err != nil || time.Since(created) > time.Minute {
		t.Errorf("createdAt: got %v, want a moment ago", got["createdAt"])
	}
	delete(got, "createdAt")
	equal[any](t, "public chat", got, object{"id": public, "name": "Tea", "owner": ada.id, "kind": "public", "lastSeq": 3, "readSeq": 0, "state": "none",
		"members": object{ada.id: object{"userId": ada.id, "userName": "Ada", "state": "joined"}}})
	got = chats[direct].(object)
	equal(t, "direct chat", []any{got["name"], got["kind"], got["state"]}, []any{"Ada", "direct", "invited"})
	_, same, _ := bob.do("GET", "/api/chats/"+direct, nil)
	equal[any](t, "the one chat", same, got)

	_, body, _ = eve.do("GET", "/api/chats", nil)
	equal(t, "chats of a third", len(body["chats"].(object)), 1)
}

func TestMessages(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	public, _ := fill(t, w, ada, bob, 7)
	path := "/api/chats/" + public + "/messages"
	var texts []string
	before := ""
	for pages := 0; pages < 10; pages++ {
		_, body, _ := ada.do("GET", path+"?limit=3"+before, nil)
		var page []string
		for _, m := range body["messages"].([]any) {
			page = append(page, m.(object)["text"].(string))
		}
		texts = append(page, texts...)
		if body["next"] == nil {
			break
		}
		before = fmt.Sprintf("&before=%v", body["next"])
	}
	equal(t, "all pages", texts, []string{"line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7"})
	_, body, _ := ada.do("GET", path+"?before=2", nil)
	equal[any](t, "a message", body, object{"messages": []object{
		{"seq": 1, "userId": ada.id, "userName": "Ada", "text": "line 1", "key": "k1", "sentAt": "2027-01-15T08:00:00Z"}}})
	for query, want := range map[string]int{"?limit=0": 400, "?limit=201": 400, "?limit=x": 400, "?before=-1": 400, "?before=0": 200, "?limit=200": 200} {
		status, _, _ := ada.do("GET", path+query, nil)
		equal(t, query, status, want)
	}
	status, _, _ := bob.do("GET", path, nil)
	equal(t, "who is not a member", status, 403)
	_, err := w.store.CreateRoom(t.Context(), "default", chat.Room{ID: "closed", Title: "Closed", Kind: chat.KindPrivate, OwnerID: ada.id})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/chats/closed", "/api/chats/closed/messages"} {
		status, _, _ := ada.do("GET", path, nil)
		equal(t, "a private chat for its member", status, 200)
		status, body, _ := bob.do("GET", path, nil)
		equal(t, "a private chat that is not one's own", status, 404)
		if strings.Contains(fmt.Sprint(body), "Closed") {
			t.Errorf("%s tells its title: %v", path, body)
		}
	}
	status, _, _ = ada.do("GET", "/api/chats/nothing/messages", nil)
	equal(t, "no chat", status, 404)
	status, _, _ = ada.do("GET", "/api/chats/a%00b/messages", nil)
	equal(t, "no id", status, 400)
}

func TestUsersAndBlocked(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: "c", UserID: ada.id}); err != nil {
		t.Fatal(err)
	}
	_, body, _ := bob.do("GET", "/api/users", nil)
	equal[any](t, "users", body, object{"users": object{ada.id: object{"userName": "Ada", "userProvider": "guest", "idle": false}}})
	_, body, _ = bob.do("GET", "/api/blocked", nil)
	equal[any](t, "nobody blocked", body, object{"blocked": []string{}})
	if err := w.store.Block(t.Context(), "default", bob.id, ada.id); err != nil {
		t.Fatal(err)
	}
	_, body, _ = bob.do("GET", "/api/blocked", nil)
	equal[any](t, "blocked", body, object{"blocked": []string{ada.id}})
}

func TestErrorsInTheFormAskedFor(t *testing.T) {
	w := newWorld(t, Config{})
	_, body, res := w.browser().do("GET", "/api/chats", nil)
	equal(t, "problem", []any{res.Header.Get("Content-Type"), body["status"], body["detail"]}, []any{"application/problem+json", 401, "sign in first"})
	if body["requestId"] == "" || body["requestId"] != res.Header.Get("X-Request-Id") {
		t.Errorf("request id: got %v in the body, %q in the header", body["requestId"], res.Header.Get("X-Request-Id"))
	}
	_, body, _ = w.browser().do("GET", "/api/chats", nil, "Accept", "text/plain")
	equal[any](t, "plain", body["text"], "sign in first\n")
}

func TestStoreAway(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	w.store.Close()
	for _, path := range []string{"/api/chats", "/api/users", "/.auth/me"} {
		status, body, res := ada.do("GET", path, nil)
		equal(t, path, []any{status, res.Header.Get("Retry-After")}, []any{503, "5"})
		if text := fmt.Sprint(body); strings.Contains(text, "sql") {
			t.Errorf("%s: got %s, want nothing internal", path, text)
		}
	}
	if w.s.Ready(context.Background()) == nil {
		t.Error("ready without a store")
	}
}

// TestHealthPath: load balancers in front ask each service at the same path as they ask gateways.
func TestHealthPath(t *testing.T) {
	w := newWorld(t, Config{})
	for _, path := range []string{"/api/health", "/api/v1/health"} {
		for _, method := range []string{"GET", "HEAD"} {
			status, _, res := w.browser().do(method, path, nil)
			equal(t, method+" "+path, []any{status, res.Header.Get("Cache-Control")}, []any{200, "no-store"})
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"short session key": {SessionKey: "short"},
		"endpoint of ftp":   {SessionKey: sessionKey, GatewayPublicURL: "ftp://x"},
		"endpoint and path": {SessionKey: sessionKey, GatewayPublicURL: "wss://x/client"},
		"public URL":        {SessionKey: sessionKey, PublicURL: "chat.example"},
	} {
		if _, err := c.checked(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
