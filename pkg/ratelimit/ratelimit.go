// Package ratelimit bounds how often each of many parties may do something. It knows nothing of what is limited.
package ratelimit

import (
	"sync"
	"time"
)

// Limiter holds a token bucket per key. A party that has been quiet for long enough costs no memory. It is safe
// for concurrent use.
type Limiter struct {
	rate  float64 // tokens per second
	burst float64

	mu      sync.Mutex // guards the following
	buckets map[string]bucket
	pruned  time.Time
}

type bucket struct {
	tokens float64
	at     time.Time // when tokens was right
}

// New returns a limiter that lets each key pass perSecond times a second on average, and up to burst times at
// once. Both must be positive.
func New(perSecond float64, burst int) *Limiter {
	return &Limiter{rate: perSecond, burst: float64(burst), buckets: map[string]bucket{}}
}

// Allow reports whether key may pass now, and if not, after how long it may.
func (l *Limiter) Allow(key string) (ok bool, wait time.Duration) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	b, known := l.buckets[key]
	if !known {
		b = bucket{tokens: l.burst}
	} else {
		b.tokens = min(l.burst, b.tokens+l.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		ok = true
	} else {
		wait = time.Duration((1 - b.tokens) / l.rate * float64(time.Second))
	}
	l.buckets[key] = b
	return ok, wait
}

// prune forgets full buckets, at most once in the time that an empty one needs to fill.
func (l *Limiter) prune(now time.Time) {
	fill := time.Duration(l.burst / l.rate * float64(time.Second))
	if now.Sub(l.pruned) < fill {
		return
	}
	l.pruned = now
	for key, b := range l.buckets {
		if now.Sub(b.at) >= fill {
			delete(l.buckets, key)
		}
	}
}
