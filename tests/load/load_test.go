// Package load_test runs chatr load against a running Chatr: small, and without a word on how fast it is.
package load_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/tests/topology"
)

// lab runs chatr load until it ends, and returns what it printed and its exit status.
func lab(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	return watched(t, func(string, *os.Process) {}, args...)
}

// watched is lab that tells each line as soon as it is printed.
func watched(t *testing.T, watch func(line string, p *os.Process), args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command(topology.Binary(t), append([]string{"load"}, args...)...)
	cmd.Env = append(os.Environ(), "CHATR_ACCESS_KEY="+topology.AccessKey)
	from, to := io.Pipe()
	cmd.Stdout, cmd.Stderr = to, to
	if err := cmd.Start(); err != nil {
		t.Error(err) // not always in the test's own goroutine
		return "", -1
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for r := bufio.NewReader(from); ; {
			line, err := r.ReadString('\n')
			out += line
			watch(line, cmd.Process)
			if err != nil {
				return
			}
		}
	})
	_ = cmd.Wait() // however it ends
	_ = to.Close()
	reading.Wait()
	t.Logf("chatr load %s:\n%s", strings.Join(args, " "), out)
	return out, cmd.ProcessState.ExitCode()
}

// runTeam runs chatr load with n workers until all have ended, and returns what the coordinator printed and its exit status.
// watch, if there is one, is told each line that the first worker prints; no other worker may fail then.
func runTeam(t *testing.T, n int, watch func(line string, worker *os.Process), args ...string) (out string, status int) {
	t.Helper()
	var working sync.WaitGroup
	work := func(address string) {
		for i := range n {
			working.Go(func() {
				args := []string{"worker", "--coordinator", "http://" + address}
				if i == 0 && watch != nil {
					watched(t, watch, args...)
				} else if _, status := lab(t, args...); status != 0 {
					t.Errorf("status of a worker: got %d, want 0", status)
				}
			})
		}
	}
	out, status = watched(t, func(line string, _ *os.Process) {
		if says, waits := strings.CutPrefix(line, "waiting at "); waits {
			address, _, _ := strings.Cut(says, " ")
			work(address)
		}
	}, append([]string{"--workers=" + strconv.Itoa(n), "--listen=127.0.0.1:0"}, args...)...)
	working.Wait()
	return out, status
}

func TestSmoke(t *testing.T) {
	top := topology.Standalone(t, topology.Options{TLS: true})
	gateway := top.Gateways[0]
	file := filepath.Join(t.TempDir(), "result.json")
	out, status := lab(t, "--endpoint", gateway.URL, "--connections=60", "--ramp=200ms", "--subprotocols=json:3,reliable:2,simple",
		"--groups-count=5", "--groups-sizes=big:50", "--publish-rate=100", "--rest-group-rate=20", "--rest-user-rate=20", "--churn-rate=20",
		"--storm-every=700ms", "--warmup=200ms", "--duration=3s", "--in-flight=10s", "--settle=1m", "--watch=server="+strconv.Itoa(gateway.PID())+","+gateway.Ops+"/metrics",
		"--output", file, "--html", file+".html", "--fail-if=faults>0,ready<60,errors>0,delivered.rate<=0")
	if status != 0 {
		t.Fatalf("status: got %d, want 0", status)
	}
	r, err := result.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Truth.Due == 0 || r.Totals["recoveries"] == 0 || r.Totals["churned"] == 0 {
		t.Errorf("got %+v and %v, want deliveries, recoveries and churn", r.Truth, r.Totals)
	}
	if len(r.Processes) != 2 || r.Processes[0].RSS == 0 || r.Processes[1].RSS == 0 || r.Metrics["gateway_messages_delivered_total"] == 0 {
		t.Errorf("got processes %+v and %d metrics, want the gateway's own by PID and by URL", r.Processes, len(r.Metrics))
	}
	if !strings.Contains(out, "0 lost, 0 doubled, 0 reordered, 0 stray") {
		t.Error("the summary does not say that nothing was lost")
	}
	t.Run("two results side by side", func(t *testing.T) {
		t.Parallel()
		page := file + ".both.html"
		out, status := lab(t, "report", "--results", file+","+file, "--html", page, "--fail-if=lost>0")
		b, err := os.ReadFile(page)
		if status != 0 || err != nil || !strings.Contains(string(b), "2 runs compared") {
			t.Errorf("got status %d, %q and %v, want a page of both", status, out, err)
		}
	})
	t.Run("the example scenario, smaller", func(t *testing.T) {
		t.Parallel()
		_, status := lab(t, "--config", "../../deploy/load/scenario.yaml", "--endpoint", gateway.URL, "--connections=150", "--ramp=0s", "--warmup=0s",
			"--duration=2s", "--in-flight=10s", "--settle=1m", "--fail-if=faults>0,ready<150,errors>0,delivered.rate<=0")
		if status != 0 {
			t.Errorf("status: got %d, want 0", status)
		}
	})
	t.Run("people who chat", func(t *testing.T) {
		t.Parallel()
		chatted := file + ".chat"
		_, status := lab(t, "--endpoint", gateway.URL, "--chat-journeys", "--chat-idle-rate=20", "--churn-rate=5", "--connections=12", "--groups-count=3", "--publish-rate=40",
			"--subprotocols=reliable,json", "--ramp=200ms", "--warmup=0s", "--duration=3s", "--in-flight=10s", "--settle=1m", "--storm-every=400ms", "--output", chatted, "--fail-if=faults>0,ready<12,errors>0,delivered.rate<=0")
		r, err := result.Read(chatted)
		if status != 0 || err != nil || r.Latency["event"] == nil || r.Totals["churned"] == 0 {
			t.Errorf("got status %d, %v and %+v, want people who type, leave, and go idle", status, err, r)
		}
	})
	t.Run("one group in three workers", func(t *testing.T) {
		t.Parallel()
		merged := file + ".merged"
		out, status := runTeam(t, 3, nil, "--endpoint", gateway.URL, "--connections=22", "--groups-count=1", "--publish-rate=50", "--rest-group-rate=20", "--rest-user-rate=20",
			"--subprotocols=json:3,reliable:2,simple", "--churn-rate=20", "--storm-every=300ms", "--ramp=0s", "--warmup=0s", "--duration=2s", "--in-flight=10s", "--settle=1m", "--watch="+gateway.Ops+"/metrics", "--output", merged,
			"--fail-if=faults>0,ready<22,errors>0,unjudged>0,missing>0")
		r, err := result.Read(merged)
		if status != 0 || err != nil || r.Truth.Due == 0 || r.Totals["ready"] != 22 || len(r.Processes) != 1 || len(r.Workers) != 3 || r.Workers[0].Connections != 8 || r.Workers[2].Connections != 7 {
			t.Fatalf("got status %d, %v and %+v, want the sum of all", status, err, r)
		}
		if r.Clocks == nil || r.Clocks.Across == 0 || r.Clocks.Across >= r.Truth.Delivered || !strings.Contains(out, "from one worker to another, timed to ±") {
			t.Errorf("got %+v, want some deliveries, not all, from one to another", r.Clocks)
		}
	})
	t.Run("people who chat, in two workers", func(t *testing.T) {
		t.Parallel()
		if _, status := runTeam(t, 2, nil, "--endpoint", gateway.URL, "--chat-journeys", "--connections=6", "--groups-count=2", "--publish-rate=40", "--ramp=0s", "--warmup=0s", "--duration=2s", "--settle=1m",
			"--fail-if=faults>0,ready<6,errors>0,delivered.rate<=0"); status != 0 {
			t.Errorf("status: got %d, want 0", status)
		}
	})
	t.Run("a worker that dies is missing in the result", func(t *testing.T) {
		t.Parallel()
		merged := file + ".missing"
		kill := func(line string, worker *os.Process) {
			if strings.Contains(line, "measure") {
				_ = worker.Kill()
			}
		}
		out, status := runTeam(t, 3, kill, "--endpoint", gateway.URL, "--connections=12", "--groups-count=1", "--publish-rate=100", "--ramp=0s", "--warmup=0s", "--duration=10s", "--settle=1m",
			"--output", merged, "--html", merged+".html")
		r, err := result.Read(merged)
		if status != 1 || err != nil || r.Missing() != 1 || !strings.Contains(out, "the result is incomplete: 1 of 3 workers are missing") || !strings.Contains(out, "nobody knows what its 4 connections got") {
			t.Fatalf("got status %d, %v and %+v, want a result without one worker", status, err, r)
		}
		if r.Truth.Unjudged == 0 || r.Truth.Due == 0 || r.Truth.Faults() != 0 || r.Totals["ready"] != 8 {
			t.Errorf("got %+v, want no faults among the others, and what the dead one sent unjudged", r.Truth)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		_, status := lab(t, "--endpoint", gateway.Secure, "--authority", gateway.Authority, "--connections=10", "--publish-rate=50", "--rest-group-rate=20", "--groups-count=2",
			"--ramp=0s", "--warmup=0s", "--duration=2s", "--settle=1m", "--fail-if=faults>0,ready<10,errors>0,delivered.rate<=0")
		if status != 0 {
			t.Errorf("status: got %d, want 0", status)
		}
	})
	t.Run("a condition that is met ends with status 1", func(t *testing.T) {
		t.Parallel()
		out, status := lab(t, "--endpoint", gateway.URL, "--connections=2", "--ramp=0s", "--warmup=0s", "--duration=100ms", "--fail-if=ready<3,ack.p99>1ms")
		if status != 1 || !strings.Contains(out, "ready<3: it is 2") || !strings.Contains(out, "no ack latency was measured") {
			t.Errorf("got status %d, want 1 and both reasons", status)
		}
	})
	t.Run("a wrong key is told at once", func(t *testing.T) {
		t.Parallel()
		out, status := lab(t, "--endpoint", gateway.URL, "--access-key", strings.Repeat("x", 40), "--connections=2", "--ramp=0s")
		if status != 1 || !strings.Contains(out, "no connection could be made: the handshake was answered with 401") {
			t.Errorf("got status %d, want 1 and the answer to the handshake", status)
		}
	})
}
