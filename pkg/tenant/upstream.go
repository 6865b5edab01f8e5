package tenant

import (
	"fmt"
	"strings"
)

// Template says where events of the ancestor protocol go (event-handler.md section 12.1). A pattern is "*", one name, or
// a comma list; absent it is "*".
type Template struct {
	URLTemplate     string      `yaml:"urlTemplate" required:"true" example:"'https://app.example.com/{hub}/{category}/{event}'" help:"may contain {hub}, {category}, {event}, {file:/path} and {env:NAME}, not in the host"`
	HubPattern      string      `yaml:"hubPattern" example:"'*'" help:"*, one name, or a comma list; absent: *"`
	CategoryPattern string      `yaml:"categoryPattern" example:"connections,messages" help:"*, one of connections and messages, or both as a comma list; absent: *"`
	EventPattern    string      `yaml:"eventPattern" example:"connect,disconnect,message" help:"*, one of connect, disconnect and message, or a comma list of them; absent: *"`
	Auth            HandlerAuth `yaml:"auth" help:"as of handlers"`
}

// Ancestor reports whether clients and callers of the ancestor protocol are served in a hub: some template must be for
// it.
func (t *Tenant) Ancestor(hub string) bool {
	for i := range t.Upstream {
		if matchesName(t.Upstream[i].HubPattern, hub) {
			return true
		}
	}
	return false
}

// Template returns the first template that matches, or nil.
func (t *Tenant) Template(hub, category, event string) *Template {
	for i := range t.Upstream {
		u := &t.Upstream[i]
		if matchesName(u.HubPattern, hub) && matchesName(u.CategoryPattern, category) && matchesName(u.EventPattern, event) {
			return u
		}
	}
	return nil
}

// URLFor is Handler.URLFor of a template.
func (u *Template) URLFor(hub, category, event string) (string, error) {
	return expandURL(u.URLTemplate, map[string]string{"hub": hub, "category": category, "event": event})
}

// Host is Handler.Host of a template.
func (u *Template) Host() string { return authorityOf(u.URLTemplate) }

func matchesName(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	for part := range strings.SplitSeq(pattern, ",") {
		if part = strings.TrimSpace(part); part == "*" || strings.EqualFold(part, name) {
			return true
		}
	}
	return false
}

func (c *checker) template(at string, u Template) {
	if err := checkURL(u.URLTemplate, "hub", "category", "event"); err != nil {
		c.add(at+".urlTemplate", "%w", err)
	}
	if err := u.Auth.check(); err != nil {
		c.add(at+".auth", "%w", err)
	}
	for _, p := range [][2]string{{"hubPattern", u.HubPattern}, {"categoryPattern", u.CategoryPattern}, {"eventPattern", u.EventPattern}} {
		for part := range strings.SplitSeq(p[1], ",") {
			if strings.TrimSpace(part) == "" && p[1] != "" {
				c.add(fmt.Sprintf("%s.%s", at, p[0]), `%.80q has an empty name; use "*", one name, or names separated by commas`, p[1])
			}
		}
	}
}
