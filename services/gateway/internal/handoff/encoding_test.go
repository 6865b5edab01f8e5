package handoff

import (
	"slices"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// FuzzEncoding decodes what a source may send, and what it says must not change by that.
func FuzzEncoding(f *testing.F) {
	permissions, _ := webpubsub.ParseRoles([]string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup.a", "webpubsub.joinLeaveGroups.b*\\?"})
	f.Add((&ConnState{UserID: "u", Subprotocol: "s", Permissions: permissions.Rules(), Groups: []string{"g"}, acks: []uint64{1, 1 << 40}, Exported: []byte("{}")}).encode())
	m := hub.NewMessage(protocol.NewEnvelope(&webpubsub.Message{Group: "g", Data: webpubsub.Text("x")}), hub.MessageOptions{Expires: time.UnixMilli(9)})
	f.Add(encodeKept(hub.Unacked{Last: 7, Messages: []*hub.Message{m, m}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeConnState(b); err == nil {
			again, err := decodeConnState(u.encode())
			if err != nil || again.UserID != u.UserID || !slices.Equal(again.Groups, u.Groups) || !slices.Equal(again.acks, u.acks) || string(again.Exported) != string(u.Exported) {
				t.Errorf("got %+v, %v; want %+v", again, err, u)
			}
			p := u.Permissions.Permissions()
			p.Allows(webpubsub.SendToGroup, "g")
		}
		if k, err := decodeKept(b); err == nil {
			again, err := decodeKept(encodeKept(k))
			if err != nil || again.Last != k.Last || len(again.Messages) != len(k.Messages) {
				t.Errorf("got %+v, %v; want %+v", again, err, k)
			}
		}
	})
}

// TestWhatTravelsStays has the forms that nodes of other versions know.
func TestWhatTravelsStays(t *testing.T) {
	s := ConnState{UserID: "u", Subprotocol: "sp", Groups: []string{"g"}, Exported: []byte("{}"), acks: []uint64{1, 300}, adopted: true}
	s.Permissions.All[webpubsub.SendToGroup] = true
	s.Permissions.Literal[webpubsub.JoinLeaveGroup] = map[string]bool{"a": true}
	s.Permissions.Patterns[webpubsub.JoinLeaveGroup] = []string{"b*"}
	want := "\x01u\x02sp\x01" + "\x01\x00\x00" + "\x00\x01\x02b*\x01\x01a\x01" + "\x02\x01\xac\x02" + "\x01\x01g" + "{}"
	if got := string(s.encode()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(appendChunk(nil, partKept, 300)); got != "\x01\xac\x02" {
		t.Errorf("got %q, want a part and an offset", got)
	}
	if got := string(encodeKept(hub.Unacked{Last: 300})); got != "\xac\x02\x00" {
		t.Errorf("got %q, want the last number and no messages", got)
	}
}
