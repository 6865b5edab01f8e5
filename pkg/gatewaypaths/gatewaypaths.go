// Package gatewaypaths says which paths belong to the gateways. Whatever stands in front of Chatr sends these to them and
// all others to the API service: standalone's own front, nginx in docker-compose.yml, the chart's Ingress, the fronts of
// the tests, and those of operators, who read it in docs/deploying.md. Tests keep all of them to this table.
package gatewaypaths

import (
	"slices"
	"strings"
)

// Trees are the paths that belong to the gateways with all that is below them.
var Trees = []string{
	"/client",   // WebSocket clients
	"/clients",  // those of other protocols
	"/ws",       // clients and REST API of the ancestor protocol
	"/api/hubs", // REST API
}

// Single are the paths that belong to the gateways alone; what is below them does not.
var Single = []string{
	"/api/health",
	"/api/v1/health",
	"/livetrace",
}

// Has reports whether a path, decoded and without its query, belongs to the gateways.
func Has(path string) bool {
	return slices.Contains(Single, path) || slices.ContainsFunc(Trees, func(tree string) bool {
		below, ok := strings.CutPrefix(path, tree)
		return ok && (below == "" || below[0] == '/')
	})
}
