package telling

import (
	"context"
	"strings"

	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// sender sends what there is to say to those who may know of it. When that is, and that it is not forgotten, is the Teller's.
type sender struct {
	Config
	Align func(ctx context.Context, roomID string) error // what is owed to members' connections, before their coming is told
}

// All tells every connection of the hub.
func (s *sender) All(ctx context.Context, d webpubsub.Data) error { return s.Gateway.SendToAll(ctx, d) }

// User tells the connections of a user.
func (s *sender) User(ctx context.Context, userID string, d webpubsub.Data) error {
	return s.Gateway.SendToUser(ctx, userID, d)
}

// Connection tells one connection.
func (s *sender) Connection(ctx context.Context, id string, d webpubsub.Data) error {
	return s.Gateway.SendToConnection(ctx, id, d)
}

// roomAnd tells the members of a room, and userID even when no longer one of them. It is a server message, which pages of
// the original ignore when they do not know it, and not a group message, which they would draw.
func (s *sender) roomAnd(ctx context.Context, roomID, userID string, d webpubsub.Data) error {
	return s.Gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups or userId eq "+quote(userID)))
}

// members tells the pages of who hears a room.
func (s *sender) members(ctx context.Context, roomID string, d webpubsub.Data) error {
	return s.Gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups"))
}

// quote makes s a string literal of a filter (rest-api.md section 8).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// notice sends a line about somebody to a room's group.
func (s *sender) notice(ctx context.Context, roomID, name, what string) error {
	return s.Gateway.SendToGroup(ctx, roomID, notice(name, what))
}

// room notifies the connections that hear a room, but for one, if it is named. Pages of the original draw whatever comes
// from a group, so where there may be some it comes from the server, at the price of looking at every connection of the
// hub.
func (s *sender) room(ctx context.Context, roomID, except string, n notification) error {
	var options []dataplane.SendOption
	if except != "" {
		options = append(options, dataplane.Except(except))
	}
	if s.LegacyGuests && n.said == nil {
		return s.Gateway.SendToAll(ctx, n.data(), append(options, dataplane.Filter(quote(roomID)+" in groups"))...)
	}
	return s.Gateway.SendToGroup(ctx, roomID, n.data(), options...)
}

// others is room for everybody but one user.
func (s *sender) others(ctx context.Context, roomID, userID string, n notification) error {
	if s.LegacyGuests {
		return s.Gateway.SendToAll(ctx, n.data(), dataplane.Filter(quote(roomID)+" in groups and userId ne "+quote(userID)))
	}
	return s.Gateway.SendToGroup(ctx, roomID, n.data(), dataplane.Filter("userId ne "+quote(userID)))
}
