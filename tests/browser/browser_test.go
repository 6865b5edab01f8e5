// Package browser_test has two people in real browsers use Chatr from sign-in to good-bye, on a desktop and on a
// phone. The story itself is story.test.mjs, run by Node's own test runner; this file gives it a Chatr to run against.
package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// idleAfter is how long the people of the story have to sit still.
const idleAfter = 3 * time.Second

// site is a running Chatr as two people meet it.
type site struct {
	a, b    string       // the page's address for each of them
	restart func() error // kills it and starts it again, back when it answers; nil if it is not ours to kill
}

// topology starts a Chatr from the given binary, and stops it at the end of the test.
type topology func(t *testing.T, binary string) site

func TestStory(t *testing.T) {
	install(t)
	binary := build(t)
	for name, start := range map[string]topology{"standalone": standalone} {
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
	if out, err := node.CombinedOutput(); err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}

// standalone is one process, which both people use.
func standalone(t *testing.T, binary string) site {
	address := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	p := &process{path: binary, ready: "http://" + address + "/api/config", args: []string{
		"standalone", "--listen", address, "--tls-listen=", "--data", t.TempDir(), "--chat-idle-after", idleAfter.String(),
	}}
	p.run(t)
	return site{a: "http://" + address, b: "http://" + address, restart: func() error {
		p.stop(syscall.SIGKILL)
		return p.start()
	}}
}

// process is a chatr that answers at a URL when it is ready.
type process struct {
	path  string
	args  []string
	ready string

	cmd *exec.Cmd // the one that runs now
	log strings.Builder
}

// run starts the process. It is stopped at the end of the test, which fails when that does not go well.
func (p *process) run(t *testing.T) {
	t.Helper()
	err := p.start()
	t.Cleanup(func() {
		if code := p.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("chatr ended with status %d after SIGTERM, want 0", code)
		}
		if t.Failed() {
			t.Logf("log of chatr:\n%s", p.log.String())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the process and returns when it is ready.
func (p *process) start() error {
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get(p.ready)
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("no good answer from %s within 20 s", p.ready)
}

// stop ends the process by a signal and returns its exit status.
func (p *process) stop(s syscall.Signal) int {
	if p.cmd.Process == nil {
		return -1
	}
	_ = p.cmd.Process.Signal(s)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
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
