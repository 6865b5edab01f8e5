package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a Redis server of one test. What is written survives Stop and Start.
type RedisServer struct {
	Addr string // "127.0.0.1:21345"
	URL  string // "redis://127.0.0.1:21345/0"

	t testing.TB
	p *process
}

// Redis starts a Redis server on a free port; it ends with the test. Further arguments go to its command line,
// e.g. "--cluster-enabled", "yes".
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed; the tests need it: apt-get install redis-server")
	}
	for attempt := 1; ; attempt++ {
		s, err := startRedis(t, program, args)
		if err == nil {
			t.Cleanup(s.p.remove)
			return s
		}
		if attempt == 3 { // another process may have taken the port in between
			t.Fatal(err)
		}
	}
}

func startRedis(t testing.TB, program string, args []string) (*RedisServer, error) {
	dir, err := os.MkdirTemp("", "testkit-redis-")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(FreePort(t))
	addr := net.JoinHostPort("127.0.0.1", port)
	s := &RedisServer{Addr: addr, URL: "redis://" + addr + "/0", t: t}
	s.p = &process{
		dir: dir,
		args: append([]string{program, "--bind", "127.0.0.1", "--port", port, "--dir", dir,
			"--save", "", "--appendonly", "yes", "--appendfsync", "no"}, args...),
		signal: "KILL",
		ready:  func() error { return pingRedis(addr) },
	}
	if err := s.p.start(); err != nil {
		s.p.remove()
		return nil, err
	}
	return s, nil
}

// pingRedis asks whether the server serves: -LOADING and a refused connection are errors.
func pingRedis(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-NOAUTH") {
		return errors.New(strings.TrimSpace(line))
	}
	return nil
}

// Stop ends the server as a crash would; connections break and new ones are refused.
func (s *RedisServer) Stop() { s.p.stop() }

// Start starts the stopped server again, on the same port with the same data.
func (s *RedisServer) Start() {
	s.t.Helper()
	if err := s.p.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Forget has the stopped server start empty.
func (s *RedisServer) Forget() {
	s.t.Helper()
	kept, err := filepath.Glob(filepath.Join(s.p.dir, "appendonly*"))
	for _, path := range kept {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Pause makes the server hang: connections stay open and nothing is answered until Resume.
func (s *RedisServer) Pause() { s.t.Helper(); s.p.kill(s.t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume() { s.t.Helper(); s.p.kill(s.t, syscall.SIGCONT) }
