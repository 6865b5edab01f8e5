package tenant

import (
	"fmt"
	"slices"
	"strings"
)

// Listener is an event listener (event-handler.md section 10): each event that matches is copied to a message log, which
// whoever wants to reads as a consumer group, and from there to a webhook, if there is one.
type Listener struct {
	Log          string   `yaml:"log" required:"true" example:"audit" help:"name of the message log; not one of listeners"`
	UserEvents   string   `yaml:"userEvents" example:"'*'" help:"as of handlers"`
	SystemEvents []string `yaml:"systemEvents" oneof:"connected disconnected" case:"any" noun:"listener's system event" example:"[connected, disconnected]" help:"of connected, disconnected; none when absent"`
	Webhook      Webhook  `yaml:"webhook" help:"gets what the log holds, in batches; none when absent: others read the log"`
}

// Webhook is where a listener's events go in batches. The zero value is none.
type Webhook struct {
	URL            string      `yaml:"url" example:"'https://audit.example.com/{hub}'" help:"may contain {hub}, {file:/path} and {env:NAME}, not in the host"`
	SkipValidation bool        `yaml:"skipValidation" help:"as of handlers"`
	Auth           HandlerAuth `yaml:"auth" help:"as of handlers"`
}

// listenerEvents are the system events that listeners can ask for.
var listenerEvents = []string{"connected", "disconnected"}

// WantsSystem is Handler.WantsSystem of a listener.
func (l *Listener) WantsSystem(event string) bool {
	return slices.ContainsFunc(l.SystemEvents, func(s string) bool { return strings.EqualFold(s, event) })
}

// WantsUser is Handler.WantsUser of a listener.
func (l *Listener) WantsUser(event string) bool {
	return (&Handler{UserEvents: l.UserEvents}).WantsUser(event)
}

// URLFor is Handler.URLFor of a webhook.
func (w *Webhook) URLFor(hub string) (string, error) {
	return expandURL(w.URL, map[string]string{"hub": hub})
}

// Host is Handler.Host of a webhook.
func (w *Webhook) Host() string { return authorityOf(w.URL) }

func (c *checker) listener(at string, l Listener) {
	if !tenantName.MatchString(l.Log) {
		c.add(at+".log", "%.80q is not the name of a message log; use letters, digits, - or _", l.Log)
	}
	if err := checkUserEvents(l.UserEvents); err != nil {
		c.add(at+".userEvents", "%w", err)
	}
	if l.UserEvents == "" && len(l.SystemEvents) == 0 {
		c.add(at, `gets no events; set userEvents ("*", names) or systemEvents (%s)`, strings.Join(listenerEvents, ", "))
	}
	if l.Webhook == (Webhook{}) {
		return
	}
	if err := checkURL(l.Webhook.URL, "hub"); err != nil {
		c.add(at+".webhook.url", "%w", err)
	}
	if err := l.Webhook.Auth.check(); err != nil {
		c.add(at+".webhook.auth", "%w", err)
	}
}

// logs reports logs that are used for what does not go together: who reads group messages expects no events, and a webhook
// remembers in its log what it has got.
func (c *checker) logs(at string, t Tenant) {
	groups, listeners := map[string]bool{}, map[string]int{}
	for _, h := range t.Hubs {
		for _, name := range h.Listeners {
			groups[strings.ToLower(name)] = true
		}
		for _, l := range h.EventListeners {
			listeners[strings.ToLower(l.Log)]++
		}
	}
	for i, h := range t.Hubs {
		for j, l := range h.EventListeners {
			where := fmt.Sprintf("%s.hubs[%d].eventListeners[%d].log", at, i, j)
			switch name := strings.ToLower(l.Log); {
			case groups[name]:
				c.add(where, "%.80q is also among listeners, whose logs have messages to groups; events need another", l.Log)
			case l.Webhook.URL != "" && listeners[name] > 1:
				c.add(where, "%.80q is used by another event listener too; one with a webhook needs a log of its own", l.Log)
			}
		}
	}
}
