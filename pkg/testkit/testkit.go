// Package testkit gives tests real servers of their own: Redis, Postgres, free ports, and waiting.
//
// Servers listen on 127.0.0.1 and end with the test that asked for them, or with the test process, however that
// ends. Nothing is skipped: a missing server program fails the test and names the package that has it.
//
// It is for tests only and knows nothing of the other packages, so that the tests of each may use it.
package testkit

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

var (
	portsMu sync.Mutex
	ports   = map[int]bool{} // handed out by this process
)

// FreePort returns a port of 127.0.0.1 that nobody listens on. It lies below the range from which the system
// serves outgoing connections, so a server may give it back and take it again later.
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
		ports[port] = true
		return port, nil
	}
	return 0, errors.New("no free port found between 15000 and 32000")
}

// Eventually waits until cond holds and fails the test if that takes longer than within. cond is called from
// the test's goroutine, so it may use t.
func Eventually(t testing.TB, within time.Duration, cond func() bool, msg string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", within, msg)
		}
		time.Sleep(pause)
	}
}
