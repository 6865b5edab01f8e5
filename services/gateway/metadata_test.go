package gateway

import (
	"net/http"
	"slices"
	"testing"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// withMetadata is text with metadata, given as keys and values.
func withMetadata(body string, pairs ...string) webpubsub.Data {
	d := text(body)
	for pair := range slices.Chunk(pairs, 2) {
		d.Metadata = append(d.Metadata, webpubsub.Metadatum{Key: pair[0], Value: pair[1]})
	}
	return d
}

// TestMetadataAcrossNodes sends metadata in each subprotocol and by REST to clients of every other, on both nodes.
//
// checklist:C23
func TestMetadataAcrossNodes(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		clients := map[string][]*wsclient.Client{}
		for _, s := range []*server{a, b} {
			for _, codec := range codecs {
				clients[codec] = append(clients[codec], s.join(codec, "ana", "room"))
			}
		}
		check := func(from string, want webpubsub.Data) {
			t.Helper()
			for to, receivers := range clients {
				for _, c := range receivers {
					m, err := c.Receive(within(t))
					must(t, err)
					wanted := want.Metadata
					if to == "" {
						wanted = nil // payloads only
					}
					if string(m.Data.Bytes) != string(want.Bytes) || !slices.Equal(m.Data.Metadata, wanted) {
						t.Errorf("%s to %q: got %q with %v, want %q with %v", from, to, m.Data.Bytes, m.Data.Metadata, want.Bytes, wanted)
					}
				}
			}
		}
		d := withMetadata("hi", "Trace.ID", `a "b" c`, "empty", "")
		for from, senders := range clients {
			if from != "" {
				must(t, senders[0].SendToGroup(within(t), "room", d, wsclient.SendOptions{}))
				check(from, d)
			}
		}
		must(t, a.rest().SendToUser(within(t), "ana", d))
		check("REST", withMetadata("hi", "empty", "", "trace.id", `a "b" c`)) // names of headers have no case and no order
	})
}

// TestMetadataOfEvents follows metadata to the handler and back.
//
// checklist:C23
func TestMetadataOfEvents(t *testing.T) {
	t.Parallel()
	eachCodec(t, func(t *testing.T, codec string) {
		s := start(t, withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/e", "/message":
				w.Header().Set("X-WebPubSub-Metadata-Seen", r.Header.Get("X-WebPubSub-Metadata-Trace")+"!")
			}
		})))
		c := s.join(codec, "ana")
		if codec == "" {
			must(t, c.Send(within(t), text("x")))
		} else {
			r := &protocol.Request{Kind: protocol.SendEvent, Event: "e", HasAck: true}
			r.SetData(withMetadata("x", "trace", "1"))
			must(t, c.Do(within(t), r))
		}
		m, err := c.Receive(within(t))
		must(t, err)
		want := withMetadata("", "seen", "1!").Metadata
		if codec == "" {
			want = nil
		}
		if m.Group != "" || len(m.Data.Bytes) > 0 || !slices.Equal(m.Data.Metadata, want) {
			t.Errorf("got %+v, want empty text from the server with %v", m, want)
		}
	})
}

// checklist:C23
func TestBadMetadata(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana")
		_ = c.SendToGroup(within(t), "g", withMetadata("x", "k", "a\r\nce-userId: root"), wsclient.SendOptions{})
		wantClose(t, c, 1007)
	})
}
