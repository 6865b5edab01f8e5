package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// beat is how often a session publishes to its own echo channel. After two beats in which nothing has come in,
// it takes the connection for dead.
const beat = 2 * time.Second

var (
	errSilent = fmt.Errorf("redis has sent nothing for %v", 2*beat)
	errApart  = errors.New("redis takes publishes but does not know of our subscriptions")
	errRedial = errors.New("connection closed")
)

// session is the time from one connect to the next.
type session struct {
	bus    *Bus
	pubsub *redis.PubSub
	echo   string          // a channel that only this session subscribes to
	ctx    context.Context // ends with the session; its cause is the reason
	cancel context.CancelCauseFunc

	dialCtx     context.Context // ctx for calls of pubsub, see dialOnce
	unconfirmed atomic.Int64    // channels of the last command
	confirmed   chan struct{}   // has a token when unconfirmed has come to zero

	wasReady bool // set by setUp; read when the session has ended
}

// session connects and works until something fails or ctx ends. It says whether the bus has been ready, and why
// it is not any more.
func (b *Bus) session(ctx context.Context, deliver func(string, []byte)) (wasReady bool, err error) {
	s, err := b.connect(ctx)
	if err != nil {
		b.setDown(err)
		return false, err
	}
	var parts sync.WaitGroup
	for _, part := range []func() error{func() error { return s.receive(deliver) }, s.subscribe, s.publish, s.watch} {
		parts.Go(func() { s.fail(part()) })
	}
	parts.Wait()
	return s.wasReady, context.Cause(s.ctx)
}

// connect opens the connection that subscribes.
func (b *Bus) connect(ctx context.Context) (*session, error) {
	s := &session{bus: b, echo: b.prefix + "echo/" + rand.Text(), confirmed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.dialCtx = context.WithValue(s.ctx, dialed{}, new(atomic.Bool))
	s.pubsub = b.client.Subscribe(s.dialCtx)
	s.unconfirmed.Store(1)
	if err := s.pubsub.Subscribe(s.dialCtx, s.echo); err != nil {
		s.cancel(err)
		s.pubsub.Close()
		return nil, err
	}
	context.AfterFunc(s.ctx, func() { s.pubsub.Close() }) // frees receive
	b.topics.begin()
	return s, nil
}

// fail ends the session; the first reason counts.
func (s *session) fail(err error) {
	s.cancel(err)
	s.bus.setDown(context.Cause(s.ctx))
}

// receive reads the connection and delivers.
func (s *session) receive(deliver func(string, []byte)) error {
	skip := len(s.bus.prefix)
	timeout := time.Duration(0) // takes away the deadline that connecting has left
	for {
		m, err := s.pubsub.ReceiveTimeout(s.dialCtx, timeout)
		timeout = -1 // leaves the deadline alone: watch sees silence, and setting it for each costs
		if err != nil {
			return err
		}
		s.bus.received.Add(1)
		switch m := m.(type) {
		case *redis.Message:
			if m.Channel != s.echo {
				deliver(m.Channel[skip:], bytesOf(m.Payload))
			}
		case *redis.Subscription:
			if s.unconfirmed.Add(-1) == 0 {
				wake(s.confirmed)
			}
		}
	}
}

// bytesOf returns the bytes of s without a copy; they must not be changed, as Bus.Run demands of deliver.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// watch publishes to the echo channel at every beat, which shows that both directions work and lead to the same
// server, and ends the session when they do not.
func (s *session) watch() error {
	apart := make(chan struct{}, 1)
	answer := func(nodes int, err error) {
		if err == nil && nodes == 0 {
			wake(apart)
		}
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	seen, silent := s.bus.received.Load(), 0
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-apart:
			return errApart
		case <-ticker.C:
		}
		now := s.bus.received.Load()
		if silent++; now != seen {
			seen, silent = now, 0
		}
		if silent == 2 {
			return errSilent
		}
		_ = s.bus.posts.add(post{channel: s.echo, done: answer}) // not before the bus is ready, nor when it is full
	}
}

// prove publishes to the echo channel, past the queue that is still closed, and fails unless that is heard.
func (s *session) prove() error {
	nodes, err := s.bus.client.Publish(s.ctx, s.echo, "").Result()
	if err == nil && nodes == 0 {
		err = errApart
	}
	return err
}

// dialOnce keeps a redis.PubSub from connecting again by itself: it would do so before we know that anything
// was lost, and subscribe to all topics with one command.
type dialOnce struct{}

// dialed is the key of an *atomic.Bool in the context of a session's calls.
type dialed struct{}

func (dialOnce) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if once, ok := ctx.Value(dialed{}).(*atomic.Bool); ok && once.Swap(true) {
			return nil, errRedial
		}
		return next(ctx, network, addr)
	}
}

func (dialOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
