package gateway

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
)

// checklist:C17 C18 P03
func TestRecoveryReplaysWhatIsUnacknowledged(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, err := wsclient.Dial(within(t), s.clientURL("ana", all, "room"), wsclient.Options{
			Subprotocols: []string{codec}, AckEvery: -1})
		must(t, err)
		t.Cleanup(c.Drop)
		id := c.Info().ConnectionID
		for i := range 3 {
			must(t, s.rest().SendToGroup(within(t), "room", text(fmt.Sprint(i))))
			wantMessage(t, c, fmt.Sprint(i))
		}
		must(t, c.AckSequence(within(t), 2))
		must(t, c.Ping(within(t))) // so that the ack has arrived
		c.Drop()
		must(t, s.rest().SendToGroup(within(t), "room", text("while away")))
		must(t, s.rest().SendToUser(within(t), "ana", text("to the user")))
		must(t, c.Recover(within(t)))
		must(t, s.rest().SendToGroup(within(t), "room", text("back")))
		for i, want := range []string{"while away", "to the user", "back"} {
			m, err := c.Receive(within(t))
			must(t, err)
			if got := string(m.Data.Bytes); got != want || m.SequenceID != uint64(i+4) {
				t.Errorf("got %q with number %d, want %q with %d", got, m.SequenceID, want, i+4)
			}
		}
		if got := c.Repeated(); got != 1 {
			t.Errorf("got %d messages again, want the one not acknowledged", got)
		}
		if got := c.Info(); got.ConnectionID != id || got.ReconnectionToken == "" || got.UserID != "ana" {
			t.Errorf("got %+v after recovery, want connection %s of ana and a token", got, id)
		}
		if s.conns.Len() != 1 {
			t.Errorf("got %d connections, want 1", s.conns.Len())
		}
	})
}

// checklist:C18 P03
func TestRecoveryWhileTheOldSocketIsOpen(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana", "room")
		info := c.Info()
		thief := s.recoveryURL(info)
		second := s.dial(thief, codec)
		wantClose(t, c, 1006)
		must(t, second.SendToGroup(within(t), "room", text("on the new socket"), wsclient.SendOptions{}))
		wantMessage(t, second, "on the new socket")
	})
}

// checklist:A05 C14 C18
func TestRecoveryKeepsAcksAndPermissions(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.dial(s.clientURL("ana", nil), codec)
		must(t, s.rest().Grant(within(t), c.Info().ConnectionID, webpubsub.SendToGroup, "room"))
		request := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: 7}
		request.SetData(text("x"))
		must(t, c.Do(within(t), request))
		must(t, c.Recover(within(t)))
		again := &protocol.Request{Kind: protocol.SendToGroup, Group: "room", HasAck: true, AckID: 7}
		again.SetData(text("x"))
		wantFailure(t, c.Do(within(t), again), protocol.Duplicate)
	})
}

// recoveryURL is where a client of that connection recovers, with an access token that is worth nothing.
func (s *server) recoveryURL(info protocol.Connected) string {
	q := url.Values{"awps_connection_id": {info.ConnectionID}, "awps_reconnection_token": {info.ReconnectionToken},
		"access_token": {"expired"}}
	return s.url + "/client/hubs/chat?" + q.Encode()
}

// checklist:C18
func TestRecoveryIsRefused(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana")
		other := s.join(codec, "ben")
		plain := s.join(protocol.NameJSON, "cara")
		good := c.Info()
		keyOf := func(c *wsclient.Client) []byte {
			return s.conns.Conn(c.Info().ConnectionID).Owner.(*session.Client).ReconnectionKey()
		}
		for name, address := range map[string]string{
			"no token":       s.recoveryURL(protocol.Connected{ConnectionID: good.ConnectionID}),
			"another's":      s.recoveryURL(protocol.Connected{ConnectionID: good.ConnectionID, ReconnectionToken: other.Info().ReconnectionToken}),
			"forged":         s.recoveryURL(protocol.Connected{ConnectionID: good.ConnectionID, ReconnectionToken: session.ReconnectionToken(make([]byte, 32), good.ConnectionID, time.Now().Add(time.Hour))}),
			"expired":        s.recoveryURL(protocol.Connected{ConnectionID: good.ConnectionID, ReconnectionToken: session.ReconnectionToken(keyOf(c), good.ConnectionID, time.Now().Add(-time.Second))}),
			"unknown":        s.recoveryURL(protocol.Connected{ConnectionID: "nobody", ReconnectionToken: session.ReconnectionToken(keyOf(c), "nobody", time.Now().Add(time.Hour))}),
			"not reliable":   s.recoveryURL(protocol.Connected{ConnectionID: plain.Info().ConnectionID, ReconnectionToken: session.ReconnectionToken(keyOf(plain), plain.Info().ConnectionID, time.Now().Add(time.Hour))}),
			"of another hub": s.url + "/client/hubs/other" + s.recoveryURL(good)[len(s.url)+len("/client/hubs/chat"):],
		} {
			t.Run(name, func(t *testing.T) {
				if _, err := s.tryDial(address, codec); !isClosed(err, 1008) {
					t.Errorf("got %v, want an upgrade and a close with 1008", err)
				}
			})
		}
		must(t, c.Ping(within(t))) // nobody has harmed it
	})
}

// checklist:C19
func TestWhatEndsAReliableConnection(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		for name, tt := range map[string]struct {
			code  int
			final bool
		}{
			"normal close": {1000, true}, "no status": {1005, true}, "going away": {1001, false}, "own code": {3000, false}, "lost": {0, false},
		} {
			t.Run(name, func(t *testing.T) {
				s := start(t, setup{})
				c := s.join(codec, "ana")
				switch tt.code {
				case 0:
					c.Drop()
				default:
					_ = c.Close(tt.code, "")
				}
				if tt.final {
					eventually(t, "the connection has ended", func() bool { return s.conns.Len() == 0 })
					if err := c.Recover(within(t)); !isClosed(err, 1008) {
						t.Errorf("got %v, want a refused recovery", err)
					}
					return
				}
				must(t, c.Recover(within(t)))
			})
		}
	})
}

// checklist:C18 C19
func TestUnrecoveredConnectionEnds(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{config: Config{RecoveryTime: 50 * time.Millisecond}})
		c := s.join(codec, "ana", "room")
		c.Drop()
		eventually(t, "the connection has ended", func() bool { return s.conns.Len() == 0 })
		if err := c.Recover(within(t)); !isClosed(err, 1008) {
			t.Errorf("got %v, want a refused recovery", err)
		}
		eventually(t, "its group is gone", func() bool {
			exists, err := s.rest().GroupExists(within(t), "room")
			return err == nil && !exists
		})
	})
}

// checklist:C17 C19
func TestTooMuchUnacknowledged(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c, err := wsclient.Dial(within(t), s.clientURL("ana", all, "room"), wsclient.Options{
			Subprotocols: []string{codec}, AckEvery: -1, OnMessage: func(wsclient.Message) {}})
		must(t, err)
		t.Cleanup(c.Drop)
		sender := s.join(protocol.NameJSON, "ben")
		for range 1001 {
			must(t, sender.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}))
		}
		wantClose(t, c, 1008)
		if err := c.Recover(within(t)); !isClosed(err, 1008) {
			t.Errorf("got %v, want a refused recovery", err)
		}
	})
}

// checklist:C23 R28
func TestExpiredMessagesAreNotReplayed(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		s := start(t, setup{})
		c := s.join(codec, "ana")
		c.Drop()
		user := webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeUser, Name: "ana"}
		must(t, s.node.Send(within(t), user, webpubsub.Message{Data: text("short-lived"), TTL: time.Millisecond}))
		must(t, s.node.Send(within(t), user, webpubsub.Message{Data: text("for ever")}))
		sent := time.Now()
		eventually(t, "the short life is over", func() bool { return time.Since(sent) > 5*time.Millisecond })
		must(t, c.Recover(within(t)))
		wantMessage(t, c, "for ever")
	})
}

// TestSecondsToLive says in each subprotocol, and by REST, how long a message is worth delivering.
//
// checklist:C23 R28
func TestSecondsToLive(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		t.Parallel() // each waits for the seconds
		s := start(t, setup{})
		c, sender := s.join(codec, "ana", "room"), s.join(codec, "ben")
		c.Drop()
		must(t, sender.SendToGroup(within(t), "room", text("short-lived"), wsclient.SendOptions{TTL: time.Second}))
		must(t, s.rest().SendToGroup(within(t), "room", text("short-lived"), dataplane.TTL(time.Second)))
		must(t, sender.SendToGroup(within(t), "room", text("long-lived"), wsclient.SendOptions{TTL: webpubsub.MaxTTL}))
		must(t, s.rest().SendToGroup(within(t), "room", text("for ever")))
		sent := time.Now() // when all are sent, which may take long on a busy machine
		eventually(t, "the short lives are over", func() bool { return time.Since(sent) > 1100*time.Millisecond })
		must(t, c.Recover(within(t)))
		wantMessage(t, c, "long-lived")
		wantMessage(t, c, "for ever")
	})
}

// lossyBus is a bus that says it has lost payloads, and perhaps that those that it keeps are among them.
type lossyBus struct {
	*membus.Bus
	lost, gaps atomic.Uint64
}

func (b *lossyBus) LossCount() uint64 { return b.lost.Load() }
func (b *lossyBus) GapCount() uint64  { return b.gaps.Load() }

// TestConnectionsThatHaveMissedMessagesEnd, and no others: which those are, the hub's recovery says.
func TestConnectionsThatHaveMissedMessagesEnd(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		bus := &lossyBus{Bus: membus.New()}
		s := start(t, setup{bus: bus, tenant: tenant.Tenant{Hubs: []tenant.Hub{{Name: "careless", Recovery: tenant.RecoveryNone}}}})
		careless := func(codec string) *wsclient.Client {
			raw, err := token.Sign(key, s.url+"/client/hubs/careless", time.Hour, token.Options{Subject: "ana"})
			must(t, err)
			return s.dial(s.url+"/client/hubs/careless?access_token="+url.QueryEscape(raw), codec)
		}
		keptReliable, keptPlain := s.join(codec, "ana"), s.join(protocol.NameJSON, "ben")
		reliable, plain := careless(codec), careless(protocol.NameJSON)
		bus.lost.Add(1) // all that was kept could be read up
		wantClose(t, reliable, 1008)
		for _, stays := range []*wsclient.Client{keptReliable, keptPlain, plain} {
			must(t, stays.Ping(within(t)))
		}
		bus.gaps.Add(1)
		bus.lost.Add(1)
		wantClose(t, keptReliable, 1008)
		wantClose(t, keptPlain, 1001)
		must(t, plain.Ping(within(t)))
		must(t, s.join(codec, "ana").Ping(within(t)))
	})
}
