package token

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// ConnectionString is how an application knows a service: where it is and the key to sign with.
type ConnectionString struct {
	Endpoint       string // scheme://host[:port], without a trailing slash
	ClientEndpoint string // where clients find the service, when that is another; the same form
	AccessKey      string
}

// ParseConnectionString reads "Endpoint=…;AccessKey=…;Version=1.0;" with an optional Port and ClientEndpoint, names in any case
// and order; unknown names are ignored (auth.md section 1). Errors do not repeat the key.
func ParseConnectionString(s string) (ConnectionString, error) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(s, ";") {
		if name, value, ok := strings.Cut(part, "="); ok { // at the first "=": keys end in it
			parts[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	c := ConnectionString{Endpoint: parts["endpoint"], AccessKey: parts["accesskey"]}
	if c.Endpoint == "" || c.AccessKey == "" {
		return ConnectionString{}, errors.New("the connection string must have Endpoint=… and AccessKey=…, each ended by a semicolon")
	}
	if !strings.Contains(c.Endpoint, "://") {
		c.Endpoint = "https://" + c.Endpoint
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ConnectionString{}, errors.New("the Endpoint of the connection string must be http://host or https://host, with an optional :port")
	}
	if port := parts["port"]; port != "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	c.Endpoint = u.Scheme + "://" + u.Host
	if text := parts["clientendpoint"]; text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			return ConnectionString{}, errors.New("the ClientEndpoint of the connection string must be http://host or https://host, with an optional :port")
		}
		c.ClientEndpoint = u.Scheme + "://" + u.Host
	}
	return c, nil
}
