// Package scripts holds the tests of what stands in this folder.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestVersionIsTheSameEverywhere: the chart is of the newest version that the changelog knows.
func TestVersionIsTheSameEverywhere(t *testing.T) {
	changelog := read(t, "../CHANGELOG.md")
	newest := regexp.MustCompile(`(?m)^## ([0-9]\S*)`).FindStringSubmatch(changelog)
	if newest == nil {
		t.Fatal("CHANGELOG.md names no version")
	}
	chart := read(t, "../deploy/helm/Chart.yaml")
	for _, field := range []string{"version", "appVersion"} {
		m := regexp.MustCompile(`(?m)^` + field + `: *"?([^"\n]*)"?$`).FindStringSubmatch(chart)
		if m == nil || m[1] != newest[1] {
			t.Errorf("Chart.yaml has %s %q, the newest version in CHANGELOG.md is %s", field, m, newest[1])
		}
	}
}

// TestImageIsTheDockerfiles: the image that a release makes without an engine is like the one that the Dockerfile makes.
func TestImageIsTheDockerfiles(t *testing.T) {
	_, last, ok := strings.Cut(read(t, "../Dockerfile"), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the Dockerfile's last stage is not from scratch")
	}
	constant := func(name string) string {
		m := regexp.MustCompile(`(?m)^\t` + name + ` += "(.*)"$`).FindStringSubmatch(read(t, "image/main.go"))
		if m == nil {
			t.Fatalf("image/main.go does not say %s", name)
		}
		return m[1]
	}
	for _, want := range []string{
		"USER " + constant("user"),
		"/" + filepath.Dir(constant("certificates")) + "/",
		"/" + constant("binary") + " /" + constant("binary"),
		`ENTRYPOINT ["/` + constant("binary") + `"]`,
	} {
		if !strings.Contains(last, want) {
			t.Errorf("the Dockerfile's last stage does not say %s", want)
		}
	}
	exposed := regexp.MustCompile(`EXPOSE (.*)`).FindStringSubmatch(last)
	ports := regexp.MustCompile(`"(\d+)/tcp"`).FindAllStringSubmatch(read(t, "image/main.go"), -1)
	var made []string
	for _, p := range ports {
		made = append(made, p[1])
	}
	if exposed == nil || !slices.Equal(strings.Fields(exposed[1]), made) {
		t.Errorf("the Dockerfile exposes %q, the release's image %v", exposed, made)
	}
}

// TestReleaseRefuses what is not ready, and says all that is missing.
func TestReleaseRefuses(t *testing.T) {
	const newest, before = "## Unreleased\n\n## 1.2.3 (2026-01-31)\n\n- Something.\n\n## 1.2.2\n\n- Old.\n", "## Unreleased\n\n- Something.\n\n## 1.2.2\n\n- Old.\n"
	for _, c := range []struct {
		name      string
		args      []string
		changelog string
		chart     string
		prepare   string // a command in the repository
		want      []string
		status    int
	}{
		{name: "ready", args: []string{"check", "1.2.3"}},
		{name: "a candidate", args: []string{"check", "1.2.3-rc.1"}, changelog: "## 1.2.3-rc.1\n\n- Something.\n", chart: "1.2.3-rc.1"},
		{name: "no version", status: 2, want: []string{"usage: "}},
		{name: "a tag's name", args: []string{"check", "v1.2.3"}, status: 2, want: []string{"usage: "}},
		{name: "half a version", args: []string{"1.2"}, status: 2, want: []string{"usage: "}},
		{name: "two versions", args: []string{"1.2.3", "1.2.4"}, status: 2, want: []string{"usage: "}},
		{name: "another branch", args: []string{"check", "1.2.3"}, prepare: "git checkout -q -b feature", status: 1, want: []string{"not the branch main"}},
		{name: "changes", args: []string{"1.2.3"}, prepare: "touch new", status: 1, want: []string{"not committed"}},
		{name: "tagged", args: []string{"1.2.3"}, prepare: "git tag v1.2.3", status: 1, want: []string{"a tag v1.2.3 already"}},
		{name: "made", args: []string{"1.2.3"}, prepare: "mkdir -p dist/1.2.3/x", status: 1, want: []string{"there is dist/1.2.3 already"}},
		{name: "unknown to the changelog", args: []string{"1.2.3"}, changelog: before, status: 1, want: []string{"newest version in CHANGELOG.md is not 1.2.3", "says nothing about 1.2.3"}},
		{name: "an empty entry", args: []string{"1.2.3"}, changelog: "## 1.2.3\n\n## 1.2.2\n\n- Old.\n", status: 1, want: []string{"says nothing about 1.2.3"}},
		{name: "an older one", args: []string{"1.2.2"}, status: 1, want: []string{"newest version in CHANGELOG.md is not 1.2.2"}},
		{name: "another chart", args: []string{"1.2.3"}, chart: "1.2.2", status: 1, want: []string{"has version 1.2.2, not 1.2.3", "has appVersion 1.2.2, not 1.2.3"}},
		{name: "push before it is made", args: []string{"push", "1.2.3"}, status: 1, want: []string{"make it first"}},
		{name: "push of what is not tagged", args: []string{"push", "1.2.3"}, prepare: "mkdir -p dist/1.2.3/x", status: 1, want: []string{"no tag v1.2.3"}},
		{name: "push of what has changed", args: []string{"push", "1.2.3"}, prepare: "git tag v1.2.3 && mkdir -p dist/1.2.3 && cd dist/1.2.3 && echo a >f && sha256sum f >SHA256SUMS && echo b >f", status: 1, want: []string{"f: FAILED"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			changelog, chart := c.changelog, c.chart
			if changelog == "" {
				changelog = newest
			}
			if chart == "" {
				chart = "1.2.3"
			}
			write(t, dir, "CHANGELOG.md", "# Changelog\n\n"+changelog)
			write(t, dir, "deploy/helm/Chart.yaml", "name: chatr\nversion: "+chart+"\nappVersion: \""+chart+"\"\n")
			write(t, dir, ".gitignore", "/dist/\n")
			write(t, dir, "scripts/release", read(t, "release"))
			run := func(command string, args ...string) (string, int) {
				cmd := exec.Command(command, args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
					"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "DIST=")
				out, _ := cmd.CombinedOutput()
				return string(out), cmd.ProcessState.ExitCode()
			}
			if out, status := run("bash", "-ec", "git init -q -b main && git add -A && git commit -q -m x\n"+c.prepare); status != 0 {
				t.Fatal(out)
			}
			out, status := run("bash", append([]string{"scripts/release"}, c.args...)...)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q but:\n%s", want, out)
				}
			}
		})
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}
