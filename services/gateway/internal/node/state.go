package node

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
)

// What a connection says of itself in a group is kept where the connection is, and nowhere else: what nobody stores
// cannot go stale. A subscriber's node asks the others for all of it and is told of what changes. What changes before
// the snapshot is out goes into it, or follows it: a subscriber never sees an older item after a newer one's snapshot.

// MaxStates is in how many groups a connection may say something of itself, and of how many it may want to hear.
const MaxStates = 100

// ErrStates says that there are too many of them.
var ErrStates = fmt.Errorf("the connection has state in, or is subscribed to the state of, %d groups; more are not allowed", MaxStates)

// states are those of this node's connections, and who wants to hear of others'.
type states struct {
	mu     sync.Mutex // guards the following
	groups map[string]*stateGroup
	conns  map[*hub.Conn]*stateConn
}

// stateGroup is a group, by its topic.
type stateGroup struct {
	name  string
	items map[*hub.Conn]protocol.GroupStateItem
	subs  map[*hub.Conn]*stateSub
}

// stateConn is a connection that has state or subscriptions, by topic.
type stateConn struct {
	last  int64 // when it last said something
	items map[string]string
	subs  map[string]string
}

// stateSub is a subscription. While it collects, its snapshot is on the way.
type stateSub struct {
	collecting int // snapshots on the way
	collected  map[string]protocol.GroupStateItem
}

func newStates() states {
	return states{groups: map[string]*stateGroup{}, conns: map[*hub.Conn]*stateConn{}}
}

func (s *states) group(topic, name string) *stateGroup {
	g := s.groups[topic]
	if g == nil {
		g = &stateGroup{name: name, items: map[*hub.Conn]protocol.GroupStateItem{}, subs: map[*hub.Conn]*stateSub{}}
		s.groups[topic] = g
	}
	return g
}

func (s *states) conn(c *hub.Conn) *stateConn {
	of := s.conns[c]
	if of == nil {
		of = &stateConn{items: map[string]string{}, subs: map[string]string{}}
		s.conns[c] = of
	}
	return of
}

// tidy forgets what is empty. A connection that has said something keeps its time until it ends.
func (s *states) tidy(topic string) {
	if g := s.groups[topic]; g != nil && len(g.items)+len(g.subs) == 0 {
		delete(s.groups, topic)
	}
}

// put notes what c says and returns the item. It held a hold of the topic before if had is true, and does now if has is.
func (s *states) put(c *hub.Conn, topic, group string, state []byte) (item protocol.GroupStateItem, had, has bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.conn(c)
	_, had = of.items[topic]
	if state != nil && !had && len(of.items) >= MaxStates {
		return item, had, had, ErrStates
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

// SetGroupState says something of a connection of this node in a group, or with nil nothing any more, and returns when
// subscribers are told.
func (n *Node) SetGroupState(ctx context.Context, c *hub.Conn, group string, state []byte) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	topic := cluster.StateTopic(c.Hub, group)
	if err := n.topics.hold(ctx, topic); err != nil { // also to clear: until subscribers have heard of it
		return unavailable(err)
	}
	item, had, has, err := n.states.put(c, topic, group, state)
	if had || !has { // one hold is enough
		defer n.topics.release(topic)
	}
	if had && !has {
		defer n.topics.release(topic)
	}
	if err != nil {
		return err
	}
	if n.conns.Conn(c.ID) != c { // it has ended meanwhile, and with it its state
		n.ForgetStates(c, true)
		if state != nil {
			return hub.ErrConnEnded
		}
	}
	return n.tellState(ctx, topic, item)
}

// tellState tells subscribers on all nodes.
func (n *Node) tellState(ctx context.Context, topic string, item protocol.GroupStateItem) error {
	o := order{verb: verbState, args: appendStateItem(nil, item)}
	posted := make(chan error, 1)
	n.peer.Post(topic, o.encode(cluster.NewTell(len(o.args)+16)), func(_ int, err error) { posted <- err })
	select {
	case err := <-posted:
		return err
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// SubscribeGroupState lets a connection of this node hear what others say of themselves in a group: all of it once
// ready has been called, then what changes. Done again it begins again.
func (n *Node) SubscribeGroupState(ctx context.Context, c *hub.Conn, group string, ready func()) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	topic := cluster.StateTopic(c.Hub, group)
	if err := n.topics.hold(ctx, topic); err != nil {
		return unavailable(err)
	}
	sub, fresh, err := n.states.subscribe(c, topic, group)
	if !fresh {
		n.topics.release(topic)
	}
	if err != nil {
		return err
	}
	if n.conns.Conn(c.ID) != c {
		n.ForgetStates(c, true)
		return hub.ErrConnEnded
	}
	answers, err := n.peer.Ask(ctx, topic, (&order{verb: verbStates}).encode(nil))
	all := map[string]protocol.GroupStateItem{}
	for _, b := range answers {
		if err = errors.Join(err, readStateItems(b, all)); err != nil {
			break
		}
	}
	if err != nil {
		n.states.stop(sub)
		if fresh {
			n.UnsubscribeGroupState(c, group)
		}
		return unavailable(err)
	}
	ready()
	snapshot := true
	for items, more := n.states.merge(sub, all); more; items, more = n.states.merge(sub, nil) {
		n.pushStates(c, group, snapshot, items)
		snapshot = false
	}
	return nil
}

func (s *states) subscribe(c *hub.Conn, topic, group string) (sub *stateSub, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.conn(c)
	g := s.group(topic, group)
	if sub = g.subs[c]; sub == nil {
		if len(of.subs) >= MaxStates {
			s.tidy(topic)
			return nil, false, ErrStates
		}
		sub, fresh = &stateSub{}, true
		g.subs[c], of.subs[topic] = sub, group
	}
	sub.collecting++
	return sub, fresh, nil
}

func (s *states) stop(sub *stateSub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.collecting--
}

// merge returns what is to be pushed next: first all, with what has been collected, then what has been collected since.
// With nothing more the subscription does not collect any longer.
func (s *states) merge(sub *stateSub, all map[string]protocol.GroupStateItem) (items []protocol.GroupStateItem, more bool) {
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

// UnsubscribeGroupState ends a subscription, if there is one.
func (n *Node) UnsubscribeGroupState(c *hub.Conn, group string) {
	topic := cluster.StateTopic(c.Hub, group)
	n.states.mu.Lock()
	had := false
	if of := n.states.conns[c]; of != nil {
		_, had = of.subs[topic]
		delete(of.subs, topic)
		if g := n.states.groups[topic]; g != nil {
			delete(g.subs, c)
		}
		n.states.tidy(topic)
	}
	n.states.mu.Unlock()
	if had {
		n.topics.release(topic)
	}
}

// GroupStates is what a connection of this node says of itself, and of which groups it wants to hear.
type GroupStates struct {
	Last   int64        `json:"last"` // when it last said something
	Said   []GroupState `json:"said,omitempty"`
	Wanted [][]byte     `json:"wanted,omitempty"` // groups; not text, so that they stay what they are
}

// GroupState is what a connection says of itself in a group.
type GroupState struct {
	Group []byte `json:"group"`
	State []byte `json:"state"`
}

// HasStates reports whether there is something for ForgetStates.
func (n *Node) HasStates(c *hub.Conn) bool {
	n.states.mu.Lock()
	defer n.states.mu.Unlock()
	return n.states.conns[c] != nil
}

// RestoreStates says again what a connection has said on another node, and lets it hear what it wanted to.
func (n *Node) RestoreStates(ctx context.Context, c *hub.Conn, of GroupStates) error {
	n.states.mu.Lock()
	n.states.conn(c).last = of.Last
	n.states.mu.Unlock()
	var errs []error
	for _, said := range of.Said {
		errs = append(errs, n.SetGroupState(ctx, c, string(said.Group), said.State))
	}
	for _, group := range of.Wanted {
		errs = append(errs, n.SubscribeGroupState(ctx, c, string(group), func() {}))
	}
	return errors.Join(errs...)
}

// GroupStates returns those of c; ok is false when there are none.
func (n *Node) GroupStates(c *hub.Conn) (of GroupStates, ok bool) {
	n.states.mu.Lock()
	defer n.states.mu.Unlock()
	known := n.states.conns[c]
	if known == nil {
		return of, false
	}
	of.Last = known.last
	for topic, group := range known.items {
		of.Said = append(of.Said, GroupState{[]byte(group), n.states.groups[topic].items[c].State})
	}
	for _, group := range known.subs {
		of.Wanted = append(of.Wanted, []byte(group))
	}
	return of, len(of.Said)+len(of.Wanted) > 0
}

// Says returns when c has said what it says of itself in the group; zero: it says nothing.
func (n *Node) Says(c *hub.Conn, group string) int64 {
	n.states.mu.Lock()
	defer n.states.mu.Unlock()
	if g := n.states.groups[cluster.StateTopic(c.Hub, group)]; g != nil {
		return g.items[c].UpdatedAt
	}
	return 0
}

// ForgetState takes back what c has said at that time in a group that it has left.
func (n *Node) ForgetState(c *hub.Conn, group string, said int64) {
	if c.Frozen() || n.conns.Conn(c.ID) != c {
		return // it has not left, but ends here: see ForgetStates
	}
	if said != 0 && said == n.Says(c, group) {
		_ = n.SetGroupState(context.Background(), c, group, nil) // the bus is away; a snapshot will be right
	}
}

// ForgetStates forgets what c has said and wanted to hear, as it has ended here. Unless it goes on elsewhere, subscribers
// are told.
func (n *Node) ForgetStates(c *hub.Conn, tell bool) {
	n.states.mu.Lock()
	of := n.states.conns[c]
	delete(n.states.conns, c)
	if of == nil {
		n.states.mu.Unlock()
		return
	}
	var release []string
	for topic := range of.items {
		delete(n.states.groups[topic].items, c)
		n.states.tidy(topic)
		release = append(release, topic)
	}
	for topic := range of.subs {
		delete(n.states.groups[topic].subs, c)
		n.states.tidy(topic)
		release = append(release, topic)
	}
	n.states.mu.Unlock()
	item := protocol.GroupStateItem{ConnectionID: c.ID, UserID: c.UserID, UpdatedAt: max(time.Now().UnixMilli(), of.last+1)}
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
	defer cancel()
	for topic := range of.items {
		if tell {
			_ = n.tellState(ctx, topic, item) // the bus is away; a snapshot will be right
		}
	}
	n.topics.release(release...)
}

// changed tells the subscribers of this node what one of the others says.
func (n *Node) changed(topic string, o *order) error {
	items := map[string]protocol.GroupStateItem{}
	if err := readStateItems(o.args, items); err != nil {
		return err
	}
	var list []protocol.GroupStateItem
	for _, item := range items {
		list = append(list, item)
	}
	group, to := n.states.collect(topic, items)
	for _, c := range to {
		n.pushStates(c, group, false, list)
	}
	return nil
}

// collect gives items to those subscriptions that collect, and returns whose do not.
func (s *states) collect(topic string, items map[string]protocol.GroupStateItem) (group string, to []*hub.Conn) {
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

func (n *Node) pushStates(c *hub.Conn, group string, snapshot bool, items []protocol.GroupStateItem) {
	if b := c.Codec.AppendGroupState(nil, group, snapshot, items); len(b) > 0 {
		n.conns.SendPayload(c, b)
	}
}

// allStates answers with what connections of this node say.
func (n *Node) allStates(topic string) []byte {
	n.states.mu.Lock()
	defer n.states.mu.Unlock()
	var b []byte
	if g := n.states.groups[topic]; g != nil {
		for _, item := range g.items {
			b = appendStateItem(b, item)
		}
	}
	return b
}

func appendStateItem(dst []byte, i protocol.GroupStateItem) []byte {
	dst = appendString(appendString(dst, i.ConnectionID), i.UserID)
	dst = binary.AppendVarint(dst, i.UpdatedAt)
	return appendString(dst, string(i.State)) // never empty unless there is none
}

// readStateItems adds the items in b to those that are there, of a connection's the newer.
func readStateItems(b []byte, items map[string]protocol.GroupStateItem) error {
	r := reader{rest: b}
	for len(r.rest) > 0 && !r.failed {
		i := protocol.GroupStateItem{ConnectionID: r.string(), UserID: r.string(), UpdatedAt: r.varint()}
		if state := r.string(); state != "" {
			i.State = []byte(state)
			r.failed = r.failed || protocol.CheckGroupState(i.State) != nil // it goes into frames as it is
		}
		if !r.failed && i.UpdatedAt >= items[i.ConnectionID].UpdatedAt {
			items[i.ConnectionID] = i
		}
	}
	return r.err()
}
