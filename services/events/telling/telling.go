package telling

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Teller tells the clients of one hub, through its gateways.
type Teller struct {
	store        chat.Store
	tenant       string
	gateway      *dataplane.Client
	legacyGuests bool
	logger       *slog.Logger
	unsent       prometheus.Counter
}

// Config is what a Teller works with. All is required.
type Config struct {
	Store        chat.Store
	Tenant       string
	Gateway      *dataplane.Client
	LegacyGuests bool // there may be pages of the original, which draw whatever comes from a group
	Logger       *slog.Logger
	Metrics      prometheus.Registerer
}

// New returns a Teller.
func New(cfg Config) *Teller {
	unsent := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "events_unsent_messages_total",
		Help: "Messages that are in the history and could not be sent to the connections of their room.",
	})
	cfg.Metrics.MustRegister(unsent)
	return &Teller{cfg.Store, cfg.Tenant, cfg.Gateway, cfg.LegacyGuests, cfg.Logger, unsent}
}

// All tells every connection of the hub.
func (t *Teller) All(ctx context.Context, d webpubsub.Data) error { return t.gateway.SendToAll(ctx, d) }

// User tells the connections of a user, and Connection one.
func (t *Teller) User(ctx context.Context, userID string, d webpubsub.Data) error {
	return t.gateway.SendToUser(ctx, userID, d)
}

// Connection tells one connection.
func (t *Teller) Connection(ctx context.Context, id string, d webpubsub.Data) error {
	return t.gateway.SendToConnection(ctx, id, d)
}

// roomAnd tells the members of a room, and userID even when no longer one of them. It is a server message, which pages of
// the original ignore when they do not know it, and not a group message, which they would draw.
func (t *Teller) roomAnd(ctx context.Context, roomID, userID string, d webpubsub.Data) error {
	return t.gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups or userId eq "+quote(userID)))
}

// members tells the pages of who hears a room.
func (t *Teller) members(ctx context.Context, roomID string, d webpubsub.Data) error {
	return t.gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups"))
}

// quote makes s a string literal of a filter (rest-api.md section 8).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// notice sends a line about somebody to a room's group.
func (t *Teller) notice(ctx context.Context, roomID, name, what string) error {
	return t.gateway.SendToGroup(ctx, roomID, notice(name, what))
}

// notifyRoom notifies the connections that hear a room. Pages of the original draw whatever comes from a group, so
// where there may be some it comes from the server, at the price of looking at every connection of the hub.
func (t *Teller) notifyRoom(ctx context.Context, roomID string, n notification, options ...dataplane.SendOption) error {
	if t.legacyGuests && n.said == nil {
		return t.gateway.SendToAll(ctx, n.data(), append(options, dataplane.Filter(quote(roomID)+" in groups"))...)
	}
	return t.gateway.SendToGroup(ctx, roomID, n.data(), options...)
}

// notifyOthers is notifyRoom for everybody but one user.
func (t *Teller) notifyOthers(ctx context.Context, roomID, userID string, n notification) error {
	if t.legacyGuests {
		return t.gateway.SendToAll(ctx, n.data(), dataplane.Filter(quote(roomID)+" in groups and userId ne "+quote(userID)))
	}
	return t.gateway.SendToGroup(ctx, roomID, n.data(), dataplane.Filter("userId ne "+quote(userID)))
}

// hasChatUsers reports whether anybody would understand a notification about a room. Of what pages do in their own
// rooms there is none else.
func (t *Teller) hasChatUsers(ctx context.Context, roomID string) (bool, error) {
	rooms, err := t.store.WithChatUsers(ctx, t.tenant, []string{roomID})
	return len(rooms) > 0, err
}
