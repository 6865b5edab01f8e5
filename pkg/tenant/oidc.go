package tenant

import (
	"fmt"
	"slices"

	"github.com/chatr-dev/chatr/pkg/token"
)

// Auth says how applications prove who they are, beside or instead of the access keys (protocol/auth.md section 5).
type Auth struct {
	// DisableKeys refuses tokens that applications have signed with the primary or secondary key, those of clients too.
	// What Chatr issues itself goes on working, by the service key.
	DisableKeys bool   `yaml:"disableKeys" help:"refuse what applications sign with primary or secondary, for clients and REST alike"`
	OIDC        []OIDC `yaml:"oidc" help:"OpenID Connect providers (Entra ID, Keycloak, …) whose access tokens open the REST API"`
}

// OIDC is an OpenID Connect provider, and whom of those it vouches for the REST API is open to: a token must have one of
// the subjects, roles or scopes.
type OIDC struct {
	Issuer     string   `yaml:"issuer" required:"true" example:"https://login.microsoftonline.com/TENANT/v2.0" help:"exactly as in tokens; https, but for this machine"`
	Audiences  []string `yaml:"audiences" example:"[https://webpubsub.azure.com]" help:"one of them must be in aud; none: https://webpubsub.azure.com, which Azure SDKs ask for"`
	Algorithms []string `yaml:"algorithms" example:"[RS256]" help:"signatures that count, never symmetric ones; none: RS256"`
	KeysURL    string   `yaml:"keysUrl" help:"of the key set (JWKS); empty: as the issuer's discovery document says"`
	Roles      []string `yaml:"roles" example:"[Chatr.Send]" help:"whom the API is open to: who has one of these roles …"`
	Scopes     []string `yaml:"scopes" help:"… or one of these scopes (scp, scope) …"`
	Subjects   []string `yaml:"subjects" help:"… or is one of these (sub, oid, azp, appid, client_id); *: everybody with a token"`
}

// defaultAudience is the resource that SDKs ask a token for (auth.md section 5.1).
const defaultAudience = "https://webpubsub.azure.com"

// Provider returns the settings of an issuer, or nil when its tokens are worth nothing here.
func (a *Auth) Provider(issuer string) *OIDC {
	for i := range a.OIDC {
		if a.OIDC[i].Issuer == issuer {
			return &a.OIDC[i]
		}
	}
	return nil
}

// Pinned returns what tokens of the issuer are held against.
func (o *OIDC) Pinned() token.Issuer {
	i := token.Issuer{URL: o.Issuer, Audiences: o.Audiences, Algorithms: o.Algorithms, KeysURL: o.KeysURL}
	if len(i.Audiences) == 0 {
		i.Audiences = []string{defaultAudience}
	}
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"RS256"}
	}
	return i
}

// Admits reports whether the REST API is open to a caller with these verified claims.
func (o *OIDC) Admits(c token.Claims) bool {
	for _, name := range []string{"sub", "oid", "azp", "appid", "client_id"} {
		for _, value := range c.Claim(name) {
			if slices.Contains(o.Subjects, value) {
				return true
			}
		}
	}
	return slices.Contains(o.Subjects, "*") ||
		slices.ContainsFunc(c.Claim("roles"), func(role string) bool { return slices.Contains(o.Roles, role) }) ||
		slices.ContainsFunc(c.Scopes(), func(scope string) bool { return slices.Contains(o.Scopes, scope) })
}

func (c *checker) auth(at string, a Auth, k Keys) {
	if a.DisableKeys && k.Service == "" {
		c.add(at+".disableKeys", "needs keys.service, a key that Chatr's own tokens are signed with")
	}
	issuers := map[string]string{}
	for i, o := range a.OIDC {
		c.oidc(fmt.Sprintf("%s.oidc[%d]", at, i), o)
		if first, ok := issuers[o.Issuer]; ok {
			c.add(fmt.Sprintf("%s.oidc[%d].issuer", at, i), "is used twice; it is already at %s", first)
		}
		issuers[o.Issuer] = fmt.Sprintf("%s.oidc[%d]", at, i)
	}
}

func (c *checker) oidc(at string, o OIDC) {
	if err := token.CheckProviderURL(o.Issuer); err != nil {
		c.add(at+".issuer", "%w", err)
	}
	if err := token.CheckProviderURL(o.KeysURL); o.KeysURL != "" && err != nil {
		c.add(at+".keysUrl", "%w", err)
	}
	for i, name := range o.Algorithms {
		if !slices.Contains(token.Algorithms(), name) {
			c.add(fmt.Sprintf("%s.algorithms[%d]", at, i), "%.20q cannot be used; these can: %q", name, token.Algorithms())
		}
	}
	for i, audience := range o.Audiences {
		if audience == "" {
			c.add(fmt.Sprintf("%s.audiences[%d]", at, i), "is empty; name the resource that tokens are asked for")
		}
	}
	if len(o.Subjects)+len(o.Roles)+len(o.Scopes) == 0 {
		c.add(at, `says nobody whom the REST API is open to; set roles, scopes or subjects ("*": everybody whom the issuer gives a token)`)
	}
}
