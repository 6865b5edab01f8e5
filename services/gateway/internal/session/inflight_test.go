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
				for f.tryAcquire(size) {
					n++
				}
				if want := min(maxInFlight, maxInFlightBytes/size); n != want {
					t.Errorf("got %d messages under way, want %d", n, want)
				}
				acquired := false
				go func() {
					f.acquire(size)
					acquired = true
				}()
				synctest.Wait()
				if acquired {
					t.Error("a message was let through without room")
				}
				f.release(size)
				synctest.Wait()
				if !acquired {
					t.Error("after a release: got no message through, want one")
				}
			})
		})
	}
}

// TestOneRequestOfAnAckIDAtATime: several readers of a connection may have the same request, each from its socket.
func TestOneRequestOfAnAckIDAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f inFlight
		if !f.tryBegin(7) || f.tryBegin(7) || !f.tryBegin(8) {
			t.Error("got two requests of one ackId under way, or not one of each")
		}
		begun := 0
		for range 2 {
			go func() {
				f.begin(7)
				begun++
			}()
		}
		for want := range 3 {
			synctest.Wait()
			if begun != want {
				t.Errorf("got %d more begun after %d have ended", begun, want)
			}
			f.end(7)
		}
		if !f.tryBegin(7) || f.tryBegin(8) {
			t.Error("got an ended request under way, or one that has ended with another")
		}
	})
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
