package session

import (
	"testing"
	"testing/synctest"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// TestQuestionsAreBounded: what waits for the handler's answer is bounded by number and by bytes.
func TestQuestionsAreBounded(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": maxAskedBytes / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a questions
				n := 0
				go func() {
					for range maxAsked + 1 {
						a.acquire(size)
						n++
					}
				}()
				synctest.Wait()
				want := min(maxAsked, maxAskedBytes/size)
				if n != want {
					t.Errorf("got %d messages waiting, want %d", n, want)
				}
				a.release(size)
				synctest.Wait()
				if n != want+1 {
					t.Errorf("after a release: got %d let through, want one more than %d", n, want)
				}
				for n < maxAsked+1 {
					a.release(size)
					synctest.Wait()
				}
			})
		})
	}
}

// TestWhoPutsAnEndToPublishing: what a client has sent before it left is published, and not what somebody has put an end to.
func TestWhoPutsAnEndToPublishing(t *testing.T) {
	for reason, want := range map[hub.Reason]bool{
		hub.ReasonClient: false, hub.ReasonLost: false, hub.ReasonPing: false, hub.ReasonSlow: false, hub.ReasonUnacked: false, hub.ReasonDrain: false,
		hub.ReasonMessagesMissed: false, hub.ReasonHandedOver: false,
		hub.ReasonRequested: true, hub.ReasonRemoved: true, hub.ReasonForbidden: true, hub.ReasonProtocol: true, hub.ReasonUpstream: true,
	} {
		if got := endsPublishing(reason); got != want {
			t.Errorf("%s: got %v, want %v", reason, got, want)
		}
	}
}
