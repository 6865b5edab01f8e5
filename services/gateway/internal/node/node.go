// Package node is what a client frame or a REST call may ask for: send, close, exists, join, leave, grant, members,
// for any audience and wherever its connections are.
//
// Each verb is told to the audience's topic or asked of every node that subscribes to it. What a node is told or
// asked it does to its own connections, which package hub holds.
package node

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// Errors of the verbs. webpubsub.ErrRuleLimit is one more.
var (
	// ErrNotFound says that no connection is meant by the audience.
	ErrNotFound = wire.ErrNotFound
	// ErrPartial says that not every node that was asked has answered in time: what was asked for may have
	// happened in part and can be asked for again.
	ErrPartial = cluster.ErrPartial
	// ErrUnavailable says that the bus cannot be reached now.
	ErrUnavailable = cluster.ErrUnavailable
	// ErrUncertain is an ErrUnavailable of something that may have happened all the same.
	ErrUncertain = cluster.ErrUncertain
)

// askTimeout bounds a question to other nodes, and busTimeout a change of subscriptions.
const (
	askTimeout = 5 * time.Second
	busTimeout = 5 * time.Second
)

// Node is this process among the nodes of a deployment. Methods are safe for concurrent use.
type Node struct {
	Handoffs *handoff.Handoffs  // connections on their way between this node and others
	States   *groupstate.States // what connections say of themselves in groups

	peer     *cluster.Peer
	receiver receiver
	conns    *hub.Registry
	topics   *topics.Set
	log      *slog.Logger
	inbox    string

	unresponsive func(ctx context.Context) (nodes []string, err error)
	living       func(ctx context.Context) (nodes []string, err error)
	keeps        func(webpubsub.HubKey) bool
	origin       wire.Origin

	sent [webpubsub.ScopeConnection + 1]prometheus.Counter

	withdrawn atomic.Bool // see Withdraw
	reachable atomic.Bool // the inbox is subscribed
}

// Options is what a node does for those who made it.
type Options struct {
	Handoff handoff.Hooks // required if connections are to move between nodes
	// Traced gets what any node posts to a tenant's trace that this node holds. It must not block, nor change the frame.
	// nil: nothing listens.
	Traced func(tenant string, frame []byte)
	// Keeps reports whether what is sent in a hub is kept for nodes that have lost the bus meanwhile. nil: in all hubs.
	Keeps func(webpubsub.HubKey) bool
	// Unresponsive returns the ids of nodes that show no sign of life, though they may still be subscribed. nil: none.
	Unresponsive func(ctx context.Context) (nodes []string, err error)
	// Living returns the ids of the other nodes that live, though they may have lost the bus. nil: none.
	Living func(ctx context.Context) (nodes []string, err error)
	// Dead is what cluster.NewPeer wants to know.
	Dead func() (nodes []string)
}

// New returns a node that reaches other nodes over bus and holds its connections in conns. Run must run for it to work.
func New(bus cluster.Bus, conns *hub.Registry, o Options, log *slog.Logger, reg prometheus.Registerer) *Node {
	peer, held := cluster.NewPeer(bus, o.Dead), topics.New(bus, log)
	n := &Node{peer: peer, conns: conns, topics: held, log: log, inbox: cluster.Inbox(peer.ID()), unresponsive: o.Unresponsive,
		Handoffs: handoff.New(peer, conns, held, o.Handoff, log), States: groupstate.New(peer, conns, held),
		keeps: o.Keeps, living: o.Living, origin: wire.NewOrigin(peer.ID())}
	if n.living == nil {
		n.living = func(context.Context) ([]string, error) { return nil, nil }
	}
	if n.keeps == nil {
		n.keeps = func(webpubsub.HubKey) bool { return true }
	}
	n.receiver = receiver{node: n, peer: peer, conns: conns, handoffs: n.Handoffs, states: n.States, log: log, inbox: n.inbox, traced: o.Traced,
		last: map[[cluster.NodeIDSize]byte]uint64{}}
	if n.unresponsive == nil {
		n.unresponsive = func(context.Context) ([]string, error) { return nil, nil }
	}
	n.topics.Reserve(n.ownTopics()...)
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_messages_sent_total",
		Help: "Messages that clients and the REST API have sent, by the scope of their audience."}, []string{"scope"})
	reg.MustRegister(sent)
	for scope := range n.sent {
		n.sent[scope] = sent.WithLabelValues(webpubsub.Scope(scope).String())
	}
	return n
}

// Run works until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { n.topics.Run(ctx) })
	work.Go(func() { n.openInbox(ctx) })
	err := n.peer.Run(ctx, n.receiver.deliver, n.conns.Flush)
	work.Wait()
	n.receiver.asked.Wait()
	n.Handoffs.Wait()
	return err
}

// ownTopics are the topics that the node holds for itself.
func (n *Node) ownTopics() []string {
	return []string{n.inbox, cluster.OpenNodesTopic, cluster.KeepingTopic}
}

// openInbox subscribes to the inbox: without it no connection of this node can be reached by its id, and no answer to
// a question of its own.
func (n *Node) openInbox(ctx context.Context) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, busTimeout)
		err := n.topics.Subscribe(attempt, n.ownTopics()...)
		cancel()
		if err == nil {
			n.reachable.Store(true)
			return
		}
		n.log.Debug("subscribe to the inbox", "error", err)
		_ = backoff.Sleep(ctx, 100*time.Millisecond)
	}
}

// ID returns the node's id, which begins those of its connections.
func (n *Node) ID() string { return n.peer.ID() }

// Idle reports whether no connection is on its way to or from another node and no question of another node unanswered.
func (n *Node) Idle() bool { return !n.Handoffs.Pending() && n.receiver.answering.Load() == 0 }

// Withdraw says that no connection can move to this node any more, as it drains, and returns when no node counts it among
// the Others. After an error, which is ErrUnavailable when the bus is away, that is tried again in the background. It is
// for ever; a second call does nothing.
func (n *Node) Withdraw(ctx context.Context) error {
	if n.withdrawn.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	return wire.Unavailable(n.topics.Drop(ctx, cluster.OpenNodesTopic))
}

// Others reports whether there are other nodes to which connections could move.
func (n *Node) Others(ctx context.Context) (bool, error) {
	nodes, err := n.peer.SubscriberCount(ctx, cluster.OpenNodesTopic)
	if n.topics.Subscribed(cluster.OpenNodesTopic) {
		nodes-- // this one
	}
	return nodes > 0, err
}

// KeepingNodes says how many nodes keep what they publish, this one included.
func (n *Node) KeepingNodes(ctx context.Context) (int, error) {
	return n.peer.SubscriberCount(ctx, cluster.KeepingTopic)
}

// Ready returns nil when the node can reach and be reached, else why not.
func (n *Node) Ready() error {
	if err := n.peer.Ready(); err != nil {
		return err
	}
	if !n.reachable.Load() {
		return errors.New("not subscribed yet")
	}
	return nil
}

// NewConnectionID returns an id that no one can guess, for a connection of this node.
func (n *Node) NewConnectionID() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return n.peer.ID() + base64.RawURLEncoding.EncodeToString(random[:])
}

// Open makes a connection, in its hub, its user's connections and groups, none twice, and returns when everybody
// reaches it.
func (n *Node) Open(ctx context.Context, o hub.ConnOptions, groups []string) (*hub.Conn, error) {
	own := topics.OfConn(o.Hub, o.UserID)
	keys := append(slices.Clone(own), topics.OfGroups(o.Hub, groups)...)
	// The inbox is held by the node itself; to hold it again is to wait until it is subscribed.
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if err := n.topics.Hold(ctx, append(keys, n.inbox)...); err != nil {
		return nil, fmt.Errorf("subscribe for a new connection: %w", wire.Unavailable(err))
	}
	n.topics.Release(n.inbox)
	onClosed := o.OnClosed
	o.OnClosed = func(c *hub.Conn, closing hub.Closing) {
		n.Handoffs.Ended(c)
		onClosed(c, closing)
	}
	c := n.conns.Add(o)
	for _, topic := range own {
		n.conns.AddToTopic(c, topic)
	}
	for i, g := range groups {
		if joined, err := n.conns.JoinInitial(c, keys[len(own)+i], g); !joined { // it has ended, or is in too many
			n.topics.Release(keys[len(own)+i])
			n.log.Debug("join at connect", "hub", o.Hub.String(), "connection", o.ID, "error", err)
		}
	}
	return c, nil
}

// JoinConn adds a connection of this node to groups and returns when that is in effect everywhere.
func (n *Node) JoinConn(ctx context.Context, c *hub.Conn, groups ...string) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	keys := topics.OfGroups(c.Hub, groups)
	if err := n.topics.Hold(ctx, keys...); err != nil {
		return wire.Unavailable(err)
	}
	var errs []error
	for i, g := range groups {
		joined, err := n.conns.Join(c, keys[i], g)
		if !joined {
			n.topics.Release(keys[i])
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// LeaveConn removes a connection of this node from groups and returns when that is in effect everywhere.
func (n *Node) LeaveConn(ctx context.Context, c *hub.Conn, groups ...string) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var keys []string
	var errs []error
	for i, key := range topics.OfGroups(c.Hub, groups) {
		left, err := n.conns.Leave(c, key, groups[i])
		if left {
			keys = append(keys, key)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, wire.Unavailable(n.topics.Drop(ctx, keys...)))...)
}
