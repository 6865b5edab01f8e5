package session

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestInFlightIsBounded(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": maxInFlightBytes / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f inFlight
				n := 0
				for f.tryAcquire(ack{uint64(n), true}, size) {
					n++
				}
				if want := min(maxInFlight, maxInFlightBytes/size); n != want {
					t.Errorf("got %d messages under way, want %d", n, want)
				}
				acquired := false
				go func() {
					f.acquire(ack{}, size)
					acquired = true
				}()
				synctest.Wait()
				if acquired {
					t.Error("a message was let through without room")
				}
				if !f.has(0) {
					t.Error("got that a message under way is not")
				}
				f.release(ack{0, true}, size)
				synctest.Wait()
				if !acquired || f.has(0) {
					t.Errorf("after a release: got acquired %v, still under way %v; want true, false", acquired, f.has(0))
				}
			})
		})
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit throttle
		for _, when := range []string{"at first", "after an hour"} {
			begin := time.Now()
			for range 25 {
				limit.wait(10)
			}
			if got, want := time.Since(begin).Round(10*time.Millisecond), 1500*time.Millisecond; got != want {
				t.Errorf("%s: 25 messages at 10 a second took %v, want %v", when, got, want)
			}
			time.Sleep(time.Hour) // more than a second's worth is not saved up
		}
		begin := time.Now()
		for range 100 { // the settings say otherwise meanwhile
			limit.wait(100)
		}
		if got, want := time.Since(begin).Round(10*time.Millisecond), 900*time.Millisecond; got != want {
			t.Errorf("100 messages at 100 a second, of which 10 were saved up, took %v, want %v", got, want)
		}
	})
}
