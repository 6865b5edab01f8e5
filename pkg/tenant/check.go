package tenant

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// minKeyBytes is the length of a key; shorter ones do not make a safe HMAC-SHA256 (auth.md section 1).
const minKeyBytes = 32

// Check reports everything that is wrong with a set of tenants, a line for each problem that says where it is
// and what would be right, or returns nil. Lines hold no keys and no URLs.
func Check(tenants ...Tenant) error {
	if len(tenants) == 0 {
		return &Problem{"tenants", errors.New("is empty; at least one tenant is needed")}
	}
	var all []error
	for _, problems := range CheckEach(tenants...) {
		for _, p := range problems {
			all = append(all, p)
		}
	}
	return errors.Join(all...)
}

// CheckEach is Check with the problems of each tenant by themselves: the first of the two indexes is the tenant's. Of two
// tenants that claim the same name or host, the later has the problem, whatever else is wrong with either.
func CheckEach(tenants ...Tenant) [][]*Problem {
	names, hosts := map[string]string{}, map[string]string{}
	all := make([][]*Problem, len(tenants))
	for i, t := range tenants {
		c := checker{names: names, hosts: hosts}
		c.tenant(fmt.Sprintf("tenants[%d]", i), t)
		all[i] = c.problems
	}
	return all
}

// Problem is one thing that is wrong with a tenant.
type Problem struct {
	Path string // the setting: tenants[0].hubs[1].name
	Err  error  // what is wrong, and what would be right
}

func (p *Problem) Error() string { return p.Path + ": " + p.Err.Error() }

// Unwrap gives errors.Is and errors.As what is wrong.
func (p *Problem) Unwrap() error { return p.Err }

type checker struct {
	problems     []*Problem
	names, hosts map[string]string // in lower case, to where they were first
}

func (c *checker) add(at, format string, args ...any) {
	c.problems = append(c.problems, &Problem{at, fmt.Errorf(format, args...)})
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
	filled := t.clone()
	filled.eachHandler(func(h *Handler) { config.Defaults(&h.BeforePublish) }) // what is not set is not wrong
	config.Check(filled, at, func(path string, err error) { c.add(path, "%w", err) })
	c.addresses(at, t)
	c.network(at, t)
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
		c.add(at+".primary", "is empty; give a text of at least %d bytes, or set accessKey for all tenants without keys of their own", minKeyBytes)
	}
}

func (c *checker) addresses(at string, t Tenant) {
	for i, host := range t.AcceptedHosts {
		if err := httpx.CheckAcceptedHost(host); err != nil {
			c.add(fmt.Sprintf("%s.acceptedHosts[%d]", at, i), "%.140q %w", host, err)
		}
	}
	if t.PublicURL != "" {
		c.address(at+".publicUrl", t.PublicURL)
	}
}

func (c *checker) address(at, text string) {
	if err := httpx.CheckPublicURL(text); err != nil {
		c.add(at, "%.140q %w", text, err)
	}
}

func (c *checker) hub(at string, h Hub) {
	if h.Chat != "" {
		c.address(at+".chat", h.Chat)
	}
	if _, err := webpubsub.ParseHub(h.Name); err != nil {
		c.add(at+".name", "%w", err)
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
	for i, filter := range h.PresenceGroups {
		if err := webpubsub.CheckGroupFilter(filter); err != nil {
			c.add(fmt.Sprintf("%s.presenceGroups[%d]", at, i), "%w", err)
		}
	}
	if len(h.PresenceGroups) > 0 && len(h.PresenceEvents) == 0 {
		c.add(at+".presenceGroups", "is set without presenceEvents (%s)", strings.Join(presenceEvents, ", "))
	}
	if b := h.BeforePublish; !b.Enabled && b != (BeforePublish{}) {
		c.add(at+".beforePublish", "is set without enabled: true")
	}
	if h.UserEvents == "" && len(h.SystemEvents) == 0 && len(h.PresenceEvents) == 0 && !h.BeforePublish.Enabled {
		c.add(at, `gets no events; set userEvents ("*", names), systemEvents (%s), presenceEvents (%s) or beforePublish`,
			strings.Join(systemEvents, ", "), strings.Join(presenceEvents, ", "))
	}
}
