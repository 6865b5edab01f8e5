package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/chatr-dev/chatr/"

// TestImportsPointDown keeps the direction cmd, services, pkg; services apart from each other; and the parts of
// the gateway in order.
func TestImportsPointDown(t *testing.T) {
	gateway := module + "services/gateway/internal/"
	rules := []struct {
		importer  string
		forbidden []string
	}{
		{module + "pkg/", []string{module + "services/", module + "cmd/"}},
		{module + "pkg/webpubsub", []string{module}},
		{module + "services/", []string{module + "cmd/"}},
		{module + "services/gateway", []string{module + "services/events", module + "services/api", module + "pkg/chat"}},
		{module + "services/events", []string{module + "services/gateway", module + "services/api"}},
		{module + "services/api", []string{module + "services/gateway", module + "services/events"}},
		{gateway + "node", []string{gateway + "socket", gateway + "rest"}},
		{gateway + "handoff", []string{gateway + "node", gateway + "groupstate", gateway + "socket", gateway + "rest"}},
		{gateway + "groupstate", []string{gateway + "node", gateway + "handoff", gateway + "socket", gateway + "rest"}},
		{gateway + "wire", []string{gateway + "node", gateway + "handoff", gateway + "groupstate", gateway + "topics", gateway + "socket", gateway + "rest"}},
		{gateway + "topics", []string{gateway + "node", gateway + "handoff", gateway + "groupstate", gateway + "hub", gateway + "socket", gateway + "rest"}},
		{gateway + "hub", []string{gateway + "node", gateway + "rest", gateway + "cluster", gateway + "upstream"}},
		{gateway + "cluster", []string{gateway + "node", gateway + "hub", gateway + "rest", gateway + "socket"}},
		{gateway + "stream", []string{gateway}},
		{gateway + "upstream", []string{gateway + "node", gateway + "hub", gateway + "rest", gateway + "socket"}},
	}
	for importer, imports := range importsOfModule(t) {
		for _, rule := range rules {
			if !within(importer, rule.importer) {
				continue
			}
			for _, imported := range imports {
				for _, f := range rule.forbidden {
					if within(imported, f) && !within(imported, rule.importer) {
						t.Errorf("%s imports %s, which stands above or beside it", importer, imported)
					}
				}
			}
		}
	}
}

// TestOnlyOnePackageKnowsTheWebSocketLibrary confines the library: the gateway's socket package, the client, and the
// server that the product is compared with.
func TestOnlyOnePackageKnowsTheWebSocketLibrary(t *testing.T) {
	allowed := []string{module + "services/gateway/internal/socket", module + "pkg/wsclient", module + "tests/peers/floor"}
	for importer, imports := range importsOfModule(t) {
		for _, imported := range imports {
			if within(imported, "github.com/coder/websocket") && !slices.ContainsFunc(allowed, func(a string) bool { return within(importer, a) }) {
				t.Errorf("%s imports %s; only %v may", importer, imported, allowed)
			}
		}
	}
}

func within(pkg, path string) bool {
	path = strings.TrimSuffix(path, "/")
	return pkg == path || strings.HasPrefix(pkg, path+"/")
}

func importsOfModule(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[fields[0]] = fields[1:]
	}
	if len(imports) < 20 {
		t.Fatalf("got %d packages, want the whole module", len(imports))
	}
	return imports
}
