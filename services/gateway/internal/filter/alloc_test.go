package filter_test

import (
	"testing"

	"github.com/chatr-dev/chatr/services/gateway/internal/filter"
)

// A filter is parsed once for a message and matched once for each receiver.
const typical = "startswith(userId, 'a') and not ('banned' in groups) or connectionId in ('c-1','c-2')"

func TestMatchDoesNotAllocate(t *testing.T) {
	f, err := filter.Parse(typical)
	if err != nil {
		t.Fatal(err)
	}
	s := subject("c-9", "ben", "room-7")
	if n := testing.AllocsPerRun(100, func() { f.Match(s) }); n != 0 {
		t.Errorf("a match allocates %v times, want never", n)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := filter.Parse(typical); err != nil {
			b.Fatal(err)
		}
	}
}
