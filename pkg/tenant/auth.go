package tenant

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"
)

// HandlerAuth says which bearer token goes to a handler with each event, beside the signature. The zero value is none.
//
// TokenFile is for tokens that somebody else keeps fresh, as Kubernetes does with those of service accounts. The other
// fields are for the client-credentials grant of OAuth 2, which a managed identity amounts to.
type HandlerAuth struct {
	Issuer       string `yaml:"issuer" example:"https://login.example.com" help:"OpenID Connect issuer, whose discovery names the token endpoint"`
	TokenURL     string `yaml:"tokenURL" help:"instead of issuer: the token endpoint, of an issuer without discovery"`
	ClientID     string `yaml:"clientID" example:"gateway" help:"whom the grant is for"`
	ClientSecret Secret `yaml:"clientSecret" secret:"true" example:"'{file:/run/secrets/client}'" help:"the client's secret; may be {file:/path} or {env:NAME}"`
	Scope        string `yaml:"scope" example:"api://app/.default" help:"scopes to ask for, separated by spaces"`
	Audience     string `yaml:"audience" help:"whom the token is for, with issuers that have such a parameter"`
	TokenFile    string `yaml:"tokenFile" help:"instead of all that: a file that somebody keeps fresh, such as /var/run/secrets/tokens/handler of a service account in Kubernetes"`
}

// Secret is a text that does not print.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "[secret]" }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Read returns the secret itself: the text, or what it refers to.
func (s Secret) Read() (string, error) {
	return expand(string(s), func(name string) (string, error) {
		secret, ok, err := readSecret(name)
		if !ok {
			err = errors.New("the secret has a brace; only {file:/path} and {env:NAME} can be used")
		}
		return secret, err
	})
}

// ReadToken returns the token of TokenFile.
func (a HandlerAuth) ReadToken() (string, error) { return readSecretFile(a.TokenFile) }

// check reports what is wrong with a, or nil.
func (a HandlerAuth) check() error {
	grant := a
	grant.TokenFile = ""
	switch {
	case a == HandlerAuth{}:
		return nil
	case a.TokenFile != "" && grant != (HandlerAuth{}):
		return errors.New("has tokenFile and more; a token comes either from a file or from an issuer")
	case a.TokenFile != "" && !strings.HasPrefix(a.TokenFile, "/"):
		return errors.New("tokenFile must be an absolute path")
	case a.TokenFile != "":
		return nil
	case (a.Issuer == "") == (a.TokenURL == ""):
		return errors.New("needs one of issuer, tokenURL and tokenFile")
	case !isWebAddress(a.Issuer + a.TokenURL):
		return errors.New("issuer and tokenURL must begin with https://, or http:// within a private network, and have a host")
	case a.ClientID == "" || a.ClientSecret == "":
		return errors.New("needs clientID and clientSecret for the client-credentials grant")
	}
	_, err := expand(string(a.ClientSecret), func(name string) (string, error) {
		ok, err := checkReference(name)
		if !ok {
			err = errors.New("clientSecret has a brace; only {file:/path} and {env:NAME} can be used")
		}
		return "", err
	})
	return err
}

func isWebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.Fragment == ""
}
