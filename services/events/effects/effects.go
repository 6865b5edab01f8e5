package effects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/services/events/telling"
)

const (
	lease      = 10 * time.Second // for which an effect is one process's to pay
	payTime    = 8 * time.Second  // for paying one; below lease
	followTime = 3 * time.Second  // that whoever made a change waits for what follows from it
	batch      = 64               // effects that one round of the worker pays
	retryMost  = 5 * time.Second  // between two attempts
)

// Effects pays what is owed in one tenant's chat. It is safe for concurrent use.
type Effects struct {
	live   *Live
	tell   *telling.Teller
	logger *slog.Logger
	failed prometheus.Counter
	owed   prometheus.Gauge
	oldest prometheus.Gauge
}

// New returns the effects of changes in a tenant's chat.
func New(live *Live, tell *telling.Teller, logger *slog.Logger, reg prometheus.Registerer) *Effects {
	e := &Effects{live: live, tell: tell, logger: logger, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "events_effects_failed_total",
		Help: "Attempts to bring the gateways in line with a change that failed, and are made again.",
	}), owed: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "events_effects_owed",
		Help: "Changes that gateways are not in line with yet, of all processes.",
	}), oldest: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "events_effects_oldest_seconds",
		Help: "For how long the oldest of these has been so.",
	})}
	reg.MustRegister(e.failed, e.owed, e.oldest)
	return e
}

// Measure sets the metrics of what is owed.
func (e *Effects) Measure(ctx context.Context) error {
	n, oldest, err := e.live.store.EffectsOwed(ctx, e.live.tenant)
	if err != nil {
		return err
	}
	e.owed.Set(float64(n))
	e.oldest.Set(0)
	if n > 0 {
		e.oldest.Set(max(0, time.Since(oldest).Seconds()))
	}
	return nil
}

// Follow makes what has been committed felt: effects owed for the rooms and users are paid, and then the rooms' events
// told. It waits for both, but not for long, and no failure is the caller's: what is left is done by a worker.
func (e *Effects) Follow(ctx context.Context, rooms, users []string) {
	ctx, cancel := context.WithTimeout(ctx, followTime)
	defer cancel()
	e.payOf(ctx, rooms, users, Everything)
	var told []<-chan struct{}
	for _, id := range rooms {
		told = append(told, e.tell.Changed(id))
	}
	for _, done := range told {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// News is what has become of a user's presence, as far as who asks for it to be told knows.
type News int

// What there may be to tell.
const (
	Everything   News = iota // whether the user is here, and idle: what others have changed
	OnlyComing               // whether the user is here, by a change of the caller's own
	OnlyIdleness             // whether the user is idle, by a change of the caller's own
)

// Presence pays what is owed for a user whose presence may have changed.
func (e *Effects) Presence(ctx context.Context, userID string, news News) {
	ctx, cancel := context.WithTimeout(ctx, followTime)
	defer cancel()
	e.payOf(ctx, nil, []string{userID}, news)
}

func (e *Effects) payOf(ctx context.Context, rooms, users []string, news News) {
	list, err := e.live.store.ClaimEffectsOf(ctx, e.live.tenant, rooms, users, lease)
	if err != nil {
		e.logger.Warn("effects not claimed; a worker will", "error", err)
		return
	}
	_ = e.pay(ctx, list, news) // logged
}

// Work pays what is owed and due, until something fails or nothing is left.
func (e *Effects) Work(ctx context.Context) error {
	for {
		list, err := e.live.store.ClaimEffects(ctx, e.live.tenant, batch, lease)
		if err != nil || len(list) == 0 {
			return err
		}
		if err := e.pay(ctx, list, Everything); err != nil {
			return err
		}
	}
}

// pay pays effects that are claimed, and gives back what could not be paid. A user's connections are put out of rooms
// before they are closed: they may not be closed yet when that has been asked for.
func (e *Effects) pay(ctx context.Context, list []chat.Effect, news News) error {
	var first, then []chat.Effect
	for _, owed := range list {
		if owed.Kind == chat.EffectUser {
			then = append(then, owed)
		} else {
			first = append(first, owed)
		}
	}
	return errors.Join(e.payTogether(ctx, first, news), e.payTogether(ctx, then, news))
}

// payTogether pays several effects at a time.
func (e *Effects) payTogether(ctx context.Context, list []chat.Effect, news News) error {
	var group errgroup.Group
	group.SetLimit(width)
	for _, owed := range list {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, payTime)
			defer cancel()
			err := e.one(ctx, owed, news)
			if err == nil {
				return e.live.store.EffectPaid(ctx, e.live.tenant, owed)
			}
			e.failed.Inc()
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), payTime)
			defer cancel()
			return errors.Join(err, e.live.store.EffectFailed(ctx, e.live.tenant, owed, retryIn(owed.Attempts)))
		})
	}
	return group.Wait()
}

// retryIn is at once after the first failure, since what failed there was whoever made the change and did not wait long.
func retryIn(attempts int) time.Duration {
	if attempts == 0 {
		return 0
	}
	return min(250*time.Millisecond<<min(attempts, 10), retryMost)
}

// one brings in line what an effect names.
func (e *Effects) one(ctx context.Context, owed chat.Effect, news News) error {
	switch owed.Kind {
	case chat.EffectMember:
		return e.live.member(ctx, owed.RoomID, owed.UserID)
	case chat.EffectUser:
		return e.live.closeUser(ctx, owed.UserID)
	case chat.EffectPresence:
		more := owed.Version > 1 // others have changed something meanwhile
		err := e.tell.Presence(ctx, owed.UserID, news != OnlyIdleness || more, news != OnlyComing || more)
		if errors.Is(err, chat.ErrNotFound) {
			return nil
		}
		return err
	case chat.EffectRoom:
		return e.closeRoom(ctx, owed.RoomID)
	case chat.EffectRead:
		return e.tell.Read(ctx, owed.RoomID, owed.UserID)
	case chat.EffectBlocked:
		return e.tell.Blocks(ctx, owed.UserID)
	}
	return fmt.Errorf("an effect of the kind %q is for a newer version to pay", owed.Kind)
}

// closeRoom empties a deleted room's group, once those who are in it have been told.
func (e *Effects) closeRoom(ctx context.Context, roomID string) error {
	if _, err := e.live.store.Room(ctx, e.live.tenant, roomID); err == nil || !errors.Is(err, chat.ErrNotFound) {
		return err // it is there again
	}
	if err := e.tell.ToTheEnd(ctx, roomID); err != nil {
		return err
	}
	return e.live.closeGroup(ctx, roomID)
}
