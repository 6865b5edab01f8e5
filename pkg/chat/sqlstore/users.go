package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// userStore is chat.Users.
type userStore struct{ driver }

// SaveUser inserts u or replaces its name and provider, which those are owed to be told of who see u online.
func (s userStore) SaveUser(ctx context.Context, tenant string, u chat.User) error {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(u)); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		changed, err := t.exec(ctx, `
			INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, id) DO UPDATE SET name = $3, provider = $4 WHERE users.name <> $3 OR users.provider <> $4`,
			tenant, u.ID, u.Name, u.Provider)
		if err != nil || changed == 0 {
			return err
		}
		nameChanged(t, tenant, u.ID)
		return nil
	})
	return annotate(err, "save user %q", u.ID)
}

// nameChanged owes telling what a user is called now, if the user is online.
func nameChanged(t tx, tenant, userID string) {
	t.send(`
		INSERT INTO effects (tenant, kind, room_id, user_id, owed_at, due_at)
		SELECT tenant, $3, '', id, {now}, {now} FROM users WHERE tenant = $1 AND id = $2 AND {true online} `+oweAgain,
		tenant, userID, chat.EffectPresence)
}

// User returns the user, or chat.ErrNotFound.
func (s userStore) User(ctx context.Context, tenant, id string) (u chat.User, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return u, err
	}
	err = find(ctx, s, into{&u.ID, &u.Name, &u.Provider}, `SELECT id, name, provider FROM users WHERE tenant = $1 AND id = $2`, tenant, id)
	return u, annotate(err, "load user %q", id)
}

// AddUsers inserts those users who are not known.
func (s userStore) AddUsers(ctx context.Context, tenant string, users ...chat.User) error {
	if err := chat.CheckUsers(tenant, users); err != nil {
		return err
	}
	// In one order, so that two who add the same users do not wait for each other.
	sorted := slices.SortedFunc(slices.Values(users), func(a, b chat.User) int { return cmp.Compare(a.ID, b.ID) })
	var ids, names, providers []string
	for _, u := range sorted {
		ids, names, providers = append(ids, u.ID), append(names, u.Name), append(providers, u.Provider)
	}
	table, args := s.given(2, column{"id", "text", ids}, column{"name", "text", names}, column{"provider", "text", providers})
	_, err := s.exec(ctx, `
		INSERT INTO users (tenant, id, name, provider)
		SELECT $1, id, name, provider FROM `+table+` WHERE true
		ON CONFLICT (tenant, id) DO NOTHING`, append([]any{tenant}, args...)...)
	return annotate(err, "add %d users", len(users))
}

// EnterChat notes that a user speaks the chat protocol and returns the user's role.
func (s userStore) EnterChat(ctx context.Context, tenant, userID string) (role chat.Role, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return role, err
	}
	var known bool
	var name string
	var permissions *string
	err = find(ctx, s, into{&known, &name, &permissions}, `
		SELECT chat, `+userRole+`, permissions
		FROM users u LEFT JOIN roles ON roles.tenant = u.tenant AND roles.name = `+userRole+`
		WHERE u.tenant = $1 AND id = $2`, tenant, userID)
	if err == nil && !known {
		_, err = s.exec(ctx, `UPDATE users SET chat = true, removed = false WHERE tenant = $1 AND id = $2`, tenant, userID)
	}
	if err != nil {
		return role, annotate(err, "let user %q into the chat", userID)
	}
	return chat.StoredRole(name, permissions), nil
}

// SignOut notes that the user has signed out now.
func (s userStore) SignOut(ctx context.Context, tenant, id string) error {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		changed, err := t.exec(ctx, `UPDATE users SET signed_out_at = $3 WHERE tenant = $1 AND id = $2`, tenant, id, time.Now())
		if err == nil && changed == 0 {
			err = chat.ErrNotFound
		}
		endConnections(t, tenant, id)
		return err
	})
	return annotate(err, "sign out user %q", id)
}

// endConnections owes the end of the connections that a locked user has by now, and of no later ones.
func endConnections(t tx, tenant, userID string) {
	t.send(`UPDATE connections SET ended = true WHERE tenant = $1 AND user_id = $2`, tenant, userID)
	owe(t, tenant, chat.EffectUser, "", userID)
}

// lockUsers keeps other transactions from changing what depends on these different users, who is online where and
// in which rooms. chat.ErrNotFound unless every id is a user's.
func lockUsers(ctx context.Context, t tx, tenant string, ids ...string) error {
	known, err := collect(ctx, t, scanString,
		`SELECT id FROM users WHERE tenant = $1 AND id {any $2} ORDER BY id {lock}`, tenant, ids)
	if err == nil && len(known) < len(ids) {
		err = annotate(chat.ErrNotFound, "users %q", ids)
	}
	return err
}

// Block keeps other from starting or continuing a direct room with by.
func (s userStore) Block(ctx context.Context, tenant, by, other string) error {
	if err := checkPair(tenant, by, other); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		if err := lockUsers(ctx, t, tenant, by, other); err != nil {
			return err
		}
		isNew, err := t.exec(ctx, `INSERT INTO blocks (tenant, by_id, other_id, blocked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			tenant, by, other, time.Now())
		if err != nil || isNew == 0 {
			return err
		}
		owe(t, tenant, chat.EffectBlocked, "", by)
		if err := pairChanged(ctx, t, tenant, by, other); err != nil {
			return err
		}
		var blocked int
		err = get(ctx, t, into{&blocked}, `SELECT count(*) FROM blocks WHERE tenant = $1 AND by_id = $2`, tenant, by)
		if err == nil && blocked > chat.MaxBlocked {
			err = chat.ErrLimit
		}
		return err
	})
	return annotate(err, "block user %q for %q", other, by)
}

// Unblock ends what Block did.
func (s userStore) Unblock(ctx context.Context, tenant, by, other string) error {
	if err := checkPair(tenant, by, other); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		if err := lockUsers(ctx, t, tenant, by, other); err != nil {
			return err
		}
		was, err := t.exec(ctx, `DELETE FROM blocks WHERE tenant = $1 AND by_id = $2 AND other_id = $3`, tenant, by, other)
		if err != nil || was == 0 {
			return err
		}
		owe(t, tenant, chat.EffectBlocked, "", by)
		return pairChanged(ctx, t, tenant, by, other)
	})
	return annotate(err, "unblock user %q for %q", other, by)
}

// pairChanged notes that two locked users may speak to each other, or no longer, in the direct room that they have or have
// not.
func pairChanged(ctx context.Context, t tx, tenant, one, other string) error {
	var roomID string
	err := get(ctx, t, into{&roomID}, `SELECT id FROM rooms WHERE tenant = $1 AND low_id = $2 AND high_id = $3`,
		tenant, min(one, other), max(one, other))
	if errors.Is(err, errNone) {
		return nil
	}
	for _, id := range []string{one, other} {
		revise(t, tenant, roomID, id)
		owe(t, tenant, chat.EffectMember, roomID, id)
	}
	return err
}

// revise notes that a locked user's list of rooms has changed in this one, of which the user is a member, or not.
func revise(t tx, tenant, roomID, userID string) {
	t.send(`UPDATE users SET list_revision = list_revision + 1 WHERE tenant = $1 AND id = $2`, tenant, userID)
	t.send(`
		UPDATE members SET revision = (SELECT list_revision FROM users WHERE tenant = $1 AND id = $3)
		WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, tenant, roomID, userID)
}

// Access returns what a user may.
func (s userStore) Access(ctx context.Context, tenant, userID string) (a chat.Access, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return a, err
	}
	there := false
	rooms, err := collect(ctx, s, func(row rows) (r chat.RoomAccess, err error) {
		there = true
		var signedOut *time.Time
		var userRole, memberRole string
		var userPermissions, memberPermissions *string
		var blocked bool
		err = row.Scan(&a.User.ID, &a.User.Name, &a.User.Provider, &userRole, &userPermissions, &a.Removed, &signedOut,
			&a.Connections, &r.RoomID, &r.State, &memberRole, &memberPermissions, &blocked)
		if signedOut != nil {
			a.SignedOut = *signedOut
		}
		a.Role = chat.StoredRole(userRole, userPermissions)
		r.MaySpeak = chat.MaySpeak(chat.StoredRole(memberRole, memberPermissions), blocked)
		return r, err
	}, `
		SELECT u.id, u.name, u.provider, `+userRole+`, ur.permissions, u.removed, u.signed_out_at,
			(SELECT count(*) FROM connections c WHERE c.tenant = u.tenant AND c.user_id = u.id),
			coalesce(m.room_id, ''), coalesce(m.state, ''), `+memberRole+`, mr.permissions, coalesce(`+isBlocked+`, false)
		FROM users u
		LEFT JOIN roles ur ON ur.tenant = u.tenant AND ur.name = `+userRole+`
		LEFT JOIN members m ON m.tenant = u.tenant AND m.user_id = u.id
		LEFT JOIN rooms r ON r.tenant = m.tenant AND r.id = m.room_id
		LEFT JOIN roles mr ON mr.tenant = m.tenant AND mr.name = `+memberRole+`
		WHERE u.tenant = $1 AND u.id = $2 ORDER BY m.joined_at, m.room_id`, tenant, userID)
	switch {
	case err == nil && !there:
		err = chat.ErrNotFound
	case err == nil && rooms[0].RoomID != "":
		a.Rooms = rooms
	}
	if err != nil {
		return chat.Access{}, annotate(err, "load what user %q may", userID)
	}
	return a, nil
}

// Blocked returns the ids that a user has blocked.
func (s userStore) Blocked(ctx context.Context, tenant, by string) ([]string, error) {
	if err := chat.CheckIDs(tenant, by); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s, scanString, `SELECT other_id FROM blocks WHERE tenant = $1 AND by_id = $2 ORDER BY other_id`, tenant, by)
	return ids, annotate(err, "list whom user %q has blocked", by)
}

// BlockedBy returns those of the users who have blocked userID.
func (s userStore) BlockedBy(ctx context.Context, tenant, userID string, ids []string) ([]string, error) {
	if err := chat.CheckIDs(append([]string{tenant, userID}, ids...)...); err != nil {
		return nil, err
	}
	by, err := collect(ctx, s, scanString,
		`SELECT by_id FROM blocks WHERE tenant = $1 AND other_id = $2 AND by_id {any $3} ORDER BY by_id`, tenant, userID, ids)
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
