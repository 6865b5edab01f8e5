package tenant

import (
	"fmt"
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

// AsksBeforePublish reports whether one of the hub's handlers is asked about messages that clients send to groups.
func (h Hub) AsksBeforePublish() bool {
	return slices.ContainsFunc(h.Handlers, func(h Handler) bool { return h.BeforePublish.Enabled })
}

// askEventsService has the chat's events service asked before messages are published in its hub, unless the settings say who is. That is
// so without a word in the settings since pods of the version before read the same file, and would not know the word.
func (h *Hub) askEventsService() {
	if h.Chat == "" || h.AsksBeforePublish() {
		return
	}
	for i := range h.Handlers {
		if handler := &h.Handlers[i]; strings.EqualFold(handler.Host(), authorityOf(h.Chat)) {
			handler.BeforePublish = BeforePublish{Enabled: true, MayNotKnow: true}
			return
		}
	}
}

// URLFor returns the handler's address with its parameters replaced, each value escaped as one path segment
// (event-handler.md section 1.1). Parameter names match in any letter case. Secrets are read now, so that one that has
// been replaced counts at once.
func (h *Handler) URLFor(hub, event string) (string, error) {
	return expandURL(h.URL, map[string]string{"hub": hub, "event": event})
}

// Host is the authority of the handler's address, which has no parameters.
func (h *Handler) Host() string { return authorityOf(h.URL) }

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
