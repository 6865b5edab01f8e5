package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesWhatIsThere looks for every name of docs/architecture.md in the code: package.Function, package.Type or
// package.Type.method.
func TestArchitectureNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/architecture.md")
	must(t, err)
	names := regexp.MustCompile("`([a-z/]+)\\.(\\w+)(?:\\.(\\w+))?`").FindAllStringSubmatch(string(page), -1)
	if len(names) < 20 {
		t.Errorf("got %d names, want those of both walks", len(names))
	}
	for _, name := range names {
		files, err := filepath.Glob("internal/" + name[1] + "/*.go")
		must(t, err)
		if len(files) == 0 {
			continue // a setting
		}
		declared := regexp.MustCompile(`(?m)^(func |type )` + name[2] + `\b`)
		if name[3] != "" {
			declared = regexp.MustCompile(`(?m)^func \(\w* ?\*?` + name[2] + `\) ` + name[3] + `\(`)
		}
		found := false
		for _, file := range files {
			code, err := os.ReadFile(file)
			must(t, err)
			found = found || !strings.HasSuffix(file, "_test.go") && declared.Match(code)
		}
		if !found {
			t.Errorf("the page names %s, which is not there", strings.Trim(name[0], "`"))
		}
	}
}
