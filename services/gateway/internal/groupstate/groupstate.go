// Package groupstate keeps what connections say of themselves in groups, and tells it to those who want to hear it.
//
// What a connection says is kept where the connection is, and nowhere else: what nobody stores cannot go stale. A
// subscriber's node asks the others for all of it, which is the snapshot, and is told of what changes, which are updates.
//
// A subscriber is promised that what it hears first is a snapshot: after it has subscribed, after it has subscribed once
// more, and on each new socket, whether on the same node or on another. What changes before the snapshot is out
// goes into it, so that it never sees an older item after a newer one's snapshot.
package groupstate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// MaxGroups is in how many groups a connection may say something of itself, and of how many it may want to hear.
const MaxGroups = 100

const (
	setTimeout      = 5 * time.Second // bounds how long subscribers take to be told
	snapshotTimeout = 5 * time.Second // bounds how long other nodes take to say what there is
)

// ErrTooMany says that the connection has reached MaxGroups.
var ErrTooMany = fmt.Errorf("the connection has state in, or is subscribed to the state of, %d groups; more are not allowed", MaxGroups)

// States are what this node's connections say of themselves, and which of them want to hear of others. Methods are safe
// for concurrent use.
type States struct {
	peer   *cluster.Peer
	conns  *hub.Registry
	topics *topics.Set

	mu     sync.Mutex // guards the following; writers of package hub take it, so nothing is pushed under it
	groups map[string]*group
	known  map[*hub.Conn]*conn
}

// group is one with state or subscribers here, by its topic.
type group struct {
	name          string
	items         map[*hub.Conn]protocol.GroupStateItem
	subscriptions map[*hub.Conn]*subscription
}

// conn is a connection that has said something or has subscriptions. Its groups are by topic.
type conn struct {
	last   int64             // when it last said something
	said   map[string]string // the groups in which it says something
	wanted map[string]string // the groups of which it wants to hear
}

// New returns the states of the node that is peer, whose connections are conns and whose subscriptions are held.
func New(peer *cluster.Peer, conns *hub.Registry, held *topics.Set) *States {
	return &States{peer: peer, conns: conns, topics: held, groups: map[string]*group{}, known: map[*hub.Conn]*conn{}}
}

// group returns the group of a topic. The caller has mu.
func (s *States) group(topic, name string) *group {
	g := s.groups[topic]
	if g == nil {
		g = &group{name: name, items: map[*hub.Conn]protocol.GroupStateItem{}, subscriptions: map[*hub.Conn]*subscription{}}
		s.groups[topic] = g
	}
	return g
}

// conn returns what is known of c, which is nothing to begin with. The caller has mu.
func (s *States) conn(c *hub.Conn) *conn {
	known := s.known[c]
	if known == nil {
		known = &conn{said: map[string]string{}, wanted: map[string]string{}}
		s.known[c] = known
	}
	return known
}

// dropIfEmpty forgets a group without state and subscribers. A connection that has said something keeps its time until
// it ends. The caller has mu.
func (s *States) dropIfEmpty(topic string) {
	if g := s.groups[topic]; g != nil && len(g.items)+len(g.subscriptions) == 0 {
		delete(s.groups, topic)
	}
}

// Set says something of a connection of this node in a group, or with nil nothing any more, and returns when
// subscribers are told. It returns ErrTooMany, hub.ErrConnEnded, or wire.ErrUnavailable after setTimeout at the latest.
func (s *States) Set(ctx context.Context, c *hub.Conn, group string, state []byte) error {
	ctx, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()
	topic := cluster.StateTopic(c.Hub, group)
	if err := s.topics.Hold(ctx, topic); err != nil { // also to clear: until subscribers have heard of it
		return wire.Unavailable(err)
	}
	item, had, has, err := s.put(c, topic, group, state)
	if had || !has { // one hold is enough
		defer s.topics.Release(topic)
	}
	if had && !has {
		defer s.topics.Release(topic)
	}
	if err != nil {
		return err
	}
	if s.conns.Conn(c.ID) != c { // it has ended meanwhile, and with it its state
		s.Forget(c, true)
		if state != nil {
			return hub.ErrConnEnded
		}
	}
	return s.tell(ctx, topic, item)
}

// put stores what c says and returns the item. c held the topic for it before if had is true, and does now if has is.
func (s *States) put(c *hub.Conn, topic, group string, state []byte) (item protocol.GroupStateItem, had, has bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.conn(c)
	_, had = known.said[topic]
	if state != nil && !had && len(known.said) >= MaxGroups {
		return item, had, had, ErrTooMany
	}
	known.last = max(time.Now().UnixMilli(), known.last+1)
	item = protocol.GroupStateItem{ConnectionID: c.ID, UserID: c.UserID, State: state, UpdatedAt: known.last}
	g := s.group(topic, group)
	if state == nil {
		delete(known.said, topic)
		delete(g.items, c)
	} else {
		known.said[topic] = group
		g.items[c] = item
	}
	s.dropIfEmpty(topic)
	return item, had, state != nil, nil
}

// tell tells subscribers on all nodes, and returns when the bus has it.
func (s *States) tell(ctx context.Context, topic string, item protocol.GroupStateItem) error {
	o := wire.Order{Verb: wire.VerbState, Origin: wire.NewOrigin(s.peer.ID()), Args: appendItem(nil, item)}
	posted := make(chan error, 1)
	b := o.Append(cluster.NewTell(len(o.Args) + 48))
	s.peer.PostKept(topic, b, o.Origin.NumberIn(b), func(_ int, err error) { posted <- err })
	select {
	case err := <-posted:
		return err
	case <-ctx.Done():
		return wire.Unavailable(ctx.Err())
	}
}

// Answer answers with what connections of this node say in the group of a topic.
func (s *States) Answer(topic string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	if g := s.groups[topic]; g != nil {
		for _, item := range g.items {
			b = appendItem(b, item)
		}
	}
	return b
}

// SaidAt returns when c has said what it says of itself in the group, in Unix milliseconds; 0: it says nothing. It is
// what Withdraw needs to know, and does not block.
func (s *States) SaidAt(c *hub.Conn, group string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[cluster.StateTopic(c.Hub, group)]; g != nil {
		return g.items[c].UpdatedAt
	}
	return 0
}

// Withdraw takes back what c has said at that time in a group that it has left.
func (s *States) Withdraw(c *hub.Conn, group string, saidAt int64) {
	if c.Frozen() || s.conns.Conn(c.ID) != c {
		return // it has not left, but ends here: see Forget
	}
	if saidAt != 0 && saidAt == s.SaidAt(c, group) {
		_ = s.Set(context.Background(), c, group, nil) // the bus is away; a snapshot will be right
	}
}

// Has reports whether there is something for Forget. It does not block.
func (s *States) Has(c *hub.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[c] != nil
}

// Forget forgets what c has said and wanted to hear, as it has ended here. tell says that it does not go on on another
// node, so that subscribers are to be told.
func (s *States) Forget(c *hub.Conn, tell bool) {
	known := s.remove(c)
	if known == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), setTimeout)
	defer cancel()
	item := protocol.GroupStateItem{ConnectionID: c.ID, UserID: c.UserID, UpdatedAt: max(time.Now().UnixMilli(), known.last+1)}
	for topic := range known.said {
		if tell {
			_ = s.tell(ctx, topic, item) // the bus is away; a snapshot will be right
		}
		s.topics.Release(topic)
	}
	for topic := range known.wanted {
		s.topics.Release(topic)
	}
}

// remove takes c out of all groups and returns what was known of it, nil if nothing was.
func (s *States) remove(c *hub.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known[c]
	if known == nil {
		return nil
	}
	delete(s.known, c)
	for topic := range known.said {
		delete(s.groups[topic].items, c)
		s.dropIfEmpty(topic)
	}
	for topic := range known.wanted {
		delete(s.groups[topic].subscriptions, c)
		s.dropIfEmpty(topic)
	}
	return known
}
