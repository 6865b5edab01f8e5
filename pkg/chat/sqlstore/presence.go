package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// presenceStore is chat.Presences.
type presenceStore struct{ driver }

// Connect records a live connection and reports whether its user has come online by it.
func (s presenceStore) Connect(ctx context.Context, tenant string, c chat.Connection) (cameOnline bool, err error) {
	if err := chat.CheckIDs(tenant, c.ID, c.UserID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		if err := lockUsers(ctx, t, tenant, c.UserID); err != nil {
			return err
		}
		var owner string
		err := get(ctx, t, into{&owner}, `
			INSERT INTO connections (tenant, id, user_id, claimed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, id) DO UPDATE SET user_id = connections.user_id RETURNING user_id`, // changes nothing, but returns the row
			tenant, c.ID, c.UserID, time.Now())
		if err != nil {
			return err
		}
		if owner != c.UserID {
			return chat.ErrExists
		}
		t.send(`UPDATE users SET gone_at = NULL WHERE tenant = $1 AND id = $2 AND gone_at IS NOT NULL`, tenant, c.UserID)
		changed, err := t.exec(ctx, `UPDATE users SET online = true WHERE tenant = $1 AND id = $2 AND NOT online`, tenant, c.UserID)
		if err != nil {
			return err
		}
		if cameOnline = changed > 0; cameOnline {
			owe(t, tenant, chat.EffectPresence, "", c.UserID)
		}
		_, _, err = refreshIdle(ctx, t, tenant, c.UserID)
		return err
	})
	return cameOnline && err == nil, annotate(err, "record connection %q of user %q", c.ID, c.UserID)
}

// Disconnect forgets a connection.
func (s presenceStore) Disconnect(ctx context.Context, tenant, connectionID string) error {
	if err := chat.CheckIDs(tenant, connectionID); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		var userID string
		err := get(ctx, t, into{&userID}, `SELECT user_id FROM connections WHERE tenant = $1 AND id = $2`, tenant, connectionID)
		if errors.Is(err, errNone) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := lockUsers(ctx, t, tenant, userID); err != nil {
			return err
		}
		deleted, err := t.exec(ctx, `DELETE FROM connections WHERE tenant = $1 AND id = $2 AND user_id = $3`, tenant, connectionID, userID)
		if err != nil || deleted == 0 { // forgotten while we waited
			return err
		}
		t.send(`
			UPDATE users SET gone_at = $3 WHERE tenant = $1 AND id = $2
			AND NOT EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2)`,
			tenant, userID, time.Now())
		_, _, err = refreshIdle(ctx, t, tenant, userID)
		return err
	})
	return annotate(err, "forget connection %q", connectionID)
}

// SetIdle marks a connection and recomputes its user's idleness.
func (s presenceStore) SetIdle(ctx context.Context, tenant string, c chat.Connection, idle bool) (nowIdle, changed bool, err error) {
	if err := chat.CheckIDs(tenant, c.ID, c.UserID); err != nil {
		return false, false, err
	}
	err = s.write(ctx, func(t tx) error {
		if err := lockUsers(ctx, t, tenant, c.UserID); err != nil {
			return err
		}
		found, err := t.exec(ctx, `UPDATE connections SET idle = $4 WHERE tenant = $1 AND id = $2 AND user_id = $3`,
			tenant, c.ID, c.UserID, idle)
		if err != nil {
			return err
		}
		if found == 0 {
			return chat.ErrNotFound
		}
		nowIdle, changed, err = refreshIdle(ctx, t, tenant, c.UserID)
		return err
	})
	return nowIdle, changed, annotate(err, "mark connection %q of user %q", c.ID, c.UserID)
}

// RefreshIdle recomputes a user's idleness.
func (s presenceStore) RefreshIdle(ctx context.Context, tenant, userID string) (nowIdle, changed bool, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return false, false, err
	}
	err = s.write(ctx, func(t tx) error {
		if err := lockUsers(ctx, t, tenant, userID); err != nil {
			return err
		}
		nowIdle, changed, err = refreshIdle(ctx, t, tenant, userID)
		return err
	})
	return nowIdle, changed, annotate(err, "refresh the idleness of user %q", userID)
}

// refreshIdle turns the locked user's idleness over where an active connection contradicts it or none supports it.
func refreshIdle(ctx context.Context, t tx, tenant, userID string) (nowIdle, changed bool, err error) {
	turned, err := t.exec(ctx, `
		UPDATE users SET idle = NOT idle WHERE tenant = $1 AND id = $2
		AND EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2)
		AND idle = EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2 AND NOT idle)`,
		tenant, userID)
	if err != nil {
		return false, false, err
	}
	if turned > 0 {
		owe(t, tenant, chat.EffectPresence, "", userID)
	}
	err = get(ctx, t, into{&nowIdle}, `SELECT idle FROM users WHERE tenant = $1 AND id = $2`, tenant, userID)
	return nowIdle, turned > 0, err
}

// SweepOffline turns users offline whose last connection went before the given time and returns them.
func (s presenceStore) SweepOffline(ctx context.Context, tenant string, before time.Time) (users []chat.User, err error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	err = s.write(ctx, func(t tx) error {
		gone, err := collect(ctx, t, scanString, `
			SELECT id FROM users WHERE tenant = $1 AND gone_at < $2 ORDER BY gone_at LIMIT $3 {skip}`, tenant, before, chat.MaxListed)
		if err != nil || len(gone) == 0 {
			return err
		}
		users, err = collect(ctx, t, scanUser, `
			UPDATE users SET online = false, idle = false, gone_at = NULL WHERE tenant = $1 AND id {any $2}
			RETURNING id, name, provider`, tenant, gone)
		for _, u := range users {
			owe(t, tenant, chat.EffectPresence, "", u.ID)
		}
		return err
	})
	if err != nil {
		users = nil
	}
	return users, annotate(err, "sweep users offline")
}

func scanUser(row rows) (u chat.User, err error) { return u, row.Scan(&u.ID, &u.Name, &u.Provider) }

// Connections returns the live connections of a user.
func (s presenceStore) Connections(ctx context.Context, tenant, userID string) ([]chat.Connection, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s, func(row rows) (c chat.Connection, err error) {
		return c, row.Scan(&c.ID, &c.UserID, &c.Ended)
	}, `SELECT id, user_id, ended FROM connections WHERE tenant = $1 AND user_id = $2 ORDER BY id`, tenant, userID)
	return list, annotate(err, "list the connections of user %q", userID)
}

// ClaimConnections returns connections that nobody has claimed since the given time and claims them.
func (s presenceStore) ClaimConnections(ctx context.Context, tenant string, before time.Time, limit int) (list []chat.Connection, err error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	err = s.write(ctx, func(t tx) error {
		due, err := collect(ctx, t, scanString, `
			SELECT id FROM connections WHERE tenant = $1 AND claimed_at < $2 ORDER BY claimed_at LIMIT $3 {skip}`,
			tenant, before, max(0, min(limit, chat.MaxListed)))
		if err != nil || len(due) == 0 {
			return err
		}
		list, err = collect(ctx, t, scanConnection,
			`UPDATE connections SET claimed_at = $3 WHERE tenant = $1 AND id {any $2} RETURNING id, user_id`, tenant, due, time.Now())
		return err
	})
	if err != nil {
		list = nil
	}
	return list, annotate(err, "claim connections")
}

func scanConnection(row rows) (c chat.Connection, err error) { return c, row.Scan(&c.ID, &c.UserID) }

// Online returns who is online, by name.
func (s presenceStore) Online(ctx context.Context, tenant string) ([]chat.Presence, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s, scanPresence,
		`SELECT id, name, provider, idle FROM users WHERE tenant = $1 AND {true online} ORDER BY name, id LIMIT $2`,
		tenant, chat.MaxOnline)
	return list, annotate(err, "list who is online")
}

// PresenceOf returns how a user is now, or chat.ErrNotFound.
func (s presenceStore) PresenceOf(ctx context.Context, tenant, userID string) (p chat.Presence, online bool, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return p, false, err
	}
	err = find(ctx, s, into{&p.ID, &p.Name, &p.Provider, &p.Idle, &online},
		`SELECT id, name, provider, idle, online FROM users WHERE tenant = $1 AND id = $2`, tenant, userID)
	return p, online, annotate(err, "load the presence of user %q", userID)
}

func scanPresence(row rows) (p chat.Presence, err error) {
	return p, row.Scan(&p.ID, &p.Name, &p.Provider, &p.Idle)
}
