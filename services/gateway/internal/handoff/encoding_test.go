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
	f.Add((&ConnState{UserID: "u", Subprotocol: "s", Permissions: permissions.Rules(), Groups: []string{"g"}, acks: []uint64{1, 1 << 40}, Snapshot: []byte("{}")}).encode())
	m := hub.NewMessage(protocol.NewEnvelope(&webpubsub.Message{Group: "g", Data: webpubsub.Text("x")}), hub.MessageOptions{Expires: time.UnixMilli(9)})
	f.Add(encodeKept(hub.Unacked{Last: 7, Messages: []*hub.Message{m, m}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeConnState(b); err == nil {
			again, err := decodeConnState(u.encode())
			if err != nil || again.UserID != u.UserID || !slices.Equal(again.Groups, u.Groups) || !slices.Equal(again.acks, u.acks) || string(again.Snapshot) != string(u.Snapshot) {
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
