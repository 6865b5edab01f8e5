package wire

import (
	"encoding/binary"
	"reflect"
	"slices"
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

// TestOriginTravels as an id that is not meant, with which a node of version 0.1 can do nothing, and comes along when an order is passed on.
func TestOriginTravels(t *testing.T) {
	sent := Order{Verb: VerbMessage, Origin: NewOrigin("node-one"), Except: []string{"x"}, Conn: "c", Target: webpubsub.HubKey{Tenant: "t", Hub: "h"},
		Args: []byte("args")}
	payload := sent.Append([]byte("tell"))
	binary.BigEndian.PutUint64(sent.Origin.NumberIn(payload), 1234)

	old := Reader{Rest: payload[len("tell\x01\x01c\x01t\x01h"):]}
	if got := old.Strings(); len(got) != 2 || got[0][0] != 0 || got[1] != "x" {
		t.Errorf("an older node reads %q, want an id that no connection has, and x", got)
	}
	var got Order
	if err := got.Read(payload[len("tell"):]); err != nil {
		t.Fatal(err)
	}
	if got.Origin.Publisher != sent.Origin.Publisher || got.Origin.Number != 1234 || !slices.Equal(got.Except, sent.Except) || string(got.Args) != "args" {
		t.Errorf("got %+v, want %+v with number 1234", got, sent)
	}
	copied, number := got.PassedOn(payload, "node-two")
	binary.BigEndian.PutUint64(number, 5)
	var again Order
	if err := again.Read(copied[len("tell"):]); err != nil || again.Origin.Publisher != NewOrigin("node-two").Publisher || again.Origin.Number != 5 {
		t.Errorf("got %+v, %v; want number 5 of the node that passes it on", again, err)
	}
	if err := got.Read(payload[len("tell"):]); err != nil || got.Origin.Number != 1234 {
		t.Errorf("what was passed on has changed: %+v, %v", got, err)
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
	m.Origin = NewOrigin("node-one")
	f.Add(m.Append(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o, again Order
		if err := o.Read(b); err != nil {
			return
		}
		err := again.Read(o.Append(nil))
		o.Origin.at, again.Origin.at = 0, 0 // where it stood in one and stands in the other
		if err != nil || !reflect.DeepEqual(again, o) {
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
