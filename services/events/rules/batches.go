package rules

import (
	"context"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

const (
	batchesAtOnce = 2               // so that one which waits for a room's lock does not hold up all others
	batchTime     = 5 * time.Second // for storing one
)

// batches stores messages that come at the same time together: what waits while a batch is under way is the next one. A
// transaction for each would cost as many waits for the disk.
type batches struct {
	store  func(ctx context.Context, batch []chat.Message) ([]chat.Outcome, error)
	mu     sync.Mutex // guards the following
	queue  []*pending
	active int
}

// pending is a message that is to be stored.
type pending struct {
	message chat.Message
	done    chan struct{} // closed when the following are set
	outcome chat.Outcome
	err     error
}

// add stores a message, and waits for it or for ctx; then the message may be stored all the same.
func (b *batches) add(ctx context.Context, m chat.Message) ([]chat.Outcome, error) {
	p := &pending{message: m, done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, p)
	if b.active < batchesAtOnce {
		b.active++
		go b.work()
	}
	b.mu.Unlock()
	select {
	case <-p.done:
		return []chat.Outcome{p.outcome}, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// work stores batches until nothing waits. Each takes no longer than batchTime, so whoever ends the process need not wait.
func (b *batches) work() {
	for {
		b.mu.Lock()
		n := min(len(b.queue), chat.MaxBatch)
		if n == 0 {
			b.active--
			b.mu.Unlock()
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.mu.Unlock()
		b.keep(batch)
	}
}

func (b *batches) keep(batch []*pending) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTime)
	defer cancel()
	messages := make([]chat.Message, len(batch))
	for i, p := range batch {
		messages[i] = p.message
	}
	outcomes, err := b.store(ctx, messages)
	for i, p := range batch {
		if p.err = err; err == nil {
			p.outcome = outcomes[i]
		}
		close(p.done)
	}
}
