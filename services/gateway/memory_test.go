package gateway

import "testing"

func TestStormIsOverOnce(t *testing.T) {
	var s storm
	for i, step := range []struct {
		count int64
		want  bool
	}{
		{0, false}, {900, false}, {900, false}, // too few
		{1900, false}, {1900, true}, {1900, false}, // once
		{2899, false}, {2899, false}, {2900, false}, {2900, true}, // counted from the last storm
	} {
		if got := s.over(step.count); got != step.want {
			t.Errorf("step %d, %d handshakes: got %v, want %v", i, step.count, got, step.want)
		}
	}
}
