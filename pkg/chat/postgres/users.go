package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// SaveUser inserts u or replaces its name and provider.
func (s *Store) SaveUser(ctx context.Context, tenant string, u chat.User) error {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(u)); err != nil {
		return err
	}
	_, err := s.pool.Exec(ctx, `
		INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, id) DO UPDATE SET name = $3, provider = $4 WHERE users.name <> $3 OR users.provider <> $4`,
		tenant, u.ID, u.Name, u.Provider)
	return annotate(err, "save user %q", u.ID)
}

// User returns the user, or chat.ErrNotFound.
func (s *Store) User(ctx context.Context, tenant, id string) (chat.User, error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return chat.User{}, err
	}
	rows, _ := s.pool.Query(ctx, `SELECT id, name, provider FROM users WHERE tenant = $1 AND id = $2`, tenant, id) // rows carry the error
	u, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[chat.User])
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	return u, annotate(err, "load user %q", id)
}

// AddUsers inserts those users who are not known.
func (s *Store) AddUsers(ctx context.Context, tenant string, users ...chat.User) error {
	if err := chat.CheckUsers(tenant, users); err != nil {
		return err
	}
	// In one order, so that two who add the same users do not wait for each other.
	sorted := slices.SortedFunc(slices.Values(users), func(a, b chat.User) int { return cmp.Compare(a.ID, b.ID) })
	var ids, names, providers []string
	for _, u := range sorted {
		ids, names, providers = append(ids, u.ID), append(names, u.Name), append(providers, u.Provider)
	}
	_, err := s.pool.Exec(ctx, `
		INSERT INTO users (tenant, id, name, provider)
		SELECT $1, id, name, provider FROM unnest($2::text[], $3::text[], $4::text[]) AS given (id, name, provider)
		ON CONFLICT (tenant, id) DO NOTHING`, tenant, ids, names, providers)
	return annotate(err, "add %d users", len(users))
}

// EnterChat notes that a user speaks the chat protocol and returns the user's role.
func (s *Store) EnterChat(ctx context.Context, tenant, userID string) (role chat.Role, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return role, err
	}
	var known bool
	var name string
	var permissions *string
	err = s.pool.QueryRow(ctx, `
		SELECT chat, coalesce(role, 'user.normal'), permissions
		FROM users LEFT JOIN roles ON roles.tenant = users.tenant AND roles.name = coalesce(role, 'user.normal')
		WHERE users.tenant = $1 AND id = $2`, tenant, userID).Scan(&known, &name, &permissions)
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	if err == nil && !known {
		_, err = s.pool.Exec(ctx, `UPDATE users SET chat = true, removed = false WHERE tenant = $1 AND id = $2`, tenant, userID)
	}
	if err != nil {
		return role, annotate(err, "let user %q into the chat", userID)
	}
	return chat.StoredRole(name, permissions), nil
}

// WithChatUsers returns those of the rooms in which somebody who is online speaks the chat protocol.
func (s *Store) WithChatUsers(ctx context.Context, tenant string, roomIDs []string) ([]string, error) {
	if err := chat.CheckIDs(append([]string{tenant}, roomIDs...)...); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.pool, pgx.RowTo[string], `
		SELECT id FROM unnest($2::text[]) AS given (id) WHERE EXISTS (
			SELECT 1 FROM members JOIN users ON users.tenant = members.tenant AND users.id = user_id
			WHERE members.tenant = $1 AND room_id = given.id AND chat AND online)`, tenant, roomIDs)
	return ids, annotate(err, "find rooms with chat users")
}

// SignOut notes that the user has signed out now.
func (s *Store) SignOut(ctx context.Context, tenant, id string) error {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, `UPDATE users SET signed_out_at = $3 WHERE tenant = $1 AND id = $2`, tenant, id, time.Now())
	if err == nil && tag.RowsAffected() == 0 {
		err = chat.ErrNotFound
	}
	return annotate(err, "sign out user %q", id)
}

// SignedOut says when the user last signed out.
func (s *Store) SignedOut(ctx context.Context, tenant, id string) (at time.Time, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return at, err
	}
	var last *time.Time
	err = s.pool.QueryRow(ctx, `SELECT signed_out_at FROM users WHERE tenant = $1 AND id = $2`, tenant, id).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	if last != nil {
		at = last.UTC()
	}
	return at, annotate(err, "load when user %q signed out", id)
}

// lockUsers keeps other transactions from changing what depends on these different users, who is online where and
// in which rooms. chat.ErrNotFound unless every id is a user's.
func lockUsers(ctx context.Context, tx pgx.Tx, tenant string, ids ...string) error {
	known, err := collect(ctx, tx, pgx.RowTo[string],
		`SELECT id FROM users WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE`, tenant, ids)
	if err == nil && len(known) < len(ids) {
		err = annotate(chat.ErrNotFound, "users %q", ids)
	}
	return err
}

// Block keeps other from starting or continuing a direct room with by.
func (s *Store) Block(ctx context.Context, tenant, by, other string) error {
	if err := checkPair(tenant, by, other); err != nil {
		return err
	}
	err := s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, by, other); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO blocks (tenant, by_id, other_id, blocked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			tenant, by, other, time.Now())
		if err != nil {
			return err
		}
		var blocked int
		err = tx.QueryRow(ctx, `SELECT count(*) FROM blocks WHERE tenant = $1 AND by_id = $2`, tenant, by).Scan(&blocked)
		if err == nil && blocked > chat.MaxBlocked {
			err = chat.ErrLimit
		}
		return err
	})
	return annotate(err, "block user %q for %q", other, by)
}

// Unblock ends what Block did.
func (s *Store) Unblock(ctx context.Context, tenant, by, other string) error {
	if err := checkPair(tenant, by, other); err != nil {
		return err
	}
	err := s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, by, other); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM blocks WHERE tenant = $1 AND by_id = $2 AND other_id = $3`, tenant, by, other)
		return err
	})
	return annotate(err, "unblock user %q for %q", other, by)
}

// Blocked returns the ids that a user has blocked.
func (s *Store) Blocked(ctx context.Context, tenant, by string) ([]string, error) {
	if err := chat.CheckIDs(tenant, by); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.pool, pgx.RowTo[string],
		`SELECT other_id FROM blocks WHERE tenant = $1 AND by_id = $2 ORDER BY other_id`, tenant, by)
	return ids, annotate(err, "list whom user %q has blocked", by)
}

// BlockedBy returns those of the users who have blocked userID.
func (s *Store) BlockedBy(ctx context.Context, tenant, userID string, ids []string) ([]string, error) {
	if err := chat.CheckIDs(append([]string{tenant, userID}, ids...)...); err != nil {
		return nil, err
	}
	by, err := collect(ctx, s.pool, pgx.RowTo[string],
		`SELECT by_id FROM blocks WHERE tenant = $1 AND other_id = $2 AND by_id = ANY($3) ORDER BY by_id`, tenant, userID, ids)
	return by, annotate(err, "list who has blocked user %q", userID)
}

// checkPair wants two users, not one twice.
func checkPair(tenant, one, other string) error {
	if err := chat.CheckIDs(tenant, one, other); err != nil {
		return err
	}
	if one == other {
		return annotate(chat.ErrInvalid, "user %q with oneself", one)
	}
	return nil
}

// Connect records a live connection and reports whether its user has come online by it.
func (s *Store) Connect(ctx context.Context, tenant string, c chat.Connection) (cameOnline bool, err error) {
	if err := chat.CheckIDs(tenant, c.ID, c.UserID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, c.UserID); err != nil {
			return err
		}
		var owner string
		err := tx.QueryRow(ctx, `
			INSERT INTO connections (tenant, id, user_id, claimed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, id) DO UPDATE SET user_id = connections.user_id RETURNING user_id`, // changes nothing, but returns the row
			tenant, c.ID, c.UserID, time.Now()).Scan(&owner)
		if err != nil {
			return err
		}
		if owner != c.UserID {
			return chat.ErrExists
		}
		tag, err := tx.Exec(ctx, `UPDATE users SET online = true WHERE tenant = $1 AND id = $2 AND NOT online`, tenant, c.UserID)
		if err != nil {
			return err
		}
		cameOnline = tag.RowsAffected() > 0
		_, err = tx.Exec(ctx, `UPDATE users SET gone_at = NULL WHERE tenant = $1 AND id = $2 AND gone_at IS NOT NULL`,
			tenant, c.UserID)
		return err
	})
	return cameOnline && err == nil, annotate(err, "record connection %q of user %q", c.ID, c.UserID)
}

// Disconnect forgets a connection.
func (s *Store) Disconnect(ctx context.Context, tenant, connectionID string) error {
	if err := chat.CheckIDs(tenant, connectionID); err != nil {
		return err
	}
	err := s.write(ctx, func(tx pgx.Tx) error {
		var userID string
		err := tx.QueryRow(ctx, `
			SELECT u.id FROM connections c JOIN users u ON u.tenant = c.tenant AND u.id = c.user_id
			WHERE c.tenant = $1 AND c.id = $2 FOR NO KEY UPDATE OF u`,
			tenant, connectionID).Scan(&userID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM connections WHERE tenant = $1 AND id = $2`, tenant, connectionID)
		if err != nil || tag.RowsAffected() == 0 { // forgotten while we waited
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE users SET gone_at = $3 WHERE tenant = $1 AND id = $2
			AND NOT EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2)`,
			tenant, userID, time.Now())
		return err
	})
	return annotate(err, "forget connection %q", connectionID)
}

// SetIdle marks a connection and recomputes its user's idleness.
func (s *Store) SetIdle(ctx context.Context, tenant string, c chat.Connection, idle bool) (nowIdle, changed bool, err error) {
	if err := chat.CheckIDs(tenant, c.ID, c.UserID); err != nil {
		return false, false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, c.UserID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE connections SET idle = $4 WHERE tenant = $1 AND id = $2 AND user_id = $3`,
			tenant, c.ID, c.UserID, idle)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return chat.ErrNotFound
		}
		nowIdle, changed, err = refreshIdle(ctx, tx, tenant, c.UserID)
		return err
	})
	return nowIdle, changed, annotate(err, "mark connection %q of user %q", c.ID, c.UserID)
}

// RefreshIdle recomputes a user's idleness.
func (s *Store) RefreshIdle(ctx context.Context, tenant, userID string) (nowIdle, changed bool, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return false, false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, userID); err != nil {
			return err
		}
		nowIdle, changed, err = refreshIdle(ctx, tx, tenant, userID)
		return err
	})
	return nowIdle, changed, annotate(err, "refresh the idleness of user %q", userID)
}

// refreshIdle turns the locked user's idleness over where an active connection contradicts it or none supports it.
func refreshIdle(ctx context.Context, tx pgx.Tx, tenant, userID string) (nowIdle, changed bool, err error) {
	tag, err := tx.Exec(ctx, `
		UPDATE users SET idle = NOT idle WHERE tenant = $1 AND id = $2
		AND EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2)
		AND idle = EXISTS (SELECT 1 FROM connections WHERE tenant = $1 AND user_id = $2 AND NOT idle)`,
		tenant, userID)
	if err != nil {
		return false, false, err
	}
	err = tx.QueryRow(ctx, `SELECT idle FROM users WHERE tenant = $1 AND id = $2`, tenant, userID).Scan(&nowIdle)
	return nowIdle, tag.RowsAffected() > 0, err
}

// SweepOffline turns users offline whose last connection went before the given time and returns them.
func (s *Store) SweepOffline(ctx context.Context, tenant string, before time.Time) ([]chat.User, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	users, err := collect(ctx, s.pool, pgx.RowToStructByPos[chat.User], `
		WITH gone AS (
			SELECT id FROM users WHERE tenant = $1 AND gone_at < $2
			ORDER BY gone_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
		UPDATE users SET online = false, idle = false, gone_at = NULL
		FROM gone WHERE users.tenant = $1 AND users.id = gone.id
		RETURNING users.id, name, provider`,
		tenant, before, chat.MaxListed)
	return users, annotate(err, "sweep users offline")
}

// Connections returns the live connections of a user.
func (s *Store) Connections(ctx context.Context, tenant, userID string) ([]chat.Connection, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.pool, pgx.RowToStructByPos[chat.Connection],
		`SELECT id, user_id FROM connections WHERE tenant = $1 AND user_id = $2 ORDER BY id`, tenant, userID)
	return list, annotate(err, "list the connections of user %q", userID)
}

// ClaimConnections returns connections that nobody has claimed since the given time and claims them.
func (s *Store) ClaimConnections(ctx context.Context, tenant string, before time.Time, limit int) ([]chat.Connection, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.pool, pgx.RowToStructByPos[chat.Connection], `
		WITH due AS (
			SELECT id FROM connections WHERE tenant = $1 AND claimed_at < $2
			ORDER BY claimed_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
		UPDATE connections SET claimed_at = $4
		FROM due WHERE connections.tenant = $1 AND connections.id = due.id
		RETURNING connections.id, user_id`,
		tenant, before, max(0, min(limit, chat.MaxListed)), time.Now())
	return list, annotate(err, "claim connections")
}

// Online returns who is online, by name.
func (s *Store) Online(ctx context.Context, tenant string) ([]chat.Presence, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.pool, pgx.RowToStructByPos[chat.Presence],
		`SELECT id, name, provider, idle FROM users WHERE tenant = $1 AND online ORDER BY name, id LIMIT $2`,
		tenant, chat.MaxOnline)
	return list, annotate(err, "list who is online")
}
