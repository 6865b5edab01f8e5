package events

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var method = regexp.MustCompile(`(?m)^func \(\w* ?\*?(\w+)`)

// TestNothingGrowsTooLarge keeps what is below this folder in pieces that can be read: 400 lines of a file, 40 methods of a type.
func TestNothingGrowsTooLarge(t *testing.T) {
	methods := map[string]int{} // by package and type
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		code, err := os.ReadFile(path)
		if n := bytes.Count(code, []byte("\n")); n > 400 {
			t.Errorf("%s has %d lines", path, n)
		}
		for _, m := range method.FindAllSubmatch(code, -1) {
			methods[filepath.Dir(path)+"."+string(m[1])]++
		}
		return err
	})
	if err != nil || len(methods) == 0 {
		t.Fatal(err)
	}
	for name, n := range methods {
		if n > 40 {
			t.Errorf("%s has %d methods", name, n)
		}
	}
}
