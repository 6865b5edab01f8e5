// Package ratelimit bounds how often each of many parties may do something. It knows nothing of what is limited. For one
// party alone use golang.org/x/time/rate, which this is made of.
package ratelimit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter holds a token bucket per key. A party that has been quiet for long enough costs no memory. It is safe
// for concurrent use.
type Limiter struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex // guards the following
	buckets map[string]*rate.Limiter
	pruned  time.Time
}

// New returns a limiter that lets each key pass perSecond times a second on average, and up to burst times at
// once. Both must be positive.
func New(perSecond float64, burst int) *Limiter {
	return &Limiter{limit: rate.Limit(perSecond), burst: burst, buckets: map[string]*rate.Limiter{}}
}

// Allow reports whether key may pass now, and if not, after how long it may.
func (l *Limiter) Allow(key string) (ok bool, wait time.Duration) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	b := l.buckets[key]
	if b == nil {
		b = rate.NewLimiter(l.limit, l.burst)
		l.buckets[key] = b
	}
	if b.AllowN(now, 1) {
		return true, 0
	}
	return false, time.Duration((1 - b.TokensAt(now)) / float64(l.limit) * float64(time.Second))
}

// prune forgets full buckets, at most once in the time that an empty one needs to fill.
func (l *Limiter) prune(now time.Time) {
	fill := time.Duration(float64(l.burst) / float64(l.limit) * float64(time.Second))
	if now.Sub(l.pruned) < fill {
		return
	}
	l.pruned = now
	for key, b := range l.buckets {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, key)
		}
	}
}
