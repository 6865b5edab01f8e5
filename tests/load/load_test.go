// Package load_test runs chatr load against a running Chatr: small, and without a word on how fast it is.
package load_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chatr-dev/chatr/pkg/load/result"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/topology"
)

// lab runs chatr load until it ends, and returns what it printed and its exit status.
func lab(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command(topology.Binary(t), append([]string{"load"}, args...)...)
	cmd.Env = append(os.Environ(), "CHATR_ACCESS_KEY="+topology.AccessKey)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Logf("chatr load %s:\n%s", strings.Join(args, " "), b)
	return string(b), cmd.ProcessState.ExitCode()
}

func TestSmoke(t *testing.T) {
	top := topology.Standalone(t, topology.Options{TLS: true})
	gateway := top.Gateways[0]
	file := filepath.Join(t.TempDir(), "result.json")
	out, status := lab(t, "--endpoint", gateway.URL, "--connections=60", "--ramp=200ms", "--subprotocols=json:3,reliable:2,simple",
		"--groups-count=5", "--groups-sizes=big:50", "--publish-rate=100", "--rest-group-rate=20", "--rest-user-rate=20", "--churn-rate=20",
		"--storm-every=700ms", "--warmup=200ms", "--duration=1500ms", "--watch=server="+strconv.Itoa(gateway.PID())+","+gateway.Ops+"/metrics",
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
			"--duration=500ms", "--fail-if=faults>0,ready<150,errors>0,delivered.rate<=0")
		if status != 0 {
			t.Errorf("status: got %d, want 0", status)
		}
	})
	t.Run("people who chat", func(t *testing.T) {
		t.Parallel()
		chatted := file + ".chat"
		_, status := lab(t, "--endpoint", gateway.URL, "--chat-journeys", "--chat-idle-rate=20", "--churn-rate=5", "--connections=12", "--groups-count=3", "--publish-rate=40",
			"--subprotocols=reliable,json", "--ramp=200ms", "--warmup=0s", "--duration=1s", "--storm-every=400ms", "--output", chatted, "--fail-if=faults>0,ready<12,errors>0,delivered.rate<=0")
		r, err := result.Read(chatted)
		if status != 0 || err != nil || r.Latency["event"] == nil || r.Totals["churned"] == 0 {
			t.Errorf("got status %d, %v and %+v, want people who type, leave, and go idle", status, err, r)
		}
	})
	t.Run("two workers", func(t *testing.T) {
		t.Parallel()
		address := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
		var working sync.WaitGroup
		for range 2 {
			working.Go(func() {
				if _, status := lab(t, "worker", "--coordinator", "http://"+address); status != 0 {
					t.Errorf("status of a worker: got %d, want 0", status)
				}
			})
		}
		merged := file + ".merged"
		_, status := lab(t, "--workers=2", "--listen", address, "--endpoint", gateway.URL, "--connections=21", "--groups-count=4", "--publish-rate=50",
			"--ramp=0s", "--warmup=0s", "--duration=500ms", "--watch="+gateway.Ops+"/metrics", "--output", merged, "--fail-if=faults>0,ready<21,errors>0")
		working.Wait()
		r, err := result.Read(merged)
		if status != 0 || err != nil || r.Truth.Due == 0 || r.Latency["connect"].Count != 21 || len(r.Processes) != 1 {
			t.Errorf("got status %d, %v and %+v, want the sum of both", status, err, r)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		_, status := lab(t, "--endpoint", gateway.Secure, "--authority", gateway.Authority, "--connections=10", "--publish-rate=50", "--groups-count=2",
			"--ramp=0s", "--warmup=0s", "--duration=300ms", "--fail-if=faults>0,ready<10,errors>0,delivered.rate<=0")
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
