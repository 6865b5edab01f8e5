package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// Why a link ends, besides the errors of the client library.
var (
	errEchoLost   = errors.New("redis takes publishes but does not know of our subscriptions")
	errReplica    = errors.New("redis is a replica: what is published there, only those hear who subscribe there")
	errRedial     = errors.New("connection closed")
	errSlotsMoved = errors.New("slots of the cluster have moved")
)

// link is a session's connections to one server: the only one, or a master of the cluster. There are two: client's, which
// publishes, and pubsub's, which subscribes.
type link struct {
	client  redis.UniversalClient
	sharded bool // channels belong to shards of a cluster: SPUBLISH, SSUBSCRIBE
	pubsub  *redis.PubSub
	echo    string // a channel of this server that only this session subscribes to
	posts   posts

	ctx         context.Context // the session's
	dialCtx     context.Context // the same, for calls of pubsub; see dialHook
	received    atomic.Bool     // something has come in since watchEcho looked last
	unconfirmed atomic.Int64    // channels of the last command that have not been confirmed
	confirmed   chan struct{}   // has a token when unconfirmed has come to zero
}

// newLink returns a link that has no connection yet. owns says which channels belong to its server.
func newLink(
	ctx context.Context, client redis.UniversalClient, sharded bool, numbers *atomic.Uint64, idle func(), prefix string,
	owns func(channel string) bool,
) *link {
	l := &link{client: client, sharded: sharded, posts: newPosts(numbers), ctx: ctx, confirmed: make(chan struct{}, 1)}
	for l.echo == "" || !owns(l.echo) {
		l.echo = prefix + "echo/" + rand.Text()
	}
	l.dialCtx = context.WithValue(ctx, singleDialKey{}, &singleDial{idle: idle})
	return l
}

// connect opens the connection that subscribes.
func (l *link) connect() error {
	if l.sharded {
		l.pubsub = l.client.SSubscribe(l.dialCtx)
	} else {
		l.pubsub = l.client.Subscribe(l.dialCtx)
	}
	return l.write([]string{l.echo}, false)
}

// write sends commands that subscribe to channels or unsubscribe from them. For each channel a confirmation follows, which receive
// counts. One command is under way at a time.
func (l *link) write(channels []string, unsubscribe bool) error {
	l.unconfirmed.Store(int64(len(channels)))
	command, batch := l.pubsub.Subscribe, len(channels)
	switch {
	case l.sharded && unsubscribe:
		command, batch = l.pubsub.SUnsubscribe, 1 // those of one command must have one slot
	case l.sharded:
		command, batch = l.pubsub.SSubscribe, 1
	case unsubscribe:
		command = l.pubsub.Unsubscribe
	}
	for part := range slices.Chunk(channels, batch) {
		if err := command(l.dialCtx, part...); err != nil {
			return err
		}
	}
	return nil
}

// awaitConfirmations waits until every channel of the last command has been confirmed.
func (l *link) awaitConfirmations() error {
	select {
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-l.confirmed:
		return nil
	}
}

// receive reads the connection that subscribes, and delivers.
func (s *session) receive(l *link) error {
	defer s.idle() // it may end with a delivery that no read has followed
	skip := len(s.bus.prefix)
	timeout := time.Duration(0) // takes away the deadline that connecting has left
	for {
		m, err := l.pubsub.ReceiveTimeout(l.dialCtx, timeout)
		timeout = -1 // leaves the deadline alone: watchEcho notices silence, and setting a deadline for each read costs
		if err != nil {
			return err
		}
		s.bus.received.Add(1)
		if !l.received.Load() { // a load is cheap, a store is shared with watchEcho's core
			l.received.Store(true)
		}
		switch m := m.(type) {
		case *redis.Message:
			switch {
			case m.Channel != l.echo:
				s.gate.pass(m.Channel[skip:], bytesOf(m.Payload))
			case m.Payload != "":
				s.bus.backlog.reached(m.Payload)
			}
		case *redis.Subscription:
			switch left := l.unconfirmed.Add(-1); {
			case left == 0:
				wake(l.confirmed)
			case left < 0: // we have not asked for it: the server has unsubscribed us from a slot that it has lost
				return errSlotsMoved
			}
		}
	}
}

// bytesOf returns the bytes of s without a copy; they must not be changed, as Bus.Run demands of deliver.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// watchEcho publishes to the echo channel at every interval, which shows that both directions work and lead to the same
// server, and ends the session when they do not. Behind a proxy or after a failover the two connections may end at two servers,
// each of which answers.
func (l *link) watchEcho() error {
	echoLost := make(chan struct{}, 1)
	published := func(nodes int, err error) {
		if err == nil && nodes == 0 {
			wake(echoLost)
		}
	}
	ticker := time.NewTicker(echoInterval)
	defer ticker.Stop()
	for silent := 0; ; {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-echoLost:
			return errEchoLost
		case <-ticker.C:
		}
		if silent++; l.received.Swap(false) {
			silent = 0
		}
		if silent == 2 {
			return errSilent
		}
		_ = l.posts.add(post{channel: l.echo, done: published}, nil) // not before the bus is ready, nor when it is full
	}
}

// checkEcho publishes to the echo channel, past the queue, which is still closed, and fails unless that is heard.
func (l *link) checkEcho() error {
	publish := l.client.Publish
	if l.sharded {
		publish = l.client.SPublish
	}
	nodes, err := publish(l.ctx, l.echo, "").Result()
	if err == nil && nodes == 0 {
		err = errEchoLost
	}
	return err
}

// checkRole fails if the server is a replica. A replica takes subscriptions and publishes like a master, so that nodes on both sides of
// a failover would not notice that they have lost each other. A server that may not be asked, as some managed ones, counts as a
// master.
func (l *link) checkRole() error {
	ctx, cancel := context.WithTimeout(l.ctx, echoInterval)
	defer cancel()
	role, err := l.client.Do(ctx, "ROLE").Slice()
	if err == nil && len(role) > 0 && role[0] == "slave" {
		return errReplica
	}
	return nil
}

// watchRole ends the session when its server has become a replica.
func (l *link) watchRole() error {
	ticker := time.NewTicker(echoInterval)
	defer ticker.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-ticker.C:
		}
		if err := l.checkRole(); err != nil {
			return err
		}
	}
}

// interest says how many nodes subscribe to a channel of this server.
func (l *link) interest(ctx context.Context, channel string) (int, error) {
	count := l.client.PubSubNumSub
	if l.sharded {
		count = l.client.PubSubShardNumSub
	}
	counts, err := count(ctx, channel).Result()
	return int(counts[channel]), err
}

// dialHook changes how a redis.PubSub connects. It may connect once: by itself it would connect again before we know that anything
// was lost, and subscribe to all topics with one command. And the connection calls idle when everything that was read has been
// delivered.
type dialHook struct{}

// singleDialKey is the key of a *singleDial in the context of a link's calls of pubsub.
type singleDialKey struct{}

// singleDial is the permission to connect once.
type singleDial struct {
	used atomic.Bool
	idle func()
}

// DialHook implements redis.Hook.
func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d, ok := ctx.Value(singleDialKey{}).(*singleDial)
		if !ok {
			return next(ctx, network, addr)
		}
		if d.used.Swap(true) {
			return nil, errRedial
		}
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &idleConn{conn, d.idle}, nil
	}
}

// idleConn calls idle before each read. The client library reads only when its buffer has no whole reply left: everything before
// has been delivered.
type idleConn struct {
	net.Conn
	idle func()
}

// Read implements net.Conn.
func (c *idleConn) Read(b []byte) (int, error) {
	c.idle()
	return c.Conn.Read(b)
}

// ProcessHook and ProcessPipelineHook implement redis.Hook; they change nothing.
func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
