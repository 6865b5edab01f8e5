package rest

import (
	"context"
	"encoding/base64"
	"math"
	"net/url"
	"strconv"
	"strings"
)

const maxPage = 200 // connections on a page, also by default

// connectionPage is a page of R14.
type connectionPage struct {
	Value    []connection `json:"value"`
	NextLink string       `json:"nextLink,omitempty"`
}

// connection is a connection of a page.
type connection struct {
	ConnectionID string `json:"connectionId"`
	UserID       string `json:"userId,omitempty"`
}

// list is R14 (rest-api.md section 4.2). Pages are in the order of connection ids.
func (h *Handler) list(ctx context.Context, q *request) (any, error) {
	size, err := q.integer("maxpagesize", 1, maxPage, maxPage)
	if err != nil {
		return nil, err
	}
	top, err := q.integer("top", 1, math.MaxInt32, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	after, err := q.afterID()
	if err != nil {
		return nil, err
	}
	members, err := h.node.Members(ctx, q.hub, q.group, after, size+1) // one more, to know whether a page follows
	if err != nil {
		return nil, err
	}
	more := len(members) > size && top > size
	members = members[:min(len(members), size, top)]
	page := connectionPage{Value: make([]connection, len(members))}
	for i, m := range members {
		page.Value[i] = connection{m.ConnectionID, m.UserID}
	}
	if more {
		page.NextLink = q.nextLink(members[size-1].ConnectionID, top-size)
	}
	return page, nil
}

// continuationPrefix begins every continuation token before it is encoded, so that other texts are not taken for one.
const continuationPrefix = "after:"

// afterID is the connection id that the last page ended with; empty for the first page.
func (q *request) afterID() (string, error) {
	text, given, err := q.single("continuationToken")
	if err != nil || !given {
		return "", err
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	after, ok := strings.CutPrefix(string(decoded), continuationPrefix)
	if err != nil || !ok || after == "" {
		return "", badRequest("continuationToken", "the continuationToken is not one that this service gave out")
	}
	return after, nil
}

// nextLink is this request, continued. SDKs follow it unchanged and sign for it, so it names the host that
// the caller used.
func (q *request) nextLink(after string, top int) string {
	var link strings.Builder
	link.WriteString(q.endpoint() + q.http.URL.EscapedPath() + "?")
	for _, name := range []string{"api-version", "maxpagesize"} {
		if value := q.query.Get(name); value != "" {
			link.WriteString(name + "=" + url.QueryEscape(value) + "&")
		}
	}
	if q.query.Has("top") {
		link.WriteString("top=" + strconv.Itoa(top) + "&")
	}
	link.WriteString("continuationToken=" + base64.RawURLEncoding.EncodeToString([]byte(continuationPrefix+after)))
	return link.String()
}
