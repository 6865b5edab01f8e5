package backoff

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesDoubleUpToTheLast(t *testing.T) {
	b := Backoff{First: time.Second, Last: 5 * time.Second}
	if b.Failed() {
		t.Error("failed before anything was tried")
	}
	var got []time.Duration
	for range 5 {
		got = append(got, b.Next()/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 5, 5}; !slices.Equal(got, want) {
		t.Errorf("got %v seconds, want %v", got, want)
	}
	b.Last = 3 * time.Second
	if got := b.Next(); got != 3*time.Second {
		t.Errorf("with a shorter limit: got %v, want 3s", got)
	}
	if !b.Failed() {
		t.Error("has not failed after failures")
	}
	if b.Reset(); b.Failed() {
		t.Error("has failed after a success")
	}
	if got := b.Next(); got != time.Second {
		t.Errorf("after a success: got %v, want 1s", got)
	}
}

func TestSpread(t *testing.T) {
	const last = 8 * time.Second
	for spread, most := range map[Spread]time.Duration{Less: last, Around: last + last/2} {
		low, high := time.Hour, time.Duration(0)
		for range 10_000 {
			b := Backoff{First: last, Last: last, Spread: spread}
			got := b.Next()
			low, high = min(low, got), max(high, got)
		}
		if low < last/2 || high > most || high-low < (most-last/2)*9/10 {
			t.Errorf("spread %d: got pauses from %v to %v, want them from %v to %v", spread, low, high, last/2, most)
		}
		b := Backoff{First: 100 * time.Millisecond, Last: last, Spread: spread}
		for want := b.First; want < last; want *= 2 { // what was drawn does not change what is drawn next
			if got := b.Next(); got < want/2 || got > want+want/2 {
				t.Errorf("spread %d: got %v, want %v or half more or less", spread, got, want)
			}
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{First: time.Second, Last: time.Minute}
		start := time.Now()
		for range 3 {
			if err := b.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := time.Since(start); got != 7*time.Second {
			t.Errorf("three pauses took %v, want 7s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the context's error after 1s", err, time.Since(start))
		}
		if err := Sleep(ctx, 0); err == nil {
			t.Error("slept without an error although the context has ended")
		}
	})
}
