package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrPartial says that a question was not answered in time by every node that heard it.
var ErrPartial = errors.New("not every node has answered in time")

// Kind is the first byte of each payload on the bus.
type Kind byte

// The kinds of payload.
const (
	Tell        Kind = iota + 1 // to be acted on
	Ask                         // to be acted on and answered with Answer
	answer                      // to a question of this node
	namedAnswer                 // to one that wants to know who answers
)

// named is a bit of a question's number that asks nodes to say who they are when they answer. A node of the version before repeats the
// number as it is, and answers without its name.
const named = 1 << 62

// NodeIDSize is the length of a node's id. A connection's id begins with the id of the node that made it.
const NodeIDSize = 8

// Peer is this process on the bus. It has an id, an inbox of its own and the questions whose answers it waits for. Methods are
// safe for concurrent use.
//
// A payload is its kind, a byte; for Ask the number of the question (a varint) and the id of the node that asks; for an answer
// the number of the question, and for a namedAnswer the id of the node that answers; then the body.
type Peer struct {
	Bus
	id   string
	dead func() []string

	mu      sync.Mutex // guards the following
	next    uint64
	waiting map[uint64]*question
}

// question collects answers. Its fields are guarded by Peer.mu.
type question struct {
	answers [][]byte
	from    []string      // of answers, the node that gave it; empty: it has not said so
	want    int           // how many nodes heard it; -1 until that is known
	err     error         // why the question was not heard
	done    chan struct{} // closed once, by closeIfComplete
}

// NewPeer returns a peer with a new random id. dead returns the ids of nodes that are known to be dead and may still be subscribed, as
// when their machines have vanished and the server does not let others end their connections; nil: none ever are. It must not block.
func NewPeer(bus Bus, dead func() []string) *Peer {
	id := make([]byte, NodeIDSize*3/4)
	_, _ = rand.Read(id) // never fails
	if dead == nil {
		dead = func() []string { return nil }
	}
	p := &Peer{Bus: bus, id: base64.RawURLEncoding.EncodeToString(id), dead: dead, waiting: map[uint64]*question{}}
	bus.Identify(p.id)
	return p
}

// ID returns the node's id: NodeIDSize characters of [A-Za-z0-9_-].
func (p *Peer) ID() string { return p.id }

// Inbox returns the topic that only the node of that id subscribes to.
func Inbox(nodeID string) string { return "node/" + nodeID }

// NewTell returns the start of a payload to be acted on, with room for n bytes more: its body is appended to it, which spares a
// copy, and then it is given to Post.
func NewTell(n int) []byte { return append(make([]byte, 0, n+1), byte(Tell)) }

// Post publishes a payload that NewTell has begun, or one that was received and is passed on. It is Bus.Post in all else.
func (p *Peer) Post(topic string, payload []byte, done func(nodes int, err error)) {
	p.Bus.Post(topic, payload, done)
}

// Ask publishes body to a topic and returns the answer of each node that heard it, in no order. That no node heard it is no
// error. Nodes that are dead, or have ended since, are not waited for. When ctx ends first it returns the answers so far and
// ErrPartial. How many answers there will be is known only when the publish has been confirmed, and some answers may come before
// that.
func (p *Peer) Ask(ctx context.Context, topic string, body []byte) ([][]byte, error) {
	dead := func(context.Context) ([]string, error) { return p.dead(), nil }
	return p.ask(ctx, topic, body, func(q *question) { p.awaitResponsive(ctx, topic, q, dead) })
}

// How long Ask and AskResponsive wait before they look who can still answer, and how often they look then.
const (
	lateAfter    = 2 * time.Second // a node that is merely slow should have answered by then
	lookInterval = 250 * time.Millisecond
)

// AskResponsive is Ask, except that nodes are not waited for that have ended since, or show no sign of life. unresponsive returns the ids
// of those that do not; it is asked only when answers are late. silent are those of them that were not waited for. That is for
// reading what there is, which changes no subscription: what must be in effect on every node takes Ask.
func (p *Peer) AskResponsive(
	ctx context.Context, topic string, body []byte, unresponsive func(context.Context) (nodes []string, err error),
) (answers [][]byte, silent []string, err error) {
	answers, err = p.ask(ctx, topic, body, func(q *question) { silent = p.awaitResponsive(ctx, topic, q, unresponsive) })
	return answers, silent, err
}

// ask asks; await returns when no more answers are to be waited for, or ctx has ended.
func (p *Peer) ask(ctx context.Context, topic string, body []byte, await func(*question)) ([][]byte, error) {
	q := &question{want: -1, done: make(chan struct{})}
	p.mu.Lock()
	p.next++
	id := p.next | named
	p.waiting[id] = q
	p.mu.Unlock()

	payload := append(make([]byte, 0, 1+binary.MaxVarintLen64+NodeIDSize+len(body)), byte(Ask))
	payload = binary.AppendUvarint(payload, id)
	payload = append(payload, p.id...)
	p.Post(topic, append(payload, body...), func(nodes int, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		q.want, q.err = nodes, err
		q.closeIfComplete()
	})

	await(q)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
	switch {
	case q.err != nil:
		return nil, q.err
	case q.want < 0 || len(q.answers) < q.want:
		return q.answers, ErrPartial
	}
	return q.answers, nil
}

// awaitResponsive waits until all answers are there that can be waited for, or ctx ends. It returns the nodes that it has not waited for.
func (p *Peer) awaitResponsive(
	ctx context.Context, topic string, q *question, unresponsive func(context.Context) ([]string, error),
) (silent []string) {
	wait := time.NewTimer(lateAfter)
	defer wait.Stop()
	for ; ; wait.Reset(lookInterval) {
		select {
		case <-wait.C:
		case <-q.done:
			return nil
		case <-ctx.Done():
			return nil
		}
		// Who is not subscribed any more has ended since it was asked; what it had is gone with it.
		subscribed, err := p.SubscriberCount(ctx, topic)
		if err != nil {
			continue
		}
		lifeless, err := unresponsive(ctx)
		if err != nil {
			continue
		}
		if silent, ok := p.settleFor(q, subscribed, lifeless); ok {
			return silent
		}
	}
}

// settleFor ends the wait for answers if none is missing but those of lifeless nodes. One that has answered after all is none of them:
// else somebody else's answer would not be waited for in its place.
func (p *Peer) settleFor(q *question, subscribed int, lifeless []string) (silent []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, node := range lifeless {
		if !slices.Contains(q.from, node) {
			silent = append(silent, node)
		}
	}
	missing := min(q.want, subscribed) - len(q.answers)
	if q.want < 0 || missing > len(silent) {
		return nil, false
	}
	if missing <= 0 {
		silent = nil
	}
	q.want = len(q.answers)
	q.closeIfComplete()
	return silent, true
}

// closeIfComplete ends the wait of Ask once all answers are there, or none can come. The caller has Peer.mu.
func (q *question) closeIfComplete() {
	select {
	case <-q.done:
	default:
		if q.err != nil || q.want >= 0 && len(q.answers) >= q.want {
			close(q.done)
		}
	}
}

// Received is a payload of the bus, parsed. Its Body is only valid during the delivery.
type Received struct {
	Kind Kind
	Body []byte
	from string
	id   uint64
}

// Parse parses a payload. ok is false when there is nothing left to do with it: an answer, which Parse has given to the question
// of this node, or bytes that are no payload.
func (p *Peer) Parse(payload []byte) (r Received, ok bool) {
	if len(payload) == 0 {
		return r, false
	}
	r.Kind, r.Body = Kind(payload[0]), payload[1:]
	if r.Kind == Tell {
		return r, true
	}
	id, n := binary.Uvarint(r.Body)
	if n <= 0 {
		return r, false
	}
	r.id, r.Body = id, r.Body[n:]
	switch r.Kind {
	case answer:
		p.addAnswer(id, "", r.Body)
	case namedAnswer:
		if len(r.Body) >= NodeIDSize {
			p.addAnswer(id, string(r.Body[:NodeIDSize]), r.Body[NodeIDSize:])
		}
	case Ask:
		if len(r.Body) >= NodeIDSize {
			r.from, r.Body = string(r.Body[:NodeIDSize]), r.Body[NodeIDSize:]
			return r, true
		}
	}
	return r, false
}

// addAnswer gives a question an answer, from the node of that id; empty: it has not said so. One that is not waited for any more is
// dropped.
func (p *Peer) addAnswer(id uint64, from string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.waiting[id]; q != nil {
		q.answers = append(q.answers, append([]byte(nil), body...)) // body belongs to the delivery
		q.from = append(q.from, from)
		q.closeIfComplete()
	}
}

// Answer answers a question. done is called once, when the answer has been published or cannot be.
func (p *Peer) Answer(r Received, body []byte, done func()) {
	payload := append(make([]byte, 0, 1+binary.MaxVarintLen64+NodeIDSize+len(body)), byte(answer))
	payload = binary.AppendUvarint(payload, r.id)
	if r.id&named != 0 {
		payload[0] = byte(namedAnswer)
		payload = append(payload, p.id...)
	}
	p.Post(Inbox(r.from), append(payload, body...), func(int, error) { done() })
}
