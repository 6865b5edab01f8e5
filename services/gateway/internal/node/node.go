// Package node is what a client frame or a REST call may ask for: send, close, exists, join, leave, grant, members,
// for any audience and wherever its connections are.
//
// Each verb is told to the audience's topic or asked of every node that subscribes to it. What a node is told or
// asked it does to its own connections, which package hub holds.
package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
)

// Errors of the verbs. webpubsub.ErrRuleLimit is one more.
var (
	// ErrNotFound says that no connection is meant by the audience.
	ErrNotFound = errors.New("no such connection")
	// ErrPartial says that not every node that was asked has answered in time: what was asked for may have
	// happened in part and can be asked for again.
	ErrPartial = cluster.ErrPartial
	// ErrUnavailable says that the bus cannot be reached now.
	ErrUnavailable = cluster.ErrUnavailable
)

// askTimeout bounds a question to other nodes, and busTimeout a change of subscriptions.
const (
	askTimeout = 5 * time.Second
	busTimeout = 5 * time.Second
)

// Member is a connection in a group.
type Member struct{ ConnectionID, UserID string }

// Node is this process among the nodes of a deployment. Methods are safe for concurrent use.
type Node struct {
	peer   *cluster.Peer
	conns  *hub.Registry
	topics *topics
	log    *slog.Logger
	sent   [webpubsub.ScopeConnection + 1]prometheus.Counter
	asked  sync.WaitGroup // questions of other nodes being answered

	answering atomic.Int64 // likewise, until the answer is out

	reachable atomic.Bool // the inbox is subscribed

	hooks    Hooks
	inbox    string
	moves    moves
	states   states
	patience time.Duration // moveTimeout, but for tests
	adopted  atomic.Int64  // connections here that have been on another node
	healed   atomic.Uint64 // see Healed
}

// New returns a node that reaches other nodes over bus and holds its connections in conns.
func New(bus cluster.Bus, conns *hub.Registry, hooks Hooks, log *slog.Logger, reg prometheus.Registerer) *Node {
	n := &Node{peer: cluster.NewPeer(bus), conns: conns, topics: newTopics(bus, log), log: log, hooks: hooks, moves: newMoves(), states: newStates(), patience: moveTimeout}
	n.inbox = cluster.Inbox(n.peer.ID())
	n.healed.Store(bus.LossCount())
	for _, key := range n.constant() {
		n.topics.byKey[key] = &topic{holders: 1}
	}
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
	work.Go(func() { n.topics.run(ctx) })
	work.Go(func() { n.openInbox(ctx) })
	err := n.peer.Run(ctx, n.deliver, n.conns.Flush)
	work.Wait()
	n.asked.Wait()
	return err
}

// constant are the topics that the node holds for ever.
func (n *Node) constant() []string { return []string{n.inbox, cluster.AllNodesTopic} }

// openInbox subscribes to the inbox: without it no connection of this node can be reached by its id, and no answer to
// a question of its own.
func (n *Node) openInbox(ctx context.Context) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, busTimeout)
		err := n.topics.settle(attempt, n.constant())
		cancel()
		if err == nil {
			n.reachable.Store(true)
			return
		}
		n.log.Debug("subscribe to the inbox", "error", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// ID returns the node's id, which begins those of its connections.
func (n *Node) ID() string { return n.peer.ID() }

// Healed says that what the bus has lost, up to that number, has been dealt with: no connection that is left may have
// missed a message unawares.
func (n *Node) Healed(lost uint64) { n.healed.Store(lost) }

// Lossy reports whether connections here may have missed messages unawares.
func (n *Node) Lossy() bool { return n.peer.LossCount() != n.healed.Load() }

// Quiet reports whether no connection is moving and no question of another node unanswered.
func (n *Node) Quiet() bool { return n.moves.n.Load() == 0 && n.answering.Load() == 0 }

// Others reports whether there are other nodes, to which connections could move.
func (n *Node) Others(ctx context.Context) bool {
	nodes, err := n.peer.SubscriberCount(ctx, cluster.AllNodesTopic)
	return err == nil && nodes > 1
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
	own := ownTopics(o.Hub, o.UserID)
	keys := slices.Clone(own)
	for _, g := range groups {
		keys = append(keys, cluster.Topic(o.Hub, webpubsub.ScopeGroup, g))
	}
	// The inbox is held by the node itself; to hold it again is to wait until it is subscribed.
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if err := n.topics.hold(ctx, append(keys, n.inbox)...); err != nil {
		return nil, fmt.Errorf("subscribe for a new connection: %w", unavailable(err))
	}
	n.topics.release(n.inbox)
	gone := o.OnClosed
	o.OnClosed = func(c *hub.Conn, closing hub.Closing) {
		n.closed(c)
		gone(c, closing)
	}
	c := n.conns.Add(o)
	for _, topic := range own {
		n.conns.AddToTopic(c, topic)
	}
	for i, g := range groups {
		if joined, err := n.conns.JoinInitial(c, keys[len(own)+i], g); !joined { // it has ended, or is in too many
			n.topics.release(keys[len(own)+i])
			n.log.Debug("join at connect", "hub", o.Hub.String(), "connection", o.ID, "error", err)
		}
	}
	return c, nil
}

// ownTopics returns the topics that a connection is on for all its life.
func ownTopics(h webpubsub.HubKey, userID string) []string {
	topics := []string{cluster.Topic(h, webpubsub.ScopeHub, "")}
	if userID != "" {
		topics = append(topics, cluster.Topic(h, webpubsub.ScopeUser, userID))
	}
	return topics
}

// closed gives up the topics of a connection that has ended.
func (n *Node) closed(c *hub.Conn) {
	n.left(c)
	topics := ownTopics(c.Hub, c.UserID)
	if c.HandedOver {
		topics = append(topics, cluster.HandedOverTopic(c.Hub, c.ID))
	}
	for _, g := range n.conns.Groups(c) {
		topics = append(topics, cluster.Topic(c.Hub, webpubsub.ScopeGroup, g))
	}
	n.topics.release(topics...)
}

// JoinConn adds a connection of this node to groups and returns when that is in effect everywhere.
func (n *Node) JoinConn(ctx context.Context, c *hub.Conn, groups ...string) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	keys := groupTopics(c.Hub, groups)
	if err := n.topics.hold(ctx, keys...); err != nil {
		return unavailable(err)
	}
	var errs []error
	for i, g := range groups {
		joined, err := n.conns.Join(c, keys[i], g)
		if !joined {
			n.topics.release(keys[i])
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
	for i, key := range groupTopics(c.Hub, groups) {
		left, err := n.conns.Leave(c, key, groups[i])
		if left {
			keys = append(keys, key)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, unavailable(n.topics.drop(ctx, keys...)))...)
}

func groupTopics(h webpubsub.HubKey, groups []string) []string {
	topics := make([]string, len(groups))
	for i, g := range groups {
		topics[i] = cluster.Topic(h, webpubsub.ScopeGroup, g)
	}
	return topics
}

// unavailable makes one error of what a bus says when it cannot be reached in time.
func unavailable(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrUnavailable
	}
	return err
}

// Address is where a connection has sent to last, which is where most send to next. The zero value is none. It is
// for one goroutine at a time, and one connection.
type Address struct{ group, topic string }

// of returns the topic of a group.
func (a *Address) of(c *hub.Conn, group string) string {
	if a.topic == "" || a.group != group {
		*a = Address{group, cluster.Topic(c.Hub, webpubsub.ScopeGroup, group)}
	}
	return a.topic
}

// PostToGroup sends what a client's request says to its group and returns at once; last is the connection's. done is
// called once, perhaps before PostToGroup returns; it must not block.
func (n *Node) PostToGroup(c *hub.Conn, r *protocol.Request, last *Address, done func(nodes int, err error)) {
	b := newGroupOrder(c, r.NoEcho, len(r.Group)+r.DataSize())
	b = appendEnvelopeHeader(b, r.DataType(), r.TTL)
	b, e := r.AppendMessage(b, c.UserID)
	setEnvelope(b, e)
	n.sent[webpubsub.ScopeGroup].Inc()
	n.peer.Post(last.of(c, r.Group), b, done)
}

// PostFragment sends a fragment of a stream, with the data of the request, to the stream's group; it is like
// PostToGroup.
func (n *Node) PostFragment(c *hub.Conn, f *stream.Fragment, r *protocol.Request) {
	b := newGroupOrder(c, f.NoEcho, len(f.Group)+len(f.Info.StreamID)+r.DataSize())
	b = appendEnvelopeHeader(b, r.DataType(), 0)
	b, e := r.AppendFragment(b, f.Group, c.UserID, &f.Info)
	setEnvelope(b, e)
	n.postToGroup(c, f.Group, b, f.Landed)
}

// PostStreamEnd sends the end of a stream to the stream's group; it is like PostToGroup.
func (n *Node) PostStreamEnd(c *hub.Conn, f *stream.Fragment, done func(error)) {
	b := newGroupOrder(c, f.NoEcho, len(f.Group)+len(f.Info.StreamID)+64)
	b = appendEnvelopeHeader(b, webpubsub.DataText, 0)
	b, e := protocol.AppendStreamEnd(b, f.Group, c.UserID, &f.Info)
	setEnvelope(b, e)
	n.postToGroup(c, f.Group, b, done)
}

// newGroupOrder returns the start of a message from c to a group, with room for size bytes of names and data.
func newGroupOrder(c *hub.Conn, noEcho bool, size int) []byte {
	o := order{verb: verbMessage}
	if noEcho {
		o.except = []string{c.ID}
	}
	return o.header(cluster.NewTell(size + len(c.UserID) + 192))
}

func (n *Node) postToGroup(c *hub.Conn, group string, b []byte, done func(error)) {
	n.sent[webpubsub.ScopeGroup].Inc()
	n.peer.Post(cluster.Topic(c.Hub, webpubsub.ScopeGroup, group), b, func(_ int, err error) { done(err) })
}

// SendToConn sends m to a connection of this node.
func (n *Node) SendToConn(c *hub.Conn, m webpubsub.Message) {
	n.conns.Send(c, hub.NewMessage(protocol.NewEnvelope(&m), hub.MessageOptions{}))
}

// Send sends m to the audience and returns when the bus has it; that nobody receives it is no error.
func (n *Node) Send(ctx context.Context, a webpubsub.Audience, m webpubsub.Message) error {
	if a.Scope == webpubsub.ScopeGroup {
		m.Group = a.Name
	}
	o := orderTo(a, verbMessage)
	b := o.header(cluster.NewTell(len(a.Name) + len(m.Data.Bytes)*4/3 + 192))
	b = appendEnvelopeHeader(b, m.Data.Type, m.TTL)
	b, e := protocol.AppendMessage(b, &m)
	setEnvelope(b, e)
	n.sent[a.Scope].Inc()
	return n.tell(ctx, a, b)
}

// Close closes the audience's connections for good, telling them the reason.
func (n *Node) Close(ctx context.Context, a webpubsub.Audience, reason string) error {
	o := orderTo(a, verbClose)
	o.args = []byte(reason)
	return n.tell(ctx, a, o.encode(cluster.NewTell(len(reason)+128)))
}

// tell posts to the audience's topic and waits for the bus.
func (n *Node) tell(ctx context.Context, a webpubsub.Audience, payload []byte) error {
	topic := cluster.Topic(a.Hub, a.Scope, a.Name)
	if topic == "" {
		return nil
	}
	nodes, err := n.post(ctx, topic, payload)
	if a.Scope == webpubsub.ScopeConnection && nodes == 0 && err == nil { // who made it is gone
		_, err = n.post(ctx, cluster.HandedOverTopic(a.Hub, a.Name), payload)
	}
	return err
}

func (n *Node) post(ctx context.Context, topic string, payload []byte) (nodes int, err error) {
	type result struct {
		nodes int
		err   error
	}
	posted := make(chan result, 1)
	n.peer.Post(topic, payload, func(nodes int, err error) { posted <- result{nodes, err} })
	select {
	case r := <-posted:
		return r.nodes, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// orderTo returns an order for the audience, on whatever node its connections are.
func orderTo(a webpubsub.Audience, v verb) order {
	o := order{verb: v, except: a.Except, filter: a.Filter}
	if a.Scope == webpubsub.ScopeConnection {
		o.conn, o.target = a.Name, a.Hub
	}
	return o
}

// ask asks the nodes that hold connections of the audience.
func (n *Node) ask(ctx context.Context, a webpubsub.Audience, v verb, args []byte) ([][]byte, error) {
	topic := cluster.Topic(a.Hub, a.Scope, a.Name)
	if topic == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	o := orderTo(a, v)
	o.args = args
	answers, err := n.peer.Ask(ctx, topic, o.encode(nil))
	if a.Scope == webpubsub.ScopeConnection && len(answers) == 0 && err == nil { // who made it is gone
		return n.peer.Ask(ctx, cluster.HandedOverTopic(a.Hub, a.Name), o.encode(nil))
	}
	return answers, err
}

// Exists reports whether the audience has a connection. Except and Filter are ignored.
func (n *Node) Exists(ctx context.Context, a webpubsub.Audience) (bool, error) {
	if a.Scope != webpubsub.ScopeConnection {
		nodes, err := n.peer.SubscriberCount(ctx, cluster.Topic(a.Hub, a.Scope, a.Name))
		return nodes > 0, err
	}
	return n.anyYes(n.ask(ctx, webpubsub.Audience{Hub: a.Hub, Scope: a.Scope, Name: a.Name}, verbExists, nil))
}

// anyYes reports whether one of the answers is yes.
func (n *Node) anyYes(answers [][]byte, err error) (bool, error) {
	for _, b := range answers {
		if status, _ := readStatus(b); status == statusOK {
			return true, nil
		}
	}
	return false, err
}

// Join adds the audience's present connections to groups and returns when a message sent to them afterwards
// reaches these connections. It returns ErrNotFound when the scope is a connection or a user that is not there.
func (n *Node) Join(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	err := n.askAll(ctx, a, verbJoin, appendStrings(nil, groups))
	if a.Scope != webpubsub.ScopeConnection && a.Scope != webpubsub.ScopeUser && errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Leave removes the audience's present connections from groups, or from all their groups when none is named.
func (n *Node) Leave(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	err := n.askAll(ctx, a, verbLeave, appendStrings(nil, groups))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// askAll returns nil when at least one node did what was asked, and none failed to.
func (n *Node) askAll(ctx context.Context, a webpubsub.Audience, v verb, args []byte) error {
	answers, err := n.ask(ctx, a, v, args)
	if err != nil {
		return err
	}
	err = ErrNotFound
	for _, b := range answers {
		switch status, text := readStatus(b); {
		case status == statusOK && errors.Is(err, ErrNotFound):
			err = nil
		case status != statusOK && status != statusNotFound:
			err = status.err(text)
		}
	}
	return err
}

// Grant allows a connection p for the literal group. It returns ErrNotFound or webpubsub.ErrRuleLimit.
func (n *Node) Grant(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.askAll(ctx, connection(h, connID), verbGrant, permissionArgs(p, group))
}

// Revoke denies a connection p for the literal group, whatever its roles say. It returns ErrNotFound or
// webpubsub.ErrRuleLimit.
func (n *Node) Revoke(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.askAll(ctx, connection(h, connID), verbRevoke, permissionArgs(p, group))
}

// Allowed reports whether a connection has p for group; a connection that is not there has not.
func (n *Node) Allowed(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) (bool, error) {
	return n.anyYes(n.ask(ctx, connection(h, connID), verbAllowed, permissionArgs(p, group)))
}

func connection(h webpubsub.HubKey, id string) webpubsub.Audience {
	return webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeConnection, Name: id}
}

func permissionArgs(p webpubsub.Permission, group string) []byte {
	return appendString([]byte{byte(p)}, group)
}

// Members returns up to limit connections of the group whose ids are greater than after, by id.
func (n *Node) Members(ctx context.Context, h webpubsub.HubKey, group, after string, limit int) ([]Member, error) {
	args := binary.AppendUvarint(appendString(nil, after), uint64(max(limit, 0)))
	answers, err := n.ask(ctx, webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeGroup, Name: group}, verbMembers, args)
	if err != nil {
		return nil, err
	}
	var members []Member
	for _, b := range answers {
		for r := (reader{rest: b[min(1, len(b)):]}); len(r.rest) > 0 && !r.failed; {
			members = append(members, Member{ConnectionID: r.string(), UserID: r.string()})
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ConnectionID, b.ConnectionID) })
	members = slices.CompactFunc(members, func(a, b Member) bool { return a.ConnectionID == b.ConnectionID }) // one may be moving
	return members[:min(limit, len(members))], nil
}

// deliver does what a payload from the bus says. It and what it calls for a message keep little on the stack: the
// goroutine is often that of the reader whose message it is, and there are many of those.
func (n *Node) deliver(topic string, payload []byte) {
	r, ok := n.peer.Parse(payload)
	if !ok {
		return
	}
	var err error
	if r.Kind == cluster.Ask {
		err = n.hear(topic, &r)
	} else {
		err = n.obey(topic, payload, r.Body)
	}
	if err != nil {
		n.complain(err)
	}
}

// complain stands apart so that what logging needs is not on deliver's stack.
//
//go:noinline
func (n *Node) complain(err error) { n.log.Error("order from another node", "error", err) }

// hear answers what the node is asked, in a goroutine of its own.
func (n *Node) hear(topic string, heard *cluster.Received) error {
	r := *heard
	var o order
	if err := o.read(r.Body); err != nil {
		return err
	}
	o.args = slices.Clone(o.args) // what is asked takes longer than a delivery may
	var listed hub.PendingList
	if o.conn == "" { // now, and not when it is looked at: a connection that moves is on one node's list at a time
		listed = n.conns.List(topic)
	}
	n.answering.Add(1)
	n.asked.Go(func() { n.peer.Answer(r, n.answer(topic, &o, listed), func() { n.answering.Add(-1) }) })
	return nil
}

// obey does what the node is told.
func (n *Node) obey(topic string, payload, body []byte) error {
	var o order
	if err := o.read(body); err != nil {
		return err
	}
	switch o.verb {
	case verbMessage:
		return n.pass(topic, payload, &o)
	case verbClose:
		return n.closeTold(topic, payload, &o)
	case verbState:
		return n.changed(topic, &o)
	case verbTrace:
		return n.traced(topic, &o)
	case verbMoveMark:
		n.mark(topic, &o)
	case verbMoveCancel:
		if d := n.departure(&o); d != nil {
			n.asked.Go(func() { n.stay(d) })
		}
	default:
		return errOrder
	}
	return nil
}

// byID reports whether an order is for the connection that it names; else it is for the list of the topic.
func (n *Node) byID(topic string, o *order) bool { return o.conn != "" && topic == n.inbox }

// pass gives a message to those it is for.
func (n *Node) pass(topic string, payload []byte, o *order) error {
	e, expires, err := readEnvelope(o.args)
	if err != nil {
		return err
	}
	m, err := n.message(o, e, expires)
	switch {
	case err != nil:
		return err
	case n.byID(topic, o):
		n.reach(o, payload, func(c *hub.Conn) { n.conns.Send(c, m) })
	default:
		n.conns.Deliver(topic, m)
	}
	return nil
}

// closeTold closes those that an order is for.
func (n *Node) closeTold(topic string, payload []byte, o *order) error {
	closing := hub.ReasonRequested.Closing(string(o.args))
	if n.byID(topic, o) {
		n.reach(o, payload, func(c *hub.Conn) { n.conns.Close(c, closing) })
		return nil
	}
	selected, err := n.message(o, protocol.Envelope{}, time.Time{})
	if err != nil {
		return err
	}
	n.conns.CloseList(topic, closing, selected)
	return nil
}

// reach does something to the connection of an order by id, or passes the order on to where it has moved.
func (n *Node) reach(o *order, payload []byte, do func(*hub.Conn)) {
	c := n.conn(o)
	away, shadow := n.awayFrom(o, c)
	if away {
		n.peer.Post(cluster.HandedOverTopic(o.target, o.conn), payload, nil)
		c = shadow
	}
	if c != nil {
		do(c)
	}
}

// message returns e for those whom o selects.
func (n *Node) message(o *order, e protocol.Envelope, expires time.Time) (*hub.Message, error) {
	options := hub.MessageOptions{Expires: expires}
	for _, id := range o.except {
		if strings.HasPrefix(id, n.peer.ID()) || n.adopted.Load() > 0 {
			options.Except = n.conns.AppendByID(options.Except, id)
		}
	}
	if o.filter != "" {
		var err error
		if options.Filter, err = filter.Parse(o.filter); err != nil {
			return nil, err
		}
	}
	return hub.NewMessage(e, options), nil
}

// conn returns the connection that o names, if it is one of o's hub.
func (n *Node) conn(o *order) *hub.Conn {
	if c := n.conns.Conn(o.conn); c != nil && c.Hub == o.target {
		return c
	}
	return nil
}
