// Package cluster reaches connections on every node of a deployment, this one included.
//
// A node subscribes to a topic for each hub, group and user it holds and for its own inbox. The subscription is
// the presence record: a publish says how many nodes heard, SubscriberCount says how many would. Nothing is stored,
// so nothing goes stale; a node that dies takes its subscriptions with it. Peer adds questions, which are answered.
package cluster

import (
	"context"
	"errors"
	"fmt"
)

// ErrUnavailable says that the bus cannot carry payloads now. The bus makes no second attempt by itself. Whether a payload that
// was under way when a connection broke has been heard is unknown.
var ErrUnavailable = errors.New("the message bus is unavailable")

// ErrUncertain is an ErrUnavailable of a payload that may have been heard.
var ErrUncertain = fmt.Errorf("%w: what was under way may have been heard", ErrUnavailable)

// Bus carries payloads between nodes: at most once, in order per topic and publisher, and in one order per
// topic for all receivers of a node. Methods are safe for concurrent use.
type Bus interface {
	// Post queues payload for a topic and returns at once; payloads of one goroutine for one topic keep their
	// order. done, unless nil, is called once: with the number of nodes that heard, or with an error that is
	// ErrUnavailable. It must not block. The payload must not be changed afterwards.
	//
	// Post may call done, and on memory also deliver, before it returns: hold no lock that these take.
	Post(topic string, payload []byte, done func(nodes int, err error))

	// PostKept is Post of a payload that the bus keeps for a while, so that a node which was not connected when it was published gets it
	// later, in its order. So done with nil means that all who are to hear it do, how ever many have yet. number is eight bytes of the
	// payload, into which the bus writes what number this payload has among all that it has taken from this node's PostKept, 1 for the
	// first, big endian: a receiver for whom it is not greater than the last of that node has got the payload before. A bus that cannot keep
	// payloads leaves number as it is; with nil for it PostKept is Post.
	PostKept(topic string, payload, number []byte, done func(nodes int, err error))

	// Subscribe and Unsubscribe return when their change is in effect everywhere. To subscribe to a topic that this node
	// has already does nothing. A subscription outlives a lost connection: the bus makes it again when it is back.
	// While the bus is not ready Subscribe fails with ErrUnavailable. After an error of Subscribe this node has none of the
	// topics that it did not have before. When several calls are about one topic at the same time, the outcome is that of
	// one of them. Neither may be called by deliver or done, which would wait for themselves.
	Subscribe(ctx context.Context, topics ...string) error
	Unsubscribe(ctx context.Context, topics ...string) error

	// SubscriberCount says how many nodes subscribe to a topic.
	SubscriberCount(ctx context.Context, topic string) (nodes int, err error)

	// Identify says the id of this node, by which others can end its connections to the server once it is dead. It is called once,
	// before Run.
	Identify(node string)

	// Run works until ctx ends, calling deliver for each payload of a subscribed topic, this node's own
	// included, from one goroutine at a time. deliver must not block; it may keep payload but must not change
	// it. idle is called after deliver when no further payload is at hand, to do what deliver has deferred; it may be called
	// at other times too, and from several goroutines. Neither is called under a lock of the bus that Post needs. Run is
	// called once and returns nil; after it Post and Subscribe fail with ErrUnavailable.
	Run(ctx context.Context, deliver func(topic string, payload []byte), idle func()) error

	// Ready returns nil when publishing and all subscriptions work, else why not. Post and Subscribe fail at
	// once while it does not.
	Ready() error

	// LossCount returns a number that grows each time payloads of Post may have been missed because a connection to the
	// server was lost. It grows when the subscriptions are in effect again, before Ready returns nil: from then on nothing more is
	// missed.
	LossCount() uint64

	// GapCount is LossCount for payloads of PostKept: it grows only if what was missed could not all be read up.
	GapCount() uint64
}
