package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/httproute"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// operation is one of the operations R01-R25 (rest-api.md section 2).
type operation struct {
	method   string
	path     string // below /api/hubs/{hub}
	category string // the protocol's RestApiCategory, for metrics and logs
	success  int    // exactly this; SDKs take any other for an error
	missing  int    // when the node says node.ErrNotFound
	scope    webpubsub.Scope
	run      func(h *Handler, ctx context.Context, q *request) (body any, err error)
}

const (
	hub   = webpubsub.ScopeHub
	group = webpubsub.ScopeGroup
	user  = webpubsub.ScopeUser
	conn  = webpubsub.ScopeConnection
)

// operations are all operations of the API, in the order of rest-api.md section 2.
var operations = tableOf([]operation{
	{"POST", ":send", "SendToAll", 202, 202, hub, (*Handler).send},
	{"POST", ":closeConnections", "CloseAllConnections", 204, 204, hub, (*Handler).close},
	{"POST", ":generateToken", "GenerateClientToken", 200, 404, hub, (*Handler).generateToken},
	{"POST", ":addToGroups", "AddConnectionsToGroups", 200, 200, hub, (*Handler).addToGroups},
	{"POST", ":removeFromGroups", "RemoveConnectionsFromGroups", 200, 200, hub, (*Handler).removeFromGroups},

	{"HEAD", "connections/{connectionId}", "CheckConnectionExists", 200, 404, conn, (*Handler).exists},
	{"DELETE", "connections/{connectionId}", "CloseClientConnection", 204, 204, conn, (*Handler).close},
	{"POST", "connections/{connectionId}/:send", "SendToConnection", 202, 202, conn, (*Handler).send},
	{"DELETE", "connections/{connectionId}/groups", "RemoveConnectionFromAllGroups", 204, 204, conn, (*Handler).leaveAll},

	{"HEAD", "groups/{group}", "CheckGroupExists", 200, 404, group, (*Handler).exists},
	{"POST", "groups/{group}/:send", "SendToGroup", 202, 202, group, (*Handler).send},
	{"POST", "groups/{group}/:closeConnections", "CloseGroupConnections", 204, 204, group, (*Handler).close},
	{"GET", "groups/{group}/connections", "ListConnectionsInGroup", 200, 200, group, (*Handler).list},
	{"PUT", "groups/{group}/connections/{connectionId}", "AddConnectionToGroup", 200, 404, conn, (*Handler).join},
	{"DELETE", "groups/{group}/connections/{connectionId}", "RemoveConnectionFromGroup", 204, 204, conn, (*Handler).leave},

	{"HEAD", "users/{userId}", "CheckUserExists", 200, 404, user, (*Handler).exists},
	{"POST", "users/{userId}/:send", "SendToUser", 202, 202, user, (*Handler).send},
	{"POST", "users/{userId}/:closeConnections", "CloseUserConnections", 204, 204, user, (*Handler).close},
	{"PUT", "users/{userId}/groups/{group}", "AddUserToGroup", 200, 404, user, (*Handler).join},
	{"DELETE", "users/{userId}/groups/{group}", "RemoveUserFromGroup", 204, 204, user, (*Handler).leave},
	{"DELETE", "users/{userId}/groups", "RemoveUserFromAllGroups", 204, 204, user, (*Handler).leaveAll},

	{"PUT", "permissions/{permission}/connections/{connectionId}", "GrantPermission", 200, 404, conn, (*Handler).grant},
	{"DELETE", "permissions/{permission}/connections/{connectionId}", "RevokePermission", 204, 204, conn, (*Handler).revoke},
	{"HEAD", "permissions/{permission}/connections/{connectionId}", "CheckPermission", 200, 404, conn, (*Handler).allowed},
})

// Requests that are none of the operations above.
var (
	health  = operation{category: "HealthCheck"}
	unknown = operation{category: "Uncategorized"}
)

// tableOf returns the routing table of operations, whose paths begin with the name of a hub.
func tableOf(operations []operation) *httproute.Table[operation] {
	return httproute.New(operations, func(op *operation) (method, path string) { return op.method, hubParam + "/" + op.path })
}

const (
	prefix   = "/api/hubs/"
	hubParam = "{hub}"
)

// route finds the operation of a request, and the parameters of its path, of which "hub" is the first (rest-api.md
// section 1.1).
func route(r *http.Request) (*operation, httproute.Params, error) {
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok {
		return &unknown, nil, routeProblem(httproute.ErrNotFound)
	}
	return find(operations, r.Method, below)
}

// find looks up a path that begins with the name of a hub.
func find(operations *httproute.Table[operation], method, path string) (*operation, httproute.Params, error) {
	op, params, err := operations.Find(method, path)
	if err != nil {
		return &unknown, nil, routeProblem(err)
	}
	return op, params, nil
}

// routeProblem tells the caller why there is no operation.
func routeProblem(err error) error {
	var method *httproute.MethodError
	switch {
	case errors.Is(err, httproute.ErrNotFound):
		return notFound(err.Error(), "")
	case errors.As(err, &method):
		return &problem{status: http.StatusMethodNotAllowed, message: method.Error(), allow: method.Allow}
	}
	return badRequest("path", "the path has an invalid escape: %s", err)
}
