// Package cloudevents is the HTTP form of the platform's events, at both ends: gateways make requests with it,
// event handlers take them with a Receiver.
//
// The form is CloudEvents 1.0 in binary mode: attributes in ce-* headers, payload in the body
// (protocol/event-handler.md). An event is signed by an HMAC over its connection id, which proves that the
// sender knows a key of the tenant; it covers neither body nor time, so traffic between gateway and handler
// must be private or TLS.
package cloudevents

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Types of system and presence events; a user event's type is UserPrefix and its name (event-handler.md section 2).
const (
	SystemPrefix   = "azure.webpubsub.sys."
	UserPrefix     = "azure.webpubsub.user."
	PresencePrefix = "azure.webpubsub.gp."

	Connect      = SystemPrefix + "connect"
	Connected    = SystemPrefix + "connected"
	Disconnected = SystemPrefix + "disconnected"
	Joined       = PresencePrefix + "joined"
	Left         = PresencePrefix + "left"

	// BeforePublish asks what is to become of a message that a client sends to a group, before it is published. It is an event of
	// ours, which Azure Web PubSub does not have; docs/handlers.md says what it may be answered with.
	BeforePublish     = "chatr.sys." + BeforePublishName
	BeforePublishName = "beforePublish"
)

// Content types of event bodies.
const (
	TypeText     = "text/plain"
	TypeJSON     = "application/json"
	TypeBinary   = "application/octet-stream"
	TypeProtobuf = "application/x-protobuf"

	TypeSystem = "application/json; charset=utf-8" // of system events
)

// MaxState is the length in bytes of a connection state, at most (event-handler.md section 8).
const MaxState = 4096

// Event is something that happened to a connection, for the application to know or to answer.
type Event struct {
	Type         string // one of the constants, or UserPrefix+Name; decides what the event is
	Name         string // a user event may well be named "connect"
	Hub          string
	ConnectionID string
	ID           uint64 // unique within the connection and the same in each attempt
	Time         time.Time
	UserID       string // empty: none
	Subprotocol  string // empty: none, as on Connect
	State        string // opaque to the platform; empty: none
	Origin       string // host name of the service, without a port
	ContentType  string
	Body         []byte
	Metadata     webpubsub.Metadata // of what a client has sent; their keys arrive in lower case

	// Of BeforePublish.
	Group  string // that the message is for
	NoEcho bool   // its sender does not want to receive it
	AckID  string // decimal, unique within the connection and the same when the client sends the message again; empty: none
}

// IsSystem reports whether the event comes from the platform and not from a client.
func (e Event) IsSystem() bool { return !strings.HasPrefix(e.Type, UserPrefix) }

// NewRequest returns the POST that brings e to url, signed with each of the keys (event-handler.md section 4).
func NewRequest(ctx context.Context, url string, e Event, keys ...string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(e.Body))
	if err != nil {
		return nil, err
	}
	h := r.Header
	h.Set("Content-Type", e.ContentType)
	h.Set("WebHook-Request-Origin", e.Origin)
	h.Set("ce-specversion", "1.0")
	h.Set("ce-awpsversion", "1.0")
	h.Set("ce-type", e.Type)
	h.Set("ce-source", source(e))
	h.Set("ce-id", strconv.FormatUint(e.ID, 10))
	h.Set("ce-time", e.Time.UTC().Format(time.RFC3339))
	h.Set("ce-signature", Signature(e.ConnectionID, keys...))
	h.Set("ce-connectionId", e.ConnectionID)
	h.Set("ce-hub", e.Hub)
	h.Set("ce-eventName", e.Name)
	setIf(h, "ce-userId", Escape(e.UserID))
	setIf(h, "ce-subprotocol", e.Subprotocol)
	setIf(h, "ce-connectionState", e.State)
	setIf(h, "ce-group", Escape(e.Group))
	setIf(h, "ce-ackId", e.AckID)
	if e.NoEcho {
		h.Set("ce-noEcho", "true")
	}
	httpx.SetMetadata(h, e.Metadata)
	return r, nil
}

func source(e Event) string { return "/hubs/" + e.Hub + "/client/" + e.ConnectionID }

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// Signature returns the ce-signature of a connection's events: an entry per key, no space between them
// (event-handler.md section 4.1).
func Signature(connectionID string, keys ...string) string {
	var b []byte
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		b = append(b, "sha256="...)
		b = hex.AppendEncode(b, mac.Sum(nil))
	}
	return string(b)
}

// NewValidation returns the request that asks the handler at url whether it wants events of hub from origin
// (event-handler.md section 3). method is OPTIONS, or GET for handlers that do not know OPTIONS.
func NewValidation(ctx context.Context, method, url, hub, origin string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("WebHook-Request-Origin", origin)
	r.Header.Set("ce-awpsversion", "1.0")
	r.Header.Set("ce-hub", hub)
	return r, nil
}

// Allows reports whether the headers of a handler's answer allow events from origin. The header may be repeated
// or hold a list; an entry may have a port.
func Allows(h http.Header, origin string) bool {
	for _, line := range h.Values("WebHook-Allowed-Origin") {
		for entry := range strings.SplitSeq(line, ",") {
			entry = strings.TrimSpace(entry)
			if entry == "*" || strings.EqualFold(entry, origin) || strings.EqualFold(withoutPort(entry), origin) {
				return true
			}
		}
	}
	return false
}

func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}
