// Package browser_test has two people in real browsers use Chatr from sign-in to good-bye, on a desktop and on a
// phone. The story itself is story.test.mjs, run by Node's own test runner; this file gives it a Chatr to run against.
package browser_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStory(t *testing.T) {
	install(t)
	binary := build(t)
	for name, start := range map[string]topology{"standalone": standalone, "services": services} {
		for _, viewport := range []string{"desktop", "phone"} {
			t.Run(name+"/"+viewport, func(t *testing.T) {
				tell(t, start(t, binary), viewport, name)
			})
		}
	}
}

// tell runs the story.
func tell(t *testing.T, s site, viewport, results string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "--test", "--test-reporter=spec", "story.test.mjs")
	node.Env = append(os.Environ(), "CHATR_URL_A="+s.a, "CHATR_URL_B="+s.b, "VIEWPORT="+viewport,
		"RESULTS="+filepath.Join("..", "..", "test-results", "browser", results))
	if s.restart != nil {
		control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := s.restart(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer control.Close()
		node.Env = append(node.Env, "CHATR_RESTART="+control.URL)
	}
	out, err := node.CombinedOutput()
	if err != nil {
		t.Errorf("node --test: %v", err)
	}
	t.Logf("%s", out)
}

// build returns the path of a chatr made from these sources, with the page in it.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "chatr")
	for _, args := range [][]string{
		{"make", "--no-print-directory", "-C", "../..", "web/dist/index.html"},
		{"go", "build", "-o", binary, "../../cmd/chatr"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return binary
}

// install brings node_modules to what package-lock.json says.
func install(t *testing.T) {
	t.Helper()
	installed, err := os.Stat("node_modules/.package-lock.json")
	wanted, lockErr := os.Stat("package-lock.json")
	if lockErr != nil {
		t.Fatal(lockErr)
	}
	if err == nil && !installed.ModTime().Before(wanted.ModTime()) {
		return
	}
	if out, err := exec.Command("npm", "ci", "--no-fund", "--no-audit").CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}
