package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/config"
)

var update = flag.Bool("update", false, "rewrite the generated documents")

// TestDocsConfiguration keeps docs/configuration.md what the settings say. Its words stand in configuration.md.in.
func TestDocsConfiguration(t *testing.T) {
	head, err := os.ReadFile("../../docs/configuration.md.in")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	config.WriteMarkdown(&table, &settings{})
	want := bytes.Replace(head, []byte("{{settings}}\n"), table.Bytes(), 1)
	var tenants bytes.Buffer
	config.WriteExample(&tenants, &settings{}, "tenants")
	want = bytes.Replace(want, []byte("{{tenants}}\n"), tenants.Bytes(), 1)
	checkGenerated(t, "../../docs/configuration.md", want)
}

// TestDocsSchema keeps docs/settings.schema.json what chatr settings --schema prints: for editors, and for the schema of the
// chart's values, which is made from it.
func TestDocsSchema(t *testing.T) {
	var want bytes.Buffer
	if err := runSettings(t.Context(), []string{"--schema"}, &want); err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, "../../docs/settings.schema.json", want.Bytes())
}

// TestSettingsOfTheChart: what the chart writes is what the program reads. The file is what the chart makes of as many values as
// possible.
func TestSettingsOfTheChart(t *testing.T) {
	files, err := filepath.Glob("../../tests/chart/testdata/*settings.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("got %v (%v), want settings files of the chart", files, err)
	}
	for _, file := range append(files, "../../deploy/compose/chatr.yaml") {
		s, loaded, err := load("events", []string{"--config", file, "--access-key", strings.Repeat("k", minKey)}, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if tenants, err := newTenants(s, loaded, nil, nil); err != nil {
			t.Errorf("%s: %v", file, err)
		} else if len(tenants.wrong) > 0 {
			t.Errorf("%s: %v", file, joined(tenants.wrong))
		}
	}
}

// checkGenerated compares a file that is made from code with what the code says now, or with -update writes it.
func checkGenerated(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not say what the code says; run make docs", file)
	}
}
