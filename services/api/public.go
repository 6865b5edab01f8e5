package api

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// How a request looks to the browser, in front of whatever proxies there are. A client that sends false headers
// changes nothing but its own answer.

// https reports whether the browser uses https.
func (s *Service) https(r *http.Request) bool { return strings.HasPrefix(s.publicURL(r), "https:") }

// trustworthy reports whether the browser treats the page's origin as trustworthy (https, or this machine). On other origins
// it ignores some headers and warns about them.
func (s *Service) trustworthy(r *http.Request) bool {
	u, err := url.Parse(s.publicURL(r))
	if err != nil {
		return false
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || ip.IsLoopback()
}

// publicURL returns scheme and host of the page as the browser knows it.
func (s *Service) publicURL(r *http.Request) string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	switch proto := firstOf(r.Header.Get("X-Forwarded-Proto")); proto {
	case "http", "https":
		scheme = proto
	}
	host := r.Host
	if forwarded := firstOf(r.Header.Get("X-Forwarded-Host")); forwarded != "" {
		host = forwarded
	}
	if !hostForm.MatchString(host) { // it goes into a policy header and a URL
		host = "localhost"
	}
	return scheme + "://" + host
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$`)

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

// clientEndpoint returns where browsers find the gateways, as http(s)://host: the form of a token's audience.
func (s *Service) clientEndpoint(r *http.Request) string {
	if s.cfg.GatewayPublicURL != "" {
		return s.cfg.GatewayPublicURL
	}
	return s.publicURL(r)
}

// webSocket returns the WebSocket form of an http(s) URL.
func webSocket(u string) string { return "ws" + strings.TrimPrefix(u, "http") }

// clientAddress returns what sign-ins are counted by: the address that the outermost of our own proxies saw, an
// IPv6 one without the half that its owner chooses freely.
func (s *Service) clientAddress(r *http.Request) string {
	ip := s.cfg.TrustedProxies.ClientAddr(r)
	if !ip.IsValid() { // a trusted proxy sent something that is not an address
		return r.RemoteAddr[:max(0, strings.LastIndexByte(r.RemoteAddr, ':'))]
	}
	if ip.Is6() {
		prefix, _ := ip.Prefix(64)
		return prefix.String()
	}
	return ip.String()
}
