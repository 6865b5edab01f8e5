package handoff

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/topics"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// ConnState is what a destination needs to know of a connection before it takes it over.
type ConnState struct {
	UserID      string
	Subprotocol string
	Permissions webpubsub.Rules
	Groups      []string
	Exported    []byte // what Hooks.Export has returned

	acks    []uint64 // that the connection remembers, oldest first
	adopted bool     // it has been on another node than the source
}

// incoming is a connection that this node wants.
type incoming struct {
	handoffs *Handoffs // of this node
	hub      webpubsub.HubKey
	id       string
	token    string
	source   string        // the id of the node that has it
	decided  chan struct{} // closed when the connection is here, or will not be
	marked   chan struct{} // closed when the markers of all topics have come

	conn   *hub.Conn
	here   atomic.Bool       // it has been taken over
	keys   []string          // topics it holds
	groups map[string]string // by topic

	unmarked map[string]struct{} // topics; guarded by Handoffs.mu
}

// order returns an order about the handoff. rest is what follows its token in the args.
func (in *incoming) order(v wire.Verb, rest ...byte) *wire.Order {
	return &wire.Order{Verb: v, Conn: in.id, Target: in.hub, Args: append(wire.AppendString(nil, in.token), rest...)}
}

// errUndecided says that the source may have let the connection go, but cannot be asked.
var errUndecided = errors.New("the node that had the connection does not say whether it has let it go")

// TakeOver brings a reliable connection that lives on another node to this one, where it waits for its client's socket.
// options says what it is to be here. The error is ErrNotFound when there is no such connection any more or the
// credential is not good for it, and ErrMoving or ErrUnavailable when it may be there but cannot be taken over now.
// It takes at most twice takeOverTimeout, of which the second half does not end with ctx: then the source is asked
// what it has decided.
func (h *Handoffs) TakeOver(ctx context.Context, hubKey webpubsub.HubKey, id, credential string,
	options func(ConnState) (hub.ConnOptions, error)) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	in := &incoming{handoffs: h, hub: hubKey, id: id, token: rand.Text(), decided: make(chan struct{}), marked: make(chan struct{})}
	if !h.addIncoming(in) {
		return ErrMoving
	}
	defer h.removeIncoming(in)
	lost := h.peer.LossCount()
	source, err := onlyAnswer(h.AskConn(ctx, in.order(wire.VerbHandoffBegin, wire.AppendString(nil, credential)...)))
	if err != nil {
		return err
	}
	in.source = string(source)
	if err := in.takeOver(ctx, options, lost); err != nil {
		in.cancel()
		return err
	}
	return nil
}

// takeOver does what comes between the source's consent and the connection's arrival.
func (in *incoming) takeOver(ctx context.Context, options func(ConnState) (hub.ConnOptions, error), lost uint64) error {
	s, err := in.makeConn(ctx, options)
	if err != nil {
		return err
	}
	if err := in.publishMarkers(ctx, s.adopted); err != nil {
		return err
	}
	b, err := in.readPart(ctx, partKept)
	if err != nil {
		return err
	}
	kept, err := decodeKept(b)
	switch {
	case err != nil:
		return err
	case in.handoffs.unhealed(), in.handoffs.peer.LossCount() != lost, in.handoffs.conns.Conn(in.id) != in.conn:
		return ErrNotFound // messages may have been missed, or it was closed meanwhile: the source has seen that too
	}
	exported, err := in.commit(ctx)
	if errors.Is(err, errUndecided) {
		in.handoffs.hooks.Resume(in.conn, s.Exported)
		in.handoffs.conns.Close(in.conn, hub.ReasonLost.Closing("The connection was lost between two nodes."))
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	in.handoffs.hooks.Resume(in.conn, exported)
	if !in.handoffs.conns.ImportUnacked(in.conn, kept) {
		return ErrNotFound
	}
	in.here.Store(true)
	return nil
}

// makeConn makes the connection that is to take over, and subscribes to its topics.
func (in *incoming) makeConn(ctx context.Context, options func(ConnState) (hub.ConnOptions, error)) (s ConnState, err error) {
	b, err := in.readPart(ctx, partState)
	if err != nil {
		return s, err
	}
	if s, err = decodeConnState(b); err != nil {
		return s, err
	}
	in.keys = append(topics.OfConn(in.hub, s.UserID), cluster.HandedOverTopic(in.hub, in.id))
	in.groups = make(map[string]string, len(s.Groups))
	for i, topic := range topics.OfGroups(in.hub, s.Groups) {
		in.keys = append(in.keys, topic)
		in.groups[topic] = s.Groups[i]
	}
	if err := in.handoffs.topics.Hold(ctx, in.keys...); err != nil {
		return s, wire.Unavailable(err)
	}
	o, err := options(s)
	if err != nil {
		in.handoffs.topics.Release(in.keys...)
		return s, err
	}
	onClosed := o.OnClosed
	o.HandedOver, o.OnClosed = true, func(c *hub.Conn, closing hub.Closing) {
		in.handoffs.adopted.Add(-1)
		if in.here.Load() {
			in.handoffs.Ended(c)
		} else {
			in.handoffs.topics.Release(in.keys...)
		}
		onClosed(c, closing)
	}
	in.handoffs.adopted.Add(1)
	c := in.handoffs.conns.Add(o)
	for _, id := range s.acks {
		c.RememberAckID(id)
	}
	in.handoffs.mu.Lock()
	defer in.handoffs.mu.Unlock()
	in.conn, in.unmarked = c, make(map[string]struct{}, len(in.keys))
	for _, topic := range in.keys {
		in.unmarked[topic] = struct{}{}
	}
	return s, nil
}

// publishMarkers divides what comes by the connection's topics, and returns when this node has seen where. The
// address of a connection that has never moved is divided in its source's inbox.
func (in *incoming) publishMarkers(ctx context.Context, adopted bool) error {
	o, address := in.order(wire.VerbHandoffMark), cluster.HandedOverTopic(in.hub, in.id)
	if !adopted {
		in.handoffs.HandleMark(address, o)
	}
	posted := make(chan error, len(in.keys))
	for _, topic := range in.keys {
		if topic == address && !adopted {
			topic = cluster.Inbox(in.source)
		}
		in.handoffs.peer.Post(topic, o.Append(cluster.NewTell(64)), func(_ int, err error) { posted <- err })
	}
	for range in.keys {
		if err := <-posted; err != nil {
			return err
		}
	}
	select {
	case <-in.marked:
		return nil
	case <-ctx.Done():
		return wire.Unavailable(ctx.Err())
	}
}

// enlist puts the connection on the list of a topic whose marker has come.
func (in *incoming) enlist(topic string) {
	if group, ok := in.groups[topic]; !ok {
		in.handoffs.conns.AddToTopic(in.conn, topic)
	} else if _, err := in.handoffs.conns.JoinInitial(in.conn, topic, group); err != nil {
		in.handoffs.log.Debug("join a group after a handoff", "hub", in.hub.String(), "connection", in.id, "error", err)
	}
	in.handoffs.mu.Lock()
	defer in.handoffs.mu.Unlock()
	strike(in.unmarked, topic, in.marked)
}

// readPart reads one of the parts that the source has made for the handoff, a chunk at a time.
func (in *incoming) readPart(ctx context.Context, part int) (whole []byte, err error) {
	for {
		chunk, err := in.askSource(ctx, in.order(wire.VerbHandoffRead, appendChunk(nil, part, len(whole))...))
		if err != nil {
			return nil, err
		}
		whole = append(whole, chunk...)
		if len(chunk) < chunkSize {
			return whole, nil
		}
	}
}

// commit asks for the connection until that is decided, even if its client is gone.
func (in *incoming) commit(ctx context.Context) (exported []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeOverTimeout)
	defer cancel()
	for {
		exported, err := in.askSource(ctx, in.order(wire.VerbHandoffCommit))
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			return exported, err
		case ctx.Err() != nil && errors.Is(err, ErrMoving):
			return nil, err
		case ctx.Err() != nil:
			return nil, errUndecided
		}
		_ = backoff.Sleep(ctx, 100*time.Millisecond)
	}
}

func (in *incoming) askSource(ctx context.Context, o *wire.Order) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return onlyAnswer(in.handoffs.peer.Ask(ctx, cluster.Inbox(in.source), o.Append(nil)))
}

// onlyAnswer returns what the one node that was asked has answered.
func onlyAnswer(answers [][]byte, err error) ([]byte, error) {
	if err != nil {
		return nil, wire.Unavailable(err)
	}
	err = ErrNotFound
	for _, b := range answers {
		status, text := wire.ReadStatus(b)
		if status == wire.StatusOK {
			return b[1:], nil
		}
		if status != wire.StatusNotFound {
			err = status.Err(text)
		}
	}
	return nil, err
}

// cancel gives up a handoff: the source goes on with the connection at once.
func (in *incoming) cancel() {
	if in.conn != nil {
		in.handoffs.conns.EndHandedOver(in.conn)
	}
	in.handoffs.peer.Post(cluster.Inbox(in.source), in.order(wire.VerbHandoffCancel).Append(cluster.NewTell(64)), nil)
}

// addIncoming adds a handoff, unless there is one of the connection already.
func (h *Handoffs) addIncoming(in *incoming) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outgoing[in.id] != nil || h.incoming[in.id] != nil {
		return false
	}
	h.incoming[in.id] = in
	h.pending.Add(1)
	return true
}

// removeIncoming forgets a handoff that is over.
func (h *Handoffs) removeIncoming(in *incoming) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.incoming, in.id)
	h.pending.Add(-1)
	close(in.decided)
}

// incomingOf returns the handoff of o's connection, if it has o's token and has come so far that there is a connection.
func (h *Handoffs) incomingOf(o *wire.Order) *incoming {
	token, _ := readToken(o.Args)
	h.mu.Lock()
	defer h.mu.Unlock()
	if in := h.incoming[o.Conn]; in != nil && in.token == token && in.unmarked != nil {
		return in
	}
	return nil
}
