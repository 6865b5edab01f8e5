package node

import (
	"fmt"
	"testing"
	"time"
)

func TestRepeatsAreHeardOnce(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		marks []string
		heard []bool
	}{
		"sent again":                       {[]string{"f1", "a1", "a1"}, []bool{false, true, true}},
		"two messages":                     {[]string{"f1", "f2", "a3"}, []bool{false, false, false}},
		"the first comes last":             {[]string{"a1", "f1"}, []bool{false, true}},
		"what was published is read again": {[]string{"f1", "f1"}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var r repeats
			for i, m := range c.marks {
				if got := r.heard(repeatMark(m[1:], m[0] == 'a'), now); got != c.heard[i] {
					t.Errorf("%s: got %v, want %v", m, got, c.heard[i])
				}
			}
		})
	}
	var r repeats
	for range 2 {
		if r.heard("a connection's id", now) || len(r.recent) != 0 {
			t.Error("an id of a connection was taken for a mark")
		}
	}
}

func TestRepeatsAreBounded(t *testing.T) {
	var r repeats
	now := time.Now()
	for i := range 5 * maxRepeats {
		r.heard(repeatMark(fmt.Sprint(i), false), now)
	}
	if n := len(r.recent) + len(r.before); n > 2*maxRepeats {
		t.Errorf("%d are remembered, want at most %d", n, 2*maxRepeats)
	}
	if last := repeatMark(fmt.Sprint(5*maxRepeats-1), true); !r.heard(last, now.Add(repeatTime)) {
		t.Error("the last is not remembered")
	}
}
