package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// SendOption narrows or bounds a send.
type SendOption func(url.Values)

// Except leaves the connections with these ids out. They travel in the URL, which has room for about a thousand.
func Except(connectionIDs ...string) SendOption {
	return func(q url.Values) { q["excluded"] = append(q["excluded"], connectionIDs...) }
}

// Filter sends only where the OData expression is true (rest-api.md section 8).
func Filter(expression string) SendOption {
	return func(q url.Values) { q.Set("filter", expression) }
}

// TTL drops the copy of a receiver that has not taken it within d; whole seconds, at most webpubsub.MaxTTL.
func TTL(d time.Duration) SendOption {
	return func(q url.Values) { q.Set("messageTtlSeconds", strconv.Itoa(int(d/time.Second))) }
}

// SendToAll sends d to every connection of the hub.
func (c *Client) SendToAll(ctx context.Context, d webpubsub.Data, options ...SendOption) error {
	return c.send(ctx, path(":send"), d, options)
}

// SendToGroup sends d to the members of a group, who see it as a message of the group.
func (c *Client) SendToGroup(ctx context.Context, group string, d webpubsub.Data, options ...SendOption) error {
	return c.send(ctx, path("groups", group, ":send"), d, options)
}

// SendToUser sends d to every connection of a user.
func (c *Client) SendToUser(ctx context.Context, userID string, d webpubsub.Data, options ...SendOption) error {
	return c.send(ctx, path("users", userID, ":send"), d, options)
}

// SendToConnection sends d to one connection. It is no error when that is gone.
func (c *Client) SendToConnection(ctx context.Context, connectionID string, d webpubsub.Data, options ...SendOption) error {
	return c.send(ctx, path("connections", connectionID, ":send"), d, options)
}

func (c *Client) send(ctx context.Context, path string, d webpubsub.Data, options []SendOption) error {
	op := call{method: http.MethodPost, path: path, query: url.Values{}, body: d.Bytes, metadata: d.Metadata}
	switch d.Type {
	case webpubsub.DataText:
		op.contentType = "text/plain; charset=utf-8"
	case webpubsub.DataJSON:
		op.contentType = "application/json"
	case webpubsub.DataBinary:
		op.contentType = "application/octet-stream"
	default:
		return fmt.Errorf("the REST API carries text, json and binary, not %s", d.Type)
	}
	for _, option := range options {
		option(op.query)
	}
	_, err := c.do(ctx, op)
	return err
}

// CloseConnection closes a connection and tells it why. It is no error when that is gone.
func (c *Client) CloseConnection(ctx context.Context, connectionID, reason string) error {
	return c.close(ctx, http.MethodDelete, path("connections", connectionID), reason)
}

// CloseGroup closes every connection in a group.
func (c *Client) CloseGroup(ctx context.Context, group, reason string) error {
	return c.close(ctx, http.MethodPost, path("groups", group, ":closeConnections"), reason)
}

// CloseUser closes every connection of a user but for some.
func (c *Client) CloseUser(ctx context.Context, userID, reason string, except ...string) error {
	return c.close(ctx, http.MethodPost, path("users", userID, ":closeConnections"), reason, except...)
}

func (c *Client) close(ctx context.Context, method, path, reason string, except ...string) error {
	op := call{method: method, path: path, query: url.Values{}}
	if reason != "" {
		op.query.Set("reason", reason)
	}
	if len(except) > 0 {
		op.query["excluded"] = except
	}
	_, err := c.do(ctx, op)
	return err
}

// ConnectionExists reports whether a connection is connected to the hub.
func (c *Client) ConnectionExists(ctx context.Context, connectionID string) (bool, error) {
	return c.exists(ctx, path("connections", connectionID))
}

// UserExists reports whether a user has a connection.
func (c *Client) UserExists(ctx context.Context, userID string) (bool, error) {
	return c.exists(ctx, path("users", userID))
}

// GroupExists reports whether a group has a member.
func (c *Client) GroupExists(ctx context.Context, group string) (bool, error) {
	return c.exists(ctx, path("groups", group))
}

func (c *Client) exists(ctx context.Context, path string) (bool, error) {
	_, err := c.do(ctx, call{method: http.MethodHead, path: path})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Check asks, once, for something that changes nothing, and returns nil if the service has answered it. An *Error of status 401 or
// 403 says that it does not let this client in; 404 that it has no tenant by the endpoint's host.
func (c *Client) Check(ctx context.Context) error {
	_, _, err := c.attempt(ctx, call{method: http.MethodGet, path: path("groups", "chatr readiness check", "connections")})
	return err
}

// AddConnectionToGroup makes a connection a member of a group; a send to the group that follows reaches it. It
// returns ErrNotFound when the connection is gone.
func (c *Client) AddConnectionToGroup(ctx context.Context, group, connectionID string) error {
	return c.plain(ctx, http.MethodPut, path("groups", group, "connections", connectionID))
}

// RemoveConnectionFromGroup ends a membership. It is no error when there is none.
func (c *Client) RemoveConnectionFromGroup(ctx context.Context, group, connectionID string) error {
	return c.plain(ctx, http.MethodDelete, path("groups", group, "connections", connectionID))
}

// AddUserToGroup makes the present connections of a user members of a group. It returns ErrNotFound when the
// user has none.
func (c *Client) AddUserToGroup(ctx context.Context, group, userID string) error {
	return c.plain(ctx, http.MethodPut, path("users", userID, "groups", group))
}

// RemoveUserFromGroup ends the memberships of a user's connections. It is no error when there are none.
func (c *Client) RemoveUserFromGroup(ctx context.Context, group, userID string) error {
	return c.plain(ctx, http.MethodDelete, path("users", userID, "groups", group))
}

func (c *Client) plain(ctx context.Context, method, path string) error {
	_, err := c.do(ctx, call{method: method, path: path})
	return err
}

// Grant gives a connection a permission for a group. It returns ErrNotFound when the connection is gone.
func (c *Client) Grant(ctx context.Context, connectionID string, p webpubsub.Permission, group string) error {
	return c.permission(ctx, http.MethodPut, connectionID, p, group)
}

// Revoke takes a permission for a group away, whatever roles say, until it is granted again.
func (c *Client) Revoke(ctx context.Context, connectionID string, p webpubsub.Permission, group string) error {
	return c.permission(ctx, http.MethodDelete, connectionID, p, group)
}

func (c *Client) permission(ctx context.Context, method, connectionID string, p webpubsub.Permission, group string) error {
	_, err := c.do(ctx, call{
		method: method,
		path:   path("permissions", p.String(), "connections", connectionID),
		query:  url.Values{"targetName": {group}},
	})
	return err
}

// Member is a connection in a group.
type Member struct {
	ConnectionID string `json:"connectionId"`
	UserID       string `json:"userId"` // empty when anonymous
}

// ListConnections returns the connections in a group, in no promised order. Those that come or go meanwhile
// may be missing or listed.
func (c *Client) ListConnections(ctx context.Context, group string) ([]Member, error) {
	op := call{method: http.MethodGet, path: path("groups", group, "connections")}
	var members []Member
	for {
		answer, err := c.do(ctx, op)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value    []Member
			NextLink string
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		members = append(members, page.Value...)
		if page.NextLink == "" {
			return members, nil
		}
		if op.query, err = nextQuery(page.NextLink); err != nil {
			return nil, fmt.Errorf("list connections: next link: %w", err)
		}
	}
}

// nextQuery returns what a next link asks for. Its host is not followed: the link is made from what the service
// sees of itself, and a signed token goes to no other host than ours.
func nextQuery(link string) (url.Values, error) {
	u, err := url.Parse(link)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	query.Del("api-version")
	return query, err
}
