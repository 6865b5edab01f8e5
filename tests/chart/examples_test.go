package chart

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/strvals"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// documents are those that people read.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/decisions/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[strings.TrimPrefix(file, "../../")] = string(text)
		}
	}
	return texts
}

var yamlExample = regexp.MustCompile("(?ms)^ *```ya?ml\n(.*?)^ *```$")

// TestExamples renders and decodes every YAML example of the documents: Kubernetes' objects, settings files, rules for Prometheus,
// and values of the chart.
func TestExamples(t *testing.T) {
	kinds := map[string]int{}
	for name, text := range documents(t) {
		for _, m := range yamlExample.FindAllStringSubmatch(text, -1) {
			example := m[1]
			content := given(t, example)
			switch {
			case content["kind"] != nil:
				kinds["object"]++
				decode(t, name, example)
			case content["groups"] != nil:
				kinds["rules"]++
				decodeRules(t, name, content)
			case content["tenants"] != nil && name != "docs/deploying.md":
				kinds["settings"]++
				for _, tenant := range content["tenants"].([]any) {
					objects(t, valuesOf(t, tenant.(map[string]any)))
				}
			default:
				kinds["values"]++
				objects(t, with(t, example))
			}
		}
	}
	if kinds["settings"] < 3 || kinds["values"] < 5 || kinds["rules"] < 1 {
		t.Errorf("found %v; there should be more", kinds)
	}
}

func decodeRules(t *testing.T, name string, content map[string]any) {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(new(monitoringv1.PrometheusRuleSpec)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// valuesOf says of the default tenant, and of one more, what a settings file says of a tenant.
func valuesOf(t *testing.T, tenant map[string]any) map[string]any {
	t.Helper()
	another := maps.Clone(tenant)
	another["name"], another["hosts"] = "another", []any{"another.example.com"}
	values := trial()
	values["tenants"] = []any{another}
	rest := maps.Clone(tenant)
	for _, name := range []string{"hubs", "limits"} {
		if rest[name] != nil {
			values[name] = rest[name]
		}
		delete(rest, name)
	}
	delete(rest, "name")
	values["defaultTenant"] = rest
	return values
}

// documented is the longest example of a tenant, which has every setting.
func documented(t *testing.T) map[string]any {
	t.Helper()
	text := documents(t)["docs/configuration.md"]
	example := slices.MaxFunc(yamlExample.FindAllStringSubmatch(text, -1), func(a, b []string) int { return len(a[1]) - len(b[1]) })[1]
	return given(t, example)["tenants"].([]any)[0].(map[string]any)
}

// TestEveryDocumentedSettingIsAccepted under settings, at its default.
func TestEveryDocumentedSettingIsAccepted(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `([a-zA-Z.]+)` \\| [^|]*\\| [^|]*\\| ([a-z]+) \\| (?:`([^`]*)`)? ?\\|").FindAllStringSubmatch(documents(t)["docs/configuration.md"], -1)
	if len(rows) < 40 {
		t.Fatalf("found %d settings", len(rows))
	}
	for _, row := range rows {
		var value any = row[3]
		if row[2] != "string" && row[2] != "duration" {
			value = nil
			if err := yaml.Unmarshal([]byte(row[3]), &value); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range slices.Backward(strings.Split(row[1], ".")) {
			value = map[string]any{name: value}
		}
		values := trial()
		values["settings"] = value
		if _, err := render(t, values); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
	}
}

var helmCommand = regexp.MustCompile(`helm (?:install|upgrade|template)(?:[^\n\\]|\\\n)*`)

// TestHelmCommandsInDocuments: what they set must be values.
func TestHelmCommandsInDocuments(t *testing.T) {
	found, verbs := 0, map[string]bool{}
	for name, text := range documents(t) {
		for _, command := range helmCommand.FindAllString(text, -1) {
			verbs[strings.Fields(command)[1]] = true
			values := map[string]any{}
			for _, m := range regexp.MustCompile(`--set[= ](\S+)`).FindAllStringSubmatch(command, -1) {
				if strings.Contains(m[1], "…") {
					continue
				}
				found++
				if err := strvals.ParseInto(strings.ReplaceAll(m[1], "'", ""), values); err != nil {
					t.Errorf("%s: %s: %v", name, m[1], err)
				}
			}
			objects(t, chartutil.CoalesceTables(values, trial()))
		}
	}
	if found < 4 || !verbs["install"] || !verbs["upgrade"] {
		t.Errorf("found %d values and the commands %v, want those of installing and of upgrading", found, verbs)
	}
}

// TestLoadJob decodes what runs load from inside a cluster.
func TestLoadJob(t *testing.T) {
	text, err := os.ReadFile("../../deploy/load/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if list := decode(t, "job.yaml", string(text)); len(list) != 3 {
		t.Errorf("got %d objects, want 3", len(list))
	}
}
