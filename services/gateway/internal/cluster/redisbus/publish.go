package redisbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Bounds of what waits to be published; beyond, Post fails.
const (
	maxPosts     = 1 << 16
	maxPostBytes = 64 << 20
)

// Bounds of one pipeline. A pipeline has at least one payload, however large.
const (
	maxPipeline      = 512
	maxPipelineBytes = 1 << 20
)

// errUnheard is what becomes of a payload when the server that takes it is not the one that has this node's subscriptions, as at the
// beginning of a failover.
var errUnheard = fmt.Errorf("%w: redis knows of no subscriber, though this node is one", cluster.ErrUnavailable)

var errFull = fmt.Errorf("%w: too much is waiting to be published", cluster.ErrUnavailable)

// post is a call of Post or PostKept. done may be nil.
type post struct {
	channel string
	payload []byte
	done    func(nodes int, err error)
	kept    bool
}

// Post queues payload for the publisher. It fails at once while the bus is not ready or the queue is full. It never
// waits.
func (b *Bus) Post(topic string, payload []byte, done func(nodes int, err error)) {
	b.PostKept(topic, payload, nil, done)
}

// PostKept is Post of what goes into the backlog as well.
func (b *Bus) PostKept(topic string, payload, number []byte, done func(nodes int, err error)) {
	p := post{b.prefix + topic, payload, done, number != nil && b.keeps()}
	s, err := b.current()
	if err == nil {
		err = s.link(p.channel).posts.add(p, number)
	}
	if err != nil {
		b.failPosts([]post{p}, err)
	}
}

// failPosts reports posts that have not been published. The caller holds no lock: done may post.
func (b *Bus) failPosts(list []post, err error) {
	b.metrics.failed.Add(float64(len(list)))
	for _, p := range list {
		if p.done != nil {
			p.done(0, err)
		}
	}
}

// posts is the queue of a link's publisher.
type posts struct {
	wake    chan struct{}  // has a token when list may have something
	numbers *atomic.Uint64 // the last that was given to a payload which is kept

	mu     sync.Mutex // guards the following
	closed error      // why nothing can be added
	list   []post
	bytes  int // payload bytes in list
}

// newPosts returns a queue that is closed until the session is ready.
func newPosts(numbers *atomic.Uint64) posts {
	return posts{wake: make(chan struct{}, 1), numbers: numbers, closed: cluster.ErrUnavailable}
}

// add queues p, or returns why it cannot: done is then up to the caller. If p is kept, its number is written: numbers grow as p is
// published.
func (q *posts) add(p post, number []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed != nil:
		return q.closed
	case len(q.list) >= maxPosts || q.bytes+len(p.payload) > maxPostBytes:
		return errFull
	}
	if p.kept {
		binary.BigEndian.PutUint64(number, q.numbers.Add(1))
	}
	q.list = append(q.list, p)
	q.bytes += len(p.payload)
	wake(q.wake)
	return nil
}

// takeAll returns what is queued, and keeps the memory of spare, which was returned before, for what comes.
func (q *posts) takeAll(spare []post) []post {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.list
	q.list, q.bytes = spare[:0], 0
	return taken
}

// accept opens the queue.
func (q *posts) accept() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = nil
}

// close makes add fail with err, and returns what was queued, for the caller to report without a lock.
func (q *posts) close(err error) []post {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.list
	q.closed, q.list, q.bytes = err, nil, 0
	return taken
}

func (q *posts) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list)
}

// publish sends what is queued for a link, pipeline after pipeline, each when the one before has been answered. One pipeline at a
// time keeps the order of posts, and makes a busy publisher send larger pipelines instead of more.
func (s *session) publish(l *link) error {
	plain, whole := l.client.Pipeline(), l.client.TxPipeline()
	var batch []post
	var batching batching
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-l.posts.wake:
		}
		time.Sleep(batching.delay(l.posts.len(), time.Now()))
		batching.started = time.Now()
		batch = l.posts.takeAll(batch)
		for rest := batch; len(rest) > 0; {
			n := pipelineLen(rest)
			pipe := plain
			kept := s.batchOf(rest[:n])
			if kept != nil {
				pipe = whole
			}
			if err := s.send(l, pipe, rest[:n], kept); err != nil {
				s.bus.failPosts(rest[n:], asUnavailable(err))
				return err
			}
			rest = rest[n:]
		}
		batching.observe(len(batch), l.posts.len())
	}
}

// batching decides when the next pipeline starts. While several posts come at a time, pipelines are started batchDelay from each
// other, so that each has several posts: the publisher, Redis and the subscribers then wake up once for all of them, and waking up
// costs them more than the posts themselves. Posts that come one at a time, each after the answer to the one before, do not wait.
type batching struct {
	started   time.Time // when the last pipeline was
	remaining int       // how many more pipelines are started apart, unless several posts come again
}

// batchDelay is the time from one pipeline to the next while batching; it ends when batchingLasts pipelines in a row had one post.
const (
	batchDelay    = 700 * time.Microsecond
	batchingLasts = 8
)

// delay is how long to wait for more posts than are queued.
func (p *batching) delay(queued int, now time.Time) time.Duration {
	if p.remaining == 0 || queued >= maxPipeline {
		return 0
	}
	return p.started.Add(batchDelay).Sub(now)
}

// observe takes in how many posts have been published, and how many have come meanwhile. A single one that has come does not count:
// it may be the answer of a subscriber that heard what we published before Redis told us that it was published.
func (p *batching) observe(published, waiting int) {
	if published > 1 || waiting > 1 {
		p.remaining = batchingLasts
	} else if published == 1 && p.remaining > 0 {
		p.remaining--
	}
}

// pipelineLen says how many posts fit into one pipeline.
func pipelineLen(list []post) int {
	bytes := 0
	for i, p := range list[:min(len(list), maxPipeline)] {
		if bytes += len(p.payload); bytes > maxPipelineBytes && i > 0 {
			return i
		}
	}
	return min(len(list), maxPipeline)
}

// batchOf returns what the backlog is to keep of some posts; nil: nothing.
func (s *session) batchOf(list []post) (batch []byte) {
	size := 0
	for _, p := range list {
		if p.kept {
			size += len(p.channel) + len(p.payload) + 2*binary.MaxVarintLen32
		}
	}
	if size == 0 {
		return nil
	}
	batch = make([]byte, 0, size)
	for _, p := range list {
		if p.kept {
			batch = appendPayload(batch, p.channel[len(s.bus.prefix):], p.payload)
		}
	}
	return batch
}

// send publishes posts by a pipeline and reports to each how many nodes heard it. What the backlog is to keep of them goes there in the
// same transaction, so that it has the order in which subscribers hear. The error is the first of any post; it ends the session, since what
// was published is not known any more. When the server refuses the whole, as one that has no memory left, nothing was, and there is none.
func (s *session) send(l *link, pipe redis.Pipeliner, list []post, batch []byte) error {
	var added *redis.StringCmd
	if batch != nil {
		added = s.queueBatch(pipe, batch)
	}
	command := pipe.Publish
	if l.sharded {
		command = pipe.SPublish
	}
	for _, p := range list {
		command(s.ctx, p.channel, p.payload)
	}
	answers, err := pipe.Exec(s.ctx)
	if batch != nil {
		if redis.IsExecAbortError(err) {
			s.bus.failPosts(list, asUnavailable(err))
			return nil
		}
		if err == nil {
			s.bus.backlog.remember(added.Val(), batch)
		}
		answers = answers[1:]
	}
	for i, p := range list {
		answer := answers[i].(*redis.IntCmd)
		if answer.Err() != nil {
			s.bus.failPosts(list[i:i+1], publishError(answer.Err()))
			continue
		}
		if answer.Val() == 0 && !p.kept && s.bus.topics.subscribed(p.channel) {
			s.bus.failPosts(list[i:i+1], errUnheard)
			continue
		}
		s.bus.metrics.published.Inc()
		if p.done != nil {
			p.done(int(answer.Val()), nil)
		}
	}
	return err
}

// publishError is the error of a payload that was sent to Redis: a refusal says that it was not published, anything else that
// nobody knows.
func publishError(err error) error {
	var refusal redis.Error
	if errors.As(err, &refusal) {
		return asUnavailable(err)
	}
	return fmt.Errorf("%w: %w", cluster.ErrUncertain, err)
}

// asUnavailable makes err a cluster.ErrUnavailable, if it is none.
func asUnavailable(err error) error {
	if errors.Is(err, cluster.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
}

// wake puts a token into a channel that has room for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
