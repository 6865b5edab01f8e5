package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checklistTable returns a table for each area: item, priority, result and the tests that prove it.
func checklistTable(items []item, proofs []proof, outcomes map[string]outcome) []byte {
	var b bytes.Buffer
	proven := 0
	for _, i := range items {
		if result(i, proofs, outcomes) == "proven" {
			proven++
		}
	}
	fmt.Fprintf(&b, "%d of %d items are proven.\n", proven, len(items))
	for _, a := range areas {
		fmt.Fprintf(&b, "\n### %s\n\n| id | item | priority | result | proven by |\n|---|---|---|---|---|\n", a.name)
		for _, i := range items {
			if !strings.HasPrefix(i.id, a.letter) {
				continue
			}
			var tests []string
			for _, p := range proofs {
				if slices.Contains(p.ids, i.id) {
					tests = append(tests, strings.ReplaceAll(p.label, "|", `\|`)+failedMark(outcomes[p.key]))
				}
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", i.id, i.what, i.priority, result(i, proofs, outcomes), strings.Join(tests, "<br>"))
		}
	}
	return b.Bytes()
}

// result says of an item that it is proven (each of its tests passed), that it fails, or that no test shows it.
func result(i item, proofs []proof, outcomes map[string]outcome) string {
	said := "unproven"
	for _, p := range proofs {
		if !slices.Contains(p.ids, i.id) {
			continue
		}
		if failedMark(outcomes[p.key]) != "" {
			return "**fails**"
		}
		said = "proven"
	}
	return said
}

func failedMark(o outcome) string {
	switch {
	case o.failed > 0:
		return " (failed)"
	case o.passed == 0:
		return " (not run)"
	}
	return ""
}

// sdk is an official package in a version that the tests use.
type sdk struct{ name, version string }

// findSDKs returns the official packages in the lock files of all tests.
func findSDKs(root string) ([]sdk, error) {
	found := map[sdk]bool{}
	err := filepath.WalkDir(filepath.Join(root, "tests"), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == "node_modules" {
			return cmp.Or(err, filepath.SkipDir)
		}
		if entry.Name() != "package-lock.json" {
			return nil
		}
		return readLock(file, found)
	})
	return slices.SortedFunc(maps.Keys(found), func(a, b sdk) int { return strings.Compare(a.name+" "+a.version, b.name+" "+b.version) }), err
}

func readLock(file string, found map[sdk]bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var lock struct {
		Packages map[string]struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for place, p := range lock.Packages {
		name := p.Name // set where the package has another name here
		if name == "" {
			_, name, _ = strings.Cut(place, "node_modules/")
		}
		if strings.HasPrefix(name, "@azure/web-pubsub") {
			found[sdk{name, p.Version}] = true
		}
	}
	return nil
}

func sdkTable(sdks []sdk) []byte {
	var b bytes.Buffer
	b.WriteString("| package | version |\n|---|---|\n")
	for _, s := range sdks {
		fmt.Fprintf(&b, "| `%s` | %s |\n", s.name, s.version)
	}
	return b.Bytes()
}
