package token

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	key      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	otherKey = "another-key-another-key-another-key!"
	vector   = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJodHRwOi8vbG9jYWxob3N0OjgwODAvY2xpZW50L2h1YnMvY2hhdCIsInN1YiI6ImFuYSIsInJvbGUiOlsid2VicHVic3ViLnNlbmRUb0dyb3VwIl0sImlhdCI6MTc2NzIyNTYwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.30AzXoXW-KCGwB21QUU572doce9vt4T7t2wl02TIGQA"
)

func signed(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	raw, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// headed is a token with that header, well signed.
func headed(header, claims string) string {
	s := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + claims
	mac, _ := jwt.SigningMethodHS256.Sign(s, []byte(key)) // never fails with bytes
	return s + "." + base64.RawURLEncoding.EncodeToString(mac)
}

func inAnHour() int64 { return time.Now().Add(time.Hour).Unix() }

// checklist:A02
func TestVectorOfTheProtocol(t *testing.T) {
	c, err := NewKeyVerifier(otherKey, key).Verify(t.Context(), vector)
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{
		Subject:   "ana",
		Audience:  []string{"http://localhost:8080/client/hubs/chat"},
		Roles:     []string{"webpubsub.sendToGroup"},
		ExpiresAt: time.Unix(4102444800, 0),
		members:   c.members,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	all := map[string][]string{
		"aud": {"http://localhost:8080/client/hubs/chat"}, "sub": {"ana"}, "role": {"webpubsub.sendToGroup"},
		"iat": {"1767225600"}, "exp": {"4102444800"},
	}
	if got := c.All(); !reflect.DeepEqual(got, all) {
		t.Errorf("got %v, want %v", got, all)
	}
	if got := c.Claim("sub"); !slices.Equal(got, all["sub"]) || c.Claim("Sub") != nil {
		t.Errorf("got %v and %v, want the claim of that very name", got, c.Claim("Sub"))
	}
	if err := CheckClientAudience(c, httptest.NewRequest("GET", "/client/hubs/chat", nil), "chat", nil); err != nil {
		t.Error(err)
	}
}

// checklist:A02 A03
func TestVerifyRefuses(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := func(more ...any) jwt.MapClaims {
		c := jwt.MapClaims{"aud": "http://x/client/hubs/chat", "exp": inAnHour()}
		for i := 0; i < len(more); i += 2 {
			c[more[i].(string)] = more[i+1]
		}
		return c
	}
	hs := func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodHS256, []byte(key), c) }
	parts := strings.Split(hs(good()), ".")
	for name, tc := range map[string]struct{ raw, want string }{
		"empty":            {"", "malformed"},
		"not a token":      {"a.b", "malformed"},
		"garbage":          {"!!.!!.!!", "malformed"},
		"other key":        {signed(t, jwt.SigningMethodHS256, []byte("wrong-key-wrong-key-wrong-key-wrong"), good()), "not signed"},
		"empty key":        {signed(t, jwt.SigningMethodHS256, []byte(""), good()), "not signed"},
		"none":             {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()), "not signed"},
		"HS384":            {signed(t, jwt.SigningMethodHS384, []byte(key), good()), "not signed"},
		"HS512":            {signed(t, jwt.SigningMethodHS512, []byte(key), good()), "not signed"},
		"RS256":            {signed(t, jwt.SigningMethodRS256, rsaKey, good()), "not signed"},
		"no signature":     {parts[0] + "." + parts[1] + ".", "not signed"},
		"no algorithm":     {headed(`{"typ":"JWT"}`, parts[1]), "not signed"},
		"an odd algorithm": {headed(`{"alg":["HS256"]}`, parts[1]), "not signed"},
		"no header":        {headed(`["HS256"]`, parts[1]), "malformed"},
		"an extension":     {headed(`{"alg":"HS256","crit":["b64"],"b64":false}`, parts[1]), "not signed"},
		"four parts":       {parts[0] + "." + parts[1] + "." + parts[2] + "." + parts[2], "malformed"},
		"padding":          {parts[0] + "." + parts[1] + "." + parts[2] + "=", "malformed"},
		"claims are text":  {headed(`{"alg":"HS256"}`, base64.RawURLEncoding.EncodeToString([]byte(`"x"`))), "JSON object"},
		"changed claims":   {parts[0] + "." + strings.Split(hs(good("sub", "eve")), ".")[1] + "." + parts[2], "not signed"},
		"no exp":           {hs(good("exp", nil)), "no expiry"},
		"exp as text":      {hs(good("exp", "tomorrow")), "claim exp"},
		"exp out of range": {hs(good("exp", 1e300)), "claim exp"},
		"expired":          {hs(good("exp", time.Now().Add(-6*time.Minute).Unix())), "expired"},
		"not yet":          {hs(good("nbf", time.Now().Add(6*time.Minute).Unix())), "not valid yet"},
		"sub is a number":  {hs(good("sub", 5)), "claim sub"},
		"aud is an object": {hs(good("aud", map[string]any{})), "claim aud"},
		"too long":         {hs(good("x", strings.Repeat("x", maxLength))), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewKeyVerifier("", key).Verify(t.Context(), tc.raw)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
	if _, err := NewKeyVerifier().Verify(t.Context(), vector); err == nil {
		t.Error("a verifier without keys accepted a token")
	}
}

// checklist:A02
func TestVerifyToleratesClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := signed(t, jwt.SigningMethodHS256, []byte(key), jwt.MapClaims{
			"exp": time.Now().Add(time.Minute).Unix(), "nbf": time.Now().Add(4 * time.Minute).Unix(),
		})
		v := NewKeyVerifier(key)
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("nbf in 4 minutes: got %v, want it accepted", err)
		}
		time.Sleep(5 * time.Minute) // 4 minutes after exp
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("exp 4 minutes ago: got %v, want it accepted", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := v.Verify(t.Context(), raw); err == nil {
			t.Error("exp 6 minutes ago: got no error, want it refused")
		}
	})
}

// checklist:A02
func TestClaimForms(t *testing.T) {
	verify := func(claims jwt.MapClaims) Claims {
		t.Helper()
		claims["exp"] = inAnHour()
		c, err := NewKeyVerifier(key).Verify(t.Context(), signed(t, jwt.SigningMethodHS256, []byte(key), claims))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("single strings", func(t *testing.T) {
		c := verify(jwt.MapClaims{"aud": "a", "role": "r", "webpubsub.group": "g"})
		if got, want := [][]string{c.Audience, c.Roles, c.Groups}, [][]string{{"a"}, {"r"}, {"g"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("arrays", func(t *testing.T) {
		c := verify(jwt.MapClaims{"aud": []string{"a", "b"}, "role": []string{"r", `q"é`}, "webpubsub.group": []string{"g", "h"}})
		if got, want := [][]string{c.Audience, c.Roles, c.Groups}, [][]string{{"a", "b"}, {"r", `q"é`}, {"g", "h"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("remapped names", func(t *testing.T) {
		c := verify(jwt.MapClaims{nameIdentifier: "ana", roleIdentifier: "r"})
		if c.Subject != "ana" || !reflect.DeepEqual(c.Roles, []string{"r"}) {
			t.Errorf("got %q %v, want ana [r]", c.Subject, c.Roles)
		}
	})
	t.Run("names are case-sensitive", func(t *testing.T) {
		if c := verify(jwt.MapClaims{"Sub": "eve", "ROLE": "r"}); c.Subject != "" || c.Roles != nil {
			t.Errorf("got %q %v, want no subject and no roles", c.Subject, c.Roles)
		}
	})
	t.Run("every claim as strings", func(t *testing.T) {
		c := verify(jwt.MapClaims{"n": 1.5, "b": true, "o": map[string]any{"k": 1}, "l": []any{"x", 2}, "z": nil})
		got := c.All()
		delete(got, "exp")
		want := map[string][]string{"n": {"1.5"}, "b": {"true"}, "o": {`{"k":1}`}, "l": {"x", "2"}, "z": {}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("groups", func(t *testing.T) {
		for _, bad := range []any{5, []any{"g", 5}, "", " ", []string{"g", strings.Repeat("x", 1025)}} {
			if err := verify(jwt.MapClaims{"webpubsub.group": bad}).CheckGroups(); err == nil {
				t.Errorf("%.20v: got no error, want one", bad)
			}
		}
		if err := verify(jwt.MapClaims{"webpubsub.group": []string{"g"}}).CheckGroups(); err != nil {
			t.Error(err)
		}
	})
}

func TestSign(t *testing.T) {
	raw, err := Sign(key, "http://x/client/hubs/chat", time.Hour, Options{Subject: "ana b", Roles: []string{"r"}, Groups: []string{"g"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewKeyVerifier(key).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "ana b" || c.Roles[0] != "r" || c.Groups[0] != "g" || c.Audience[0] != "http://x/client/hubs/chat" {
		t.Errorf("got %+v", c)
	}
	if left := time.Until(c.ExpiresAt); left > time.Hour || left < time.Hour-5*time.Second {
		t.Errorf("got %v until it expires, want an hour", left)
	}

	raw, err = Sign(key, "http://x/api", time.Hour, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err = NewKeyVerifier(key).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub", "role", "webpubsub.group"} {
		if c.Claim(name) != nil {
			t.Errorf("claim %s is there, want it left out", name)
		}
	}
	if _, err := Sign("", "a", time.Hour, Options{}); err == nil {
		t.Error("signing with an empty key: got no error")
	}
}

// checklist:A02 O09
func TestClientAudience(t *testing.T) {
	for _, tc := range []struct {
		aud, url string
		accepted []string
		want     bool
	}{
		{aud: "http://localhost:8080/client/hubs/chat", url: "/client/hubs/chat", want: true},
		{aud: "http://localhost:8080/client/hubs/Chat", url: "/client/hubs/chat", want: true},
		{aud: "https://elsewhere/client/hubs/chat/?x=1#y", url: "/client/hubs/chat", want: true},
		{aud: "wss://elsewhere/client/hubs/chat", url: "/client/hubs/chat", want: true},
		{aud: "http://x/client/hubs/ch%61t", url: "/client/hubs/chat", want: true},
		{aud: "http://x/client/hubs/other", url: "/client/hubs/chat"},
		{aud: "http://x/client/hubs/chat/more", url: "/client/hubs/chat"},
		{aud: "http://x/client/hubs/", url: "/client/hubs/chat"},
		{aud: "http://x/clients/hubs/chat", url: "/client/hubs/chat"},
		{aud: "http://x/api/hubs/chat/:send", url: "/client/hubs/chat"},
		{aud: "/client/hubs/chat", url: "/client/hubs/chat"},
		{aud: "ftp://x/client/hubs/chat", url: "/client/hubs/chat"},
		{aud: "http:///client/hubs/chat", url: "/client/hubs/chat"},
		{aud: "chat", url: "/client/hubs/chat"},
		{aud: "", url: "/client/hubs/chat"},
		{aud: "http://x/client/", url: "/client/hubs/chat"},
		{aud: "http://x/client/?hub=chat", url: "/client/hubs/chat"},
		// The hub in the query.
		{aud: "http://x/client/", url: "/client/?hub=chat", want: true},
		{aud: "http://x/client", url: "/client?hub=chat", want: true},
		{aud: "http://x/client/?hub=Chat", url: "/client/?hub=chat", want: true},
		{aud: "http://x/client/?hub=other", url: "/client/?hub=chat"},
		{aud: "http://x/client/hubs/chat", url: "/client/?hub=chat", want: true},
		{aud: "http://x/client/hubs/other", url: "/client/?hub=chat"},
		// Accepted endpoints.
		{aud: "https://A.example/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example:443/"}, want: true},
		{aud: "https://a.example:443/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"wss://a.example"}, want: true},
		{aud: "http://a.example/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example"}},
		{aud: "https://a.example:8443/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example"}},
		{aud: "https://b.example/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example", "http://b.example"}},
		{aud: "http://b.example:80/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example", "http://b.example"}, want: true},
		{aud: "http://[::1]/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"http://[::1]:80"}, want: true},
		{aud: "https://a.example@evil/client/hubs/chat", url: "/client/hubs/chat", accepted: []string{"https://a.example"}},
	} {
		c := Claims{Audience: []string{"http://x/nothing", tc.aud}}
		err := CheckClientAudience(c, httptest.NewRequest("GET", tc.url, nil), "chat", tc.accepted)
		if got := err == nil; got != tc.want {
			t.Errorf("audience %q for %s, accepted %v: got %v, want %v", tc.aud, tc.url, tc.accepted, got, tc.want)
		}
	}
	if err := CheckClientAudience(Claims{}, httptest.NewRequest("GET", "/client/hubs/chat", nil), "chat", nil); err == nil {
		t.Error("no audience: got no error")
	}
}

// checklist:A03 O09
func TestRESTAudience(t *testing.T) {
	for _, tc := range []struct {
		aud, url string
		want     bool
	}{
		{"http://x:1/api/hubs/Chat/:send?api-version=2024-12-01&excluded=c%202", "/api/hubs/Chat/:send?api-version=2024-12-01&excluded=c%202", true},
		{"http://x/api/hubs/chat/:send", "/api/hubs/chat/:send?api-version=1", true},
		{"http://x/api/hubs/chat/:send/", "/api/hubs/chat/:send", true},
		{"http://x/api/hubs/chat/:send", "/api/hubs/Chat/:send", true},
		{"http://x/api/hubs/chat/:send", "/api/hubs/other/:send", false},
		{"http://x/api/hubs/chat/:send", "/api/hubs/chat/groups/g/:send", false},
		{"http://x/api/hubs/chat", "/api/hubs/chat/:send", false},
		{"http://x/client/hubs/chat", "/api/hubs/chat/:send", false},
		{"http://x/api/hubs/chat/groups/G/:send", "/api/hubs/chat/groups/g/:send", false},
		// Escapes: as sent, normalised, decoded.
		{"http://x/api/hubs/chat/groups/a%20b/:send", "/api/hubs/chat/groups/a%20b/:send", true},
		{"http://x/api/hubs/chat/groups/a b/:send", "/api/hubs/chat/groups/a%20b/:send", true},
		{"http://x/api/hubs/chat/groups/a%5Bb/:send", "/api/hubs/chat/groups/a[b/:send", true},
		{"http://x/api/hubs/chat/groups/a%2Fb/:send", "/api/hubs/chat/groups/a%2Fb/:send", true},
		{"http://x/api/hubs/chat/groups/a%2fb/:send", "/api/hubs/chat/groups/a%2Fb/:send", true},
		{"http://x/api/hubs/chat/groups/a/b/:send", "/api/hubs/chat/groups/a%2Fb/:send", true},
		{"http://x/api/hubs/chat/groups/a/b%3Fc/:send", "/api/hubs/chat/groups/a%2Fb%3Fc/:send", true},
		{"http://x/api/hubs/chat/groups/a%3Fb/:send", "/api/hubs/chat/groups/a%3Fb/:send", true},
		{"http://x/api/hubs/chat/groups/a?b/:send", "/api/hubs/chat/groups/a%3Fb/:send", false},
		{"http://x/api/hubs/chat/groups/50%/:send", "/api/hubs/chat/groups/50%25/:send", true},
		{"http://x/api/hubs/chat/groups/a%2Fb", "/api/hubs/chat/groups/a/b", false},
		{"http://x/api/hubs/chat/groups/a", "/api/hubs/chat/groups/a%2F", false},
		{"http://x/api/hubs/chat/groups/%zz", "/api/hubs/chat/groups/a", false},
	} {
		err := CheckRESTAudience(Claims{Audience: []string{tc.aud}}, httptest.NewRequest("POST", tc.url, nil), nil)
		if got := err == nil; got != tc.want {
			t.Errorf("audience %q for %s: got %v, want %v", tc.aud, tc.url, got, tc.want)
		}
	}
}

// checklist:O02
func TestAudienceErrorNamesBoth(t *testing.T) {
	r := httptest.NewRequest("GET", "http://a.example/client/hubs/chat", nil)
	err := CheckClientAudience(Claims{Audience: []string{"http://b/x", "http://c/y"}}, r, "chat", nil)
	want := "Failed to validate audience. Expected Audiences: http://a.example/client/hubs/chat Actual Audiences: http://b/x, http://c/y"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// checklist:A01
func TestParseConnectionString(t *testing.T) {
	for in, want := range map[string]ConnectionString{
		"Endpoint=https://a.example;AccessKey=k==;Version=1.0;":                                 {Endpoint: "https://a.example", AccessKey: "k=="},
		"accesskey=k; ENDPOINT=http://localhost:8080/ ;Other=x":                                 {Endpoint: "http://localhost:8080", AccessKey: "k"},
		"Endpoint=a.example;AccessKey=k;":                                                       {Endpoint: "https://a.example", AccessKey: "k"},
		"Endpoint=http://localhost;AccessKey=k;Port=8080;Version=1.0;":                          {Endpoint: "http://localhost:8080", AccessKey: "k"},
		"Endpoint=http://localhost:1;AccessKey=k;Port=8080;":                                    {Endpoint: "http://localhost:8080", AccessKey: "k"},
		"Endpoint=http://[::1];AccessKey=k;Port=8080;":                                          {Endpoint: "http://[::1]:8080", AccessKey: "k"},
		"Endpoint=https://a.example:8443/;AccessKey=a=b;c;Version=1.0;;;=;x=":                   {Endpoint: "https://a.example:8443", AccessKey: "a=b"},
		"Endpoint=https://service.example;ClientEndpoint=https://clients.example/;AccessKey=k;": {Endpoint: "https://service.example", ClientEndpoint: "https://clients.example", AccessKey: "k"},
	} {
		if got, err := ParseConnectionString(in); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "Endpoint=https://a", "AccessKey=k", "Endpoint=ftp://a;AccessKey=secret", "Endpoint=https://;AccessKey=secret", "Endpoint=http://a b;AccessKey=secret", "Endpoint=https://a;ClientEndpoint=b;AccessKey=secret"} {
		if got, err := ParseConnectionString(in); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v %v, want an error without the key", in, got, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(vector)
	f.Add(headed(`{"alg":"none"}`, "e30"))
	f.Add(headed(`{"alg":"HS256","alg":"HS512"}`, "e30"))
	f.Add(headed(`{"alg":"HS256"}`, "\ne30\r"))
	f.Add("e30.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := NewKeyVerifier(key).Verify(t.Context(), raw)
		if err == nil && c.ExpiresAt.IsZero() {
			t.Error("accepted a token without exp")
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"a","aud":["x"],"exp":1,"o":{"k":[1]},"n":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseClaims(raw)
		if err != nil {
			return
		}
		all := c.All()
		for name, values := range all {
			if values == nil {
				t.Errorf("claim %q: got nil, want a list", name)
			}
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil || len(members) != len(all) {
			t.Fatalf("got %d claims, encoding/json %d, %v", len(all), len(members), err)
		}
		for name, value := range members {
			want := []string{}
			var elements []json.RawMessage
			switch {
			case value == nil || value[0] == 'n':
			case json.Unmarshal(value, &elements) != nil:
				want = []string{oneText(value)}
			default:
				for _, element := range elements {
					want = append(want, oneText(element))
				}
			}
			if got := all[name]; !slices.Equal(got, want) || !slices.Equal(c.Claim(name), got) {
				t.Errorf("claim %q: got %q, want %q", name, got, want)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := NewKeyVerifier(key, otherKey)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), vector); err != nil {
			b.Fatal(err)
		}
	}
}
