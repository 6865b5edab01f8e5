package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Names under which old JWT libraries write sub and role (auth.md section 2).
const (
	nameIdentifier = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
	roleIdentifier = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
)

// Claims is what a verified token says.
type Claims struct {
	Subject   string   // the user id; empty: none
	Audience  []string // see CheckClientAudience and CheckRESTAudience
	Roles     []string
	Groups    []string // see CheckGroups
	ExpiresAt time.Time
	NotBefore time.Time // zero when the token does not say

	members   members
	badGroups bool // webpubsub.group is neither a string nor an array of strings
}

// CheckGroups reports what is wrong with the groups to join at connect, or nil. A client that brings bad ones
// is answered 400, where any other fault of a token is 401 (client-json.md section 1).
func (c Claims) CheckGroups() error {
	if c.badGroups {
		return errors.New("claim webpubsub.group must be a string or an array of strings")
	}
	for _, group := range c.Groups {
		if err := webpubsub.CheckGroup(group); err != nil {
			return fmt.Errorf("claim webpubsub.group: %w", err)
		}
	}
	return nil
}

// All returns every claim under its name, as strings: a number as written, an object as its JSON, an array as its
// elements. It is what the connect event carries; nil without a token.
func (c Claims) All() map[string][]string {
	if c.members == nil {
		return nil
	}
	all := make(map[string][]string, len(c.members))
	for _, claim := range c.members {
		all[claim.name] = texts(claim.value)
	}
	return all
}

// Claim returns the claim of that name as All does, nil when there is none.
func (c Claims) Claim(name string) []string {
	value := c.members.value(name)
	if value == nil {
		return nil
	}
	return texts(value)
}

// Scopes returns what the token may be used for, as OpenID Connect providers say it: words in scope or scp.
func (c Claims) Scopes() (scopes []string) {
	for _, name := range []string{"scope", "scp"} {
		for _, value := range c.Claim(name) {
			scopes = append(scopes, strings.Fields(value)...)
		}
	}
	return scopes
}

func (c *Claims) times() jwt.Claims {
	times := jwt.RegisteredClaims{ExpiresAt: numericDate(c.ExpiresAt), NotBefore: numericDate(c.NotBefore)}
	return &times
}

func numericDate(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return &jwt.NumericDate{Time: t}
}

// parseClaims reads the claims of a token whose signature is good. Names are matched exactly; of a repeated
// name the last value counts.
func parseClaims(raw []byte) (Claims, error) {
	m, ok := readObject(raw)
	if !ok {
		return Claims{}, errors.New("the token's claims are not a JSON object")
	}
	c := Claims{members: m}
	if c.Subject, ok = m.subject(); !ok {
		return c, errors.New("claim sub must be a string")
	}
	if c.Audience, ok = stringOrArray(m.value("aud")); !ok {
		return c, errors.New("claim aud must be a string or an array of strings")
	}
	if c.ExpiresAt, ok = instant(m.value("exp")); !ok {
		return c, errors.New("claim exp must be a number of seconds since 1970")
	}
	if c.NotBefore, ok = instant(m.value("nbf")); !ok {
		return c, errors.New("claim nbf must be a number of seconds since 1970")
	}
	// A role that is not a string gives nothing, like any unknown role.
	roles, _ := stringOrArray(m.value("role"))
	remapped, _ := stringOrArray(m.value(roleIdentifier))
	c.Roles = append(roles, remapped...)
	c.Groups, ok = stringOrArray(m.value("webpubsub.group"))
	c.badGroups = !ok
	return c, nil
}

func (m members) subject() (string, bool) {
	raw := m.value("sub")
	if raw == nil {
		raw = m.value(nameIdentifier)
	}
	if absent(raw) {
		return "", true
	}
	return text(raw)
}

// absent reports whether a member is missing or null, which mean the same.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || raw[0] == 'n' }

// stringOrArray decodes a string or an array of strings; absent is nil.
func stringOrArray(raw json.RawMessage) ([]string, bool) {
	if absent(raw) {
		return nil, true
	}
	if s, ok := text(raw); ok {
		return []string{s}, true
	}
	if raw[0] != '[' {
		return nil, false
	}
	all, ok := make([]string, 0, 2), true
	elements(raw, func(element json.RawMessage) {
		s, isText := text(element)
		all, ok = append(all, s), ok && isText
	})
	if !ok {
		return nil, false
	}
	return all, true
}

// instant decodes seconds since 1970; absent is the zero time. Years after 9999 are refused.
func instant(raw json.RawMessage) (time.Time, bool) {
	if absent(raw) {
		return time.Time{}, true
	}
	seconds, err := strconv.ParseFloat(string(raw), 64) // valid JSON that is no number is none for strconv either
	if err != nil || seconds < 0 || seconds > 253402300799 {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// texts returns any JSON value as strings, never nil.
func texts(raw json.RawMessage) []string {
	if absent(raw) {
		return []string{}
	}
	if raw[0] != '[' {
		return []string{oneText(raw)}
	}
	all := make([]string, 0, 2)
	elements(raw, func(element json.RawMessage) { all = append(all, oneText(element)) })
	return all
}

func oneText(raw json.RawMessage) string {
	if s, ok := text(raw); ok {
		return s
	}
	return string(raw)
}
