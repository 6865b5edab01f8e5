package gateway

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
)

// publish is a client that publishes streams.
type publisher struct {
	*wsclient.Client
	t    testing.TB
	told map[string]uint64 // by stream, the last number that was acknowledged
}

func publish(t testing.TB, c *wsclient.Client) *publisher {
	return &publisher{Client: c, t: t, told: map[string]uint64{}}
}

func (p *publisher) do(r *protocol.Request) {
	p.t.Helper()
	must(p.t, p.Do(within(p.t), r))
}

// start starts a stream and waits until it may send.
func (p *publisher) start(id, group string) {
	p.t.Helper()
	p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: id, Group: group})
	p.wantAck(id, 1)
}

func (p *publisher) send(id string, number uint64, d webpubsub.Data) {
	p.t.Helper()
	r := &protocol.Request{Kind: protocol.StreamData, StreamID: id, StreamSequence: number}
	r.SetData(d)
	p.do(r)
}

func (p *publisher) end(id string, cause *protocol.StreamError) {
	p.t.Helper()
	p.do(&protocol.Request{Kind: protocol.StreamEnd, StreamID: id, StreamError: cause})
}

func (p *publisher) notice() *protocol.Response {
	p.t.Helper()
	select {
	case r := <-p.Notices():
		if r.Kind != protocol.StreamClosedResponse {
			if r.Expected < p.told[r.StreamID] {
				p.t.Fatalf("stream %s: told to send %d after %d", r.StreamID, r.Expected, p.told[r.StreamID])
			}
			p.told[r.StreamID] = r.Expected
		}
		return r
	case <-within(p.t).Done():
		p.t.Fatal("the publisher is told nothing")
	}
	return nil
}

// wantAck waits until all fragments before number expected are acknowledged.
func (p *publisher) wantAck(id string, expected uint64) {
	p.t.Helper()
	for {
		r := p.notice()
		if r.Kind != protocol.StreamAckResponse || r.StreamID != id || r.Expected > expected {
			p.t.Fatalf("got %+v, %v; want stream %s acknowledged up to %d", r, r.Failure, id, expected)
		}
		if r.Expected == expected {
			return
		}
	}
}

func (p *publisher) wantNack(id string, expected uint64, name string) {
	p.t.Helper()
	r := p.notice()
	if r.Kind != protocol.StreamNackResponse || r.StreamID != id || r.Expected != expected || r.Failure.Name != name || r.Failure.Message == "" {
		p.t.Fatalf("got %+v, %v; want a nack of stream %s at %d named %s", r, r.Failure, id, expected, name)
	}
}

// wantClosed waits for the end of a stream; no name means that it is complete.
func (p *publisher) wantClosed(id, name string) {
	p.t.Helper()
	r := p.notice()
	if r.Kind != protocol.StreamClosedResponse || r.StreamID != id || (r.Failure == nil) != (name == "") {
		p.t.Fatalf("got %+v, %v; want stream %s closed with %q", r, r.Failure, id, name)
	}
	if r.Failure != nil && (r.Failure.Name != name || r.Failure.Message == "") {
		p.t.Fatalf("got %v, want stream %s closed with %q", r.Failure, id, name)
	}
}

// wantFragment checks the next message of a subscriber.
func wantFragment(t testing.TB, c *wsclient.Client, id string, number uint64, d webpubsub.Data) {
	t.Helper()
	m, err := c.Receive(within(t))
	must(t, err)
	if m.Stream == nil || *m.Stream != (protocol.StreamInfo{StreamID: id, Sequence: number}) {
		t.Fatalf("got %q of stream %+v, want fragment %d of %s", m.Data.Bytes, m.Stream, number, id)
	}
	if m.Group != "room" || m.Data.Type != d.Type || string(m.Data.Bytes) != string(d.Bytes) {
		t.Fatalf("got %v %q for group %s, want %v %q for room", m.Data.Type, m.Data.Bytes, m.Group, d.Type, d.Bytes)
	}
}

// wantEnd checks that the next message of a subscriber is the end of a stream; no name means that it is complete.
func wantEnd(t testing.TB, c *wsclient.Client, id string, number uint64, name string) *protocol.StreamInfo {
	t.Helper()
	m, err := c.Receive(within(t))
	must(t, err)
	if m.Stream == nil || m.Stream.StreamID != id || m.Stream.Sequence != number || !m.Stream.End || (m.Stream.Error == nil) != (name == "") {
		t.Fatalf("got %q of stream %+v, want the end of %s with number %d", m.Data.Bytes, m.Stream, id, number)
	}
	if m.Stream.Error != nil && m.Stream.Error.Name != name {
		t.Fatalf("got %v, want the end of %s with %q", m.Stream.Error, id, name)
	}
	if m.Data.Type != webpubsub.DataText || len(m.Data.Bytes) != 0 {
		t.Fatalf("got %v %q with the end, want empty text", m.Data.Type, m.Data.Bytes)
	}
	return m.Stream
}

// TestStream has a stream of all types of data, which clients of every subprotocol receive.
//
// checklist:C25 C26 C27 P05
func TestStream(t *testing.T) {
	t.Parallel()
	fragments := []webpubsub.Data{text("Hel"), {Type: webpubsub.DataJSON, Bytes: []byte(`{ "n": 1.50 }`)},
		{Type: webpubsub.DataBinary, Bytes: []byte{0, 255}}, {Type: webpubsub.DataProtobuf, Bytes: []byte("\n\x01x")}}
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		subscribers := map[string]*wsclient.Client{}
		for _, other := range codecs {
			subscribers[other] = s.join(other, "ben", "room")
		}
		p := publish(t, s.join(codec, "ana", "room"))
		subscribers["itself"] = p.Client
		p.start("s", "room")
		for i, d := range fragments {
			p.send("s", uint64(i+1), d)
			p.do(&protocol.Request{Kind: protocol.StreamData, StreamID: "s"}) // a keepalive, which nobody gets
			p.wantAck("s", uint64(i+2))
		}
		p.end("s", nil)
		p.wantClosed("s", "")
		must(t, s.rest().SendToGroup(within(t), "room", text("after it")))
		for name, c := range subscribers {
			for i, d := range fragments {
				if name == "" {
					wantMessage(t, c, string(d.Bytes))
					continue
				}
				wantFragment(t, c, "s", uint64(i+1), d)
			}
			if name != "" { // a simple client cannot tell what an end is
				wantEnd(t, c, "s", uint64(len(fragments)+1), "")
			}
			wantMessage(t, c, "after it")
		}
	})
}

// checklist:C25
func TestStreamWithoutEcho(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, other := publish(t, s.join(codec, "ana", "room")), s.join(codec, "ben", "room")
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "s", Group: "room", NoEcho: true})
		p.wantAck("s", 1)
		p.send("s", 1, text("x"))
		p.wantAck("s", 2)
		p.end("s", nil)
		p.wantClosed("s", "")
		wantFragment(t, other, "s", 1, text("x"))
		wantEnd(t, other, "s", 2, "")
		must(t, s.rest().SendToGroup(within(t), "room", text("after it")))
		wantMessage(t, p.Client, "after it")
	})
}

// TestStreamNumbers repeats fragments and leaves some out.
//
// checklist:C26 P05
func TestStreamNumbers(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.send("s", 2, text("too early"))
		p.wantNack("s", 1, protocol.InvalidSequenceID)
		p.send("s", 1, text("one"))
		p.wantAck("s", 2)
		p.send("s", 1, text("again"))
		p.wantAck("s", 2)
		p.send("s", 1<<64-1, text("far too early"))
		p.wantNack("s", 2, protocol.InvalidSequenceID)
		p.send("s", 2, text("two"))
		p.wantAck("s", 3)
		wantFragment(t, member, "s", 1, text("one"))
		wantFragment(t, member, "s", 2, text("two"))
	})
}

// TestStreamsDoNotMix runs several streams at a time, on one connection and on two with the same ids.
//
// checklist:C25 C26
func TestStreamsDoNotMix(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		a, b := publish(t, s.join(codec, "ana")), publish(t, s.join(codec, "ben"))
		member := s.join(protocol.NameJSON, "cara", "room") // which is told from whom it is
		a.start("x", "room")
		a.start("y", "room")
		b.start("x", "room")
		want := map[string]uint64{}
		const rounds = 50
		for n := uint64(1); n <= rounds; n++ { // nobody waits for acks
			a.send("x", n, text("ana x"))
			a.send("y", n, text("ana y"))
			b.send("x", n, text("ben x"))
		}
		for range 3 * rounds {
			m, err := member.Receive(within(t))
			must(t, err)
			key := string(m.Data.Bytes)
			want[key]++
			if m.Stream == nil || m.Stream.Sequence != want[key] || key != m.FromUserID+" "+m.Stream.StreamID {
				t.Fatalf("got %q from %s of stream %+v, want fragment %d", key, m.FromUserID, m.Stream, want[key])
			}
		}
	})
}

// checklist:C25 C26 C27
func TestStreamIsRefused(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.dial(s.clientURL("ana", []string{"webpubsub.sendToGroup.room"}), codec)), s.join(codec, "ben", "room", "other")
		p.send("s", 1, text("x")) // before there is any
		p.wantClosed("s", protocol.StreamNotFound)
		p.end("s", nil)
		p.wantClosed("s", protocol.StreamNotFound)
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "s", Group: "other"})
		p.wantClosed("s", protocol.Forbidden)
		p.start("s", "room")
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "s", Group: "room"})
		p.wantClosed("s", protocol.BadRequest)
		p.send("unknown", 1, text("x"))
		p.wantClosed("unknown", protocol.StreamNotFound)
		p.do(&protocol.Request{Kind: protocol.StreamData, StreamID: "unknown"})
		p.wantClosed("unknown", protocol.StreamNotFound)
		p.end("s", nil)
		p.wantClosed("s", "")
		p.send("s", 1, text("after the end"))
		p.wantClosed("s", protocol.StreamNotFound)
		p.start("s", "room") // an id may be used again
		p.send("s", 1, text("good"))
		wantEnd(t, member, "s", 1, "")
		wantFragment(t, member, "s", 1, text("good"))
	})
}

// TestStreamStartIsRefusedByName sends what the client half of a codec does not make.
//
// checklist:C25
func TestStreamStartIsRefusedByName(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p := publish(t, s.join(codec, "ana"))
		for asJSON, asProtobuf := range map[string]string{ // of group g and stream s
			`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":0}}`:            "\x0a\x0a\x0a\x01g\x3a\x05\x0a\x01s\x10\x00",
			`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"},"dataType":"text","data":"x"}`: "\x0a\x0d\x0a\x01g\x1a\x03\x0a\x01x\x3a\x03\x0a\x01s",
			`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"},"ackId":7}`:                    "\x0a\x0a\x0a\x01g\x10\x07\x3a\x03\x0a\x01s",
		} {
			frame := asJSON
			if isProtobuf(codec) {
				frame = asProtobuf
			}
			must(t, p.SendFrame(within(t), isProtobuf(codec), []byte(frame)))
			p.wantClosed("s", protocol.BadRequest)
		}
		must(t, p.Ping(within(t)))
	})
}

// checklist:C25
func TestAsManyStreamsAsAConnectionMayHave(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, other := publish(t, s.join(codec, "ana")), publish(t, s.join(codec, "ben"))
		for n := range stream.MaxOpen {
			p.start(fmt.Sprint(n), "room")
		}
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "one more", Group: "room"})
		p.wantClosed("one more", protocol.BadRequest)
		other.start("one more", "room")
		p.end("7", nil)
		p.wantClosed("7", "")
		p.start("one more", "room")
		must(t, p.Close(1000, ""))
		must(t, other.Close(1000, ""))
		eventually(t, "all streams are over", func() bool { return s.clients.PendingEffects() == 0 })
	})
}

// checklist:C27 P05
func TestStreamEndsWithAnError(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.send("s", 1, text("x"))
		p.wantAck("s", 2)
		p.end("s", &protocol.StreamError{Message: "model crashed", UserErrorCode: "E42"})
		p.wantClosed("s", "")
		wantFragment(t, member, "s", 1, text("x"))
		end := wantEnd(t, member, "s", 2, protocol.UserError)
		if *end.Error != (protocol.StreamError{Name: protocol.UserError, Message: "model crashed", UserErrorCode: "E42"}) {
			t.Errorf("got %+v, want what the publisher said", *end.Error)
		}
	})
}

// checklist:C27
func TestSilentStreamEnds(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "s", Group: "room", IdleTimeout: 20 * time.Millisecond})
		p.wantAck("s", 1)
		p.wantClosed("s", protocol.IdleTimeout)
		wantEnd(t, member, "s", 1, protocol.IdleTimeout)
		p.send("s", 1, text("too late"))
		p.wantClosed("s", protocol.StreamNotFound)
	})
}

// TestRightIsTakenFromAPublisher takes the right to send away in the middle of a stream.
//
// checklist:C27 A05
func TestRightIsTakenFromAPublisher(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.send("s", 1, text("x"))
		p.wantAck("s", 2)
		must(t, s.rest().Revoke(within(t), p.Info().ConnectionID, webpubsub.SendToGroup, "room"))
		p.send("s", 2, text("forbidden"))
		p.wantClosed("s", protocol.Forbidden)
		wantFragment(t, member, "s", 1, text("x"))
		wantEnd(t, member, "s", 2, protocol.Forbidden)
	})
}

// TestStreamOfAConnectionThatEnds has subscribers hear of it however the publisher's connection ends.
//
// checklist:C27 C28
func TestStreamOfAConnectionThatEnds(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]func(t *testing.T, s *server, c *wsclient.Client){
		"closed":         func(_ *testing.T, _ *server, c *wsclient.Client) { _ = c.Close(1000, "") },
		"lost":           func(_ *testing.T, _ *server, c *wsclient.Client) { c.Drop() },
		"closed by us":   func(t *testing.T, s *server, _ *wsclient.Client) { must(t, s.rest().CloseUser(within(t), "ana", "")) },
		"protocol error": func(t *testing.T, _ *server, c *wsclient.Client) { must(t, c.SendFrame(within(t), false, []byte(`{`))) },
	} {
		t.Run(name, func(t *testing.T) {
			eachPubSub(t, func(t *testing.T, codec string) {
				s := start(t, setup{config: Config{RecoveryTime: 50 * time.Millisecond}})
				p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
				p.start("s", "room")
				p.send("s", 1, text("x"))
				p.wantAck("s", 2)
				p.start("without fragments", "room")
				finish(t, s, p.Client)
				wantFragment(t, member, "s", 1, text("x"))
				got := map[string]uint64{}
				for range 2 {
					m, err := member.Receive(within(t))
					must(t, err)
					if m.Stream == nil || !m.Stream.End || m.Stream.Error == nil || m.Stream.Error.Name != protocol.Cancelled {
						t.Fatalf("got %q of stream %+v, want a canceled one", m.Data.Bytes, m.Stream)
					}
					got[m.Stream.StreamID] = m.Stream.Sequence
				}
				if got["s"] != 2 || got["without fragments"] != 1 {
					t.Errorf("got the ends of %v, want both streams", got)
				}
			})
		})
	}
}

// TestStreamOutlivesItsSocket drops the publisher's socket in the middle of a stream. As SDKs do, it goes on once
// connected has come again, with what was not acknowledged.
//
// checklist:C28
func TestStreamOutlivesItsSocket(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.start("ends", "room")
		p.send("s", 1, text("one"))
		p.send("s", 2, text("two"))
		p.wantAck("s", 3)
		id := p.Info().ConnectionID
		p.Drop()
		must(t, p.Recover(within(t))) // returns when connected has come
		if got := p.Info(); got.ConnectionID != id || got.ReconnectionToken == "" {
			t.Errorf("got %+v, want connection %s again", got, id)
		}
		p.send("s", 2, text("two")) // as if its ack had been lost
		p.wantAck("s", 3)
		p.send("s", 3, text("three"))
		p.wantAck("s", 4)
		p.end("ends", nil)
		p.wantClosed("ends", "")

		p.Drop() // the publisher may not have heard that the stream has ended, and asks again
		must(t, p.Recover(within(t)))
		p.end("ends", nil)
		p.wantClosed("ends", "")
		p.send("s", 4, text("four"))
		p.wantAck("s", 5)
		p.end("s", nil)
		p.wantClosed("s", "")
		for i, body := range []string{"one", "two", "three"} {
			wantFragment(t, member, "s", uint64(i+1), text(body))
		}
		wantEnd(t, member, "ends", 1, "")
		wantFragment(t, member, "s", 4, text("four"))
		wantEnd(t, member, "s", 5, "")
	})
}

// TestStreamMovesToAnotherNode drops the publisher's socket and recovers on the other node, where the stream goes on.
//
// checklist:C28 O06
func TestStreamMovesToAnotherNode(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		eachReliable(t, func(t *testing.T, codec string) {
			p, member := publish(t, a.join(codec, "ana")), b.join(protocol.NameJSON, "ben", "room")
			p.start("s", "room")
			p.start("ended", "room")
			p.end("ended", nil)
			p.wantClosed("ended", "")
			p.send("s", 1, text("one"))
			p.wantAck("s", 2)
			p.Drop()
			b.recoverAt(t, p.Client)
			p.send("s", 1, text("one"))
			p.wantAck("s", 2)
			p.send("s", 2, text("two"))
			p.wantAck("s", 3)
			p.end("ended", nil)
			p.wantClosed("ended", "")
			p.Drop()
			a.recoverAt(t, p.Client) // and back
			p.send("s", 3, text("three"))
			p.wantAck("s", 4)
			wantEnd(t, member, "ended", 1, "")
			for i, body := range []string{"one", "two", "three"} {
				wantFragment(t, member, "s", uint64(i+1), text(body))
			}
			must(t, p.Close(1000, ""))
			wantEnd(t, member, "s", 4, protocol.Cancelled)
			eventually(t, "no stream is left", func() bool { return a.clients.PendingEffects() == 0 && b.clients.PendingEffects() == 0 })
		})
	})
}

// TestStreamIsSilentWhileItsPublisherIsAway is too short for the drop; the publisher hears of it when it asks.
//
// checklist:C27 C28
func TestStreamIsSilentWhileItsPublisherIsAway(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.do(&protocol.Request{Kind: protocol.StreamStart, StreamID: "s", Group: "room", IdleTimeout: 50 * time.Millisecond})
		p.wantAck("s", 1)
		p.Drop()
		wantEnd(t, member, "s", 1, protocol.IdleTimeout)
		must(t, p.Recover(within(t)))
		p.send("s", 1, text("late"))
		p.wantClosed("s", protocol.IdleTimeout)
	})
}

// TestSubscriberRecoversInAStream drops the socket of a subscriber: fragments are messages like others.
//
// checklist:C28
func TestSubscriberRecoversInAStream(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		p, member := publish(t, s.join(codec, "ana")), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.send("s", 1, text("one"))
		wantFragment(t, member, "s", 1, text("one"))
		member.Drop()
		p.send("s", 2, text("two"))
		p.end("s", nil)
		p.wantAck("s", 2)
		must(t, member.Recover(within(t)))
		wantFragment(t, member, "s", 2, text("two"))
		wantEnd(t, member, "s", 3, "")
	})
}

// checklist:C25 C26 C27 P05
func TestStreamAcrossNodes(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		eachPubSub(t, func(t *testing.T, codec string) {
			p := publish(t, a.join(codec, "ana"))
			members := []*wsclient.Client{a.join(codec, "ben", "room"), b.join(codec, "cara", "room")}
			raw := b.join("", "dan", "room")
			p.start("s", "room")
			const n = 100
			for i := range uint64(n) {
				p.send("s", i+1, text(fmt.Sprint(i)))
			}
			p.wantAck("s", n+1)
			p.end("s", &protocol.StreamError{Message: "enough"})
			p.wantClosed("s", "")
			for _, member := range members {
				for i := range uint64(n) {
					wantFragment(t, member, "s", i+1, text(fmt.Sprint(i)))
				}
				wantEnd(t, member, "s", n+1, protocol.UserError)
			}
			for i := range n {
				wantMessage(t, raw, fmt.Sprint(i))
			}
		})
	})
}

// TestStreamsOfANodeThatDrains has subscribers on another node hear of the end.
//
// checklist:C27 O06
func TestStreamsOfANodeThatDrains(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		pairs(t, func(t *testing.T, a, b *server) {
			p, member := publish(t, a.join(codec, "ana")), b.join(codec, "ben", "room")
			p.start("s", "room")
			p.send("s", 1, text("x"))
			p.wantAck("s", 2)
			a.stop()
			<-a.done
			wantFragment(t, member, "s", 1, text("x"))
			wantEnd(t, member, "s", 2, protocol.Cancelled)
		})
	})
}

// TestStreamWhileTheBusIsAway has fragments that cannot be sent, and ends that have to wait.
//
// checklist:C26 C27
func TestStreamWhileTheBusIsAway(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	a, b := start(t, setup{bus: redisBus(t, redis.URL)}), start(t, setup{bus: redisBus(t, redis.URL)})
	p, member := publish(t, a.join(protocol.NameJSON, "ana")), b.join(protocol.NameJSON, "ben", "room")
	for _, id := range []string{"goes on", "ends"} {
		p.start(id, "room")
		p.send(id, 1, text("one"))
		p.wantAck(id, 2)
		wantFragment(t, member, id, 1, text("one"))
	}
	redis.Stop()
	eventually(t, "the node says that the bus is away", func() bool { return a.Ready(within(t)) != nil })
	p.send("goes on", 2, text("two"))
	p.wantNack("goes on", 2, protocol.TransientError)
	p.end("ends", nil)
	must(t, p.Ping(within(t)))
	redis.Start()
	eventually(t, "both nodes are ready", func() bool { return errors.Join(a.Ready(within(t)), b.Ready(within(t))) == nil })
	p.wantClosed("ends", "")
	wantEnd(t, member, "ends", 2, "")
	p.send("goes on", 2, text("two"))
	p.wantAck("goes on", 3)
	wantFragment(t, member, "goes on", 2, text("two"))
}

// TestFragmentsAreNotLogged: what reads message logs knows whole messages.
func TestFragmentsAreNotLogged(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		log := &memoryLog{}
		s := start(t, setup{log: log, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "chat", Listeners: []string{"history"}}}}})
		p := publish(t, s.join(codec, "ana"))
		p.start("s", "room")
		p.send("s", 1, text("part"))
		p.wantAck("s", 2)
		p.end("s", nil)
		p.wantClosed("s", "")
		must(t, p.SendToGroup(within(t), "room", text("whole"), wsclient.SendOptions{}))
		log.mu.Lock()
		defer log.mu.Unlock()
		if len(log.entries) != 1 || string(log.entries[0].Data.Bytes) != "whole" {
			t.Errorf("got %d entries, want the whole message only", len(log.entries))
		}
	})
}

// TestStreamWithoutTheRightEnds takes the right to send away while a stream is open.
//
// checklist:A05 C26
func TestStreamWithoutTheRightEnds(t *testing.T) {
	t.Parallel()
	eachPubSub(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.dial(s.clientURL("ana", nil), codec)
		id := c.Info().ConnectionID
		must(t, s.rest().Grant(within(t), id, webpubsub.SendToGroup, "room"))
		p, member := publish(t, c), s.join(codec, "ben", "room")
		p.start("s", "room")
		p.send("s", 1, text("one"))
		p.wantAck("s", 2)
		wantFragment(t, member, "s", 1, text("one"))
		must(t, s.rest().Revoke(within(t), id, webpubsub.SendToGroup, "room"))
		p.send("s", 2, text("two"))
		p.wantClosed("s", protocol.Forbidden)
		wantEnd(t, member, "s", 2, protocol.Forbidden)
	})
}
