package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer is an OpenID Connect provider whose access tokens are accepted. All that a token could choose for itself is
// pinned here.
type Issuer struct {
	URL        string   // exactly as in iss; below it is the discovery document
	Audiences  []string // one of these must be in aud
	Algorithms []string // signatures by others are refused; symmetric ones and none are never among them
	KeysURL    string   // of the JSON Web Key Set; empty: what the discovery document says
}

// Algorithms are the signatures that tokens of OpenID Connect providers may have.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// ErrNoKeys says that a token could not be judged, since the keys of its issuer cannot be had at the moment.
var ErrNoKeys = errors.New("the keys of the token's issuer cannot be read now; try again")

// Providers makes Verifiers of OpenID Connect providers and keeps the providers' keys, over changes of settings too. It is
// safe for concurrent use.
type Providers struct {
	client *http.Client

	mu   sync.Mutex                // guards the following
	sets map[[2]string]*publicKeys // by issuer and address of its keys
}

// NewProviders returns Providers that have read no keys yet.
func NewProviders() *Providers {
	return &Providers{
		sets: map[[2]string]*publicKeys{},
		client: &http.Client{
			Timeout: fetchTime,
			// Keys come from where the operator said, or from where that place says, and from nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Verifier returns a Verifier of tokens of one issuer, their issuer and audience included.
func (p *Providers) Verifier(i Issuer) Verifier {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := [2]string{i.URL, i.KeysURL}
	keys := p.sets[at]
	if keys == nil {
		keys = &publicKeys{client: p.client, issuer: i.URL, address: i.KeysURL}
		p.sets[at] = keys
	}
	return &oidcVerifier{issuer: i, keys: keys}
}

type oidcVerifier struct {
	issuer Issuer
	keys   *publicKeys
}

// Verify implements Verifier. It may wait for the issuer's keys; its error is ErrNoKeys, with why, when they do not come.
func (v *oidcVerifier) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > maxLength {
		return Claims{}, errTooLong(raw)
	}
	parser := jwt.NewParser(jwt.WithValidMethods(v.issuer.Algorithms), jwt.WithoutClaimsValidation())
	var p payload
	_, err := parser.ParseWithClaims(raw, &p, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515, 4.1.11: we know no extension
			return nil, errUnknownKey
		}
		id, _ := t.Header["kid"].(string)
		return v.keys.find(ctx, id, t.Method.Alg())
	})
	switch {
	case errors.Is(err, ErrNoKeys):
		return Claims{}, err
	case errors.Is(err, errUnknownKey), errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Claims{}, fmt.Errorf("the token is not signed with a current key of its issuer, by one of %q", v.issuer.Algorithms)
	case err != nil:
		return Claims{}, explain(err)
	}
	c, err := parseClaims(p.raw)
	if err != nil {
		return Claims{}, err
	}
	if err := times.Validate(c.times()); err != nil {
		return Claims{}, explain(err)
	}
	if iss := c.Claim("iss"); len(iss) != 1 || iss[0] != v.issuer.URL {
		return Claims{}, fmt.Errorf("the token's issuer is not %s", v.issuer.URL)
	}
	if !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(v.issuer.Audiences, a) }) {
		return Claims{}, audienceError(v.issuer.Audiences, c.Audience)
	}
	return c, nil
}

// UnverifiedIssuer returns the issuer that a token names, which anybody may have written: it says which Verifier may judge the token and
// nothing else. It is empty when there is none.
func UnverifiedIssuer(raw string) string {
	if len(raw) > maxLength {
		return ""
	}
	var p payload
	if _, _, err := jwt.NewParser().ParseUnverified(raw, &p); err != nil {
		return ""
	}
	c, err := parseClaims(p.raw)
	if iss := c.Claim("iss"); err == nil && len(iss) == 1 {
		return iss[0]
	}
	return ""
}
