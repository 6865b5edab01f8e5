// Package node is what a client frame or a REST call may ask for: send, close, exists, join, leave, grant, members,
// for any audience and wherever its connections are.
//
// Each verb is a publish to the audience's topic (Tell) or a question to every node that subscribes to it (Ask).
// What a node is asked for it does to the connections of its package hub.
package node

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// Errors of the verbs. webpubsub.ErrRuleLimit is one more.
var (
	// ErrNotFound says that no connection is meant by the audience.
	ErrNotFound = errors.New("no such connection")
	// ErrPartial says that not every node that was asked has answered in time: what was asked for may have
	// happened in part and can be asked for again.
	ErrPartial = cluster.ErrPartial
	// ErrUnavailable says that the bus cannot be reached now.
	ErrUnavailable = cluster.ErrUnavailable
)

// Member is a connection in a group.
type Member struct{ ConnectionID, UserID string }

// Node is this process among the nodes of a deployment. Methods are safe for concurrent use.
type Node struct{}

// Send sends m to the audience and returns when the bus has it; that nobody receives it is no error.
func (n *Node) Send(ctx context.Context, a webpubsub.Audience, m webpubsub.Message) error {
	return ErrUnavailable
}

// Close closes the audience's connections for good, telling them the reason.
func (n *Node) Close(ctx context.Context, a webpubsub.Audience, reason string) error {
	return ErrUnavailable
}

// Exists reports whether the audience has a connection. Except and Filter are ignored.
func (n *Node) Exists(ctx context.Context, a webpubsub.Audience) (bool, error) {
	return false, ErrUnavailable
}

// Join adds the audience's present connections to groups and returns when a message sent to them afterwards
// reaches these connections. It returns ErrNotFound when the scope is a connection or a user that is not there.
func (n *Node) Join(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	return ErrUnavailable
}

// Leave removes the audience's present connections from groups, or from all their groups when none is named.
func (n *Node) Leave(ctx context.Context, a webpubsub.Audience, groups ...string) error {
	return ErrUnavailable
}

// Grant allows a connection p for the literal group. It returns ErrNotFound or webpubsub.ErrRuleLimit.
func (n *Node) Grant(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return ErrUnavailable
}

// Revoke denies a connection p for the literal group, whatever its roles say. It returns ErrNotFound or
// webpubsub.ErrRuleLimit.
func (n *Node) Revoke(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) error {
	return ErrUnavailable
}

// Allowed reports whether a connection has p for group; a connection that is not there has not.
func (n *Node) Allowed(ctx context.Context, hub webpubsub.HubKey, connID string, p webpubsub.Permission, group string) (bool, error) {
	return false, ErrUnavailable
}

// Members returns up to limit connections of the group whose ids are greater than after, by id.
func (n *Node) Members(ctx context.Context, hub webpubsub.HubKey, group, after string, limit int) ([]Member, error) {
	return nil, ErrUnavailable
}
