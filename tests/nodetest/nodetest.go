// Package nodetest runs tests that are written in JavaScript, with Node's own test runner, and reports each of them as a
// test of Go's: by its name, with its failure, and with the attribute "source", which is the file and line that it stands
// at. The folder of the calling test holds the tests and their package.json.
package nodetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// reporterFile is seen from the folder of a package beside this one.
const reporterFile = "../nodetest/reporter.mjs"

// timeLimit bounds one run; Node is killed after it.
const timeLimit = 20 * time.Minute

// Install brings node_modules to what package-lock.json says.
func Install(t testing.TB) {
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

// event is a line of the reporter's: the end of a test, or something that was printed.
type event struct {
	Path    []string
	Suite   bool
	Source  string
	Skipped bool
	Failure string
	Output  string
}

// Run runs the tests of files with env added to the environment. A test that skips itself has failed: it proves nothing.
func Run(t *testing.T, env []string, files ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeLimit)
	defer cancel()
	node := exec.CommandContext(ctx, "node", append([]string{"--test", "--test-force-exit", "--test-reporter=" + reporterFile}, files...)...)
	node.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	ran, printed := report(t, bufio.NewReader(out))
	err = node.Wait()
	switch {
	case ctx.Err() != nil:
		t.Errorf("node --test did not end within %v", timeLimit)
	case err != nil && !t.Failed():
		t.Errorf("node --test: %v", err)
	case ran == 0:
		t.Error("node --test ran no test")
	}
	if printed != "" || t.Failed() {
		t.Logf("printed by the tests:\n%s%s", printed, stderr.String())
	}
}

// report makes a test of Go's of each test that ends, and returns how many there were and what they printed.
func report(t *testing.T, lines *bufio.Reader) (ran int, printed string) {
	t.Helper()
	var output strings.Builder
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return ran, output.String()
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			output.Write(line)
			continue
		}
		output.WriteString(e.Output)
		if e.Path == nil || e.Suite && e.Failure == "" {
			continue
		}
		ran++
		t.Run(strings.Join(e.Path, "/"), func(t *testing.T) {
			t.Attr("source", e.Source)
			switch {
			case e.Failure != "":
				t.Errorf("%s: %s", e.Source, e.Failure)
			case e.Skipped:
				t.Errorf("%s: was skipped", e.Source)
			}
		})
	}
}
