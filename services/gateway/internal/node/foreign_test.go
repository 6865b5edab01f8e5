package node

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

var foreignHub = webpubsub.HubKey{Tenant: "t", Hub: "h"}

// alone runs a node that is the only one of its bus.
func alone(t testing.TB) *Node {
	ctx, stop := context.WithCancel(context.Background())
	conns := hub.NewRegistry(hub.Options{Writers: 1}, prometheus.NewRegistry())
	strangers := Hooks{Admit: func(*hub.Conn, string) bool { return false }} // nobody has a right to a connection
	n := New(membus.New(), conns, strangers, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var work sync.WaitGroup
	work.Go(func() { _ = conns.Run(ctx) })
	work.Go(func() { _ = n.Run(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	testkit.Eventually(t, 10*time.Second, func() bool { return n.Ready() == nil }, "the node is ready")
	return n
}

// openIn opens a connection in group g.
func openIn(t testing.TB, n *Node, codec protocol.Codec) *hub.Conn {
	c, err := n.Open(t.Context(), hub.ConnOptions{ID: n.NewConnectionID(), Hub: foreignHub, UserID: "u", Codec: codec,
		Gone: func(*hub.Conn, hub.Closing) {}}, []string{"g"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNoNumberOfAnotherNodeIsTooLarge asks for more members than an int can count.
func TestNoNumberOfAnotherNodeIsTooLarge(t *testing.T) {
	n := alone(t)
	openIn(t, n, protocol.Codecs[0])
	topic := cluster.Topic(foreignHub, webpubsub.ScopeGroup, "g")
	for _, limit := range []uint64{0, 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		o := order{verb: verbMembers, args: binary.AppendUvarint(appendString(nil, ""), limit)}
		if status, _ := readStatus(n.answer(topic, &o, n.conns.List(topic))); status != statusOK {
			t.Errorf("at most %d members: got status %d, want %d", limit, status, statusOK)
		}
	}
}

// FuzzForeignOrders has a node obey and answer whatever another may send.
func FuzzForeignOrders(f *testing.F) {
	envelope := appendEnvelopeHeader(nil, webpubsub.DataText, time.Minute)
	envelope, e := protocol.AppendMessage(envelope, &webpubsub.Message{Group: "g", Data: webpubsub.Text("x")})
	setEnvelope(envelope, e)
	for _, o := range []order{
		{verb: verbMessage, filter: "userId eq 'u'", args: envelope},
		{verb: verbClose, args: []byte("reason"), except: []string{"x"}},
		{verb: verbJoin, args: appendStrings(nil, []string{"a", "b"})},
		{verb: verbLeave, args: appendStrings(nil, nil)},
		{verb: verbGrant, args: permissionArgs(webpubsub.SendToGroup, "g")},
		{verb: verbMembers, args: binary.AppendUvarint(appendString(nil, "after"), 9)},
	} {
		f.Add(o.encode(nil))
	}
	n := alone(f)
	topic := cluster.Topic(foreignHub, webpubsub.ScopeGroup, "g")
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readOrder(b)
		if err != nil {
			return
		}
		payload := append(cluster.NewTell(len(b)), b...)
		for _, codec := range protocol.Codecs {
			c := openIn(t, n, codec)
			_ = n.obey(topic, payload, &o)
			o.conn, o.target = c.ID, foreignHub
			_ = n.obey(topic, payload, &o)
			n.answer(topic, &o, nil)
			o.conn = ""
			n.answer(topic, &o, n.conns.List(topic))
			n.conns.Close(c, hub.ReasonRequested.Close(""))
		}
	})
}
