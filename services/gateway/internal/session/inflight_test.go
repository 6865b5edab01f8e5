package session

import (
	"testing"
	"testing/synctest"
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
