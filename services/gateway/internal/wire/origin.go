package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Origin says which node has published an order, and its place among all that the node has published. By that a node that reads up
// what it may have missed knows what it has been told before.
//
// It travels as the first of the ids that are not meant. A node of version 0.1 takes it for one, and no connection has it.
type Origin struct {
	Publisher [cluster.NodeIDSize]byte // zero: there is no origin, as the bus does not keep the order
	Number    uint64                   // the bus writes it (cluster.Bus.PostKept); zero: this bus keeps nothing

	at int // where Number begins in the payload: from its start; if it was read, from its end, and negative
}

// originSize is the length of an Origin: a byte that no connection's id begins with, the publisher, the number.
const originSize = 1 + cluster.NodeIDSize + 8

// NewOrigin returns the origin of what the node of that id publishes.
func NewOrigin(nodeID string) (g Origin) {
	copy(g.Publisher[:], nodeID)
	return g
}

// IsKept reports whether there is an origin.
func (g *Origin) IsKept() bool { return g.Publisher[0] != 0 }

// NumberIn returns the bytes of a payload in which the number stands. The origin is that of the order which the payload was made of.
func (g *Origin) NumberIn(payload []byte) []byte { return payload[g.at : g.at+8] }

// append appends the origin as a string, and notes where its number stands.
func (g *Origin) append(dst []byte) []byte {
	dst = append(dst, originSize, 0)
	dst = append(dst, g.Publisher[:]...)
	g.at = len(dst)
	return binary.BigEndian.AppendUint64(dst, g.Number)
}

// origin reads the origin, if the first of n strings is one; else it reads nothing.
func (r *Reader) origin(n int) (g Origin) {
	if n == 0 || len(r.Rest) < 1+originSize || r.Rest[0] != originSize || r.Rest[1] != 0 || r.Rest[2] == 0 {
		return g
	}
	r.Take(2)
	copy(g.Publisher[:], r.Take(cluster.NodeIDSize))
	g.at = -len(r.Rest)
	g.Number = binary.BigEndian.Uint64(r.Take(8))
	return g
}

// PassedOn returns a copy of the payload that o was read from, for another node to publish as its own, and where its number stands: nil
// if the order is not kept.
func (o *Order) PassedOn(payload []byte, nodeID string) (copied, number []byte) {
	copied = bytes.Clone(payload)
	if !o.Origin.IsKept() {
		return copied, nil
	}
	at := len(copied) + o.Origin.at
	copy(copied[at-cluster.NodeIDSize:at], nodeID)
	return copied, copied[at : at+8]
}
