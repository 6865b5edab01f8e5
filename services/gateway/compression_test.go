package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// dialCompressed is dial with an offer of compression.
func (s *server) dialCompressed(address, codec string) *wsclient.Client {
	s.t.Helper()
	c, err := wsclient.Dial(within(s.t), address, wsclient.Options{Subprotocols: offer(codec), Compression: true})
	must(s.t, err)
	s.t.Cleanup(c.Drop)
	return c
}

// TestCompressionInOneGroup has clients of every subprotocol, on two nodes, with and without compression, send to their
// group, and get all that is sent.
func TestCompressionInOneGroup(t *testing.T) {
	s := setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Compression: true}}}}
	pairsOf(t, s, func(t *testing.T, a, b *server) {
		var clients, senders []*wsclient.Client
		for _, on := range []*server{a, b} {
			eachCodec(t, func(t *testing.T, codec string) {
				plain := on.dial(on.clientURL("plain", all, "group"), codec)
				compressed := on.dialCompressed(on.clientURL("compressed", all, "group"), codec)
				if !compressed.Compressed() || plain.Compressed() {
					t.Errorf("offered and agreed on: %v; neither: %v", compressed.Compressed(), !plain.Compressed())
				}
				clients = append(clients, plain, compressed)
				if codec != "" {
					senders = append(senders, plain, compressed)
				}
			})
		}
		for i, sender := range senders {
			want := fmt.Sprintf("<%d> %s", i, strings.Repeat("Grüße an alle, ", i*20))
			must(t, sender.SendToGroup(within(t), "group", webpubsub.Text(want), wsclient.SendOptions{}))
			for at, c := range clients {
				m, err := c.Receive(within(t))
				if err != nil || string(m.Data.Bytes) != want {
					t.Fatalf("client %d: got %.50q (%d bytes), %v; want %.50q (%d bytes)", at, m.Data.Bytes, len(m.Data.Bytes), err, want, len(want))
				}
			}
		}
	})
}

// TestCompressionIsOptIn is for hubs that ask for it.
func TestCompressionIsOptIn(t *testing.T) {
	s := start(t, setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat"}}}})
	if c := s.dialCompressed(s.clientURL("ana", all), ""); c.Compressed() {
		t.Error("compression was agreed on for a hub that does not want it")
	}
}

// TestCompressionOnRecovery gives each socket of a connection what its own handshake has agreed on.
func TestCompressionOnRecovery(t *testing.T) {
	s := start(t, setup{tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Compression: true}}}})
	for _, codec := range []string{protocol.NameReliableJSON, protocol.NameReliableProtobuf} {
		c := s.dialCompressed(s.clientURL("ana", all, "group"), codec)
		other := s.dial(s.clientURL("bo", all), codec)
		for i := range 3 {
			want := fmt.Sprintf("<%d> %s", i, strings.Repeat("long ", 500))
			c.Drop()
			must(t, other.SendToGroup(within(t), "group", webpubsub.Text(want), wsclient.SendOptions{}))
			must(t, c.Recover(within(t)))
			if m, err := c.Receive(within(t)); err != nil || string(m.Data.Bytes) != want {
				t.Fatalf("%s: got %.50q, %v; want %.50q", codec, m.Data.Bytes, err, want)
			}
			if !c.Compressed() {
				t.Error("a recovered connection has no compression")
			}
		}
		c.Drop()
		other.Drop()
	}
}
