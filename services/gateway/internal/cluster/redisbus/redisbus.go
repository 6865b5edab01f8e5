// Package redisbus is the bus of a deployment of several processes: Redis publish/subscribe.
//
// All publishes go through one queue into the pipelines of one goroutine (publish.go); one connection subscribes (subscribe.go)
// and is read by a loop of our own (link.go). They belong to a session (session.go). When any part of it fails, or the server
// stops answering, or has become a replica, the session ends and everything fails at once with cluster.ErrUnavailable. The next session makes all
// subscriptions again and hears a publish of its own before the bus is ready. Nothing is published twice, and
// nothing is kept for later.
//
// With a Redis Cluster a session has a link, that is a queue, goroutines and connections, for each master, and each topic is a
// channel of the shard that its name hashes to (routes.go). The session ends when any of them fails or slots move.
package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/backoff"
	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Pauses before the next session.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Config says which Redis carries the payloads.
type Config = redisconn.Config

// Bus is a node's connection to the others through Redis.
type Bus struct {
	config  Config
	servers []string // of the cluster, by the settings; none: a single server, perhaps one that Sentinel finds
	masters []string // of the last session; only Run's goroutine touches it
	prefix  string   // of every channel
	log     *slog.Logger
	metrics *metrics

	topics   topics
	backlog  backlog
	received atomic.Uint64 // answers and payloads on the connections that subscribe
	lost     atomic.Uint64
	gaps     atomic.Uint64

	mu        sync.Mutex            // held while the following change, together with the posts of links and topics
	state     atomic.Pointer[state] // never nil
	everReady bool

	positionFailed atomic.Bool // the server does not say positions
}

// state is ready with a session, or down for a reason. Both are in one value, so that Post reads them together without a lock.
type state struct {
	session *session
	down    error
}

var _ cluster.Bus = (*Bus)(nil)

// New returns a bus that connects when it runs, and keeps as much as kept says. Its metrics are registered with reg unless that is nil.
func New(cfg Config, kept Backlog, log *slog.Logger, reg prometheus.Registerer) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bus{config: cfg, servers: cfg.Servers(), prefix: cfg.Prefix + ":", log: log, topics: newTopics()}
	b.backlog.key, b.backlog.bounds, b.backlog.moved = cfg.Prefix+":backlog", kept, make(chan struct{}, 1)
	b.metrics = newMetrics(reg, b)
	b.setDown(nil, errors.New("not connected yet"))
	return b, nil
}

// Identify implements cluster.Bus.
func (b *Bus) Identify(node string) { b.config.Name = redisconn.NodeName(b.config.Prefix, node) }

// Run connects, and connects again whenever the connection is lost, until ctx ends. Then it closes the bus.
func (b *Bus) Run(ctx context.Context, deliver func(topic string, payload []byte), idle func()) error {
	again := backoff.Backoff{First: firstPause, Last: lastPause, Spread: backoff.Around}
	for {
		wasReady, err := b.runSession(ctx, deliver, idle)
		if ctx.Err() != nil {
			b.setDown(nil, errors.New("stopped"))
			return nil
		}
		if wasReady {
			again.Reset()
		}
		if !again.Failed() { // once per outage
			b.log.Warn("message bus unavailable", "error", err)
		}
		_ = again.Wait(ctx)
		b.metrics.reconnects.Inc()
	}
}

// setDown makes everything that waits, and everything that comes, fail with the reason. s is the session that has ended, or nil.
// What waits is answered after mu is released, as answers may post.
func (b *Bus) setDown(s *session, reason error) {
	err := fmt.Errorf("%w: %w", cluster.ErrUnavailable, reason)
	b.mu.Lock()
	b.state.Store(&state{down: err})
	var failed []post
	if s != nil {
		for _, l := range s.links {
			failed = append(failed, l.posts.close(err)...)
		}
	}
	waiting := b.topics.close(err)
	b.mu.Unlock()
	b.failPosts(failed, err)
	completeRequests(waiting, err)
}

// setReady makes the bus ready, unless the session has ended meanwhile, and reports whether it has. The loss is counted before the
// state changes: a caller that sees the bus ready also sees that payloads may have been missed before (cluster.Bus.LossCount).
func (b *Bus) setReady(s *session, complete bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	if b.everReady {
		b.lost.Add(1)
		if !complete {
			b.gaps.Add(1)
		}
	}
	s.wasReady, b.everReady = true, true
	for _, l := range s.links {
		l.posts.accept()
	}
	b.topics.accept()
	b.state.Store(&state{session: s})
	return true
}

// current returns the session that is ready, else why there is none.
func (b *Bus) current() (*session, error) {
	now := b.state.Load()
	return now.session, now.down
}

// Ready returns nil while a session has all subscriptions, else why not.
func (b *Bus) Ready() error {
	_, err := b.current()
	return err
}

// LossCount is how often the bus has become ready again after it had been ready.
func (b *Bus) LossCount() uint64 { return b.lost.Load() }

// GapCount is how often the bus has become ready again and could not read up all that it had missed.
func (b *Bus) GapCount() uint64 { return b.gaps.Load() }

// keeps reports whether there is a backlog. A cluster has none: a transaction cannot have channels of several slots.
func (b *Bus) keeps() bool { return len(b.servers) == 0 }

// hasPosition reports whether there is something from where to read up.
func (b *Bus) hasPosition() bool {
	b.backlog.mu.Lock()
	defer b.backlog.mu.Unlock()
	return len(b.backlog.positions) > 0
}

// notePosition logs the first failure to learn the position, and the first success after it.
func (b *Bus) notePosition(err error) {
	if failed := err != nil; b.positionFailed.Swap(failed) == failed {
		return
	}
	if err != nil {
		b.log.Warn("redis does not say the position in the backlog; what is missed later may not be found", "error", err)
	} else {
		b.log.Info("redis says the position in the backlog again")
	}
}

// SubscriberCount asks Redis how many nodes subscribe to the topic.
func (b *Bus) SubscriberCount(ctx context.Context, topic string) (int, error) {
	s, err := b.current()
	if err != nil {
		return 0, err
	}
	channel := b.prefix + topic
	nodes, err := s.link(channel).interest(ctx, channel)
	if err != nil {
		return 0, fmt.Errorf("%w: count subscribers: %w", cluster.ErrUnavailable, err)
	}
	return nodes, nil
}
