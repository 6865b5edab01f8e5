// Package sdk_test runs the official Azure Web PubSub SDKs, unmodified, over http and https: against a chatr
// standalone of its own, and against several gateways that share a Redis or a Redis Cluster. The tests themselves are the *.test.mjs
// files, run by Node's own test runner.
package sdk_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/nodetest"
)

func TestOfficialSDKs(t *testing.T) {
	nodetest.Install(t)
	ports := handlerPorts(t)
	runNode(t, start(t, config(ports)), ports, "client.test.mjs", "compression.test.mjs", "express.test.mjs", "livetrace.test.mjs", "protobuf.test.mjs", "rest.test.mjs", "streams.test.mjs")
}

// runNode runs the tests of files against s.
func runNode(t *testing.T, s service, ports map[string]int, files ...string) {
	t.Helper()
	nodetest.Run(t, []string{
		"CHATR_HTTP=" + s.http,
		"CHATR_HTTPS=" + s.https,
		"NODE_EXTRA_CA_CERTS=" + s.authority,
		fmt.Sprintf("CHATR_HANDLER_1_0=%d", ports["handler_1_0"]),
		fmt.Sprintf("CHATR_HANDLER_1_1=%d", ports["handler_1_1"]),
	}, files...)
}

// handlerPorts chooses where the event handler of each hub listens.
func handlerPorts(t *testing.T) map[string]int {
	t.Helper()
	return map[string]int{"handler_1_0": testkit.FreePort(t), "handler_1_1": testkit.FreePort(t)}
}

func handlerURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d/eventhandler", port) }

// config names the event handler of each hub, and the hub with compression.
func config(ports map[string]int) string {
	text := "tenants:\n  - name: default\n    hosts: [\"*\"]\n    liveTrace: {enabled: true}\n    hubs:\n" +
		"      - name: compressed\n        compression: true\n"
	for hub, port := range ports {
		text += fmt.Sprintf("      - name: %s\n        handlers:\n          - url: %s\n"+
			"            userEvents: \"*\"\n            systemEvents: [connect, connected, disconnected]\n", hub, handlerURL(port))
	}
	return text
}

// service is a running chatr standalone.
type service struct {
	http, https string // connection strings
	authority   string // path of the certificate to trust
}

// start builds chatr, unless CHATR_BIN names one, starts it on free ports with a folder of its own, and returns when it has said where it is.
// It is stopped at the end of the test, which fails when that does not go well.
func start(t *testing.T, config string) service {
	t.Helper()
	folder := t.TempDir()
	binary, file, data := os.Getenv("CHATR_BIN"), filepath.Join(folder, "chatr.yaml"), filepath.Join(folder, "data")
	if binary == "" {
		binary = filepath.Join(folder, "chatr")
		if out, err := exec.Command("go", append(append([]string{"build"}, buildFlags...), "-o", binary, "../../cmd/chatr")...).CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	chatr := exec.CommandContext(ctx, binary, "standalone", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--data", data, "--config", file)
	chatr.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "CHATR_") })
	chatr.Cancel = func() error { return chatr.Process.Signal(syscall.SIGTERM) }
	chatr.WaitDelay = 40 * time.Second
	var log strings.Builder
	chatr.Stderr = &log
	out, err := chatr.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := chatr.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan service, 1)
	allRead := make(chan struct{})
	go func() {
		defer close(allRead)
		lines := bufio.NewScanner(out)
		said <- addresses(lines, filepath.Join(data, "ca.pem"))
		for lines.Scan() { // so that it never waits for a reader
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-allRead
		err := chatr.Wait()
		if chatr.ProcessState.ExitCode() != 0 {
			t.Errorf("chatr standalone ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of chatr standalone:\n%s", log.String())
		}
	})
	select {
	case s := <-said:
		if s.http == "" || s.https == "" {
			t.Fatalf("chatr standalone printed no connection strings, got %+v", s)
		}
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("chatr standalone printed no connection strings within 30 s")
	}
	return service{}
}

var connectionString = regexp.MustCompile(`Endpoint=(https?)://\S+;AccessKey=\S+`)

// addresses reads the connection strings from what standalone prints.
func addresses(lines *bufio.Scanner, authority string) service {
	s := service{authority: authority}
	for (s.http == "" || s.https == "") && lines.Scan() {
		switch found := connectionString.FindStringSubmatch(lines.Text()); {
		case found == nil:
		case found[1] == "http":
			s.http = found[0]
		default:
			s.https = found[0]
		}
	}
	return s
}
