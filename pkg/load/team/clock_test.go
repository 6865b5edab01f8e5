package team

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestComparedClocks asks a clock that is ahead, and finds out by how much as well as it says it does. All answers but one
// are slow, so that a small difference shows in that one alone.
func TestComparedClocks(t *testing.T) { synctest.Test(t, testComparedClocks) }

func testComparedClocks(t *testing.T) {
	own := &clock{time.Now(), "one"}
	for _, ahead := range []time.Duration{0, time.Hour, -30 * time.Millisecond} {
		for _, boot := range []string{"", "another", own.boot} {
			asked := 0
			e, err := own.compare(t.Context(), func(context.Context) (reading, error) {
				way := time.Second
				if asked++; asked == 7 {
					way = time.Millisecond
				}
				time.Sleep(way)
				defer time.Sleep(2 * way)
				return reading{own.now() + int64(ahead), boot}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := estimate{ahead - 500*time.Microsecond, 1500 * time.Microsecond}
			if ahead == 0 && boot == own.boot {
				want = estimate{}
			}
			if e != want {
				t.Errorf("%v ahead, boot %q: got %+v, want %+v", ahead, boot, e, want)
			}
		}
	}
	if _, err := own.compare(t.Context(), func(context.Context) (reading, error) { return reading{}, errors.New("no") }); err == nil {
		t.Error("no answer is no error")
	}
}

func TestClockInverts(t *testing.T) {
	c := newClock()
	now := time.Now()
	if got := c.when(c.reading(now)); got.Sub(now) != 0 {
		t.Errorf("got %v, want %v", got, now)
	}
}

func TestDriftWidensAnEstimate(t *testing.T) {
	e := estimate{offset: 5, clockError: 2}.since(estimate{offset: 1, clockError: 3})
	if want := (estimate{offset: 5, clockError: 7}); e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
}
