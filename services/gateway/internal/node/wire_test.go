package node

import (
	"reflect"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

func TestOrdersAreReadAsWritten(t *testing.T) {
	for _, want := range []order{
		{verb: verbClose, args: []byte("reason")},
		{verb: verbMessage, except: []string{"a", ""}, filter: "userId eq 'x'", args: []byte{1}},
		{verb: verbExists, conn: "c", target: webpubsub.HubKey{Tenant: "t", Hub: "h"}, args: []byte{}},
	} {
		var got order
		if err := got.read(want.encode(nil)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestEnvelopesAreReadAsWritten(t *testing.T) {
	m := &webpubsub.Message{Group: "g", Data: webpubsub.Text("hello")}
	b := appendEnvelopeHeader([]byte("before"), m.Data.Type, time.Minute)
	b, e := protocol.AppendMessage(b, m)
	setEnvelope(b, e)
	e, expires, err := readEnvelope(b[len("before"):])
	if err != nil || string(e.AppendPayload(nil)) != "hello" || e.DataType != webpubsub.DataText {
		t.Errorf("got %s, %v; want the message", e.JSON, err)
	}
	if left := time.Until(expires); left < 58*time.Second || left > time.Minute {
		t.Errorf("got %v to live, want a minute", left)
	}
}

// FuzzOrders has no payload crash a node; one that can be read is written as it was.
func FuzzOrders(f *testing.F) {
	m := order{verb: verbMessage, except: []string{"x"}, conn: "c", target: webpubsub.HubKey{Tenant: "t", Hub: "h"}}
	f.Add(m.encode(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o, again order
		if err := o.read(b); err != nil {
			return
		}
		if err := again.read(o.encode(nil)); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("got %+v, %v from what %+v is written as", again, err, o)
		}
		_, _, _ = readEnvelope(o.args)
		_ = readStateItems(o.args, map[string]protocol.GroupStateItem{})
	})
}
