// Package browser_test has two people in real browsers use Chatr from sign-in to good-bye, on a desktop and on a
// phone. The story itself is story.test.mjs, run by Node's own test runner; this file gives it a Chatr to run against.
package browser_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/tests/nodetest"
	"github.com/chatr-dev/chatr/tests/topology"
)

// idleAfter is how long the people of the story have to sit still.
const idleAfter = 3 * time.Second

// TestStory is told on a desktop by separate services, and on a phone by one process: each takes a minute, and make test has twelve.
// With STORIES=all (make test-stories) it is told the other way round, too.
func TestStory(t *testing.T) {
	nodetest.Install(t)
	makePage(t)
	viewports := map[string][]string{"services": {"desktop"}, "standalone": {"phone"}}
	if os.Getenv("STORIES") == "all" {
		viewports = map[string][]string{"services": {"desktop", "phone"}, "standalone": {"desktop", "phone"}}
	}
	for name, start := range map[string]func(testing.TB, topology.Options) *topology.Topology{
		"standalone": topology.Standalone, "services": topology.Services,
	} {
		for _, viewport := range viewports[name] {
			t.Run(name+"/"+viewport, func(t *testing.T) {
				top := start(t, topology.Options{Env: []string{"CHATR_CHAT_IDLE_AFTER=" + idleAfter.String()}})
				tell(t, top, viewport, name)
			})
		}
	}
}

// tell runs the story. Of separate services the two people sit on different gateways.
func tell(t *testing.T, top *topology.Topology, viewport, results string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, _ *http.Request) {
		if err := top.Gateways[0].Restart(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	for path, signal := range map[string]syscall.Signal{"freeze": syscall.SIGSTOP, "thaw": syscall.SIGCONT} {
		mux.HandleFunc("POST /"+path, func(http.ResponseWriter, *http.Request) { top.Gateways[0].Signal(signal) })
	}
	control := httptest.NewServer(mux)
	defer control.Close()
	nodetest.Run(t, []string{"CHATR_URL_A=" + top.A, "CHATR_URL_B=" + top.B, "CHATR_RESTART=" + control.URL + "/restart",
		"CHATR_HANG=" + control.URL, "CHATR_KEY=" + topology.AccessKey, "VIEWPORT=" + viewport,
		"RESULTS=" + filepath.Join("..", "..", "test-results", "browser", results)}, "story.test.mjs")
}

// makePage makes the page that the binary will have in it.
func makePage(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("make", "--no-print-directory", "-C", "../..", "web/dist/index.html").CombinedOutput(); err != nil {
		t.Fatalf("make the page: %v\n%s", err, out)
	}
}
