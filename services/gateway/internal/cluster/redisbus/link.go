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

var (
	errApart  = errors.New("redis takes publishes but does not know of our subscriptions")
	errRedial = errors.New("connection closed")
	errMoved  = errors.New("slots of the cluster have moved")
)

// link is a session's way to one server: the only one, or a master of the cluster.
type link struct {
	client  redis.UniversalClient
	sharded bool // channels are those of a cluster's shards
	pubsub  *redis.PubSub
	echo    string // a channel of this server that only this session subscribes to
	posts   posts

	ctx         context.Context // the session's
	dialCtx     context.Context // the same for calls of pubsub, see dialHook
	heard       atomic.Bool     // something has come in since watch looked last
	unconfirmed atomic.Int64    // channels of the last command
	confirmed   chan struct{}   // has a token when unconfirmed has come to zero
}

// newLink returns a link that has no connection yet. owns says which channels belong to its server.
func newLink(ctx context.Context, client redis.UniversalClient, sharded bool, idle func(), prefix string, owns func(channel string) bool) *link {
	l := &link{client: client, sharded: sharded, posts: newPosts(), ctx: ctx, confirmed: make(chan struct{}, 1)}
	for l.echo == "" || !owns(l.echo) {
		l.echo = prefix + "echo/" + rand.Text()
	}
	l.dialCtx = context.WithValue(ctx, subscriber{}, &dial{idle: idle})
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

// write sends what subscribes or unsubscribes channels. Confirmations follow.
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

// confirmation waits until every channel of the last command has been confirmed.
func (l *link) confirmation() error {
	select {
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-l.confirmed:
		return nil
	}
}

// receive reads the connection and delivers.
func (s *session) receive(l *link, deliver func(string, []byte)) error {
	defer s.idle() // it may end with a delivery that no read has followed
	skip := len(s.bus.prefix)
	timeout := time.Duration(0) // takes away the deadline that connecting has left
	for {
		m, err := l.pubsub.ReceiveTimeout(l.dialCtx, timeout)
		timeout = -1 // leaves the deadline alone: watch sees silence, and setting it for each costs
		if err != nil {
			return err
		}
		s.bus.received.Add(1)
		if !l.heard.Load() {
			l.heard.Store(true)
		}
		switch m := m.(type) {
		case *redis.Message:
			if m.Channel != l.echo {
				deliver(m.Channel[skip:], bytesOf(m.Payload))
			}
		case *redis.Subscription:
			switch left := l.unconfirmed.Add(-1); {
			case left == 0:
				wake(l.confirmed)
			case left < 0: // unasked
				return errMoved
			}
		}
	}
}

// bytesOf returns the bytes of s without a copy; they must not be changed, as Bus.Run demands of deliver.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// watch publishes to the echo channel at every beat, which shows that both directions work and lead to the same
// server, and ends the session when they do not.
func (l *link) watch() error {
	apart := make(chan struct{}, 1)
	answer := func(nodes int, err error) {
		if err == nil && nodes == 0 {
			wake(apart)
		}
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for silent := 0; ; {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-apart:
			return errApart
		case <-ticker.C:
		}
		if silent++; l.heard.Swap(false) {
			silent = 0
		}
		if silent == 2 {
			return errSilent
		}
		_ = l.posts.add(post{channel: l.echo, done: answer}) // not before the bus is ready, nor when it is full
	}
}

// prove publishes to the echo channel, past the queue that is still closed, and fails unless that is heard.
func (l *link) prove() error {
	publish := l.client.Publish
	if l.sharded {
		publish = l.client.SPublish
	}
	nodes, err := publish(l.ctx, l.echo, "").Result()
	if err == nil && nodes == 0 {
		err = errApart
	}
	return err
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

// dialHook sees to the connections of a redis.PubSub. They connect once: a PubSub would connect again by itself, before
// we know that anything was lost, and subscribe to all topics with one command. And they say when all that has been read
// has been delivered.
type dialHook struct{}

// subscriber is the key of a *dial in the context of a link's calls.
type subscriber struct{}

type dial struct {
	done atomic.Bool
	idle func()
}

func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d, ok := ctx.Value(subscriber{}).(*dial)
		if !ok {
			return next(ctx, network, addr)
		}
		if d.done.Swap(true) {
			return nil, errRedial
		}
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &idleConn{conn, d.idle}, nil
	}
}

// idleConn calls idle before each read. The client library reads when its buffer has no whole reply left.
type idleConn struct {
	net.Conn
	idle func()
}

func (c *idleConn) Read(b []byte) (int, error) {
	c.idle()
	return c.Conn.Read(b)
}

func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
