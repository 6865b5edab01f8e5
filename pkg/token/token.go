// Package token mints and verifies access tokens: of clients and of callers of the REST API.
//
// A token is a JWT signed with one of a tenant's access keys (auth.md sections 1 to 3), or by an OpenID Connect provider
// that the tenant trusts (section 5). Verifying proves who
// made it and that its time is now; what it is good for is its audience, checked apart by CheckClientAudience
// and CheckRESTAudience, so that a token for one cannot be used for the other.
package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// skew is how far clocks may differ, for exp and nbf.
const skew = 5 * time.Minute

// maxLength of a token in bytes. Longer ones are refused unread: what is not yet verified should cost little.
const maxLength = 32 << 10

// Verifier checks a token's signature and times. Its errors have texts for the token's sender and never
// contain the token. Verifiers are safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, raw string) (Claims, error)
}

// NewKeyVerifier returns a Verifier of tokens signed by HS256 with any of the keys; empty keys are ignored.
// Every other algorithm is refused, so that nobody can choose a weaker one.
func NewKeyVerifier(keys ...string) Verifier {
	var set jwt.VerificationKeySet
	for _, key := range keys {
		if key != "" {
			set.Keys = append(set.Keys, []byte(key))
		}
	}
	return &keyVerifier{
		keys: set,
		// Claims are read and validated after the signature, by us.
		parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithoutClaimsValidation()),
	}
}

// times checks exp and nbf.
var times = jwt.NewValidator(jwt.WithLeeway(skew), jwt.WithExpirationRequired())

type keyVerifier struct {
	keys   jwt.VerificationKeySet
	parser *jwt.Parser
}

// Verify implements Verifier. It does not block.
func (v *keyVerifier) Verify(_ context.Context, raw string) (Claims, error) {
	if len(raw) > maxLength {
		return Claims{}, errTooLong(raw)
	}
	var p payload
	if _, err := v.parser.ParseWithClaims(raw, &p, v.key); err != nil {
		return Claims{}, explain(err)
	}
	c, err := parseClaims(p.raw)
	if err != nil {
		return Claims{}, err
	}
	if err := times.Validate(c.times()); err != nil {
		return Claims{}, explain(err)
	}
	return c, nil
}

func errTooLong(raw string) error {
	return fmt.Errorf("the token has %d bytes; at most %d are allowed", len(raw), maxLength)
}

// key returns the keys for a token that has no extensions which must be understood (RFC 7515 section 4.1.11).
func (v *keyVerifier) key(t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, jwt.ErrTokenSignatureInvalid
	}
	return v.keys, nil
}

// explain says in our words what the library found wrong. The library's own text may repeat parts of the token.
func explain(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return errors.New("the token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return errors.New("the token is not valid yet (nbf)")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errors.New("the token has no expiry time (exp)")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return errors.New("the token is not signed with a current access key by HS256")
	}
	return errors.New("the token is malformed; it must be a JWT")
}

// payload takes the claims as they are, to be parsed once the signature is known to be good.
type payload struct {
	jwt.MapClaims // never set: it only makes payload a jwt.Claims
	raw           []byte
}

// UnmarshalJSON keeps a copy of b.
func (p *payload) UnmarshalJSON(b []byte) error {
	p.raw = append(p.raw[:0], b...)
	return nil
}

// Options are what a token may carry besides its audience.
type Options struct {
	Subject string   // the user id; empty: none
	Roles   []string // for clients: webpubsub.sendToGroup and so on
	Groups  []string // for clients: groups joined at connect

	Claims map[string][]string // others, for the connect handler; none of those that a token has anyway
}

// Sign returns a token for audience, valid from now for ttl, signed with key. What is not set is left out.
func Sign(key, audience string, ttl time.Duration, o Options) (string, error) {
	if key == "" {
		return "", errors.New("sign token: the access key is empty")
	}
	now := time.Now()
	claims := jwt.MapClaims{"aud": audience, "iat": now.Unix(), "exp": now.Add(ttl).Unix()}
	for name, values := range o.Claims {
		switch {
		case name == "aud" || name == "iat" || name == "exp" || name == "sub" || name == "role" || name == "webpubsub.group":
			return "", fmt.Errorf("sign token: claim %s is not one of the application's", name)
		case len(values) == 1:
			claims[name] = values[0]
		default:
			claims[name] = values
		}
	}
	if o.Subject != "" {
		claims["sub"] = o.Subject
	}
	if len(o.Roles) > 0 {
		claims["role"] = o.Roles
	}
	if len(o.Groups) > 0 {
		claims["webpubsub.group"] = o.Groups
	}
	raw, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return raw, nil
}
