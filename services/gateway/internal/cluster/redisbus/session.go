package redisbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/pkg/redisconn"
)

// echoInterval is how often a session publishes to an echo channel of each server. When nothing at all has come in during two
// intervals, it takes the connection for dead.
const echoInterval = 2 * time.Second

// errSilent ends a session whose server does not answer any more, though its connection is open.
var errSilent = fmt.Errorf("redis has sent nothing for %v", 2*echoInterval)

// session is the time from one connect to the next, with the links to all servers. Its goroutines are, for each link, one that
// receives, one that publishes, one that watches the echo and one that watches the server's role; and for all links one that subscribes and, with a Redis Cluster, one
// that watches the slots. The first that fails ends the session, which ends the others.
type session struct {
	bus    *Bus
	links  []*link
	routes *routes         // nil: there is one link
	ctx    context.Context // ends with the session; its cause is the reason
	cancel context.CancelCauseFunc
	idle   func() // see cluster.Bus
	gate   gate

	subscribed chan struct{} // has a token when there are new subscriptions
	caughtUp   atomic.Bool   // all that was published before this session has been delivered, as far as the server has it

	wasReady bool // set by setReady; read when the session has ended
}

// runSession connects and works until something fails or ctx ends. It returns whether the bus has been ready, and why it is not
// any more.
func (b *Bus) runSession(ctx context.Context, deliver func(string, []byte), idle func()) (wasReady bool, err error) {
	s := &session{bus: b, idle: idle, subscribed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := s.connect(); err != nil {
		s.fail(err)
		s.close()
		return false, err
	}
	b.topics.resubscribeAll()
	if len(s.links) > 1 {
		deliver = oneAtATime(deliver)
	}
	s.gate.deliver = deliver
	s.gate.open.Store(!b.hasPosition())
	var parts sync.WaitGroup
	run := func(part func() error) { parts.Go(func() { s.fail(part()) }) }
	for _, l := range s.links {
		run(func() error { return s.receive(l) })
		run(func() error { return s.publish(l) })
		run(l.watchEcho)
		run(l.watchRole)
	}
	run(s.subscribe)
	if b.keeps() {
		run(func() error { return s.watchPosition(s.links[0]) })
	}
	if s.routes != nil {
		run(s.watchRoutes)
	}
	context.AfterFunc(s.ctx, s.close) // receive reads without a deadline: closing its connection is what ends it
	parts.Wait()
	return s.wasReady, context.Cause(s.ctx)
}

// oneAtATime returns deliver for the goroutines of several links, as cluster.Bus promises that it is called by one at a time.
func oneAtATime(deliver func(string, []byte)) func(string, []byte) {
	var mu sync.Mutex
	return func(topic string, payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		deliver(topic, payload)
	}
}

// connect opens a link to each server.
func (s *session) connect() error {
	if len(s.bus.servers) == 0 {
		client, err := redisconn.Open(s.bus.config)
		if err != nil {
			return err
		}
		client.AddHook(dialHook{})
		s.links = []*link{newLink(s.ctx, client, false, &s.bus.backlog.numbers, s.idle, s.bus.prefix, func(string) bool { return true })}
		return s.links[0].connect()
	}
	var err error
	if s.routes, err = s.bus.findRoutes(s.ctx); err != nil {
		return err
	}
	for n, addr := range s.routes.masters {
		client, err := s.bus.openServer(addr)
		if err != nil {
			return err
		}
		l := newLink(s.ctx, client, true, &s.bus.backlog.numbers, s.idle, s.bus.prefix, func(channel string) bool { return s.routes.masterOf(channel) == n })
		s.links = append(s.links, l)
		if err := l.connect(); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}

// close ends all connections. The next session makes its own: one that were kept could lead to a server that has become a replica
// meanwhile, or is not the one that the others lead to.
func (s *session) close() {
	for _, l := range s.links {
		if l.pubsub != nil {
			_ = l.pubsub.Close()
		}
		_ = l.client.Close()
	}
}

// watchRoutes ends the session when other masters serve the slots than at its beginning. Redis reports that by itself only to
// commands that use a slot: not to one that counts subscribers, nor to a subscriber whose master becomes a replica.
func (s *session) watchRoutes() error {
	ticker := time.NewTicker(2 * echoInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ticker.C:
		}
		i := n % len(s.links)
		now, err := readRoutes(s.ctx, s.links[i].client.(*redis.Client), s.routes.masters[i])
		if err == nil && !now.equal(s.routes) { // an error is left to the echo, which knows whether the server answers
			return errSlotsMoved
		}
	}
}

// link returns the link to the server that has a channel.
func (s *session) link(channel string) *link {
	if s.routes == nil {
		return s.links[0]
	}
	return s.links[s.routes.masterOf(channel)]
}

// fail ends the session; the first reason is the one that is reported.
func (s *session) fail(err error) {
	s.cancel(err)
	s.bus.setDown(s, context.Cause(s.ctx))
}

// checkEcho fails unless each server is a master, and delivers a publish of this session to its subscription.
func (s *session) checkEcho() error {
	for _, l := range s.links {
		if err := errors.Join(l.checkRole(), l.checkEcho()); err != nil {
			return err
		}
	}
	return nil
}
