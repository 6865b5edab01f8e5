package hub

import (
	"context"
	"slices"
)

// Buffered is how many bytes a connection holds: of messages that wait for it or that it has not acknowledged. What several connections hold
// together counts for each.
type Buffered struct {
	Conn  *Conn
	Bytes int
}

// Buffered returns what each connection holds, the most first. When ctx ends first some are missing.
func (r *Registry) Buffered(ctx context.Context) (all []Buffered) {
	parts := make(chan []Buffered, len(r.writers))
	for _, w := range r.writers {
		w.push(job{op: opMeasure, extra: parts})
	}
	for range r.writers {
		select {
		case part := <-parts:
			all = append(all, part...)
		case <-ctx.Done():
			return all
		}
	}
	slices.SortFunc(all, func(a, b Buffered) int { return b.Bytes - a.Bytes })
	return all
}

// measure returns what the writer's connections hold.
func (w *writer) measure() (held []Buffered) {
	for _, c := range w.r.Conns() {
		if c.w != w || c.state == stateEnded {
			continue
		}
		n := 0
		if c.outbox != nil {
			n = c.outbox.size()
		}
		if c.unacked != nil {
			n = max(n, c.unacked.bytes) // what waits in the outbox is unacknowledged too
		}
		held = append(held, Buffered{c, n})
	}
	return held
}

// size is how many bytes wait in it.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}
