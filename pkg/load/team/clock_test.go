package team

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestComparedClocks asks a clock that is ahead, and finds out by how much as well as it says it does.
func TestComparedClocks(t *testing.T) {
	own := newClock()
	for _, ahead := range []time.Duration{0, time.Hour, -30 * time.Millisecond} {
		for _, boot := range []string{"", "another", own.boot} {
			e, err := own.compare(t.Context(), func(context.Context) (reading, error) {
				return reading{own.now() + int64(ahead), boot}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if (e.offset - ahead).Abs() > e.apart {
				t.Errorf("%v ahead: got %+v", ahead, e)
			}
			if one := ahead == 0 && boot != "" && boot == own.boot; one != (e == estimate{}) {
				t.Errorf("%v ahead, boot %q: got %+v; exact: %v", ahead, boot, e, one)
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
	e := estimate{offset: 5, apart: 2}.since(estimate{offset: 1, apart: 3})
	if want := (estimate{offset: 5, apart: 7}); e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
}
