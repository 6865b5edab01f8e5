package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// provider is an OpenID Connect provider with one key.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p := &provider{key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) token(t *testing.T, audience string, roles ...string) string {
	t.Helper()
	raw := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": p.URL, "aud": audience, "sub": "app",
		"exp": time.Now().Add(time.Hour).Unix(), "roles": roles})
	raw.Header["kid"] = "1"
	signed, err := raw.SignedString(p.key)
	must(t, err)
	return signed
}

// call makes a REST request with a bearer token and returns its status and body.
func (s *server) call(method, path, bearer string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(within(s.t), method, s.url+path, nil)
	must(s.t, err)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := httpClient.Do(r)
	must(s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(s.t, err)
	return res.StatusCode, string(text)
}

func (s *server) keyToken(key, path string) string {
	s.t.Helper()
	raw, err := token.Sign(key, s.url+path, time.Hour, token.Options{Subject: "ana", Roles: all})
	must(s.t, err)
	return raw
}

// TestProviderTokensOpenREST has an application without an access key, and clients that connect by what it is given for them.
//
// checklist:A06 R04
func TestProviderTokensOpenREST(t *testing.T) {
	t.Parallel()
	p, gone := newProvider(t), newProvider(t)
	gone.Close()
	s := startWith(t, setup{}, tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: key}, Auth: tenant.Auth{OIDC: []tenant.OIDC{
		{Issuer: p.URL, Algorithms: []string{"ES256"}, Roles: []string{"Sender"}},
		{Issuer: gone.URL, Algorithms: []string{"ES256"}, Roles: []string{"Sender"}},
	}}}))
	const audience = "https://webpubsub.azure.com"
	good := p.token(t, audience, "Reader", "Sender")
	for name, tt := range map[string]struct {
		bearer string
		status int
		says   string
	}{
		"role":           {good, 202, ""},
		"no role":        {p.token(t, audience, "Reader"), 403, "Error.Forbidden"},
		"other audience": {p.token(t, s.url+"/api/hubs/chat/:send", "Sender"), 401, "Expected Audiences: https://webpubsub.azure.com"},
		"provider away":  {gone.token(t, audience, "Sender"), 503, "try again"},
		"unknown issuer": {strings.Replace(good, good[:strings.IndexByte(good, '.')], "e30", 1), 401, ""},
		"access key":     {s.keyToken(key, "/api/hubs/chat/:send"), 202, ""},
	} {
		if status, body := s.call("POST", "/api/hubs/chat/:send", tt.bearer); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s: got %d %s, want %d and %q", name, status, body, tt.status, tt.says)
		}
	}
	eachCodec(t, func(t *testing.T, codec string) {
		if _, err := s.tryDial(s.url+"/client/hubs/chat?access_token="+good, codec); err == nil {
			t.Error("a provider's token opened a connection")
		}
		status, body := s.call("POST", "/api/hubs/chat/:generateToken?userId=ana&role=webpubsub.sendToGroup&group=room&minutesToExpire=5", good)
		var made struct{ Token string }
		if err := json.Unmarshal([]byte(body), &made); status != 200 || err != nil {
			t.Fatalf("got %d %s, want a token", status, body)
		}
		c := s.dial(s.url+"/client/hubs/chat?access_token="+url.QueryEscape(made.Token), codec)
		if codec != "" && c.Info().UserID != "ana" {
			t.Errorf("got user %q, want ana", c.Info().UserID)
		}
	})
}

// TestKeysAreDisabled refuses what applications sign, and not what the service itself has signed.
//
// checklist:A07
func TestKeysAreDisabled(t *testing.T) {
	t.Parallel()
	const own = "the key that only the service knows"
	p := newProvider(t)
	auth := tenant.Auth{OIDC: []tenant.OIDC{{Issuer: p.URL, Algorithms: []string{"ES256"}, Subjects: []string{"*"}}}}
	tenants := tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: key, Service: own}, Auth: auth})
	s := startWith(t, setup{}, tenants)
	eachCodec(t, func(t *testing.T, codec string) {
		enabled := tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key, Service: own}, Auth: auth}
		must(t, tenants.Set(enabled))
		before := s.dial(s.clientURL("ana", all), codec)

		disabled := enabled
		disabled.Auth.DisableKeys = true
		must(t, tenants.Set(disabled))
		var refused *wsclient.HandshakeError
		if _, err := s.tryDial(s.clientURL("ana", all), codec); !errors.As(err, &refused) || refused.Status != 401 {
			t.Errorf("got %v from a client with a token by the access key, want 401", err)
		}
		if status, _ := s.call("POST", "/api/hubs/chat/:send", s.keyToken(key, "/api/hubs/chat/:send")); status != 401 {
			t.Errorf("got %d from REST by the access key, want 401", status)
		}
		status, body := s.call("POST", "/api/hubs/chat/:generateToken", p.token(t, "https://webpubsub.azure.com"))
		var made struct{ Token string }
		if err := json.Unmarshal([]byte(body), &made); status != 200 || err != nil {
			t.Fatalf("got %d %s, want a token", status, body)
		}
		s.dial(s.url+"/client/hubs/chat?access_token="+made.Token, codec)
		select {
		case <-before.Done():
			t.Error("disabling keys has closed a connection")
		default:
		}
	})
}

// TestNetworkRules changes, while clients are connected, from where what is allowed. The requests come through a proxy that
// is trusted, and say that they come from elsewhere.
//
// checklist:O04
func TestNetworkRules(t *testing.T) {
	t.Parallel()
	tenants := tenantWith(t, tenant.Tenant{Keys: tenant.Keys{Primary: key}})
	s := startWith(t, setup{config: Config{TrustedProxies: httpx.TrustedProxies{Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}}}}, tenants)
	open := s.join(protocol.NameJSON, "ana")
	dial := func(from string) int {
		c, err := wsclient.Dial(within(t), s.clientURL("ben", nil), wsclient.Options{Header: http.Header{"X-Forwarded-For": {from}}})
		var refused *wsclient.HandshakeError
		if errors.As(err, &refused) {
			return refused.Status
		}
		must(t, err)
		c.Drop()
		return 101
	}
	rest := func(from, path string) int {
		r, err := http.NewRequestWithContext(within(t), "HEAD", s.url+path, nil)
		must(t, err)
		r.Header = http.Header{"X-Forwarded-For": {from}, "Authorization": {"Bearer " + s.keyToken(key, path)}}
		res, err := httpClient.Do(r)
		must(t, err)
		_ = res.Body.Close()
		return res.StatusCode
	}
	const inside, outside, exists = "10.1.2.3", "203.0.113.7", "/api/hubs/chat/users/ana"
	for name, tt := range map[string]struct {
		acls                                         tenant.Network
		public                                       string
		insideREST, insideClient, outREST, outClient int
	}{
		"open":             {tenant.Network{}, "", 200, 101, 200, 101},
		"clients only":     {tenant.Network{PublicNetwork: tenant.RequestRule{Deny: []string{"RESTAPI"}}}, "", 403, 101, 403, 101},
		"one range":        {tenant.Network{IPRules: []tenant.IPRule{{Value: "10.0.0.0/8", Action: "Allow"}, {Value: "0.0.0.0/0", Action: "Deny"}}}, "", 200, 101, 403, 403},
		"private endpoint": {tenant.Network{PrivateEndpoints: []tenant.PrivateEndpoint{{Name: "in", Ranges: []string{"10.0.0.0/8"}, RequestRule: tenant.RequestRule{Deny: []string{"ClientConnection"}}}}}, "Disabled", 200, 403, 403, 403},
	} {
		must(t, tenants.Set(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: key}, NetworkACLs: tt.acls, PublicNetworkAccess: tt.public}))
		got := []int{rest(inside, exists), dial(inside), rest(outside, exists), dial(outside)}
		want := []int{tt.insideREST, tt.insideClient, tt.outREST, tt.outClient}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: got %v, want %v", name, got, want)
				break
			}
		}
		if status := rest(outside, "/api/health"); status != 200 { // probes have no network of their own
			t.Errorf("%s: got %d for health, want 200", name, status)
		}
	}
	must(t, open.Ping(within(t)))
}

// TestRootIsForbidden is what the health probes of application gateways and people with a browser see.
//
// checklist:O07
func TestRootIsForbidden(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	if status, body := s.call("GET", "/", ""); status != 403 || !strings.Contains(body, "/client/hubs/{hub}") {
		t.Errorf("got %d %s, want 403 and where to go", status, body)
	}
	for _, path := range []string{"/api/health", "/api/v1/health", "/api/health?api-version=2024-12-01"} {
		for _, method := range []string{"HEAD", "GET"} {
			if status, body := s.call(method, path, ""); status != 200 || body != "" {
				t.Errorf("%s %s: got %d %q, want 200 and nothing", method, path, status, body)
			}
		}
	}
}

// TestCustomDomains has one tenant under several names: which of them audiences may name, and for which client tokens are made.
//
// checklist:O09 A02 A03
func TestCustomDomains(t *testing.T) {
	t.Parallel()
	s := startWith(t, setup{config: Config{AcceptedHosts: []string{"https://elsewhere.example"}}}, tenantWith(t, tenant.Tenant{
		Keys:          tenant.Keys{Primary: key},
		AcceptedHosts: []string{"https://service.example", "https://chat.example:8443"}, PublicURL: "https://clients.example"}))
	sign := func(endpoint, path string) string {
		raw, err := token.Sign(key, endpoint+path, time.Hour, token.Options{})
		must(t, err)
		return raw
	}
	for endpoint, good := range map[string]bool{
		"https://service.example": true, "https://SERVICE.example:443": true, "https://chat.example:8443": true,
		"wss://clients.example": true, "https://clients.example": true,
		"http://service.example": false, "https://chat.example": false, "https://elsewhere.example": false, s.url: false,
	} {
		want := map[bool]int{true: 202, false: 401}[good]
		if status, body := s.call("POST", "/api/hubs/chat/:send", sign(endpoint, "/api/hubs/chat/:send")); status != want {
			t.Errorf("REST token for %s: got %d %s, want %d", endpoint, status, body, want)
		}
		_, err := s.tryDial(s.url+"/client/hubs/chat?access_token="+sign(endpoint, "/client/hubs/chat"), "")
		if (err == nil) != good {
			t.Errorf("client token for %s: got %v, want good: %v", endpoint, err, good)
		}
	}
	status, body := s.call("POST", "/api/hubs/chat/:generateToken", sign("https://service.example", "/api/hubs/chat/:generateToken"))
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); status != 200 || err != nil {
		t.Fatalf("got %d %s, want a token", status, body)
	}
	claims, err := token.NewKeyVerifier(key).Verify(t.Context(), made.Token)
	if want := "https://clients.example/client/hubs/chat"; err != nil || claims.Audience[0] != want {
		t.Errorf("got %q, %v, want the audience %q", claims.Audience, err, want)
	}
	s.dial(s.url+"/client/hubs/chat?access_token="+made.Token, protocol.NameJSON)
}
