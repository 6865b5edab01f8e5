package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// How a reliable connection moves to the node that its client has come back to (docs/decisions/0011-recovery.md).
//
// The taking node asks the giving one to begin. That one takes the socket away, waits until nothing of the client's
// requests is under way, and lets nobody change the connection any more. The taking node subscribes to all the
// connection's topics and then publishes a marker to each. Both see a topic's payloads in one order: what comes
// before the marker is the giver's to keep, what comes after it the taker's. When all markers have come, the taker
// reads what the giver has kept, puts what has come to itself behind it, and asks for the connection.
//
// With the answer to that question the connection changes hands. Until then it is the giver's: it keeps also
// what comes after the markers, and goes on as if nothing had been when the taker falls silent. From then on it is the
// taker's, and dies with it. A taker that gets no answer asks again, for the giver remembers what it has answered.
//
// A connection's id names the node that made it. Once it has moved it is reached by a topic of its own, to which only
// the node subscribes that has it. The maker passes on what still comes to its inbox for a connection that it does not
// have; a sender whose payload nobody hears there, since the maker is gone, uses that topic itself.

// ErrMoving says that a connection is on its way between two nodes; it can be asked for again.
var ErrMoving = hub.ErrHandoff

// Hooks are what whoever makes the connections of a node does when one moves.
type Hooks struct {
	// Admit reports whether credential proves a right to the connection.
	Admit func(c *hub.Conn, credential string) bool
	// Settle returns when nothing is under way that the client of a connection without socket has asked for, or an
	// error if that takes too long.
	Settle func(context.Context, *hub.Conn) error
	// Pack returns what goes along with a connection that may leave. Give returns it when the connection leaves, or an
	// error if that cannot be now; TakeBack says that it has not left, but has ended with that closing.
	Pack     func(*hub.Conn) []byte
	Give     func(*hub.Conn) ([]byte, error)
	TakeBack func(*hub.Conn)
	// Take gets what has come along with a connection.
	Take func(c *hub.Conn, luggage []byte)
	// Traced gets what is posted to a tenant's trace that this node holds. It must not block, nor change the frame.
	Traced func(tenant string, frame []byte)
}

const (
	moveTimeout = 6 * time.Second  // a giver that hears nothing for so long keeps the connection
	takeTimeout = 10 * time.Second // a taker gives up after that
	givenKeep   = time.Minute      // how long a giver remembers that it has given a connection away
	moveChunk   = 256 << 10        // bytes of one answer
)

// moves are the connections of this node that are on their way to or from another.
type moves struct {
	n atomic.Int64 // how many; most often none, and then nobody needs the lock

	mu      sync.Mutex // guards the following
	leaving map[string]*departure
	coming  map[string]*arrival
	given   map[string][]byte // by token: what went along
}

// departure is a connection that another node wants.
type departure struct {
	conn   *hub.Conn
	token  string
	lost   uint64        // what the bus had lost when it began
	marked chan struct{} // closed when the markers of all topics have come
	over   chan struct{} // closed when the connection has left, or stays
	silent *time.Timer   // ends the move

	unmarked map[string]struct{} // topics; guarded by moves.mu
	forward  bool                // orders by id are passed on; guarded by moves.mu
	parts    [partCount][]byte   // what the taker reads; guarded by moves.mu
}

// What a taker reads.
const (
	partTraveller = iota
	partKept      // there when all markers have come
	partCount
)

func newMoves() moves {
	return moves{leaving: map[string]*departure{}, coming: map[string]*arrival{}, given: map[string][]byte{}}
}

// over returns a channel that is closed when it is decided where the connection is, or nil if it is not moving.
func (m *moves) over(id string) <-chan struct{} {
	if m.n.Load() == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.leaving[id]; d != nil {
		return d.over
	}
	if a := m.coming[id]; a != nil {
		return a.over
	}
	return nil
}

// Moving reports whether a connection is on its way to or from this node.
func (n *Node) Moving(id string) bool { return n.moves.over(id) != nil }

// departure returns the move of o's connection, if it has o's token.
func (n *Node) departure(o *order) *departure {
	token, _ := readToken(o.args)
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	if d := n.moves.leaving[o.conn]; d != nil && d.token == token {
		return d
	}
	return nil
}

// begin answers a node that wants a connection with this node's id.
func (n *Node) begin(o *order) []byte {
	r := reader{rest: o.args}
	token, credential := r.string(), r.string()
	if r.failed {
		return statusOf(errOrder)
	}
	c := n.conn(o)
	switch {
	case n.Moving(o.conn), n.Lossy():
		return statusOf(ErrMoving)
	case c == nil, !n.hooks.Admit(c, credential):
		return statusOf(ErrNotFound)
	}
	d := &departure{conn: c, token: token, lost: n.peer.LossCount(), marked: make(chan struct{}), over: make(chan struct{})}
	if !n.depart(d) {
		return statusOf(ErrMoving)
	}
	if !n.conns.Freeze(c) {
		n.stay(d)
		return statusOf(ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout*3/4)
	defer cancel()
	if err := n.hooks.Settle(ctx, c); err != nil {
		n.stay(d)
		return statusOf(ErrMoving)
	}
	n.pack(d)
	return append(statusOf(nil), n.peer.ID()...)
}

// depart notes a move, unless there is one already.
func (n *Node) depart(d *departure) bool {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	id := d.conn.ID
	if n.moves.leaving[id] != nil || n.moves.coming[id] != nil {
		return false
	}
	n.moves.leaving[id] = d
	n.moves.n.Add(1)
	d.silent = time.AfterFunc(n.patience, func() { n.stay(d) })
	return true
}

// pack makes what a taker needs to know before anything else. The connection does not change any more.
func (n *Node) pack(d *departure) {
	c := d.conn
	t := Traveller{UserID: c.UserID, Subprotocol: c.Subprotocol, Groups: n.conns.Groups(c), adopted: c.HandedOver, Luggage: n.hooks.Pack(c)}
	permissions, acks := c.PermissionsAndAckIDs()
	t.Permissions, t.acks = permissions.Rules(), acks
	topics := append(ownTopics(c.Hub, c.UserID), groupTopics(c.Hub, t.Groups)...)
	topics = append(topics, n.address(c))
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	d.unmarked = make(map[string]struct{}, len(topics))
	for _, topic := range topics {
		d.unmarked[topic] = struct{}{}
	}
	d.parts[partTraveller] = t.encode()
}

// address is the topic by which a connection of this node is reached.
func (n *Node) address(c *hub.Conn) string {
	if c.HandedOver {
		return cluster.HandedOverTopic(c.Hub, c.ID)
	}
	return n.inbox
}

// mark says that what comes by a topic from now on is for the taker of a connection, whose giver or taker this is.
func (n *Node) mark(topic string, o *order) {
	if d := n.departure(o); d != nil {
		if topic != n.inbox {
			n.conns.DivertToShadow(d.conn, topic)
		}
		n.moves.mu.Lock()
		defer n.moves.mu.Unlock()
		d.forward = d.forward || topic == n.inbox
		tick(d.unmarked, topic, d.marked)
		return
	}
	if a := n.arrival(o); a != nil {
		n.enlist(a, topic)
		n.moves.mu.Lock()
		defer n.moves.mu.Unlock()
		tick(a.unmarked, topic, a.marked)
	}
}

// tick takes a topic off a list, and closes done when it was the last.
func tick(topics map[string]struct{}, topic string, done chan struct{}) {
	if _, on := topics[topic]; on {
		if delete(topics, topic); len(topics) == 0 {
			close(done)
		}
	}
}

// proceed answers a taker that has begun.
func (n *Node) proceed(o *order) []byte {
	token, ok := readToken(o.args)
	if !ok {
		return statusOf(errOrder)
	}
	if luggage, given := n.wasGiven(token); given {
		return append(statusOf(nil), luggage...)
	}
	d := n.departure(o)
	if d == nil || !d.silent.Reset(n.patience) {
		return statusOf(ErrNotFound)
	}
	if o.verb == verbMoveRead {
		return n.read(d, o)
	}
	return n.give(d)
}

func (n *Node) wasGiven(token string) (luggage []byte, given bool) {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	luggage, given = n.moves.given[token]
	return luggage, given
}

// read answers with a chunk of a part; one that is not full is the last.
func (n *Node) read(d *departure, o *order) []byte {
	part, offset, ok := readChunk(o.args)
	if !ok {
		return statusOf(errOrder)
	}
	if part == partKept {
		if err := n.packKept(d); err != nil {
			return statusOf(err)
		}
	}
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	whole := d.parts[part]
	if offset > len(whole) {
		return statusOf(errOrder)
	}
	return append(statusOf(nil), whole[offset:min(len(whole), offset+moveChunk)]...)
}

// packKept makes what the connection has kept before the markers.
func (n *Node) packKept(d *departure) error {
	select {
	case <-d.marked:
	case <-d.over:
		return ErrNotFound
	case <-time.After(askTimeout * 3 / 4):
		return ErrMoving
	}
	n.moves.mu.Lock()
	packed := d.parts[partKept] != nil
	n.moves.mu.Unlock()
	if packed {
		return nil
	}
	kept, ok := n.conns.ExportUnacked(d.conn)
	if !ok {
		return ErrNotFound
	}
	b := encodeKept(kept)
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	d.parts[partKept] = b
	return nil
}

// give lets the connection go, if it is still whole: this is the moment at which it becomes the taker's.
func (n *Node) give(d *departure) []byte {
	if n.peer.LossCount() != d.lost || n.Lossy() {
		n.stay(d)
		return statusOf(ErrNotFound)
	}
	luggage, err := n.hooks.Give(d.conn)
	if err != nil {
		return statusOf(err)
	}
	n.moves.mu.Lock()
	n.moves.given[d.token] = luggage
	n.moves.mu.Unlock()
	if !n.conns.EndHandedOver(d.conn) {
		n.forgetGiven(d.token)
		n.hooks.TakeBack(d.conn)
		return statusOf(ErrNotFound)
	}
	time.AfterFunc(givenKeep, func() { n.forgetGiven(d.token) })
	return append(statusOf(nil), luggage...)
}

func (n *Node) forgetGiven(token string) {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	delete(n.moves.given, token)
}

// stay ends a move that has failed: the connection is this node's, as before.
func (n *Node) stay(d *departure) {
	if n.finish(d) {
		n.conns.CancelHandoff(d.conn)
		close(d.over)
	}
}

// finish forgets a move, and reports whether it was under way.
func (n *Node) finish(d *departure) bool {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	if n.moves.leaving[d.conn.ID] != d {
		return false
	}
	d.silent.Stop()
	delete(n.moves.leaving, d.conn.ID)
	n.moves.n.Add(-1)
	return true
}

// left ends the move of a connection that has left, or ended otherwise.
func (n *Node) left(c *hub.Conn) {
	if n.moves.n.Load() == 0 {
		return
	}
	n.moves.mu.Lock()
	d := n.moves.leaving[c.ID]
	n.moves.mu.Unlock()
	if d != nil && d.conn == c && n.finish(d) {
		close(d.over)
	}
}

// awayFrom reports whether an order by id, which came to the inbox, is for a connection that is reached otherwise. shadow
// is not nil while that is not decided yet: it keeps what is passed on.
func (n *Node) awayFrom(o *order, c *hub.Conn) (away bool, shadow *hub.Conn) {
	switch {
	case c == nil:
		return n.conns.Conn(o.conn) == nil, nil // else it is one of another hub
	case c.HandedOver:
		return true, nil
	case n.moves.n.Load() == 0:
		return false, nil
	}
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	if d := n.moves.leaving[c.ID]; d != nil && d.forward {
		return true, c.Shadow()
	}
	return false, nil
}

// askAway asks the node that a connection has moved to.
func (n *Node) askAway(o *order) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout*3/4)
	defer cancel()
	answers, err := n.peer.Ask(ctx, cluster.HandedOverTopic(o.target, o.conn), o.encode(nil))
	if err != nil && !errors.Is(err, ErrPartial) {
		return statusOf(unavailable(err))
	}
	best := statusOf(ErrNotFound)
	for _, b := range answers {
		if s, _ := readStatus(b); s != statusNotFound {
			best = b
		}
	}
	return best
}

// change does something to a connection of this node that must not happen while it moves. If it has moved away
// the node that has it is asked for the same.
func (n *Node) change(c *hub.Conn, o *order, do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for {
		over := n.moves.over(c.ID)
		if over == nil {
			err := do()
			if !errors.Is(err, ErrMoving) && !errors.Is(err, hub.ErrConnEnded) { // gone may be moved away meanwhile
				return err
			}
			if over = n.moves.over(c.ID); over == nil && n.conns.Conn(c.ID) == c {
				continue // it has just been decided that it stays
			}
		}
		if over != nil {
			select {
			case <-over:
			case <-ctx.Done():
				return ErrUnavailable
			}
		}
		if n.conns.Conn(c.ID) != c {
			return n.askAll(ctx, connection(c.Hub, c.ID), o.verb, o.args)
		}
	}
}
