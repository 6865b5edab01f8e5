package scripts

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the Markdown files of the repository.
func documents(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path != ".." && strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"data", "dist", "test-results"}, d.Name())):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		t.Fatal("no documents: ", err)
	}
	return files
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// TestLinks: every link from a document of ours to another leads somewhere, its heading included.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], ":") {
				continue // another site
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", file, m[1])
			}
		}
	}
}

// anchors returns what the headings of a document are called in links, as GitHub makes it.
func anchors(document string) (names []string) {
	for _, h := range heading.FindAllStringSubmatch(document, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(h[1]))
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestDocsIndex: docs/README.md lists every document beside it and every decision, by its title.
func TestDocsIndex(t *testing.T) {
	index := read(t, "../docs/README.md")
	for _, file := range documents(t) {
		name, ok := strings.CutPrefix(filepath.ToSlash(file), "../docs/")
		if !ok || name == "README.md" {
			continue
		}
		want := "](" + name + ")"
		if strings.HasPrefix(name, "decisions/") {
			_, title, _ := strings.Cut(heading.FindStringSubmatch(read(t, file))[1], ". ")
			want = "[" + title + want
		}
		if !strings.Contains(index, want) {
			t.Errorf("docs/README.md does not list %s", want)
		}
	}
}
