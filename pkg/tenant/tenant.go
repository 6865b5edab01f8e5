// Package tenant says whose hub a request is about: a tenant's keys, hub settings and limits.
//
// The tenant is found once, at the edge, from the Host header; everything behind carries its name.
package tenant

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Tenant owns hubs. Values are not changed once a Source has handed them out; a reload makes new ones.
type Tenant struct {
	Name  string   `yaml:"name" required:"true" example:"default" help:"stands in logs and metrics; 1 to 63 letters, digits, - or _"`
	Hosts []string `yaml:"hosts" required:"true" example:"['*']" help:"Host headers that mean this tenant: exact, *.suffix, or * for all others"`
	Keys  Keys     `yaml:"keys" help:"sign and verify tokens; primary and secondary are both valid. None: accessKey and accessKeySecondary. Each may be {file:/path} or {env:NAME}; a file is read again when it changes"`
	Auth  Auth     `yaml:"auth"`

	AcceptedHosts []string `yaml:"acceptedHosts" old:"endpoints" example:"[https://chat.example.com]" help:"that audiences of its tokens may name, each as host[:port] or https://host[:port], and its publicUrl; none: gateway.acceptedHosts"`
	PublicURL     string   `yaml:"publicUrl" old:"clientEndpoint" example:"https://chat.example.com" help:"public address of its gateways, which generated client tokens are for; empty: gateway.publicUrl"`

	PublicNetworkAccess string  `yaml:"publicNetworkAccess" oneof:"Enabled Disabled" case:"any" example:"Enabled" help:"Enabled, also when empty, or Disabled: only privateEndpoints get in"`
	NetworkACLs         Network `yaml:"networkACLs" help:"before any token is looked at; the rules about requests and those about addresses must both allow a request"`

	LiveTrace LiveTrace `yaml:"liveTrace" help:"what happens, as it happens, at /livetrace for holders of an access key"`

	Limits   Limits     `yaml:"limits"`
	Hubs     []Hub      `yaml:"hubs" help:"a hub that is not listed works with defaults: no handlers, no anonymous clients"`
	Upstream []Template `yaml:"upstream" help:"where events of the ancestor protocol go, the first that matches; none: it is not served"`
}

// LiveTrace says whether operators may watch what happens as it happens, at /livetrace with an access key's token.
type LiveTrace struct {
	Enabled bool `yaml:"enabled" help:"whether there is a live trace"`

	// Categories are what can be watched, by the names that the cloud service's resource logs have.
	Categories []string `yaml:"categories" oneof:"ConnectivityLogs MessagingLogs HttpRequestLogs" case:"any" help:"of ConnectivityLogs, MessagingLogs, HttpRequestLogs; none: all"`
}

// Traces reports whether a category can be watched.
func (t *Tenant) Traces(category string) bool {
	return t.LiveTrace.Enabled && (len(t.LiveTrace.Categories) == 0 ||
		slices.ContainsFunc(t.LiveTrace.Categories, func(c string) bool { return strings.EqualFold(c, category) }))
}

// Keys sign and verify; primary and secondary are valid at any time, so that one can be replaced while the other is in
// use. Their bytes are the UTF-8 bytes of the text. In settings, a key may refer to a secret (ReadKey).
type Keys struct {
	Primary   string `yaml:"primary" secret:"true" min:"32" unit:"bytes" example:"'0123456789abcdef0123456789abcdef'" help:"the key that applications use"`
	Secondary string `yaml:"secondary" secret:"true" min:"32" unit:"bytes" example:"'fedcba9876543210fedcba9876543210'" help:"is valid as well, so that one can be replaced while the other is in use"`
	Service   string `yaml:"service" secret:"true" min:"32" unit:"bytes" example:"'00112233445566778899aabbccddeeff'" help:"known to Chatr alone: signs what it issues itself; needed for auth.disableKeys"`
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

// AudienceHosts returns the hosts that audiences of the tenant's tokens may name, none for any; otherwise are those
// of tenants that have none of their own.
func (t *Tenant) AudienceHosts(otherwise []string) []string {
	if len(t.AcceptedHosts) == 0 {
		return otherwise
	}
	return append(slices.Clip(t.AcceptedHosts), set(t.PublicURL)...)
}

// Limits bound what a tenant's clients may use; zero means no limit, except MessageBytes.
type Limits struct {
	Connections       int `yaml:"connections" min:"0" example:"100000" help:"live connections on one gateway; 0: no limit"`
	MessagesPerSecond int `yaml:"messagesPerSecond" min:"0" help:"frames of one connection, averaged over a second; 0: no limit"`
	MessageBytes      int `yaml:"messageBytes" min:"0" max:"1048576" example:"1048576" help:"of a frame or a REST body; 0: 1048576, the most that is possible"`
}

// Hub holds the settings of one hub.
type Hub struct {
	Name              string    `yaml:"name" required:"true" example:"chat" help:"a letter, then letters, digits or _"`
	Anonymous         bool      `yaml:"anonymous" help:"whether clients without a token may connect"`
	KeepAliveSeconds  int       `yaml:"keepAliveSeconds" min:"0" max:"120" example:"20" help:"seconds between pings, 1 to 120; 0: 20"`
	MessagesPerSecond int       `yaml:"messagesPerSecond" min:"0" help:"as the tenant's limit, which it wins over; 0: the tenant's"`
	Recovery          string    `yaml:"recovery" oneof:"none node" example:"node" help:"what becomes of messages while a gateway has lost Redis: node keeps them there for a while (gateway.backlog), so that the gateway reads them up and nobody misses any; with none they are lost, and reliable clients are told so by closing them; empty: node"`
	Compression       bool      `yaml:"compression" help:"permessage-deflate for new sockets of clients that offer it; when to, says deploying.md"`
	Handlers          []Handler `yaml:"handlers" help:"the first that matches an event gets it"`
	Listeners         []string  `yaml:"listeners" example:"[history]" help:"message logs that get a copy of what clients send to groups"`

	EventListeners []Listener `yaml:"eventListeners" help:"message logs that get a copy of each event that matches"`

	Chat string `yaml:"chat" example:"http://127.0.0.1:8081" help:"the events service, as http://host:port, which answers what is below /api/hubs/{hub}/chat; as a handler it is asked before messages are published, unless beforePublish says who is; empty: none"`
}

// Handler is an application's webhook (protocol/event-handler.md section 1).
type Handler struct {
	URL            string   `yaml:"url" required:"true" example:"'http://127.0.0.1:8081/eventhandler/{event}'" help:"may contain {hub}, {event}, {file:/path} and {env:NAME}, not in the host"`
	UserEvents     string   `yaml:"userEvents" example:"'*'" help:"*, one name, or a comma list; empty: none"`
	SystemEvents   []string `yaml:"systemEvents" oneof:"connect connected disconnected" case:"any" noun:"system event" example:"[connect, connected, disconnected]" help:"of connect, connected, disconnected; none when absent"`
	PresenceEvents []string `yaml:"presenceEvents" oneof:"joined left" case:"any" noun:"presence event" example:"[joined, left]" help:"of joined, left: connections that join and leave groups; none when absent"`
	PresenceGroups []string `yaml:"presenceGroups" example:"['room-*']" help:"names and patterns (?, *, **) of the groups that presenceEvents are about; none: all"`
	SkipValidation bool     `yaml:"skipValidation" help:"do not ask the handler's consent (OPTIONS) before the first event"`

	BeforePublish BeforePublish `yaml:"beforePublish" help:"asking the handler about each message that a client sends to a group, before it is published; not asked when absent"`

	Auth HandlerAuth `yaml:"auth" help:"a bearer token that goes with each event: from a file, or by the client-credentials grant; none when absent"`
}

// BeforePublish says whether and how a handler is asked about messages that clients send to groups. Of a hub's handlers the first
// that has it enabled is asked.
type BeforePublish struct {
	Enabled     bool          `yaml:"enabled" example:"true" help:"whether it is asked: it may let a message pass, replace it, refuse it or take it over; of several handlers the first is"`
	Timeout     time.Duration `yaml:"timeout" default:"5s" min:"100ms" max:"1h" help:"how long a message may wait for the answer, retries included; never longer than gateway.upstream.eventTimeout"`
	WhenFailing string        `yaml:"whenFailing" default:"refuse" oneof:"refuse pass" help:"what becomes of a message when the handler cannot be asked or gives no usable answer in time: refuse, so that its sender is told to try again, or pass"`

	// MayNotKnow lets messages pass when the handler is an events service of the version before, which does not know what it is asked:
	// pods of both versions work side by side during an upgrade.
	MayNotKnow bool `config:"-"`
}

// Values of BeforePublish.WhenFailing.
const (
	RefuseWhenFailing = "refuse"
	PassWhenFailing   = "pass"
)

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

// Values of Hub.Recovery.
const (
	RecoveryNone = "none"
	RecoveryNode = "node"
)

// Keeps reports whether messages in the hub are kept for gateways that have lost Redis meanwhile. It does not allocate.
func (t *Tenant) Keeps(hub string) bool {
	for i := range t.Hubs {
		if h := &t.Hubs[i]; h.Recovery == RecoveryNone && strings.EqualFold(h.Name, hub) {
			return false
		}
	}
	return true
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
