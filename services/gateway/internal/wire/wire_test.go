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
