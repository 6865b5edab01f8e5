package groupstate

import (
	"context"
	"errors"
	"sync"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// subscription is what one connection hears of one group.
//
// Whatever it hears is pushed under its lock, so that what comes first in the connection's queue is what was decided
// first. A push waits for the connection's writer, never for its client, and the writer takes no such lock.
type subscription struct {
	conn  *hub.Conn
	group string

	mu       sync.Mutex // guards the following
	live     bool       // the snapshot is out on the present socket: updates follow it
	awaiting bool       // a snapshot has been asked for: updates are collected for it
	round    int        // counts snapshots asked for and sockets; what belongs to an earlier one is pushed no more
	ended    bool

	collected items
}

// Subscribe lets a connection of this node hear what others say of themselves in a group: all of it once ready has been
// called, then what changes. Done again it begins again. It returns ErrTooMany, hub.ErrConnEnded, or an error of the bus,
// such as wire.ErrUnavailable, after snapshotTimeout at the latest; then the connection hears what it did before.
func (s *States) Subscribe(ctx context.Context, c *hub.Conn, group string, ready func()) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	sub, fresh, err := s.subscribe(ctx, c, group)
	if err != nil {
		return err
	}
	err = s.sendSnapshot(ctx, sub, ready)
	if err != nil && fresh {
		s.Unsubscribe(c, group)
	}
	return err
}

// subscribe returns the subscription of c to a group; fresh says that there was none. It hears nothing yet.
func (s *States) subscribe(ctx context.Context, c *hub.Conn, group string) (sub *subscription, fresh bool, err error) {
	topic := cluster.StateTopic(c.Hub, group)
	if err := s.topics.Hold(ctx, topic); err != nil {
		return nil, false, wire.Unavailable(err)
	}
	sub, fresh, err = s.add(c, topic, group)
	if !fresh { // one hold is enough
		s.topics.Release(topic)
	}
	if err == nil && s.conns.Conn(c.ID) != c {
		s.Forget(c, true)
		err = hub.ErrConnEnded
	}
	return sub, fresh, err
}

func (s *States) add(c *hub.Conn, topic, group string) (sub *subscription, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, g := s.conn(c), s.group(topic, group)
	if sub = g.subscriptions[c]; sub != nil {
		return sub, false, nil
	}
	if len(known.wanted) >= MaxGroups {
		s.dropIfEmpty(topic)
		return nil, false, ErrTooMany
	}
	sub = &subscription{conn: c, group: group}
	g.subscriptions[c], known.wanted[topic] = sub, group
	return sub, true, nil
}

// Unsubscribe ends a subscription, if there is one. Nothing is pushed for it afterwards.
func (s *States) Unsubscribe(c *hub.Conn, group string) {
	topic := cluster.StateTopic(c.Hub, group)
	s.mu.Lock()
	var sub *subscription
	if known, g := s.known[c], s.groups[topic]; known != nil && g != nil {
		sub = g.subscriptions[c]
		delete(known.wanted, topic)
		delete(g.subscriptions, c)
		s.dropIfEmpty(topic)
	}
	s.mu.Unlock()
	if sub != nil {
		sub.end()
		s.topics.Release(topic)
	}
}

// Pause says that a connection is about to get another socket: what it hears next, on that, is the snapshot that Resume
// sends. To pause a connection without subscriptions costs next to nothing.
func (s *States) Pause(c *hub.Conn) {
	for _, sub := range s.subscriptions(c) {
		sub.pause()
	}
}

// Resume sends a snapshot for each subscription of c that hears nothing: those paused, and those that an earlier
// Resume has failed for. It returns what has kept it from that for some of them, which still hear nothing then.
func (s *States) Resume(ctx context.Context, c *hub.Conn) error {
	var errs []error
	for _, sub := range s.subscriptions(c) {
		if sub.paused() {
			ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
			errs = append(errs, s.sendSnapshot(ctx, sub, func() {}))
			cancel()
		}
	}
	return errors.Join(errs...)
}

// subscriptions returns those of c.
func (s *States) subscriptions(c *hub.Conn) (subs []*subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.known[c]; known != nil {
		for topic := range known.wanted {
			subs = append(subs, s.groups[topic].subscriptions[c])
		}
	}
	return subs
}

// sendSnapshot asks all nodes for what there is, and pushes it after ready has been called. If another snapshot has been
// asked for meanwhile, or the connection has got another socket, it leaves it to those.
func (s *States) sendSnapshot(ctx context.Context, sub *subscription, ready func()) error {
	round := sub.awaitSnapshot()
	answers, err := s.peer.Ask(ctx, cluster.StateTopic(sub.conn.Hub, sub.group), (&wire.Order{Verb: wire.VerbStates}).Append(nil))
	all := items{}
	for _, b := range answers {
		err = errors.Join(err, all.read(b))
	}
	if err != nil {
		sub.giveUp(s.conns, round)
		return wire.Unavailable(err)
	}
	ready()
	sub.pushSnapshot(s.conns, round, all)
	return nil
}

// HandleTell tells the subscribers of this node what one of the others says.
func (s *States) HandleTell(topic string, o *wire.Order) error {
	changed := items{}
	if err := changed.read(o.Args); err != nil {
		return err
	}
	s.mu.Lock()
	var subs []*subscription
	if g := s.groups[topic]; g != nil {
		for _, sub := range g.subscriptions {
			subs = append(subs, sub)
		}
	}
	s.mu.Unlock()
	list := changed.list(true)
	for _, sub := range subs {
		sub.update(s.conns, list)
	}
	return nil
}

// awaitSnapshot lets the subscription collect updates, and returns the number of the round.
func (sub *subscription) awaitSnapshot() (round int) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.round++
	sub.awaiting = true
	return sub.round
}

// giveUp says that the snapshot of a round does not come. A connection that heard updates before goes on with them.
func (sub *subscription) giveUp(conns *hub.Registry, round int) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.round != round {
		return
	}
	if sub.live && len(sub.collected) > 0 {
		sub.push(conns, false, sub.collected.list(true))
	}
	sub.awaiting, sub.collected = false, nil
}

// pushSnapshot pushes all, and what has been collected meanwhile, if the round is not over.
func (sub *subscription) pushSnapshot(conns *hub.Registry, round int, all items) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.round != round || sub.ended {
		return
	}
	for _, item := range sub.collected {
		all.add(item)
	}
	sub.push(conns, true, all.list(false))
	sub.live, sub.awaiting, sub.collected = true, false, nil
}

// update pushes what has changed, or keeps it for the snapshot that is on its way.
func (sub *subscription) update(conns *hub.Registry, changed []protocol.GroupStateItem) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	switch {
	case sub.ended:
	case sub.awaiting:
		if sub.collected == nil {
			sub.collected = items{}
		}
		for _, item := range changed {
			sub.collected.add(item)
		}
	case sub.live:
		sub.push(conns, false, changed)
	}
}

// push gives items to the connection's writer. The caller has mu.
func (sub *subscription) push(conns *hub.Registry, snapshot bool, list []protocol.GroupStateItem) {
	if b := sub.conn.Codec.AppendGroupState(nil, sub.group, snapshot, list); len(b) > 0 {
		conns.SendPayload(sub.conn, b)
	}
}

// pause lets the subscription hear nothing until the next snapshot.
func (sub *subscription) pause() {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.round++
	sub.live, sub.awaiting, sub.collected = false, false, nil
}

// paused reports whether the subscription hears nothing, and no snapshot is on its way.
func (sub *subscription) paused() bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return !sub.live && !sub.awaiting && !sub.ended
}

func (sub *subscription) end() {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.ended = true
}
