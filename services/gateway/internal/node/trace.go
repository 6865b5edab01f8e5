package node

import (
	"context"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

// HoldTrace has Options.Traced called with what any node posts to a tenant's trace, until release is called.
func (n *Node) HoldTrace(ctx context.Context, tenant string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	topic := cluster.TraceTopic(tenant)
	if err := n.topics.Hold(ctx, topic); err != nil {
		return nil, wire.Unavailable(err)
	}
	return func() { n.topics.Release(topic) }, nil
}

// TraceHeld reports whether any node holds a tenant's trace.
func (n *Node) TraceHeld(ctx context.Context, tenant string) bool {
	nodes, err := n.peer.SubscriberCount(ctx, cluster.TraceTopic(tenant))
	return err == nil && nodes > 0
}

// PostTrace tells those who hold a tenant's trace, if the bus takes it.
func (n *Node) PostTrace(tenant string, frame []byte) {
	o := wire.Order{Verb: wire.VerbTrace, Args: frame}
	n.peer.Post(cluster.TraceTopic(tenant), o.Append(cluster.NewTell(len(frame)+16)), nil)
}
