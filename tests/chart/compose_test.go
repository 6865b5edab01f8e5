package chart

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestComposeReplacesGatewaysOneByOne: both at once would leave connections nowhere to go.
func TestComposeReplacesGatewaysOneByOne(t *testing.T) {
	for name, c := range map[string]struct {
		running, version, build string
		want                    []string // what docker is asked for, shortened
		fails                   bool
	}{
		"upgrade":  {"abc", "2.24.0", "yes", []string{"build", "postgres redis", "migrate", "events api", "gateway-1", "gateway-2", "all"}, false},
		"no build": {"abc", "v5.0.1", "no", []string{"postgres redis", "migrate", "events api", "gateway-1", "gateway-2", "all"}, false},
		"start":    {"", "2.40.3", "yes", []string{"build", "all"}, false},
		"too old":  {"abc", "2.9.0", "yes", nil, true},
	} {
		folder := t.TempDir()
		calls := filepath.Join(folder, "calls")
		docker := fmt.Sprintf("#!/bin/sh\ncase \"$2 $3\" in\n'version --short') echo %s ;;\n'ps --quiet') echo %s ;;\n*) echo \"$@\" >>%s ;;\nesac\n", c.version, c.running, calls)
		if err := os.WriteFile(filepath.Join(folder, "docker"), []byte(docker), 0o755); err != nil {
			t.Fatal(err)
		}
		up := exec.Command("../../scripts/compose-up")
		up.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "BUILD="+c.build)
		if out, err := up.CombinedOutput(); (err != nil) != c.fails {
			t.Fatalf("%s: got %v, want failure %v\n%s", name, err, c.fails, out)
		}
		text, _ := os.ReadFile(calls)
		var got []string
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(strings.TrimPrefix(line, "compose "))
			services, isUp := strings.CutPrefix(line, "up --detach --no-build --wait --wait-timeout 180")
			switch {
			case isUp && services == "":
				line = "all"
			case isUp:
				line = strings.TrimPrefix(services, " --no-deps ")
			case strings.HasPrefix(line, "run --rm --no-deps "):
				line = strings.TrimPrefix(line, "run --rm --no-deps ")
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestGatewaysHaveTimeToLeave: Compose kills what has not ended by stop_grace_period.
func TestGatewaysHaveTimeToLeave(t *testing.T) {
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Grace string `yaml:"stop_grace_period"`
		}
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateway-1", "gateway-2"} {
		if grace, err := time.ParseDuration(compose.Services[name].Grace); err != nil || grace < 30*time.Second {
			t.Errorf("%s: got a grace period of %v (%v), want half a minute for a drain time of 20 s", name, grace, err)
		}
	}
}

// readTimeouts finds what examples say about how long a proxy waits for the next byte of a WebSocket.
var readTimeouts = regexp.MustCompile(`proxy[-_](?:read|send)[-_]timeout"?:?\s+"?([0-9]+)([smh]?)`)

// TestProxiesWaitForPings: gateways ping every 20 seconds, so a minute never cuts a living WebSocket, and an hour keeps what a
// client has left behind.
func TestProxiesWaitForPings(t *testing.T) {
	found := 0
	for _, pattern := range []string{"../../deploy/*/*", "../../deploy/*/*/*", "../../docs/*.md", "../../README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil { // a folder
				continue
			}
			for _, m := range readTimeouts.FindAllSubmatch(text, -1) {
				found++
				wait, err := time.ParseDuration(string(bytes.Join(m[1:], nil)) + map[bool]string{true: "s"}[len(m[2]) == 0])
				if err != nil || wait < time.Minute || wait > 75*time.Second {
					t.Errorf("%s: %s: got %v (%v), want 60 to 75 seconds", file, m[0], wait, err)
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("found %d time-outs, want those of nginx and of the Ingress", found)
	}
}
