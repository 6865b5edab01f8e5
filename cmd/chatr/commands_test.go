package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/token"
)

const gatewaysFile = `redis: {url: redis://redis:6379}
gateway: {handshakes: 5}
chat: {proxies: 1}
accessKey: 0123456789abcdef0123456789abcdef
tenants:
  - name: a
    hosts: [a.example]
    keys: {primary: "the key of tenant a, which is long"}
  - name: b
    hosts: ["*"]
  - name: wrong
    hosts: nonsense
`

// TestOtherCommandsLiveWithTheGatewaysFile gives it to commands that use little or nothing of it.
func TestOtherCommandsLiveWithTheGatewaysFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chatr.yaml")
	if err := os.WriteFile(file, []byte(gatewaysFile), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out output
		err := dispatch(t.Context(), args, &out)
		return strings.TrimSpace(out.String()), err
	}
	for endpoint, key := range map[string]string{"https://a.example": "the key of tenant a, which is long", "https://b.example": "0123456789abcdef0123456789abcdef"} {
		printed, err := run("token", "--config", file, "--endpoint", endpoint, "--token-only")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.NewKeyVerifier(key).Verify(t.Context(), printed); err != nil {
			t.Errorf("%s: the token is not by its tenant's key: %v", endpoint, err)
		}
	}
	own := strings.Repeat("k", minKey)
	printed, err := run("token", "--config", file, "--endpoint", "https://a.example", "--token-only", "true", "--access-key", own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.NewKeyVerifier(own).Verify(t.Context(), printed); err != nil {
		t.Errorf("a key that is given as a flag must win: %v", err)
	}

	for _, config := range []string{file, filepath.Join(t.TempDir(), "gone.yaml")} {
		t.Setenv("CHATR_CONFIG", config)
		for name, tt := range map[string]struct {
			args []string
			says string // of the error; empty: none
		}{
			"token":       {[]string{"token", "--access-key", own}, ""},
			"version":     {[]string{"version"}, ""},
			"settings":    {[]string{"settings"}, ""},
			"health":      {[]string{"health", "http://127.0.0.1:1/"}, "connect"},
			"migrate":     {[]string{"migrate", "--postgres-url", "nonsense"}, "Postgres"},
			"migrate too": {[]string{"migrate"}, "postgres.url is not set"},
			"load":        {[]string{"load", "--connections", "0", "--access-key", own}, "connections is 0; it must be from 1 to 1000000"},
			"load report": {[]string{"load", "report"}, "results is empty"},
		} {
			_, err := run(tt.args...)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "yaml")) {
				t.Errorf("%s with CHATR_CONFIG=%s: got %v, want %q", name, config, err, tt.says)
			}
		}
	}
}
