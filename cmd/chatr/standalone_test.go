package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
)

// output collects what a command prints.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs standalone on free ports until stop, which waits for its end.
func start(t *testing.T, folder string, args ...string) (printed string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	ended := make(chan error, 1)
	args = append([]string{"--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--data", folder, "--log-level", "error"}, args...)
	go func() { ended <- standalone(ctx, args, &out) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("standalone: %v", err)
		}
	})
	t.Cleanup(stop)
	testkit.Eventually(t, 20*time.Second, func() bool { return strings.Contains(out.String(), "NODE_EXTRA_CA_CERTS") }, "standalone to be ready")
	return out.String(), stop
}

var connectionString = regexp.MustCompile(`Endpoint=(https?://localhost:\d+);AccessKey=([^;]{32,});Version=1\.0;`)

func TestStandaloneTellsHowToConnect(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	printed, stop := start(t, folder)
	endpoints := connectionString.FindAllStringSubmatch(printed, -1)
	if len(endpoints) != 2 || !strings.HasPrefix(endpoints[0][1], "http:") || !strings.HasPrefix(endpoints[1][1], "https:") {
		t.Fatalf("got\n%s\nwant an http and an https connection string", printed)
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for _, e := range endpoints {
		res, err := client.Get(e[1] + "/api/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s, want 200", e[1], res.Status)
		}
	}
	stop()

	again, _ := start(t, folder)
	if got := connectionString.FindStringSubmatch(again)[2]; got != endpoints[0][2] {
		t.Error("the access key has changed over a restart")
	}
	after, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil || !bytes.Equal(after, ca) {
		t.Errorf("the certificate authority has changed over a restart (%v)", err)
	}
}

func TestStandaloneKeepsSecretsToItself(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	_, stop := start(t, folder)
	stop()
	for _, name := range []string{accessKeyFile, sessionKeyFile, "ca-key.pem"} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: got mode %v, want 0600", name, got)
		}
	}
}

func TestOneStandalonePerFolder(t *testing.T) {
	folder := t.TempDir()
	start(t, folder)
	err := standalone(t.Context(), []string{"--listen", "127.0.0.1:0", "--tls-listen", "", "--data", folder}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v, want an error that says to use another folder", err)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for flags, want := range map[string]string{
		"--redis-url nonsense":       "redis.url",
		"--postgres-url nonsense":    "Postgres",
		"--chat-public-url nonsense": "nonsense",
		"--chat-endpoint nonsense":   "nonsense",
		"--listen 8080":              `listen "8080" must have a port`,
		"--gateway-public-url host":  `gateway.publicUrl "host"`,
		"--gateway-handshakes -1":    "gateway.handshakes is -1",
		"--chat-idle-after 1ms":      "chat.idleAfter is 1ms",
		"--access-key short":         "accessKey has 5 bytes",
	} {
		args := append([]string{"--listen", "127.0.0.1:0", "--tls-listen", "", "--data", t.TempDir()}, strings.Fields(flags)...)
		if err := standalone(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %s", flags, err, want)
		}
	}
}

func TestTenantsAreReloaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chatr.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const before = "tenants:\n  - name: default\n    hosts: ['*']\n"
	write(before)
	printed, _ := start(t, t.TempDir(), "--config", file)
	endpoint := connectionString.FindStringSubmatch(printed)[1]
	status := func() int {
		t.Helper()
		res, err := http.Get(endpoint + "/api/hubs/open/groups/g/connections")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	first := status()
	write("tenants: nonsense\n")
	write(before + "  - name: other\n    hosts: ['other.example']\n    limits: {connections: -1}\n")
	if got := status(); got != first {
		t.Errorf("got %d after a wrong file, want %d as before", got, first)
	}
	write("tenants:\n  - name: default\n    hosts: ['elsewhere.example']\n")
	testkit.Eventually(t, 20*time.Second, func() bool { return status() != first }, "the host to belong to no tenant any more")
}

func TestTheChatsHubMayBeInTheFile(t *testing.T) {
	s := &settings{Tenants: []tenant.Tenant{{Name: "default", Hosts: []string{"*"}, Hubs: []tenant.Hub{{Name: "Chat", KeepAliveSeconds: 5}}}}}
	s.Chat.Tenant, s.Chat.Hub = "default", "chat"
	const events = "http://127.0.0.1:1"
	got := s.withChatHub(s.completed(), events)[0]
	hub := got.Hub("chat")
	if len(got.Hubs) != 1 || hub.KeepAliveSeconds != 5 || len(hub.Handlers) != 1 || hub.Handlers[0].URL != events+"/eventhandler/{event}" || hub.Chat != events ||
		len(hub.Listeners) != 1 || hub.MessagesPerSecond != chatRate {
		t.Errorf("got %+v, want the hub of the file with the chat's handler and log", got.Hubs)
	}
	if s.Tenants[0].Hubs[0].Handlers != nil {
		t.Error("the settings were changed themselves; the next reload would believe them")
	}
}

func TestServicesRefuseToStartWithoutTheirStores(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(context.Context, []string, io.Writer) error
		want []string
	}{
		"gateway": {runGateway, []string{"redis.url"}},
		"events":  {runEvents, []string{"redis.url", "postgres.url", "gateway.url"}},
		"api":     {runAPI, []string{"postgres.url", "gateway.url", "auth.sessionKey"}},
		"migrate": {runMigrate, []string{"postgres.url"}},
	} {
		err := c.run(t.Context(), nil, io.Discard)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want+" is not set") {
				t.Errorf("%s: got %v, want an error that names %s", name, err, want)
			}
		}
	}
}

func TestTokenPrintsAURL(t *testing.T) {
	var out output
	err := runToken(t.Context(), []string{"--access-key", strings.Repeat("k", 40), "--endpoint", "https://chat.example", "--hub", "Chat", "--user", "ana"}, &out)
	if err != nil || !strings.HasPrefix(out.String(), "wss://chat.example/client/hubs/Chat?access_token=ey") {
		t.Errorf("got %q, %v; want a client access URL", out.String(), err)
	}
	key := strings.Repeat("k", 40)
	for flags, check := range map[string]func(printed string, c token.Claims) bool{
		"--connection-string Endpoint=https://service.example;ClientEndpoint=https://clients.example;AccessKey=" + key + " --claim plan=gold,team=red,team=blue --group g": func(printed string, c token.Claims) bool {
			return strings.HasPrefix(printed, "wss://clients.example/client/hubs/chat?") && c.Claim("plan")[0] == "gold" && len(c.Claim("team")) == 2 && c.Groups[0] == "g"
		},
		"--token-only --role webpubsub.sendToGroup --lifetime 10m --access-key " + key: func(printed string, c token.Claims) bool {
			return strings.HasPrefix(printed, "ey") && c.Roles[0] == "webpubsub.sendToGroup" && time.Until(c.ExpiresAt) < 11*time.Minute
		},
		"--rest https://chat.example/api/hubs/chat/:send --access-key " + key: func(printed string, c token.Claims) bool {
			return strings.HasPrefix(printed, "ey") && c.Audience[0] == "https://chat.example/api/hubs/chat/:send"
		},
	} {
		var printed output
		if err := runToken(t.Context(), strings.Fields(flags), &printed); err != nil {
			t.Errorf("%s: %v", flags, err)
			continue
		}
		text := strings.TrimSpace(printed.String())
		_, raw, found := strings.Cut(text, "access_token=")
		if !found {
			raw = text
		}
		claims, err := token.NewKeyVerifier(key).Verify(t.Context(), raw)
		if err != nil || !check(text, claims) {
			t.Errorf("%s: got %s with %+v, %v", flags, text, claims, err)
		}
	}
	for flags, want := range map[string]string{
		"--data " + t.TempDir():                                                  "--access-key",
		"--access-key short":                                                     "at least 32",
		"--lifetime -1h --access-key " + key:                                     "--lifetime",
		"--claim sub=x --access-key " + key:                                      "claim sub",
		"--claim x --access-key " + key:                                          "name=value",
		"--rest http://x/y --access-key " + key:                                  "--rest",
		"--rest http://x/api/hubs/c/:send --user a --access-key " + key:          "--user",
		"--connection-string Endpoint=https://a;AccessKey=b --access-key " + key: "keep one",
		"--connection-string nonsense":                                           "Endpoint",
		"--hub has-hyphen --access-key " + key:                                   "has-hyphen",
		"--endpoint host --access-key " + key:                                    "https://",
	} {
		if err := runToken(t.Context(), strings.Fields(flags), &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %s", flags, err, want)
		}
	}
}

// The connection string of the vendor's emulator works, where nobody else can use it.
//
// checklist:A01
func TestEmulator(t *testing.T) {
	printed, _ := start(t, t.TempDir(), "--emulator", "--access-key", strings.Repeat("k", 40))
	endpoint := connectionString.FindStringSubmatch(printed)[1]
	if !strings.Contains(printed, "Endpoint="+endpoint+";AccessKey=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH;Version=1.0;") {
		t.Errorf("got\n%s\nwant the emulator's connection string", printed)
	}
	for key, want := range map[string]bool{emulatorKey: true, strings.Repeat("k", 40): true, strings.Repeat("x", 40): false} {
		_, err := dataplane.New(endpoint, key, "any", dataplane.Options{}).UserExists(t.Context(), "ana")
		if (err == nil) != want {
			t.Errorf("key %.3s…: got %v, want good: %v", key, err, want)
		}
	}
	for flags, want := range map[string]string{
		"--listen 0.0.0.0:0":       "for this machine only",
		"--listen :0":              "for this machine only",
		"--tls-listen 192.0.2.1:0": "for this machine only",
		"--access-key-secondary " + strings.Repeat("k", 40): "keep one",
	} {
		args := append([]string{"--emulator", "--listen", "127.0.0.1:0", "--tls-listen=", "--data", t.TempDir(), "--access-key", strings.Repeat("k", 40)}, strings.Fields(flags)...)
		if err := standalone(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", flags, err, want)
		}
	}
}

func TestHealth(t *testing.T) {
	printed, _ := start(t, t.TempDir())
	endpoint := connectionString.FindStringSubmatch(printed)[1]
	if err := runHealth(t.Context(), []string{endpoint + "/api/health"}, io.Discard); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	for _, url := range []string{endpoint + "/api/nothing", "http://127.0.0.1:1/", "::"} {
		if err := runHealth(t.Context(), []string{url}, io.Discard); err == nil {
			t.Errorf("%s: got no error, want one", url)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	if err := dispatch(t.Context(), []string{"standalon"}, io.Discard); err == nil || !strings.Contains(err.Error(), "chatr help") {
		t.Errorf("got %v, want an error that points at help", err)
	}
	var out output
	if err := dispatch(t.Context(), nil, &out); err != nil || !strings.Contains(out.String(), "standalone") {
		t.Errorf("got %v and %q, want usage", err, out.String())
	}
}
