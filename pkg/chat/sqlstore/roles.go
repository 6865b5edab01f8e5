package sqlstore

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// roleStore is of chat.Admin what is about roles.
type roleStore struct{ driver }

// Roles returns all roles, by name.
func (s roleStore) Roles(ctx context.Context, tenant string) ([]chat.Role, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	stored, err := collect(ctx, s, scanRole, `SELECT name, permissions FROM roles WHERE tenant = $1`, tenant)
	return chat.WithBuiltIn(stored), annotate(err, "list the roles")
}

func scanRole(row rows) (chat.Role, error) {
	var name, permissions string
	err := row.Scan(&name, &permissions)
	return chat.StoredRole(name, &permissions), err
}

// lockRoles keeps what roles allow as it is, and everybody else from getting one. It comes before all other locks.
func lockRoles(t tx, tenant string) { t.lockName("roles", tenant, "") }

// getsRole lets somebody get a role, be it by becoming a member, while no role changes: whoever changes one has to see all who
// have it. It comes before all other locks.
func getsRole(t tx, tenant string) { t.shareName("roles", tenant, "") }

// storedRole returns the tag of a role that is stored, or "".
func storedRole(ctx context.Context, q reader, tenant, name string) (tag string, err error) {
	roles, err := collect(ctx, q, scanRole, `SELECT name, permissions FROM roles WHERE tenant = $1 AND name = $2`, tenant, name)
	if err != nil || len(roles) == 0 {
		return "", err
	}
	return roles[0].Tag(), nil
}

// PutRole stores a role.
func (s roleStore) PutRole(ctx context.Context, tenant string, r chat.Role, c chat.Condition) (created bool, err error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckRole(r)); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		lockRoles(t, tenant)
		tag, err := storedRole(ctx, t, tenant, r.Name)
		if err != nil {
			return err
		}
		if err := c.Check(tag); err != nil {
			return err
		}
		created = tag == ""
		t.send(`
			INSERT INTO roles (tenant, name, permissions) VALUES ($1, $2, $3) ON CONFLICT (tenant, name) DO UPDATE SET permissions = $3`,
			tenant, r.Name, r.Stored())
		if err := roleChanged(ctx, t, tenant, r.Name); err != nil {
			return err
		}
		var roles int
		err = get(ctx, t, into{&roles}, `SELECT count(*) FROM roles WHERE tenant = $1`, tenant)
		if err == nil && roles > chat.MaxRoles {
			err = chat.ErrLimit
		}
		return err
	})
	return created && err == nil, annotate(err, "store role %q", r.Name)
}

// DeleteRole deletes a stored role.
func (s roleStore) DeleteRole(ctx context.Context, tenant, name string, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, name); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		lockRoles(t, tenant)
		tag, err := storedRole(ctx, t, tenant, name)
		if err != nil {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		t.send(`DELETE FROM roles WHERE tenant = $1 AND name = $2`, tenant, name)
		return roleChanged(ctx, t, tenant, name)
	})
	return annotate(err, "delete role %q", name)
}

// roleChanged notes for all members who have a role that they may do other things now. Effects are owed for those who are
// online; who is not learns it on coming.
func roleChanged(ctx context.Context, t tx, tenant, name string) error {
	const having = `FROM members m JOIN rooms r ON r.tenant = m.tenant AND r.id = m.room_id WHERE m.tenant = $1 AND ` + memberRole + ` = $2`
	users, err := collect(ctx, t, scanString, `
		SELECT id FROM users WHERE tenant = $1 AND id IN (SELECT m.user_id `+having+`) ORDER BY id {lock}`, tenant, name)
	if err != nil || len(users) == 0 {
		return err
	}
	t.send(`UPDATE users SET list_revision = list_revision + 1 WHERE tenant = $1 AND id {any $2}`, tenant, users)
	t.send(`
		UPDATE members SET revision = (SELECT list_revision FROM users WHERE users.tenant = members.tenant AND users.id = members.user_id)
		FROM (SELECT m.room_id AS with_room, m.user_id AS with_user `+having+`) AS concerned
		WHERE tenant = $1 AND room_id = with_room AND user_id = with_user AND user_id {any $3}`, tenant, name, users)
	t.send(`
		INSERT INTO effects (tenant, kind, room_id, user_id, owed_at, due_at)
		SELECT m.tenant, $3, m.room_id, m.user_id, {now}, {now} `+having+`
		AND m.user_id IN (SELECT id FROM users WHERE tenant = $1 AND online) AND m.user_id {any $4}
		`+oweAgain, tenant, name, chat.EffectMember, users)
	return nil
}

// checkThere returns chat.ErrNotFound for what has no tag, unless the condition says something about that.
func checkThere(tag string, c chat.Condition) error {
	if err := c.Check(tag); err != nil {
		return err
	}
	if tag == "" {
		return chat.ErrNotFound
	}
	return nil
}
