package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFlightIsBounded(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": maxFlightBytes / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f flight
				n := 0
				for f.tryTakeOff(ack{uint64(n), true}, size) {
					n++
				}
				if want := min(maxFlight, maxFlightBytes/size); n != want {
					t.Errorf("got %d messages under way, want %d", n, want)
				}
				off := false
				go func() {
					f.takeOff(ack{}, size)
					off = true
				}()
				synctest.Wait()
				if off {
					t.Error("a message took off without room")
				}
				if !f.carries(0) {
					t.Error("got that a message under way is not")
				}
				f.landed(ack{0, true}, size)
				synctest.Wait()
				if !off || f.carries(0) {
					t.Errorf("after a landing: got taken off %v, still carried %v; want true, false", off, f.carries(0))
				}
			})
		})
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit throttle
		begin := time.Now()
		for range 25 {
			limit.wait(10)
		}
		if got, want := time.Since(begin).Round(10*time.Millisecond), 1500*time.Millisecond; got != want {
			t.Errorf("25 messages at 10 a second took %v, want %v", got, want)
		}
	})
}
