package events

import (
	"slices"
	"strings"
	"testing"
)

// TestFiltersQuoteNames: ids that applications choose may have quotes, which are doubled in a filter. Whoever is meant is
// told, and nobody else.
func TestFiltersQuoteNames(t *testing.T) {
	w := newWorld(t, Config{})
	member, gone, other := w.open("m1", "mia"), w.open("g1", "g'y or true"), w.open("o1", "olaf")
	member.groups["ben's room"] = true
	if err := w.s.tellRoom(t.Context(), "ben's room", gone.user, "renamed", 1); err != nil {
		t.Fatal(err)
	}
	if err := w.s.tellMembers(t.Context(), "ben's room", "said", 2); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    *conn
		want []string
	}{{member, []string{"renamed", "said"}}, {gone, []string{"renamed"}}, {other, nil}} {
		var got []string
		for _, m := range tt.c.got {
			for _, event := range []string{"renamed", "said"} {
				if strings.Contains(m.body, `"`+event+`"`) {
					got = append(got, event)
				}
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s was told %q, want %q", tt.c.user, got, tt.want)
		}
	}
	if got := quote("a'b''c"); got != "'a''b''''c'" {
		t.Errorf("got %s, want each quote doubled", got)
	}
}
