package session

import (
	"testing"
	"testing/synctest"
)

// TestOneRequestOfAnAckIDAtATime: several readers of a connection may have the same request, each from its socket.
func TestOneRequestOfAnAckIDAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f inFlight
		if !f.tryAcquireAckID(7) || f.tryAcquireAckID(7) || !f.tryAcquireAckID(8) {
			t.Error("got two requests of one ackId under way, or not one of each")
		}
		begun := 0
		for range 2 {
			go func() {
				f.acquireAckID(7)
				begun++
			}()
		}
		for want := range 3 {
			synctest.Wait()
			if begun != want {
				t.Errorf("got %d more begun after %d have ended", begun, want)
			}
			f.releaseAckID(7)
		}
		if !f.tryAcquireAckID(7) || f.tryAcquireAckID(8) {
			t.Error("got an ended request under way, or one that has ended with another")
		}
	})
}
