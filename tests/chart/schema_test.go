package chart

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	schemaFile   = "../../deploy/helm/values.schema.json"
	defaultsFile = "../../deploy/helm/defaults.json"
)

// TestMain writes the schema first, as the other tests hold values against it.
func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		text, _, err := schema()
		if err == nil {
			err = os.WriteFile(schemaFile, text, 0o644)
		}
		if err == nil {
			text, err = defaults()
		}
		if err == nil {
			err = os.WriteFile(defaultsFile, text, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// TestSchema keeps values.schema.json what the types, the product's settings and the comments of values.yaml say.
func TestSchema(t *testing.T) {
	want, undescribed, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range undescribed {
		t.Errorf("%s has no comment in values.yaml", path)
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what values.go, values.yaml and the settings say; run make docs", schemaFile)
	}
}

// TestDefaults keeps defaults.json what values.yaml says: templates can read it, and not values.yaml.
func TestDefaults(t *testing.T) {
	want, err := defaults()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(defaultsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what values.yaml says; run make docs", defaultsFile)
	}
}

func defaults() ([]byte, error) {
	text, err := os.ReadFile("../../deploy/helm/values.yaml")
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(values, "", " ")
	return append(out, '\n'), err
}

// schema makes the schema from the files that it follows from.
func schema() (text []byte, undescribed []string, err error) {
	valuesYAML, err := os.ReadFile("../../deploy/helm/values.yaml")
	if err != nil {
		return nil, nil, err
	}
	settingsSchema, err := os.ReadFile("../../docs/settings.schema.json")
	if err != nil {
		return nil, nil, err
	}
	return makeSchema(valuesYAML, settingsSchema)
}

// TestValuesAreAllThere: what can be set is found by reading values.yaml.
func TestValuesAreAllThere(t *testing.T) {
	text, err := os.ReadFile("../../deploy/helm/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	expectAll(t, "", reflect.TypeFor[values](), defaults)
}

func expectAll(t *testing.T, path string, of reflect.Type, in map[string]any) {
	for i := range of.NumField() {
		f := of.Field(i)
		name := strings.TrimPrefix(path+"."+f.Tag.Get("json"), ".")
		switch {
		case f.Type == reflect.TypeFor[ownPods]() || f.Tag.Get("old") != "":
		case f.Anonymous:
			expectAll(t, path, f.Type, in)
		default:
			value, ok := in[f.Tag.Get("json")]
			if !ok {
				t.Errorf("%s is not in values.yaml", name)
			}
			inner, isMap := value.(map[string]any)
			if ours := f.Type.PkgPath() == of.PkgPath() || f.Type.Name() == ""; isMap && ours && f.Type.Kind() == reflect.Struct {
				expectAll(t, name, f.Type, inner)
			}
		}
	}
}
