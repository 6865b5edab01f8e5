// Package webpubsub is the vocabulary of the platform: hubs, audiences, data, roles and permissions.
//
// It uses the standard library only and knows nothing of sockets, buses or HTTP. Names are spelled as the
// Azure Web PubSub protocol spells them.
package webpubsub

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of names and sizes (protocol/client-json.md section 11).
const (
	MaxGroupName    = 1024    // characters of a group name
	MaxUserID       = 1024    // bytes of a user id; the protocol names no limit, but memory and filters do
	MaxMessageBytes = 1 << 20 // bytes of a client frame or a REST body, unless a tenant sets less
	MaxTTL          = 300 * time.Second
)

// HubKey names a hub of a tenant. Hub is in lower case, as hubs are case-insensitive.
type HubKey struct{ Tenant, Hub string }

// String returns tenant and hub joined by a slash, for logs.
func (k HubKey) String() string { return k.Tenant + "/" + k.Hub }

var hubName = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")

// ParseHub returns the hub name in lower case, or an error that says what is allowed.
func ParseHub(name string) (string, error) {
	if !hubName.MatchString(name) {
		return "", fmt.Errorf("hub name %.140q is invalid: it must start with a letter and have at most 128 letters, digits or any of _`,.[]", name)
	}
	return strings.ToLower(name), nil
}

// CheckGroup reports what is wrong with a group name, or nil. Group names are case-sensitive.
func CheckGroup(name string) error {
	switch n := utf8.RuneCountInString(name); {
	case n > MaxGroupName:
		return fmt.Errorf("group name has %d characters; at most %d are allowed", n, MaxGroupName)
	case strings.IndexFunc(name, func(r rune) bool { return !unicode.IsSpace(r) }) < 0:
		return fmt.Errorf("group name is empty or only white space; it needs 1 to %d characters", MaxGroupName)
	}
	return nil
}

var eventName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)

// CheckEvent reports what is wrong with a user event's name, or nil.
func CheckEvent(name string) error {
	if !eventName.MatchString(name) {
		return fmt.Errorf("event name %.140q is invalid: it must start with a letter and have at most 128 letters, digits or any of _ . -", name)
	}
	return nil
}

// Scope says what an Audience's Name is.
type Scope uint8

// The scopes of an audience.
const (
	ScopeHub        Scope = iota // every connection of the hub; Name is empty
	ScopeGroup                   // the members of group Name
	ScopeUser                    // the connections of user Name
	ScopeConnection              // connection Name
)

// String returns the scope as it stands in metrics and logs.
func (s Scope) String() string {
	switch s {
	case ScopeHub:
		return "hub"
	case ScopeGroup:
		return "group"
	case ScopeUser:
		return "user"
	case ScopeConnection:
		return "connection"
	}
	return "unknown"
}

// Audience is the set of connections an operation is about: those in scope, minus the connection ids in
// Except, and only where the OData Filter is true (empty: everywhere).
type Audience struct {
	Hub    HubKey
	Scope  Scope
	Name   string
	Except []string
	Filter string
}

// DataType is the type of a payload, dataType on the wire.
type DataType uint8

// The data types of the protocol.
const (
	DataText     DataType = iota + 1
	DataJSON              // Bytes hold a JSON value, forwarded verbatim
	DataBinary            // Bytes are the raw bytes
	DataProtobuf          // Bytes are a serialized google.protobuf.Any
)

// String returns the type as it is spelled on the wire.
func (t DataType) String() string {
	switch t {
	case DataText:
		return "text"
	case DataJSON:
		return "json"
	case DataBinary:
		return "binary"
	case DataProtobuf:
		return "protobuf"
	}
	return "unknown"
}

// ParseDataType accepts any letter case, since the .NET client capitalises (client-json.md 3.1).
func ParseDataType(s string) (DataType, bool) {
	for t := DataText; t <= DataProtobuf; t++ {
		if strings.EqualFold(s, t.String()) {
			return t, true
		}
	}
	return 0, false
}

// Data is a payload, its type and what is said of it beside. None of it is changed once handed over.
type Data struct {
	Type     DataType
	Bytes    []byte
	Metadata Metadata
}

// Text returns s as text data.
func Text(s string) Data { return Data{Type: DataText, Bytes: []byte(s)} }

// Message is what connections receive. Group is empty for a message from the server; FromUserID is empty
// when the sender has no user or is the REST API. A copy that a receiver has not taken within TTL is
// dropped; zero means never.
type Message struct {
	Group      string
	FromUserID string
	Data       Data
	TTL        time.Duration
}
