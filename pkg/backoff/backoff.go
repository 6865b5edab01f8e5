// Package backoff says how long to wait before something that has failed is tried again: each time twice as long, up
// to a limit. It is the one place that does, so that all that waits for a service that is away does so alike.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff yields the pauses between attempts. It is to be used by one goroutine at a time.
type Backoff struct {
	First time.Duration // the pause after the first failure
	Last  time.Duration // the longest pause; it may be changed between two failures

	Spread Spread // how pauses vary; default: they do not

	pause time.Duration // zero: nothing has failed
}

// Spread says how pauses vary by chance. Where many lose something at the same moment, they must not all ask for it again
// at the same moment.
type Spread uint8

const (
	None   Spread = iota
	Less          // from half of the pause to the whole, for callers whose own callers wait
	Around        // from half of the pause to one and a half of it
)

// Next notes a failure and returns how long to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.pause = After(b.pause, b.First, b.Last)
	switch half := b.pause / 2; b.Spread {
	case Less:
		return half + rand.N(half+1)
	case Around:
		return half + rand.N(b.pause+1)
	}
	return b.pause
}

// Wait is Next, and waits that long or until ctx ends, with whose error it then returns.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Reset notes a success.
func (b *Backoff) Reset() { b.pause = 0 }

// Failed reports whether the last attempt failed: Next was called since the last Reset.
func (b *Backoff) Failed() bool { return b.pause > 0 }

// After returns the pause that comes after another, zero for the first. It is for whoever keeps very many of them.
func After(pause, first, last time.Duration) time.Duration { return min(max(2*pause, first), last) }

// Sleep waits for d, or until ctx ends, with whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
