package drive

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/scenario"
)

func settling() *meter {
	return newMeter(&run{
		scenario: &scenario.Scenario{Settle: time.Minute}, clients: make([]*client, 1), epoch: time.Now(), errors: map[string]int64{},
	})
}

// TestSettlingWaitsForWhatARecoveryBrings lets the only connection be away for a second and get what it missed a little
// after it is back, while slow readers read on and on.
func TestSettlingWaitsForWhatARecoveryBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := settling()
		const away, late = time.Second, 200 * time.Millisecond
		var others sync.WaitGroup
		others.Go(func() {
			time.Sleep(away)
			m.totals.connects.Add(1)
			m.connections.Add(1)
			time.Sleep(late)
			m.totals.promptly.Add(1)
			for range 100 {
				m.totals.slowly.Add(1)
				time.Sleep(100 * time.Millisecond)
			}
		})
		m.waitUntilIdle(t.Context())
		if got := time.Duration(m.now()); got < away+late+quiet || got > away+late+2*quiet {
			t.Errorf("settled after %v, want %v after the last delivery to a client that keeps up, which is at %v", got, quiet, away+late)
		}
		others.Wait()
	})
}

// TestStalledProcessIsNotQuiet lets the process stand still for an hour and look again, as it does when the meter wakes
// before those that read.
func TestStalledProcessIsNotQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := settling()
		isQuiet := m.newQuietCheck()
		for i := range quietTimes {
			if isQuiet() {
				t.Fatalf("quiet after %d looks, want at least %d", i+1, quietTimes)
			}
			time.Sleep(time.Hour)
		}
		if !isQuiet() {
			t.Error("nothing came, and it is not quiet")
		}
	})
}
