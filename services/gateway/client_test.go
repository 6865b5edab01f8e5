package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// checklist:C15
func TestGroupMessageReachesEachKindOfClient(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		member := s.join(codec, "ana", "room")
		stranger := s.join(codec, "cara", "other")
		sender := s.join(protocol.NameJSON, "ben")
		must(t, sender.SendToGroup(within(t), "room", text("hello"), wsclient.SendOptions{}))
		wantMessage(t, member, "hello")
		must(t, sender.SendToGroup(within(t), "other", text("other"), wsclient.SendOptions{}))
		wantMessage(t, stranger, "other")
	})
}

// checklist:C15
func TestMessageSaysWhoSentItAndWhere(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana", "room")
		must(t, c.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}))
		m, err := c.Receive(within(t))
		must(t, err)
		user := "ana"
		if isProtobuf(codec) {
			user = "" // has no field for it
		}
		if m.Group != "room" || m.FromUserID != user {
			t.Errorf("got group %q from %q, want room from %q", m.Group, m.FromUserID, user)
		}
	})
}

// checklist:C11
func TestNoEcho(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, other := s.join(codec, "ana", "room"), s.join(codec, "ana", "room")
		must(t, c.SendToGroup(within(t), "room", text("not for me"), wsclient.SendOptions{NoEcho: true}))
		must(t, c.SendToGroup(within(t), "room", text("for all"), wsclient.SendOptions{}))
		wantMessage(t, c, "for all")
		wantMessage(t, other, "not for me")
		wantMessage(t, other, "for all")
	})
}

// checklist:C10
func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, sender := s.join(codec, "ana"), s.join(codec, "ben")
		for round := range 3 {
			must(t, c.Join(within(t), "room"))
			must(t, c.Join(within(t), "room")) // twice is fine
			want := fmt.Sprint("in ", round)
			must(t, sender.SendToGroup(within(t), "room", text(want), wsclient.SendOptions{}))
			wantMessage(t, c, want)
			must(t, c.Leave(within(t), "room"))
			must(t, c.Leave(within(t), "room"))
			must(t, sender.SendToGroup(within(t), "room", text("out"), wsclient.SendOptions{}))
		}
		if exists, err := s.rest().GroupExists(within(t), "room"); exists || err != nil {
			t.Errorf("got %v, %v: want no group without members", exists, err)
		}
	})
}

// checklist:C14 A04
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.dial(s.clientURL("ana", []string{"webpubsub.joinLeaveGroup.mine", "webpubsub.sendToGroups.a.*"}), codec)
		must(t, c.Join(within(t), "mine"))
		wantFailure(t, c.Join(within(t), "other"), protocol.Forbidden)
		wantFailure(t, c.Leave(within(t), "other"), protocol.Forbidden)
		must(t, c.SendToGroup(within(t), "a.b", text("x"), wsclient.SendOptions{}))
		wantFailure(t, c.SendToGroup(within(t), "mine", text("x"), wsclient.SendOptions{}), protocol.Forbidden)
	})
}

// TestOverTLS has every byte go through outboxes, as TLS records cannot be written in part.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		secure := httptest.NewTLSServer(s.Handler())
		t.Cleanup(secure.Close)
		address := secure.URL + s.clientURL("ana", all, "room")[len(s.url):]
		c, err := wsclient.Dial(within(t), address, wsclient.Options{Subprotocols: offer(codec), TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig})
		must(t, err)
		t.Cleanup(c.Drop)
		sender := s.join(protocol.NameJSON, "ben")
		for i := range 200 {
			must(t, sender.SendToGroup(within(t), "room", text(fmt.Sprint(i)), wsclient.SendOptions{}))
		}
		for i := range 200 {
			wantMessage(t, c, fmt.Sprint(i))
		}
		must(t, s.rest().CloseUser(within(t), "ana", "bye"))
		wantClose(t, c, 1000)
	})
}
