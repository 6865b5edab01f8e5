package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Roles returns all roles, by name.
func (s *Store) Roles(ctx context.Context, tenant string) ([]chat.Role, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	stored, err := collect(ctx, s.reader, scanRole, `SELECT name, permissions FROM roles WHERE tenant = ?1`, tenant)
	return chat.WithBuiltIn(stored), annotate(err, "list the roles")
}

func scanRole(rows *sql.Rows) (chat.Role, error) {
	var name, permissions string
	err := rows.Scan(&name, &permissions)
	return chat.StoredRole(name, &permissions), err
}

// storedRole returns a role that is stored, with its tag, or the tag "".
func storedRole(ctx context.Context, q querier, tenant, name string) (tag string, err error) {
	roles, err := collect(ctx, q, scanRole, `SELECT name, permissions FROM roles WHERE tenant = ?1 AND name = ?2`, tenant, name)
	if err != nil || len(roles) == 0 {
		return "", err
	}
	return roles[0].Tag(), nil
}

// PutRole stores a role.
func (s *Store) PutRole(ctx context.Context, tenant string, r chat.Role, c chat.Condition) (created bool, err error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckRole(r)); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		tag, err := storedRole(ctx, tx, tenant, r.Name)
		if err != nil {
			return err
		}
		if err := c.Check(tag); err != nil {
			return err
		}
		created = tag == ""
		_, err = tx.ExecContext(ctx, `
			INSERT INTO roles (tenant, name, permissions) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET permissions = ?3`,
			tenant, r.Name, r.Stored())
		if err != nil {
			return err
		}
		var roles int
		err = tx.QueryRowContext(ctx, `SELECT count(*) FROM roles WHERE tenant = ?1`, tenant).Scan(&roles)
		if err == nil && roles > chat.MaxRoles {
			err = chat.ErrLimit
		}
		return err
	})
	return created && err == nil, annotate(err, "store role %q", r.Name)
}

// DeleteRole deletes a stored role.
func (s *Store) DeleteRole(ctx context.Context, tenant, name string, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, name); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		tag, err := storedRole(ctx, tx, tenant, name)
		if err != nil {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM roles WHERE tenant = ?1 AND name = ?2`, tenant, name)
		return err
	})
	return annotate(err, "delete role %q", name)
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

// PutRoom creates a private room of nobody's, or gives a room its title.
func (s *Store) PutRoom(ctx context.Context, tenant string, r chat.Room, c chat.Condition) (room chat.Room, created bool, err error) {
	r.OwnerID, r.Kind = chat.ServiceUser, chat.KindPrivate
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckPutRoom(r)); err != nil {
		return room, false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		was, err := loadRoom(ctx, tx, tenant, r.ID)
		tag := ""
		switch {
		case err == nil:
			tag = was.Tag()
		case !errors.Is(err, chat.ErrNotFound):
			return err
		}
		if err := c.Check(tag); err != nil {
			return err
		}
		created = tag == ""
		if created {
			err = insertServiceRoom(ctx, tx, tenant, r)
		} else if was.Kind == chat.KindDirect {
			err = chat.ErrForbidden
		} else {
			_, err = tx.ExecContext(ctx, `UPDATE rooms SET title = ?3 WHERE tenant = ?1 AND id = ?2`, tenant, r.ID, r.Title)
		}
		if err != nil {
			return err
		}
		room, err = loadRoom(ctx, tx, tenant, r.ID)
		return err
	})
	return room, created && err == nil, annotate(err, "put room %q", r.ID)
}

// insertServiceRoom creates a room that is not there, or is deleted; then nothing of what it was stays.
func insertServiceRoom(ctx context.Context, tx *sql.Tx, tenant string, r chat.Room) error {
	for _, step := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO users (tenant, id, name, provider) VALUES (?1, ?2, 'Service', 'service') ON CONFLICT DO NOTHING`, []any{chat.ServiceUser}},
		{`DELETE FROM messages WHERE tenant = ?1 AND room_id = ?2`, []any{r.ID}},
		{`DELETE FROM messages WHERE tenant = ?1 AND substr(room_id, 1, length(?2)) = ?2`, []any{chat.TopicRoom(r.ID, "")}},
		{`DELETE FROM rooms WHERE tenant = ?1 AND substr(id, 1, length(?2)) = ?2`, []any{chat.TopicRoom(r.ID, "")}},
		{`DELETE FROM departures WHERE tenant = ?1 AND room_id = ?2`, []any{r.ID}},
		{`INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES (?1, ?2, ?3, 'private', ?4, ?5)
			ON CONFLICT (tenant, id) DO UPDATE SET title = ?3, kind = 'private', owner_id = ?4, created_at = ?5, last_seq = 0, deleted_at = NULL, deleted_by = NULL`,
			[]any{r.ID, r.Title, chat.ServiceUser, time.Now().UnixMicro()}},
	} {
		if _, err := tx.ExecContext(ctx, step.query, append([]any{tenant}, step.args...)...); err != nil {
			return err
		}
	}
	return nil
}

// RemoveRoom deletes a room that is not direct.
func (s *Store) RemoveRoom(ctx context.Context, tenant, roomID string, c chat.Condition) (was chat.Room, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return was, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		was, err = loadRoom(ctx, tx, tenant, roomID)
		if errors.Is(err, chat.ErrNotFound) {
			err = checkThere("", c)
		}
		if err != nil {
			return err
		}
		if err := c.Check(was.Tag()); err != nil {
			return err
		}
		if was.Kind == chat.KindDirect {
			return chat.ErrForbidden
		}
		_, err = tx.ExecContext(ctx, `UPDATE rooms SET deleted_at = ?3, deleted_by = ?4 WHERE tenant = ?1 AND id = ?2`,
			tenant, roomID, time.Now().UnixMicro(), chat.ServiceUser)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM members WHERE tenant = ?1 AND room_id = ?2`, tenant, roomID)
		return err
	})
	return was, annotate(err, "remove room %q", roomID)
}

// memberTag returns the tag of a membership in a room that is not direct, "" for none.
func memberTag(ctx context.Context, tx *sql.Tx, tenant, roomID, userID string) (string, error) {
	room, err := loadRoom(ctx, tx, tenant, roomID)
	if err != nil {
		return "", err
	}
	if room.Kind == chat.KindDirect {
		return "", chat.ErrForbidden
	}
	if m, in := room.Member(userID); in {
		return m.Tag(), nil
	}
	return "", nil
}

// PutMember makes a user a member with a role, or gives a member that role.
func (s *Store) PutMember(ctx context.Context, tenant, roomID, userID, role string, c chat.Condition) (added bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := needUsers(ctx, tx, tenant, userID); err != nil {
			return err
		}
		tag, err := memberTag(ctx, tx, tenant, roomID, userID)
		if err != nil {
			return err
		}
		stored, err := storedRole(ctx, tx, tenant, role)
		if err != nil {
			return err
		}
		if err := errors.Join(chat.CheckGiven(role, "room", stored != ""), c.Check(tag)); err != nil {
			return err
		}
		if added = tag == ""; added {
			if err := addMember(ctx, tx, tenant, roomID, userID, chat.StateJoined, chat.MaxMemberships); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE members SET role = ?4 WHERE tenant = ?1 AND room_id = ?2 AND user_id = ?3`, tenant, roomID, userID, role)
		return err
	})
	return added && err == nil, annotate(err, "put user %q into room %q", userID, roomID)
}

// RemoveMember ends a membership.
func (s *Store) RemoveMember(ctx context.Context, tenant, roomID, userID string, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		tag, err := memberTag(ctx, tx, tenant, roomID, userID)
		if err != nil {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		return depart(ctx, tx, tenant, roomID, userID)
	})
	return annotate(err, "remove user %q from room %q", userID, roomID)
}

// depart ends a membership that there is.
func depart(ctx context.Context, tx *sql.Tx, tenant, roomID, userID string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM members WHERE tenant = ?1 AND room_id = ?2 AND user_id = ?3`, tenant, roomID, userID)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO departures (tenant, room_id, user_id, left_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET left_at = excluded.left_at`,
		tenant, roomID, userID, time.Now().UnixMicro())
	return err
}

// Profile returns a user with the role, or chat.ErrNotFound.
func (s *Store) Profile(ctx context.Context, tenant, id string) (chat.Profile, error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return chat.Profile{}, err
	}
	p, err := loadProfile(ctx, s.reader, tenant, id)
	return p, annotate(err, "load the profile of user %q", id)
}

func loadProfile(ctx context.Context, q querier, tenant, id string) (chat.Profile, error) {
	list, err := collect(ctx, q, scanProfile, `
		SELECT id, name, provider, coalesce(role, 'user.normal') FROM users WHERE tenant = ?1 AND id = ?2 AND NOT removed`, tenant, id)
	if err == nil && len(list) == 0 {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.Profile{}, err
	}
	return list[0], nil
}

func scanProfile(rows *sql.Rows) (p chat.Profile, err error) {
	return p, rows.Scan(&p.User.ID, &p.User.Name, &p.User.Provider, &p.Role)
}

// PutProfile stores a user's name and role.
func (s *Store) PutProfile(ctx context.Context, tenant string, p chat.Profile, c chat.Condition) (created bool, err error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckUser(p.User)); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		tag := ""
		was, err := loadProfile(ctx, tx, tenant, p.User.ID)
		if err == nil {
			tag = was.Tag()
		} else if !errors.Is(err, chat.ErrNotFound) {
			return err
		}
		stored, err := storedRole(ctx, tx, tenant, p.Role)
		if err != nil {
			return err
		}
		if err := errors.Join(chat.CheckGiven(p.Role, "user", stored != ""), c.Check(tag)); err != nil {
			return err
		}
		created = tag == ""
		_, err = tx.ExecContext(ctx, `
			INSERT INTO users (tenant, id, name, provider, role) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (tenant, id) DO UPDATE SET name = ?3, role = ?5, removed = 0`,
			tenant, p.User.ID, p.User.Name, p.User.Provider, p.Role)
		return err
	})
	return created && err == nil, annotate(err, "store the profile of user %q", p.User.ID)
}

// RemoveProfile takes a user out of everything.
func (s *Store) RemoveProfile(ctx context.Context, tenant, id string, c chat.Condition) (rooms []string, err error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return nil, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		tag := ""
		p, err := loadProfile(ctx, tx, tenant, id)
		if err == nil {
			tag = p.Tag()
		} else if !errors.Is(err, chat.ErrNotFound) {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE users SET removed = 1, role = NULL, chat = 0 WHERE tenant = ?1 AND id = ?2`, tenant, id)
		if err != nil {
			return err
		}
		rooms, err = collect(ctx, tx, scanString, `SELECT room_id FROM members WHERE tenant = ?1 AND user_id = ?2 ORDER BY room_id`, tenant, id)
		for _, room := range rooms {
			if err := depart(ctx, tx, tenant, room, id); err != nil {
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

// messageToChange returns a message that is in the history and meets the condition.
func messageToChange(ctx context.Context, tx *sql.Tx, tenant, roomID string, seq int64, c chat.Condition) (m chat.Message, err error) {
	if _, err := loadRoom(ctx, tx, tenant, roomID); err != nil {
		return m, err
	}
	list, err := messages(ctx, tx, tenant, roomID, `seq = ?3 AND deleted_at IS NULL`, seq)
	if err != nil {
		return m, err
	}
	if len(list) == 0 {
		return m, checkThere("", c)
	}
	return list[0], c.Check(list[0].Tag())
}

// keep notes what a message was.
func keep(ctx context.Context, tx *sql.Tx, tenant, kind string, was chat.Message) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO message_events (tenant, room_id, seq, at, kind, text, binary_text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, nullif(?7, ''))`,
		tenant, was.RoomID, was.Seq, time.Now().UnixMicro(), kind, was.Text, was.Binary)
	return err
}

// EditMessage replaces a message's content.
func (s *Store) EditMessage(ctx context.Context, tenant string, m chat.Message, c chat.Condition) (edited chat.Message, err error) {
	if err := errors.Join(chat.CheckIDs(tenant, m.RoomID), chat.CheckContent(m)); err != nil {
		return edited, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		was, err := messageToChange(ctx, tx, tenant, m.RoomID, m.Seq, c)
		if err != nil {
			return err
		}
		if err := keep(ctx, tx, tenant, "edited", was); err != nil {
			return err
		}
		edited = was
		edited.Text, edited.Binary = m.Text, m.Binary
		_, err = tx.ExecContext(ctx, `UPDATE messages SET text = ?4, binary_text = nullif(?5, '') WHERE tenant = ?1 AND room_id = ?2 AND seq = ?3`,
			tenant, m.RoomID, m.Seq, m.Text, m.Binary)
		return err
	})
	return edited, annotate(err, "edit message %d of room %q", m.Seq, m.RoomID)
}

// DeleteMessage takes a message out of the history.
func (s *Store) DeleteMessage(ctx context.Context, tenant, roomID string, seq int64, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		was, err := messageToChange(ctx, tx, tenant, roomID, seq, c)
		if err != nil {
			return err
		}
		if err := keep(ctx, tx, tenant, "deleted", was); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE messages SET deleted_at = ?4 WHERE tenant = ?1 AND room_id = ?2 AND seq = ?3`, tenant, roomID, seq, time.Now().UnixMicro())
		return err
	})
	return annotate(err, "delete message %d of room %q", seq, roomID)
}
