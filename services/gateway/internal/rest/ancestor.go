package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/chatr-dev/chatr/pkg/httproute"
	"github.com/chatr-dev/chatr/services/gateway/internal/asrs"
	"github.com/chatr-dev/chatr/services/gateway/internal/node"
)

// ancestorOperations are those of the ancestor protocol (event-handler.md section 12.2), below /ws/api/v1/hubs/{hub},
// /ws/api/hubs/{hub} and, for the default hub, /ws/api. Two of its generations name some of them differently; a route of
// one means nothing else in the other. Where no document has statuses they are our choice.
var ancestorOperations = tableOf([]operation{
	{"POST", "", "SendToAll", 202, 202, hub, (*Handler).send},
	{"POST", "messages", "SendToAll", 202, 202, hub, (*Handler).send},
	{"POST", "connections/{connectionId}", "SendToConnection", 202, 202, conn, (*Handler).send},
	{"POST", "connections/{connectionId}/messages", "SendToConnection", 202, 202, conn, (*Handler).send},
	{"POST", "groups/{group}", "SendToGroup", 202, 202, group, (*Handler).send},
	{"POST", "groups/{group}/messages", "SendToGroup", 202, 202, group, (*Handler).send},
	{"POST", "users/{userId}", "SendToUser", 202, 202, user, (*Handler).send},
	{"POST", "users/{userId}/messages", "SendToUser", 202, 202, user, (*Handler).send},

	{"PUT", "groups/{group}/connections/{connectionId}", "AddConnectionToGroup", 200, 404, conn, (*Handler).join},
	{"DELETE", "groups/{group}/connections/{connectionId}", "RemoveConnectionFromGroup", 200, 200, conn, (*Handler).leave},
	{"PUT", "groups/{group}/users/{userId}", "AddUserToGroup", 200, 200, user, (*Handler).addUserToGroup},
	{"PUT", "users/{userId}/groups/{group}", "AddUserToGroup", 200, 200, user, (*Handler).addUserToGroup},
	{"DELETE", "groups/{group}/users/{userId}", "RemoveUserFromGroup", 200, 200, user, (*Handler).removeUserFromGroup},
	{"DELETE", "users/{userId}/groups/{group}", "RemoveUserFromGroup", 200, 200, user, (*Handler).removeUserFromGroup},

	{"DELETE", "connections/{connectionId}", "CloseClientConnection", 200, 200, conn, (*Handler).close},
	{"HEAD", "connections/{connectionId}", "CheckConnectionExists", 200, 404, conn, (*Handler).exists},
	{"HEAD", "users/{userId}", "CheckUserExists", 200, 404, user, (*Handler).exists},
	{"HEAD", "groups/{group}", "CheckGroupExists", 200, 404, group, (*Handler).exists},
})

const ancestorPrefix = "/ws/api/"

// isAncestor reports whether r is a request of the ancestor protocol.
func isAncestor(r *http.Request) bool { return strings.HasPrefix(r.URL.EscapedPath(), ancestorPrefix) }

// routeAncestor is route for the ancestor protocol.
func routeAncestor(r *http.Request) (*operation, httproute.Params, error) {
	below := strings.TrimPrefix(r.URL.EscapedPath(), ancestorPrefix)
	named := false
	for _, prefix := range []string{"v1/hubs/", "hubs/"} {
		if rest, ok := strings.CutPrefix(below, prefix); ok {
			below, named = rest, true
			break
		}
	}
	if !named {
		below = asrs.DefaultHub + "/" + below
	}
	hubName, below, _ := strings.Cut(below, "/")
	return find(ancestorOperations, r.Method, hubName+"/"+strings.TrimSuffix(below, "/"))
}

// addUserToGroup adds a user to a group, with all connections that the user has or will have: the user stays in it also without a
// connection, unlike in our own protocol.
func (h *Handler) addUserToGroup(ctx context.Context, q *request) (any, error) {
	switch err := h.options.UserGroups.Add(ctx, q.hub, q.user, q.group); {
	case errors.Is(err, asrs.ErrTooMany):
		return nil, &problem{status: http.StatusConflict, message: err.Error(), target: "group"}
	case err != nil:
		return nil, err
	}
	if err := h.node.Join(ctx, q.audience, q.group); !errors.Is(err, node.ErrNotFound) {
		return nil, err
	}
	return nil, nil
}

// removeUserFromGroup undoes addUserToGroup.
func (h *Handler) removeUserFromGroup(ctx context.Context, q *request) (any, error) {
	if err := h.options.UserGroups.Remove(ctx, q.hub, q.user, q.group); err != nil {
		return nil, err
	}
	return nil, h.node.Leave(ctx, q.audience, q.group)
}
