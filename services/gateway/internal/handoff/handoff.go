// Package handoff moves a reliable connection from the node that has it to the one that its client has come back to
// (docs/decisions/0011-recovery.md). The first is the source, the second the destination.
//
// The destination asks the source to begin. The source takes the socket away, waits until nothing of the client's
// requests is under way, and lets nobody change the connection any more. The destination subscribes to all the
// connection's topics and then publishes a marker to each. Both nodes see a topic's payloads in one order: what comes
// before the marker is for the source to keep, what comes after it for the destination. When all markers have come,
// the destination reads what the source has kept, puts what has come to itself behind it, and asks for the connection.
//
// With the answer to that question the connection changes hands. Until then it is the source's, which keeps also what
// comes after the markers, and goes on as if nothing had been when the destination falls silent. From then on it is
// the destination's, and dies with it. A destination that gets no answer asks again, for the source remembers what it has
// answered.
//
// A connection's id names the node that made it. Once it has moved it is reached by a topic of its own, to which only
// the node subscribes that has it. The node that made it passes on what still comes to its inbox for a connection that it
// does not have; a sender whose payload is not heard there, since that node is gone, uses the connection's topic itself.
package handoff

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// Errors of TakeOver, and of those hooks that may say them.
var (
	ErrMoving      = wire.ErrMoving      // the connection is on its way between two nodes, or cannot leave now; ask again
	ErrNotFound    = wire.ErrNotFound    // there is no such connection, or no right to it
	ErrUnavailable = wire.ErrUnavailable // the bus cannot be reached now
)

// Hooks are what is done, when a connection moves, by those who made the connections of a node. All are required. They are called
// from several goroutines, but for one connection by one at a time.
type Hooks struct {
	// Admit reports whether credential proves a right to the connection.
	Admit func(c *hub.Conn, credential string) bool
	// AwaitRequests returns when nothing is under way that the client of a connection without socket has asked for, or
	// an error if that takes too long.
	AwaitRequests func(context.Context, *hub.Conn) error
	// Export returns what else is to go along with a connection that may leave.
	Export func(*hub.Conn) []byte
	// HandOver returns the same when the connection leaves, or an error if that cannot be now.
	HandOver func(*hub.Conn) ([]byte, error)
	// CancelHandOver says that a connection which was handed over has not left, but has ended.
	CancelHandOver func(*hub.Conn)
	// Resume gets what has come along with a connection.
	Resume func(c *hub.Conn, exported []byte)
}

const (
	silenceLimit    = 6 * time.Second  // a source that hears nothing for so long keeps the connection
	takeOverTimeout = 10 * time.Second // a destination gives up after that
	askTimeout      = 5 * time.Second  // bounds a question to another node
	answerTimeout   = askTimeout * 3 / 4
	returnTime      = 5 * time.Second // until every node that can is back on the bus: its pauses of up to 2 s, and its subscriptions
	releasedKept    = time.Minute     // how long a source remembers that it has let a connection go
	chunkSize       = 256 << 10       // bytes of one answer
)

// Handoffs are the connections of this node that are on their way to or from another. Methods are safe for concurrent
// use.
type Handoffs struct {
	peer   *cluster.Peer
	conns  *hub.Registry
	topics *topics.Set
	hooks  Hooks
	log    *slog.Logger
	inbox  string

	silence  time.Duration  // silenceLimit, but for tests
	adopted  atomic.Int64   // connections here that have been on another node
	healed   atomic.Uint64  // see Healed
	healedAt atomic.Int64   // when that was last, in milliseconds since 1970; 0: never
	work     sync.WaitGroup // goroutines

	pending  atomic.Int64 // how many there are; most often none, and then the lock is not needed
	mu       sync.Mutex   // guards the following
	outgoing map[string]*outgoing
	incoming map[string]*incoming
	released map[string][]byte // by token: what went along
}

// New returns the handoffs of the node that is peer, whose connections are conns and whose subscriptions are held.
func New(peer *cluster.Peer, conns *hub.Registry, held *topics.Set, hooks Hooks, log *slog.Logger) *Handoffs {
	h := &Handoffs{peer: peer, conns: conns, topics: held, hooks: hooks, log: log, inbox: cluster.Inbox(peer.ID()), silence: silenceLimit,
		outgoing: map[string]*outgoing{}, incoming: map[string]*incoming{}, released: map[string][]byte{}}
	h.healed.Store(peer.LossCount())
	return h
}

// Wait returns when what was begun in the background is done. Nothing may be handled any more.
func (h *Handoffs) Wait() { h.work.Wait() }

// Healed says that what the bus has lost, up to that number, has been dealt with: no connection that is left may have
// missed a message unawares.
func (h *Handoffs) Healed(lost uint64) {
	h.healedAt.Store(time.Now().UnixMilli())
	h.healed.Store(lost)
}

// unhealed reports whether connections here may have missed messages unawares.
func (h *Handoffs) unhealed() bool { return h.peer.LossCount() != h.healed.Load() }

// OthersMayReturn reports whether the bus was lost and has come back so lately that other nodes may still be on their way back to it.
// Until they are, what a node is asked about its connections reaches nobody, as if it were gone.
func (h *Handoffs) OthersMayReturn() bool {
	return h.unhealed() || time.Now().UnixMilli()-h.healedAt.Load() < returnTime.Milliseconds()
}

// Pending reports whether any connection is on its way to or from this node.
func (h *Handoffs) Pending() bool { return h.pending.Load() > 0 }

// Moving reports whether a connection is on its way to or from this node.
func (h *Handoffs) Moving(id string) bool { return h.decided(id) != nil }

// HasAdopted reports whether any connection here has been on another node.
func (h *Handoffs) HasAdopted() bool { return h.adopted.Load() > 0 }

// decided returns a channel that is closed when it is decided where the connection is, or nil if it is not moving.
func (h *Handoffs) decided(id string) <-chan struct{} {
	if h.pending.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out := h.outgoing[id]; out != nil {
		return out.decided
	}
	if in := h.incoming[id]; in != nil {
		return in.decided
	}
	return nil
}

// HandleMark notes that what comes by a topic from now on is for the destination of a connection, whose source or
// destination this is.
func (h *Handoffs) HandleMark(topic string, o *wire.Order) {
	if out := h.outgoingOf(o); out != nil {
		h.divert(out, topic)
	} else if in := h.incomingOf(o); in != nil {
		in.enlist(topic)
	}
}

// strike takes a topic off a list, and closes done when it was the last.
func strike(topics map[string]struct{}, topic string, done chan struct{}) {
	if _, on := topics[topic]; on {
		if delete(topics, topic); len(topics) == 0 {
			close(done)
		}
	}
}

// AskConn asks about the connection that o names: the node that made it or, if that one is gone, the one that has it now.
func (h *Handoffs) AskConn(ctx context.Context, o *wire.Order) ([][]byte, error) {
	topic := cluster.Topic(o.Target, webpubsub.ScopeConnection, o.Conn)
	if topic == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answers, err := h.peer.Ask(ctx, topic, o.Append(nil))
	if len(answers) == 0 && err == nil {
		return h.peer.Ask(ctx, cluster.HandedOverTopic(o.Target, o.Conn), o.Append(nil))
	}
	return answers, err
}

// Elsewhere reports whether an order by id, which came to the inbox, is for a connection that is reached otherwise; c is
// that connection if it is here. shadow is not nil while that is not decided yet: it keeps what is passed on.
func (h *Handoffs) Elsewhere(o *wire.Order, c *hub.Conn) (elsewhere bool, shadow *hub.Conn) {
	switch {
	case c == nil:
		return h.conns.Conn(o.Conn) == nil, nil // else it is one of another hub
	case c.HandedOver:
		return true, nil
	case h.pending.Load() == 0:
		return false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out := h.outgoing[c.ID]; out != nil && out.passOn {
		return true, c.Shadow()
	}
	return false, nil
}

// AskElsewhere returns what the node answers that has a connection which was made here.
func (h *Handoffs) AskElsewhere(o *wire.Order) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	answers, err := h.peer.Ask(ctx, cluster.HandedOverTopic(o.Target, o.Conn), o.Append(nil))
	if err != nil && !errors.Is(err, cluster.ErrPartial) {
		return wire.StatusOf(wire.Unavailable(err))
	}
	best := wire.StatusOf(ErrNotFound)
	for _, b := range answers {
		if s, _ := wire.ReadStatus(b); s != wire.StatusNotFound {
			best = b
		}
	}
	return best
}

// Change does to a connection of this node what o asks for and must not happen while it moves. If it has moved away
// the node that has it is asked for the same. do returns ErrMoving or hub.ErrConnEnded to say that the connection may be moving.
func (h *Handoffs) Change(c *hub.Conn, o *wire.Order, do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for {
		decided := h.decided(c.ID)
		if decided == nil {
			err := do()
			if !errors.Is(err, ErrMoving) && !errors.Is(err, hub.ErrConnEnded) { // one that has ended here may have moved away meanwhile
				return err
			}
			if decided = h.decided(c.ID); decided == nil && h.conns.Conn(c.ID) == c {
				continue // it has just been decided that it stays
			}
		}
		if decided != nil {
			select {
			case <-decided:
			case <-ctx.Done():
				return ErrUnavailable
			}
		}
		if h.conns.Conn(c.ID) != c {
			answers, err := h.AskConn(ctx, &wire.Order{Verb: o.Verb, Conn: c.ID, Target: c.Hub, Args: o.Args})
			if err != nil {
				return err
			}
			return wire.Outcome(answers)
		}
	}
}

// Ended gives up the topics of a connection that has ended here, and its handoff: it has left, or ended otherwise.
func (h *Handoffs) Ended(c *hub.Conn) {
	h.endOutgoing(c)
	keys := topics.OfConn(c.Hub, c.UserID)
	if c.HandedOver {
		keys = append(keys, cluster.HandedOverTopic(c.Hub, c.ID))
	}
	h.topics.Release(append(keys, topics.OfGroups(c.Hub, h.conns.Groups(c))...)...)
}
