package telling

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/together"
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
	sender
	owner   string // of the leases that this process takes
	skipped prometheus.Counter
	slots   chan struct{} // one for each room that may be told at a time
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
	t := &Teller{sender: sender{Config: cfg}, owner: rand.Text(), skipped: skipped, slots: make(chan struct{}, width), runs: map[string]*run{}}
	t.claims = together.Calls[string, chat.Telling]{Do: t.claim, Most: width, AtOnce: storeAtOnce, Time: storeTime}
	t.marks = together.Calls[mark, chat.Telling]{Do: t.setMarks, Most: width, AtOnce: storeAtOnce, Time: storeTime}
	return t
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
