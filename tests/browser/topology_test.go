package browser_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	restart func() error // kills what the first one is connected to and starts it again, back when it answers
}

// topology starts a Chatr from the given binary, and stops it at the end of the test.
type topology func(t *testing.T, binary string) site

// standalone is one process, which both people use.
func standalone(t *testing.T, binary string) site {
	address := freeAddress(t)
	p := &process{path: binary, ready: "http://" + address + "/api/config", args: []string{
		"standalone", "--listen", address, "--tls-listen=", "--data", t.TempDir(), "--chat-idle-after", idleAfter.String(),
	}}
	p.run(t)
	return site{a: "http://" + address, b: "http://" + address, restart: p.restart}
}

// services is every service in a process of its own on Redis and Postgres. The two people come through different
// proxies, and so sit on different gateways.
func services(t *testing.T, binary string) site {
	events := freeAddress(t)
	gateways := [2]string{freeAddress(t), freeAddress(t)}
	api := freeAddress(t)

	file := filepath.Join(t.TempDir(), "chatr.yaml")
	settings := fmt.Sprintf(`accessKey: an access key for tests, long enough
auth: {sessionKey: "a session key for tests, long enough"}
chat: {idleAfter: %s}
redis: {url: %q}
postgres: {url: %q}
gateway: {url: "http://%s"}
tenants:
  - name: default
    hosts: ["*"]
    hubs:
      - name: chat
        handlers:
          - {url: "http://%s/eventhandler/{event}", userEvents: "*", systemEvents: [connect, connected, disconnected]}
        listeners: [history]
`, idleAfter, testkit.Redis(t).URL, testkit.Postgres(t, nil), gateways[1], events)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "migrate", "--config", file).CombinedOutput(); err != nil {
		t.Fatalf("chatr migrate: %v\n%s", err, out)
	}

	start := func(command, address string) *process {
		ops := freeAddress(t)
		p := &process{path: binary, ready: "http://" + ops + "/readyz", args: []string{
			command, "--config", file, "--listen", address, "--ops-listen", ops,
		}}
		p.run(t)
		return p
	}
	first := start("gateway", gateways[0])
	start("gateway", gateways[1])
	start("events", events)
	start("api", api)
	return site{a: front(t, gateways[0], api), b: front(t, gateways[1], api), restart: first.restart}
}

// front is a reverse proxy that routes as every front of Chatr does: the gateway's paths to a gateway, all others to
// the API service.
func front(t *testing.T, gateway, api string) string {
	quiet := log.New(io.Discard, "", 0) // people come and go
	to := func(address string) http.Handler {
		target := &url.URL{Scheme: "http", Host: address}
		return &httputil.ReverseProxy{ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		}}
	}
	routes := http.NewServeMux()
	for _, path := range []string{"/client/", "/clients/", "/ws/", "/api/hubs/", "/api/health", "/api/v1/health"} {
		routes.Handle(path, to(gateway))
	}
	routes.Handle("/", to(api))
	server := httptest.NewServer(routes)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func freeAddress(t *testing.T) string {
	return fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
}

// process is a chatr that answers 200 at a URL when it is ready.
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
			t.Errorf("chatr %s ended with status %d after SIGTERM, want 0", p.args[0], code)
		}
		if t.Failed() {
			t.Logf("log of chatr %s:\n%s", p.args[0], p.log.String())
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

// restart kills the process and starts it again.
func (p *process) restart() error {
	p.stop(syscall.SIGKILL)
	return p.start()
}
