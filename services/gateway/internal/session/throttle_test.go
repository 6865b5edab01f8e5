package session

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit throttle
		for _, when := range []string{"at first", "after an hour"} {
			begin := time.Now()
			for range 25 {
				time.Sleep(limit.reserve(10))
			}
			if got, want := time.Since(begin).Round(10*time.Millisecond), 1500*time.Millisecond; got != want {
				t.Errorf("%s: 25 messages at 10 a second took %v, want %v", when, got, want)
			}
			time.Sleep(time.Hour) // more than a second's worth is not saved up
		}
		begin := time.Now()
		for range 100 { // the settings say otherwise meanwhile
			time.Sleep(limit.reserve(100))
		}
		if got, want := time.Since(begin).Round(10*time.Millisecond), 900*time.Millisecond; got != want {
			t.Errorf("100 messages at 100 a second, of which 10 were saved up, took %v, want %v", got, want)
		}
	})
}
