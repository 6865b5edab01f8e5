// Package token mints and verifies access tokens: of clients and of callers of the REST API.
//
// A token is a JWT signed with one of a tenant's access keys (auth.md sections 1 to 3), or by an OpenID Connect provider
// that the tenant trusts (section 5). Verifying proves who
// made it and that its time is now; what it is good for is its audience, checked apart by CheckClientAudience
// and CheckRESTAudience, so that a token for one cannot be used for the other.
package token

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
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
func NewKeyVerifier(keys ...string) Verifier { return keyVerifier(keys) }

// keyVerifier reads tokens itself: each connection has one, and the library would spend a tenth of all that a connection
// costs on headers in which only alg counts. Tests hold the two against each other.
type keyVerifier []string

// Verify implements Verifier. It does not block.
func (v keyVerifier) Verify(_ context.Context, raw string) (Claims, error) {
	if len(raw) > maxLength {
		return Claims{}, errTooLong(raw)
	}
	claims, err := v.open(raw)
	if err != nil {
		return Claims{}, explain(err)
	}
	c, err := parseClaims(claims)
	if err != nil {
		return Claims{}, err
	}
	if err := times.Validate(c.times()); err != nil {
		return Claims{}, explain(err)
	}
	return c, nil
}

// open returns the claims of a token (RFC 7515 section 5.2) once its signature is known to be good.
func (v keyVerifier) open(raw string) (claims []byte, err error) {
	signed, mac, ok := cutLast(raw, '.')
	head, body, whole := strings.Cut(signed, ".")
	if !ok || !whole || strings.Contains(body, ".") {
		return nil, jwt.ErrTokenMalformed
	}
	var decoded [3][]byte
	for i, part := range []string{head, body, mac} {
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return nil, jwt.ErrTokenMalformed
		}
	}
	header, ok := readObject(decoded[0])
	if !ok {
		return nil, jwt.ErrTokenMalformed
	}
	if algorithm, _ := text(header.value("alg")); algorithm != jwt.SigningMethodHS256.Alg() || header.value("crit") != nil { // RFC 7515, 4.1.11: we know no extension
		return nil, jwt.ErrTokenSignatureInvalid
	}
	for _, key := range v {
		if key != "" && hmac.Equal(sum(key, signed), decoded[2]) {
			return decoded[1], nil
		}
	}
	return nil, jwt.ErrTokenSignatureInvalid
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// sum is the signature of text by HS256.
func sum(key, text string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(h, text) // never fails
	return h.Sum(nil)
}

// times checks exp and nbf.
var times = jwt.NewValidator(jwt.WithLeeway(skew), jwt.WithExpirationRequired())

func errTooLong(raw string) error {
	return fmt.Errorf("the token has %d bytes; at most %d are allowed", len(raw), maxLength)
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
