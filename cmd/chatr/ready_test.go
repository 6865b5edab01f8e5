package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

// TestReadinessIsTrue: while Redis takes no writes, or the chat has no tenant or may not do what it does at the gateways, the running
// process says so at every place where somebody looks, and is ready again without a restart.
func TestReadinessIsTrue(t *testing.T) {
	redis := testkit.Redis(t)
	operator, err := redisconn.Open(redisconn.Config{URL: redis.URL, Prefix: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	memory := func(bytes string) func() {
		return func() {
			t.Helper()
			if err := operator.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "chatr.yaml")
	tenant := func(name, host string) func() {
		return func() {
			t.Helper()
			text := fmt.Sprintf("accessKey: 0123456789abcdef0123456789abcdef\ntenants:\n  - {name: %s, hosts: ['%s']}\n", name, host)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tenant("default", "*")()
	ops := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	printed, _ := start(t, filepath.Join(t.TempDir(), "data"), "--config", file, "--redis-url", redis.URL, "--ops-listen", ops)
	front := connectionString.FindStringSubmatch(printed)[1]
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	get := func(url string) (int, string) {
		t.Helper()
		res, err := client.Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	wantEverywhere := func(status int, part, reason, more string) {
		t.Helper()
		for url, want := range map[string]string{"http://" + ops + "/readyz": part + " (" + reason + "): ", front + "/api/health": part + " (" + reason + ")"} {
			testkit.Eventually(t, time.Minute, func() bool {
				got, text := get(url)
				return got == status && (status == http.StatusOK || strings.Contains(text, want))
			}, fmt.Sprintf("%s to say %d, %s (%s)", url, status, part, reason))
		}
		value := 1
		if status == http.StatusOK {
			value = 0
		} else if _, text := get("http://" + ops + "/readyz"); !strings.Contains(text, more) {
			t.Errorf("got %q, want what would be right: %q", text, more)
		}
		testkit.Eventually(t, time.Minute, func() bool {
			_, text := get("http://" + ops + "/metrics")
			return strings.Contains(text, fmt.Sprintf("chatr_not_ready{part=%q,reason=%q} %d\n", part, reason, value))
		}, fmt.Sprintf("the metric of %s (%s) to be %d", part, reason, value))
	}
	for _, c := range []struct {
		part, reason, more string
		begin, end         func()
	}{
		{"redis", "full", "OOM", memory("1"), memory("0")},
		{"chat", "refused", `add it to the hosts of tenant "default"`, tenant("default", "chat.example.com"), tenant("default", "*")},
		{"chat", "no-tenant", `the chat's tenant "default" is not served`, tenant("other", "*"), tenant("default", "*")},
	} {
		wantEverywhere(http.StatusOK, c.part, c.reason, "")
		c.begin()
		wantEverywhere(http.StatusServiceUnavailable, c.part, c.reason, c.more)
		c.end()
		wantEverywhere(http.StatusOK, c.part, c.reason, "")
	}
}
