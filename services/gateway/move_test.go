package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster/membus"
	"github.com/chatr-dev/chatr/services/gateway/internal/session"
)

// reliable are the subprotocols whose connections can be recovered.
func reliable(t *testing.T, test func(t *testing.T, codec string)) {
	for _, codec := range protocol.Codecs {
		if codec.Reliable() {
			t.Run(codec.Name(), func(t *testing.T) { test(t, codec.Name()) })
		}
	}
}

// recoverAt recovers c's connection on s. As SDKs do it comes again when it is told to: a node that is busy, or has not got the state in
// time, answers 503 with Retry-After.
func (s *server) recoverAt(t testing.TB, c *wsclient.Client) {
	t.Helper()
	ctx, err := within(t), error(nil)
	testkit.Eventually(t, patience, func() bool {
		err = c.RecoverAt(ctx, s.clientURL("nobody", nil))
		var refused *wsclient.HandshakeError
		return !errors.As(err, &refused) || refused.Header.Get("Retry-After") == ""
	}, "the node takes the connection over")
	must(t, err)
}

// checklist:C18 O06
func TestRecoveryOnAnotherNode(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		reliable(t, func(t *testing.T, codec string) {
			c, err := wsclient.Dial(within(t), a.clientURL("ana", all, "room", "lobby"), wsclient.Options{Subprotocols: []string{codec}, AckEvery: -1})
			must(t, err)
			t.Cleanup(c.Drop)
			id := c.Info().ConnectionID
			for i := range 3 {
				must(t, a.rest().SendToGroup(within(t), "room", text(fmt.Sprint(i))))
				wantMessage(t, c, fmt.Sprint(i))
			}
			must(t, c.AckSequence(within(t), 2))
			must(t, c.Ping(within(t)))
			c.Drop()
			must(t, b.rest().SendToGroup(within(t), "lobby", text("while away")))
			must(t, b.rest().SendToUser(within(t), "ana", text("to the user")))
			must(t, b.rest().SendToConnection(within(t), id, text("to the connection")))

			b.recoverAt(t, c)
			if got := c.Info(); got.ConnectionID != id || got.UserID != "ana" || got.ReconnectionToken == "" {
				t.Errorf("got %+v after recovery, want connection %s of ana and a token", got, id)
			}
			must(t, a.rest().SendToConnection(within(t), id, text("by the old node's inbox")))
			for i, want := range []string{"while away", "to the user", "to the connection", "by the old node's inbox"} {
				m, err := c.Receive(within(t))
				must(t, err)
				if got := string(m.Data.Bytes); got != want || m.SequenceID != uint64(i+4) {
					t.Errorf("got %q with number %d, want %q with %d", got, m.SequenceID, want, i+4)
				}
			}
			if got := c.Repeated(); got != 1 {
				t.Errorf("got %d messages again, want the one not acknowledged", got)
			}
			must(t, c.SendToGroup(within(t), "room", text("from there"), wsclient.SendOptions{NoEcho: true}))
			must(t, a.rest().SendToAll(within(t), text("last")))
			wantMessage(t, c, "last")
			if len(a.conns.Conns()) != 0 || len(b.conns.Conns()) != 1 {
				t.Errorf("got %d and %d connections, want 0 and 1", a.conns.Len(), b.conns.Len())
			}
			must(t, a.rest().AddConnectionToGroup(within(t), "late", id))
			members, err := a.node.Members(within(t), chat, "late", "", 10)
			must(t, err)
			if len(members) != 1 || members[0].ConnectionID != id {
				t.Errorf("got members %v, want %s", members, id)
			}
			must(t, c.Close(1000, ""))
			eventually(t, "the connection has ended", func() bool {
				exists, err := a.rest().ConnectionExists(within(t), id)
				return err == nil && !exists && b.conns.Len() == 0
			})
		})
	})
}

// TestMovesUnderLoad moves a connection to and fro while publishers on both nodes send to all that it is reached by,
// and counts.
//
// checklist:C18 O06
func TestMovesUnderLoad(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, a, b *server) {
		const codec, each, moves = protocol.NameReliableJSON, 200, 12
		got := make(chan string, 4*each)
		var seen uint64 // by the reading goroutine
		c, err := wsclient.Dial(within(t), a.clientURL("ana", all, "room"), wsclient.Options{Subprotocols: []string{codec}, OnMessage: func(m wsclient.Message) {
			if seen++; m.SequenceID != seen {
				t.Errorf("got number %d, want %d", m.SequenceID, seen)
			}
			got <- string(m.Data.Bytes)
		}})
		must(t, err)
		t.Cleanup(c.Drop)
		id := c.Info().ConnectionID
		done := make(chan error, 4)
		for p, s := range []*server{a, b} {
			for q, to := range []webpubsub.Audience{{Hub: chat, Scope: webpubsub.ScopeGroup, Name: "room"}, {Hub: chat, Scope: webpubsub.ScopeConnection, Name: id}} {
				go func() {
					for i := range each {
						if err := s.node.Send(within(t), to, webpubsub.Message{Data: text(fmt.Sprintf("%d %d", 2*p+q, i))}); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
		}
		var next [4]int
		take := func() {
			t.Helper()
			select {
			case m := <-got:
				var from, i int
				if _, err := fmt.Sscan(m, &from, &i); err != nil || i != next[from] {
					t.Fatalf("got %q, want %v of each sender", m, next)
				}
				next[from]++
			case <-within(t).Done():
				t.Fatalf("got %v of each sender, want %d", next, each)
			}
		}
		nodes := []*server{b, a}
		for i := range moves {
			for range 30 {
				take()
			}
			nodes[i%2].recoverAt(t, c)
		}
		for range 4 {
			must(t, <-done)
		}
		for slices.Min(next[:]) < each {
			take()
		}
	})
}

// TestRecoveryOnAThirdNode moves a connection twice, and then ends the node whose name its id bears.
//
// checklist:O06
func TestRecoveryOnAThirdNode(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		redis := testkit.Redis(t)
		node := func() *server { return start(t, setup{bus: redisBus(t, redis.URL)}) }
		a, b, c := node(), node(), node()
		client := a.join(codec, "ana", "room")
		b.recoverAt(t, client)
		must(t, a.rest().Grant(within(t), client.Info().ConnectionID, webpubsub.SendToGroup, "elsewhere"))
		a.stop()
		<-a.done
		c.recoverAt(t, client)
		id := client.Info().ConnectionID
		for _, s := range []*server{b, c} {
			must(t, s.rest().SendToConnection(within(t), id, text("hello")))
			wantMessage(t, client, "hello")
			if exists, err := s.rest().ConnectionExists(within(t), id); !exists || err != nil {
				t.Errorf("got exists %v, %v; want the connection", exists, err)
			}
			must(t, s.rest().AddConnectionToGroup(within(t), "late", id))
			if allowed, err := s.node.Allowed(within(t), chat, id, webpubsub.SendToGroup, "elsewhere"); !allowed || err != nil {
				t.Errorf("got allowed %v, %v; want what was granted on another node", allowed, err)
			}
		}
		must(t, b.rest().SendToGroup(within(t), "late", text("not to it"), dataplane.Except(id)))
		must(t, b.rest().CloseConnection(within(t), id, "enough"))
		wantClose(t, client, 1000)
		if _, err := b.tryDial(b.recoveryURL(client.Info()), codec); !isClosed(err, 1008) {
			t.Errorf("got %v from the recovery of a closed connection, want a close with 1008", err)
		}
		if b.conns.Len()+c.conns.Len() != 0 {
			t.Errorf("got %d and %d connections, want none", b.conns.Len(), c.conns.Len())
		}
	})
}

// TestRecoveryOnAnotherNodeWhileTheOldSocketIsOpen also has many try at once: one at a time gets the connection, and
// the others are told to try again.
func TestRecoveryOnAnotherNodeWhileTheOldSocketIsOpen(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		pairs(t, func(t *testing.T, a, b *server) {
			c := a.join(codec, "ana", "room")
			info := c.Info()
			results := make(chan error, 8)
			for i := range cap(results) {
				go func() {
					node := []*server{a, b}[i%2]
					_, err := node.tryDial(node.recoveryURL(info), codec)
					results <- err
				}()
			}
			won := 0
			for range cap(results) {
				err := <-results
				var later *wsclient.HandshakeError
				var lost *wsclient.CloseError
				switch {
				case err == nil:
					won++
				case errors.As(err, &later) && later.Status == http.StatusServiceUnavailable && later.Header.Get("Retry-After") != "":
				case errors.As(err, &lost) && lost.Code != 1008: // another one came before it had said hello
				default:
					t.Errorf("got %v, want a connection or to be told to try again", err)
				}
			}
			if won == 0 {
				t.Error("nobody has recovered the connection")
			}
			wantClose(t, c, 1006)
			b.recoverAt(t, c)
			must(t, a.rest().SendToGroup(within(t), "room", text("once")))
			wantMessage(t, c, "once")
			if n := a.conns.Len() + b.conns.Len(); n != 1 {
				t.Errorf("got %d connections, want 1", n)
			}
		})
	})
}

// checklist:C18 C19
func TestRecoveryOnAnotherNodeIsRefused(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		pairs(t, func(t *testing.T, a, b *server) {
			c, other, plain, closed := a.join(codec, "ana"), a.join(codec, "ben"), a.join(protocol.NameJSON, "cara"), a.join(codec, "dan")
			id := c.Info().ConnectionID
			must(t, closed.Close(1000, ""))
			eventually(t, "it has ended", func() bool { return a.conns.Conn(closed.Info().ConnectionID) == nil })
			token := func(key []byte, id string, life time.Duration) string {
				return b.recoveryURL(protocol.Connected{ConnectionID: id, ReconnectionToken: session.ReconnectionToken(key, id, time.Now().Add(life))})
			}
			keyOf := func(c *wsclient.Client) []byte {
				return a.conns.Conn(c.Info().ConnectionID).Owner.(*session.Client).ReconnectionKey()
			}
			for name, address := range map[string]string{
				"no token":       b.recoveryURL(protocol.Connected{ConnectionID: id}),
				"forged":         token(make([]byte, 32), id, time.Hour),
				"expired":        token(keyOf(c), id, -time.Second),
				"another's":      b.recoveryURL(protocol.Connected{ConnectionID: id, ReconnectionToken: other.Info().ReconnectionToken}),
				"not reliable":   token(keyOf(plain), plain.Info().ConnectionID, time.Hour),
				"ended":          b.recoveryURL(closed.Info()),
				"of nobody":      token(keyOf(c), id[:20]+"nobody", time.Hour),
				"of no node":     token(keyOf(c), "x", time.Hour),
				"of another hub": b.url + "/client/hubs/other" + b.recoveryURL(c.Info())[len(b.url)+len("/client/hubs/chat"):],
			} {
				if _, err := b.tryDial(address, codec); !isClosed(err, 1008) {
					t.Errorf("%s: got %v, want an upgrade and a close with 1008", name, err)
				}
			}
			must(t, c.Ping(within(t))) // nobody has harmed it
			if b.conns.Len() != 0 {
				t.Errorf("got %d connections where all were refused, want none", b.conns.Len())
			}
		})
	})
}

// TestOtherTenantsCannotTakeAConnection has a tenant that knows another's connection id, and its reconnection token.
func TestOtherTenantsCannotTakeAConnection(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		net := membus.NewNetwork()
		hosts := func(name, host, key string) tenant.Tenant {
			return tenant.Tenant{Name: name, Hosts: []string{host}, Keys: tenant.Keys{Primary: key}}
		}
		const other = "another key of thirty-two bytes..."
		node := func() *server {
			tenants, err := tenant.NewStatic(hosts("one", "127.0.0.1", key), hosts("two", "localhost", other))
			must(t, err)
			return startWith(t, setup{bus: net.Bus()}, tenants)
		}
		a, b := node(), node()
		c := a.join(codec, "ana")
		for _, s := range []*server{a, b} {
			if _, err := s.tryDial(strings.Replace(s.recoveryURL(c.Info()), "127.0.0.1", "localhost", 1), codec); !isClosed(err, 1008) {
				t.Errorf("got %v, want an upgrade and a close with 1008", err)
			}
		}
		must(t, c.Ping(within(t)))
		b.recoverAt(t, c)
	})
}

// TestHugeStateMoves has as much unacknowledged as may be, by number and by size.
func TestHugeStateMoves(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ messages, bytes int }{"number": {1000, 10}, "size": {15, 1<<20 - 1000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testkit.Redis(t)
			node := func() *server {
				return start(t, setup{bus: redisBus(t, redis.URL), config: Config{RecoveryTime: time.Hour}})
			}
			a, b := node(), node()
			const codec = protocol.NameReliableJSON
			c := a.join(codec, "ana", "room")
			c.Drop()
			room := webpubsub.Audience{Hub: chat, Scope: webpubsub.ScopeGroup, Name: "room"}
			body := strings.Repeat("x", tt.bytes)
			for i := range tt.messages {
				must(t, a.node.Send(within(t), room, webpubsub.Message{Data: text(fmt.Sprint(i, body))}))
			}
			b.recoverAt(t, c)
			for i := range tt.messages {
				m, err := c.Receive(within(t))
				must(t, err)
				if want := fmt.Sprint(i, body); string(m.Data.Bytes) != want || m.SequenceID != uint64(i+1) {
					t.Fatalf("got %d bytes with number %d, want %d with %d", len(m.Data.Bytes), m.SequenceID, len(want), i+1)
				}
			}
		})
	}
}

// TestHandlersSeeOneConnection moves a connection to and fro: its handler hears connect and connected once, user events
// with growing ids and the state that it has given, from whatever node, and disconnected once.
//
// checklist:O06
func TestHandlersSeeOneConnection(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		events := make(chan string, 100)
		s := withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			cookie, state := "", r.Header.Get("ce-connectionState")
			if c, err := r.Cookie("sticky"); err == nil {
				cookie = c.Value
			}
			events <- strings.Join([]string{r.URL.Path[1:], r.Header.Get("ce-id"), state, cookie, r.Header.Get("ce-userId")}, " ")
			http.SetCookie(w, &http.Cookie{Name: "sticky", Value: "pod-1"})
			w.Header().Set("ce-connectionState", state+"+")
			w.WriteHeader(http.StatusNoContent)
		}))
		net := membus.NewNetwork()
		node := func() *server {
			s.bus = net.Bus()
			return start(t, s)
		}
		a, b := node(), node()
		want := func(event string) {
			t.Helper()
			if got := <-events; got != event {
				t.Errorf("got event %q, want %q", got, event)
			}
		}
		c := a.join(codec, "ana")
		want("connect 0   ana")
		want("connected 1 + pod-1 ana")
		id := 2
		state := "++"
		for _, node := range []*server{b, a, b} {
			node.recoverAt(t, c)
			must(t, c.SendEvent(within(t), "hello", text("x")))
			want(fmt.Sprintf("hello %d %s pod-1 ana", id, state))
			id++
			state += "+"
		}
		must(t, c.Close(1000, ""))
		want(fmt.Sprintf("disconnected %d %s pod-1 ana", id, state))
		a.stop()
		<-a.done
		b.stop()
		<-b.done
		if len(events) != 0 {
			t.Errorf("got another event %q, want none", <-events)
		}
	})
}

// TestEventUnderWayStaysWithItsNode recovers elsewhere while the handler is at work: the client is told to try again, and
// gets the answer where it was asked for.
func TestEventUnderWayStaysWithItsNode(t *testing.T) {
	t.Parallel()
	eachReliable(t, func(t *testing.T, codec string) {
		entered, release := make(chan struct{}, 2), make(chan struct{})
		s := withHandler(handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				entered <- struct{}{}
				<-release
			}
		}))
		net := membus.NewNetwork()
		s.bus = net.Bus()
		a := start(t, s)
		s.bus = net.Bus()
		b := start(t, s)
		c := a.join(codec, "ana")
		go func() { _ = c.SendEvent(context.Background(), "slow", text("x")) }()
		<-entered
		var later *wsclient.HandshakeError
		if _, err := b.tryDial(b.recoveryURL(c.Info()), codec); !errors.As(err, &later) || later.Status != http.StatusServiceUnavailable {
			t.Errorf("got %v, want to be told to try again", err)
		}
		close(release)
		b.recoverAt(t, c)
		must(t, c.SendEvent(within(t), "slow", text("x")))
	})
}

// TestDrainLeavesReliableConnectionsToOthers has one client come back to another node in time, with nothing lost and no
// word to the handler, and one that stays away.
//
// checklist:O06
func TestDrainLeavesReliableConnectionsToOthers(t *testing.T) {
	t.Parallel()
	reliable(t, func(t *testing.T, codec string) {
		t.Parallel()
		disconnected := make(chan string, 10)
		s := withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/disconnected" {
				disconnected <- r.Header.Get("Ce-Connectionid")
			}
		}))
		net := membus.NewNetwork()
		s.bus = net.Bus()
		a := start(t, s)
		a.giveUpAfter = 20 * time.Second // by when one has come back, also on a busy machine
		s.bus = net.Bus()
		b := start(t, s)
		c, away := a.join(codec, "ana", "room"), a.join(codec, "ben", "room")
		a.stop()
		wantClose(t, c, 1001)
		must(t, b.rest().SendToGroup(within(t), "room", text("while away")))
		var later *wsclient.HandshakeError
		if _, err := a.tryDial(a.recoveryURL(c.Info()), codec); !errors.As(err, &later) || later.Status != http.StatusServiceUnavailable || later.Header.Get("Retry-After") == "" {
			t.Errorf("got %v from the node that leaves, want 503 with Retry-After", err)
		}
		b.recoverAt(t, c)
		wantMessage(t, c, "while away")
		<-a.done
		if got := <-disconnected; got != away.Info().ConnectionID || len(disconnected) > 0 {
			t.Errorf("got disconnected of %s and %d more, want that of the one who has stayed away", got, len(disconnected))
		}
		must(t, c.Ping(within(t)))
		must(t, b.rest().SendToConnection(within(t), c.Info().ConnectionID, text("still reached")))
		wantMessage(t, c, "still reached")
	})
}

// checklist:O06
func TestHandshakesComeInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, setup{config: Config{HandshakeRate: 2}})
	eventually(t, "somebody is told to come back later", func() bool { // at once, unless the machine is slower than the rate
		var refused atomic.Bool
		var dials sync.WaitGroup
		for range 8 {
			dials.Go(func() {
				_, err := s.tryDial(s.clientURL("ana", nil), protocol.NameJSON)
				var later *wsclient.HandshakeError
				switch {
				case err == nil:
				case errors.As(err, &later) && later.Status == http.StatusServiceUnavailable && later.Header.Get("Retry-After") != "":
					refused.Store(true)
				default:
					t.Errorf("got %v, want a connection or 503 with Retry-After", err)
				}
			})
		}
		dials.Wait()
		return refused.Load()
	})
	eventually(t, "there is room again", func() bool {
		_, err := s.tryDial(s.clientURL("ana", nil), protocol.NameJSON)
		return err == nil
	})
}
