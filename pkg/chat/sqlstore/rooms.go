package sqlstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Which role a user u has, and a member m of a room r, to whom none was given.
const (
	userRole   = `coalesce(u.role, '` + chat.RoleUser + `')`
	memberRole = `coalesce(m.role, CASE r.owner_id WHEN m.user_id THEN '` + chat.RoleOperator + `' ELSE '` + chat.RoleMember + `' END)`
)

// roomStore is chat.Rooms without what is about members.
type roomStore struct{ driver }

// CreateRoom creates a room with its first members.
func (s roomStore) CreateRoom(ctx context.Context, tenant string, r chat.Room) (chat.Room, error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckRoom(r)); err != nil {
		return chat.Room{}, err
	}
	var created chat.Room
	err := s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		if err := lockUsers(ctx, t, tenant, r.Founders()...); err != nil {
			return err
		}
		var owned int
		err := get(ctx, t, into{&owned}, `
			SELECT count(*) FROM rooms WHERE tenant = $1 AND owner_id = $2 AND kind <> 'direct' AND deleted_at IS NULL`,
			tenant, r.OwnerID)
		if err != nil {
			return err
		}
		inserted, err := t.exec(ctx, `
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant, id) DO NOTHING`,
			tenant, r.ID, r.Title, cmp.Or(r.Kind, chat.KindPublic), r.OwnerID, orNow(r.CreatedAt))
		if err != nil {
			return err
		}
		if inserted == 0 {
			return chat.ErrExists
		}
		if owned >= chat.MaxOwnedRooms {
			return chat.ErrLimit
		}
		record(ctx, t, tenant, r.ID, chat.Event{Kind: chat.EventCreated, UserID: r.OwnerID, Title: r.Title})
		for _, id := range r.Founders() {
			if err := addMember(ctx, t, tenant, r.ID, id, chat.StateJoined, most(id == r.OwnerID)); err != nil {
				return err
			}
			if id != r.OwnerID {
				record(ctx, t, tenant, r.ID, chat.Event{Kind: chat.EventJoined, UserID: id})
			}
		}
		created, err = loadRoom(ctx, t, tenant, r.ID)
		return err
	})
	return created, annotate(err, "create room %q", r.ID)
}

// DirectRoom returns the direct room of two users, creating it if need be.
func (s roomStore) DirectRoom(ctx context.Context, tenant, from, to string) (r chat.Room, created bool, err error) {
	if err := checkPair(tenant, from, to); err != nil {
		return r, false, err
	}
	err = s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		if err := lockUsers(ctx, t, tenant, from, to); err != nil {
			return err
		}
		var blocked bool
		err := get(ctx, t, into{&blocked}, `
			SELECT EXISTS (SELECT 1 FROM blocks WHERE tenant = $1 AND (by_id = $2 AND other_id = $3 OR by_id = $3 AND other_id = $2))`,
			tenant, from, to)
		if err != nil {
			return err
		}
		if blocked {
			return chat.ErrForbidden
		}
		low, high := min(from, to), max(from, to)
		inserted, err := t.exec(ctx, `
			INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at, low_id, high_id)
			VALUES ($1, $2, '', 'direct', $3, $4, $5, $6) ON CONFLICT (tenant, low_id, high_id) DO NOTHING`,
			tenant, chat.DirectPrefix+strings.ToLower(rand.Text()), from, orNow(time.Time{}), low, high)
		if err != nil {
			return err
		}
		created = inserted > 0
		var roomID string
		err = get(ctx, t, into{&roomID}, `SELECT id FROM rooms WHERE tenant = $1 AND low_id = $2 AND high_id = $3`, tenant, low, high)
		if err != nil {
			return err
		}
		if _, err := lockRoom(ctx, t, tenant, roomID); err != nil {
			return err
		}
		if created {
			record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventCreated, UserID: from})
			err = addMember(ctx, t, tenant, roomID, from, chat.StateJoined, chat.MaxMemberships)
		} else {
			_, err = join(ctx, t, tenant, roomID, from)
		}
		if err != nil {
			return err
		}
		if err := invite(ctx, t, tenant, roomID, to); err != nil {
			return err
		}
		r, err = loadRoom(ctx, t, tenant, roomID)
		return err
	})
	return r, created && err == nil, annotate(err, "open the direct room of users %q and %q", from, to)
}

// Room returns a room with its members, or chat.ErrNotFound.
func (s roomStore) Room(ctx context.Context, tenant, id string) (chat.Room, error) {
	if err := chat.CheckIDs(tenant, id); err != nil {
		return chat.Room{}, err
	}
	r, err := loadRoom(ctx, s, tenant, id)
	return r, annotate(err, "load room %q", id)
}

const roomColumns = `r.id, r.title, r.kind, r.owner_id, r.created_at, r.last_seq, u.id, u.name, m.state, m.read_seq, ` + memberRole

func loadRoom(ctx context.Context, q reader, tenant, id string) (chat.Room, error) {
	rooms, err := collectRooms(ctx, q, `
		SELECT `+roomColumns+`
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
func (s roomStore) Rooms(ctx context.Context, tenant, userID string) ([]chat.Room, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	if userID != "" {
		if err := chat.CheckIDs(userID); err != nil {
			return nil, err
		}
	}
	own := map[string]int64{} // how far the user has read, by room
	rooms, err := collect(ctx, s, func(row rows) (r chat.Room, err error) {
		var readSeq *int64 // null for a room that the user is not in
		err = row.Scan(&r.ID, &r.Title, &r.Kind, &r.OwnerID, &r.CreatedAt, &r.LastSeq, &readSeq)
		if readSeq != nil {
			own[r.ID] = *readSeq
		}
		return r, err
	}, `
		WITH visible AS (
			SELECT id FROM (
				SELECT id FROM rooms WHERE tenant = $1 AND kind = 'public' AND deleted_at IS NULL
				ORDER BY created_at DESC LIMIT $3) AS newest
			UNION
			SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2)
		SELECT r.id, r.title, r.kind, r.owner_id, r.created_at, r.last_seq, m.read_seq
		FROM visible v
		JOIN rooms r ON r.tenant = $1 AND r.id = v.id
		LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id AND m.user_id = $2
		ORDER BY r.created_at, r.id`,
		tenant, userID, chat.MaxListed)
	if err != nil {
		return nil, annotate(err, "list the rooms of user %q", userID)
	}
	// There are many members, so each has as few columns as can be, and nobody sorts them.
	ids, places := make([]string, len(rooms)), map[string]int{}
	for i, r := range rooms {
		ids[i], places[r.ID] = r.ID, i
	}
	_, err = collect(ctx, s, func(row rows) (none struct{}, err error) {
		var roomID string
		var m chat.Member
		err = row.Scan(&roomID, &m.UserID, &m.Name, &m.State)
		if m.UserID == userID {
			m.ReadSeq = own[roomID]
		}
		r := &rooms[places[roomID]]
		r.Members = append(r.Members, m)
		return none, err
	}, `
		SELECT m.room_id, m.user_id, u.name, m.state
		FROM members m JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id
		WHERE m.tenant = $1 AND m.room_id {any $2}`, tenant, ids)
	if err != nil {
		return nil, annotate(err, "list the members of the rooms of user %q", userID)
	}
	return rooms, nil
}

// collectRooms reads rows of a room and one of its members each; the rows of a room follow one another.
func collectRooms(ctx context.Context, q reader, query string, args ...any) ([]chat.Room, error) {
	found := q.query(ctx, query, args...)
	defer found.Close()
	var rooms []chat.Room
	for found.Next() {
		var r chat.Room
		var userID, name, state, role *string // null for a room without members
		var readSeq *int64
		err := found.Scan(&r.ID, &r.Title, &r.Kind, &r.OwnerID, &r.CreatedAt, &r.LastSeq, &userID, &name, &state, &readSeq, &role)
		if err != nil {
			return nil, err
		}
		if len(rooms) == 0 || rooms[len(rooms)-1].ID != r.ID {
			rooms = append(rooms, r)
		}
		if userID != nil {
			last := &rooms[len(rooms)-1]
			last.Members = append(last.Members,
				chat.Member{UserID: *userID, Name: *name, State: chat.MemberState(*state), ReadSeq: *readSeq, Role: *role})
		}
	}
	found.Close()
	return rooms, found.Err()
}

// DeleteRoom deletes a room for its owner and returns it as it was.
func (s roomStore) DeleteRoom(ctx context.Context, tenant, roomID, byUserID string) (chat.Room, error) {
	if err := chat.CheckIDs(tenant, roomID, byUserID); err != nil {
		return chat.Room{}, err
	}
	var was chat.Room
	err := s.write(ctx, func(t tx) (err error) {
		if was, err = roomToClose(ctx, t, tenant, roomID); err != nil {
			return err
		}
		if was.Kind == chat.KindDirect || was.OwnerID != byUserID {
			return chat.ErrForbidden
		}
		closeRoom(ctx, t, tenant, was, byUserID)
		return nil
	})
	if err != nil {
		was = chat.Room{}
	}
	return was, annotate(err, "delete room %q", roomID)
}

// roomToClose locks the members of a room and the room.
func roomToClose(ctx context.Context, t tx, tenant, roomID string) (chat.Room, error) {
	ids, err := collect(ctx, t, scanString, `SELECT user_id FROM members WHERE tenant = $1 AND room_id = $2`, tenant, roomID)
	if err != nil {
		return chat.Room{}, err
	}
	if err := lockUsers(ctx, t, tenant, ids...); err != nil {
		return chat.Room{}, err
	}
	r, err := lockedRoom(ctx, t, tenant, roomID)
	for _, m := range r.Members {
		if !slices.Contains(ids, m.UserID) { // come in meanwhile
			return r, errAgain
		}
	}
	return r, err
}

// closeRoom deletes a room that is locked, and its members too. Effects are owed for those who are online, so that they are
// put out also when the room is there again by then.
func closeRoom(ctx context.Context, t tx, tenant string, r chat.Room, byUserID string) {
	record(ctx, t, tenant, r.ID, chat.Event{Kind: chat.EventClosed, UserID: byUserID, Title: r.Title})
	t.send(`UPDATE rooms SET deleted_at = $3, deleted_by = $4 WHERE tenant = $1 AND id = $2`, tenant, r.ID, time.Now(), byUserID)
	t.send(`
		UPDATE users SET list_revision = list_revision + 1
		WHERE tenant = $1 AND id IN (SELECT user_id FROM members WHERE tenant = $1 AND room_id = $2)`, tenant, r.ID)
	t.send(`
		INSERT INTO departures (tenant, room_id, user_id, left_at, revision, role)
		SELECT m.tenant, m.room_id, m.user_id, $3, u.list_revision, m.role
		FROM members m JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id WHERE m.tenant = $1 AND m.room_id = $2
		`+departAgain, tenant, r.ID, time.Now())
	t.send(`
		INSERT INTO effects (tenant, kind, room_id, user_id, owed_at, due_at)
		SELECT m.tenant, $3, m.room_id, m.user_id, {now}, {now}
		FROM members m JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id WHERE m.tenant = $1 AND m.room_id = $2 AND {true u.online}
		`+oweAgain, tenant, r.ID, chat.EffectMember)
	t.send(`DELETE FROM members WHERE tenant = $1 AND room_id = $2`, tenant, r.ID)
	owe(t, tenant, chat.EffectRoom, r.ID, "")
}

const departAgain = `ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET left_at = excluded.left_at, revision = excluded.revision, role = excluded.role`

// lockRoom keeps other transactions from changing a room, its deletion and the number of its members. It returns its
// kind, or chat.ErrNotFound, also when the room has been deleted.
func lockRoom(ctx context.Context, t tx, tenant, roomID string) (kind chat.Kind, err error) {
	err = find(ctx, t, into{&kind}, `SELECT kind FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL {lock}`, tenant, roomID)
	return kind, err
}

// lockedRoom returns a room that nobody else changes until the transaction ends, or chat.ErrNotFound.
func lockedRoom(ctx context.Context, t tx, tenant, roomID string) (chat.Room, error) {
	if _, err := lockRoom(ctx, t, tenant, roomID); err != nil {
		return chat.Room{}, err
	}
	return loadRoom(ctx, t, tenant, roomID)
}
