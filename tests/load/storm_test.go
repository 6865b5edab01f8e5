package load_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/tests/topology"
)

// BenchmarkTLSStorm lets the crowd of deploy/load/tls-storm.yaml come while 100 others, a process of their own, send 500
// messages a second to groups of ten. It reports the time until all are connected, the processor time of server and client
// for each of them, that of the talk taken off, and the talk's worst seconds before and meanwhile.
func BenchmarkTLSStorm(b *testing.B) {
	gateway := topology.Standalone(b, topology.Options{TLS: true}).Gateways[0]
	target, err := measure.ParseTarget("server=" + strconv.Itoa(gateway.PID()))
	if err != nil {
		b.Fatal(err)
	}
	used := func() time.Duration {
		u, _, err := target.Usage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return u.CPU
	}
	for b.Loop() {
		storm(b, gateway, used)
	}
}

func storm(b *testing.B, gateway *topology.Process, used func() time.Duration) {
	b.Helper()
	const quiet = 5 * time.Second // of talk before the storm, twice
	folder := b.TempDir()
	talk, storm := filepath.Join(folder, "talk.json"), filepath.Join(folder, "storm.json")
	talking := start(b, "--endpoint", gateway.URL, "--connections=100", "--groups-count=10", "--ramp=0s", "--warmup=0s", "--duration=30s",
		"--publish-rate=500", "--output", talk)
	time.Sleep(quiet)
	before := used()
	time.Sleep(quiet)
	perSecond := (used() - before).Seconds() / quiet.Seconds()

	before, began := used(), time.Now()
	coming := start(b, "--config", "../../deploy/load/tls-storm.yaml", "--endpoint", gateway.Secure, "--authority", gateway.Authority, "--output", storm)
	wait(b, coming)
	server, ended := used()-before, time.Now()
	wait(b, talking)

	crowd, others := read(b, storm), read(b, talk)
	all := float64(crowd.Scenario.Connections)
	for _, s := range crowd.Series {
		if s.Connections == int64(crowd.Scenario.Connections) {
			b.ReportMetric(s.At, "storm-s")
			break
		}
	}
	failures := int64(0)
	for _, n := range crowd.Errors {
		failures += n
	}
	b.ReportMetric(float64(failures), "errors")
	b.ReportMetric(crowd.Latency["connect"].P50, "connect-p50-ms")
	b.ReportMetric(crowd.Latency["connect"].P99, "connect-p99-ms")
	b.ReportMetric((server.Seconds()-perSecond*ended.Sub(began).Seconds())*1e6/all, "server-µs/conn")
	b.ReportMetric((coming.ProcessState.UserTime()+coming.ProcessState.SystemTime()).Seconds()*1e6/all, "client-µs/conn")
	var calm, stormy []float64
	for _, s := range others.Series {
		l, measured := s.Latency["oneway"]
		at := others.Started.Add(time.Duration(s.At * float64(time.Second)))
		switch {
		case !measured:
		case at.Before(began):
			calm = append(calm, l.P99)
		case at.Before(ended):
			stormy = append(stormy, l.P99)
		}
	}
	if len(calm) == 0 || len(stormy) == 0 {
		b.Fatal("the talk has no seconds before the storm, or none in it")
	}
	b.ReportMetric(slices.Max(calm), "talk-before-p99-ms")
	b.ReportMetric(slices.Max(stormy), "talk-p99-ms")
	b.ReportMetric(float64(others.Truth.Faults()), "talk-faults")
}

// start lets chatr load run.
func start(b *testing.B, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command(topology.Binary(b), append([]string{"load"}, args...)...)
	cmd.Env = append(os.Environ(), "CHATR_ACCESS_KEY="+topology.AccessKey)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func wait(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%v: %v", cmd.Args, err)
	}
}

func read(b *testing.B, file string) *result.Result {
	b.Helper()
	r, err := result.Read(file)
	if err != nil {
		b.Fatal(err)
	}
	return r
}
