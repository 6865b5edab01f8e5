package scenario

import (
	"reflect"
	"strings"
	"testing"
)

func TestSharesAreThePlan(t *testing.T) {
	p := plan(t, "--connections=100", "--groups-count=3", "--groups-per-connection=2", "--publish-outside=4")
	for of := range 4 {
		seen := make([]int, len(p.Clients))
		inGroup := 0
		for index := range max(of, 1) {
			s := Share{index, of}
			n := 0
			for i := range p.Clients {
				if s.Has(i) {
					if got := s.Position(i); got != n {
						t.Errorf("%+v: position of %d: got %d, want %d", s, i, got, n)
					}
					seen[i]++
					n++
				}
			}
			if got := s.Count(len(p.Clients)); got != n {
				t.Errorf("%+v: counts %d, has %d", s, got, n)
			}
			for _, i := range p.Members[0] {
				if s.Has(i) {
					inGroup++
					break
				}
			}
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("%d shares: client %d is in %d of them", of, i, n)
			}
		}
		if inGroup != max(of, 1) {
			t.Errorf("%d shares: %d have members of one group, want all", of, inGroup)
		}
	}
}

func TestWindowIsSharedByThosePublishing(t *testing.T) {
	for _, tt := range []struct {
		publishers []Publisher
		want       []int
	}{
		{[]Publisher{{0, 0}, {1, 0}, {2, 0}}, []int{2, 2, 3}},
		{[]Publisher{{4, 0}, {5, 0}}, []int{0, 3, 4}},
		{[]Publisher{{30, 0}}, []int{7, 0, 0}},
		{nil, []int{7, 0, 0}},
	} {
		var got []int
		for i := range 3 {
			got = append(got, Share{i, 3}.Window(7, tt.publishers))
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.publishers, got, tt.want)
		}
	}
}

func TestWorkersNeedSomethingEach(t *testing.T) {
	err := load(t, "--connections=2", "--groups-count=1", "--publish-window=1").CheckWorkers(3)
	for _, want := range []string{"connections is 2; 3 processes", "publish.window is 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also %q", err, want)
		}
	}
	if err := load(t, "--connections=3", "--groups-count=1", "--publish-outside=1", "--publish-rate=1").CheckWorkers(3); err != nil {
		t.Errorf("one group and one publisher for three: got %v", err)
	}
	long := []string{"--duration=1h", "--warmup=0s", "--publish-rate=10000", "--rest-group-rate=10000"}
	if err := load(t, long...).CheckWorkers(3); err != nil {
		t.Errorf("24 million messages for each: got %v", err)
	}
	for _, more := range []string{"--rest-user-rate=1000", "--publish-outside=2", "--warmup=10m"} {
		if err := load(t, append(long, more)...).CheckWorkers(3); err == nil || !strings.Contains(err.Error(), "at most 25000000 are allowed") {
			t.Errorf("more than 25 million messages, by %s: got %v", more, err)
		}
	}
	none := load(t) // as a coordinator could send it: settings refuse it
	none.Connections = 0
	if err := none.CheckWorkers(1); err == nil || err.Error() != "connections is 0; it must be from 1 to 1000000" {
		t.Errorf("an invalid scenario: got %v", err)
	}
}
