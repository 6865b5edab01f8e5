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
		o := order{verb: verbMembers, args: binary.AppendUvarint(appendString(nil, ""), limit)}
		if status, _ := readStatus(n.answer(topic, &o, n.conns.List(topic))); status != statusOK {
			t.Errorf("at most %d members: got status %d, want %d", limit, status, statusOK)
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
		b, e := protocol.AppendMessage(appendEnvelopeHeader(nil, kind, 0), &webpubsub.Message{Group: "g", Data: webpubsub.Text("x")})
		e.Data, e.End = data, end
		setEnvelope(b, e)
		return b
	}
	message := func(args []byte) []byte { return (&order{verb: verbMessage, args: args}).encode(nil) }
	state := func(text string) []byte {
		item := protocol.GroupStateItem{ConnectionID: "c", UpdatedAt: 1, State: []byte(text)}
		return (&order{verb: verbState, args: appendStateItem(nil, item)}).encode(nil)
	}
	told := map[string][]byte{
		"nothing":                       {},
		"no length":                     {byte(verbClose)},
		"a length beyond the end":       {byte(verbClose), 5, 'a'},
		"a length of 2^63":              append([]byte{byte(verbClose)}, binary.AppendUvarint(nil, 1<<63)...),
		"a length of eleven bytes":      append([]byte{byte(verbClose)}, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"...),
		"a list longer than all":        append([]byte{byte(verbMessage), 0}, binary.AppendUvarint(nil, 1<<40)...),
		"a list cut off":                {byte(verbMessage), 0, 2, 1, 'a'},
		"a verb that is not known":      (&order{verb: 200}).encode(nil),
		"a verb that is asked, told":    (&order{verb: verbJoin, args: appendStrings(nil, []string{"a"})}).encode(nil),
		"a filter that is none":         (&order{verb: verbMessage, filter: "userId eq", args: envelope(webpubsub.DataText, 1, 2)}).encode(nil),
		"a close by such a filter":      (&order{verb: verbClose, filter: "(", args: []byte("x")}).encode(nil),
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
		err := n.obey(topic, append(cluster.NewTell(len(b)), b...), b)
		if err == nil {
			t.Errorf("%s: is obeyed", why)
		}
	}
	for why, o := range map[string]order{
		"a verb that is told, asked":      {verb: verbClose, args: []byte("x")},
		"a verb that is not known":        {verb: 200},
		"groups cut off":                  {verb: verbJoin, args: []byte{2, 1, 'a'}},
		"groups longer than all":          {verb: verbLeave, args: binary.AppendUvarint(nil, 1<<40)},
		"a permission that is not known":  {verb: verbGrant, args: []byte{9, 0}},
		"a permission without a group":    {verb: verbRevoke, args: []byte{byte(webpubsub.SendToGroup)}},
		"a permission for a group cut":    {verb: verbAllowed, args: []byte{byte(webpubsub.SendToGroup), 4, 'g'}},
		"a filter that is none":           {verb: verbExists, filter: "groups eq 1"},
		"a connection of another tenant":  {verb: verbExists, conn: c.ID, target: webpubsub.HubKey{Tenant: "other", Hub: foreignHub.Hub}},
		"a connection of another hub":     {verb: verbJoin, conn: c.ID, target: webpubsub.HubKey{Tenant: foreignHub.Tenant, Hub: "other"}, args: appendStrings(nil, []string{"a"})},
		"a move of what is nobody's":      {verb: verbMoveBegin, conn: "nobody", target: foreignHub, args: appendString(appendString(nil, "token"), "credential")},
		"a move without a right to it":    {verb: verbMoveBegin, conn: c.ID, target: foreignHub, args: appendString(appendString(nil, "token"), "credential")},
		"a part of a move not begun":      {verb: verbMoveRead, conn: c.ID, target: foreignHub, args: appendString(nil, "token")},
		"the end of a move not begun":     {verb: verbMoveCommit, conn: c.ID, target: foreignHub, args: appendString(nil, "token")},
		"members of what is not a list":   {verb: verbMembers, conn: c.ID, target: foreignHub},
		"a connection that is not a name": {verb: verbExists, conn: strings.Repeat("\xff", 1<<16), target: foreignHub},
	} {
		listed := n.conns.List(topic)
		if o.conn != "" {
			listed = nil
		}
		if status, text := readStatus(n.answer(n.inbox, &o, listed)); status == statusOK {
			t.Errorf("%s: is done, with %q", why, text)
		}
	}
	if groups := n.conns.Groups(c); n.conns.Conn(c.ID) != c || len(groups) != 1 || groups[0] != "g" || c.Allows(webpubsub.SendToGroup, "g") {
		t.Errorf("the connection is in %v, or has rights, or is gone; want it as it was", groups)
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
		var o order
		if err := o.read(b); err != nil {
			return
		}
		payload := append(cluster.NewTell(len(b)), b...)
		for _, codec := range protocol.Codecs {
			c := openIn(t, n, codec)
			_ = n.obey(topic, payload, b)
			o.conn, o.target = c.ID, foreignHub
			_ = n.obey(topic, payload, o.encode(nil))
			n.answer(topic, &o, nil)
			o.conn = ""
			n.answer(topic, &o, n.conns.List(topic))
			n.conns.Close(c, hub.ReasonRequested.Closing(""))
		}
	})
}
