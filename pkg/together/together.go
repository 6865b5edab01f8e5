// Package together carries out calls that are made at the same time as one: what waits while a call is under way is the
// next one. So each costs a database a fraction of what it would cost alone, and none waits for a timer.
package together

import (
	"context"
	"sync"
	"time"
)

// Calls are calls that may be carried out together. Its fields are set before the first.
type Calls[In, Out any] struct {
	// Do carries out some calls and returns what each is answered with, in their order, or an error for all.
	Do     func(ctx context.Context, calls []In) ([]Out, error)
	Most   int           // calls that are carried out together
	AtOnce int           // how often Do runs at a time: more than once, so that one which has to wait does not hold up all
	Time   time.Duration // for one Do

	mu     sync.Mutex // guards the following
	queue  []*call[In, Out]
	active int
}

type call[In, Out any] struct {
	in   In
	done chan struct{} // closed when the following are set
	out  Out
	err  error
}

// Call carries out one call, and waits for it or for ctx; then it may be carried out all the same.
func (c *Calls[In, Out]) Call(ctx context.Context, in In) (Out, error) {
	one := &call[In, Out]{in: in, done: make(chan struct{})}
	c.mu.Lock()
	if c.active < c.AtOnce { // nothing waits
		c.active++
		go c.work(one)
	} else {
		c.queue = append(c.queue, one)
	}
	c.mu.Unlock()
	select {
	case <-one.done:
		return one.out, one.err
	case <-ctx.Done():
		var none Out
		return none, ctx.Err()
	}
}

// work carries out a call, and then others until none waits. It ends by itself soon after the last, since each Do has its
// time.
func (c *Calls[In, Out]) work(first *call[In, Out]) {
	c.do([]*call[In, Out]{first})
	for {
		c.mu.Lock()
		n := min(len(c.queue), c.Most)
		if n == 0 {
			c.active--
			c.mu.Unlock()
			return
		}
		batch := c.queue[:n:n]
		c.queue = c.queue[n:]
		c.mu.Unlock()
		c.do(batch)
	}
}

func (c *Calls[In, Out]) do(batch []*call[In, Out]) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Time)
	defer cancel()
	in := make([]In, len(batch))
	for i, one := range batch {
		in[i] = one.in
	}
	out, err := c.Do(ctx, in)
	for i, one := range batch {
		if one.err = err; err == nil {
			one.out = out[i]
		}
		close(one.done)
	}
}
