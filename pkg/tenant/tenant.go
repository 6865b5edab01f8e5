// Package tenant says whose hub a request is about: a tenant's keys, hub settings and limits.
//
// The tenant is found once, at the edge, from the Host header; everything behind carries its name.
package tenant

import (
	"log/slog"
	"slices"
	"strings"
)

// Tenant owns hubs. Values are not changed once a Source has handed them out; a reload makes new ones.
type Tenant struct {
	Name   string   `yaml:"name"`
	Hosts  []string `yaml:"hosts"` // Host headers that mean this tenant: exact, "*.suffix" or "*"
	Keys   Keys     `yaml:"keys"`
	Auth   Auth     `yaml:"auth"`
	Limits Limits   `yaml:"limits"`
	Hubs   []Hub    `yaml:"hubs"`

	Endpoints      []string `yaml:"endpoints"`      // that audiences of its tokens may name; none: any
	ClientEndpoint string   `yaml:"clientEndpoint"` // that generated client tokens are for; empty: that of the request

	PublicNetworkAccess string  `yaml:"publicNetworkAccess"` // Enabled, also when empty, or Disabled
	NetworkACLs         Network `yaml:"networkACLs"`

	LiveTrace LiveTrace `yaml:"liveTrace"`

	Upstream []Template `yaml:"upstream"` // where events of the ancestor protocol go; empty: it is not served
}

// LiveTrace says whether operators may watch what happens as it happens, at /livetrace with an access key's token.
type LiveTrace struct {
	Enabled    bool     `yaml:"enabled"`
	Categories []string `yaml:"categories"` // of TraceCategories; none: all
}

// TraceCategories are what can be watched, by the names that the cloud service's resource logs have.
var TraceCategories = []string{"ConnectivityLogs", "MessagingLogs", "HttpRequestLogs"}

// Traces reports whether a category can be watched.
func (t *Tenant) Traces(category string) bool {
	return t.LiveTrace.Enabled && (len(t.LiveTrace.Categories) == 0 ||
		slices.ContainsFunc(t.LiveTrace.Categories, func(c string) bool { return strings.EqualFold(c, category) }))
}

// Keys sign and verify; primary and secondary are valid at any time, so that one can be replaced while the other is in
// use. Their bytes are the UTF-8 bytes of the text.
type Keys struct {
	Primary   string `yaml:"primary"`
	Secondary string `yaml:"secondary"`
	Service   string `yaml:"service"` // known to Chatr alone, never to applications; signs what Chatr issues itself
}

// All returns the keys that applications may have, primary first.
func (k Keys) All() []string { return set(k.Primary, k.Secondary) }

func set(all ...string) []string {
	var keys []string
	for _, key := range all {
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// Own returns the key that Chatr itself signs with.
func (k Keys) Own() string {
	if k.Service != "" {
		return k.Service
	}
	return k.Primary
}

// String, MarshalText and LogValue keep keys out of logs and listings.
func (Keys) String() string { return "[keys]" }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue implements slog.LogValuer.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// TokenKeys returns the keys by which tokens may be signed.
func (t *Tenant) TokenKeys() []string {
	if t.Auth.DisableKeys {
		return set(t.Keys.Service)
	}
	return set(t.Keys.Primary, t.Keys.Secondary, t.Keys.Service)
}

// AcceptedEndpoints returns the endpoints that audiences of the tenant's tokens may name, none for any; otherwise are those
// of tenants that have none of their own.
func (t *Tenant) AcceptedEndpoints(otherwise []string) []string {
	if len(t.Endpoints) == 0 {
		return otherwise
	}
	return append(slices.Clip(t.Endpoints), set(t.ClientEndpoint)...)
}

// Limits bound what a tenant's clients may use; zero means no limit, except MessageBytes.
type Limits struct {
	Connections       int `yaml:"connections"`       // live connections on one node
	MessagesPerSecond int `yaml:"messagesPerSecond"` // frames of one connection, averaged over a second
	MessageBytes      int `yaml:"messageBytes"`      // size of a frame or REST body, at most and by default 1 MiB
}

// Hub holds the settings of one hub.
type Hub struct {
	Name              string    `yaml:"name"`
	Anonymous         bool      `yaml:"anonymous"`         // clients without a token may connect
	KeepAliveSeconds  int       `yaml:"keepAliveSeconds"`  // interval of pings, 1 to 120; 0 means 20
	MessagesPerSecond int       `yaml:"messagesPerSecond"` // frames of one connection, averaged over a second; 0: the tenant's limit
	Compression       bool      `yaml:"compression"`       // agree to permessage-deflate with clients that offer it
	Handlers          []Handler `yaml:"handlers"`          // the first that matches an event gets it
	Listeners         []string  `yaml:"listeners"`         // message logs that get a copy of what clients send to groups
	Chat              string    `yaml:"chat"`              // service that answers what is below /api/hubs/{hub}/chat, as http://host:port; empty: none

	EventListeners []Listener `yaml:"eventListeners"` // message logs that get a copy of events
}

// Handler is an application's webhook (protocol/event-handler.md section 1).
type Handler struct {
	URL            string   `yaml:"url"`            // may contain {hub}, {event}, {file:/path} and {env:NAME}, not in the host
	UserEvents     string   `yaml:"userEvents"`     // "*", one name, or a comma list; empty: none
	SystemEvents   []string `yaml:"systemEvents"`   // of connect, connected, disconnected
	PresenceEvents []string `yaml:"presenceEvents"` // of joined, left: connections that join and leave groups
	PresenceGroups []string `yaml:"presenceGroups"` // patterns of the groups that presenceEvents are about; empty: all
	SkipValidation bool     `yaml:"skipValidation"` // do not ask the handler's consent by OPTIONS first

	Auth HandlerAuth `yaml:"auth"` // bearer token that goes with events
}

// Hub returns the settings of the hub named in lower case; a hub that is not listed has defaults.
func (t *Tenant) Hub(name string) Hub {
	for _, h := range t.Hubs {
		if strings.EqualFold(h.Name, name) {
			return h
		}
	}
	return Hub{Name: name}
}

// Rate returns how many frames a second a connection of the hub may send; 0: any number. It does not allocate.
func (t *Tenant) Rate(hub string) int {
	for i := range t.Hubs {
		if h := &t.Hubs[i]; h.MessagesPerSecond > 0 && strings.EqualFold(h.Name, hub) {
			return h.MessagesPerSecond
		}
	}
	return t.Limits.MessagesPerSecond
}

// Source knows the tenants now in force. It is safe for concurrent use.
type Source interface {
	// ByHost returns the tenant that a Host header (with or without port) means, or nil. An exact host wins
	// over a suffix, a longer suffix over a shorter one, and any over "*".
	ByHost(host string) *Tenant
	// ByName returns the tenant of that name, or nil.
	ByName(name string) *Tenant
	// All returns all tenants, in no order.
	All() []*Tenant
}
