package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for used, want := range map[uint64]int{0: 400, 10 << 20: 400, 32 << 20: 200, 64 << 20: 100, 10 << 30: 100} {
		if got := garbagePercent(used); got != want {
			t.Errorf("%d MiB in use: got %d, want %d", used>>20, got, want)
		}
	}
}
