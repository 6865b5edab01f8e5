// Package groupstate keeps what connections say of themselves in groups, and tells it to those who want to hear it.
//
// What a connection says is kept where the connection is, and nowhere else: what nobody stores cannot go stale. A
// subscriber's node asks the others for all of it and is told of what changes. What changes before the snapshot is out
// goes into it, or follows it: a subscriber never sees an older item after a newer one's snapshot.
package groupstate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// Limits and times.
const (
	// MaxGroups is in how many groups a connection may say something of itself, and of how many it may want to hear.
	MaxGroups = 100

	setTimeout       = 5 * time.Second // bounds what Set does
	subscribeTimeout = 5 * time.Second // bounds what Subscribe does
)

// ErrTooMany says that the connection has reached MaxGroups.
var ErrTooMany = fmt.Errorf("the connection has state in, or is subscribed to the state of, %d groups; more are not allowed", MaxGroups)

// States are those of this node's connections, and who wants to hear of others'. Methods are safe for concurrent use.
type States struct {
	peer   *cluster.Peer
	conns  *hub.Registry
	topics *topics.Set

	mu     sync.Mutex // guards the following
	groups map[string]*group
	known  map[*hub.Conn]*conn
}

// group is one with state or subscribers here, by its topic.
type group struct {
	name  string
	items map[*hub.Conn]protocol.GroupStateItem
	subs  map[*hub.Conn]*subscription
}

// conn is a connection that has state or subscriptions, by topic.
type conn struct {
	last  int64 // when it last said something
	items map[string]string
	subs  map[string]string
}

// subscription is a subscription. While it collects, its snapshot is on the way.
type subscription struct {
	collecting int // snapshots on the way
	collected  map[string]protocol.GroupStateItem
}

// New returns the states of the node that is peer, whose connections are conns and whose subscriptions are held.
func New(peer *cluster.Peer, conns *hub.Registry, held *topics.Set) *States {
	return &States{peer: peer, conns: conns, topics: held, groups: map[string]*group{}, known: map[*hub.Conn]*conn{}}
}

func (s *States) group(topic, name string) *group {
	g := s.groups[topic]
	if g == nil {
		g = &group{name: name, items: map[*hub.Conn]protocol.GroupStateItem{}, subs: map[*hub.Conn]*subscription{}}
		s.groups[topic] = g
	}
	return g
}

func (s *States) conn(c *hub.Conn) *conn {
	of := s.known[c]
	if of == nil {
		of = &conn{items: map[string]string{}, subs: map[string]string{}}
		s.known[c] = of
	}
	return of
}

// tidy forgets what is empty. A connection that has said something keeps its time until it ends.
func (s *States) tidy(topic string) {
	if g := s.groups[topic]; g != nil && len(g.items)+len(g.subs) == 0 {
		delete(s.groups, topic)
	}
}

// put notes what c says and returns the item. It held a hold of the topic before if had is true, and does now if has is.
func (s *States) put(c *hub.Conn, topic, group string, state []byte) (item protocol.GroupStateItem, had, has bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.conn(c)
	_, had = of.items[topic]
	if state != nil && !had && len(of.items) >= MaxGroups {
		return item, had, had, ErrTooMany
	}
	of.last = max(time.Now().UnixMilli(), of.last+1)
	item = protocol.GroupStateItem{ConnectionID: c.ID, UserID: c.UserID, State: state, UpdatedAt: of.last}
	g := s.group(topic, group)
	if state == nil {
		delete(of.items, topic)
		delete(g.items, c)
	} else {
		of.items[topic] = group
		g.items[c] = item
	}
	s.tidy(topic)
	return item, had, state != nil, nil
}

// Set says something of a connection of this node in a group, or with nil nothing any more, and returns when
// subscribers are told.
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

// tell tells subscribers on all nodes.
func (s *States) tell(ctx context.Context, topic string, item protocol.GroupStateItem) error {
	o := wire.Order{Verb: wire.VerbState, Args: appendItem(nil, item)}
	posted := make(chan error, 1)
	s.peer.Post(topic, o.Append(cluster.NewTell(len(o.Args)+16)), func(_ int, err error) { posted <- err })
	select {
	case err := <-posted:
		return err
	case <-ctx.Done():
		return wire.Unavailable(ctx.Err())
	}
}

// Subscribe lets a connection of this node hear what others say of themselves in a group: all of it once
// ready has been called, then what changes. Done again it begins again.
func (s *States) Subscribe(ctx context.Context, c *hub.Conn, group string, ready func()) error {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	topic := cluster.StateTopic(c.Hub, group)
	if err := s.topics.Hold(ctx, topic); err != nil {
		return wire.Unavailable(err)
	}
	sub, fresh, err := s.startSnapshot(c, topic, group)
	if !fresh {
		s.topics.Release(topic)
	}
	if err != nil {
		return err
	}
	if s.conns.Conn(c.ID) != c {
		s.Forget(c, true)
		return hub.ErrConnEnded
	}
	answers, err := s.peer.Ask(ctx, topic, (&wire.Order{Verb: wire.VerbStates}).Append(nil))
	all := map[string]protocol.GroupStateItem{}
	for _, b := range answers {
		if err = errors.Join(err, readItems(b, all)); err != nil {
			break
		}
	}
	if err != nil {
		s.stop(sub)
		if fresh {
			s.Unsubscribe(c, group)
		}
		return wire.Unavailable(err)
	}
	ready()
	snapshot := true
	for items, more := s.merge(sub, all); more; items, more = s.merge(sub, nil) {
		s.push(c, group, snapshot, items)
		snapshot = false
	}
	return nil
}

func (s *States) startSnapshot(c *hub.Conn, topic, group string) (sub *subscription, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.conn(c)
	g := s.group(topic, group)
	if sub = g.subs[c]; sub == nil {
		if len(of.subs) >= MaxGroups {
			s.tidy(topic)
			return nil, false, ErrTooMany
		}
		sub, fresh = &subscription{}, true
		g.subs[c], of.subs[topic] = sub, group
	}
	sub.collecting++
	return sub, fresh, nil
}

func (s *States) stop(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.collecting--
}

// merge returns what is to be pushed next: first all, with what has been collected, then what has been collected since.
// With nothing more the subscription does not collect any longer.
func (s *States) merge(sub *subscription, all map[string]protocol.GroupStateItem) (items []protocol.GroupStateItem, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, item := range sub.collected {
		if all == nil {
			items = append(items, item)
		} else if item.UpdatedAt >= all[id].UpdatedAt {
			all[id] = item
		}
	}
	sub.collected = nil
	if all == nil {
		if len(items) == 0 {
			sub.collecting--
		}
		return items, len(items) > 0
	}
	for _, item := range all {
		if item.State != nil {
			items = append(items, item)
		}
	}
	return items, true
}

// Unsubscribe ends a subscription, if there is one.
func (s *States) Unsubscribe(c *hub.Conn, group string) {
	topic := cluster.StateTopic(c.Hub, group)
	s.mu.Lock()
	had := false
	if of := s.known[c]; of != nil {
		_, had = of.subs[topic]
		delete(of.subs, topic)
		if g := s.groups[topic]; g != nil {
			delete(g.subs, c)
		}
		s.tidy(topic)
	}
	s.mu.Unlock()
	if had {
		s.topics.Release(topic)
	}
}

// ConnStates is what a connection of this node says of itself, and of which groups it wants to hear.
type ConnStates struct {
	Last   int64        `json:"last"` // when it last said something
	Said   []GroupState `json:"said,omitempty"`
	Wanted [][]byte     `json:"wanted,omitempty"` // groups; not text, so that they stay what they are
}

// GroupState is what a connection says of itself in a group.
type GroupState struct {
	Group []byte `json:"group"`
	State []byte `json:"state"`
}

// Has reports whether there is something for Forget.
func (s *States) Has(c *hub.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[c] != nil
}

// Restore says again what a connection has said on another node, and lets it hear what it wanted to.
func (s *States) Restore(ctx context.Context, c *hub.Conn, of ConnStates) error {
	s.mu.Lock()
	s.conn(c).last = of.Last
	s.mu.Unlock()
	var errs []error
	for _, said := range of.Said {
		errs = append(errs, s.Set(ctx, c, string(said.Group), said.State))
	}
	for _, group := range of.Wanted {
		errs = append(errs, s.Subscribe(ctx, c, string(group), func() {}))
	}
	return errors.Join(errs...)
}

// Of returns those of c; ok is false when there are none.
func (s *States) Of(c *hub.Conn) (of ConnStates, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known[c]
	if known == nil {
		return of, false
	}
	of.Last = known.last
	for topic, group := range known.items {
		of.Said = append(of.Said, GroupState{[]byte(group), s.groups[topic].items[c].State})
	}
	for _, group := range known.subs {
		of.Wanted = append(of.Wanted, []byte(group))
	}
	return of, len(of.Said)+len(of.Wanted) > 0
}

// SaidAt returns when c has said what it says of itself in the group; zero: it says nothing.
func (s *States) SaidAt(c *hub.Conn, group string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[cluster.StateTopic(c.Hub, group)]; g != nil {
		return g.items[c].UpdatedAt
	}
	return 0
}

// Withdraw takes back what c has said at that time in a group that it has left.
func (s *States) Withdraw(c *hub.Conn, group string, said int64) {
	if c.Frozen() || s.conns.Conn(c.ID) != c {
		return // it has not left, but ends here: see Forget
	}
	if said != 0 && said == s.SaidAt(c, group) {
		_ = s.Set(context.Background(), c, group, nil) // the bus is away; a snapshot will be right
	}
}

// Forget forgets what c has said and wanted to hear, as it has ended here. Unless it goes on elsewhere, subscribers
// are told.
func (s *States) Forget(c *hub.Conn, tell bool) {
	s.mu.Lock()
	of := s.known[c]
	delete(s.known, c)
	if of == nil {
		s.mu.Unlock()
		return
	}
	var release []string
	for topic := range of.items {
		delete(s.groups[topic].items, c)
		s.tidy(topic)
		release = append(release, topic)
	}
	for topic := range of.subs {
		delete(s.groups[topic].subs, c)
		s.tidy(topic)
		release = append(release, topic)
	}
	s.mu.Unlock()
	item := protocol.GroupStateItem{ConnectionID: c.ID, UserID: c.UserID, UpdatedAt: max(time.Now().UnixMilli(), of.last+1)}
	ctx, cancel := context.WithTimeout(context.Background(), setTimeout)
	defer cancel()
	for topic := range of.items {
		if tell {
			_ = s.tell(ctx, topic, item) // the bus is away; a snapshot will be right
		}
	}
	s.topics.Release(release...)
}

// HandleTell tells the subscribers of this node what one of the others says.
func (s *States) HandleTell(topic string, o *wire.Order) error {
	items := map[string]protocol.GroupStateItem{}
	if err := readItems(o.Args, items); err != nil {
		return err
	}
	var list []protocol.GroupStateItem
	for _, item := range items {
		list = append(list, item)
	}
	group, to := s.collect(topic, items)
	for _, c := range to {
		s.push(c, group, false, list)
	}
	return nil
}

// collect gives items to those subscriptions that collect, and returns whose do not.
func (s *States) collect(topic string, items map[string]protocol.GroupStateItem) (group string, to []*hub.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[topic]
	if g == nil {
		return "", nil
	}
	for c, sub := range g.subs {
		if sub.collecting == 0 {
			to = append(to, c)
			continue
		}
		for id, item := range items {
			if sub.collected == nil {
				sub.collected = map[string]protocol.GroupStateItem{}
			}
			if item.UpdatedAt >= sub.collected[id].UpdatedAt {
				sub.collected[id] = item
			}
		}
	}
	return g.name, to
}

func (s *States) push(c *hub.Conn, group string, snapshot bool, items []protocol.GroupStateItem) {
	if b := c.Codec.AppendGroupState(nil, group, snapshot, items); len(b) > 0 {
		s.conns.SendPayload(c, b)
	}
}

// Answer answers with what connections of this node say.
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

func appendItem(dst []byte, i protocol.GroupStateItem) []byte {
	dst = wire.AppendString(wire.AppendString(dst, i.ConnectionID), i.UserID)
	dst = binary.AppendVarint(dst, i.UpdatedAt)
	return wire.AppendString(dst, string(i.State)) // never empty unless there is none
}

// readItems adds the items in b to those that are there, of a connection's the newer.
func readItems(b []byte, items map[string]protocol.GroupStateItem) error {
	r := wire.Reader{Rest: b}
	for len(r.Rest) > 0 && !r.Failed {
		i := protocol.GroupStateItem{ConnectionID: r.String(), UserID: r.String(), UpdatedAt: r.Varint()}
		if state := r.String(); state != "" {
			i.State = []byte(state)
			r.Failed = r.Failed || protocol.CheckGroupState(i.State) != nil // it goes into frames as it is
		}
		if !r.Failed && i.UpdatedAt >= items[i.ConnectionID].UpdatedAt {
			items[i.ConnectionID] = i
		}
	}
	return r.Err()
}
