package testkit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watcher runs the server named by its arguments until its standard input ends, which happens when the test
// process does, even by SIGKILL; then it removes the server's folder. A line on standard input ends the server
// and keeps the folder. (A death signal set on the server itself would fire when the thread that started it
// ends, which in Go can be at any time.)
const watcher = `
log=$1 dir=$2 signal=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
echo $!
read -r line; ended=$?
kill -s "$signal" $! 2>/dev/null
wait $!
[ $ended = 0 ] || rm -rf -- "$dir"
`

// process is a server program with a folder of its own.
type process struct {
	dir    string              // removed at the end
	args   []string            // program and arguments
	signal string              // ends it at once
	cred   *syscall.Credential // nil: our own
	ready  func() error        // whether it answers

	mu    sync.Mutex
	cmd   *exec.Cmd      // the watcher; nil while stopped
	stdin io.WriteCloser // of the watcher
	pid   int            // of the server itself
}

// start runs the server and waits until it answers.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("%s already runs", p.args[0])
	}
	logFile := filepath.Join(p.dir, "log")
	cmd := exec.Command("/bin/sh", append([]string{"-c", watcher, "watcher", logFile, p.dir, p.signal}, p.args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.cred} // a Ctrl-C is for the test process
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin = cmd, stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err == nil {
		err = p.awaitReady(2 * patience)
	}
	if err != nil {
		log, _ := os.ReadFile(logFile)
		p.end(true)
		return fmt.Errorf("start %s: %w\n%s", p.args[0], err, log)
	}
	return nil
}

func (p *process) awaitReady(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// end ends the server and waits for that; the caller holds mu. It is fine if the server has ended already.
func (p *process) end(keep bool) {
	if p.cmd == nil {
		return
	}
	if keep {
		io.WriteString(p.stdin, "keep\n") //nolint:errcheck // a watcher that has ended need not be told
	}
	p.stdin.Close()
	p.cmd.Wait() //nolint:errcheck // the status is that of the signal
	p.cmd = nil
}

// stop ends the server as a crash would and keeps its folder.
func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(true)
}

// remove ends the server and removes its folder.
func (p *process) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(false)
	os.RemoveAll(p.dir)
}

func (p *process) kill(t testing.TB, s syscall.Signal) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		t.Fatalf("%s does not run", p.args[0])
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, p.args[0], err)
	}
}
