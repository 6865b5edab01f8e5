package gateway

import (
	"testing"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// TestSystemMessages reads frame by frame what a client sees of a connection that the application closes: connected is
// the first frame, disconnected the last before the close frame, and nothing unasked stands between them.
//
// checklist:C07 C16 C20
func TestSystemMessages(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, _, err := websocket.Dial(within(t), s.clientURL("ana", all), &websocket.DialOptions{Subprotocols: []string{codec}})
		must(t, err)
		defer func() { _ = c.CloseNow() }()
		read := func() (r protocol.Response) {
			t.Helper()
			kind, frame, err := c.Read(within(t))
			must(t, err)
			by, _ := protocol.ByName(codec)
			must(t, by.DecodeResponse(kind == websocket.MessageBinary, frame, &r))
			return r
		}
		by, _ := protocol.ByName(codec)
		first := read()
		if got := first.Connected; first.Kind != protocol.ConnectedResponse || got.UserID != "ana" || got.ConnectionID == "" || (got.ReconnectionToken != "") != by.Reliable() {
			t.Errorf("the first frame is %+v, want connected, with a token only for reliable connections", first)
		}
		a := webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeConnection, Name: first.Connected.ConnectionID}
		must(t, s.node.Close(within(t), a, "closing time"))
		if last := read(); last.Kind != protocol.DisconnectedResponse || last.Reason != "closing time" {
			t.Errorf("the last frame is %+v, want disconnected with the reason", last)
		}
		_, _, err = c.Read(within(t))
		if got := websocket.CloseStatus(err); got != websocket.StatusNormalClosure {
			t.Errorf("got %v, want a close with 1000", err)
		}
	})
}
