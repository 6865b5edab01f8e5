package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
)

const twoTenants = `accessKey: 0123456789abcdef0123456789abcdef
tenants:
  - name: a
    hosts: [a.example]
  - name: b
    hosts: [b.example, "*.b.example"]
    limits: {connections: 7}
`

// inForce lists tenants with their hosts and their limit of connections.
func (t *tenants) list() []string {
	var list []string
	for _, one := range t.All() {
		list = append(list, fmt.Sprintf("%s %s %d", one.Name, strings.Join(one.Hosts, ","), one.Limits.Connections))
	}
	slices.Sort(list)
	return list
}

func readFile(t *testing.T, file string) (*settings, *config.Loaded, error) {
	t.Helper()
	t.Setenv("CHATR_CONFIG", file)
	return load("gateway", nil, io.Discard)
}

// TestOneTenantsMistakeIsItsOwn reloads a file that has one thing wrong after another, and starts anew from each.
func TestOneTenantsMistakeIsItsOwn(t *testing.T) {
	a, b := "a a.example 0", "b b.example,*.b.example 7"
	for name, tt := range map[string]struct {
		text    string
		kept    []string // in force after a reload of twoTenants
		started []string // in force when a process starts with it; none: it refuses
		says    string   // the whole text about it
	}{
		"nothing wrong": {twoTenants, []string{a, b}, []string{a, b}, ""},
		"a bad limit": {strings.Replace(twoTenants, "connections: 7", "connections: -7", 1), []string{a, b}, []string{a},
			"FILE: line 7: tenants[1].limits.connections: is -7; it must be at least 0"},
		"no number": {strings.Replace(twoTenants, "connections: 7", "connections: many", 1), []string{a, b}, []string{a},
			`FILE: line 7: tenants[1].limits.connections: "many" is not a whole number`},
		"a mapping for a list": {strings.Replace(twoTenants, "[a.example]", "{a: b}", 1), []string{a, b}, []string{b},
			"FILE: line 4: tenants[0].hosts must be a list, not a mapping"},
		"a text for a list": {strings.Replace(twoTenants, "[a.example]", "a.example", 1), []string{a, b}, []string{b},
			"FILE: line 4: tenants[0].hosts must be a list, such as [a.example]"},
		"a text for a mapping": {strings.Replace(twoTenants, "{connections: 7}", "7", 1), []string{a, b}, []string{a},
			"FILE: line 7: tenants[1].limits must be a mapping of settings, such as connections: …"},
		"an unknown name": {strings.Replace(twoTenants, "limits", "limit", 1), []string{a, b}, []string{a},
			"FILE: line 7: tenants[1].limit is not a setting; did you mean limits?"},
		"no name": {strings.Replace(twoTenants, "name: b", "name:", 1), []string{a, b}, []string{a},
			`FILE: line 5: tenants[1].name: "" is not a name; use 1 to 63 letters, digits, - or _, the first a letter or digit`},
		"a misspelt name": {strings.Replace(twoTenants, "name: b", "name: b b", 1), []string{a, b}, []string{a},
			`FILE: line 5: tenants[1].name: "b b" is not a name; use 1 to 63 letters, digits, - or _, the first a letter or digit`},
		"a host claimed twice": {strings.Replace(twoTenants, "[b.example,", "[A.example, b.example,", 1), []string{a, b}, []string{a},
			`FILE: line 6: tenants[1].hosts[0]: "a.example" is used twice; it is already at tenants[0].hosts[0]`},
		"a name claimed twice": {strings.Replace(twoTenants, "name: b", "name: A", 1), []string{a, b}, []string{a},
			`FILE: line 5: tenants[1].name: "a" is used twice; it is already at tenants[0].name`},
		"a short key": {twoTenants + "    keys: {primary: short}\n", []string{a, b}, []string{a},
			"FILE: line 8: tenants[1].keys.primary: has 5 bytes; at least 32 are needed"},
		"an empty item": {twoTenants + "  -\n", []string{a, b}, []string{a, b},
			"FILE: line 8: tenants[2] is empty; remove it"},
		"a new one that is wrong": {twoTenants + "  - name: c\n    hosts: []\n", []string{a, b}, []string{a, b},
			`FILE: line 9: tenants[2].hosts: is empty; list host names, "*.suffix", or "*" for any`},
		"cut off within a tenant": {twoTenants[:strings.Index(twoTenants, "    hosts: [b.example")], []string{a, b}, []string{a},
			`FILE: line 5: tenants[1].hosts: is empty; list host names, "*.suffix", or "*" for any`},
		"a tenant goes to another name while one is wrong": {strings.NewReplacer("name: b", "name: c", "[a.example]", "[a.example:80]").Replace(twoTenants),
			[]string{a, "c b.example,*.b.example 7"}, []string{"c b.example,*.b.example 7"},
			`FILE: line 4: tenants[0].hosts[0]: "a.example:80" is not a host; use a name or address without port, "*.suffix", or "*" for any`},
		"all wrong": {strings.NewReplacer("name: a", "name: a a", "connections: 7", "connections: -7").Replace(twoTenants), []string{a, b}, nil,
			"FILE: line 3: tenants[0].name: \"a a\" is not a name; use 1 to 63 letters, digits, - or _, the first a letter or digit\n" +
				"FILE: line 7: tenants[1].limits.connections: is -7; it must be at least 0"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "chatr.yaml")
			write := func(text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(twoTenants)
			s, loaded, err := readFile(t, file)
			if err != nil {
				t.Fatal(err)
			}
			running, err := newTenants(s, loaded, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			write(tt.text)
			err = running.reload(nil)
			if got := running.list(); !slices.Equal(got, tt.kept) {
				t.Errorf("after a reload: got %q, want %q", got, tt.kept)
			}
			says := ""
			if err != nil {
				says = err.Error()
			} else {
				for _, w := range running.wrong {
					says += w.err.Error()
				}
			}
			if want := strings.ReplaceAll(tt.says, "FILE", file); says != want {
				t.Errorf("got\n%s\nwant\n%s", says, want)
			}
			s, loaded, err = readFile(t, file)
			if err != nil {
				t.Fatal(err)
			}
			started, err := newTenants(s, loaded, nil, nil)
			if tt.started == nil {
				if err == nil {
					t.Errorf("started with %q, want a refusal", started.list())
				}
			} else if err != nil {
				t.Errorf("got %v, want a process that starts", err)
			} else if got := started.list(); !slices.Equal(got, tt.started) {
				t.Errorf("after a start: got %q, want %q", got, tt.started)
			}

			write(twoTenants)
			if err := running.reload(nil); err != nil || len(running.wrong) > 0 || !slices.Equal(running.list(), []string{a, b}) {
				t.Errorf("mended: got %v and %q, want what there was", err, running.list())
			}
		})
	}
}

// TestWhatAFileMustSayToRemoveTenants reloads files that say nothing, or not what they should.
func TestWhatAFileMustSayToRemoveTenants(t *testing.T) {
	a, b := "a a.example 0", "b b.example,*.b.example 7"
	const key = "accessKey: 0123456789abcdef0123456789abcdef\n"
	for name, tt := range map[string]struct {
		text, says string
		want       []string
	}{
		"emptied":            {"", "the file is empty; to remove all tenants, so that tenant default serves every host, write tenants: []", []string{a, b}},
		"comments alone":     {"# nothing\n", "the file is empty; to remove all tenants, so that tenant default serves every host, write tenants: []", []string{a, b}},
		"cut off in a key":   {"accessK", "FILE: line 1: the file must be a mapping of settings, such as listen: …", []string{a, b}},
		"without tenants":    {key, "the file has no tenants any more; to remove all of them, so that tenant default serves every host, write tenants: []", []string{a, b}},
		"tenants: null":      {key + "tenants:\n", "the file has no tenants any more; to remove all of them, so that tenant default serves every host, write tenants: []", []string{a, b}},
		"not YAML":           {key + "tenants: [\n", "FILE: line 3: did not find expected node content", []string{a, b}},
		"two documents":      {twoTenants + "---\nlisten: :1\n", "FILE: line 8: a second document begins here (---); settings are one document", []string{a, b}},
		"without the key":    {strings.Replace(twoTenants, key, "", 1), "accessKey is gone; to change it, put another in its place", []string{a, b}},
		"another mistake":    {"liten: :1\n" + twoTenants, "FILE: line 1: liten is not a setting; did you mean listen?", []string{a, b}},
		"one removed":        {twoTenants[:strings.Index(twoTenants, "  - name: b")], "", []string{a}},
		"all, on purpose":    {key + "tenants: []\n", "", []string{"default * 0"}},
		"everything changes": {key + "tenants: [{name: c, hosts: ['*']}]\n", "", []string{"c * 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "chatr.yaml")
			if err := os.WriteFile(file, []byte(twoTenants), 0o600); err != nil {
				t.Fatal(err)
			}
			s, loaded, err := readFile(t, file)
			if err != nil {
				t.Fatal(err)
			}
			running, err := newTenants(s, loaded, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			says := ""
			if err := running.reload(nil); err != nil {
				says = err.Error()
			}
			if want := strings.ReplaceAll(tt.says, "FILE", file); says != want {
				t.Errorf("got  %q\nwant %q", says, want)
			}
			if got := running.list(); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestFilesAreFollowed is about files that go, come back and are swapped by links as Kubernetes does it.
func TestFilesAreFollowed(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	version := func(n int, text string) {
		t.Helper()
		name := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name, "chatr.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(folder, "..next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "..next"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, twoTenants)
	file := filepath.Join(folder, "chatr.yaml")
	if err := os.Symlink("..data/chatr.yaml", file); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", file}
	s, loaded, err := load("gateway", args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	running, err := newTenants(s, loaded, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var logged output
	m := newReloadMetrics(prometheus.NewRegistry())
	go func() {
		_ = running.follow(t.Context(), loaded.Files, args, slog.New(slog.NewTextHandler(&logged, nil)), m)
	}()
	await := func(what string, right float64, ok func() bool) {
		t.Helper()
		testkit.Eventually(t, time.Minute, func() bool { return ok() && testutil.ToFloat64(m.successful) == right }, what)
	}
	await("the start counts as read", 1, func() bool { return testutil.ToFloat64(m.timestamp) > 0 })

	version(2, strings.Replace(twoTenants, "a.example", "c.example", 1))
	await("a swapped link is followed", 1, func() bool { return running.ByHost("c.example") != nil && running.ByHost("a.example") == nil })
	version(3, strings.Replace(twoTenants, "connections: 7", "connections: -7", 1))
	await("one is right, the other stays", 0, func() bool { return running.ByHost("a.example") != nil && running.ByHost("b.example") != nil })
	version(4, twoTenants)
	await("all is right again", 1, func() bool { return strings.Count(logged.String(), "tenants reloaded") == 3 })
	if err := os.Remove(filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
	await("the file is gone", 0, func() bool { return strings.Contains(logged.String(), "cannot be read") })
	if running.ByHost("a.example") == nil || running.ByHost("b.example") == nil {
		t.Error("tenants have gone with their file")
	}
	version(5, twoTenants)
	await("the file is back", 1, func() bool { return strings.Contains(logged.String(), "can be read again") })
	version(6, "")
	await("the file is empty", 0, func() bool { return strings.Contains(logged.String(), "write tenants: []") })
	if running.ByHost("a.example") == nil || running.ByHost("elsewhere.example") != nil {
		t.Error("an empty file has changed who is served")
	}
}

// TestFormerNamesWork gives each former name in each of the ways, and looks at what it sets and what the log says.
func TestFormerNamesWork(t *testing.T) {
	for name, tt := range map[string]struct {
		file, env, flags string
		got              func(*settings) any
		want             any
		warning          string
	}{
		"chat.proxies in the file": {file: "chat: {proxies: 2}", got: func(s *settings) any { return s.Chat.TrustedProxies.Count }, want: 2,
			warning: "old=chat.proxies new=chat.trustedProxies"},
		"CHATR_CHAT_PROXIES": {env: "CHATR_CHAT_PROXIES=1", got: func(s *settings) any { return s.Chat.TrustedProxies.Count }, want: 1,
			warning: "old=CHATR_CHAT_PROXIES new=CHATR_CHAT_TRUSTED_PROXIES"},
		"--chat-proxies 1": {flags: "--chat-proxies 1", got: func(s *settings) any { return s.Chat.TrustedProxies.Count }, want: 1,
			warning: "old=--chat-proxies new=--chat-trusted-proxies"},
		"a former name wins over the file": {file: "chat: {trustedProxies: 2}", env: "CHATR_CHAT_PROXIES=1",
			got: func(s *settings) any { return s.Chat.TrustedProxies.Count }, want: 1, warning: "old=CHATR_CHAT_PROXIES"},
		"gateway.proxies": {file: "gateway: {proxies: [10.0.0.0/8, '::1']}", got: func(s *settings) any { return fmt.Sprint(s.Gateway.TrustedProxies.Ranges) },
			want: "[10.0.0.0/8 ::1/128]", warning: "old=gateway.proxies new=gateway.trustedProxies"},
		"gateway.acceptedEndpoints": {env: "CHATR_GATEWAY_ACCEPTED_ENDPOINTS=https://a.example,https://b.example:1",
			got:  func(s *settings) any { return strings.Join(s.Gateway.AcceptedHosts, " ") },
			want: "https://a.example https://b.example:1", warning: "new=CHATR_GATEWAY_ACCEPTED_HOSTS"},
		"gateway.publicEndpoint is for tokens alone": {flags: "--gateway-public-endpoint=https://a.example",
			got:  func(s *settings) any { return s.Gateway.PublicURL + " " + s.pageGateways },
			want: "https://a.example ", warning: "new=--gateway-public-url"},
		"gateway.publicUrl is for the page too": {flags: "--gateway-public-url=https://a.example",
			got:  func(s *settings) any { return s.Gateway.PublicURL + " " + s.pageGateways },
			want: "https://a.example https://a.example"},
		"chat.endpoint is for the page alone": {file: "chat: {endpoint: 'wss://a.example'}", got: func(s *settings) any { return s.Gateway.PublicURL + " " + s.pageGateways },
			want: " wss://a.example", warning: "old=chat.endpoint new=gateway.publicUrl"},
		"both former addresses": {file: "chat: {endpoint: 'https://a.example'}\ngateway: {publicEndpoint: 'https://b.example'}",
			got:  func(s *settings) any { return s.Gateway.PublicURL + " " + s.pageGateways },
			want: "https://b.example https://a.example", warning: "old=chat.endpoint"},
		"gateway.url may be below a path": {flags: "--gateway-url http://proxy:8080/gateways/", got: func(s *settings) any { return s.Gateway.URL },
			want: "http://proxy:8080/gateways/"},
		"gateway.upstream.origin": {file: "gateway: {upstream: {origin: wps.example}}", got: func(s *settings) any { return s.Gateway.Upstream.PublicURL },
			want: "wps.example", warning: "old=gateway.upstream.origin new=gateway.upstream.publicUrl"},
		"chat.origins": {flags: "--chat-origins *", got: func(s *settings) any { return s.Chat.AcceptedHosts[0] }, want: "*", warning: "new=--chat-accepted-hosts"},
		"of tenants": {file: "tenants: [{name: a, hosts: [a], endpoints: ['https://a.example'], clientEndpoint: 'https://b.example'}]",
			got:  func(s *settings) any { return s.Tenants[0].AcceptedHosts[0] + " " + s.Tenants[0].PublicURL },
			want: "https://a.example https://b.example", warning: "old=tenants[0].clientEndpoint new=tenants[0].publicUrl"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Fields(tt.flags), "--access-key", strings.Repeat("k", minKey))
			if tt.file != "" {
				file := filepath.Join(t.TempDir(), "chatr.yaml")
				if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config", file)
			}
			if k, v, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(k, v)
			}
			s, loaded, err := load("gateway", args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.got(s); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			var logged bytes.Buffer
			warnRenamed(loaded, slog.New(slog.NewTextHandler(&logged, nil)))
			if got := logged.String(); !strings.Contains(got, tt.warning) || tt.warning == "" && got != "" {
				t.Errorf("got the log\n%s\nwant %q in it", got, tt.warning)
			}
		})
	}
}

// TestSettingsThatContradictEachOther are read aloud: each says what would be right.
func TestSettingsThatContradictEachOther(t *testing.T) {
	for flags, want := range map[string]string{
		"--chat-proxies 1 --chat-trusted-proxies 1":                "--chat-trusted-proxies was formerly --chat-proxies and both are set; remove --chat-proxies",
		"--chat-endpoint https://a --gateway-public-url https://a": "gateway.publicUrl and chat.endpoint are both given; keep gateway.publicUrl, where the page finds the gateways too",
		"--chat-trusted-proxies -1":                                "--chat-trusted-proxies: is -1; the number of proxies must be from 0 to 100",
		"--chat-trusted-proxies 10.0.0.0/8,2":                      `--chat-trusted-proxies: "2" is not an address or a range of them, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32; or write one whole number, how many proxies append to X-Forwarded-For`,
		"--gateway-accepted-hosts a.example/x":                     `--gateway-accepted-hosts: gateway.acceptedHosts[0] "a.example/x" is not a host; write host[:port], http://host[:port] or https://host[:port]`,
		"--gateway-public-url a.example":                           `--gateway-public-url: gateway.publicUrl "a.example" is not the address of a server; write http://host[:port] or https://host[:port], with nothing behind it`,
		"--gateway-drain-time 0s":                                  "--gateway-drain-time: gateway.drainTime is 0s; it must be from 1ms to 1h",
		"--gateway-recovery-time -1s":                              "--gateway-recovery-time: gateway.recoveryTime is -1s; it must be from 100ms to 10m",
		"--gateway-handshakes 0":                                   "--gateway-handshakes: gateway.handshakes is 0; it must be from 1 to 1000000",
		"--gateway-handshake-rate -5":                              "--gateway-handshake-rate: gateway.handshakeRate is -5; it must be from 1 to 1000000",
		"--gateway-lease 1ms":                                      "--gateway-lease: gateway.lease is 1ms; it must be from 1s to 5m",
		"--gateway-upstream-in-flight 0":                           "--gateway-upstream-in-flight: gateway.upstream.inFlight is 0; it must be from 1 to 10000",
		"--gateway-upstream-lifecycle-keep 0s":                     "--gateway-upstream-lifecycle-keep: gateway.upstream.lifecycleKeep is 0s; it must be from 1s to 168h",
		"--gateway-records http,all":                               `--gateway-records: gateway.records[1] "all" must be one of connectivity, http, messaging`,
		"--chat-log-length 0":                                      "--chat-log-length: chat.logLength is 0; it must be from 1 to 1000000000",
		"--log-level loud":                                         `--log-level: log.level "loud" must be one of debug, info, warn, error`,
		"--log-format xml":                                         `--log-format: log.format "xml" must be one of json, text, auto`,
		"--access-key-secondary kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk": "--access-key-secondary: accessKeySecondary is set without accessKey; set accessKey, which is used first\n" +
			"tenants[0].keys.primary: is empty; give a text of at least 32 bytes, or set accessKey for all tenants without keys of their own",
		"--redis-url http://user:hunter2@host":  "--redis-url: redis.url cannot be used: redis: invalid URL scheme: http; write it like redis://host:6379/0",
		"--listen 8080 --auth-session-time 1ms": "--auth-session-time: auth.sessionTime is 1ms; it must be from 1s to 87600h\n--listen: listen \"8080\" must have a port, such as 127.0.0.1:8080, or :8080 for all addresses",
		"--chat-accepted-hosts https://x/y":     `--chat-accepted-hosts: chat.acceptedHosts[0] "https://x/y" is not the address of a server; write http://host[:port] or https://host[:port], with nothing behind it, or *`,
		"--guests true":                         "there is no flag --guests; see chatr gateway --help",
		"--auth-guest true":                     "there is no flag --auth-guest; did you mean --auth-guests?; see chatr gateway --help",
	} {
		args := strings.Fields(flags)
		if !strings.Contains(flags, "--access-key") {
			args = append(args, "--access-key", strings.Repeat("k", minKey))
		}
		s, loaded, err := load("gateway", args, io.Discard)
		if err == nil {
			_, err = newTenants(s, loaded, nil, nil)
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", flags, err, want)
		}
	}
}

// TestKeysOfTenantsFromFiles has keys in files, as mounted Secrets are, and in the environment.
func TestKeysOfTenantsFromFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key := func(c string) string { return strings.Repeat(c, minKey) }
	primary := put("primary", key("1")+"\n")
	literal := "{braces} are bytes of a key like any other}"
	file := put("chatr.yaml", fmt.Sprintf(`tenants:
  - {name: a, hosts: [a.example], keys: {primary: '{file:%s}', secondary: '%s'}}
  - {name: b, hosts: [b.example], keys: {primary: %s}}
  - {name: c, hosts: [c.example], keys: {primary: %s, service: '{file:%s}'}}
  - {name: d, hosts: [d.example], keys: {primary: '{env:CHATR_TEST_NO_SUCH_KEY}', secondary: '{file:relative}'}}
`, primary, literal, key("b"), key("c"), filepath.Join(folder, "later")))
	args := []string{"--config", file}
	s, loaded, err := load("gateway", args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	running, err := newTenants(s, loaded, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := running.ByName("a").Keys.All(); !slices.Equal(got, []string{key("1"), literal}) {
		t.Errorf("got other keys than the file has and the text is")
	}
	want := fmt.Sprintf(`%[1]s: line 4: tenants[2].keys.service: read a secret: open %[2]s: no such file or directory
%[1]s: line 5: tenants[3].keys.primary: the environment variable "CHATR_TEST_NO_SUCH_KEY" is not set; it should hold a secret
%[1]s: line 5: tenants[3].keys.secondary: has {file:} without an absolute path`, file, filepath.Join(folder, "later"))
	if got := joined(running.wrong); got == nil || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
	var logged output
	m := newReloadMetrics(prometheus.NewRegistry())
	go func() {
		_ = running.follow(t.Context(), loaded.Files, args, slog.New(slog.NewTextHandler(&logged, nil)), m)
	}()
	await := func(what, name string, want ...string) {
		t.Helper()
		testkit.Eventually(t, time.Minute, func() bool {
			one := running.ByName(name)
			return one != nil && slices.Equal(one.TokenKeys(), want)
		}, what)
	}
	put("primary", key("2"))
	await("a key that changes is read again", "a", key("2"), literal)
	put("later", key("3"))
	await("a key that comes later is read then", "c", key("c"), key("3"))
	put("primary", "short")
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(logged.String(), "tenants[0].keys.primary: has 5 bytes") }, "a short key is wrong")
	await("it stays as it was", "a", key("2"), literal)
	if err := os.Remove(primary); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(logged.String(), "open "+primary) }, "a key's file that is gone is logged")
	await("its tenant stays as it was", "a", key("2"), literal)
	await("others too", "b", key("b"))
	put("primary", key("4"))
	await("a key that is back is read", "a", key("4"), literal)
	if strings.Contains(logged.String(), "cannot be read") || strings.Contains(logged.String(), key("4")) {
		t.Errorf("got the log\n%s\nwant no key in it, and the settings' own file readable", logged.String())
	}

	var out output
	if err := dispatch(t.Context(), []string{"token", "--config", file, "--endpoint", "http://a.example", "--token-only"}, &out); err != nil {
		t.Fatal(err)
	}
	if _, err := token.NewKeyVerifier(key("4")).Verify(t.Context(), strings.TrimSpace(out.String())); err != nil {
		t.Errorf("chatr token does not sign by the key in the file: %v", err)
	}
}

// TestTheChatsTenantMayBeWrongAtTheStart starts everything with a mistake in the chat's tenant: nobody is believed until it is mended.
func TestTheChatsTenantMayBeWrongAtTheStart(t *testing.T) {
	const other = "  - {name: other, hosts: [other.example]}\n"
	file := filepath.Join(t.TempDir(), "chatr.yaml")
	write := func(hosts string) {
		t.Helper()
		text := "accessKey: 0123456789abcdef0123456789abcdef\nauth: {sessionKey: 0123456789abcdef0123456789abcdef}\ntenants:\n  - {name: default, hosts: " + hosts + "}\n"
		if err := os.WriteFile(file, []byte(text+other), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const wrong, right = "[localhost, 'a b']", "[chat.example, localhost]"

	t.Run("standalone", func(t *testing.T) {
		write(wrong)
		printed, _ := start(t, t.TempDir(), "--config", file)
		endpoint := connectionString.FindStringSubmatch(printed)[1]
		status := func() int {
			t.Helper()
			signed, err := token.Sign("0123456789abcdef0123456789abcdef", endpoint+"/api/hubs/chat/groups/g/connections", time.Minute, token.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequest(http.MethodGet, endpoint+"/api/hubs/chat/groups/g/connections?api-version=2024-12-01", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+signed)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			return res.StatusCode
		}
		if got := status(); got == http.StatusOK {
			t.Errorf("got %d while the tenant is wrong, want a refusal", got)
		}
		write(right)
		testkit.Eventually(t, time.Minute, func() bool { return status() == http.StatusOK }, "the tenant to be served once it is mended")
	})

	t.Run("events and api", func(t *testing.T) {
		write(wrong)
		args := []string{"--config", file, "--data", t.TempDir()}
		s, loaded, err := load("events", args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		running, err := newTenants(s, loaded, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := newProcess(s, loaded, "events")
		if err != nil {
			t.Fatal(err)
		}
		all, err := p.all(t.Context(), s, running.Static, "http://127.0.0.1:1")
		if err != nil {
			t.Fatalf("got %v, want services that wait", err)
		}
		defer all.close()
		attach := func(origin string) string {
			r := httptest.NewRequest(http.MethodOptions, "/eventhandler/connect", nil)
			r.Header.Set("WebHook-Request-Origin", origin)
			w := httptest.NewRecorder()
			all.events.Handler().ServeHTTP(w, r)
			return w.Header().Get("WebHook-Allowed-Origin")
		}
		if got := attach("localhost"); got != "" {
			t.Errorf("a gateway may attach while the tenant is wrong: %q", got)
		}
		if got := currentKeys(running, "default"); len(got.All()) > 0 || got.Own() != "" {
			t.Error("there are keys while the tenant is wrong")
		}
		write(right)
		if err := running.reload(args); err != nil || len(running.wrong) > 0 {
			t.Fatalf("got %v and %v", err, joined(running.wrong))
		}
		if got := attach("chat.example"); got == "" {
			t.Error("a gateway of the mended tenant may not attach")
		}
		if got := currentKeys(running, "default"); got.Own() != s.AccessKey {
			t.Error("the keys are not there once the tenant is mended")
		}
	})

	t.Run("not there at all", func(t *testing.T) {
		s := &settings{Tenants: []tenant.Tenant{{Name: "other"}}}
		s.Chat.Tenant = "default"
		const want = `chat.tenant "default" is not among the tenants of the file; add it to tenants, or set chat.tenant to the name of one`
		if err := s.checkChatTenant(new(tenant.Static)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// TestSettingsOfTheVersionBefore reads a file with every setting that version 0.1.0 documented: it means what it meant, and each former
// name is warned about with the present one, as the changelog has it.
func TestSettingsOfTheVersionBefore(t *testing.T) {
	const file = "testdata/settings-0.1.0.yaml"
	for _, command := range []string{"standalone", "gateway", "events", "api"} {
		s, loaded, err := load(command, []string{"--config", file}, io.Discard)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		running, err := newTenants(s, loaded, nil, nil)
		if err != nil || len(running.wrong) > 0 {
			t.Fatalf("%s: got %v and %v, want tenants that are right", command, err, joined(running.wrong))
		}
		got := fmt.Sprintln(s.Gateway.AcceptedHosts, s.Gateway.PublicURL, s.Gateway.TrustedProxies, s.Gateway.Upstream.PublicURL, s.pageGateways,
			s.Chat.AcceptedHosts, s.Chat.TrustedProxies, s.origins(running), s.Gateway.DrainTime, s.Chat.LogLength, len(running.ByName("ancestor").Upstream))
		want := "[https://chat.example.com http://localhost:8080] https://chat.example.com {[10.0.0.0/8 ::1/128] 0} wps.example.com wss://sockets.example.com " +
			"[wps.example.com other.example.com] {[] 2} [wps.example.com other.example.com] 20s 1000000 1\n"
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", command, got, want)
		}
		changelog, err := os.ReadFile("../../CHANGELOG.md")
		if err != nil {
			t.Fatal(err)
		}
		var old []string
		for _, r := range loaded.Renamed {
			row := strings.ReplaceAll(fmt.Sprintf("| `%s` | `%s`", r.Old, r.New), "[0]", "[]")
			if r.Place == "" || !strings.Contains(string(changelog), row) {
				t.Errorf("got %+v, want a place, and a row in the changelog's table", r)
			}
			old = append(old, r.Old)
		}
		slices.Sort(old)
		if want := []string{"chat.endpoint", "chat.origins", "chat.proxies", "gateway.acceptedEndpoints", "gateway.proxies", "gateway.publicEndpoint",
			"gateway.upstream.origin", "tenants[0].clientEndpoint", "tenants[0].endpoints"}; !slices.Equal(old, want) {
			t.Errorf("got warnings for %q, want %q", old, want)
		}
	}
}

// TestTheChatIsAsked: the chat's hub has its handler asked before messages are published, by itself where it is known to be the chat's, and
// there is a warning where it is not asked.
func TestTheChatIsAsked(t *testing.T) {
	const events = "http://events:8080"
	handler := tenant.Handler{URL: events + "/eventhandler/{event}", UserEvents: "*"}
	asked := handler
	asked.BeforePublish.Enabled = true
	s := &settings{}
	s.Chat.Tenant, s.Chat.Hub = "default", "chat"
	for name, tt := range map[string]struct {
		hubs        []tenant.Hub
		asks, warns bool
	}{
		"no hub":           {nil, false, false},
		"no handlers":      {[]tenant.Hub{{Name: "chat"}}, false, false},
		"standalone's":     {s.withChatHub([]tenant.Tenant{{Name: "default"}}, events)[0].Hubs, true, false},
		"an entry":         {[]tenant.Hub{{Name: "Chat", Handlers: []tenant.Handler{{URL: "http://other/", UserEvents: "x"}, handler}, Chat: events}}, true, false},
		"says so itself":   {[]tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{asked}}}, true, false},
		"without chat":     {[]tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{handler}}}, false, true},
		"at other address": {[]tenant.Hub{{Name: "chat", Handlers: []tenant.Handler{handler}, Chat: "http://elsewhere:8080"}}, false, true},
		"another hub":      {[]tenant.Hub{{Name: "other", Handlers: []tenant.Handler{handler}}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := tenant.NewStatic(tenant.Tenant{Name: "default", Hosts: []string{"*"}, Keys: tenant.Keys{Primary: strings.Repeat("k", 40)}, Hubs: tt.hubs})
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s.warnOfUnaskedChat(source, slog.New(slog.NewTextHandler(&log, nil)))
			if got := source.ByName("default").Hub("chat").AsksBeforePublish(); got != tt.asks {
				t.Errorf("got %v, want %v", got, tt.asks)
			}
			if got := strings.Contains(log.String(), "WARN"); got != tt.warns {
				t.Errorf("got log %q, want a warning: %v", log.String(), tt.warns)
			}
		})
	}
}
