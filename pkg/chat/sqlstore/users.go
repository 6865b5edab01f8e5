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

// SaveUser inserts u or replaces its name and provider.
func (s userStore) SaveUser(ctx context.Context, tenant string, u chat.User) error {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(u)); err != nil {
		return err
	}
	_, err := s.exec(ctx, `
		INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, id) DO UPDATE SET name = $3, provider = $4 WHERE users.name <> $3 OR users.provider <> $4`,
		tenant, u.ID, u.Name, u.Provider)
	return annotate(err, "save user %q", u.ID)
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
	changed, err := s.exec(ctx, `UPDATE users SET signed_out_at = $3 WHERE tenant = $1 AND id = $2`, tenant, id, time.Now())
	if err == nil && changed == 0 {
		err = chat.ErrNotFound
	}
	return annotate(err, "sign out user %q", id)
}

// SignedOut says when the user last signed out.
func (s userStore) SignedOut(ctx context.Context, tenant, id string) (at time.Time, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return at, err
	}
	var last *time.Time
	err = find(ctx, s, into{&last}, `SELECT signed_out_at FROM users WHERE tenant = $1 AND id = $2`, tenant, id)
	if last != nil {
		at = *last
	}
	return at, annotate(err, "load when user %q signed out", id)
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
		t.send(`INSERT INTO blocks (tenant, by_id, other_id, blocked_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			tenant, by, other, time.Now())
		var blocked int
		err := get(ctx, t, into{&blocked}, `SELECT count(*) FROM blocks WHERE tenant = $1 AND by_id = $2`, tenant, by)
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
		t.send(`DELETE FROM blocks WHERE tenant = $1 AND by_id = $2 AND other_id = $3`, tenant, by, other)
		return nil
	})
	return annotate(err, "unblock user %q for %q", other, by)
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
