// Package session does what connected clients ask for: it reads their frames, decides whether they may, asks the node or
// the application, and answers. What it keeps with a connection outlives the connection's sockets and goes along when
// the connection moves to another node.
//
// How a client gets to be connected is package front's; how messages reach other connections is package node's.
package session

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/ratelimit"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
	"github.com/chatr-dev/chatr/services/gateway/internal/groupstate"
	"github.com/chatr-dev/chatr/services/gateway/internal/handoff"
	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
	"github.com/chatr-dev/chatr/services/gateway/internal/socket"
	"github.com/chatr-dev/chatr/services/gateway/internal/stream"
	"github.com/chatr-dev/chatr/services/gateway/internal/upstream"
)

// Deps is what clients of a node work with.
type Deps struct {
	Tenants  tenant.Source
	Messages messagelog.Log // nil when no hub has listeners
	Bus      cluster.Bus
	Conns    *hub.Registry
	Node     *node.Node
	Audit    *audit.Log
	Log      *slog.Logger
	Metrics  prometheus.Registerer

	// Sockets counts the goroutines that read or refuse a socket, or work at what has come by one; whoever ends the node waits for them.
	Sockets *sync.WaitGroup
	// Ended is called with the tenant of each connection that has ended, once its event handler's event is queued.
	Ended func(tenant string)
}

// Clients is what the clients of one node share. Its methods are safe for concurrent use.
type Clients struct {
	tenants  tenant.Source
	messages messagelog.Log
	bus      cluster.Bus
	conns    *hub.Registry
	node     *node.Node
	audit    *audit.Log
	log      *slog.Logger
	failures *ratelimit.Limiter // of lines about what clients have asked for or done wrong, by tenant and what it was
	metrics  metrics
	sockets  *sync.WaitGroup
	ended    func(tenant string)
	secret   []byte        // of the keys of reconnection tokens
	events   waitingEvents // for the application

	life context.Context // ends when everything stops
	stop context.CancelFunc

	pendingEffects atomic.Int64   // group streams that are not over, and states that are being taken back
	effects        sync.WaitGroup // goroutines that end streams and take back states of connections that have ended
}

// NewClients returns what the clients of a node share. Stop ends it.
func NewClients(d Deps) *Clients {
	s := &Clients{tenants: d.Tenants, messages: d.Messages, bus: d.Bus, conns: d.Conns, node: d.Node, audit: d.Audit, log: d.Log,
		failures: ratelimit.New(1, 20), metrics: newMetrics(d.Metrics), sockets: d.Sockets, ended: d.Ended, secret: make([]byte, 32)}
	_, _ = rand.Read(s.secret) // never fails
	s.life, s.stop = context.WithCancel(context.Background())
	return s
}

// PendingEffects counts what others have yet to be told: group streams that are not over, and connections whose state is being
// taken back.
func (s *Clients) PendingEffects() int { return int(s.pendingEffects.Load()) }

// Stop ends what is done for connections. Wait then returns when nothing is told any more on behalf of those that have
// ended.
func (s *Clients) Stop() { s.stop() }

// Wait returns when all is over that was done for connections. It is to be called after Stop.
func (s *Clients) Wait() { s.effects.Wait() }

// Client is what is kept with a connection, across its sockets.
type Client struct {
	shared   *Clients
	conn     *hub.Conn
	events   *upstream.Session // the connection as event handlers see it
	tenant   string
	mode     Mode
	inFlight inFlight
	key      []byte // of reconnection tokens, if the connection comes from another node

	mu         sync.Mutex             // guards the following
	streams    *stream.Set            // nil until the first is started
	states     *groupstate.ConnStates // what has come from another node and is to be said here
	life       context.Context        // ends with the connection; nil until it is needed
	cancel     context.CancelFunc
	hasEnded   bool          // the connection has ended
	asks       *asks         // nil until the application is asked something
	workers    int           // goroutines that read a socket, or work at what the application is asked
	noneAtWork chan struct{} // closed when there are none; nil: nobody waits for it
}

// Mode is what becomes of the messages of a simple client (client-json.md section 2). The zero Mode makes them events.
type Mode struct {
	Group  string // that they go to; empty: they are events
	NoEcho bool
}

// New returns a client that has no connection yet; Open or TakeOver makes it. events is the connection as event handlers see
// it, mode counts only for simple clients.
func (s *Clients) New(events *upstream.Session, tenant string, mode Mode) *Client {
	return &Client{shared: s, events: events, tenant: tenant, mode: mode}
}

// Open makes the client's connection, a member of groups. Errors are those of Node.Open.
func (c *Client) Open(ctx context.Context, o hub.ConnOptions, groups []string) (err error) {
	c.conn, err = c.shared.node.Open(ctx, c.own(o), groups)
	return err
}

// TakeOver brings a reliable connection with that id from another node to this one, if credential, a reconnection token,
// proves a right to it. options says what it is to be here, but for whose it is. Errors are those of Handoffs.TakeOver.
func (c *Client) TakeOver(ctx context.Context, h webpubsub.HubKey, id, credential string,
	options func(handoff.ConnState) (hub.ConnOptions, error)) error {
	return c.shared.node.Handoffs.TakeOver(ctx, h, id, credential, func(t handoff.ConnState) (hub.ConnOptions, error) {
		o, err := options(t)
		return c.own(o), err
	})
}

// own makes the client the owner of a connection to be made.
func (c *Client) own(o hub.ConnOptions) hub.ConnOptions {
	o.Owner, o.OnClosed, o.OnMembershipChange = c, c.closed, c.membershipChanged
	return o
}

// Conn returns the client's connection, nil before it is made.
func (c *Client) Conn() *hub.Conn { return c.conn }

// Events returns the connection as event handlers see it.
func (c *Client) Events() *upstream.Session { return c.events }

// Serve gives the connection a socket and starts its read loop, in a goroutine whose stack stays small. greeting is the
// first text frame that a client of the ancestor protocol gets.
func (c *Client) Serve(sock *socket.Socket, greeting string) {
	s := c.shared
	if t := s.tenants.ByName(c.tenant); t != nil {
		sock.SetLimit(int64(t.Limits.MessageBytes))
	}
	c.addWorkers(1)
	connected := c.connected()
	connected.Greeting = greeting
	s.node.States.Pause(c.conn) // before it has the socket, so that no update comes there before the snapshot
	if !s.conns.Attach(c.conn, sock, connected) {
		c.addWorkers(-1)
		code, text := hub.CodePolicy, "The connection has ended."
		if c.conn.Frozen() {
			code, text = hub.CodeGoingAway, "The connection is moving to another node."
		}
		s.sockets.Go(func() { sock.Refuse(code, text) })
		return
	}
	c.resumeStreams()
	r := newReader(c, sock)
	s.sockets.Go(func() {
		c.resumeStates()
		r.run()
	})
}

// addWorkers adds n, which may be negative, to the number of goroutines at work for the client.
func (c *Client) addWorkers(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers += n; c.workers == 0 && c.noneAtWork != nil {
		close(c.noneAtWork)
		c.noneAtWork = nil
	}
}

// goWork works at what the application is asked, in a goroutine of its own. It is for goroutines that are at work for the client.
func (c *Client) goWork(work func()) {
	c.addWorkers(1)
	c.shared.sockets.Go(func() {
		defer c.addWorkers(-1)
		work()
	})
}

// awaitIdle returns when nothing is under way that the client of a connection without socket has asked for.
func (c *Client) awaitIdle(ctx context.Context) error {
	c.mu.Lock()
	if c.workers > 0 && c.noneAtWork == nil {
		c.noneAtWork = make(chan struct{})
	}
	idle := c.noneAtWork
	c.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.inFlight.awaitNone(ctx)
}

// context returns the context of what is done for the connection.
func (c *Client) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		c.life, c.cancel = context.WithCancel(c.shared.life)
		if c.hasEnded {
			c.cancel()
		}
	}
	return c.life
}

// end ends what is done for the connection, which has ended for that reason.
func (c *Client) end(reason hub.Reason) {
	c.mu.Lock()
	c.hasEnded = true
	if c.cancel != nil {
		c.cancel()
	}
	asks := c.asks
	c.mu.Unlock()
	if asks != nil {
		asks.end(reason)
	}
}

// warn logs what has gone wrong with what the client asked for. Clients can ask as often as they like, and must not fill the log.
func (c *Client) warn(what string, err error) {
	c.logBounded(slog.LevelWarn, what, slog.Any("error", err))
}

func (c *Client) logBounded(level slog.Level, what string, more ...slog.Attr) {
	if ok, _ := c.shared.failures.Allow(c.tenant + " " + what); ok {
		of := []slog.Attr{slog.String("hub", c.conn.Hub.String()), slog.String("connection", c.conn.ID)}
		c.shared.log.LogAttrs(context.Background(), level, what, append(of, more...)...)
	}
}

// closed is called when the connection has ended for good.
func (c *Client) closed(conn *hub.Conn, closing hub.Closing) {
	c.end(closing.Reason)
	c.endStreams(closing.Reason == hub.ReasonHandedOver)
	c.forgetStates(conn, closing.Reason == hub.ReasonHandedOver)
	c.events.Closed(closing.Text)
	c.shared.ended(c.tenant) // only now: once nobody is left, the drain takes it that all events are queued
	c.shared.audit.ConnectionEnded(conn, closing)
	c.shared.log.Debug("connection ended", "hub", conn.Hub.String(), "connection", conn.ID, "reason", string(closing.Reason))
}

// membershipChanged is called when the connection has joined or left a group.
func (c *Client) membershipChanged(conn *hub.Conn, group string, joined bool) {
	if joined {
		c.events.GroupJoined(group)
	} else {
		c.forgetState(conn, group)
		c.events.GroupLeft(group)
	}
}

// reply sends a finished message to the client's socket, if there is anything to send.
func (c *Client) reply(payload []byte) {
	if len(payload) > 0 {
		op := socket.Text
		if c.conn.Codec.Binary() {
			op = socket.Binary
		}
		c.shared.conns.SendFrame(c.conn, op, payload)
	}
}
