package telling

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/together"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/events/rules"
)

// Config is what a Teller works with. All is required.
type Config struct {
	Store        chat.Store
	Tenant       string
	Rules        *rules.Rules
	Gateway      *dataplane.Client
	LegacyGuests bool // there may be pages of the original, which draw whatever comes from a group
	Logger       *slog.Logger
	Metrics      prometheus.Registerer
}

// Teller tells the clients of one hub, through its gateways. It is safe for concurrent use.
type Teller struct {
	Config
	Align   func(ctx context.Context, roomID string) error // what is owed to members' connections, before their coming is told
	owner   string                                         // of the leases that this process takes
	skipped prometheus.Counter
	logs    *rate.Limiter // of lines about rooms that could not be told
	slots   chan struct{} // one for each room that may be told at a time
	work    sync.WaitGroup
	claims  together.Calls[string, chat.Telling]
	marks   together.Calls[mark, chat.Telling]

	mu   sync.Mutex // guards the following
	runs map[string]*run
}

// New returns a Teller.
func New(cfg Config) *Teller {
	skipped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "events_unsent_messages_total",
		Help: "Events of rooms that no gateway would send. Clients find them when they catch up.",
	})
	cfg.Metrics.MustRegister(skipped)
	t := &Teller{Config: cfg, owner: rand.Text(), skipped: skipped, logs: rate.NewLimiter(1, 5), slots: make(chan struct{}, width), runs: map[string]*run{}}
	t.claims = together.Calls[string, chat.Telling]{Do: t.claim, Most: width, AtOnce: storeAtOnce, Time: storeTime}
	t.marks = together.Calls[mark, chat.Telling]{Do: t.setMarks, Most: width, AtOnce: storeAtOnce, Time: storeTime}
	return t
}

// All tells every connection of the hub.
func (t *Teller) All(ctx context.Context, d webpubsub.Data) error { return t.Gateway.SendToAll(ctx, d) }

// User tells the connections of a user.
func (t *Teller) User(ctx context.Context, userID string, d webpubsub.Data) error {
	return t.Gateway.SendToUser(ctx, userID, d)
}

// Connection tells one connection.
func (t *Teller) Connection(ctx context.Context, id string, d webpubsub.Data) error {
	return t.Gateway.SendToConnection(ctx, id, d)
}

// Presence tells everybody how a user is now: that the user is here, or whether the user is idle, or both. Of who is gone, that.
func (t *Teller) Presence(ctx context.Context, userID string, here, idle bool) error {
	p, online, err := t.Store.PresenceOf(ctx, t.Tenant, userID)
	switch {
	case err != nil:
		return err
	case !online:
		return t.All(ctx, Offline(userID))
	case t.Rules.IsUnnamed(p.User): // who is coming is said when the page has told its name
		return nil
	}
	if here {
		err = t.All(ctx, Online(p.User, p.Idle))
	}
	if err == nil && idle {
		err = t.All(ctx, Idle(userID, p.Idle))
	}
	return err
}

// Blocked tells a user's pages of the version before whether the user blocks another, as it is now. That is looked at again
// afterwards: whoever did this so slowly that it has changed meanwhile must not have the last word.
func (t *Teller) Blocked(ctx context.Context, userID, otherID string) error {
	is, err := t.blocks(ctx, userID, otherID)
	for err == nil {
		if err := t.User(ctx, userID, blocked(otherID, is)); err != nil {
			return err
		}
		was := is
		if is, err = t.blocks(ctx, userID, otherID); is == was {
			break
		}
	}
	return err
}

func (t *Teller) blocks(ctx context.Context, userID, otherID string) (bool, error) {
	list, err := t.Store.Blocked(ctx, t.Tenant, userID)
	return slices.Contains(list, otherID), err
}

// Read tells a user's pages how far the user has read a room. Who is in it no longer has nothing to read there.
func (t *Teller) Read(ctx context.Context, roomID, userID string) error {
	m, err := t.Store.Membership(ctx, t.Tenant, roomID, userID)
	switch {
	case errors.Is(err, chat.ErrNotFound) || err == nil && !m.In:
		return nil
	case err != nil:
		return err
	}
	return t.User(ctx, userID, read(roomID, m.ReadSeq))
}

// Blocks tells a user's pages whom the user blocks.
func (t *Teller) Blocks(ctx context.Context, userID string) error {
	ids, err := t.Store.Blocked(ctx, t.Tenant, userID)
	if err != nil {
		return err
	}
	return t.User(ctx, userID, Message("blocked", append([]string{}, ids...)))
}

// roomAnd tells the members of a room, and userID even when no longer one of them. It is a server message, which pages of
// the original ignore when they do not know it, and not a group message, which they would draw.
func (t *Teller) roomAnd(ctx context.Context, roomID, userID string, d webpubsub.Data) error {
	return t.Gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups or userId eq "+quote(userID)))
}

// members tells the pages of who hears a room.
func (t *Teller) members(ctx context.Context, roomID string, d webpubsub.Data) error {
	return t.Gateway.SendToAll(ctx, d, dataplane.Filter(quote(roomID)+" in groups"))
}

// quote makes s a string literal of a filter (rest-api.md section 8).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// notice sends a line about somebody to a room's group.
func (t *Teller) notice(ctx context.Context, roomID, name, what string) error {
	return t.Gateway.SendToGroup(ctx, roomID, notice(name, what))
}

// room notifies the connections that hear a room, but for one, if it is named. Pages of the original draw whatever comes
// from a group, so where there may be some it comes from the server, at the price of looking at every connection of the
// hub.
func (t *Teller) room(ctx context.Context, roomID, except string, n notification) error {
	var options []dataplane.SendOption
	if except != "" {
		options = append(options, dataplane.Except(except))
	}
	if t.LegacyGuests && n.said == nil {
		return t.Gateway.SendToAll(ctx, n.data(), append(options, dataplane.Filter(quote(roomID)+" in groups"))...)
	}
	return t.Gateway.SendToGroup(ctx, roomID, n.data(), options...)
}

// others is room for everybody but one user.
func (t *Teller) others(ctx context.Context, roomID, userID string, n notification) error {
	if t.LegacyGuests {
		return t.Gateway.SendToAll(ctx, n.data(), dataplane.Filter(quote(roomID)+" in groups and userId ne "+quote(userID)))
	}
	return t.Gateway.SendToGroup(ctx, roomID, n.data(), dataplane.Filter("userId ne "+quote(userID)))
}
