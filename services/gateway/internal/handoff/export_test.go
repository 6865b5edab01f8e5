package handoff

import (
	"maps"
	"slices"
	"time"
)

// SetSilence sets how long a source waits for a destination that says nothing. Nothing may be under way.
func (h *Handoffs) SetSilence(d time.Duration) { h.silence = d }

// Released returns the tokens of connections that were let go not long ago.
func (h *Handoffs) Released() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.released))
}

// ReturnTimeOver has the bus have come back long ago.
func (h *Handoffs) ReturnTimeOver() { h.healedAt.Store(0) }
