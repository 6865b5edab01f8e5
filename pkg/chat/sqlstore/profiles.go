package sqlstore

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// profileStore is of chat.Admin what is about users.
type profileStore struct{ driver }

// Profile returns a user with the role, or chat.ErrNotFound.
func (s profileStore) Profile(ctx context.Context, tenant, id string) (chat.Profile, error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return chat.Profile{}, err
	}
	p, err := loadProfile(ctx, s, tenant, id)
	return p, annotate(err, "load the profile of user %q", id)
}

func loadProfile(ctx context.Context, q reader, tenant, id string) (p chat.Profile, err error) {
	return p, find(ctx, q, into{&p.User.ID, &p.User.Name, &p.User.Provider, &p.Role}, `
		SELECT id, name, provider, `+userRole+` FROM users u WHERE tenant = $1 AND id = $2 AND NOT removed`, tenant, id)
}

// profileToChange returns a user whom nobody else makes or changes until the transaction ends, with the tag, or the tag "".
func profileToChange(ctx context.Context, t tx, tenant, id string) (p chat.Profile, tag string, err error) {
	t.lockName("user", tenant, id)
	p, err = loadProfile(ctx, t, tenant, id)
	if errors.Is(err, chat.ErrNotFound) {
		return p, "", nil
	}
	return p, p.Tag(), err
}

// PutProfile stores a user's name and role.
func (s profileStore) PutProfile(ctx context.Context, tenant string, p chat.Profile, c chat.Condition) (created bool, err error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(p.User), chat.CheckRoleName(p.Role)); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		was, tag, err := profileToChange(ctx, t, tenant, p.User.ID)
		if err != nil {
			return err
		}
		stored, err := storedRole(ctx, t, tenant, p.Role)
		if err != nil {
			return err
		}
		if err := errors.Join(chat.CheckGiven(p.Role, "user", stored != ""), c.Check(tag)); err != nil {
			return err
		}
		created = tag == ""
		t.send(`
			INSERT INTO users (tenant, id, name, provider, role) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, id) DO UPDATE SET name = $3, role = $5, removed = false`,
			tenant, p.User.ID, p.User.Name, p.User.Provider, p.Role)
		if was.User.Name != p.User.Name {
			nameChanged(t, tenant, p.User.ID)
		}
		return nil
	})
	return created && err == nil, annotate(err, "store the profile of user %q", p.User.ID)
}

// RemoveProfile takes a user out of everything.
func (s profileStore) RemoveProfile(ctx context.Context, tenant, id string, c chat.Condition) (rooms []string, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return nil, err
	}
	err = s.write(ctx, func(t tx) error {
		_, tag, err := profileToChange(ctx, t, tenant, id)
		if err != nil {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		if err := lockUsers(ctx, t, tenant, id); err != nil {
			return err
		}
		t.send(`UPDATE users SET removed = true, role = NULL, chat = false WHERE tenant = $1 AND id = $2`, tenant, id)
		endConnections(t, tenant, id)
		// With the user locked, nobody puts the user into another.
		rooms, err = collect(ctx, t, scanString, `
			SELECT id FROM rooms WHERE tenant = $1 AND id IN (SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2)
			ORDER BY id {lock}`, tenant, id)
		for _, room := range rooms {
			if _, err := depart(ctx, t, tenant, room, id); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		rooms = nil
	}
	return rooms, annotate(err, "remove the profile of user %q", id)
}
