package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// memberStore is of chat.Rooms what is about members.
type memberStore struct{ driver }

// most is in how many rooms a user may be to become a member of one more.
func most(byOwnWill bool) int {
	if byOwnWill {
		return chat.MaxMemberships
	}
	return chat.MaxPutInto
}

// addMember makes somebody a member who is none; user and room are locked, after getsRole. Who comes back has the role from before: what
// it forbids stays forbidden. chat.ErrLimit if the user is in most rooms or the room has too many members. The event is for
// the caller to record.
func addMember(ctx context.Context, t tx, tenant, roomID, userID string, state chat.MemberState, most int) error {
	var rooms, invitations, members int
	err := get(ctx, t, into{&rooms, &invitations, &members}, `
		SELECT (SELECT count(*) FROM members WHERE tenant = $1 AND user_id = $3),
		       (SELECT count(*) FROM members WHERE tenant = $1 AND user_id = $3 AND state = 'invited'),
		       (SELECT count(*) FROM members WHERE tenant = $1 AND room_id = $2)`,
		tenant, roomID, userID)
	if err != nil {
		return err
	}
	if rooms >= most || members >= chat.MaxMembers ||
		state == chat.StateInvited && invitations >= chat.MaxInvitations {
		return chat.ErrLimit
	}
	t.send(`
		INSERT INTO members (tenant, room_id, user_id, state, joined_at, read_seq, role)
		SELECT tenant, id, $3, $4, $5, last_seq, (SELECT role FROM departures WHERE tenant = $1 AND room_id = $2 AND user_id = $3)
		FROM rooms WHERE tenant = $1 AND id = $2`,
		tenant, roomID, userID, state, time.Now())
	membershipChanged(t, tenant, roomID, userID)
	return nil
}

// membershipChanged notes that a locked user stands to a locked room in another way.
func membershipChanged(t tx, tenant, roomID, userID string) {
	revise(t, tenant, roomID, userID)
	owe(t, tenant, chat.EffectMember, roomID, userID)
}

// join makes a locked user a joined member of a locked room and reports whether that changed anything.
func join(ctx context.Context, t tx, tenant, roomID, userID string) (changed bool, err error) {
	state, err := memberState(ctx, t, tenant, roomID, userID)
	if err != nil || state == chat.StateJoined {
		return false, err
	}
	if state == "" {
		err = addMember(ctx, t, tenant, roomID, userID, chat.StateJoined, chat.MaxMemberships)
	} else {
		t.send(`UPDATE members SET state = 'joined' WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, tenant, roomID, userID)
		membershipChanged(t, tenant, roomID, userID)
	}
	record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventJoined, UserID: userID})
	return true, err
}

// invite makes a locked user an invited member of a locked room who is none.
func invite(ctx context.Context, t tx, tenant, roomID, userID string) error {
	state, err := memberState(ctx, t, tenant, roomID, userID)
	if err != nil || state != "" {
		return err
	}
	record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventInvited, UserID: userID})
	return addMember(ctx, t, tenant, roomID, userID, chat.StateInvited, chat.MaxMemberships)
}

// memberState returns the state of a member, "" for none. It locks the membership.
func memberState(ctx context.Context, t tx, tenant, roomID, userID string) (state chat.MemberState, err error) {
	err = get(ctx, t, into{&state}, `SELECT state FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3 {lock}`,
		tenant, roomID, userID)
	if errors.Is(err, errNone) {
		err = nil
	}
	return state, err
}

// Memberships returns the ids of the rooms a user is in.
func (s memberStore) Memberships(ctx context.Context, tenant, userID string) ([]string, error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s, scanString,
		`SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2 ORDER BY joined_at, room_id`, tenant, userID)
	return ids, annotate(err, "list the memberships of user %q", userID)
}

// isBlocked says of a direct room r that one of the two has blocked the other.
const isBlocked = `(r.kind = 'direct' AND EXISTS (SELECT 1 FROM blocks b WHERE b.tenant = r.tenant
	AND (b.by_id = r.low_id AND b.other_id = r.high_id OR b.by_id = r.high_id AND b.other_id = r.low_id)))`

// Join makes a user a joined member of a room.
func (s memberStore) Join(ctx context.Context, tenant, roomID, userID string) (changed bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		if err := lockUsers(ctx, t, tenant, userID); err != nil {
			return err
		}
		kind, err := lockRoom(ctx, t, tenant, roomID)
		if err != nil {
			return err
		}
		if kind != chat.KindPublic {
			state, err := memberState(ctx, t, tenant, roomID, userID)
			if err != nil {
				return err
			}
			if state == "" {
				return chat.ErrForbidden
			}
		}
		changed, err = join(ctx, t, tenant, roomID, userID)
		return err
	})
	return changed && err == nil, annotate(err, "join user %q to room %q", userID, roomID)
}

// AddMember makes a user whom somebody else has chosen a member of a room.
func (s memberStore) AddMember(ctx context.Context, tenant, roomID, userID string) (added bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		if err := lockUsers(ctx, t, tenant, userID); err != nil {
			return err
		}
		kind, err := lockRoom(ctx, t, tenant, roomID)
		if err != nil {
			return err
		}
		if kind == chat.KindDirect {
			return chat.ErrForbidden
		}
		state, err := memberState(ctx, t, tenant, roomID, userID)
		if err != nil || state != "" {
			return err
		}
		added = true
		record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventJoined, UserID: userID})
		return addMember(ctx, t, tenant, roomID, userID, chat.StateJoined, chat.MaxPutInto)
	})
	return added && err == nil, annotate(err, "add user %q to room %q", userID, roomID)
}

// Membership returns how a user stands to a room.
func (s memberStore) Membership(ctx context.Context, tenant, roomID, userID string) (m chat.Membership, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return m, err
	}
	var state, role, permissions *string // null for anyone who is no member, and for a role that is not stored
	var blocked bool
	r := &m.Room
	err = find(ctx, s, into{&r.ID, &r.Title, &r.Kind, &r.OwnerID, &r.CreatedAt, &r.LastSeq, &state, &m.ReadSeq, &role, &permissions, &blocked}, `
		SELECT r.id, r.title, r.kind, r.owner_id, r.created_at, r.last_seq, m.state, coalesce(m.read_seq, 0), `+memberRole+`, permissions, `+isBlocked+`
		FROM rooms r
		LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id AND m.user_id = $3
		LEFT JOIN roles ON roles.tenant = r.tenant AND roles.name = `+memberRole+`
		WHERE r.tenant = $1 AND r.id = $2 AND r.deleted_at IS NULL`,
		tenant, roomID, userID)
	if err != nil {
		return chat.Membership{}, annotate(err, "load how user %q stands to room %q", userID, roomID)
	}
	if state != nil {
		m.In, m.State, m.Role = true, chat.MemberState(*state), chat.StoredRole(*role, permissions)
		m.MaySpeak = chat.MaySpeak(m.Role, blocked)
	}
	return m, nil
}

// needMember returns chat.ErrNotFound for an unknown room and chat.ErrForbidden for anyone who is not a member.
func needMember(ctx context.Context, q reader, tenant, roomID, userID string) error {
	var member bool
	err := find(ctx, q, into{&member}, `
		SELECT EXISTS (SELECT 1 FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3)
		FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL`,
		tenant, roomID, userID)
	if err == nil && !member {
		err = chat.ErrForbidden
	}
	return err
}

// Leave ends a membership and reports whether there was one.
func (s memberStore) Leave(ctx context.Context, tenant, roomID, userID string) (left bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		err := lockUsers(ctx, t, tenant, userID)
		if err == nil {
			_, err = lockRoom(ctx, t, tenant, roomID)
		}
		if err == nil {
			left, err = depart(ctx, t, tenant, roomID, userID)
		}
		if err == nil && !left {
			err = errNone
		}
		return err
	})
	if errors.Is(err, chat.ErrNotFound) || errors.Is(err, errNone) { // nobody was in it
		left, err = false, nil
	}
	return left && err == nil, annotate(err, "remove user %q from room %q", userID, roomID)
}

// depart ends a locked user's membership in a locked room and reports whether there was one. The role is kept with the
// departure.
func depart(ctx context.Context, t tx, tenant, roomID, userID string) (left bool, err error) {
	revise(t, tenant, roomID, userID)
	gone, err := t.exec(ctx, `
		INSERT INTO departures (tenant, room_id, user_id, left_at, revision, role)
		SELECT tenant, room_id, user_id, $4, revision, role FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3
		`+departAgain, tenant, roomID, userID, time.Now())
	if err != nil || gone == 0 {
		return false, err
	}
	t.send(`DELETE FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, tenant, roomID, userID)
	owe(t, tenant, chat.EffectMember, roomID, userID)
	record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventLeft, UserID: userID})
	return true, nil
}

// MarkRead raises a member's ReadSeq.
func (s memberStore) MarkRead(ctx context.Context, tenant, roomID, userID string, seq int64) error {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return err
	}
	var readSeq, lastSeq int64
	err := get(ctx, s, into{&readSeq, &lastSeq}, `
		SELECT read_seq, last_seq FROM members JOIN rooms ON rooms.tenant = members.tenant AND rooms.id = room_id
		WHERE members.tenant = $1 AND room_id = $2 AND user_id = $3 AND deleted_at IS NULL`, tenant, roomID, userID)
	switch {
	case errors.Is(err, errNone):
		err = needMember(ctx, s, tenant, roomID, userID)
	case err == nil && min(seq, lastSeq) > readSeq:
		err = s.write(ctx, func(t tx) error {
			revise(t, tenant, roomID, userID)
			t.send(`UPDATE members SET read_seq = {greatest}(read_seq, $4) WHERE tenant = $1 AND room_id = $2 AND user_id = $3`,
				tenant, roomID, userID, min(seq, lastSeq))
			owe(t, tenant, chat.EffectRead, roomID, userID)
			return nil
		})
	}
	return annotate(err, "mark room %q read for user %q", roomID, userID)
}
