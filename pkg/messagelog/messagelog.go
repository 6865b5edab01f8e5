// Package messagelog keeps copies of what clients send to groups, and of events, for consumers such as the chat history.
//
// It is the self-hosted twin of the cloud's event listeners: a hub names the logs that get a copy, a consumer
// reads a log at least once and remembers what it has stored. A log is a Redis Stream (package redislog) or a
// table of the embedded store (package sqlitelog). Both are bounded by age and size.
package messagelog

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Entry is one group message as a client sent it, or one event of a connection. Everything but Data comes from the sender's
// connection and can be trusted.
type Entry struct {
	ID           string // made by the log; grows along the log, unique within it
	Hub          webpubsub.HubKey
	Group        string // that the message was sent to
	ConnectionID string
	FromUserID   string // empty for an anonymous sender
	Time         time.Time
	Data         webpubsub.Data
	Event        *Event // nil: a message to Group
}

// Event is what an entry that is an event has beside its data.
type Event struct {
	Type        string // as cloudevents has it
	Name        string
	ID          uint64 // unique within the connection
	Subprotocol string
	State       string
}

// Name returns the name of the log that a tenant calls name. Tenants share no log, whatever they call theirs: what one
// writes must not be confirmed by the consumer of another, nor push out entries that the other has not read yet.
func Name(tenant, name string) string { return tenant + "/" + name }

// Log is a set of named logs.
type Log interface {
	// Append queues e for the named log and calls done once, perhaps before it returns: with nil when e will
	// survive the process, else with the reason. It does not wait, and done must not either; entries of one
	// caller keep their order. e.Data is not changed afterwards.
	Append(name string, e Entry, done func(error))

	// Consume calls handle with the entries of the named log that this consumer group has not confirmed, oldest
	// first, in batches, until ctx ends. Entries are confirmed when handle returns nil; otherwise the same
	// batch is handed over again after a pause. One process of the consumer group gets entries at a time, in
	// the order of the log; what a dead process held is handed to another within 15 s.
	Consume(ctx context.Context, name, consumer string, handle func(context.Context, []Entry) error) error

	// Ready returns nil, or why the log cannot take entries now.
	Ready(ctx context.Context) error
}
