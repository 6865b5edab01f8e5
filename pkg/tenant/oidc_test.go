package tenant

import (
	"slices"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/token"
)

// checklist:A06
func TestAdmits(t *testing.T) {
	o := OIDC{Subjects: []string{"app-1"}, Roles: []string{"Sender", "Owner"}, Scopes: []string{"chat.send"}}
	for name, tt := range map[string]struct {
		claims map[string][]string
		want   bool
	}{
		"nothing":             {nil, false},
		"subject":             {map[string][]string{"sub": {"app-1"}}, true},
		"other subject":       {map[string][]string{"sub": {"app-2"}}, false},
		"client":              {map[string][]string{"sub": {"x"}, "azp": {"app-1"}}, true},
		"role":                {map[string][]string{"roles": {"Reader", "Owner"}}, true},
		"other roles":         {map[string][]string{"roles": {"owner", "Senders"}}, false},
		"role claim of users": {map[string][]string{"role": {"Owner"}}, false},
		"scope among others":  {map[string][]string{"scope": {"openid chat.send"}}, true},
		"scope of Entra":      {map[string][]string{"scp": {"chat.send"}}, true},
		"part of a scope":     {map[string][]string{"scope": {"chat.sender"}}, false},
	} {
		if got := o.Admits(claimed(t, tt.claims)); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	if !(&OIDC{Subjects: []string{"*"}}).Admits(token.Claims{}) {
		t.Error("got a refusal where everybody is admitted")
	}
}

// claimed is the claims of a token that says so.
func claimed(t *testing.T, claims map[string][]string) token.Claims {
	t.Helper()
	const key = "a key of the test, long enough"
	o := token.Options{Roles: claims["role"], Claims: map[string][]string{}}
	for name, values := range claims {
		switch name {
		case "sub":
			o.Subject = values[0]
		case "role":
		default:
			o.Claims[name] = values
		}
	}
	raw, err := token.Sign(key, "x", time.Hour, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := token.NewKeyVerifier(key).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checklist:A07
func TestTokenKeys(t *testing.T) {
	keys := Keys{Primary: "p", Secondary: "s", Service: "own"}
	for _, tt := range []struct {
		tenant Tenant
		want   []string
		own    string
	}{
		{Tenant{Keys: Keys{Primary: "p"}}, []string{"p"}, "p"},
		{Tenant{Keys: keys}, []string{"p", "s", "own"}, "own"},
		{Tenant{Keys: keys, Auth: Auth{DisableKeys: true}}, []string{"own"}, "own"},
	} {
		if got, own := tt.tenant.TokenKeys(), tt.tenant.Keys.Own(); !slices.Equal(got, tt.want) || own != tt.own {
			t.Errorf("got %q and %q, want %q and %q", got, own, tt.want, tt.own)
		}
	}
}
