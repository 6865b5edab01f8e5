// Package topology runs Chatr for tests as operators run it: real processes of the one binary, alone or as separate
// services on Redis and Postgres, behind fronts that route as every front of Chatr does.
//
// Everything listens on free ports of 127.0.0.1, ends with the test, and shows its log when the test has failed. The
// binary is made once per test process from these sources, with the page that lies in web/dist, unless CHATR_BIN
// names one.
package topology

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chatr-dev/chatr/pkg/testkit"
)

// Keys that every topology has.
const (
	AccessKey  = "an access key for tests, long enough"
	SessionKey = "a session key for tests, long enough"
)

// Options change a topology. The zero value is what operators get.
type Options struct {
	// Env are settings for every process, such as "CHATR_CHAT_IDLE_AFTER=3s".
	Env []string

	// Hubs are hubs beside the chat's: items of a YAML list, as in docs/configuration.md.
	Hubs string

	// TLS lets a standalone listen for https as well.
	TLS bool

	// Events is how many events services there are beside each other; 0 means one.
	Events int

	// Logs is a folder that gets the logs, a file for each process, instead of being shown; none when empty.
	Logs string
}

// Topology is a running Chatr. What a standalone does not have is nil.
type Topology struct {
	A, B     string // addresses of the fronts of the two gateways; both lead to the same API service
	Balanced string // address of a front that spreads connections over the gateways that are up

	Settings    string     // path of the file that all processes read
	Gateways    []*Process // two, or the standalone
	Events, API *Process
	MoreEvents  []*Process // beside Events
	Redis       *testkit.RedisServer
	Postgres    *testkit.PostgresServer
}

// Standalone starts one process that is everything. A, B and Balanced are its own address.
func Standalone(t testing.TB, o Options) *Topology {
	t.Helper()
	folder := t.TempDir()
	file := writeSettings(t, folder, tenants(o.Hubs, ""))
	p := newProcess(t, o, "standalone", freeAddress(t), "standalone", "--config", file, "--data", filepath.Join(folder, "data"), "--access-key", AccessKey)
	p.Authority = filepath.Join(folder, "data", "ca.pem")
	if o.TLS {
		address := freeAddress(t)
		p.args = append(p.args, "--tls-listen", address)
		p.Secure = "https://" + address
	} else {
		p.args = append(p.args, "--tls-listen=")
	}
	top := &Topology{A: p.URL, B: p.URL, Balanced: p.URL, Settings: file, Gateways: []*Process{p}}
	t.Cleanup(func() { finish(t, p) })
	p.Start()
	return top
}

// Services starts two gateways, the events and the API service on a Redis and a Postgres of their own. They share a
// settings file, and the chat's services reach the gateways through the balanced front.
func Services(t testing.TB, o Options) *Topology {
	t.Helper()
	top := &Topology{Redis: testkit.Redis(t), Postgres: testkit.NewPostgresServer(t)}
	var gateways [2]string
	for i := range gateways {
		gateways[i] = freeAddress(t)
	}
	api, services := freeAddress(t), make([]string, max(1, o.Events))
	for i := range services {
		services[i] = freeAddress(t)
	}
	events := services[0]
	if len(services) > 1 {
		events = strings.TrimPrefix(serve(t, proxy(nil, services...)), "http://")
	}
	top.A = front(t, api, gateways[0])
	top.B = front(t, api, gateways[1])
	top.Balanced = front(t, api, gateways[0], gateways[1])

	file := writeSettings(t, t.TempDir(), fmt.Sprintf(`accessKey: %q
auth: {sessionKey: %q}
redis: {url: %q}
postgres: {url: %q}
chat: {trustedProxies: 1}
gateway: {url: %q, drainTime: 2s}
`, AccessKey, SessionKey, top.Redis.URL, top.Postgres.URL, top.Balanced)+tenants(o.Hubs, `
      - name: chat
        handlers:
          - {url: "http://`+events+`/eventhandler/{event}", userEvents: "*", systemEvents: [connect, connected, disconnected]}
        listeners: [history]
        chat: "http://`+events+`"
`))
	top.Settings = file
	migrate := exec.Command(binary(t), "migrate", "--config", file)
	migrate.Env = environment(o)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("chatr migrate: %v\n%s", err, out)
	}
	for i, address := range gateways {
		top.Gateways = append(top.Gateways, newProcess(t, o, fmt.Sprintf("gateway %d", i+1), address, "gateway", "--config", file))
	}
	top.Events = newProcess(t, o, "events", services[0], "events", "--config", file)
	for i, address := range services[1:] {
		top.MoreEvents = append(top.MoreEvents, newProcess(t, o, fmt.Sprintf("events %d", i+2), address, "events", "--config", file))
	}
	top.API = newProcess(t, o, "api", api, "api", "--config", file)
	others := append([]*Process{top.Events, top.API}, top.MoreEvents...)
	t.Cleanup(func() { // goodbyes need the events service
		finish(t, top.Gateways...)
		finish(t, others...)
	})
	start(t, append(top.Gateways[:2:2], others...))
	return top
}

// start starts processes together.
func start(t testing.TB, processes []*Process) {
	t.Helper()
	var starting sync.WaitGroup
	failures := make([]error, len(processes))
	for i, p := range processes {
		starting.Go(func() { failures[i] = p.start() })
	}
	starting.Wait()
	for _, err := range failures {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Gateways starts two gateways on a Redis of their own, and no chat. A and B are their own addresses; the balanced front
// goes by their readiness, as those of Kubernetes do.
func Gateways(t testing.TB, o Options) *Topology {
	t.Helper()
	redis := testkit.Redis(t)
	top := GatewaysOn(t, o, redis.URL, redis.URL)
	top.Redis = redis
	return top
}

// GatewaysOn is Gateways for any number of them on a Redis that is there: one for each URL by which it is reached, such as
// that of a link which a test cuts.
func GatewaysOn(t testing.TB, o Options, redis ...string) *Topology {
	t.Helper()
	top := &Topology{Settings: writeSettings(t, t.TempDir(), fmt.Sprintf("accessKey: %q\ngateway: {drainTime: 2s}\n", AccessKey)+tenants(o.Hubs))}
	var addresses []string
	for i, url := range redis {
		own := o
		own.Env = append(o.Env[:len(o.Env):len(o.Env)], "CHATR_REDIS_URL="+url)
		addresses = append(addresses, freeAddress(t))
		top.Gateways = append(top.Gateways, newProcess(t, own, fmt.Sprintf("gateway %d", i+1), addresses[i], "gateway", "--config", top.Settings))
	}
	top.A, top.B = top.Gateways[0].URL, top.Gateways[min(1, len(redis)-1)].URL
	top.Balanced = serve(t, proxy(func(i int) bool { return top.Gateways[i].Ready() == "" }, addresses...))
	t.Cleanup(func() { finish(t, top.Gateways...) })
	start(t, top.Gateways)
	return top
}

// ConnectionString is what SDKs connect with, through the given front.
func ConnectionString(front string) string {
	return "Endpoint=" + front + ";AccessKey=" + AccessKey + ";Version=1.0;"
}

// tenants is the part of a settings file that names hubs; empty without any.
func tenants(hubs ...string) string {
	all := strings.Join(hubs, "\n")
	if strings.TrimSpace(all) == "" {
		return ""
	}
	return "tenants:\n  - name: default\n    hosts: [\"*\"]\n    hubs:\n" + all
}

func writeSettings(t testing.TB, folder, text string) string {
	t.Helper()
	file := filepath.Join(folder, "chatr.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
}

// finish stops processes together. The test fails when one that still runs does not end well.
func finish(t testing.TB, processes ...*Process) {
	var stopping sync.WaitGroup
	for _, p := range processes {
		stopping.Go(func() {
			if code := p.Stop(); code != 0 {
				t.Errorf("chatr %s ended with status %d after SIGTERM, want 0", p.Name, code)
			}
		})
	}
	stopping.Wait()
	if !t.Failed() {
		return
	}
	for _, p := range processes {
		if p.file != "" {
			t.Logf("log of chatr %s: %s", p.Name, p.file)
			continue
		}
		t.Logf("log of chatr %s:\n%s", p.Name, tail(p.Log()))
	}
}

// tail is as much of the end of a log as people read.
func tail(log string) string {
	const most = 20_000
	if len(log) <= most {
		return log
	}
	return "…" + log[len(log)-most:]
}
