package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// TestMove gives streams to another node: they go on there, with the numbers and the silence that they had.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newWorld(t), newWorld(t)
		a.Start("s", "room", true, time.Second)
		a.send("s", 1).Done(nil)
		a.Start("failed", "room", false, 0)
		a.Fail("failed", &protocol.Failure{Name: protocol.Forbidden})
		a.bus = errors.New("down")
		a.Start("ending", "room", false, 0)
		a.End("ending", nil)
		time.Sleep(600 * time.Millisecond)

		if before := a.Export(); len(before.Open) != 1 || len(before.Ended) != 2 {
			t.Errorf("packed %+v, want an open stream and two ended ones", before)
		}
		state := a.HandOver()
		a.Cancel() // what has left is not canceled
		a.EndHandedOver()
		b.Restore(state)
		b.NewSocket()
		a.want("ack s 1", "ack s 2", "ack failed 1", "closed failed Forbidden", "ack ending 1")
		a.mu.Lock()
		a.ends, a.bus = nil, nil
		if a.over != 2 {
			t.Errorf("%d streams are over where they began, want two", a.over)
		}
		a.mu.Unlock()

		b.refuse("s", 1, nil)
		b.want("ack s 2")
		if f := b.send("s", 2); f.Group != "room" || !f.NoEcho {
			t.Errorf("got %+v, want it for room without echo", f)
		} else {
			f.Done(nil)
		}
		b.want("ack s 3")
		b.refuse("failed", 1, nil)
		b.End("ending", nil)
		b.want("closed failed Forbidden", "closed ending done")
		time.Sleep(600 * time.Millisecond)
		a.wantEnds("room ending 1 ") // which goes on trying
		b.wantEnds()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		b.wantEnds("room s 3 IdleTimeout")
		a.wantEnds()
		if b.over != 1 || a.over != 3 {
			t.Errorf("%d and %d streams are over, want 3 and 1", a.over, b.over)
		}
	})
}

// TestSilenceMoves has a stream time out as if it had not moved.
func TestSilenceMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newWorld(t), newWorld(t)
		a.Start("s", "room", false, time.Second)
		time.Sleep(600 * time.Millisecond)
		b.Restore(a.HandOver())
		a.EndHandedOver()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		b.wantEnds("room s 1 IdleTimeout")
		a.wantEnds()
	})
}

// TestMoveThatFails goes on where it was, unless the connection has ended meanwhile.
func TestMoveThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Start("s", "room", false, time.Second)
		w.HandOver()
		time.Sleep(2 * time.Second)
		w.wantEnds()
		w.CancelHandOver()
		synctest.Wait()
		w.wantEnds("room s 1 IdleTimeout")

		w.Start("s", "room", false, 0)
		w.HandOver()
		w.Cancel()
		w.wantEnds()
		w.CancelHandOver()
		w.wantEnds("room s 1 Cancelled")
	})
}

func TestTakerWhoseConnectionHasEnded(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	a.Start("s", "room", false, 0)
	b.Cancel()
	b.Restore(a.HandOver())
	b.wantEnds("room s 1 Cancelled")
}
