package wire

import (
	"reflect"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

func TestOrdersAreReadAsWritten(t *testing.T) {
	for _, want := range []Order{
		{Verb: VerbClose, Args: []byte("reason")},
		{Verb: VerbMessage, Except: []string{"a", ""}, Filter: "userId eq 'x'", Args: []byte{1}},
		{Verb: VerbExists, Conn: "c", Target: webpubsub.HubKey{Tenant: "t", Hub: "h"}, Args: []byte{}},
	} {
		var got Order
		if err := got.Read(want.Append(nil)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestEnvelopesAreReadAsWritten(t *testing.T) {
	m := &webpubsub.Message{Group: "g", Data: webpubsub.Text("hello")}
	b := AppendEnvelopeHeader([]byte("before"), m.Data.Type, time.Minute)
	b, e := protocol.AppendMessage(b, m)
	CompleteEnvelope(b, e)
	e, expires, err := ReadEnvelope(b[len("before"):])
	if err != nil || string(e.AppendPayload(nil)) != "hello" || e.DataType != webpubsub.DataText {
		t.Errorf("got %s, %v; want the message", e.JSON, err)
	}
	if left := time.Until(expires); left < 58*time.Second || left > time.Minute {
		t.Errorf("got %v to live, want a minute", left)
	}
}

// FuzzOrders has no payload crash a node; one that can be read is written as it was.
func FuzzOrders(f *testing.F) {
	m := Order{Verb: VerbMessage, Except: []string{"x"}, Conn: "c", Target: webpubsub.HubKey{Tenant: "t", Hub: "h"}}
	f.Add(m.Append(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o, again Order
		if err := o.Read(b); err != nil {
			return
		}
		if err := again.Read(o.Append(nil)); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("got %+v, %v from what %+v is written as", again, err, o)
		}
		_, _, _ = ReadEnvelope(o.Args)
	})
}

// TestWhatTravelsStays has the numbers and forms that nodes of other versions know.
func TestWhatTravelsStays(t *testing.T) {
	for verb, number := range map[Verb]byte{VerbMessage: 1, VerbClose: 2, VerbExists: 3, VerbJoin: 4, VerbLeave: 5, VerbGrant: 6, VerbRevoke: 7,
		VerbAllowed: 8, VerbMembers: 9, VerbHandoffBegin: 10, VerbHandoffRead: 11, VerbHandoffCommit: 12, VerbHandoffCancel: 13, VerbHandoffMark: 14,
		VerbState: 15, VerbStates: 16, VerbTrace: 17} {
		if byte(verb) != number {
			t.Errorf("got verb %d, want %d", verb, number)
		}
	}
	for status, number := range map[Status]byte{StatusOK: 0, StatusNotFound: 1, StatusRuleLimit: 2, StatusUnavailable: 3, StatusFailed: 4, StatusMoving: 5} {
		if byte(status) != number {
			t.Errorf("got status %d, want %d", status, number)
		}
	}
	o := Order{Verb: VerbJoin, Target: webpubsub.HubKey{Tenant: "t", Hub: "hub"}, Conn: "id", Except: []string{"x", "yz"}, Filter: "f", Args: AppendBool([]byte{9}, true)}
	if got, want := string(o.Append(nil)), "\x04\x02id\x01t\x03hub\x02\x01x\x02yz\x01f\x09\x01"; got != want {
		t.Errorf("got order %q, want %q", got, want)
	}
	e := protocol.Envelope{JSON: []byte(`{"d":"x"}`), DataType: webpubsub.DataText, Data: 5, End: 8}
	if got, want := string(AppendEnvelope(nil, e, 300)), "\xd8\x04"+string(rune(webpubsub.DataText))+"\x00\x00\x00\x05\x00\x00\x00\x08"+`{"d":"x"}`; got != want {
		t.Errorf("got envelope %q, want %q", got, want)
	}
}
