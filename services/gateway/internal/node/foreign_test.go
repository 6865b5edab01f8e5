package node

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/wire"
)

var foreignHub = webpubsub.HubKey{Tenant: "t", Hub: "h"}

// alone runs a node that is the only one of its bus.
func alone(t testing.TB) *Node {
	t.Helper()
	return startNode(t, membus.New())
}

// startNode runs a node of a bus to which no connection can move.
func startNode(t testing.TB, bus cluster.Bus) *Node {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	conns := hub.NewRegistry(hub.Options{Writers: 1, Recovery: 30 * time.Second}, prometheus.NewRegistry())
	strangers := Options{Handoff: handoff.Hooks{Admit: func(*hub.Conn, string) bool { return false }}} // nobody has a right to a connection
	n := New(bus, conns, strangers, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
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
		OnClosed: func(*hub.Conn, hub.Closing) {}}, []string{"g"})
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
		o := wire.Order{Verb: wire.VerbMembers, Args: binary.AppendUvarint(wire.AppendString(nil, ""), limit)}
		if status, _ := wire.ReadStatus(n.receiver.answer(topic, &o, n.conns.List(topic))); status != wire.StatusOK {
			t.Errorf("at most %d members: got status %d, want %d", limit, status, wire.StatusOK)
		}
	}
}

// TestHostileOrders has a node given what no node of ours would send, by somebody who can write to its Redis or runs a version
// of his own. Each is refused for its reason before anything is done.
func TestHostileOrders(t *testing.T) {
	n := alone(t)
	c := openIn(t, n, protocol.JSON)
	topic := cluster.Topic(foreignHub, webpubsub.ScopeGroup, "g")
	envelope := func(kind webpubsub.DataType, data, end int) []byte {
		b, e := protocol.AppendMessage(wire.AppendEnvelopeHeader(nil, kind, 0), &webpubsub.Message{Group: "g", Data: webpubsub.Text("x")})
		e.Data, e.End = data, end
		wire.CompleteEnvelope(b, e)
		return b
	}
	message := func(args []byte) []byte { return (&wire.Order{Verb: wire.VerbMessage, Args: args}).Append(nil) }
	state := func(text string) []byte {
		item := append(wire.AppendStrings(nil, []string{"c", ""})[1:], 2) // connection and user, and 1 in a form of its own
		return (&wire.Order{Verb: wire.VerbState, Args: wire.AppendString(item, text)}).Append(nil)
	}
	told := map[string][]byte{
		"nothing":                       {},
		"no length":                     {byte(wire.VerbClose)},
		"a length beyond the end":       {byte(wire.VerbClose), 5, 'a'},
		"a length of 2^63":              append([]byte{byte(wire.VerbClose)}, binary.AppendUvarint(nil, 1<<63)...),
		"a length of eleven bytes":      append([]byte{byte(wire.VerbClose)}, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"...),
		"a list longer than all":        append([]byte{byte(wire.VerbMessage), 0}, binary.AppendUvarint(nil, 1<<40)...),
		"a list cut off":                {byte(wire.VerbMessage), 0, 2, 1, 'a'},
		"a verb that is not known":      (&wire.Order{Verb: 200}).Append(nil),
		"a verb that is asked, told":    (&wire.Order{Verb: wire.VerbJoin, Args: wire.AppendStrings(nil, []string{"a"})}).Append(nil),
		"a filter that is none":         (&wire.Order{Verb: wire.VerbMessage, Filter: "userId eq", Args: envelope(webpubsub.DataText, 1, 2)}).Append(nil),
		"a close by such a filter":      (&wire.Order{Verb: wire.VerbClose, Filter: "(", Args: []byte("x")}).Append(nil),
		"a message without an envelope": message(nil),
		"an envelope cut off":           message(envelope(webpubsub.DataText, 1, 2)[:4]),
		"data that begins after it":     message(envelope(webpubsub.DataText, 1<<20, 1<<20)),
		"data that ends after it":       message(envelope(webpubsub.DataText, 1, 1<<20)),
		"data that ends before it":      message(envelope(webpubsub.DataText, 9, 3)),
		"data before the envelope":      message(envelope(webpubsub.DataText, -1, 3)),
		"a type of data not known":      message(envelope(77, 1, 3)),
		"a state cut off":               state(`{"a":"b"}`)[:6],
		"a state that is no object":     state(`["a"]`),
		"a state of numbers":            state(`{"a":1}`),
		"a state that breaks out":       state(`{"a":"b"}}],"type":"ack"`),
		"a state that is too long":      state(`{"a":"` + strings.Repeat("x", protocol.MaxGroupState) + `"}`),
		"a state that is not UTF-8":     state("{\"a\":\"\xff\"}"),
	}
	for why, b := range told {
		err := n.receiver.handleTell(topic, append(cluster.NewTell(len(b)), b...), b)
		if err == nil {
			t.Errorf("%s: is done", why)
		}
	}
	for why, o := range map[string]wire.Order{
		"a verb that is told, asked":      {Verb: wire.VerbClose, Args: []byte("x")},
		"a verb that is not known":        {Verb: 200},
		"groups cut off":                  {Verb: wire.VerbJoin, Args: []byte{2, 1, 'a'}},
		"groups longer than all":          {Verb: wire.VerbLeave, Args: binary.AppendUvarint(nil, 1<<40)},
		"a permission that is not known":  {Verb: wire.VerbGrant, Args: []byte{9, 0}},
		"a permission without a group":    {Verb: wire.VerbRevoke, Args: []byte{byte(webpubsub.SendToGroup)}},
		"a permission for a group cut":    {Verb: wire.VerbAllowed, Args: []byte{byte(webpubsub.SendToGroup), 4, 'g'}},
		"a filter that is none":           {Verb: wire.VerbExists, Filter: "groups eq 1"},
		"a connection of another tenant":  {Verb: wire.VerbExists, Conn: c.ID, Target: webpubsub.HubKey{Tenant: "other", Hub: foreignHub.Hub}},
		"a connection of another hub":     {Verb: wire.VerbJoin, Conn: c.ID, Target: webpubsub.HubKey{Tenant: foreignHub.Tenant, Hub: "other"}, Args: wire.AppendStrings(nil, []string{"a"})},
		"a handoff of what is nobody's":   {Verb: wire.VerbHandoffBegin, Conn: "nobody", Target: foreignHub, Args: wire.AppendString(wire.AppendString(nil, "token"), "credential")},
		"a handoff without a right to it": {Verb: wire.VerbHandoffBegin, Conn: c.ID, Target: foreignHub, Args: wire.AppendString(wire.AppendString(nil, "token"), "credential")},
		"a part of a handoff not begun":   {Verb: wire.VerbHandoffRead, Conn: c.ID, Target: foreignHub, Args: wire.AppendString(nil, "token")},
		"the end of a handoff not begun":  {Verb: wire.VerbHandoffCommit, Conn: c.ID, Target: foreignHub, Args: wire.AppendString(nil, "token")},
		"members of what is not a list":   {Verb: wire.VerbMembers, Conn: c.ID, Target: foreignHub},
		"a connection that is not a name": {Verb: wire.VerbExists, Conn: strings.Repeat("\xff", 1<<16), Target: foreignHub},
	} {
		listed := n.conns.List(topic)
		if o.Conn != "" {
			listed = nil
		}
		if status, text := wire.ReadStatus(n.receiver.answer(n.inbox, &o, listed)); status == wire.StatusOK {
			t.Errorf("%s: is done, with %q", why, text)
		}
	}
	if groups := n.conns.Groups(c); n.conns.Conn(c.ID) != c || len(groups) != 1 || groups[0] != "g" || c.Allows(webpubsub.SendToGroup, "g") {
		t.Errorf("the connection is in %v, or has rights, or is gone; want it as it was", groups)
	}
}

// FuzzForeignOrders has a node do and answer whatever another may send.
func FuzzForeignOrders(f *testing.F) {
	envelope := wire.AppendEnvelopeHeader(nil, webpubsub.DataText, time.Minute)
	envelope, e := protocol.AppendMessage(envelope, &webpubsub.Message{Group: "g", Data: webpubsub.Text("x")})
	wire.CompleteEnvelope(envelope, e)
	for _, o := range []wire.Order{
		{Verb: wire.VerbMessage, Filter: "userId eq 'u'", Args: envelope},
		{Verb: wire.VerbClose, Args: []byte("reason"), Except: []string{"x"}},
		{Verb: wire.VerbJoin, Args: wire.AppendStrings(nil, []string{"a", "b"})},
		{Verb: wire.VerbLeave, Args: wire.AppendStrings(nil, nil)},
		{Verb: wire.VerbGrant, Args: permissionArgs(webpubsub.SendToGroup, "g")},
		{Verb: wire.VerbMembers, Args: binary.AppendUvarint(wire.AppendString(nil, "after"), 9)},
	} {
		f.Add(o.Append(nil))
	}
	n := alone(f)
	topic := cluster.Topic(foreignHub, webpubsub.ScopeGroup, "g")
	f.Fuzz(func(t *testing.T, b []byte) {
		var o wire.Order
		if err := o.Read(b); err != nil {
			return
		}
		payload := append(cluster.NewTell(len(b)), b...)
		for _, codec := range protocol.Codecs {
			c := openIn(t, n, codec)
			_ = n.receiver.handleTell(topic, payload, b)
			o.Conn, o.Target = c.ID, foreignHub
			_ = n.receiver.handleTell(topic, payload, o.Append(nil))
			n.receiver.answer(topic, &o, nil)
			o.Conn = ""
			n.receiver.answer(topic, &o, n.conns.List(topic))
			n.conns.Close(c, hub.ReasonRequested.Closing(""))
		}
	})
}
