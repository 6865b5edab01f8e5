package ratelimit

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(2, 3)
		passed := func(key string, tries int) (n int) {
			for range tries {
				if ok, _ := l.Allow(key); ok {
					n++
				}
			}
			return n
		}
		if got := passed("ada", 10); got != 3 {
			t.Errorf("burst: got %d, want 3", got)
		}
		if got := passed("bob", 1); got != 1 {
			t.Errorf("another key: got %d, want 1", got)
		}
		ok, wait := l.Allow("ada")
		if ok || wait != 500*time.Millisecond {
			t.Errorf("empty bucket: got %v, %v, want false, 500ms", ok, wait)
		}
		time.Sleep(wait)
		if got := passed("ada", 5); got != 1 {
			t.Errorf("after the wait: got %d, want 1", got)
		}
		time.Sleep(time.Hour)
		if got := passed("ada", 10); got != 3 {
			t.Errorf("after an hour: got %d, want 3", got)
		}
	})
}

func TestQuietKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 2)
		for i := range 1000 {
			l.Allow(string(rune('a' + i)))
		}
		time.Sleep(3 * time.Second)
		l.Allow("ada")
		if got := len(l.buckets); got != 1 {
			t.Errorf("got %d buckets, want 1", got)
		}
	})
}

// TestNothingIsSavedUp waits for less than an empty bucket needs to fill, so that the bucket is not forgotten, and for more
// than this one needs.
func TestNothingIsSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(2, 3)
		l.Allow("ada")
		time.Sleep(1400 * time.Millisecond)
		passed := 0
		for range 10 {
			if ok, _ := l.Allow("ada"); ok {
				passed++
			}
		}
		if passed != 3 {
			t.Errorf("got %d at once, want the burst of 3", passed)
		}
	})
}
