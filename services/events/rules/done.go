package rules

import (
	"sync"
	"time"
)

// done remembers for a while which events have changed the store, so that one which a gateway posts again, because
// something after the change failed, is gone on with and not taken for another.
type done struct {
	mu sync.Mutex // guards the following
	at map[string]time.Time
}

const (
	doneTime = time.Minute // longer than a gateway tries
	doneMost = 10_000
)

func (d *done) mark(event string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.at) >= doneMost {
		for key, at := range d.at {
			if time.Since(at) > doneTime {
				delete(d.at, key)
			}
		}
	}
	if len(d.at) < doneMost {
		d.at[event] = time.Now()
	}
}

func (d *done) is(event string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, found := d.at[event]
	return found && time.Since(at) <= doneTime
}
