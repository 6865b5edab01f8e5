// Package testkit gives tests real servers of their own: Redis, Postgres, links to them that can be cut, free ports, and
// waiting.
//
// Servers listen on 127.0.0.1 and end with the test that asked for them, or with the test process, however that
// ends. Nothing is skipped: a missing server program fails the test and names the package that has it.
//
// It is for tests only and knows nothing of the other packages, so that the tests of each may use it.
package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	portsMu sync.Mutex
	ports   = map[int]bool{} // handed out by this process
)

// FreePort returns a port of 127.0.0.1 that nobody listens on and that no test process is given until this one ends. It
// lies below the range from which the system serves outgoing connections, so a server may give it back and take it
// again later.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := FindPort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// FindPort is FreePort for programs that tests run.
func FindPort() (int, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 1000 {
		port := 15000 + rand.IntN(17000)
		if ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		ours, err := reserve(port)
		if err != nil {
			return 0, fmt.Errorf("reserve port %d: %w", port, err)
		}
		if ours {
			ports[port] = true
			return port, nil
		}
	}
	return 0, errors.New("no free port found between 15000 and 32000")
}

// reserve keeps the other test processes of this user from being given the port while this one lives. It reports
// false when another one has it: its server may not have started yet, or be stopped for a while.
func reserve(port int) (bool, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("testkit-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	fd, err := syscall.Open(filepath.Join(dir, strconv.Itoa(port)), syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return false, err
	}
	// The descriptor stays open: the lock ends with the process, however that ends.
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		syscall.Close(fd)
		return false, nil
	}
	return true, nil
}

// patience is what Eventually waits at least.
const patience = time.Minute

// Eventually waits until cond holds and fails the test if that takes too long. within is what is enough on a quiet
// machine; it is stretched to a minute, as it is to end a test that hangs and not to decide one on a busy machine. cond is
// called from the test's goroutine, so it may use t.
func Eventually(t testing.TB, within time.Duration, cond func() bool, msg string) {
	t.Helper()
	within = max(within, patience)
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", within, msg)
		}
		time.Sleep(pause)
	}
}
