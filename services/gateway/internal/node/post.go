package node

import (
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

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
// called once, perhaps before PostToGroup returns; it must not block. An error says that not all may hear who are to.
func (n *Node) PostToGroup(c *hub.Conn, r *protocol.Request, last *Address, done func(nodes int, err error)) {
	o, b := n.newGroupOrder(c, r.NoEcho, len(r.Group)+r.DataSize())
	b = wire.AppendEnvelopeHeader(b, r.DataType(), r.TTL)
	b, e := r.AppendMessage(b, c.UserID)
	wire.CompleteEnvelope(b, e)
	n.sent[webpubsub.ScopeGroup].Inc()
	n.peer.PostKept(last.of(c, r.Group), b, numberOf(&o, b), done)
}

// PostFragment sends a fragment of a stream, with the data of the request, to the stream's group; it is like
// PostToGroup.
func (n *Node) PostFragment(c *hub.Conn, f *stream.Fragment, r *protocol.Request) {
	o, b := n.newGroupOrder(c, f.NoEcho, len(f.Group)+len(f.Info.StreamID)+r.DataSize())
	b = wire.AppendEnvelopeHeader(b, r.DataType(), 0)
	b, e := r.AppendFragment(b, f.Group, c.UserID, &f.Info)
	wire.CompleteEnvelope(b, e)
	n.postToGroup(c, f.Group, &o, b, f.Done)
}

// PostStreamEnd sends the end of a stream to the stream's group; it is like PostToGroup.
func (n *Node) PostStreamEnd(c *hub.Conn, f *stream.Fragment, done func(error)) {
	o, b := n.newGroupOrder(c, f.NoEcho, len(f.Group)+len(f.Info.StreamID)+64)
	b = wire.AppendEnvelopeHeader(b, webpubsub.DataText, 0)
	b, e := protocol.AppendStreamEnd(b, f.Group, c.UserID, &f.Info)
	wire.CompleteEnvelope(b, e)
	n.postToGroup(c, f.Group, &o, b, done)
}

// newGroupOrder returns the start of a message from c to a group, with room for size bytes of names and data.
func (n *Node) newGroupOrder(c *hub.Conn, noEcho bool, size int) (o wire.Order, b []byte) {
	o.Verb = wire.VerbMessage
	if noEcho {
		o.Except = []string{c.ID}
	}
	if n.keeps(c.Hub) {
		o.Origin = n.origin
	}
	b = o.AppendHeader(cluster.NewTell(size + len(c.UserID) + 192))
	return o, b
}

func (n *Node) postToGroup(c *hub.Conn, group string, o *wire.Order, b []byte, done func(error)) {
	n.sent[webpubsub.ScopeGroup].Inc()
	n.peer.PostKept(cluster.Topic(c.Hub, webpubsub.ScopeGroup, group), b, numberOf(o, b), func(_ int, err error) { done(err) })
}
