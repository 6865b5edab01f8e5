package measure

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"
)

func TestRecorderLosesNothing(t *testing.T) {
	var r Recorder
	var recording sync.WaitGroup
	for seat := range 20 {
		recording.Go(func() {
			for i := range 1000 {
				r.Record(seat, Ack, time.Duration(i+1)*time.Millisecond)
			}
		})
	}
	var all Histograms
	for range 50 {
		all.Add(r.Take())
	}
	recording.Wait()
	all.Add(r.Take())
	if got := all[Ack].TotalCount(); got != 20_000 {
		t.Errorf("got %d latencies, want 20000", got)
	}
	if got := time.Duration(all[Ack].ValueAtQuantile(50)); got < 499*time.Millisecond || got > 502*time.Millisecond {
		t.Errorf("median: got %v, want 500ms", got)
	}
	if all[Join] != nil {
		t.Error("there are joins that nobody recorded")
	}
}

func TestExtremeLatenciesAreKept(t *testing.T) {
	var r Recorder
	r.Record(0, Ack, -time.Second)
	r.Record(0, Ack, time.Hour)
	h := r.Take()[Ack]
	if h.TotalCount() != 2 || time.Duration(h.Max()) < 9*time.Minute {
		t.Errorf("got %d latencies up to %v, want 2 up to 10m", h.TotalCount(), time.Duration(h.Max()))
	}
}

func TestProcessUsage(t *testing.T) {
	before, err := ProcessUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 {
		t.Errorf("memory: got %d bytes, want more than a mebibyte", before.RSS)
	}
	own := OwnCPU()
	for OwnCPU() < own+50*time.Millisecond { // work
	}
	after, err := ProcessUsage(os.Getpid())
	if err != nil || after.CPU-before.CPU < 30*time.Millisecond {
		t.Errorf("got %v more CPU time and %v, want about 50ms", after.CPU-before.CPU, err)
	}
	if _, err := ProcessUsage(1 << 30); err == nil {
		t.Error("a process that does not exist has a usage")
	}
}

func TestScrape(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("# HELP a b\n# TYPE a counter\na{x=\"1\"} 2\na{x=\"2 }\"} 3 1700000000\nplain 1.5e3\nh_bucket{le=\"1\"} 9\nh_sum 4\nq{quantile=\"0.5\"} 7\nbroken\n"))
	}))
	defer server.Close()
	got, err := Scrape(t.Context(), server.URL+"/metrics")
	if want := map[string]float64{"a": 5, "plain": 1500, "h_sum": 4}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := Scrape(t.Context(), server.URL); err == nil {
		t.Error("a 404 is no error")
	}
}
