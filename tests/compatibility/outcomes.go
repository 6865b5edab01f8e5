package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// module is the path before that of each package.
const module = "github.com/chatr-dev/chatr/"

// outcome is how a test ended: all of its runs passed, or one did not. A test that was not run has none.
type outcome struct{ passed, failed int }

// event is a line of go test -json.
type event struct{ Action, Package, Test, Key, Value string }

// readOutcomes returns the outcomes of all tests in a folder of test events. The outcome of a test that package nodetest
// has reported is found by the attribute "source".
func readOutcomes(folder string) (map[string]outcome, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no test events in " + folder + "; make test leaves them there")
	}
	outcomes := map[string]outcome{}
	for _, file := range files {
		if err := readEvents(file, outcomes); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return outcomes, nil
}

func readEvents(file string, outcomes map[string]outcome) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sources := map[string]string{} // by package and test
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // what a tool printed between the events
		}
		folder := strings.TrimPrefix(e.Package, module)
		test := folder + " " + e.Test
		switch e.Action {
		case "attr":
			if e.Key == "source" {
				sources[test] = folder + "/" + e.Value
			}
		case "pass", "fail", "skip":
			count(outcomes, test, e.Action)
			if source, ok := sources[test]; ok {
				count(outcomes, source, e.Action)
			}
		}
	}
	return lines.Err()
}

func count(outcomes map[string]outcome, key, action string) {
	o := outcomes[key]
	if action == "pass" {
		o.passed++
	} else {
		o.failed++ // a test that skips itself proves nothing
	}
	outcomes[key] = o
}
