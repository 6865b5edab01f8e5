package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// SaveUser inserts u or replaces its name and provider.
func (s *Store) SaveUser(ctx context.Context, tenant string, u chat.User) error {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(u)); err != nil {
		return err
	}
	_, err := s.writer.ExecContext(ctx, `
		INSERT INTO users (tenant, id, name, provider) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT DO UPDATE SET name = ?3, provider = ?4 WHERE name <> ?3 OR provider <> ?4`,
		tenant, u.ID, u.Name, u.Provider)
	return annotate(err, "save user %q", u.ID)
}

// User returns the user, or chat.ErrNotFound.
func (s *Store) User(ctx context.Context, tenant, id string) (chat.User, error) {
	u := chat.User{ID: id}
	if err := chat.CheckIDs(tenant, id); err != nil {
		return u, err
	}
	err := s.reader.QueryRowContext(ctx, `SELECT name, provider FROM users WHERE tenant = ?1 AND id = ?2`, tenant, id).
		Scan(&u.Name, &u.Provider)
	if errors.Is(err, sql.ErrNoRows) {
		err = chat.ErrNotFound
	}
	return u, annotate(err, "load user %q", id)
}

// AddUsers inserts those users who are not known.
func (s *Store) AddUsers(ctx context.Context, tenant string, users ...chat.User) error {
	if err := chat.CheckUsers(tenant, users); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, u := range users {
			_, err := tx.ExecContext(ctx, `INSERT INTO users (tenant, id, name, provider) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`,
				tenant, u.ID, u.Name, u.Provider)
			if err != nil {
				return err
			}
		}
		return nil
	})
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
	err = s.reader.QueryRowContext(ctx, `
		SELECT chat, coalesce(role, 'user.normal'), permissions
		FROM users LEFT JOIN roles ON roles.tenant = users.tenant AND roles.name = coalesce(role, 'user.normal')
		WHERE users.tenant = ?1 AND id = ?2`, tenant, userID).Scan(&known, &name, &permissions)
	if errors.Is(err, sql.ErrNoRows) {
		err = chat.ErrNotFound
	}
	if err == nil && !known {
		_, err = s.writer.ExecContext(ctx, `UPDATE users SET chat = 1, removed = 0 WHERE tenant = ?1 AND id = ?2`, tenant, userID)
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
	given, err := json.Marshal(roomIDs)
	if err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.reader, scanString, `
		SELECT value FROM json_each(?2) WHERE EXISTS (
			SELECT 1 FROM members JOIN users ON users.tenant = members.tenant AND users.id = user_id
			WHERE members.tenant = ?1 AND room_id = value AND chat AND online)`, tenant, string(given))
	return ids, annotate(err, "find rooms with chat users")
}

// SignOut notes that the user has signed out now.
func (s *Store) SignOut(ctx context.Context, tenant, id string) error {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		changed, err := change(ctx, tx, `UPDATE users SET signed_out_at = ?3 WHERE tenant = ?1 AND id = ?2`,
			tenant, id, time.Now().UnixMicro())
		if err == nil && changed == 0 {
			err = chat.ErrNotFound
		}
		return err
	})
	return annotate(err, "sign out user %q", id)
}

// SignedOut says when the user last signed out.
func (s *Store) SignedOut(ctx context.Context, tenant, id string) (at time.Time, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return at, err
	}
	var micro *int64
	err = s.reader.QueryRowContext(ctx, `SELECT signed_out_at FROM users WHERE tenant = ?1 AND id = ?2`, tenant, id).Scan(&micro)
	if errors.Is(err, sql.ErrNoRows) {
		err = chat.ErrNotFound
	}
	if micro != nil {
		at = time.UnixMicro(*micro).UTC()
	}
	return at, annotate(err, "load when user %q signed out", id)
}

// needUsers returns chat.ErrNotFound unless every id is a user's.
func needUsers(ctx context.Context, tx *sql.Tx, tenant string, ids ...string) error {
	for _, id := range ids {
		var known bool
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE tenant = ?1 AND id = ?2)`, tenant, id).
			Scan(&known)
		if err != nil {
			return err
		}
		if !known {
			return annotate(chat.ErrNotFound, "user %q", id)
		}
	}
	return nil
}

// Block keeps other from starting or continuing a direct room with by.
func (s *Store) Block(ctx context.Context, tenant, by, other string) error {
	if err := checkPair(tenant, by, other); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := needUsers(ctx, tx, tenant, by, other); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO blocks (tenant, by_id, other_id, blocked_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`,
			tenant, by, other, time.Now().UnixMicro())
		if err != nil {
			return err
		}
		var blocked int
		err = tx.QueryRowContext(ctx, `SELECT count(*) FROM blocks WHERE tenant = ?1 AND by_id = ?2`, tenant, by).Scan(&blocked)
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
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := needUsers(ctx, tx, tenant, by, other); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM blocks WHERE tenant = ?1 AND by_id = ?2 AND other_id = ?3`, tenant, by, other)
		return err
	})
	return annotate(err, "unblock user %q for %q", other, by)
}

// Blocked returns the ids that a user has blocked.
func (s *Store) Blocked(ctx context.Context, tenant, by string) ([]string, error) {
	if err := chat.CheckIDs(tenant, by); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.reader, scanString,
		`SELECT other_id FROM blocks WHERE tenant = ?1 AND by_id = ?2 ORDER BY other_id`, tenant, by)
	return ids, annotate(err, "list whom user %q has blocked", by)
}

// BlockedBy returns those of the users who have blocked userID.
func (s *Store) BlockedBy(ctx context.Context, tenant, userID string, ids []string) ([]string, error) {
	if err := chat.CheckIDs(append([]string{tenant, userID}, ids...)...); err != nil {
		return nil, err
	}
	given, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	by, err := collect(ctx, s.reader, scanString, `
		SELECT by_id FROM blocks WHERE tenant = ?1 AND other_id = ?2 AND by_id IN (SELECT value FROM json_each(?3)) ORDER BY by_id`,
		tenant, userID, string(given))
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
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := needUsers(ctx, tx, tenant, c.UserID); err != nil {
			return err
		}
		var owner string
		err := tx.QueryRowContext(ctx, `
			INSERT INTO connections (tenant, id, user_id, claimed_at) VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT DO UPDATE SET user_id = user_id RETURNING user_id`, // changes nothing, but returns the row
			tenant, c.ID, c.UserID, time.Now().UnixMicro()).Scan(&owner)
		if err != nil {
			return err
		}
		if owner != c.UserID {
			return chat.ErrExists
		}
		changed, err := change(ctx, tx, `UPDATE users SET online = 1 WHERE tenant = ?1 AND id = ?2 AND online = 0`, tenant, c.UserID)
		if err != nil {
			return err
		}
		cameOnline = changed > 0
		_, err = tx.ExecContext(ctx, `UPDATE users SET gone_at = NULL WHERE tenant = ?1 AND id = ?2 AND gone_at IS NOT NULL`,
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
	err := s.write(ctx, func(tx *sql.Tx) error {
		var userID string
		err := tx.QueryRowContext(ctx, `DELETE FROM connections WHERE tenant = ?1 AND id = ?2 RETURNING user_id`,
			tenant, connectionID).Scan(&userID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE users SET gone_at = ?3 WHERE tenant = ?1 AND id = ?2
			AND NOT EXISTS (SELECT 1 FROM connections WHERE tenant = ?1 AND user_id = ?2)`,
			tenant, userID, time.Now().UnixMicro())
		return err
	})
	return annotate(err, "forget connection %q", connectionID)
}

// SetIdle marks a connection and recomputes its user's idleness.
func (s *Store) SetIdle(ctx context.Context, tenant string, c chat.Connection, idle bool) (nowIdle, changed bool, err error) {
	if err := chat.CheckIDs(tenant, c.ID, c.UserID); err != nil {
		return false, false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		found, err := change(ctx, tx, `UPDATE connections SET idle = ?4 WHERE tenant = ?1 AND id = ?2 AND user_id = ?3`,
			tenant, c.ID, c.UserID, idle)
		if err != nil {
			return err
		}
		if found == 0 {
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
	err = s.write(ctx, func(tx *sql.Tx) error {
		nowIdle, changed, err = refreshIdle(ctx, tx, tenant, userID)
		return err
	})
	return nowIdle, changed, annotate(err, "refresh the idleness of user %q", userID)
}

// refreshIdle turns the user's idleness over where an active connection contradicts it or none supports it.
func refreshIdle(ctx context.Context, tx *sql.Tx, tenant, userID string) (nowIdle, changed bool, err error) {
	turned, err := change(ctx, tx, `
		UPDATE users SET idle = 1 - idle WHERE tenant = ?1 AND id = ?2
		AND EXISTS (SELECT 1 FROM connections WHERE tenant = ?1 AND user_id = ?2)
		AND idle = EXISTS (SELECT 1 FROM connections WHERE tenant = ?1 AND user_id = ?2 AND idle = 0)`,
		tenant, userID)
	if err != nil {
		return false, false, err
	}
	err = tx.QueryRowContext(ctx, `SELECT idle FROM users WHERE tenant = ?1 AND id = ?2`, tenant, userID).Scan(&nowIdle)
	if errors.Is(err, sql.ErrNoRows) {
		err = chat.ErrNotFound
	}
	return nowIdle, turned > 0, err
}

// SweepOffline turns users offline whose last connection went before the given time and returns them.
func (s *Store) SweepOffline(ctx context.Context, tenant string, before time.Time) ([]chat.User, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	users, err := collect(ctx, s.writer, scanUser, `
		UPDATE users SET online = 0, idle = 0, gone_at = NULL
		WHERE tenant = ?1 AND id IN (
			SELECT id FROM users WHERE tenant = ?1 AND gone_at < ?2 ORDER BY gone_at LIMIT ?3)
		RETURNING id, name, provider`,
		tenant, before.UnixMicro(), chat.MaxListed)
	return users, annotate(err, "sweep users offline")
}

func scanUser(rows *sql.Rows) (u chat.User, err error) {
	return u, rows.Scan(&u.ID, &u.Name, &u.Provider)
}

// Connections returns the live connections of a user.
func (s *Store) Connections(ctx context.Context, tenant, userID string) ([]chat.Connection, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.reader, scanConnection,
		`SELECT id, user_id FROM connections WHERE tenant = ?1 AND user_id = ?2 ORDER BY id`, tenant, userID)
	return list, annotate(err, "list the connections of user %q", userID)
}

// ClaimConnections returns connections that nobody has claimed since the given time and claims them.
func (s *Store) ClaimConnections(ctx context.Context, tenant string, before time.Time, limit int) ([]chat.Connection, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.writer, scanConnection, `
		UPDATE connections SET claimed_at = ?4
		WHERE tenant = ?1 AND id IN (
			SELECT id FROM connections WHERE tenant = ?1 AND claimed_at < ?2 ORDER BY claimed_at LIMIT ?3)
		RETURNING id, user_id`,
		tenant, before.UnixMicro(), max(0, min(limit, chat.MaxListed)), time.Now().UnixMicro())
	return list, annotate(err, "claim connections")
}

func scanConnection(rows *sql.Rows) (c chat.Connection, err error) {
	return c, rows.Scan(&c.ID, &c.UserID)
}

// Online returns who is online, by name.
func (s *Store) Online(ctx context.Context, tenant string) ([]chat.Presence, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.reader, scanPresence,
		`SELECT id, name, provider, idle FROM users WHERE tenant = ?1 AND online = 1 ORDER BY name, id LIMIT ?2`,
		tenant, chat.MaxOnline)
	return list, annotate(err, "list who is online")
}

func scanPresence(rows *sql.Rows) (p chat.Presence, err error) {
	return p, rows.Scan(&p.ID, &p.Name, &p.Provider, &p.Idle)
}
