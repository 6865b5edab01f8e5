package gatewaypaths

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// probes are paths and whether they belong to the gateways: all of the table, what is below, and what only looks like it.
func probes() map[string]bool {
	all := map[string]bool{"/": false, "/api": false, "/api/": false, "/api/config": false, "/api/v1": false, "/index.html": false}
	for _, tree := range Trees {
		all[tree], all[tree+"/"], all[tree+"/hubs/chat"], all[tree+"x"] = true, true, true, slices.Contains(Trees, tree+"x")
		all[tree+"-x"], all["/x"+tree] = false, false
	}
	for _, path := range Single {
		all[path], all[path+"/"], all[path+"/x"], all[path+"x"], all["/x"+path] = true, false, false, false, false
	}
	return all
}

func TestHas(t *testing.T) {
	for path, want := range probes() {
		if got := Has(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// TestNginx reads the locations as nginx does: an exact one first, then the first regular expression that matches, then the
// longest prefix.
func TestNginx(t *testing.T) {
	locations := regexp.MustCompile(`location +(=|~)? *(\S+) +\{([^}]*)\}`).FindAllStringSubmatch(read(t, "deploy/compose/nginx.conf"), -1)
	if len(locations) < 2 {
		t.Fatalf("found %d locations", len(locations))
	}
	for path, want := range probes() {
		exact, expression, prefix, longest := "", "", "", -1
		for _, l := range locations {
			kind, pattern, block := l[1], l[2], l[3]
			switch {
			case kind == "=" && pattern == path:
				exact = block
			case kind == "~" && expression == "" && regexp.MustCompile(pattern).MatchString(path):
				expression = block
			case kind == "" && strings.HasPrefix(path, pattern) && len(pattern) > longest:
				prefix, longest = block, len(pattern)
			}
		}
		block := prefix
		if expression != "" {
			block = expression
		}
		if exact != "" {
			block = exact
		}
		if got := strings.Contains(block, "proxy_pass $gateway"); got != want {
			t.Errorf("%s: nginx sends it to a gateway: %v, want %v", path, got, want)
		}
	}
}

// TestChart compares the lists in the chart's helpers; what the Ingress and the HTTPRoute make of them is for the chart's own tests.
func TestChart(t *testing.T) {
	lists := regexp.MustCompile(`(?m)^(Prefix|Exact): \[(.*)\]$`).FindAllStringSubmatch(read(t, "deploy/helm/templates/_helpers.tpl"), -1)
	for kind, want := range map[string][]string{"Prefix": Trees, "Exact": Single} {
		i := slices.IndexFunc(lists, func(l []string) bool { return l[1] == kind })
		if i < 0 {
			t.Errorf("there is no list of paths of type %s", kind)
			continue
		}
		if got := strings.Split(lists[i][2], ", "); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", kind, got, want)
		}
	}
}

// TestDocument compares the table that operators read.
func TestDocument(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| (.*) and below, (.*) \| gateway \|$`).FindStringSubmatch(read(t, "docs/deploying.md"))
	if row == nil {
		t.Fatal("docs/deploying.md has no row for the gateway")
	}
	if got := quoted(row[1], "`"); !slices.Equal(got, Trees) {
		t.Errorf("with what is below: got %q, want %q", got, Trees)
	}
	if got := quoted(row[2], "`"); !slices.Equal(got, Single) {
		t.Errorf("by themselves: got %q, want %q", got, Single)
	}
}

// quoted returns what stands between pairs of a mark, in order.
func quoted(text, mark string) (all []string) {
	parts := strings.Split(text, mark)
	for i := 1; i < len(parts); i += 2 {
		all = append(all, parts[i])
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
