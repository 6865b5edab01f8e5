package topology

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTime bounds how long a process may take to be ready; a busy machine needs patience.
const startTime = 2 * time.Minute

// Process is a chatr of a Topology. It keeps its addresses across restarts. Its methods are for one goroutine at a
// time, but for Log and Ready.
type Process struct {
	Name      string
	URL       string // for clients, without a front
	Secure    string // the https twin of a standalone with TLS
	Authority string // path of the certificate to trust for Secure
	Ops       string // of /metrics, /healthz and /readyz

	StartTime time.Duration // that the last start took, until ready

	t    testing.TB
	path string
	args []string
	env  []string
	log  logBuffer
	file string    // that gets the log as well; none when empty
	kept *os.File  // of file
	cmd  *exec.Cmd // nil while stopped
}

// newProcess is a process that listens on address once it is started.
func newProcess(t testing.TB, o Options, name, address string, args ...string) *Process {
	t.Helper()
	ops := freeAddress(t)
	p := &Process{Name: name, URL: "http://" + address, Ops: "http://" + ops, t: t, path: binary(t),
		args: append(args, "--listen", address, "--ops-listen", ops), env: environment(o)}
	if o.Logs != "" {
		p.file = filepath.Join(o.Logs, strings.ReplaceAll(name, " ", "-")+".log")
	}
	return p
}

// environment is ours, without settings that happen to be in it.
func environment(o Options) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CHATR_") {
			env = append(env, kv)
		}
	}
	return append(env, o.Env...)
}

// Start starts the process, which does not run, and returns when it is ready.
func (p *Process) Start() {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Process) start() error {
	started := time.Now()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, io.Discard, &p.log
	if p.file != "" {
		f, err := os.OpenFile(p.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		p.kept = f
		cmd.Stderr = io.MultiWriter(&p.log, f)
	}
	cmd.SysProcAttr = diesWithUs()
	if err := onLastingThread(cmd.Start); err != nil {
		return fmt.Errorf("start chatr %s: %w", p.Name, err)
	}
	p.cmd = cmd
	for {
		reason := p.Ready()
		if reason == "" {
			p.StartTime = time.Since(started)
			return nil
		}
		if time.Since(started) > startTime {
			return fmt.Errorf("chatr %s is not ready after %v: %s", p.Name, startTime, reason)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Stop asks the process to end, waits for that and returns its exit status: 0 also when it did not run.
func (p *Process) Stop() int { return p.end(syscall.SIGTERM) }

// Kill ends the process without a warning.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Restart kills the process and starts it again. Unlike Start it may be called from any goroutine.
func (p *Process) Restart() error {
	p.Kill()
	return p.start()
}

// Roll asks the process to end and starts it again when it has, as a rolling deploy does. Unlike Stop and Start it may be
// called from any goroutine.
func (p *Process) Roll() error {
	if code := p.Stop(); code != 0 {
		return fmt.Errorf("chatr %s ended with status %d after SIGTERM, want 0", p.Name, code)
	}
	return p.start()
}

func (p *Process) end(s syscall.Signal) int {
	if p.cmd == nil {
		return 0
	}
	_ = p.cmd.Process.Signal(s) // it may have ended by itself
	_ = p.cmd.Wait()
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	if p.kept != nil {
		_ = p.kept.Close() // what is missing of a log nobody can mend
	}
	return code
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to chatr %s: %v", s, p.Name, err)
	}
}

// Log is what the process has logged since the first start.
func (p *Process) Log() string { return p.log.String() }

var ops = &http.Client{Timeout: 5 * time.Second}

// Ready returns why the process says it is not ready; empty when it is.
func (p *Process) Ready() (reason string) {
	answer, err := ops.Get(p.Ops + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return ""
	}
	b, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	return fmt.Sprintf("%d %s", answer.StatusCode, strings.TrimSpace(string(b)))
}

// logBuffer is a strings.Builder that several may use.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// lasting runs functions on a thread that ends with the test process, not before: Linux sends a death signal when
// the thread that started the child ends, which for a goroutine's can be at any time.
var lasting = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func onLastingThread(f func() error) error {
	done := make(chan error, 1)
	lasting() <- func() { done <- f() }
	return <-done
}
