package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// CreateRoom creates a room with its first members.
func (s *Store) CreateRoom(ctx context.Context, tenant string, r chat.Room) (chat.Room, error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckRoom(r)); err != nil {
		return chat.Room{}, err
	}
	var created chat.Room
	err := s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, r.Founders()...); err != nil {
			return err
		}
		var owned int
		err := tx.QueryRow(ctx, `
			SELECT count(*) FROM rooms WHERE tenant = $1 AND owner_id = $2 AND kind <> 'direct' AND deleted_at IS NULL`,
			tenant, r.OwnerID).Scan(&owned)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant, id) DO NOTHING`,
			tenant, r.ID, r.Title, cmp.Or(r.Kind, chat.KindPublic), r.OwnerID, orNow(r.CreatedAt))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return chat.ErrExists
		}
		if owned >= chat.MaxOwnedRooms {
			return chat.ErrLimit
		}
		for _, id := range r.Founders() {
			if err := addMember(ctx, tx, tenant, r.ID, id, chat.StateJoined, most(id == r.OwnerID)); err != nil {
				return err
			}
		}
		created, err = loadRoom(ctx, tx, tenant, r.ID)
		return err
	})
	return created, annotate(err, "create room %q", r.ID)
}

// most is in how many rooms a user may be to become a member of one more.
func most(byOwnWill bool) int {
	if byOwnWill {
		return chat.MaxMemberships
	}
	return chat.MaxPutInto
}

// addMember makes somebody a member who is none; user and, unless direct, room are locked. chat.ErrLimit if the user
// is in most rooms or the room has too many members.
func addMember(ctx context.Context, tx pgx.Tx, tenant, roomID, userID string, state chat.MemberState, most int) error {
	var rooms, invitations, members int
	err := tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM members WHERE tenant = $1 AND user_id = $3),
		       (SELECT count(*) FROM members WHERE tenant = $1 AND user_id = $3 AND state = 'invited'),
		       (SELECT count(*) FROM members WHERE tenant = $1 AND room_id = $2)`,
		tenant, roomID, userID).Scan(&rooms, &invitations, &members)
	if err != nil {
		return err
	}
	if rooms >= most || members >= chat.MaxMembers ||
		state == chat.StateInvited && invitations >= chat.MaxInvitations {
		return chat.ErrLimit
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO members (tenant, room_id, user_id, state, joined_at, read_seq)
		SELECT tenant, id, $3, $4, $5, last_seq FROM rooms WHERE tenant = $1 AND id = $2`,
		tenant, roomID, userID, state, time.Now())
	return err
}

// DirectRoom returns the direct room of two users, creating it if need be.
func (s *Store) DirectRoom(ctx context.Context, tenant, from, to string) (r chat.Room, created bool, err error) {
	if err := checkPair(tenant, from, to); err != nil {
		return r, false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, from, to); err != nil {
			return err
		}
		var blocked bool
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT 1 FROM blocks WHERE tenant = $1 AND (by_id, other_id) IN (($2, $3), ($3, $2)))`,
			tenant, from, to).Scan(&blocked)
		if err != nil {
			return err
		}
		if blocked {
			return chat.ErrForbidden
		}
		low, high := min(from, to), max(from, to)
		tag, err := tx.Exec(ctx, `
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at, low_id, high_id)
			VALUES ($1, $2, '', 'direct', $3, $4, $5, $6) ON CONFLICT (tenant, low_id, high_id) DO NOTHING`,
			tenant, chat.DirectPrefix+strings.ToLower(rand.Text()), from, orNow(time.Time{}), low, high)
		if err != nil {
			return err
		}
		created = tag.RowsAffected() > 0
		var roomID string
		err = tx.QueryRow(ctx, `SELECT id FROM rooms WHERE tenant = $1 AND low_id = $2 AND high_id = $3`, tenant, low, high).
			Scan(&roomID)
		if err != nil {
			return err
		}
		if _, err := join(ctx, tx, tenant, roomID, from); err != nil {
			return err
		}
		if err := invite(ctx, tx, tenant, roomID, to); err != nil {
			return err
		}
		r, err = loadRoom(ctx, tx, tenant, roomID)
		return err
	})
	return r, created && err == nil, annotate(err, "open the direct room of users %q and %q", from, to)
}

// join makes a locked user a joined member and reports whether that changed anything.
func join(ctx context.Context, tx pgx.Tx, tenant, roomID, userID string) (changed bool, err error) {
	state, err := memberState(ctx, tx, tenant, roomID, userID)
	if err != nil || state == chat.StateJoined {
		return false, err
	}
	if state == "" {
		return true, addMember(ctx, tx, tenant, roomID, userID, chat.StateJoined, chat.MaxMemberships)
	}
	_, err = tx.Exec(ctx, `UPDATE members SET state = 'joined' WHERE tenant = $1 AND room_id = $2 AND user_id = $3`,
		tenant, roomID, userID)
	return true, err
}

// invite makes a locked user an invited member who is none.
func invite(ctx context.Context, tx pgx.Tx, tenant, roomID, userID string) error {
	state, err := memberState(ctx, tx, tenant, roomID, userID)
	if err != nil || state != "" {
		return err
	}
	return addMember(ctx, tx, tenant, roomID, userID, chat.StateInvited, chat.MaxMemberships)
}

// memberState returns the state of a member, "" for none. It locks the membership against Leave.
func memberState(ctx context.Context, tx pgx.Tx, tenant, roomID, userID string) (state chat.MemberState, err error) {
	err = tx.QueryRow(ctx, `SELECT state FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3 FOR NO KEY UPDATE`,
		tenant, roomID, userID).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return state, err
}

// Room returns a room with its members, or chat.ErrNotFound.
func (s *Store) Room(ctx context.Context, tenant, id string) (chat.Room, error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return chat.Room{}, err
	}
	r, err := loadRoom(ctx, s.pool, tenant, id)
	return r, annotate(err, "load room %q", id)
}

func loadRoom(ctx context.Context, q querier, tenant, id string) (chat.Room, error) {
	rooms, err := collectRooms(ctx, q, `
		SELECT r.id, r.title, r.kind, r.owner_id, r.created_at, r.last_seq, u.id, u.name, m.state, m.read_seq,
			coalesce(m.role, CASE r.owner_id WHEN m.user_id THEN 'room.operator' ELSE 'room.member' END)
		FROM rooms r
		LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id
		LEFT JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id
		WHERE r.tenant = $1 AND r.id = $2 AND r.deleted_at IS NULL
		ORDER BY m.joined_at, m.user_id`,
		tenant, id)
	if err != nil {
		return chat.Room{}, err
	}
	if len(rooms) == 0 {
		return chat.Room{}, chat.ErrNotFound
	}
	return rooms[0], nil
}

// Rooms returns what a user may see.
func (s *Store) Rooms(ctx context.Context, tenant, userID string) ([]chat.Room, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	if userID != "" {
		if err := chat.CheckIDs(userID); err != nil {
			return nil, err
		}
	}
	rooms, err := collectRooms(ctx, s.pool, `
		WITH visible AS (
			(SELECT id FROM rooms WHERE tenant = $1 AND kind = 'public' AND deleted_at IS NULL
			 ORDER BY created_at DESC LIMIT $3)
			UNION
			SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2)
		SELECT r.id, r.title, r.kind, r.owner_id, r.created_at, r.last_seq, u.id, u.name, m.state, m.read_seq,
			coalesce(m.role, CASE r.owner_id WHEN m.user_id THEN 'room.operator' ELSE 'room.member' END)
		FROM visible v
		JOIN rooms r ON r.tenant = $1 AND r.id = v.id
		LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id
		LEFT JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id
		ORDER BY r.created_at, r.id, m.joined_at, m.user_id`,
		tenant, userID, chat.MaxListed)
	return rooms, annotate(err, "list the rooms of user %q", userID)
}

// collectRooms reads rows of a room and one of its members each; the rows of a room follow one another.
func collectRooms(ctx context.Context, q querier, query string, args ...any) ([]chat.Room, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var rooms []chat.Room
	for rows.Next() {
		var r chat.Room
		var userID, name, state, role *string // null for a room without members
		var readSeq *int64
		err := rows.Scan(&r.ID, &r.Title, &r.Kind, &r.OwnerID, &r.CreatedAt, &r.LastSeq, &userID, &name, &state, &readSeq, &role)
		if err != nil {
			return nil, err
		}
		if len(rooms) == 0 || rooms[len(rooms)-1].ID != r.ID {
			r.CreatedAt = r.CreatedAt.UTC()
			rooms = append(rooms, r)
		}
		if userID != nil {
			last := &rooms[len(rooms)-1]
			last.Members = append(last.Members,
				chat.Member{UserID: *userID, Name: *name, State: chat.MemberState(*state), ReadSeq: *readSeq, Role: *role})
		}
	}
	return rooms, rows.Err()
}

// Memberships returns the ids of the rooms a user is in.
func (s *Store) Memberships(ctx context.Context, tenant, userID string) ([]string, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.pool, pgx.RowTo[string],
		`SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2 ORDER BY joined_at, room_id`, tenant, userID)
	return ids, annotate(err, "list the memberships of user %q", userID)
}

// Muted returns the rooms in which a user may not speak.
func (s *Store) Muted(ctx context.Context, tenant, userID string) ([]string, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s.pool, pgx.RowTo[string], `
		SELECT m.room_id FROM members m JOIN rooms r ON r.tenant = m.tenant AND r.id = m.room_id
		WHERE m.tenant = $1 AND m.user_id = $2 AND (r.kind = 'direct' AND EXISTS (
			SELECT 1 FROM blocks b WHERE b.tenant = r.tenant
			AND (b.by_id = r.low_id AND b.other_id = r.high_id OR b.by_id = r.high_id AND b.other_id = r.low_id))
		OR NOT coalesce(
			(SELECT position(' room.publish_message ' IN ' ' || permissions || ' ') > 0 FROM roles WHERE roles.tenant = m.tenant AND roles.name =
				coalesce(m.role, CASE r.owner_id WHEN m.user_id THEN 'room.operator' ELSE 'room.member' END)),
			coalesce(m.role, 'room.member') IN ('room.member', 'room.operator')))
		ORDER BY m.room_id`, tenant, userID)
	return ids, annotate(err, "list the muted rooms of user %q", userID)
}

// Join makes a user a joined member of a room.
func (s *Store) Join(ctx context.Context, tenant, roomID, userID string) (changed bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, userID); err != nil {
			return err
		}
		kind, _, err := lockRoom(ctx, tx, tenant, roomID)
		if err != nil {
			return err
		}
		if kind != chat.KindPublic {
			state, err := memberState(ctx, tx, tenant, roomID, userID)
			if err != nil {
				return err
			}
			if state == "" {
				return chat.ErrForbidden
			}
		}
		changed, err = join(ctx, tx, tenant, roomID, userID)
		return err
	})
	return changed && err == nil, annotate(err, "join user %q to room %q", userID, roomID)
}

// AddMember makes a user whom somebody else has chosen a member of a room.
func (s *Store) AddMember(ctx context.Context, tenant, roomID, userID string) (added bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if err := lockUsers(ctx, tx, tenant, userID); err != nil {
			return err
		}
		kind, _, err := lockRoom(ctx, tx, tenant, roomID)
		if err != nil {
			return err
		}
		if kind == chat.KindDirect {
			return chat.ErrForbidden
		}
		state, err := memberState(ctx, tx, tenant, roomID, userID)
		if err != nil || state != "" {
			return err
		}
		added = true
		return addMember(ctx, tx, tenant, roomID, userID, chat.StateJoined, chat.MaxPutInto)
	})
	return added && err == nil, annotate(err, "add user %q to room %q", userID, roomID)
}

// Membership returns how a user stands to a room.
func (s *Store) Membership(ctx context.Context, tenant, roomID, userID string) (m chat.Membership, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return m, err
	}
	var role, permissions *string // null for anyone who is no member, and for a role that is not stored
	err = s.pool.QueryRow(ctx, `
		SELECT id, title, kind, owner_id, created_at, last_seq, role_name, permissions FROM (
			SELECT r.*, CASE WHEN m.user_id IS NOT NULL THEN coalesce(m.role,
				CASE r.owner_id WHEN m.user_id THEN 'room.operator' ELSE 'room.member' END) END AS role_name
			FROM rooms r LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id AND m.user_id = $3
			WHERE r.tenant = $1 AND r.id = $2 AND r.deleted_at IS NULL) AS room
		LEFT JOIN roles ON roles.tenant = $1 AND roles.name = role_name`,
		tenant, roomID, userID).
		Scan(&m.Room.ID, &m.Room.Title, &m.Room.Kind, &m.Room.OwnerID, &m.Room.CreatedAt, &m.Room.LastSeq, &role, &permissions)
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.Membership{}, annotate(err, "load how user %q stands to room %q", userID, roomID)
	}
	m.Room.CreatedAt = m.Room.CreatedAt.UTC()
	if role != nil {
		m.In, m.Role = true, chat.StoredRole(*role, permissions)
	}
	return m, nil
}

// lockRoom keeps other transactions from changing a room, its deletion and the number of its members. It returns
// kind and owner, or chat.ErrNotFound, also when the room has been deleted.
func lockRoom(ctx context.Context, tx pgx.Tx, tenant, roomID string) (kind chat.Kind, owner string, err error) {
	err = tx.QueryRow(ctx, `
		SELECT kind, owner_id FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE`,
		tenant, roomID).Scan(&kind, &owner)
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	return kind, owner, err
}

// Leave ends a membership and reports whether there was one.
func (s *Store) Leave(ctx context.Context, tenant, roomID, userID string) (left bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	tag, err := s.pool.Exec(ctx, `
		WITH gone AS (DELETE FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3 RETURNING room_id)
		INSERT INTO departures (tenant, room_id, user_id, left_at) SELECT $1, room_id, $3, $4 FROM gone
		ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET left_at = excluded.left_at`,
		tenant, roomID, userID, time.Now())
	return tag.RowsAffected() > 0, annotate(err, "remove user %q from room %q", userID, roomID)
}

// DeleteRoom deletes a room for its owner and returns it as it was.
func (s *Store) DeleteRoom(ctx context.Context, tenant, roomID, byUserID string) (chat.Room, error) {
	if err := chat.CheckIDs(tenant, roomID, byUserID); err != nil {
		return chat.Room{}, err
	}
	var was chat.Room
	err := s.write(ctx, func(tx pgx.Tx) error {
		kind, owner, err := lockRoom(ctx, tx, tenant, roomID)
		if err != nil {
			return err
		}
		if kind == chat.KindDirect || owner != byUserID {
			return chat.ErrForbidden
		}
		if was, err = loadRoom(ctx, tx, tenant, roomID); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE rooms SET deleted_at = $3, deleted_by = $4 WHERE tenant = $1 AND id = $2`,
			tenant, roomID, time.Now(), byUserID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM members WHERE tenant = $1 AND room_id = $2`, tenant, roomID)
		return err
	})
	return was, annotate(err, "delete room %q", roomID)
}
