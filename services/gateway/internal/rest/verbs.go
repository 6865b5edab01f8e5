package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// close is R03, R08, R13 and R19 (rest-api.md section 6).
func (h *Handler) close(ctx context.Context, q *request) (any, error) {
	a, err := q.selection()
	if err != nil {
		return nil, err
	}
	reason, _, err := q.single("reason")
	if err != nil {
		return nil, err
	}
	return nil, h.node.Close(ctx, a, reason)
}

// exists is R07, R11 and R17 (rest-api.md section 5).
func (h *Handler) exists(ctx context.Context, q *request) (any, error) {
	ok, err := h.node.Exists(ctx, q.audience)
	if err == nil && !ok {
		err = notFound("there is no such connection, user or group", "")
	}
	return nil, err
}

// join is R15 and R20 (rest-api.md section 4).
func (h *Handler) join(ctx context.Context, q *request) (any, error) {
	return nil, h.node.Join(ctx, q.audience, q.group)
}

// leave is R16 and R21.
func (h *Handler) leave(ctx context.Context, q *request) (any, error) {
	return nil, h.node.Leave(ctx, q.audience, q.group)
}

// leaveAll is R10 and R22.
func (h *Handler) leaveAll(ctx context.Context, q *request) (any, error) {
	return nil, h.node.Leave(ctx, q.audience)
}

// addToGroups is R05 (rest-api.md section 4.1).
func (h *Handler) addToGroups(ctx context.Context, q *request) (any, error) {
	a, groups, err := q.groups()
	if err != nil || len(groups) == 0 {
		return nil, err
	}
	return nil, h.node.Join(ctx, a, groups...)
}

// removeFromGroups is R06. To the node, no group means all groups; here it means nothing to do.
func (h *Handler) removeFromGroups(ctx context.Context, q *request) (any, error) {
	a, groups, err := q.groups()
	if err != nil || len(groups) == 0 {
		return nil, err
	}
	return nil, h.node.Leave(ctx, a, groups...)
}

// groups reads the body of R05 and R06: which groups, and a filter that selects the connections.
func (q *request) groups() (webpubsub.Audience, []string, error) {
	a := q.audience
	if kind := q.http.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return a, nil, &problem{
				status: http.StatusUnsupportedMediaType, message: "the content type must be application/json", target: "Content-Type",
			}
		}
	}
	text, err := q.body()
	if err != nil {
		return a, nil, err
	}
	var fields struct {
		Groups *[]string
		Filter string // null leaves it empty
	}
	if err := json.Unmarshal(text, &fields); err != nil || fields.Groups == nil {
		return a, nil, badRequest("body", `the body must be JSON of the form {"groups":["name"],"filter":"userId eq 'ana'"}`)
	}
	for i, name := range *fields.Groups {
		if err := webpubsub.CheckGroup(name); err != nil {
			return a, nil, badRequest(fmt.Sprintf("groups[%d]", i), "%s", err)
		}
	}
	a.Filter, err = checkedFilter(fields.Filter)
	return a, *fields.Groups, err
}

// grant is R23 (rest-api.md section 7.1).
func (h *Handler) grant(ctx context.Context, q *request) (any, error) {
	group, err := q.targetName()
	if err != nil {
		return nil, err
	}
	return nil, h.node.Grant(ctx, q.hub, q.connection, q.permission, group)
}

// revoke is R24.
func (h *Handler) revoke(ctx context.Context, q *request) (any, error) {
	group, err := q.targetName()
	if err != nil {
		return nil, err
	}
	return nil, h.node.Revoke(ctx, q.hub, q.connection, q.permission, group)
}

// allowed is R25.
func (h *Handler) allowed(ctx context.Context, q *request) (any, error) {
	group, err := q.targetName()
	if err != nil {
		return nil, err
	}
	ok, err := h.node.Allowed(ctx, q.hub, q.connection, q.permission, group)
	if err == nil && !ok {
		err = notFound("the connection does not have the permission", "")
	}
	return nil, err
}

// targetName is the group that a permission is about. SDKs have it optional, the service requires it.
func (q *request) targetName() (string, error) {
	name, given, err := q.single("targetName")
	if err != nil {
		return "", err
	}
	if !given {
		return "", badRequest("targetName", "targetName is missing; it names the group")
	}
	if err := webpubsub.CheckGroup(name); err != nil {
		return "", badRequest("targetName", "%s", err)
	}
	return name, nil
}
