package token

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// CheckClientAudience reports whether c is for clients of hub, the hub that r asks for. The authority of an
// audience counts only when accepted lists endpoints ("https://host[:port]"); behind a proxy it need not be the
// host of r (auth.md section 2).
func CheckClientAudience(c Claims, r *http.Request, hub string, accepted []string) error {
	byQuery := !strings.HasPrefix(r.URL.Path, "/client/hubs/") // /client/?hub={hub}
	for _, text := range c.Audience {
		if a, ok := parseAudience(text); ok && a.acceptedBy(accepted) && a.isClient(hub, byQuery) {
			return nil
		}
	}
	return audienceError([]string{requested(r, "/client/hubs/"+hub)}, c.Audience)
}

// CheckRESTAudience reports whether c is for the REST operation r. The query does not count: SDKs put it into
// the audience, documentation leaves it out. The path may stand there as it was sent or decoded once
// (auth.md section 3). accepted is as for CheckClientAudience.
func CheckRESTAudience(c Claims, r *http.Request, accepted []string) error {
	for _, text := range c.Audience {
		if a, ok := parseAudience(text); ok && a.acceptedBy(accepted) && a.isPath(r.URL) {
			return nil
		}
	}
	return audienceError([]string{requested(r, r.URL.EscapedPath())}, c.Audience)
}

// maxAudienceText bounds what is repeated of a token's audiences.
const maxAudienceText = 500

// requested is the URL with path at which r has arrived.
func requested(r *http.Request, path string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + path
}

func audienceError(expected, actual []string) error {
	shown := make([]string, len(actual))
	for i, audience := range actual {
		shown[i], _, _ = strings.Cut(audience, "?") // what is behind does not count, and may be what people have written
	}
	text := strings.Join(shown, ", ")
	if len(text) > maxAudienceText {
		text = text[:maxAudienceText] + "…"
	}
	//lint:ignore ST1005 the wording clients know
	return fmt.Errorf("Failed to validate audience. Expected Audiences: %s Actual Audiences: %s", strings.Join(expected, ", "), text)
}

// audience is an absolute URL taken apart as text, since its path may be escaped, half escaped or not at all.
type audience struct {
	endpoint string // scheme and authority, see endpoint
	path     string // without a trailing slash
	query    string
}

func parseAudience(s string) (audience, bool) {
	s, _, _ = strings.Cut(s, "#")
	s, query, _ := strings.Cut(s, "?") // before decoding: %3F belongs to the path
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return audience{}, false
	}
	host, path, _ := strings.Cut(rest, "/")
	e, ok := endpoint(scheme, host)
	return audience{endpoint: e, path: strings.TrimSuffix("/"+path, "/"), query: query}, ok
}

// endpoint returns the form in which authorities are compared: a WebSocket scheme as its HTTP twin, lower
// case, no default port.
func endpoint(scheme, host string) (string, bool) {
	port := ""
	switch scheme = strings.ToLower(scheme); scheme {
	case "http", "ws":
		scheme, port = "http", "80"
	case "https", "wss":
		scheme, port = "https", "443"
	default:
		return "", false
	}
	if h, p, err := net.SplitHostPort(host); err == nil && (p == port || p == "") {
		host = h
	}
	return scheme + "://" + strings.ToLower(strings.Trim(host, "[]")), host != ""
}

func (a audience) acceptedBy(accepted []string) bool {
	if len(accepted) == 0 {
		return true
	}
	return slices.ContainsFunc(accepted, func(text string) bool {
		if !strings.Contains(text, "://") { // a host alone, with any scheme
			scheme, _, _ := strings.Cut(a.endpoint, "://")
			e, ok := endpoint(scheme, text)
			return ok && e == a.endpoint
		}
		e, ok := parseAudience(text)
		return ok && e.endpoint == a.endpoint
	})
}

// isClient reports whether a is the client endpoint of hub. A client that names its hub in the query may have
// an audience that names it there or nowhere (auth.md section 2, last but two).
func (a audience) isClient(hub string, byQuery bool) bool {
	path, err := url.PathUnescape(a.path)
	if err != nil {
		return false
	}
	if name, ok := strings.CutPrefix(path, "/client/hubs/"); ok {
		return strings.EqualFold(name, hub)
	}
	if !byQuery || path != "/client" {
		return false
	}
	query, err := url.ParseQuery(a.query)
	return err == nil && (!query.Has("hub") || strings.EqualFold(query.Get("hub"), hub))
}

// isPath reports whether a's path means that of u: the same segments, however escaped, or the whole path decoded
// once, as .NET writes it. An escaped slash of the audience never passes for a real one.
func (a audience) isPath(u *url.URL) bool {
	sent, decoded := u.EscapedPath(), u.Path
	if strings.HasSuffix(sent, "/") {
		sent, decoded = sent[:len(sent)-1], decoded[:len(decoded)-1]
	}
	sent, decoded = foldHub(sent), foldHub(decoded)
	path := foldHub(a.path)
	if path == decoded || sameSegments(path, sent) {
		return true
	}
	unescaped, err := url.PathUnescape(path)
	return err == nil && unescaped == decoded && strings.Count(unescaped, "/") == strings.Count(path, "/")
}

func sameSegments(a, b string) bool {
	return slices.EqualFunc(strings.Split(a, "/"), strings.Split(b, "/"), func(a, b string) bool {
		x, errX := url.PathUnescape(a)
		y, errY := url.PathUnescape(b)
		return errX == nil && errY == nil && x == y
	})
}

// foldHub returns a REST path with its hub in lower case.
func foldHub(path string) string {
	const prefix = "/api/hubs/"
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return path
	}
	hub, rest, more := strings.Cut(rest, "/")
	if !more {
		return prefix + strings.ToLower(hub)
	}
	return prefix + strings.ToLower(hub) + "/" + rest
}
