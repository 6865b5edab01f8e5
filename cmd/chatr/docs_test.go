package main

import (
	"bytes"
	"flag"
	"os"
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
	const file = "../../docs/configuration.md"
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
		t.Errorf("%s does not say what the settings say; run make docs", file)
	}
}
