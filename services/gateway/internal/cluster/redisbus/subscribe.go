package redisbus

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// maxTopics bounds the channels of one command, and so what Redis buffers for us as confirmations.
const maxTopics = 1000

// Subscribe returns when Redis has confirmed the topics. Requests of many callers share a round trip.
func (b *Bus) Subscribe(ctx context.Context, topics ...string) error {
	r := newRequest(b.channels(topics), false)
	err := b.topics.request(ctx, r)
	if err != nil && len(r.added) > 0 {
		_, _ = b.topics.add(newRequest(r.added, true)) // undone, as cluster.Bus promises; there is no need to wait for that
	}
	return err
}

// Unsubscribe returns when Redis has confirmed, or at once when there is no connection that subscribes.
func (b *Bus) Unsubscribe(ctx context.Context, topics ...string) error {
	return b.topics.request(ctx, newRequest(b.channels(topics), true))
}

func (b *Bus) channels(topics []string) []string {
	channels := make([]string, len(topics))
	for i, topic := range topics {
		channels[i] = b.prefix + topic
	}
	return channels
}

// request is one call of Subscribe or Unsubscribe, whose caller waits for done.
type request struct {
	channels    []string
	unsubscribe bool
	added       []string   // those of channels that were not wanted before
	done        chan error // has room for the one answer
}

func newRequest(channels []string, unsubscribe bool) *request {
	return &request{channels: channels, unsubscribe: unsubscribe, done: make(chan error, 1)}
}

// completeRequests ends the wait of requests that have been carried out (err is nil) or cannot be.
func completeRequests(list []*request, err error) {
	for _, r := range list {
		if r.unsubscribe {
			r.done <- nil // a session that has ended has no subscriptions, and the next will not make these
		} else {
			r.done <- err
		}
	}
}

// topics are the channels this node wants, and the requests on their way to Redis in the order they were made. What is wanted
// outlives sessions: it is changed when a request is made, not when Redis confirms it, so that a new session need not know what
// the last one had achieved.
type topics struct {
	wake chan struct{} // has a token when queue may have something

	mu     sync.Mutex      // guards the following
	closed error           // why Subscribe fails
	live   bool            // a session executes requests
	wanted map[string]bool // whether the session has it
	queue  []*request
}

func newTopics() topics {
	return topics{wake: make(chan struct{}, 1), wanted: map[string]bool{}}
}

// request adds r and waits until it has been executed, or ctx ends. What r asks for stays wanted when ctx ends.
func (t *topics) request(ctx context.Context, r *request) error {
	if len(r.channels) == 0 {
		return nil
	}
	if wait, err := t.add(r); err != nil || !wait {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add changes what is wanted, and returns whether there is something to wait for: a session that executes the request.
func (t *topics) add(r *request) (wait bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil && !r.unsubscribe {
		return false, t.closed
	}
	for _, channel := range r.channels {
		if r.unsubscribe {
			delete(t.wanted, channel)
		} else if _, known := t.wanted[channel]; !known {
			t.wanted[channel] = false
			r.added = append(r.added, channel)
		}
	}
	if !t.live {
		return false, nil
	}
	t.queue = append(t.queue, r)
	wake(t.wake)
	return true, nil
}

// resubscribeAll makes everything that is wanted the first request of a new session.
func (t *topics) resubscribeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live = true
	for channel := range t.wanted {
		t.wanted[channel] = false
	}
	if len(t.wanted) > 0 {
		t.queue = append(t.queue, newRequest(slices.Collect(maps.Keys(t.wanted)), false))
	}
}

// accept lets Subscribe succeed: the session is ready.
func (t *topics) accept() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = nil
}

// close makes further Subscribes fail with err, and returns the requests that wait, for the caller to complete without a lock.
func (t *topics) close(err error) []*request {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.queue
	t.closed, t.live, t.queue = err, false, nil
	return taken
}

// noteSubscribed says that the session has channels. Those that are not wanted any more are about to be given up.
func (t *topics) noteSubscribed(channels []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, channel := range channels {
		if _, wanted := t.wanted[channel]; wanted {
			t.wanted[channel] = true
		}
	}
}

// subscribed reports whether the session has a channel.
func (t *topics) subscribed(channel string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wanted[channel]
}

// has reports whether a channel is wanted.
func (t *topics) has(channel string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, wanted := t.wanted[channel]
	return wanted
}

func (t *topics) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.wanted)
}

// command is one SUBSCRIBE or UNSUBSCRIBE, and the requests that its confirmation completes.
type command struct {
	channels    []string
	unsubscribe bool
	completes   []*request
}

// nextCommand joins requests of one kind, from the head of the queue, into a command of at most maxTopics channels. Without
// requests it has no channels.
func (t *topics) nextCommand() command {
	t.mu.Lock()
	defer t.mu.Unlock()
	var c command
	for len(t.queue) > 0 && len(c.channels) < maxTopics {
		r := t.queue[0]
		if len(c.channels) == 0 {
			c.unsubscribe = r.unsubscribe
		} else if c.unsubscribe != r.unsubscribe {
			break
		}
		n := min(len(r.channels), maxTopics-len(c.channels))
		c.channels = append(c.channels, r.channels[:n]...)
		if r.channels = r.channels[n:]; len(r.channels) > 0 {
			break // the rest stays at the head
		}
		c.completes = append(c.completes, r)
		t.queue[0] = nil
		t.queue = t.queue[1:]
	}
	return c
}

// subscribe executes requests, command after command, each when the one before has been confirmed. Once it has made the
// subscriptions of earlier sessions again and heard its own echo, the bus is ready.
func (s *session) subscribe() error {
	for _, l := range s.links {
		if err := l.awaitConfirmations(); err != nil { // of the echo channel
			return err
		}
	}
	for ready := false; ; {
		c := s.bus.topics.nextCommand()
		if len(c.channels) > 0 {
			err := s.execute(c)
			if err != nil {
				completeRequests(c.completes, asUnavailable(err))
				return err
			}
			if !c.unsubscribe {
				s.bus.topics.noteSubscribed(c.channels)
			}
			completeRequests(c.completes, nil)
			if !c.unsubscribe {
				wake(s.subscribed)
			}
			continue
		}
		if !ready {
			if err := s.checkEcho(); err != nil {
				return err
			}
			complete, err := s.deliverMissed()
			if err != nil {
				return err
			}
			if ready = s.bus.setReady(s, complete); ready {
				s.bus.log.Info("message bus ready", "nothingMissed", complete)
			}
		}
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-s.bus.topics.wake:
		}
	}
}

// deliverMissed delivers what was published since the session before, as far as it can be had, and reports whether that is everything.
func (s *session) deliverMissed() (complete bool, err error) {
	switch {
	case !s.bus.keeps():
		return false, nil
	case s.bus.hasPosition():
		complete, err = s.catchUp(s.links[0])
	default:
		err = s.findPosition(s.links[0])
	}
	s.caughtUp.Store(err == nil)
	return complete, err
}

// execute sends each server the part of a command that is about its channels, and waits until all have confirmed.
func (s *session) execute(c command) error {
	byLink := map[*link][]string{}
	for _, channel := range c.channels {
		l := s.link(channel)
		byLink[l] = append(byLink[l], channel)
	}
	for l, channels := range byLink {
		if err := l.write(channels, c.unsubscribe); err != nil {
			return err
		}
	}
	for l := range byLink {
		if err := l.awaitConfirmations(); err != nil {
			return err
		}
	}
	return nil
}
