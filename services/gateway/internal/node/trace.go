package node

import (
	"context"
	"strings"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// HoldTrace has Hooks.Traced called with what any node posts to a tenant's trace, until release is called.
func (n *Node) HoldTrace(ctx context.Context, tenant string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	topic := cluster.TraceTopic(tenant)
	if err := n.topics.hold(ctx, topic); err != nil {
		return nil, unavailable(err)
	}
	return func() { n.topics.release(topic) }, nil
}

// TraceHeld reports whether any node holds a tenant's trace.
func (n *Node) TraceHeld(ctx context.Context, tenant string) bool {
	nodes, err := n.peer.SubscriberCount(ctx, cluster.TraceTopic(tenant))
	return err == nil && nodes > 0
}

// PostTrace tells those who hold a tenant's trace, if the bus takes it.
func (n *Node) PostTrace(tenant string, frame []byte) {
	o := order{verb: verbTrace, args: frame}
	n.peer.Post(cluster.TraceTopic(tenant), o.encode(cluster.NewTell(len(frame)+16)), nil)
}

// traced passes on what has come by a tenant's trace.
func (n *Node) traced(topic string, o *order) error {
	tenant, ok := strings.CutPrefix(topic, cluster.TraceTopic(""))
	if !ok {
		return errOrder
	}
	if n.hooks.Traced != nil {
		n.hooks.Traced(tenant, o.args)
	}
	return nil
}
