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
		{module + "services/events/rules", []string{module + "services/events", module + "pkg/dataplane", module + "pkg/cloudevents", "net/http", "encoding/json"}},
		{module + "services/events/doors/invoke", []string{module + "services/events/doors"}},
		{module + "services/events/doors/page", []string{module + "services/events/doors"}},
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

// TestGatewayImportsPointDown keeps the rooms of the gateway in order: each imports only what stands below it, and none knows
// the one that wires them all.
func TestGatewayImportsPointDown(t *testing.T) {
	gateway := module + "services/gateway"
	storeys := [][]string{ // from the top; a new package needs a place
		{""},
		{"/internal/front", "/internal/orphans", "/internal/overload", "/internal/rest"},
		{"/internal/session"},
		{"/internal/audit"},
		{"/internal/node"},
		{"/internal/handoff", "/internal/groupstate"},
		{"/internal/wire", "/internal/topics"},
		{"/internal/hub", "/internal/upstream"},
		{"/internal/audit/livetrace", "/internal/asrs", "/internal/repeat"},
		{"/internal/cluster", "/internal/socket", "/internal/filter", "/internal/stream"},
	}
	storey := func(pkg string) int { // of the room that the package is or is in, the innermost
		for name := strings.TrimPrefix(pkg, gateway); ; name = name[:strings.LastIndex(name, "/")] {
			for i, rooms := range storeys {
				if slices.Contains(rooms, name) && (name != "" || pkg == gateway) {
					return i
				}
			}
			if name == "" {
				return -1
			}
		}
	}
	for importer, imports := range importsOfModule(t) {
		if !within(importer, gateway) {
			continue
		}
		if storey(importer) < 0 {
			t.Errorf("%s has no place in the gateway's order", importer)
		}
		for _, imported := range imports {
			ownRoom := within(importer, imported) || within(imported, importer) // a package and those inside it
			if within(imported, gateway) && storey(imported) <= storey(importer) && (!ownRoom || imported == gateway) {
				t.Errorf("%s imports %s, which stands above or beside it", importer, imported)
			}
		}
	}
}

// TestOnlyOnePackageKnowsTheWebSocketLibrary confines the library: the gateway's socket package, and the server
// that the product is compared with.
func TestOnlyOnePackageKnowsTheWebSocketLibrary(t *testing.T) {
	allowed := []string{module + "services/gateway/internal/socket", module + "tests/peers/floor"}
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
