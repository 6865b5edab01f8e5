package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/tenant"
)

var yamlBlock = regexp.MustCompile("(?s)```ya?ml\n(.*?)```")

// TestDocumentedExamplesAreRight decodes every example of a settings file in the documents, strictly.
func TestDocumentedExamplesAreRight(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, file := range append(files, "../../README.md") {
		if filepath.Base(file) == "deploying.md" { // values of the chart, whose tests render them
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if !regexp.MustCompile(`(?m)^tenants:|^(redis|gateway|chat|auth|log):`).MatchString(block[1]) {
				continue
			}
			examples++
			name := filepath.Join(t.TempDir(), "chatr.yaml")
			if err := os.WriteFile(name, []byte(block[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			var s settings
			loaded, err := config.Load(&s, "test", config.Source{Args: []string{"--config", name, "--access-key", strings.Repeat("k", minKey)}}, nil)
			if err != nil || loaded.Validate() != nil || len(loaded.Wrong) > 0 {
				t.Errorf("%s: %v %v %v in\n%s", file, err, loaded.Validate(), loaded.Wrong, block[1])
				continue
			}
			if len(loaded.Renamed) > 0 {
				t.Errorf("%s: got %+v, want present names alone", file, loaded.Renamed)
			}
			if err := tenant.Check(s.completed()...); err != nil {
				t.Errorf("%s: %v in\n%s", file, err, block[1])
			}
		}
	}
	if examples < 2 {
		t.Errorf("found %d examples, want at least the two of configuration.md", examples)
	}
}

// TestSchemaOfTheSettings looks at what tools rely on: closed at every depth, and the tenants as deep as they go.
func TestSchemaOfTheSettings(t *testing.T) {
	var out bytes.Buffer
	if err := runSettings(t.Context(), []string{"--schema"}, &out); err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(out.Bytes(), &schema); err != nil {
		t.Fatal(err)
	}
	objects := 0
	var walk func(path string, node any)
	walk = func(path string, node any) {
		m, ok := node.(map[string]any)
		if !ok {
			return
		}
		if properties, ok := m["properties"].(map[string]any); ok {
			objects++
			if m["additionalProperties"] != false {
				t.Errorf("%s is open to unknown members", path)
			}
			for name, p := range properties {
				walk(path+"."+name, p)
			}
		}
		walk(path+"[]", m["items"])
	}
	walk("", schema)
	if objects < 20 {
		t.Errorf("found %d mappings, want at least 20", objects)
	}
	at := schema
	for _, name := range []string{"tenants", "hubs", "handlers", "auth"} {
		at = at["properties"].(map[string]any)[name].(map[string]any)
		if items, ok := at["items"].(map[string]any); ok {
			at = items
		}
	}
	if at["properties"].(map[string]any)["clientSecret"] == nil {
		t.Errorf("got %v for a handler's auth, want its clientSecret", at)
	}
}
