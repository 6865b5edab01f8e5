package fault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/fault/facts"
)

// subprotocols that clients have, in turn.
var subprotocols = []string{
	"json.webpubsub.azure.v1", "json.reliable.webpubsub.azure.v1",
	"protobuf.webpubsub.azure.v1", "protobuf.reliable.webpubsub.azure.v1",
}

// Times of clients. Recovery is that of the official SDKs.
const (
	dialTime     = 5 * time.Second
	recoverEach  = time.Second
	recoverFor   = 30 * time.Second
	reconnect    = 300 * time.Millisecond
	pingEach     = 3 * time.Second
	pingPatience = 12 * time.Second // then a client gives its socket up
)

// client is somebody who stays connected: over as many connections, and these over as many sockets, as it takes.
type client struct {
	w           *world
	name        string
	subprotocol string
	reliable    bool
	groups      []string
	home        int // gateway that it connects to first
	turn        int // where it connects to next

	heard atomic.Int64

	mu      sync.Mutex // guards the following
	current *session   // nil while there is none, or not in its groups
	numbers map[string]int
}

// session is one connection.
type session struct {
	*wsclient.Client
	client *client
	id     atomic.Pointer[string]
	node   atomic.Pointer[node] // that its socket leads to
}

func newClient(w *world, i int) *client {
	p := subprotocols[i%len(subprotocols)]
	c := &client{w: w, name: fmt.Sprintf("c%d", i), subprotocol: p, reliable: strings.Contains(p, "reliable"),
		home: i % gateways, turn: i % gateways, numbers: map[string]int{}}
	g := i / gateways // so that each group has members on each gateway
	c.groups = []string{groupName(g % groups)}
	if i%5 == 0 {
		c.groups = append(c.groups, groupName((g+groups/2)%groups))
	}
	return c
}

// next is the gateway that a load balancer would choose.
func (c *client) next() *node {
	n := c.w.nodes[c.turn%len(c.w.nodes)]
	c.turn++
	return n
}

func (c *client) isBack() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current != nil
}

func (c *client) set(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = s
}

// live connects, and connects again whenever a connection has ended, until ctx ends.
func (c *client) live(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := c.dial(ctx, c.next())
		if err != nil {
			sleep(ctx, reconnect)
			continue
		}
		if c.join(ctx, s) {
			c.back(s)
		}
		c.keep(ctx, s)
		c.set(nil)
		s.Drop()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *client) url(n *node) string {
	token, err := n.api.ClientToken(c.name, time.Hour, []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}, nil)
	if err != nil {
		c.w.t.Error(err)
	}
	return n.url + "/client/hubs/" + hub + "?access_token=" + token
}

func (c *client) dial(ctx context.Context, n *node) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	s := &session{client: c}
	conn, err := wsclient.Dial(ctx, c.url(n), wsclient.Options{Subprotocols: []string{c.subprotocol}, OnMessage: s.hear})
	if err != nil {
		return nil, err
	}
	id := conn.Info().ConnectionID
	s.Client = conn
	s.node.Store(n)
	s.id.Store(&id)
	s.note(facts.Fact{Kind: facts.Opened, Node: n.name, Reliable: c.reliable})
	return s, nil
}

// note adds a fact about the connection.
func (s *session) note(f facts.Fact) {
	f.Client, f.Conn = s.client.name, *s.id.Load()
	s.client.w.log.Add(f)
}

// hear notes a message to a group.
func (s *session) hear(m wsclient.Message) {
	from, number, ok := strings.Cut(string(m.Data.Bytes), "#")
	n, err := strconv.Atoi(number)
	if id := s.id.Load(); id == nil || !ok || err != nil {
		return // not ours
	}
	s.client.heard.Add(1)
	s.note(facts.Fact{Kind: facts.Heard, Group: m.Group, From: from, Number: n})
}

// join joins the groups, as often as it takes, and reports false when the connection has ended.
func (c *client) join(ctx context.Context, s *session) bool {
	for _, group := range c.groups {
		for {
			err := s.Join(ctx, group)
			if err == nil {
				s.note(facts.Fact{Kind: facts.Joined, Group: group})
				break
			}
			if nack := (*wsclient.AckError)(nil); !errors.As(err, &nack) {
				return false
			}
			sleep(ctx, reconnect)
		}
	}
	return true
}

func (c *client) back(s *session) {
	c.set(s)
	c.w.log.Add(facts.Fact{Kind: facts.Back, Client: c.name})
}

// keep stays with a connection until it has ended: over several sockets when it is reliable.
func (c *client) keep(ctx context.Context, s *session) {
	for {
		joined := c.isBack()
		c.watch(ctx, s)
		if ctx.Err() != nil {
			return
		}
		c.set(nil)
		end, err := s.Wait(ctx)
		if err != nil {
			return
		}
		s.note(facts.Fact{Kind: facts.Cut, Code: end.Code, Reason: end.Reason})
		if c.reliable && end.Code != 1008 {
			end = c.recover(ctx, s)
		}
		if ctx.Err() != nil {
			return
		}
		if end != nil {
			s.note(facts.Fact{Kind: facts.Ended, Code: end.Code, Reason: end.Reason})
			return
		}
		if joined || c.join(ctx, s) {
			c.back(s)
		}
	}
}

// recover takes a reliable connection up on another socket; it returns nil, or why the client has to give it up.
func (c *client) recover(ctx context.Context, s *session) *wsclient.CloseError {
	var err error
	for began := time.Now(); time.Since(began) < recoverFor && ctx.Err() == nil; sleep(ctx, recoverEach) {
		n := c.next()
		if err = c.tryRecover(ctx, s, n); err == nil {
			s.node.Store(n)
			s.note(facts.Fact{Kind: facts.Recovered, Node: n.name})
			return nil
		}
		if end := (*wsclient.CloseError)(nil); errors.As(err, &end) && end.Code == 1008 {
			return end
		}
	}
	return &wsclient.CloseError{Reason: fmt.Sprintf("not recovered within %v, the last time because of: %.200v", recoverFor, err)}
}

func (c *client) tryRecover(ctx context.Context, s *session, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return s.RecoverAt(ctx, c.url(n))
}

// watch pings, and returns when the socket has ended. A server that does not answer is given up, as an operating system or an SDK with
// keep-alive does.
func (c *client) watch(ctx context.Context, s *session) {
	done := s.Done()
	for tick := time.NewTicker(pingEach); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-done:
			tick.Stop()
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, c.w.lasting(pingPatience, time.Minute))
		err := s.Ping(within)
		cancel()
		switch {
		case err == nil:
			s.note(facts.Fact{Kind: facts.Alive})
		case ctx.Err() == nil && within.Err() != nil:
			s.Drop()
		}
	}
}

// talk sends to the client's groups, and to the application, until ctx ends.
func (c *client) talk(ctx context.Context) {
	const each = time.Second * clients / perSecond
	for n := 0; ; n++ {
		sleep(ctx, each)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		s := c.current
		c.mu.Unlock()
		switch {
		case s == nil:
		case n%eventEach == eventEach-1:
			c.send(ctx, s, "")
		default:
			c.send(ctx, s, c.groups[n%len(c.groups)])
		}
	}
}

// send sends the next message to a group, or the next event, and does not wait for the answer.
func (c *client) send(ctx context.Context, s *session, group string) {
	c.numbers[group]++
	f := facts.Fact{Kind: facts.Sent, Client: c.name, Conn: *s.id.Load(), Node: s.node.Load().name, Group: group, Number: c.numbers[group]}
	r := &protocol.Request{Kind: protocol.SendToGroup, Group: group, HasAck: true}
	if group == "" {
		r.Kind, r.Event = protocol.SendEvent, "note"
	}
	r.SetData(text(c.name, f.Number))
	c.w.log.Add(f)
	answer, err := s.Start(context.WithoutCancel(ctx), r)
	if err != nil {
		return // the socket has ended
	}
	c.w.open.Add(1)
	c.w.parts.Go(func() {
		defer c.w.open.Add(-1)
		ctx, cancel := context.WithTimeout(c.w.t.Context(), 3*time.Minute)
		defer cancel()
		err := answer(ctx)
		f := facts.Fact{Kind: facts.Acked, Group: group, Number: f.Number}
		if nack := (*wsclient.AckError)(nil); errors.As(err, &nack) {
			f.Kind, f.Reason = facts.Nacked, nack.Error()
		} else if err != nil {
			return // with its socket
		}
		s.note(f)
	})
}
