package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// toRoom is the query of a simple client that sends to group room (client-json.md 1.3); of what is repeated the last
// counts.
const toRoom = "&webpubsub_mode=sendEvent&webpubsub_mode=SENDtoGROUP&group=%20&group=room"

// TestSimpleClientSendsToGroup has a simple client in sendToGroup mode, and receivers that speak each subprotocol.
//
// checklist:C09
func TestSimpleClientSendsToGroup(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		member := s.join(codec, "ana", "room")
		sender := s.dial(s.clientURL("ben", []string{"webpubsub.sendToGroup.room"})+toRoom, "")
		for _, d := range []webpubsub.Data{text("raw"), text(""), {Type: webpubsub.DataBinary, Bytes: []byte{0, 255}}} {
			must(t, sender.Send(within(t), d))
			m, err := member.Receive(within(t))
			must(t, err)
			if m.Data.Type != d.Type || string(m.Data.Bytes) != string(d.Bytes) {
				t.Errorf("got %v %q, want %v %q", m.Data.Type, m.Data.Bytes, d.Type, d.Bytes)
			}
			if codec != "" && (m.Group != "room" || m.FromUserID != "ben" && !isProtobuf(codec)) {
				t.Errorf("got a message of group %q from %q, want room and ben", m.Group, m.FromUserID)
			}
		}
		must(t, s.rest().SendToUser(within(t), "ben", text("first"))) // the sender has not joined the group
		wantMessage(t, sender, "first")

		must(t, s.rest().Revoke(within(t), connectionOf(t, "ben", s), webpubsub.SendToGroup, "room"))
		must(t, sender.Send(within(t), text("raw")))
		wantClose(t, sender, 1008)
	})
}

// checklist:C09
func TestSimpleClientsEcho(t *testing.T) {
	t.Parallel()
	for noEcho, echoes := range map[string]bool{"": true, "&noEcho=": true, "&noEcho=True&noEcho=FALSE": true, "&noEcho=false&noEcho=TRUE": false} {
		t.Run("noEcho "+noEcho, func(t *testing.T) {
			s := start(t, setup{})
			member := s.join(protocol.NameJSON, "ana", "room")
			sender := s.dial(s.clientURL("ben", all, "room")+toRoom+noEcho, "")
			must(t, sender.Send(within(t), text("own")))
			wantMessage(t, member, "own")
			if echoes {
				wantMessage(t, sender, "own")
				return
			}
			must(t, s.rest().SendToGroup(within(t), "room", text("after")))
			wantMessage(t, sender, "after")
		})
	}
}

// TestSimpleClientMayNotSendToGroup says so by closing the connection, as there are no acks.
//
// checklist:C09
func TestSimpleClientMayNotSendToGroup(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	c := s.dial(s.clientURL("ben", []string{"webpubsub.sendToGroup.other", "webpubsub.joinLeaveGroup.room"}, "room")+toRoom, "")
	must(t, c.Send(within(t), text("raw")))
	if e := wantClose(t, c, 1008); !strings.Contains(e.Reason, "'room'") {
		t.Errorf("got reason %q, want the group that is not allowed", e.Reason)
	}
}

// TestModeIsForSimpleClientsOnly gives the mode to a PubSub client, whose events stay events.
//
// checklist:C09
func TestModeIsForSimpleClientsOnly(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		member := s.join(protocol.NameJSON, "ana", "room")
		c := s.dial(s.clientURL("ben", all)+toRoom, codec)
		wantFailure(t, c.SendEvent(within(t), "e", text("not for the group")), protocol.InternalServerError)
		must(t, c.SendToGroup(within(t), "room", text("for the group"), wsclient.SendOptions{}))
		wantMessage(t, member, "for the group")
	})
}

// TestModeOfACustomSubprotocol has the handler choose a subprotocol that is none of ours: the client is a simple one.
//
// checklist:C06 C09
func TestModeOfACustomSubprotocol(t *testing.T) {
	t.Parallel()
	s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connect" {
			_, _ = io.WriteString(w, `{"subprotocol":"mine"}`)
		}
	})))
	member := s.dial(s.clientURL("ana", nil, "room"), "mine")
	sender := s.dial(s.clientURL("ben", all)+toRoom, "mine")
	must(t, sender.Send(within(t), text("raw")))
	wantMessage(t, member, "raw")
}

// TestModeIsCheckedBeforeTheUpgrade refuses wrong values also where they would have no effect.
//
// checklist:C09
func TestModeIsCheckedBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		for _, query := range []string{"&webpubsub_mode=shout", "&webpubsub_mode=sendToGroup", "&webpubsub_mode=sendToGroup&group=",
			"&webpubsub_mode=sendToGroup&group=room&group=%20", "&webpubsub_mode=sendToGroup&group=" + strings.Repeat("g", 1025),
			"&webpubsub_mode=sendToGroup&group=g&noEcho=1", "&webpubsub_mode=sendToGroup&group=g&noEcho=true&noEcho=maybe"} {
			_, err := s.tryDial(s.clientURL("ana", all)+query, codec)
			var refused *wsclient.HandshakeError
			if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
				t.Errorf("%s: got %v, want 400", query, err)
			}
		}
		for _, query := range []string{"&webpubsub_mode=", "&webpubsub_mode=sendevent&group=&noEcho=maybe", "&group=%20&noEcho=1"} {
			_, err := s.tryDial(s.clientURL("ana", all)+query, codec)
			must(t, err)
		}
	})
}
