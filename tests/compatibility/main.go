// Command compatibility writes docs/compatibility.md from a test run: for each item of the checklist the tests that prove
// it, and whether they passed.
//
//	go run ./tests/compatibility -results test-results [-update]
//
// A test says what it proves in a directive, //checklist:C10 C11, at the end of its doc comment or, in JavaScript, on the
// line above it. An item without a test stands in the page as unproven. Without -update the page is compared with what
// the run has shown, and a difference is an error.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// page is what is written, template its words.
const (
	page     = "docs/compatibility.md"
	template = page + ".in"
)

func main() {
	results := flag.String("results", "test-results", "folder of the test events, as go test -json writes them, in *.json")
	update := flag.Bool("update", false, "write "+page)
	flag.Parse()
	if err := run(*results, *update); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func run(results string, update bool) error {
	items, err := readChecklist()
	if err != nil {
		return err
	}
	proofs, err := findProofs(".", items)
	if err != nil {
		return err
	}
	outcomes, err := readOutcomes(results)
	if err != nil {
		return err
	}
	sdks, err := findSDKs(".")
	if err != nil {
		return err
	}
	words, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	want := bytes.Replace(words, []byte("{{checklist}}\n"), checklistTable(items, proofs, outcomes), 1)
	want = bytes.Replace(want, []byte("{{sdks}}\n"), sdkTable(sdks), 1)
	if update {
		return os.WriteFile(filepath.FromSlash(page), want, 0o644)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New(page + " is not what this run has shown; make compatibility writes it anew:\n" + firstDifference(got, want))
	}
	return nil
}

// firstDifference shows the first line in which two texts differ.
func firstDifference(got, want []byte) string {
	a, b := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range max(len(a), len(b)) {
		var was, is []byte
		if i < len(a) {
			was = a[i]
		}
		if i < len(b) {
			is = b[i]
		}
		if !bytes.Equal(was, is) {
			return fmt.Sprintf("line %d is  %s\nshould be %s", i+1, was, is)
		}
	}
	return ""
}
