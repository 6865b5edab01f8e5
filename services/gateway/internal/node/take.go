package node

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// Traveller is what a node needs to know of a connection before it takes it.
type Traveller struct {
	UserID      string
	Subprotocol string
	Permissions webpubsub.Rules
	Groups      []string
	Luggage     []byte // what Hooks.Pack says

	acks    []uint64
	adopted bool
}

// arrival is a connection that this node wants.
type arrival struct {
	id     string
	token  string
	giver  string        // the node that has it
	over   chan struct{} // closed when the connection is here, or will not be
	marked chan struct{} // closed when the markers of all topics have come

	conn   *hub.Conn
	here   atomic.Bool       // it has arrived
	keys   []string          // topics it holds
	groups map[string]string // by topic

	unmarked map[string]struct{} // topics; guarded by moves.mu
}

// errDoubt says that the giver may have let the connection go, but cannot be asked.
var errDoubt = errors.New("the node that had the connection does not say whether it has let it go")

// Take brings a reliable connection that lives on another node to this one, where it waits for its client's socket.
// options says what it is to be here. The error is ErrNotFound when there is no such connection any more or the
// credential is not good for it, and ErrMoving or ErrUnavailable when it may be there but cannot be taken now.
func (n *Node) Take(ctx context.Context, h webpubsub.HubKey, id, credential string, options func(Traveller) (hub.ConnOptions, error)) error {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	a := &arrival{id: id, token: rand.Text(), over: make(chan struct{}), marked: make(chan struct{})}
	if !n.expect(a) {
		return ErrMoving
	}
	defer n.arrived(a)
	lost := n.peer.LossCount()
	giver, err := n.one(n.ask(ctx, connection(h, id), verbMoveBegin, appendString(appendString(nil, a.token), credential)))
	if err != nil {
		return err
	}
	a.giver = string(giver)
	if err := n.take(ctx, h, a, options, lost); err != nil {
		n.refuse(h, a)
		return err
	}
	return nil
}

// take does what comes between the giver's consent and the connection's arrival.
func (n *Node) take(ctx context.Context, h webpubsub.HubKey, a *arrival, options func(Traveller) (hub.ConnOptions, error), lost uint64) error {
	t, err := n.meet(ctx, h, a, options)
	if err != nil {
		return err
	}
	if err := n.publishMarkers(ctx, h, a, t); err != nil {
		return err
	}
	b, err := n.fetch(ctx, h, a, partKept)
	if err != nil {
		return err
	}
	kept, err := decodeKept(b)
	switch {
	case err != nil:
		return err
	case n.Lossy(), n.peer.LossCount() != lost, n.conns.Conn(a.id) != a.conn:
		return ErrNotFound // messages may have been missed, or it was closed meanwhile: the giver has seen that too
	}
	luggage, err := n.commit(ctx, h, a)
	if errors.Is(err, errDoubt) {
		n.hooks.Take(a.conn, t.Luggage)
		n.conns.Close(a.conn, hub.ReasonLost.Closing("The connection was lost between two nodes."))
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	n.hooks.Take(a.conn, luggage)
	if !n.conns.ImportUnacked(a.conn, kept) {
		return ErrNotFound
	}
	a.here.Store(true)
	return nil
}

// meet makes the connection that is to take over, and subscribes to its topics.
func (n *Node) meet(ctx context.Context, h webpubsub.HubKey, a *arrival, options func(Traveller) (hub.ConnOptions, error)) (t Traveller, err error) {
	b, err := n.fetch(ctx, h, a, partTraveller)
	if err != nil {
		return t, err
	}
	if t, err = decodeTraveller(b); err != nil {
		return t, err
	}
	address := cluster.HandedOverTopic(h, a.id)
	a.keys = append(ownTopics(h, t.UserID), address)
	a.groups = make(map[string]string, len(t.Groups))
	for i, topic := range groupTopics(h, t.Groups) {
		a.keys = append(a.keys, topic)
		a.groups[topic] = t.Groups[i]
	}
	if err := n.topics.hold(ctx, a.keys...); err != nil {
		return t, unavailable(err)
	}
	o, err := options(t)
	if err != nil {
		n.topics.release(a.keys...)
		return t, err
	}
	gone := o.OnClosed
	o.HandedOver, o.OnClosed = true, func(c *hub.Conn, closing hub.Closing) {
		n.adopted.Add(-1)
		if a.here.Load() {
			n.closed(c)
		} else {
			n.topics.release(a.keys...)
		}
		gone(c, closing)
	}
	n.adopted.Add(1)
	c := n.conns.Add(o)
	for _, id := range t.acks {
		c.RememberAckID(id)
	}
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	a.conn, a.unmarked = c, make(map[string]struct{}, len(a.keys))
	for _, topic := range a.keys {
		a.unmarked[topic] = struct{}{}
	}
	return t, nil
}

// publishMarkers divides what comes by the connection's topics, and returns when this node has seen where. The
// address of a connection that has never moved is divided in its giver's inbox.
func (n *Node) publishMarkers(ctx context.Context, h webpubsub.HubKey, a *arrival, t Traveller) error {
	o := order{verb: verbMoveMark, conn: a.id, target: h, args: appendString(nil, a.token)}
	if !t.adopted {
		n.mark(cluster.HandedOverTopic(h, a.id), &o)
	}
	posted := make(chan error, len(a.keys))
	for _, topic := range a.keys {
		if topic == cluster.HandedOverTopic(h, a.id) && !t.adopted {
			topic = cluster.Inbox(a.giver)
		}
		n.peer.Post(topic, o.encode(cluster.NewTell(64)), func(_ int, err error) { posted <- err })
	}
	for range a.keys {
		if err := <-posted; err != nil {
			return err
		}
	}
	select {
	case <-a.marked:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// fetch reads a part of what the giver has packed.
func (n *Node) fetch(ctx context.Context, h webpubsub.HubKey, a *arrival, part int) (whole []byte, err error) {
	for {
		chunk, err := n.askGiver(ctx, h, a, verbMoveRead, appendChunk(appendString(nil, a.token), part, len(whole)))
		if err != nil {
			return nil, err
		}
		whole = append(whole, chunk...)
		if len(chunk) < moveChunk {
			return whole, nil
		}
	}
}

// commit asks for the connection until that is decided, even if its client is gone.
func (n *Node) commit(ctx context.Context, h webpubsub.HubKey, a *arrival) (luggage []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTimeout)
	defer cancel()
	for {
		luggage, err := n.askGiver(ctx, h, a, verbMoveCommit, appendString(nil, a.token))
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			return luggage, err
		case ctx.Err() != nil && errors.Is(err, ErrMoving):
			return nil, err
		case ctx.Err() != nil:
			return nil, errDoubt
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (n *Node) askGiver(ctx context.Context, h webpubsub.HubKey, a *arrival, v verb, args []byte) ([]byte, error) {
	o := order{verb: v, conn: a.id, target: h, args: args}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return n.one(n.peer.Ask(ctx, cluster.Inbox(a.giver), o.encode(nil)))
}

// one returns what the one node that was asked has answered.
func (n *Node) one(answers [][]byte, err error) ([]byte, error) {
	if err != nil {
		return nil, unavailable(err)
	}
	err = ErrNotFound
	for _, b := range answers {
		status, text := readStatus(b)
		if status == statusOK {
			return b[1:], nil
		}
		if status != statusNotFound {
			err = status.err(text)
		}
	}
	return nil, err
}

// refuse gives up a move: the giver goes on with the connection at once.
func (n *Node) refuse(h webpubsub.HubKey, a *arrival) {
	if a.conn != nil {
		n.conns.EndHandedOver(a.conn)
	}
	o := order{verb: verbMoveCancel, conn: a.id, target: h, args: appendString(nil, a.token)}
	n.peer.Post(cluster.Inbox(a.giver), o.encode(cluster.NewTell(64)), nil)
}

// expect notes a move, unless there is one already.
func (n *Node) expect(a *arrival) bool {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	if n.moves.leaving[a.id] != nil || n.moves.coming[a.id] != nil {
		return false
	}
	n.moves.coming[a.id] = a
	n.moves.n.Add(1)
	return true
}

// arrived forgets a move.
func (n *Node) arrived(a *arrival) {
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	delete(n.moves.coming, a.id)
	n.moves.n.Add(-1)
	close(a.over)
}

// arrival returns the move of o's connection, if it has o's token and has come so far that there is a connection.
func (n *Node) arrival(o *order) *arrival {
	token, _ := readToken(o.args)
	n.moves.mu.Lock()
	defer n.moves.mu.Unlock()
	if a := n.moves.coming[o.conn]; a != nil && a.token == token && a.unmarked != nil {
		return a
	}
	return nil
}

// enlist puts the connection on the list of a topic whose marker has come.
func (n *Node) enlist(a *arrival, topic string) {
	group, isGroup := a.groups[topic]
	if !isGroup {
		n.conns.AddToTopic(a.conn, topic)
		return
	}
	if _, err := n.conns.JoinInitial(a.conn, topic, group); err != nil {
		n.log.Debug("join of a connection that moves here", "connection", a.id, "error", err)
	}
}
