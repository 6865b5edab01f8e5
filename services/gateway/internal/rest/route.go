package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"

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

	segments []string // path, split
}

const (
	hub   = webpubsub.ScopeHub
	group = webpubsub.ScopeGroup
	user  = webpubsub.ScopeUser
	conn  = webpubsub.ScopeConnection
)

var operations = split([]operation{
	{"POST", ":send", "SendToAll", 202, 202, hub, (*Handler).send, nil},
	{"POST", ":closeConnections", "CloseAllConnections", 204, 204, hub, (*Handler).close, nil},
	{"POST", ":generateToken", "GenerateClientToken", 200, 404, hub, (*Handler).generateToken, nil},
	{"POST", ":addToGroups", "AddConnectionsToGroups", 200, 200, hub, (*Handler).addToGroups, nil},
	{"POST", ":removeFromGroups", "RemoveConnectionsFromGroups", 200, 200, hub, (*Handler).removeFromGroups, nil},

	{"HEAD", "connections/{connectionId}", "CheckConnectionExists", 200, 404, conn, (*Handler).exists, nil},
	{"DELETE", "connections/{connectionId}", "CloseClientConnection", 204, 204, conn, (*Handler).close, nil},
	{"POST", "connections/{connectionId}/:send", "SendToConnection", 202, 202, conn, (*Handler).send, nil},
	{"DELETE", "connections/{connectionId}/groups", "RemoveConnectionFromAllGroups", 204, 204, conn, (*Handler).leaveAll, nil},

	{"HEAD", "groups/{group}", "CheckGroupExists", 200, 404, group, (*Handler).exists, nil},
	{"POST", "groups/{group}/:send", "SendToGroup", 202, 202, group, (*Handler).send, nil},
	{"POST", "groups/{group}/:closeConnections", "CloseGroupConnections", 204, 204, group, (*Handler).close, nil},
	{"GET", "groups/{group}/connections", "ListConnectionsInGroup", 200, 200, group, (*Handler).list, nil},
	{"PUT", "groups/{group}/connections/{connectionId}", "AddConnectionToGroup", 200, 404, conn, (*Handler).join, nil},
	{"DELETE", "groups/{group}/connections/{connectionId}", "RemoveConnectionFromGroup", 204, 204, conn, (*Handler).leave, nil},

	{"HEAD", "users/{userId}", "CheckUserExists", 200, 404, user, (*Handler).exists, nil},
	{"POST", "users/{userId}/:send", "SendToUser", 202, 202, user, (*Handler).send, nil},
	{"POST", "users/{userId}/:closeConnections", "CloseUserConnections", 204, 204, user, (*Handler).close, nil},
	{"PUT", "users/{userId}/groups/{group}", "AddUserToGroup", 200, 404, user, (*Handler).join, nil},
	{"DELETE", "users/{userId}/groups/{group}", "RemoveUserFromGroup", 204, 204, user, (*Handler).leave, nil},
	{"DELETE", "users/{userId}/groups", "RemoveUserFromAllGroups", 204, 204, user, (*Handler).leaveAll, nil},

	{"PUT", "permissions/{permission}/connections/{connectionId}", "GrantPermission", 200, 404, conn, (*Handler).grant, nil},
	{"DELETE", "permissions/{permission}/connections/{connectionId}", "RevokePermission", 204, 204, conn, (*Handler).revoke, nil},
	{"HEAD", "permissions/{permission}/connections/{connectionId}", "CheckPermission", 200, 404, conn, (*Handler).allowed, nil},
})

// Requests that are none of the operations above.
var (
	health  = operation{category: "HealthCheck"}
	unknown = operation{category: "Uncategorized"}
)

func split(operations []operation) []operation {
	for i := range operations {
		operations[i].segments = strings.Split(operations[i].path, "/")
	}
	return operations
}

const prefix = "/api/hubs/"

// route finds the operation of a request, and the decoded segments of its path from the hub on. It looks at the
// raw path and decodes each segment once, so that a group may be called a/b (rest-api.md section 1.1).
func route(r *http.Request) (*operation, []string, error) {
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok {
		return &unknown, nil, notFound("there is no such route", "")
	}
	hubName, below, ok := strings.Cut(below, "/")
	if !ok {
		return &unknown, nil, notFound("there is no such route", "")
	}
	hubName, err := url.PathUnescape(hubName)
	if err != nil {
		return &unknown, nil, badRequest("path", "the path has an invalid escape: %s", err)
	}
	return find(operations, r.Method, hubName, below)
}

// find looks a path below a hub up among operations.
func find(operations []operation, method, hubName, below string) (*operation, []string, error) {
	segments := strings.Split(below, "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return &unknown, nil, badRequest("path", "the path has an invalid escape: %s", err)
		}
		segments[i] = decoded
	}
	var allow []string
	for i := range operations {
		op := &operations[i]
		if !op.matches(segments) {
			continue
		}
		if op.method == method {
			return op, append([]string{hubName}, segments...), nil
		}
		allow = append(allow, op.method)
	}
	if allow != nil {
		return &unknown, nil, methodNotAllowed(method, allow)
	}
	return &unknown, nil, notFound("there is no such route", "")
}

func (op *operation) matches(segments []string) bool {
	if len(segments) != len(op.segments) {
		return false
	}
	for i, want := range op.segments {
		if !strings.HasPrefix(want, "{") && want != segments[i] {
			return false
		}
	}
	return true
}
