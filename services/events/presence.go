package events

import (
	"context"
	"errors"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// checkBatch is how many connections are claimed for checking at a time: with the default interval, 66 a second of one
// process. Gateways tell the end of those that a dead one had; what is left to find is rare.
const checkBatch = 100

// present records a connection and tells who has come. The connection itself always hears of its own user:
// pages wait for it.
func (s *Service) present(ctx context.Context, user chat.User, conn string) error {
	cameOnline, err := s.store.Connect(ctx, s.cfg.Tenant, chat.Connection{ID: conn, UserID: user.ID})
	if err != nil {
		return err
	}
	if s.isUnnamed(user) { // userConnected, which follows, says who has come by name
		return nil
	}
	if cameOnline {
		return s.tellPresence(ctx, user.ID, false, onlineMessage(user, false))
	}
	idle, err := s.refreshIdle(ctx, user.ID)
	if err != nil {
		return err
	}
	return s.gateway.SendToConnection(ctx, conn, onlineMessage(user, idle))
}

// gone forgets a connection. With it may go the only one in use.
func (s *Service) gone(ctx context.Context, c chat.Connection) error {
	if err := s.store.Disconnect(ctx, s.cfg.Tenant, c.ID); err != nil || c.UserID == "" {
		return err
	}
	_, err := s.refreshIdle(ctx, c.UserID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	return err
}

func (s *Service) refreshIdle(ctx context.Context, userID string) (idle bool, err error) {
	idle, changed, err := s.store.RefreshIdle(ctx, s.cfg.Tenant, userID)
	if err != nil || !changed {
		return idle, err
	}
	return idle, s.tellIdle(ctx, userID, idle)
}

func (s *Service) tellIdle(ctx context.Context, userID string, idle bool) error {
	event := "userNotIdle"
	if idle {
		event = "userIsIdle"
	}
	return s.tellPresence(ctx, userID, false, message(event, userID))
}

// tellPresence tells everybody about a user, who is offline now or not. If that fails it is owed, and made good by
// keepPresence: presence changes also when nobody can be told, and there is no second event.
func (s *Service) tellPresence(ctx context.Context, userID string, offline bool, d webpubsub.Data) error {
	if err := s.gateway.SendToAll(ctx, d); err != nil {
		s.owe(userID, offline)
		return err
	}
	s.settle(userID)
	return nil
}

func (s *Service) owe(userID string, offline bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untold[userID] = offline
}

func (s *Service) settle(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.untold, userID)
}

// userEnterIdle and userExitIdle are about the connection they come from. The user is idle when all are.
func (s *Service) userEnterIdle(ctx context.Context, a *act) error { return s.setIdle(ctx, a, true) }
func (s *Service) userExitIdle(ctx context.Context, a *act) error  { return s.setIdle(ctx, a, false) }

func (s *Service) setIdle(ctx context.Context, a *act, idle bool) error {
	conn := chat.Connection{ID: a.conn, UserID: a.user.ID}
	now, changed, err := s.store.SetIdle(ctx, s.cfg.Tenant, conn, idle)
	if err != nil || !changed {
		return err
	}
	return s.tellIdle(ctx, a.user.ID, now)
}

// userConnected is how a page of the original says that it is there, and waits for its own userOnline. Who it is
// and that it is there is known already. Only a guest of the original gets its name from it, once.
func (s *Service) userConnected(ctx context.Context, a *act) error {
	if s.isUnnamed(a.user) {
		return s.nameGuest(ctx, a)
	}
	idle, err := s.refreshIdle(ctx, a.user.ID)
	if err != nil {
		return err
	}
	return s.gateway.SendToConnection(ctx, a.conn, onlineMessage(a.user, idle))
}

// isUnnamed reports whether a user is a guest of the original who has not told a name yet.
func (s *Service) isUnnamed(u chat.User) bool {
	return s.cfg.LegacyGuests && chat.IsLegacyID(u.ID) && u.Name == unnamed(u.ID)
}

// nameGuest takes the name that a guest of the original gives, and tells everybody who has come. One whose name
// cannot be stays unnamed: its page would wait for ever.
func (s *Service) nameGuest(ctx context.Context, a *act) error {
	var in struct{ UserName string }
	if err := a.decode(&in); err != nil {
		return err
	}
	if name, err := chat.CheckName(in.UserName); err == nil {
		a.user.Name = name
		if err := s.store.SaveUser(ctx, s.cfg.Tenant, a.user); err != nil {
			return err
		}
	}
	return s.tellPresence(ctx, a.user.ID, false, onlineMessage(a.user, false))
}

// keepPresence turns those offline who have been gone for long enough, and tells what could not be told before.
func (s *Service) keepPresence(ctx context.Context) error {
	return errors.Join(s.tellOwed(ctx), s.sweep(ctx))
}

// sweep turns those offline whose last connection has been gone for the grace period.
func (s *Service) sweep(ctx context.Context) error {
	users, err := s.store.SweepOffline(ctx, s.cfg.Tenant, time.Now().Add(-s.cfg.OfflineGrace))
	for _, u := range users {
		if err != nil { // the gateway is away: no use trying for each
			s.owe(u.ID, true)
			continue
		}
		err = s.tellOffline(ctx, u.ID)
	}
	return err
}

// tellOffline tells that a user has gone. Who has come back meanwhile has told so already, maybe too early to be
// heard last, so that is told again.
func (s *Service) tellOffline(ctx context.Context, userID string) error {
	if err := s.tellPresence(ctx, userID, true, message("userOffline", userID)); err != nil {
		return err
	}
	conns, err := s.store.Connections(ctx, s.cfg.Tenant, userID)
	if err != nil {
		s.owe(userID, false)
		return err
	}
	if len(conns) == 0 {
		return nil
	}
	return s.tellOnline(ctx, userID)
}

// tellOwed tells how those users are now of whom a change could not be told, until one cannot be told either.
func (s *Service) tellOwed(ctx context.Context) error {
	s.mu.Lock()
	owed := maps.Clone(s.untold)
	s.mu.Unlock()
	for id, offline := range owed {
		conns, err := s.store.Connections(ctx, s.cfg.Tenant, id)
		switch {
		case err != nil:
		case len(conns) > 0:
			err = s.tellOnline(ctx, id)
		case offline:
			err = s.tellOffline(ctx, id)
		default: // about to go offline, which sweep will tell
			s.settle(id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) tellOnline(ctx context.Context, userID string) error {
	user, err := s.store.User(ctx, s.cfg.Tenant, userID)
	if err != nil {
		return err
	}
	idle, _, err := s.store.RefreshIdle(ctx, s.cfg.Tenant, userID)
	if err != nil {
		return err
	}
	return s.tellPresence(ctx, userID, false, onlineMessage(user, idle))
}

// check asks the gateway for the connections that nobody has asked for the longest, so that one whose gateway died,
// or that was live when everything stopped, does not stay in the store for good. Where there are ghosts there may
// be more, so it goes on; else the rest can wait for the next round.
func (s *Service) check(ctx context.Context) error {
	for {
		conns, err := s.store.ClaimConnections(ctx, s.cfg.Tenant, time.Now().Add(-s.cfg.CheckInterval), checkBatch)
		if err != nil {
			return err
		}
		ghosts, err := s.dropGhosts(ctx, conns)
		if err != nil || ghosts == 0 || len(conns) < checkBatch {
			return err
		}
	}
}

// dropGhosts drops those of conns that two looks in a row do not find, and returns how many: a gateway that has just
// come back to its bus may miss one for a moment.
func (s *Service) dropGhosts(ctx context.Context, conns []chat.Connection) (int, error) {
	missing, err := s.missing(ctx, conns)
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	select {
	case <-time.After(s.cfg.CheckInterval / 2):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if missing, err = s.missing(ctx, missing); err != nil {
		return 0, err
	}
	s.metrics.ghosts.Add(float64(len(missing)))
	var failed []error
	for _, c := range missing {
		failed = append(failed, s.gone(ctx, c))
	}
	return len(missing), errors.Join(failed...)
}

// missing returns those of conns that the gateway says are not there.
func (s *Service) missing(ctx context.Context, conns []chat.Connection) ([]chat.Connection, error) {
	gone := make([]bool, len(conns))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for i, c := range conns {
		group.Go(func() error {
			there, err := s.gateway.ConnectionExists(ctx, c.ID)
			gone[i] = !there
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var missing []chat.Connection
	for i, c := range conns {
		if gone[i] {
			missing = append(missing, c)
		}
	}
	return missing, nil
}
