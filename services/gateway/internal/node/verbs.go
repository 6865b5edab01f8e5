package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// Member is a connection in a group.
type Member struct{ ConnectionID, UserID string }

// SendToConn sends m to a connection of this node.
func (n *Node) SendToConn(c *hub.Conn, m webpubsub.Message) {
	n.conns.Send(c, hub.NewMessage(protocol.NewEnvelope(&m), hub.MessageOptions{}))
}

// Send sends m to the audience and returns when the bus has it; that nobody receives it is no error.
func (n *Node) Send(ctx context.Context, a webpubsub.Audience, m webpubsub.Message) error {
	if a.Scope == webpubsub.ScopeGroup {
		m.Group = a.Name
	}
	o := n.orderTo(a, wire.VerbMessage)
	b := o.AppendHeader(cluster.NewTell(len(a.Name) + len(m.Data.Bytes)*4/3 + 192))
	b = wire.AppendEnvelopeHeader(b, m.Data.Type, m.TTL)
	b, e := protocol.AppendMessage(b, &m)
	wire.CompleteEnvelope(b, e)
	n.sent[a.Scope].Inc()
	return n.tell(ctx, a, &o, b)
}

// SendRepeatable is Send of a message that may be sent again because nobody knows whether it was heard: again says that it is. id
// is the message's, of at most 64 bytes, the same each time. A node that has heard it lately does not deliver it again; one of the
// version before does.
func (n *Node) SendRepeatable(ctx context.Context, a webpubsub.Audience, m webpubsub.Message, id string, again bool) error {
	a.Except = append(slices.Clip(a.Except), repeatMark(id, again))
	return n.Send(ctx, a, m)
}

// Close closes the audience's connections for good, telling them the reason.
func (n *Node) Close(ctx context.Context, a webpubsub.Audience, reason string) error {
	o := n.orderTo(a, wire.VerbClose)
	o.Args = []byte(reason)
	return n.tell(ctx, a, &o, o.Append(cluster.NewTell(len(reason)+128)))
}

// tell posts an order, which is payload, to the audience's topic and waits for the bus.
func (n *Node) tell(ctx context.Context, a webpubsub.Audience, o *wire.Order, payload []byte) error {
	topic := cluster.Topic(a.Hub, a.Scope, a.Name)
	if topic == "" {
		return nil
	}
	number := numberOf(o, payload)
	nodes, err := n.post(ctx, topic, payload, number)
	if a.Scope == webpubsub.ScopeConnection && nodes == 0 && err == nil { // the node that made the connection is gone
		payload := slices.Clone(payload)
		nodes, err = n.post(ctx, cluster.HandedOverTopic(a.Hub, a.Name), payload, numberOf(o, payload))
		return n.unlessMissing(nodes, err)
	}
	return err
}

// unlessMissing returns an error if nobody has heard what is for one connection, and nobody knows that it is gone.
func (n *Node) unlessMissing(heard int, err error) error {
	if heard == 0 && err == nil && n.Handoffs.OthersMayReturn() {
		return fmt.Errorf("%w: it has just come back, and the connection's node perhaps not yet", ErrUnavailable)
	}
	return err
}

// numberOf returns where in a payload the bus writes its number; nil: the order is not kept.
func numberOf(o *wire.Order, payload []byte) []byte {
	if !o.Origin.IsKept() {
		return nil
	}
	return o.Origin.NumberIn(payload)
}

func (n *Node) post(ctx context.Context, topic string, payload, number []byte) (nodes int, err error) {
	type result struct {
		nodes int
		err   error
	}
	posted := make(chan result, 1)
	n.peer.PostKept(topic, payload, number, func(nodes int, err error) { posted <- result{nodes, err} })
	select {
	case r := <-posted:
		return r.nodes, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", cluster.ErrUncertain, ctx.Err())
	}
}

// orderTo returns an order for the audience, on whatever node its connections are, kept if the hub says so.
func (n *Node) orderTo(a webpubsub.Audience, v wire.Verb) wire.Order {
	o := questionTo(a, v)
	if n.keeps(a.Hub) {
		o.Origin = n.origin
	}
	return o
}

// questionTo returns an order that is asked.
func questionTo(a webpubsub.Audience, v wire.Verb) wire.Order {
	o := wire.Order{Verb: v, Except: a.Except, Filter: a.Filter}
	if a.Scope == webpubsub.ScopeConnection {
		o.Conn, o.Target = a.Name, a.Hub
	}
	return o
}

// ask asks the nodes that hold connections of the audience.
func (n *Node) ask(ctx context.Context, a webpubsub.Audience, v wire.Verb, args []byte) ([][]byte, error) {
	o := questionTo(a, v)
	o.Args = args
	if a.Scope == webpubsub.ScopeConnection {
		answers, err := n.Handoffs.AskConn(ctx, &o)
		return answers, n.unlessMissing(len(answers), err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return n.peer.Ask(ctx, cluster.Topic(a.Hub, a.Scope, a.Name), o.Append(nil))
}

// Exists reports whether the audience has a connection. Except and Filter are ignored. While a node that lives has lost the bus, nobody
// knows whether somebody that is found nowhere else is there: that is ErrUnavailable.
func (n *Node) Exists(ctx context.Context, a webpubsub.Audience) (bool, error) {
	exists, err := n.found(ctx, a)
	if exists || err != nil {
		return exists, err
	}
	away, err := n.anyAway(ctx)
	if err == nil && away {
		err = fmt.Errorf("%w: a gateway has lost it, whose connections nobody knows", ErrUnavailable)
	}
	return false, err
}

// anyAway reports whether a node lives and is not subscribed.
func (n *Node) anyAway(ctx context.Context) (bool, error) {
	living, err := n.living(ctx)
	if err != nil || len(living) == 0 {
		return false, wire.Unavailable(err)
	}
	if keeping, err := n.KeepingNodes(ctx); err != nil || keeping > len(living) { // this one included
		return false, wire.Unavailable(err)
	}
	for _, id := range living {
		if subscribed, err := n.peer.SubscriberCount(ctx, cluster.Inbox(id)); err != nil || subscribed == 0 {
			return true, wire.Unavailable(err)
		}
	}
	return false, nil
}

// found reports whether the audience has a connection on a node that has the bus.
func (n *Node) found(ctx context.Context, a webpubsub.Audience) (bool, error) {
	if a.Scope != webpubsub.ScopeConnection {
		nodes, err := n.peer.SubscriberCount(ctx, cluster.Topic(a.Hub, a.Scope, a.Name))
		return nodes > 0, err
	}
	return n.anyYes(n.ask(ctx, webpubsub.Audience{Hub: a.Hub, Scope: a.Scope, Name: a.Name}, wire.VerbExists, nil))
}

// anyYes reports whether one of the answers is yes.
func (n *Node) anyYes(answers [][]byte, err error) (bool, error) {
	for _, b := range answers {
		if status, _ := wire.ReadStatus(b); status == wire.StatusOK {
			return true, nil
		}
	}
	return false, err
}

// Join adds the audience's present connections to groups and returns when a message sent to them afterwards
// reaches these connections. It returns ErrNotFound when the scope is a connection or a user that is not there.
func (n *Node) Join(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	err := n.askAll(ctx, a, wire.VerbJoin, wire.AppendStrings(nil, groups))
	if a.Scope != webpubsub.ScopeConnection && a.Scope != webpubsub.ScopeUser && errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Leave removes the audience's present connections from groups, or from all their groups when none is named.
func (n *Node) Leave(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	err := n.askAll(ctx, a, wire.VerbLeave, wire.AppendStrings(nil, groups))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// askAll returns nil when at least one node did what was asked, and none failed to.
func (n *Node) askAll(ctx context.Context, a webpubsub.Audience, v wire.Verb, args []byte) error {
	answers, err := n.ask(ctx, a, v, args)
	if err != nil {
		return err
	}
	return wire.Outcome(answers)
}

// Grant allows a connection p for the literal group. It returns ErrNotFound or webpubsub.ErrRuleLimit.
func (n *Node) Grant(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.askAll(ctx, connection(h, connID), wire.VerbGrant, permissionArgs(p, group))
}

// Revoke denies a connection p for the literal group, whatever its roles say. It returns ErrNotFound or
// webpubsub.ErrRuleLimit.
func (n *Node) Revoke(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return n.askAll(ctx, connection(h, connID), wire.VerbRevoke, permissionArgs(p, group))
}

// Allowed reports whether a connection has p for group; a connection that is not there has not.
func (n *Node) Allowed(ctx context.Context, h webpubsub.HubKey, connID string, p webpubsub.Permission, group string) (bool, error) {
	return n.anyYes(n.ask(ctx, connection(h, connID), wire.VerbAllowed, permissionArgs(p, group)))
}

func connection(h webpubsub.HubKey, id string) webpubsub.Audience {
	return webpubsub.Audience{Hub: h, Scope: webpubsub.ScopeConnection, Name: id}
}

func permissionArgs(p webpubsub.Permission, group string) []byte {
	return wire.AppendString([]byte{byte(p)}, group)
}

// Members returns up to limit connections of the group whose ids are greater than after, by id. Those of nodes that show no sign of
// life are left out.
func (n *Node) Members(ctx context.Context, h webpubsub.HubKey, group, after string, limit int) ([]Member, error) {
	args := binary.AppendUvarint(wire.AppendString(nil, after), uint64(max(limit, 0)))
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	o := wire.Order{Verb: wire.VerbMembers, Args: args}
	answers, silent, err := n.peer.AskResponsive(ctx, cluster.Topic(h, webpubsub.ScopeGroup, group), o.Append(nil), n.unresponsive)
	if err != nil {
		return nil, err
	}
	if len(silent) > 0 {
		n.log.Warn("members are listed without those of nodes that show no sign of life", "hub", h.String(), "nodes", silent)
	}
	var members []Member
	for _, b := range answers {
		for r := (wire.Reader{Rest: b[min(1, len(b)):]}); len(r.Rest) > 0 && !r.Failed; {
			members = append(members, Member{ConnectionID: r.String(), UserID: r.String()})
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ConnectionID, b.ConnectionID) })
	members = slices.CompactFunc(members, func(a, b Member) bool { return a.ConnectionID == b.ConnectionID }) // one may be moving
	return members[:min(limit, len(members))], nil
}
