package gateway

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// Each verb is asked of one node for connections of the other, and of both.
//
// checklist:O06
func TestSendAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		here, there := a.join(codec, "ana", "room"), b.join(codec, "ben", "room")
		rest := a.rest()
		for user, pair := range map[string][2]*wsclient.Client{"ana": {here, there}, "ben": {there, here}} {
			c, other := pair[0], pair[1]
			id := connectionOf(t, user, a, b)
			must(t, rest.SendToConnection(within(t), id, text("connection")))
			wantMessage(t, c, "connection")
			must(t, rest.SendToUser(within(t), user, text("user")))
			wantMessage(t, c, "user")
			must(t, rest.SendToAll(within(t), text("all but"), dataplane.Except(id)))
			must(t, rest.SendToGroup(within(t), "room", text("filtered"), dataplane.Filter(fmt.Sprintf("userId eq '%s'", user))))
			wantMessage(t, c, "filtered")
			wantMessage(t, other, "all but")
		}
		if codec != "" { // simple clients address nobody
			must(t, here.SendToGroup(within(t), "room", text("from a client"), wsclient.SendOptions{NoEcho: true}))
			wantMessage(t, there, "from a client")
		}
	})
}

// TestEverySubprotocolAcrossNodes sends each type of data in each subprotocol to clients of every other, on both nodes
// (client-protobuf.md section 2).
//
// checklist:P04 C15
func TestEverySubprotocolAcrossNodes(t *testing.T) {
	t.Parallel()
	data := []webpubsub.Data{text("hi \"é\"\n"), {Type: webpubsub.DataJSON, Bytes: []byte(`{"a":[1.50,"\u00e9"]}`)},
		{Type: webpubsub.DataBinary, Bytes: []byte{0, 1, 255}}, {Type: webpubsub.DataProtobuf, Bytes: []byte("\x0a\x03x/y\x12\x01v")}}
	pairs(t, func(t *testing.T, a, b *server) {
		clients := map[string][]*wsclient.Client{}
		for _, s := range []*server{a, b} {
			for _, codec := range codecs {
				clients[codec] = append(clients[codec], s.join(codec, "ana", "room"))
			}
		}
		for from, senders := range clients {
			if from == "" {
				continue
			}
			for _, sender := range senders {
				for _, d := range data {
					must(t, sender.SendToGroup(within(t), "room", d, wsclient.SendOptions{}))
					for to, receivers := range clients {
						for _, c := range receivers {
							wantData(t, from, to, c, "room", d)
						}
					}
				}
			}
		}
		for _, d := range data[:3] { // REST has no protobuf
			must(t, a.rest().SendToUser(within(t), "ana", d))
			for to, receivers := range clients {
				for _, c := range receivers {
					wantData(t, "REST", to, c, "", d)
				}
			}
		}
	})
}

// wantData checks that c, which speaks to, gets d as one who speaks from has sent it: ana to a group, or else the server.
func wantData(t *testing.T, from, to string, c *wsclient.Client, group string, d webpubsub.Data) {
	t.Helper()
	want := wsclient.Message{Group: group, Data: d}
	if group != "" && !isProtobuf(to) { // which has no field for it
		want.FromUserID = "ana"
	}
	if to == "" { // a payload in a text or a binary frame
		want = wsclient.Message{Data: webpubsub.Data{Type: webpubsub.DataText, Bytes: d.Bytes}}
		if d.Type == webpubsub.DataBinary || d.Type == webpubsub.DataProtobuf {
			want.Data.Type = webpubsub.DataBinary
		}
	}
	got, err := c.Receive(within(t))
	must(t, err)
	got.SequenceID = 0
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q to %q: got %+v, want %+v", from, to, got, want)
	}
}

// connectionOf returns the id of a user's only connection, which a simple client is not told.
func connectionOf(t *testing.T, user string, nodes ...*server) (id string) {
	t.Helper()
	for _, s := range nodes {
		for _, c := range s.conns.Conns() {
			if c.UserID == user {
				id = c.ID
			}
		}
	}
	if id == "" {
		t.Fatalf("user %s has no connection", user)
	}
	return id
}

// checklist:R07 R11 R17
func TestExistsAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		c := b.join(codec, "ben", "room")
		id := connectionOf(t, "ben", b)
		rest := a.rest()
		check := func(want bool) {
			t.Helper()
			connection, err1 := rest.ConnectionExists(within(t), id)
			user, err2 := rest.UserExists(within(t), "ben")
			group, err3 := rest.GroupExists(within(t), "room")
			if err := errors.Join(err1, err2, err3); err != nil || connection != want || user != want || group != want {
				t.Errorf("got connection %v, user %v, group %v, %v; want %v", connection, user, group, err, want)
			}
		}
		check(true)
		must(t, rest.CloseConnection(within(t), id, "enough"))
		e := wantClose(t, c, 1000)
		if e.Reason != "enough" || codec != "" && e.System != "enough" {
			t.Errorf("got reason %q and disconnected message %q, want enough", e.Reason, e.System)
		}
		eventually(t, "the connection is gone", func() bool {
			exists, err := rest.ConnectionExists(within(t), id)
			return err == nil && !exists
		})
		eventually(t, "user and group are gone", func() bool {
			user, err1 := rest.UserExists(within(t), "ben")
			group, err2 := rest.GroupExists(within(t), "room")
			return errors.Join(err1, err2) == nil && !user && !group
		})
		check(false)
	})
}

func TestJoinAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		c := b.join(codec, "ben")
		id := connectionOf(t, "ben", b)
		rest := a.rest()
		must(t, rest.AddConnectionToGroup(within(t), "one", id))
		must(t, rest.SendToGroup(within(t), "one", text("to one")))
		wantMessage(t, c, "to one")
		must(t, rest.AddUserToGroup(within(t), "two", "ben"))
		must(t, rest.SendToGroup(within(t), "two", text("to two")))
		wantMessage(t, c, "to two")
		must(t, rest.RemoveConnectionFromGroup(within(t), "one", id))
		must(t, rest.RemoveUserFromGroup(within(t), "two", "ben"))
		for _, group := range []string{"one", "two"} {
			if exists, err := rest.GroupExists(within(t), group); exists || err != nil {
				t.Errorf("group %s: got %v, %v; want that it does not exist", group, exists, err)
			}
		}
		if err := rest.AddConnectionToGroup(within(t), "one", id[:20]+"nobody"); !errors.Is(err, dataplane.ErrNotFound) {
			t.Errorf("got %v, want not found for an unknown connection", err)
		}
		if err := rest.AddUserToGroup(within(t), "one", "nobody"); !errors.Is(err, dataplane.ErrNotFound) {
			t.Errorf("got %v, want not found for an unknown user", err)
		}
		if err := rest.RemoveConnectionFromGroup(within(t), "one", "x"); err != nil {
			t.Errorf("got %v, want nil for leaving with an unknown connection", err)
		}
	})
}

// checklist:R05 R27
func TestJoinByFilterAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		dev1, dev2, boss := a.join(codec, "dev-1"), b.join(codec, "dev-2"), b.join(codec, "boss")
		devs := webpubsub.Audience{Hub: chat, Filter: "startswith(userId,'dev-')"}
		must(t, a.node.Join(within(t), devs, "devs", "more"))
		rest := a.rest()
		must(t, rest.SendToGroup(within(t), "devs", text("devs")))
		must(t, rest.SendToAll(within(t), text("all")))
		for _, c := range []*wsclient.Client{dev1, dev2} {
			wantMessage(t, c, "devs")
			wantMessage(t, c, "all")
		}
		wantMessage(t, boss, "all")
		must(t, a.node.Leave(within(t), webpubsub.Audience{Hub: chat}))
		for _, group := range []string{"devs", "more"} {
			if exists, err := rest.GroupExists(within(t), group); exists || err != nil {
				t.Errorf("group %s: got %v, %v; want that all have left", group, exists, err)
			}
		}
	})
}

// checklist:A05 R23 R24 R25
func TestPermissionsAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		c := b.dial(b.clientURL("ben", nil), codec)
		id := connectionOf(t, "ben", b)
		rest := a.rest()
		allowed := func(want bool) {
			t.Helper()
			if got, err := a.node.Allowed(within(t), chat, id, webpubsub.SendToGroup, "room"); got != want || err != nil {
				t.Errorf("got allowed %v, %v; want %v", got, err, want)
			}
		}
		allowed(false)
		must(t, rest.Grant(within(t), id, webpubsub.SendToGroup, "room"))
		allowed(true)
		if codec != "" {
			must(t, c.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}))
		}
		must(t, rest.Revoke(within(t), id, webpubsub.SendToGroup, "room"))
		allowed(false)
		if codec != "" {
			wantFailure(t, c.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}), protocol.Forbidden)
		}
		if err := rest.Grant(within(t), "nobody", webpubsub.SendToGroup, "room"); !errors.Is(err, dataplane.ErrNotFound) {
			t.Errorf("got %v, want not found", err)
		}
		for i := range webpubsub.MaxRules - 1 {
			must(t, b.conns.Conn(id).Grant(webpubsub.SendToGroup, fmt.Sprint("g", i)))
		}
		if err := a.node.Grant(within(t), chat, id, webpubsub.SendToGroup, "one more"); !errors.Is(err, webpubsub.ErrRuleLimit) {
			t.Errorf("got %v, want the rule limit", err)
		}
	})
}

// checklist:R14
func TestMembersAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		var want []string
		for i, s := range []*server{a, b, a, b, b} {
			user := fmt.Sprint("u", i)
			s.join(codec, user, "room")
			want = append(want, connectionOf(t, user, s))
		}
		slices.Sort(want)
		var got []string
		after := ""
		for range 3 {
			page, err := a.node.Members(within(t), chat, "room", after, 2)
			must(t, err)
			for _, m := range page {
				got = append(got, m.ConnectionID)
				after = m.ConnectionID
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v by pages, want %v", got, want)
		}
	})
}

// checklist:C20 O06 R03 R08 R13 R19
func TestCloseAcrossNodes(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		here, there := a.join(codec, "ana", "room"), b.join(codec, "ana", "room")
		kept := b.join(codec, "kept", "room")
		hub := webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeGroup, Name: "room", Except: []string{connectionOf(t, "kept", b)}}
		must(t, a.node.Close(within(t), hub, "closing time"))
		wantClose(t, here, 1000)
		wantClose(t, there, 1000)
		must(t, a.rest().SendToGroup(within(t), "room", text("still here")))
		wantMessage(t, kept, "still here")
		if reliableCodec(codec) {
			if err := there.Recover(within(t)); err == nil || !isClosed(err, 1008) {
				t.Errorf("got %v from the recovery of a closed connection, want a close with 1008", err)
			}
		}
	})
}

// TestTenantsAreApart has two tenants use the same names, and one of them the other's connection ids.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	pairsInEachCodec(t, func(t *testing.T, a, b *server, codec string) {
		c := b.join(codec, "ana", "room")
		id := connectionOf(t, "ana", b)
		for _, other := range []webpubsub.HubKey{{Tenant: "other", Hub: "chat"}, {Tenant: "default", Hub: "other"}} {
			for _, audience := range []webpubsub.Audience{{}, {Scope: webpubsub.ScopeGroup, Name: "room"},
				{Scope: webpubsub.ScopeUser, Name: "ana"}, {Scope: webpubsub.ScopeConnection, Name: id}} {
				audience.Hub = other
				must(t, a.node.Send(within(t), audience, webpubsub.Message{Data: text("intruder")}))
				must(t, a.node.Close(within(t), audience, "intruder"))
				must(t, a.node.Leave(within(t), audience))
				if exists, err := a.node.Exists(within(t), audience); exists || err != nil {
					t.Errorf("%+v: got exists %v, %v; want no", audience, exists, err)
				}
			}
			err := a.node.Join(within(t), webpubsub.Audience{Hub: other, Scope: webpubsub.ScopeConnection, Name: id}, "g")
			if grant := a.node.Grant(within(t), other, id, webpubsub.SendToGroup, "g"); err == nil || grant == nil {
				t.Errorf("got join %v and grant %v, want errors", err, grant)
			}
		}
		must(t, a.rest().SendToGroup(within(t), "room", text("from home")))
		wantMessage(t, c, "from home")
	})
}
