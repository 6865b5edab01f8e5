package upstream

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const clientSecret = "cl13nt-s3cr3t"

// issuer is an OpenID Connect issuer that knows the client-credentials grant.
type issuer struct {
	*httptest.Server
	key     *rsa.PrivateKey
	granted atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":"%s/token"}`, i.URL, i.URL)
	})
	mux.HandleFunc("POST /token", i.grant)
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) grant(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if !ok || id != "gateway" || secret != clientSecret || r.FormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":"no client has %s"}`, secret)
		return
	}
	i.granted.Add(1)
	raw, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"iss": i.URL, "aud": r.FormValue("audience"),
		"scope": r.FormValue("scope"), "exp": time.Now().Add(time.Hour).Unix()}).SignedString(i.key)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"access_token": raw, "token_type": "Bearer", "expires_in": 3600}); err != nil {
		panic(err)
	}
}

// verify is what a handler does with the token of an event.
func (i *issuer) verify(_ context.Context, raw string) error {
	_, err := jwt.Parse(raw, func(*jwt.Token) (any, error) { return &i.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(i.URL), jwt.WithAudience("api://app"), jwt.WithExpirationRequired())
	return err
}

// A handler that verifies tokens of an issuer gets one that it accepts, one for many events, and refuses callers that have none.
//
// checklist:E10
func TestHandlersCanVerifyWhoSendsEvents(t *testing.T) {
	i := newIssuer(t)
	t.Setenv("CHATR_TEST_SECRET", clientSecret)
	rc := &cloudevents.Receiver{Keys: func() []string { return []string{key} }, Hub: "chat", Origins: []string{"*"}, Verify: i.verify}
	app := httptest.NewServer(rc.Handler(func(_ context.Context, e cloudevents.Event) cloudevents.Response {
		return cloudevents.Response{ContentType: cloudevents.TypeText, Body: []byte("hello " + e.Name)}
	}))
	t.Cleanup(app.Close)
	h := handlerOf(app.URL)
	h.Auth = tenant.HandlerAuth{Issuer: i.URL, ClientID: "gateway", ClientSecret: "{env:CHATR_TEST_SECRET}", Scope: "events", Audience: "api://app"}
	u, _ := newUpstream(t, Config{}, h)
	for _, id := range []string{"c1", "c2", "c3"} {
		if d, err := u.Open(chat, id).Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil || string(d.Bytes) != "hello e" {
			t.Errorf("got %v %v, want the answer of a handler that has accepted the token", d, err)
		}
	}
	if got := i.granted.Load(); got != 1 {
		t.Errorf("%d tokens were asked for, want one for all events", got)
	}

	for name, auth := range map[string]tenant.HandlerAuth{
		"no token":       {},
		"other audience": {TokenURL: i.URL + "/token", ClientID: "gateway", ClientSecret: clientSecret, Audience: "api://other"},
	} {
		h.Auth = auth
		u, _ := newUpstream(t, Config{}, h)
		f := new(Failure)
		if _, err := u.Open(chat, "c").Event("e", webpubsub.Text("x")).Put(t.Context()); !errors.As(err, &f) || f.Status != http.StatusUnauthorized {
			t.Errorf("%s: got %v, want status 401", name, err)
		}
	}
}

// A gateway with a wrong secret says so, and does not say the secret, even if the issuer repeats it. Its four attempts
// are made in fake time.
//
// checklist:E10
func TestTheIssuerRefusesTheSecret(t *testing.T) {
	i := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		h := handlerOf("http://app.example")
		h.SkipValidation = true
		h.Auth = tenant.HandlerAuth{TokenURL: i.URL + "/token", ClientID: "gateway", ClientSecret: "wrong-" + clientSecret}
		u, logged := newUpstream(t, Config{}, h)
		u.client.Transport = direct{i.Config.Handler}
		f := new(Failure)
		if _, err := u.Open(chat, "c").Event("e", webpubsub.Text("x")).Put(t.Context()); !errors.As(err, &f) || f.Reason != ReasonSecret {
			t.Errorf("got %v, want reason %s", err, ReasonSecret)
		}
		if text := logged.String(); strings.Contains(text, clientSecret) || !strings.Contains(text, "no token for event handlers") {
			t.Errorf("logged %s, want a warning without the secret", text)
		}
	})
}

// direct has a handler answer at once, without a network, so that time can be fake.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// checklist:E10
func TestTokenFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	a := newApp(t, nil)
	h := handlerOf(a.URL)
	h.Auth.TokenFile = file
	u, _ := newUpstream(t, Config{}, h)
	s := u.Open(chat, connID)
	f := new(Failure)
	if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); !errors.As(err, &f) || f.Reason != ReasonSecret || !strings.Contains(f.Error(), file) {
		t.Errorf("got %v, want a failure that names the file", err)
	}
	for _, token := range []string{"first", "second"} { // replaced while we run
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Event("e", webpubsub.Text("x")).Put(t.Context()); err != nil {
			t.Fatal(err)
		}
		events := a.events()
		if got := events[len(events)-1].Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("got %s, want Bearer %s", got, token)
		}
	}
}

// clock is an issuer and a handler in fake time.
type clock struct {
	tokens  int
	issue   func(n int) (status int, body string)
	refuse  string // the token that the handler answers 401
	arrived []string
}

func (c *clock) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	if r.URL.Host == "issuer.example" {
		c.tokens++
		return answer(c.issue(c.tokens))
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.arrived = append(c.arrived, token)
	if token == c.refuse {
		return answer(401, "")
	}
	return answer(204, "")
}

// checklist:E10
func TestTokensAreCachedAndRefreshed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		issue  func(n int) (int, string)
		refuse string
		waits  []time.Duration // before each event
		want   string          // tokens that the handler saw; - for an event that failed
	}{
		{"one for many", hourly, "", []time.Duration{0, time.Minute, 40 * time.Minute}, "t1 t1 t1"},
		{"refreshed in the background", hourly, "", []time.Duration{0, 46 * time.Minute, time.Second}, "t1 t1 t2"},
		{"waited for when it has ended", hourly, "", []time.Duration{0, 2 * time.Hour}, "t1 t2"},
		{"without a life of its own", func(n int) (int, string) { return 200, fmt.Sprintf(`{"access_token":"t%d","token_type":"bearer"}`, n) }, "",
			[]time.Duration{0, time.Minute, 5 * time.Minute}, "t1 t1 t2"},
		{"used on while the issuer is away", func(n int) (int, string) {
			if n == 1 {
				return hourly(n)
			}
			return 503, "down"
		}, "", []time.Duration{0, 50 * time.Minute, time.Minute}, "t1 t1 t1"},
		{"replaced when it is refused", hourly, "t1", []time.Duration{time.Minute, time.Minute, time.Second}, "t1 t1 t2"},
		{"not asked for at each event", func(int) (int, string) { return 400, `{"error":"invalid_scope"}` }, "", []time.Duration{0, 0, 0}, "- - -"},
		{"of another type", func(int) (int, string) { return 200, `{"access_token":"t","token_type":"mac"}` }, "", []time.Duration{0}, "-"},
		{"not JSON", func(int) (int, string) { return 200, `<html>` }, "", []time.Duration{0}, "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := handlerOf("http://app.example")
				h.SkipValidation = true
				h.Auth = tenant.HandlerAuth{TokenURL: "https://issuer.example/token", ClientID: "c", ClientSecret: "s"}
				u := New(Config{EventTimeout: time.Millisecond}, newTenants(t, h), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				c := &clock{issue: tc.issue, refuse: tc.refuse}
				u.client.Transport = c
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); u.Run(ctx) }() //nolint:errcheck // always nil
				for i, wait := range tc.waits {
					time.Sleep(wait)
					before := len(c.arrived)
					_, err := u.Open(chat, fmt.Sprint("c", i)).Event("e", webpubsub.Text("x")).Put(t.Context())
					if f := new(Failure); len(c.arrived) == before && errors.As(err, &f) && f.Reason == ReasonSecret {
						c.arrived = append(c.arrived, "-")
					}
					synctest.Wait()
				}
				stop()
				<-ended
				if got := strings.Join(c.arrived, " "); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
				if c.tokens > 5 { // a refused one is asked for in both ways in which clients say who they are
					t.Errorf("%d requests to the issuer for %d events", c.tokens, len(tc.waits))
				}
			})
		})
	}
}

func hourly(n int) (int, string) {
	return 200, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, n)
}

// An issuer decides which address gets the client's secret, so what it says of itself must fit.
func TestDiscoveryRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"another issuer":  `{"issuer":"https://evil.example","token_endpoint":"https://evil.example/token"}`,
		"no endpoint":     `{"issuer":"ISSUER"}`,
		"a file":          `{"issuer":"ISSUER","token_endpoint":"file:///etc/passwd"}`,
		"not JSON":        `<html>`,
		"a long document": `{"issuer":"ISSUER","x":"` + strings.Repeat("x", 2<<20) + `","token_endpoint":"ISSUER/token"}`,
	} {
		var s *httptest.Server
		s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				t.Errorf("%s: the secret was sent", name)
			}
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "ISSUER", s.URL))
		}))
		if endpoint, err := discover(t.Context(), http.DefaultClient, s.URL); err == nil {
			t.Errorf("%s: got %s, want an error", name, endpoint)
		}
		s.Close()
	}
	moved := httptest.NewServer(http.RedirectHandler("http://evil.example/", http.StatusFound))
	defer moved.Close()
	if _, err := discover(t.Context(), newClient(Config{InFlight: 1}), moved.URL); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("got %v, want the redirect refused", err)
	}
}
