package tenant

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// systemEvents are the system events a handler can ask for (event-handler.md section 1).
var systemEvents = []string{"connect", "connected", "disconnected"}

// presenceEvents are the events about groups that a handler can ask for.
var presenceEvents = []string{"joined", "left"}

// WantsSystem reports whether the handler asked for a system event, in any letter case.
func (h *Handler) WantsSystem(event string) bool {
	return slices.ContainsFunc(h.SystemEvents, func(s string) bool { return strings.EqualFold(s, event) })
}

// WantsPresence reports whether the handler asked for a presence event, in any letter case, of that group.
func (h *Handler) WantsPresence(event, group string) bool {
	return slices.ContainsFunc(h.PresenceEvents, func(s string) bool { return strings.EqualFold(s, event) }) &&
		(len(h.PresenceGroups) == 0 || slices.ContainsFunc(h.PresenceGroups, func(p string) bool { return webpubsub.MatchesGroupFilter(p, group) }))
}

// WantsUser reports whether the handler's pattern has a user event, in any letter case (event-handler.md
// section 1.2). It does not allocate.
func (h *Handler) WantsUser(event string) bool {
	if h.UserEvents == "*" {
		return true
	}
	for name := range strings.SplitSeq(h.UserEvents, ",") {
		if name = strings.TrimSpace(name); name != "" && (name == "*" || strings.EqualFold(name, event)) {
			return true
		}
	}
	return false
}

// URLFor returns the handler's address with its parameters replaced, each value escaped as one path segment
// (event-handler.md section 1.1). Parameter names match in any letter case.
func (h *Handler) URLFor(hub, event string) string {
	address, _ := expand(h.URL, func(name string) (string, bool) {
		switch strings.ToLower(name) {
		case "hub":
			return url.PathEscape(hub), true
		case "event":
			return url.PathEscape(event), true
		}
		return "", false
	})
	return address
}

// expand replaces each {name} of template by what value says.
func expand(template string, value func(name string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(template, "{")
		if strings.Contains(before, "}") {
			return "", errors.New("has } without {; write a literal brace as %7D")
		}
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return "", errors.New("has { without }; write a literal brace as %7B")
		}
		v, ok := value(name)
		if !ok {
			return "", fmt.Errorf("has the unknown parameter {%.40s}; only {hub} and {event} can be used", name)
		}
		b.WriteString(v)
		template = after
	}
}

// checkURL reports what is wrong with a template. Errors do not repeat it: it may hold a secret.
func checkURL(template string) error {
	scheme, rest, ok := strings.Cut(template, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return errors.New("must begin with http:// or https://")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if strings.ContainsAny(authority, "{}") {
		return errors.New("has a parameter in its host; {hub} and {event} can only stand in path and query")
	}
	address, err := expand(template, func(name string) (string, bool) {
		known := strings.EqualFold(name, "hub") || strings.EqualFold(name, "event")
		return "x", known
	})
	if err != nil {
		return err
	}
	switch u, err := url.Parse(address); {
	case err != nil:
		return errors.New("is not a URL; it should look like http://host:port/path/{event}")
	case u.Hostname() == "":
		return errors.New("has no host; it should look like http://host:port/path/{event}")
	case u.Fragment != "":
		return errors.New("has a fragment (#…), which is never sent")
	}
	return nil
}

// checkUserEvents reports what is wrong with a pattern of user events.
func checkUserEvents(pattern string) error {
	if pattern == "" {
		return nil
	}
	for name := range strings.SplitSeq(pattern, ",") {
		if name = strings.TrimSpace(name); name == "*" {
			continue
		}
		if err := webpubsub.CheckEvent(name); err != nil {
			return fmt.Errorf("must be *, an event name, or event names separated by commas: %w", err)
		}
	}
	return nil
}

// Origin is the host name by which event handlers know the tenant's service unless it is configured otherwise: its
// first exact host, else localhost, as in the connection string that chatr standalone prints.
func (t *Tenant) Origin() string {
	for _, host := range t.Hosts {
		if !strings.HasPrefix(host, "*") {
			return strings.Trim(host, "[]")
		}
	}
	return "localhost"
}
