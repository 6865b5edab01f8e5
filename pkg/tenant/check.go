package tenant

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Limits of settings.
const (
	MinKeyBytes         = 32  // shorter keys do not make a safe HMAC-SHA256 (auth.md section 1)
	MaxKeepAliveSeconds = 120 // event-handler.md section 1
)

// Check reports everything that is wrong with a set of tenants, a line for each problem that says where it is
// and what would be right, or returns nil. Lines hold no keys and no URLs.
func Check(tenants ...Tenant) error {
	c := checker{names: map[string]string{}, hosts: map[string]string{}}
	if len(tenants) == 0 {
		c.add("tenants", "is empty; at least one tenant is needed")
	}
	for i, t := range tenants {
		c.tenant(fmt.Sprintf("tenants[%d]", i), t)
	}
	return errors.Join(c.problems...)
}

type checker struct {
	problems     []error
	names, hosts map[string]string // in lower case, to where they were first
}

func (c *checker) add(at, format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(at+": "+format, args...))
}

// Tenant names stand in topics, keys, rows and labels.
var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func (c *checker) tenant(at string, t Tenant) {
	if !tenantName.MatchString(t.Name) {
		c.add(at+".name", "%.80q is not a name; use 1 to 63 letters, digits, - or _, the first a letter or digit", t.Name)
	}
	c.once(c.names, at+".name", t.Name)
	if len(t.Hosts) == 0 {
		c.add(at+".hosts", `is empty; list host names, "*.suffix", or "*" for any`)
	}
	for i, host := range t.Hosts {
		c.host(fmt.Sprintf("%s.hosts[%d]", at, i), host)
	}
	c.keys(at+".keys", t.Keys)
	c.auth(at+".auth", t.Auth, t.Keys)
	c.endpoints(at, t)
	c.network(at, t)
	for i, category := range t.LiveTrace.Categories {
		c.oneOf(fmt.Sprintf("%s.liveTrace.categories[%d]", at, i), category, TraceCategories...)
	}
	c.limits(at+".limits", t.Limits)
	for i, u := range t.Upstream {
		c.template(fmt.Sprintf("%s.upstream[%d]", at, i), u)
	}
	c.logs(at, t)
	hubs := map[string]string{}
	for i, h := range t.Hubs {
		hubAt := fmt.Sprintf("%s.hubs[%d]", at, i)
		c.once(hubs, hubAt+".name", h.Name)
		c.hub(hubAt, h)
	}
}

// once reports a value that was seen before, in any letter case.
func (c *checker) once(seen map[string]string, at, value string) {
	value = strings.ToLower(value)
	if first, ok := seen[value]; ok && value != "" {
		c.add(at, "%.140q is used twice; it is already at %s", value, first)
		return
	}
	seen[value] = at
}

var hostName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?$`)

func (c *checker) host(at, host string) {
	if host != "*" && !hostName.MatchString(host) && net.ParseIP(strings.Trim(host, "[]")) == nil {
		c.add(at, `%.140q is not a host; use a name or address without port, "*.suffix", or "*" for any`, host)
		return
	}
	c.once(c.hosts, at, strings.Trim(host, "[]"))
}

func (c *checker) keys(at string, k Keys) {
	if k.Primary == "" {
		c.add(at+".primary", "is empty; give a text of at least %d bytes", MinKeyBytes)
	} else if len(k.Primary) < MinKeyBytes {
		c.add(at+".primary", "has %d bytes; at least %d are needed", len(k.Primary), MinKeyBytes)
	}
	for _, key := range [][2]string{{"secondary", k.Secondary}, {"service", k.Service}} {
		if key[1] != "" && len(key[1]) < MinKeyBytes {
			c.add(at+"."+key[0], "has %d bytes; at least %d are needed", len(key[1]), MinKeyBytes)
		}
	}
}

func (c *checker) endpoints(at string, t Tenant) {
	for i, e := range t.Endpoints {
		c.endpoint(fmt.Sprintf("%s.endpoints[%d]", at, i), e)
	}
	if t.ClientEndpoint != "" {
		c.endpoint(at+".clientEndpoint", t.ClientEndpoint)
	}
}

func (c *checker) endpoint(at, e string) {
	u, err := url.Parse(e)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		c.add(at, "%.140q is not an endpoint; write http://host[:port] or https://host[:port]", e)
	}
}

func (c *checker) limits(at string, l Limits) {
	for _, limit := range []struct {
		name  string
		value int
	}{{"connections", l.Connections}, {"messagesPerSecond", l.MessagesPerSecond}, {"messageBytes", l.MessageBytes}} {
		if limit.value < 0 {
			c.add(at+"."+limit.name, "is %d; it must be 0 (no limit of its own) or more", limit.value)
		}
	}
	if l.MessageBytes > webpubsub.MaxMessageBytes {
		c.add(at+".messageBytes", "is %d; at most %d are possible", l.MessageBytes, webpubsub.MaxMessageBytes)
	}
}

func (c *checker) hub(at string, h Hub) {
	if h.Chat != "" {
		c.endpoint(at+".chat", h.Chat)
	}
	if _, err := webpubsub.ParseHub(h.Name); err != nil {
		c.add(at+".name", "%w", err)
	}
	if h.KeepAliveSeconds < 0 || h.KeepAliveSeconds > MaxKeepAliveSeconds {
		c.add(at+".keepAliveSeconds", "is %d; it must be 1 to %d, or 0 for the default of 20", h.KeepAliveSeconds, MaxKeepAliveSeconds)
	}
	if h.MessagesPerSecond < 0 {
		c.add(at+".messagesPerSecond", "is %d; it must be 0 (the tenant's limit) or more", h.MessagesPerSecond)
	}
	for i, handler := range h.Handlers {
		c.handler(fmt.Sprintf("%s.handlers[%d]", at, i), handler)
	}
	listeners := map[string]string{}
	for i, name := range h.Listeners {
		listenerAt := fmt.Sprintf("%s.listeners[%d]", at, i)
		if !tenantName.MatchString(name) {
			c.add(listenerAt, "%.80q is not the name of a message log; use letters, digits, - or _", name)
		}
		c.once(listeners, listenerAt, name)
	}
	for i, l := range h.EventListeners {
		c.listener(fmt.Sprintf("%s.eventListeners[%d]", at, i), l)
	}
}

func (c *checker) handler(at string, h Handler) {
	if err := checkURL(h.URL, "hub", "event"); err != nil {
		c.add(at+".url", "%w", err)
	}
	if err := h.Auth.check(); err != nil {
		c.add(at+".auth", "%w", err)
	}
	if err := checkUserEvents(h.UserEvents); err != nil {
		c.add(at+".userEvents", "%w", err)
	}
	c.events(at+".systemEvents", "system", h.SystemEvents, systemEvents)
	c.events(at+".presenceEvents", "presence", h.PresenceEvents, presenceEvents)
	for i, filter := range h.PresenceGroups {
		if err := webpubsub.CheckGroupFilter(filter); err != nil {
			c.add(fmt.Sprintf("%s.presenceGroups[%d]", at, i), "%w", err)
		}
	}
	if len(h.PresenceGroups) > 0 && len(h.PresenceEvents) == 0 {
		c.add(at+".presenceGroups", "is set without presenceEvents (%s)", strings.Join(presenceEvents, ", "))
	}
	if h.UserEvents == "" && len(h.SystemEvents) == 0 && len(h.PresenceEvents) == 0 {
		c.add(at, `gets no events; set userEvents ("*", names), systemEvents (%s) or presenceEvents (%s)`,
			strings.Join(systemEvents, ", "), strings.Join(presenceEvents, ", "))
	}
}

// events reports names that are not among the known ones.
func (c *checker) events(at, kind string, names, known []string) {
	for i, name := range names {
		if !slices.Contains(known, strings.ToLower(name)) {
			c.add(fmt.Sprintf("%s[%d]", at, i), "%.80q is not a %s event; use %s", name, kind, strings.Join(known, ", "))
		}
	}
}
