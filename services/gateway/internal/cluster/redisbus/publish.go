package redisbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

var errFull = fmt.Errorf("%w: too much is waiting to be published", cluster.ErrUnavailable)

type post struct {
	channel string
	payload []byte
	done    func(nodes int, err error)
}

// Post queues payload for the publisher. It fails at once while the bus is not ready or the queue is full.
func (b *Bus) Post(topic string, payload []byte, done func(nodes int, err error)) {
	p := post{b.prefix + topic, payload, done}
	s, err := b.current()
	if err == nil {
		err = s.link(p.channel).posts.add(p)
	}
	if err != nil {
		b.refuse([]post{p}, err)
	}
}

// refuse answers posts that have not been published.
func (b *Bus) refuse(list []post, err error) {
	b.metrics.failed.Add(float64(len(list)))
	for _, p := range list {
		if p.done != nil {
			p.done(0, err)
		}
	}
}

// posts is the queue of a link's publisher.
type posts struct {
	wake chan struct{} // has a token when list may have something

	mu     sync.Mutex // guards the following
	closed error      // why nothing can be added
	list   []post
	bytes  int // payload bytes in list
}

func newPosts() posts { return posts{wake: make(chan struct{}, 1), closed: cluster.ErrUnavailable} }

func (q *posts) add(p post) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed != nil:
		return q.closed
	case len(q.list) >= maxPosts || q.bytes+len(p.payload) > maxPostBytes:
		return errFull
	}
	q.list = append(q.list, p)
	q.bytes += len(p.payload)
	wake(q.wake)
	return nil
}

// take returns what is queued and keeps the memory of spare for what comes.
func (q *posts) take(spare []post) []post {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.list
	q.list, q.bytes = spare[:0], 0
	return taken
}

func (q *posts) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = nil
}

// close refuses whatever comes and returns what was queued, for the caller to answer without a lock.
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

// publish sends what is queued for a link, pipeline after pipeline, each when the one before has been answered.
func (s *session) publish(l *link) error {
	pipe := l.client.Pipeline()
	command := pipe.Publish
	if l.sharded {
		command = pipe.SPublish
	}
	var batch []post
	var pace pace
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-l.posts.wake:
		}
		time.Sleep(pace.rest(l.posts.len(), time.Now()))
		pace.begun = time.Now()
		batch = l.posts.take(batch)
		for left := batch; len(left) > 0; {
			n := pipelineLen(left)
			for _, p := range left[:n] {
				command(s.ctx, p.channel, p.payload)
			}
			if err := s.send(pipe, left[:n]); err != nil {
				s.bus.refuse(left[n:], unavailable(err))
				return err
			}
			left = left[n:]
		}
		pace.note(len(batch), l.posts.len())
	}
}

// pace is when the next pipeline is begun. While posts come in company, pipelines are begun apart, so that each takes
// several along: who publishes, Redis and those who hear then wake up once for all of them, which costs them more than
// the posts themselves. Whoever posts alone, if only after each answer, does not wait.
type pace struct {
	begun   time.Time // the last pipeline
	company int       // for how many pipelines more posts are taken to come in company
}

// Pipelines in company are begun apart from each other, as long as company has been met in one of the last few.
const (
	apart   = 700 * time.Microsecond
	lastFew = 8
)

// rest is how long to wait for more than what is queued.
func (p *pace) rest(queued int, now time.Time) time.Duration {
	if p.company == 0 || queued >= maxPipeline {
		return 0
	}
	return p.begun.Add(apart).Sub(now)
}

// note says how many posts have been published, and how many have come meanwhile. One may be the answer of somebody who has
// heard what was published, before Redis told us.
func (p *pace) note(published, waiting int) {
	if published > 1 || waiting > 1 {
		p.company = lastFew
	} else if published == 1 && p.company > 0 {
		p.company--
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

// send carries a pipeline out and answers the posts that it publishes. Its error is the first that any of them met.
func (s *session) send(pipe redis.Pipeliner, list []post) error {
	answers, err := pipe.Exec(s.ctx)
	for i, p := range list {
		answer := answers[i].(*redis.IntCmd)
		if answer.Err() != nil {
			s.bus.refuse(list[i:i+1], unavailable(answer.Err()))
			continue
		}
		s.bus.metrics.published.Inc()
		if p.done != nil {
			p.done(int(answer.Val()), nil)
		}
	}
	return err
}

func unavailable(err error) error {
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
