package gateway

import (
	"fmt"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// TestAThrottledClientThatHasLeft sends 600 messages where 25 a second are allowed and leaves, without a close frame: that is noticed, though what it has
// sent waits to be read, and most of it is not sent in its name any more. Pings alone would find it after all.
func TestAThrottledClientThatHasLeft(t *testing.T) {
	t.Parallel()
	s := start(t, setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", MessagesPerSecond: 25}}}})
	const sent = 600 // fits into the buffer of the socket, behind which the end is seen
	listener := s.join(protocol.NameJSON, "listener", "g")
	client := s.join(protocol.NameJSON, "sender")
	for i := range sent {
		must(t, client.SendToGroup(within(t), "g", text(fmt.Sprint(i)), wsclient.SendOptions{NoAck: true}))
	}
	client.Drop()
	eventually(t, "the sender's end to be noticed", func() bool { return s.conns.Len() == 1 })
	must(t, s.rest().SendToGroup(within(t), "g", text("the last")))
	heard := 0
	for receive(t, listener) != "the last" {
		heard++
	}
	if heard == 0 || heard > sent/4 {
		t.Errorf("%d of %d messages were sent, want those of the first seconds", heard, sent)
	}
}
