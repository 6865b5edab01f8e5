package topology

import (
	"net/http"
	"strings"
	"testing"
)

func TestStandalone(t *testing.T) {
	top := Standalone(t, Options{TLS: true})
	t.Logf("ready in %v", top.Gateways[0].StartTime)
	if got := status(t, top.A+"/api/config"); got != http.StatusOK {
		t.Errorf("the page's settings: got status %d, want 200", got)
	}
	top.Gateways[0].Kill()
	if reason := top.Gateways[0].Ready(); reason == "" {
		t.Error("a killed process is ready")
	}
	top.Gateways[0].Start()
	if code := top.Gateways[0].Stop(); code != 0 {
		t.Errorf("status after SIGTERM: got %d, want 0", code)
	}
}

func TestServices(t *testing.T) {
	top := Services(t, Options{})
	for _, front := range []string{top.A, top.B, top.Balanced} {
		for _, path := range []string{"/api/config", "/api/health"} {
			if got := status(t, front+path); got != http.StatusOK {
				t.Errorf("%s: got status %d, want 200", path, got)
			}
		}
	}
	top.Gateways[0].Kill()
	for range 4 {
		if got := status(t, top.Balanced+"/api/health"); got != http.StatusOK {
			t.Errorf("with one gateway: got status %d, want 200", got)
		}
	}
	if got := status(t, top.A+"/api/health"); got != http.StatusBadGateway {
		t.Errorf("the front of a dead gateway: got status %d, want 502", got)
	}
	if log := top.Gateways[1].Log(); !strings.Contains(log, "listening") {
		t.Errorf("log of gateway 2: got %q, want that it listens", log)
	}
}

func status(t *testing.T, url string) int {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
