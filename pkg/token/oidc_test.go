package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const issuer = "https://login.example/tenant/v2.0"

// provider answers as an OpenID Connect provider without a network, so that time can be made up.
type provider struct {
	mu       sync.Mutex
	keys     map[string]crypto.PublicKey // by id
	answer   func(path string) (int, string)
	requests atomic.Int32 // for keys
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, body := http.StatusOK, `{"issuer":"`+issuer+`","jwks_uri":"https://login.example/keys"}`
	if r.URL.Path == "/keys" {
		p.requests.Add(1)
		var set jose.JSONWebKeySet
		for id, key := range p.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"})
		}
		text, _ := json.Marshal(set)
		body = string(text)
	}
	if p.answer != nil {
		if s, b := p.answer(r.URL.Path); s != 0 {
			status, body = s, b
		}
	}
	if status == 0 {
		return nil, errors.New("no route to host")
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Location": {"https://evil.example/"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (p *provider) set(keys map[string]crypto.PublicKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *provider) fails(answer func(path string) (int, string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *provider) verifier(algorithms ...string) Verifier {
	ps := NewProviders()
	ps.client.Transport = p
	return ps.Verifier(Issuer{URL: issuer, Audiences: []string{"api://chatr", "https://webpubsub.azure.com"}, Algorithms: algorithms})
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newEC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// claims are those of a good token, changed.
func claims(changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"iss": issuer, "aud": "api://chatr", "sub": "app", "exp": inAnHour(), "roles": []string{"Sender"}}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func withHeader(t testing.TB, method jwt.SigningMethod, key any, header, body jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, body)
	maps.Copy(token.Header, header)
	raw, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// checklist:A06
func TestProviderTokens(t *testing.T) {
	rsaKey, other, ec := newRSA(t), newRSA(t), newEC(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{keys: map[string]crypto.PublicKey{"rsa": &rsaKey.PublicKey, "ec": &ec.PublicKey, "ed": public}}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	kid := func(id any) jwt.MapClaims { return jwt.MapClaims{"kid": id} }
	rs, es := jwt.SigningMethodRS256, jwt.SigningMethodES256
	now := time.Now()
	for name, tt := range map[string]struct {
		raw  string
		want string // in the error; empty: the token is good
	}{
		"RS256":              {withHeader(t, rs, rsaKey, kid("rsa"), claims(nil)), ""},
		"ES256":              {withHeader(t, es, ec, kid("ec"), claims(nil)), ""},
		"EdDSA":              {withHeader(t, jwt.SigningMethodEdDSA, private, kid("ed"), claims(nil)), ""},
		"no key id":          {withHeader(t, rs, rsaKey, nil, claims(nil)), ""},
		"one of audiences":   {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"aud": []string{"x", "https://webpubsub.azure.com"}})), ""},
		"expired by a bit":   {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"exp": now.Add(-4 * time.Minute).Unix()})), ""},
		"early by a bit":     {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"nbf": now.Add(4 * time.Minute).Unix()})), ""},
		"expired":            {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"exp": now.Add(-6 * time.Minute).Unix()})), "expired"},
		"not valid yet":      {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"nbf": now.Add(6 * time.Minute).Unix()})), "not valid yet"},
		"never expires":      {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"exp": nil})), "no expiry"},
		"other audience":     {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"aud": "api://other"})), "Expected Audiences: api://chatr, https://webpubsub.azure.com Actual Audiences: api://other"},
		"audience in part":   {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"aud": "api://chatr/"})), "Expected Audiences"},
		"no audience":        {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"aud": nil})), "Expected Audiences"},
		"other issuer":       {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"iss": issuer + "/"})), "issuer is not"},
		"no issuer":          {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"iss": nil})), "issuer is not"},
		"two issuers":        {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"iss": []string{issuer, "x"}})), "issuer is not"},
		"no signature":       {withHeader(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid("rsa"), claims(nil)), "not signed"},
		"key as HMAC secret": {withHeader(t, jwt.SigningMethodHS256, publicPEM, kid("rsa"), claims(nil)), "not signed"},
		"DER as HMAC secret": {withHeader(t, jwt.SigningMethodHS256, der, kid("rsa"), claims(nil)), "not signed"},
		"not pinned":         {withHeader(t, jwt.SigningMethodRS512, rsaKey, kid("rsa"), claims(nil)), "not signed"},
		"other key":          {withHeader(t, rs, other, kid("rsa"), claims(nil)), "not signed"},
		"key of other kind":  {withHeader(t, es, ec, kid("rsa"), claims(nil)), "not signed"},
		"unknown key":        {withHeader(t, rs, rsaKey, kid("new"), claims(nil)), "not signed"},
		"key id no string":   {withHeader(t, rs, other, kid(7), claims(nil)), "not signed"},
		"its own key":        {withHeader(t, rs, other, jwt.MapClaims{"kid": "rsa", "jwk": map[string]string{"kty": "RSA"}, "jku": "https://evil.example/"}, claims(nil)), "not signed"},
		"unknown extension":  {withHeader(t, rs, rsaKey, jwt.MapClaims{"kid": "rsa", "crit": []string{"x"}}, claims(nil)), "not signed"},
		"huge":               {withHeader(t, rs, rsaKey, kid("rsa"), claims(jwt.MapClaims{"x": strings.Repeat("x", 30_000)})), "at most"},
		"nothing":            {"", "malformed"},
		"no JWT":             {"a.b", "malformed"},
		"no JSON":            {"!.!.!", "malformed"},
	} {
		c, err := p.verifier("RS256", "ES256", "EdDSA").Verify(t.Context(), tt.raw)
		switch {
		case tt.want == "" && (err != nil || c.Subject != "app" || c.Claim("roles")[0] != "Sender"):
			t.Errorf("%s: got %+v, %v, want the claims", name, c, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrNoKeys)):
			t.Errorf("%s: got %v, want a refusal with %q", name, err, tt.want)
		}
	}
}

// checklist:A06
func TestKeysThatAreNoneForSignatures(t *testing.T) {
	good, weak := newRSA(t), newRSA(t)
	weak.N.SetBit(weak.N, 2047, 0) // what is left is too short
	texts := func(keys ...any) (all []json.RawMessage) {
		for _, k := range keys {
			text, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text)
		}
		return all
	}
	keys, err := publicOnes(texts(
		map[string]string{"kty": "new", "x": "y"},
		"nonsense", 7,
		jose.JSONWebKey{Key: []byte("a symmetric key, which would sign HS256"), KeyID: "oct", Use: "sig"},
		jose.JSONWebKey{Key: &good.PublicKey, KeyID: "enc", Use: "enc"},
		jose.JSONWebKey{Key: good, KeyID: "private", Use: "sig"},
		jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "weak", Use: "sig"},
		jose.JSONWebKey{Key: &good.PublicKey, KeyID: "good", Use: "sig"},
	))
	if err != nil || len(keys) != 1 || keys[0].KeyID != "good" {
		t.Errorf("got %+v, %v, want the key called good", keys, err)
	}
	if _, err := publicOnes(nil); err == nil {
		t.Error("got no error from an empty set")
	}
}

// checklist:A06
func TestProviderKeysAreRenewed(t *testing.T) {
	first, second := newEC(t), newEC(t)
	synctest.Test(t, func(t *testing.T) {
		p := &provider{keys: map[string]crypto.PublicKey{"1": &first.PublicKey}}
		v := p.verifier("ES256")
		one := func() error {
			_, err := v.Verify(t.Context(), withHeader(t, jwt.SigningMethodES256, first, jwt.MapClaims{"kid": "1"}, claims(nil)))
			return err
		}
		two := func() error {
			_, err := v.Verify(t.Context(), withHeader(t, jwt.SigningMethodES256, second, jwt.MapClaims{"kid": "2"}, claims(nil)))
			return err
		}
		want := func(err error, good bool, requests int32, when string) {
			t.Helper()
			if (err == nil) != good || p.requests.Load() != requests {
				t.Fatalf("%s: got %v after %d requests, want good: %v after %d", when, err, p.requests.Load(), good, requests)
			}
		}
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() {
				if err := one(); err != nil {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		want(one(), true, 1, "a hundred at once")
		for range 100 {
			want(two(), false, 1, "unknown keys")
		}
		p.set(map[string]crypto.PublicKey{"1": &first.PublicKey, "2": &second.PublicKey})
		time.Sleep(fetchPause)
		want(two(), true, 2, "a new key")
		want(one(), true, 2, "the old key beside it")

		p.set(map[string]crypto.PublicKey{"2": &second.PublicKey})
		want(one(), true, 2, "a key that was withdrawn just now")
		time.Sleep(keysFresh)
		want(two(), true, 3, "after an hour")
		want(one(), false, 3, "the withdrawn key")

		p.fails(func(string) (int, string) { return 503, "" })
		time.Sleep(keysFresh)
		want(two(), true, 3, "while the provider is away")
		time.Sleep(fetchPause)
		if err := one(); !errors.Is(err, ErrNoKeys) {
			t.Errorf("got %v for an unknown key while the provider is away, want ErrNoKeys", err)
		}
		time.Sleep(keysUsable)
		if err := two(); !errors.Is(err, ErrNoKeys) {
			t.Errorf("got %v a day later, want ErrNoKeys", err)
		}
		p.fails(nil)
		time.Sleep(fetchPause)
		want(two(), true, 4, "the provider is back")
	})
}

// checklist:A06
func TestProvidersThatCannotBeBelieved(t *testing.T) {
	ec := newEC(t)
	raw := withHeader(t, jwt.SigningMethodES256, ec, jwt.MapClaims{"kid": "1"}, claims(nil))
	for want, answer := range map[string]func(path string) (int, string){
		"status 500":   func(string) (int, string) { return 500, "" },
		"status 302":   func(string) (int, string) { return 302, "" },
		"not the JSON": func(string) (int, string) { return 200, "<html>" },
		"of issuer": func(string) (int, string) {
			return 200, `{"issuer":"https://evil.example","jwks_uri":"https://evil.example/keys"}`
		},
		"jwks_uri must be an https URL": func(string) (int, string) {
			return 200, `{"issuer":"` + issuer + `","jwks_uri":"http://login.example/keys"}`
		},
		"no public key": func(path string) (int, string) {
			if path == "/keys" {
				return 200, `{"keys":[]}`
			}
			return 0, ""
		},
		"keys: the answer is not the JSON": func(path string) (int, string) {
			if path == "/keys" { // far more than is read
				return 200, `{"keys":["` + strings.Repeat("x", 2*maxKeysBytes) + `"]}`
			}
			return 0, ""
		},
	} {
		p := &provider{keys: map[string]crypto.PublicKey{"1": &ec.PublicKey}, answer: answer}
		if _, err := p.verifier("ES256").Verify(t.Context(), raw); !errors.Is(err, ErrNoKeys) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrNoKeys with %q", err, want)
		}
	}
}

// A caller that leaves does not wait, and does not take the keys from those who stay.
func TestReadingOutlivesWhoBeganIt(t *testing.T) {
	ec := newEC(t)
	synctest.Test(t, func(t *testing.T) {
		p := &provider{keys: map[string]crypto.PublicKey{"1": &ec.PublicKey}}
		v := p.verifier("ES256")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		raw := withHeader(t, jwt.SigningMethodES256, ec, jwt.MapClaims{"kid": "1"}, claims(nil))
		if _, err := v.Verify(ctx, raw); err != nil {
			t.Errorf("got %v, want the keys read all the same", err)
		}
	})
}

func TestUnverifiedIssuer(t *testing.T) {
	for raw, want := range map[string]string{
		signed(t, jwt.SigningMethodHS256, []byte(key), claims(nil)):                               issuer,
		signed(t, jwt.SigningMethodHS256, []byte(key), claims(jwt.MapClaims{"iss": nil})):         "",
		signed(t, jwt.SigningMethodHS256, []byte(key), claims(jwt.MapClaims{"iss": []int{1, 2}})): "",
		"x.y.z": "", "": "", strings.Repeat("x", maxLength+1): "",
	} {
		if got := UnverifiedIssuer(raw); got != want {
			t.Errorf("%.30q: got %q, want %q", raw, got, want)
		}
	}
}

// Whatever a token says, it is not good without a signature of the provider's key.
func FuzzProviderToken(f *testing.F) {
	ec := newEC(f)
	p := &provider{keys: map[string]crypto.PublicKey{"1": &ec.PublicKey}}
	v := p.verifier("ES256")
	good := withHeader(f, jwt.SigningMethodES256, ec, jwt.MapClaims{"kid": "1"}, claims(nil))
	f.Add(good)
	f.Add(withHeader(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"kid": "1"}, claims(nil)))
	f.Add(`eyJhbGciOiJFUzI1NiIsImtpZCI6WzFdfQ.e30.AA`)
	f.Fuzz(func(t *testing.T, raw string) {
		UnverifiedIssuer(raw)
		if _, err := v.Verify(t.Context(), raw); err == nil && !bytes.Equal([]byte(raw[:strings.LastIndexByte(raw, '.')]), []byte(good[:strings.LastIndexByte(good, '.')])) {
			t.Errorf("%q was taken for good", raw)
		}
	})
}

func TestCheckProviderURL(t *testing.T) {
	for address, good := range map[string]bool{
		"https://login.example/x/v2.0": true, "http://localhost:9000": true, "http://127.0.0.1/": true, "http://[::1]:80/": true,
		"http://login.example/": false, "": false, "login.example": false, "https://": false, "ftp://localhost/": false,
		"https://user:pass@login.example/": false, "https://login.example/#x": false,
	} {
		if err := CheckProviderURL(address); (err == nil) != good {
			t.Errorf("%q: got %v, want good: %v", address, err, good)
		}
	}
}
