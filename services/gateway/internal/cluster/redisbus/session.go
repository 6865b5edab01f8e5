package redisbus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// beat is how often a session publishes to an echo channel of each server. After two beats in which nothing has come
// in, it takes the connection for dead.
const beat = 2 * time.Second

var errSilent = fmt.Errorf("redis has sent nothing for %v", 2*beat)

// session is the time from one connect to the next: of all servers, if there are several.
type session struct {
	bus    *Bus
	links  []*link
	routes *routes         // nil: there is one link
	ctx    context.Context // ends with the session; its cause is the reason
	cancel context.CancelCauseFunc
	idle   func() // see cluster.Bus

	wasReady bool // set by setUp; read when the session has ended
}

// session connects and works until something fails or ctx ends. It says whether the bus has been ready, and why
// it is not any more.
func (b *Bus) session(ctx context.Context, deliver func(string, []byte), idle func()) (wasReady bool, err error) {
	s := &session{bus: b, idle: idle}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := s.connect(); err != nil {
		s.fail(err)
		s.close()
		return false, err
	}
	b.topics.begin()
	if len(s.links) > 1 {
		deliver = oneAtATime(deliver)
	}
	var parts sync.WaitGroup
	run := func(part func() error) { parts.Go(func() { s.fail(part()) }) }
	for _, l := range s.links {
		run(func() error { return s.receive(l, deliver) })
		run(func() error { return s.publish(l) })
		run(l.watch)
	}
	run(s.subscribe)
	if s.routes != nil {
		run(s.watchRoutes)
	}
	context.AfterFunc(s.ctx, s.close) // frees receive
	parts.Wait()
	return s.wasReady, context.Cause(s.ctx)
}

// oneAtATime returns deliver for several goroutines.
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
	if s.bus.client != nil {
		s.links = []*link{newLink(s.ctx, s.bus.client, false, s.idle, s.bus.prefix, func(string) bool { return true })}
		return s.links[0].connect()
	}
	var err error
	if s.routes, err = s.bus.findRoutes(s.ctx); err != nil {
		return err
	}
	for n, addr := range s.routes.masters {
		client, err := s.bus.open(addr)
		if err != nil {
			return err
		}
		l := newLink(s.ctx, client, true, s.idle, s.bus.prefix, func(channel string) bool { return s.routes.of(channel) == n })
		s.links = append(s.links, l)
		if err := l.connect(); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}

// close ends the connections that subscribe, and those to the masters of a cluster.
func (s *session) close() {
	for _, l := range s.links {
		if l.pubsub != nil {
			_ = l.pubsub.Close()
		}
		if l.sharded {
			_ = l.client.Close()
		}
	}
}

// watchRoutes ends the session when others serve the slots than at its beginning. Redis says so by itself only to those who
// use them: not to who asks how many subscribe, nor to whom a master leaves when it becomes a replica.
func (s *session) watchRoutes() error {
	ticker := time.NewTicker(2 * beat)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ticker.C:
		}
		i := n % len(s.links)
		now, err := readRoutes(s.ctx, s.links[i].client.(*redis.Client), s.routes.masters[i])
		if err == nil && !now.equal(s.routes) { // of an error the beat knows more
			return errMoved
		}
	}
}

// link returns the way of a channel.
func (s *session) link(channel string) *link {
	if s.routes == nil {
		return s.links[0]
	}
	return s.links[s.routes.of(channel)]
}

// fail ends the session; the first reason counts.
func (s *session) fail(err error) {
	s.cancel(err)
	s.bus.setDown(s, context.Cause(s.ctx))
}

// prove fails unless each server hears a publish of this session.
func (s *session) prove() error {
	for _, l := range s.links {
		if err := l.prove(); err != nil {
			return err
		}
	}
	return nil
}
