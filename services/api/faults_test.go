package api

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
)

// These tests try the faults of the original Chatr, by the numbers of the project's list.

func TestFault01TokensNeedASession(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	status, _, _ := w.browser().do("POST", "/api/negotiate?userId="+ada.id, nil)
	equal(t, "without a session", status, 401)
	status, _, _ = ada.do("GET", "/api/negotiate", nil)
	equal(t, "by GET", status, 404)
	for name, headers := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site"},
		"a subdomain":  {"Sec-Fetch-Site", "same-site"},
		"old browser":  {"Origin", "https://evil.example"},
	} {
		status, _, res := ada.do("POST", "/api/negotiate", nil, headers...)
		equal(t, name, status, 403)
		equal(t, name+" may read", res.Header.Get("Access-Control-Allow-Origin"), "")
	}
	status, _, _ = ada.do("POST", "/api/negotiate", nil, "Sec-Fetch-Site", "same-origin")
	equal(t, "the page itself", status, 200)
}

func TestFault01SessionsCannotBeForged(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	now := time.Now()
	in := session{Tenant: "default", UserID: ada.id, Issued: now.Unix(), Expires: now.Add(time.Hour).Unix()}
	good := w.s.seal(in)
	payload, signature, _ := strings.Cut(good, ".")
	expired, foreign := in, in
	expired.Expires = now.Unix() - 1
	foreign.Tenant = "other"
	stranger := &Service{cfg: w.s.cfg}
	stranger.cfg.SessionKey = strings.Repeat("x", 32)
	for name, value := range map[string]string{
		"":                 "",
		"no signature":     payload,
		"empty signature":  payload + ".",
		"other key":        stranger.seal(in),
		"payload changed":  base64.RawURLEncoding.EncodeToString([]byte(`{"t":"default","u":"guest_eve","e":9999999999}`)) + "." + signature,
		"expired":          w.s.seal(expired),
		"another tenant's": w.s.seal(foreign),
		"nobody's":         w.s.seal(session{Tenant: "default", Expires: in.Expires}),
		"of an unknown":    w.s.seal(session{Tenant: "default", UserID: "guest_gone", Expires: in.Expires}),
		"good":             good,
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/negotiate", nil)
		r.AddCookie(&http.Cookie{Name: "chatr_session", Value: value})
		answer := httptest.NewRecorder()
		w.s.Handler().ServeHTTP(answer, r)
		want := 401
		if name == "good" {
			want = 200
		}
		equal(t, name, answer.Code, want)
	}
}

func TestFault02TokensCarryNoRoles(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	_, body, _ := w.guest("Ada").do("POST", "/api/negotiate", nil)
	_, legacy, _ := w.browser().do("GET", "/api/getToken?userId=42", nil)
	for _, u := range []any{body["url"], legacy["url"]} {
		c := claims(t, u.(string))
		equal(t, "roles and groups", [][]string{c.Roles, c.Groups}, [][]string{nil, nil})
		if life := time.Until(c.ExpiresAt); life > 5*time.Minute {
			t.Errorf("the token lives %v, want at most 5 minutes", life)
		}
	}
}

func TestFault03And40PolicyAndHeaders(t *testing.T) {
	w := newWorld(t, Config{GatewayPublicURL: "wss://gateway.example"})
	for _, path := range []string{"/", "/api/chats", "/nothing", "/.auth/me"} {
		_, _, res := w.browser().do("GET", path, nil)
		policy := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self' wss://gateway.example;"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %q", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q is loose", path, policy)
		}
		equal(t, path, []string{res.Header.Get("X-Content-Type-Options"), res.Header.Get("Referrer-Policy"), res.Header.Get("Cross-Origin-Opener-Policy")},
			[]string{"nosniff", "no-referrer", "same-origin"})
	}
	plain := newWorld(t, Config{PublicURL: "http://chat.example"})
	_, _, res := plain.browser().do("GET", "/", nil)
	equal(t, "a header that browsers only take over https", res.Header.Get("Cross-Origin-Opener-Policy"), "")
}

func TestFault04NamesHoldNoMarkup(t *testing.T) {
	w := newWorld(t, Config{})
	for _, name := range []string{"<img src=x onerror=alert(1)>", "Ada\u202e", "", "   ", strings.Repeat("x", 65), "a\x00b"} {
		status, body, _ := w.browser().do("POST", "/.auth/login/guest", object{"name": name})
		if detail, _ := body["detail"].(string); status != 400 || !strings.HasPrefix(detail, "the name ") && !strings.HasSuffix(detail, "NUL characters") {
			t.Errorf("name %q: got %d %v, want 400 with a reason", name, status, body)
		}
	}
}

func TestFault06SameNameIsAnotherPerson(t *testing.T) {
	w := newWorld(t, Config{})
	one, two := w.guest("Ada"), w.guest("Ada")
	if one.id == two.id || len(one.id) < len("guest_")+20 || !strings.HasPrefix(one.id, "guest_") {
		t.Errorf("ids: got %q and %q, want two long random ones", one.id, two.id)
	}
}

func TestFault25ListsNeedASession(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.guest("Ada"), w.guest("Bob"), w.guest("Eve")
	public, direct := fill(t, w, ada, bob, 1)
	for _, path := range []string{"/api/chats", "/api/users", "/api/blocked", "/api/chats/" + public, "/api/chats/" + public + "/messages"} {
		status, _, _ := w.browser().do("GET", path, nil)
		equal(t, path, status, 401)
	}
	status, _, _ := eve.do("GET", "/api/chats/"+direct, nil)
	equal(t, "a direct chat of others", status, 404)
	status, _, _ = eve.do("GET", "/api/chats/"+direct+"/messages", nil)
	equal(t, "its history", status, 404)
}

func TestFault25StrangersSeePublicFacts(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	public, direct := fill(t, w, ada, bob, 1)
	_, body, _ := w.browser().do("GET", "/api/chats", nil)
	chats := body["chats"].(object)
	if chats[public] == nil || chats[direct] != nil || len(chats) != 1 {
		t.Errorf("got %v, want the public chat only", chats)
	}
	status, _, _ := w.browser().do("GET", "/api/users", nil)
	equal(t, "users", status, 200)
	status, _, _ = w.browser().do("GET", "/api/chats/"+public+"/messages", nil)
	equal(t, "history", status, 401)
}

func TestFault36IdleIsKept(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	c := chat.Connection{ID: "c", UserID: ada.id}
	if _, err := w.store.Connect(t.Context(), "default", c); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.SetIdle(t.Context(), "default", c, true); err != nil {
		t.Fatal(err)
	}
	_, body, _ := w.guest("Newcomer").do("GET", "/api/users", nil)
	equal[any](t, "idle", body["users"].(object)[ada.id].(object)["idle"], true)
}

func TestFault37GuestsAreLimitedPerAddress(t *testing.T) {
	w := newWorld(t, Config{GuestsPerMin: 2, TrustedProxies: httpx.TrustedProxies{Count: 1}})
	var last int
	var res *http.Response
	for range 6 {
		// What is left of our own proxy's entry is made up by the client.
		last, _, res = w.browser().do("POST", "/.auth/login/guest", object{"name": "Spam"}, "X-Forwarded-For", time.Now().String()+", 203.0.113.7")
	}
	equal(t, "the sixth", []any{last, res.Header.Get("Retry-After") != ""}, []any{429, true})
	status, _, _ := w.browser().do("POST", "/.auth/login/guest", object{"name": "Ada"}, "X-Forwarded-For", "203.0.113.8")
	equal(t, "another address", status, 200)
	status, _, _ = w.browser().send("POST", "/.auth/login/guest", strings.NewReader(`{"name":"`+strings.Repeat("x", 1<<20)+`"}`),
		"Content-Type", "application/json", "X-Forwarded-For", "203.0.113.9")
	equal(t, "a name of a megabyte", status, 413)
}

func TestFault37RequestsAreLimitedPerPerson(t *testing.T) {
	w := newWorld(t, Config{RequestsPerSecond: 1})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	paths := []string{"/api/chats", "/api/chats/x", "/api/chats/x/messages", "/api/users", "/api/blocked", "/api/getToken?userId=" + ada.id}
	refused := map[string]int{}
	for range 10 { // as many as one may ask at once is used up by the second round
		for _, path := range paths {
			if status, body, res := ada.do("GET", path, nil); status == http.StatusTooManyRequests {
				refused[path]++
				if res.Header.Get("Retry-After") == "" || body["detail"] == "" {
					t.Errorf("%s: refused with %v and no time to wait", path, body)
				}
			}
		}
	}
	for _, path := range paths {
		if refused[path] == 0 {
			t.Errorf("%s: never refused in 60 requests, want at most 10 and one a second answered", path)
		}
	}
	status, _, _ := bob.do("GET", "/api/chats", nil)
	equal(t, "somebody else at the same address", status, 200)
	status, _, _ = ada.do("GET", "/.auth/me", nil)
	equal(t, "who one is", status, 200)
	status, _, _ = ada.do("GET", "/.auth/logout", nil)
	equal(t, "signing out", status, 302)
	for range 12 {
		status, _, _ = ada.do("GET", "/api/chats", nil) // without a session now, and by the address
	}
	equal(t, "a stranger", status, 429)
}

func TestFault39PrototypeNames(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("__proto__")
	if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: "c", UserID: ada.id}); err != nil {
		t.Fatal(err)
	}
	_, body, _ := ada.do("GET", "/api/users", nil)
	equal[any](t, "the key is ours", body["users"].(object)[ada.id].(object)["userName"], "__proto__")
}

func TestFault42LogoutLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	status, _, _ := ada.do("GET", "/.auth/logout", nil, "Sec-Fetch-Site", "cross-site")
	equal(t, "from another site", status, 403)
	equal(t, "then sockets stay", w.closed, nil)
	for target, want := range map[string]string{
		"/": "/", "/login.html?x=1": "/login.html?x=1", "": "/login.html", "https://evil.example": "/login.html", "//evil.example": "/login.html",
		`/\evil.example`: "/login.html", "/%5Cevil.example": "/%5Cevil.example", "javascript:alert(1)": "/login.html", "/\t/evil.example": "/login.html", "login.html": "/login.html",
	} {
		if got := localPath(target); got != want {
			t.Errorf("redirect to %q: got %q, want %q", target, got, want)
		}
	}
	status, _, _ = ada.do("POST", "/api/negotiate", nil, "Cookie", ada.cookie)
	equal(t, "a token for a copy of the cookie", status, 200)
	ada.do("GET", "/.auth/logout", nil)
	equal(t, "sockets closed", w.closed, []string{ada.id})
	status, _, _ = ada.do("POST", "/api/negotiate", nil)
	equal(t, "no new token", status, 401)
	status, _, _ = ada.do("POST", "/api/negotiate", nil, "Cookie", ada.cookie)
	equal(t, "no new token for a copy of the cookie", status, 401)
	status, _, _ = w.guest("Bob").do("POST", "/api/negotiate", nil)
	equal(t, "for somebody else", status, 200)
}
