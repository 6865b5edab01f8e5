package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
)

// server is a kind of server that can be measured.
type server struct {
	name string
	// command returns how a node is started on address; redis is empty for the only node of a deployment.
	command func(o options, folder, address, redis string) *exec.Cmd
	dialect func(o options, address string) dialect
	nodes   int // the most that can be joined
}

// servers are those that can be measured; what is not installed is left out.
func servers(o options) []server {
	all := []server{
		product("chatr", protocol.JSON),
		product("chatr-reliable", protocol.ReliableJSON),
		product("chatr-protobuf", protocol.Protobuf),
		{"floor", func(o options, _, address, redis string) *exec.Cmd {
			return exec.Command(o.tool("floor"), "-listen", address, "-redis", redis)
		}, plain, 2},
		{"nats", func(o options, folder, address, _ string) *exec.Cmd {
			host, port, _ := net.SplitHostPort(address)
			file := filepath.Join(folder, "nats.conf")
			_ = os.WriteFile(file, fmt.Appendf(nil, "listen: \"127.0.0.1:-1\"\nwebsocket { listen: \"%s:%s\", no_tls: true }\n", host, port), 0o600)
			return exec.Command(o.tool("nats-server"), "-c", file)
		}, func(options, string) dialect { return nats{} }, 1},
		node("ws", plain),
		node("socketio", func(options, string) dialect { return socketIO{} }),
	}
	if o.reference != "" { // servers of another benchmark that speak the same protocol
		for _, kind := range []string{"hybrid-own", "hybrid-combine", "kernel"} {
			all = append(all, server{kind, func(o options, _, address, redis string) *exec.Cmd {
				return exec.Command(o.reference, "-listen", address, "-kind", kind, "-redis", redis, "-redis-lib", "goredis")
			}, plain, map[string]int{"hybrid-own": 2}[kind]})
		}
	}
	return all
}

func plain(options, string) dialect { return azure{codec: protocol.JSON} }

// accessKey is that of the product in a run, and of nothing else.
const accessKey = "an access key for benchmarks on this machine"

// product is the product as it is delivered: tokens are checked, messages counted, slow clients closed.
func product(name string, codec protocol.Codec) server {
	return server{name, func(o options, folder, address, redis string) *exec.Cmd {
		args := []string{"standalone", "--tls-listen=", "--data", folder}
		if redis != "" {
			args = []string{"gateway", "--redis-url", "redis://" + redis, "--ops-listen", "127.0.0.1:0"}
		}
		cmd := exec.Command(o.chatr, append(args, "--listen", address, "--access-key", accessKey, "--gateway-drain-time", "100ms")...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "CHATR_") }) // no other settings
		return cmd
	}, func(_ options, address string) dialect {
		raw, err := token.Sign(accessKey, "http://"+address+"/client/hubs/bench", time.Hour, token.Options{
			Subject: "ana", Roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}})
		if err != nil { // the key is not empty
			panic(err)
		}
		return azure{codec: codec, token: raw}
	}, 2}
}

// node is a program of this folder.
func node(name string, d func(options, string) dialect) server {
	return server{name, func(o options, _, address, _ string) *exec.Cmd {
		_, port, _ := net.SplitHostPort(address)
		cmd := exec.Command("node", name+".mjs")
		cmd.Dir, cmd.Env = o.scripts, append(os.Environ(), "PORT="+port)
		return cmd
	}, d, 1}
}

// missing says why a server cannot be measured here, empty when it can.
func (s server) missing(o options) string {
	cmd := s.command(o, os.TempDir(), "127.0.0.1:1", "")
	if cmd.Err != nil {
		return cmd.Err.Error()
	}
	if _, err := exec.LookPath(cmd.Path); err != nil {
		return err.Error()
	}
	if cmd.Dir != "" {
		if _, err := os.Stat(filepath.Join(cmd.Dir, "node_modules")); err != nil {
			return "npm ci has not been run in " + cmd.Dir
		}
	}
	return ""
}

// nodes are the processes of a server at work.
type nodes struct {
	addresses []string
	pids      []int
	broker    int // process of Redis; 0: none
	processes []process
	folder    string
}

// start starts a server, and a Redis when it has several nodes.
func (s server) start(o options, count int) (n *nodes, err error) {
	n = &nodes{}
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	if n.folder, err = os.MkdirTemp("", "peers"); err != nil {
		return n, err
	}
	redis := ""
	if count > 1 {
		if redis, err = n.startRedis(); err != nil {
			return n, err
		}
	}
	for i := range count {
		address, err := freeAddress()
		if err != nil {
			return n, err
		}
		folder := filepath.Join(n.folder, fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return n, err
		}
		cmd := s.command(o, folder, address, redis)
		if err := n.run(cmd, address); err != nil {
			return n, fmt.Errorf("start %s: %w", s.name, err)
		}
		n.addresses, n.pids = append(n.addresses, address), append(n.pids, cmd.Process.Pid)
	}
	time.Sleep(o.settle) // what starting has left to do is not measured
	return n, nil
}

func (n *nodes) startRedis() (address string, err error) {
	if address, err = freeAddress(); err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--client-output-buffer-limit", "pubsub 0 0 0")
	if err := n.run(cmd, address); err != nil {
		return "", fmt.Errorf("start Redis: %w", err)
	}
	n.broker = cmd.Process.Pid
	return address, nil
}

// process is one that was started. ended is closed when it has ended.
type process struct {
	*exec.Cmd
	ended chan struct{}
}

// run starts a process and waits until it listens.
func (n *nodes) run(cmd *exec.Cmd, address string) error {
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	p := process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ends does not matter, but before it listens
		close(p.ended)
	}()
	n.processes = append(n.processes, p)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it has ended and said: %s", &log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not listen after 20 s")
}

// stop ends the processes, the last one first.
func (n *nodes) stop() {
	for _, p := range slices.Backward(n.processes) {
		_ = p.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.Process.Kill()
			<-p.ended
		}
	}
	_ = os.RemoveAll(n.folder)
}

func freeAddress() (string, error) {
	port, err := testkit.FindPort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}
