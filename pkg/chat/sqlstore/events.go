package sqlstore

import (
	"context"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// eventStore is chat.Events.
type eventStore struct{ driver }

// record appends an event that is no message to a room, which is locked, or was made in this transaction.
func record(ctx context.Context, t tx, tenant, roomID string, e chat.Event) {
	connection, cause := chat.CauseOf(ctx)
	t.send(`UPDATE rooms SET last_event = last_event + 1, untold = true WHERE tenant = $1 AND id = $2`, tenant, roomID)
	t.send(`
		INSERT INTO room_events (tenant, room_id, number, kind, user_id, seq, title, role, at, connection, cause)
		SELECT tenant, id, last_event, $3, $4, nullif($5, 0), nullif($6, ''), nullif($7, ''), $8, nullif($9, ''), nullif($10, '')
		FROM rooms WHERE tenant = $1 AND id = $2`,
		tenant, roomID, e.Kind, e.UserID, e.Seq, e.Title, e.Role, orNow(time.Time{}), connection, cause)
}

// Events returns what has happened in a room after an event.
func (s eventStore) Events(ctx context.Context, tenant, roomID string, after int64, limit int) (events []chat.Event, last int64, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return nil, 0, err
	}
	if limit < 1 || limit > chat.MaxEvents {
		limit = chat.MaxEvents
	}
	if after < 0 {
		return nil, 0, annotate(chat.ErrGone, "list the events of room %q after %d", roomID, after)
	}
	var keptAfter int64
	there := false
	events, err = collect(ctx, s, func(row rows) (e chat.Event, err error) {
		there = true
		return scanEvent(row, roomID, &last, &keptAfter)
	}, `
		SELECT r.last_event, r.kept_after, r.kind, coalesce(e.number, 0), coalesce(e.kind, ''), coalesce(e.user_id, ''), coalesce(u.name, ''),
			coalesce(e.seq, 0), coalesce(e.title, ''), coalesce(e.role, ''), e.at, coalesce(e.connection, ''), coalesce(e.cause, ''), coalesce(e.heard, false),
			coalesce(m.number, m.seq, 0), m.sent_at, coalesce(m.text, ''), coalesce(m.key, ''), coalesce(m.ref, 0), coalesce(m.binary_text, ''),
			coalesce(m.connection, ''), coalesce(m.heard, false)
		FROM rooms r
		LEFT JOIN (
			SELECT number, 'message' AS kind, author_id AS user_id, seq, NULL AS title, NULL AS role, sent_at AS at, connection, NULL AS cause, heard
			FROM messages WHERE tenant = $1 AND room_id = $2 AND number > $3 AND number <= $4
			UNION ALL
			SELECT seq, 'message', author_id, seq, NULL, NULL, sent_at, connection, NULL, heard
			FROM messages WHERE tenant = $1 AND room_id = $2 AND number IS NULL AND seq > $3 AND seq <= $4
			UNION ALL
			SELECT number, kind, user_id, seq, title, role, at, connection, cause, heard
			FROM room_events WHERE tenant = $1 AND room_id = $2 AND number > $3 AND number <= $4) AS e ON true
		LEFT JOIN users u ON u.tenant = $1 AND u.id = e.user_id
		LEFT JOIN messages m ON m.tenant = $1 AND m.room_id = $2 AND m.seq = e.seq AND m.deleted_at IS NULL
		WHERE r.tenant = $1 AND r.id = $2 ORDER BY e.number`,
		tenant, roomID, after, after+int64(limit))
	switch {
	case err != nil:
	case !there:
		err = chat.ErrNotFound
	case after < keptAfter || after > last:
		err = chat.ErrGone
	case events[0].Number == 0: // the room alone
		events = nil
	}
	if err != nil {
		return nil, 0, annotate(err, "list the events of room %q after %d", roomID, after)
	}
	return events, last, nil
}

func scanEvent(row rows, roomID string, last, keptAfter *int64) (e chat.Event, err error) {
	var m chat.Message
	var at, sentAt *time.Time
	err = row.Scan(last, keptAfter, &e.RoomKind, &e.Number, &e.Kind, &e.UserID, &e.UserName, &e.Seq, &e.Title, &e.Role, &at, &e.Connection, &e.Cause, &e.Heard,
		&m.Number, &sentAt, &m.Text, &m.Key, &m.Ref, &m.Binary, &m.Connection, &m.Heard)
	if err != nil || at == nil {
		return e, err
	}
	e.RoomID, e.At = roomID, *at
	if sentAt != nil && (e.Kind == chat.EventMessage || e.Kind == chat.EventEdited) {
		m.RoomID, m.Seq, m.AuthorID, m.AuthorName, m.SentAt = roomID, e.Seq, e.UserID, e.UserName, *sentAt
		e.Message = &m
	}
	return e, nil
}

// Caused reports whether something has changed a room, of late.
func (s eventStore) Caused(ctx context.Context, tenant, roomID, cause string) (caused bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, cause); err != nil {
		return false, err
	}
	err = get(ctx, s, into{&caused}, `
		SELECT EXISTS (SELECT 1 FROM room_events WHERE tenant = $1 AND room_id = $2 AND cause = $3
			AND number > (SELECT last_event FROM rooms WHERE tenant = $1 AND id = $2) - $4)`,
		tenant, roomID, cause, chat.MaxEvents)
	return caused, annotate(err, "look for what has changed room %q", roomID)
}

// ClaimTellings takes or renews the leases of telling some rooms.
func (s eventStore) ClaimTellings(ctx context.Context, tenant string, roomIDs []string, owner string, ttl time.Duration) (map[string]chat.Telling, error) {
	if err := chat.CheckIDs(append([]string{tenant, owner}, roomIDs...)...); err != nil {
		return nil, err
	}
	var claimed []roomTelling
	err := s.write(ctx, func(t tx) (err error) {
		t.send(`SELECT 1 FROM rooms WHERE tenant = $1 AND id {any $2} ORDER BY id {lock}`, tenant, roomIDs)
		claimed, err = collect(ctx, t, scanTelling, `
			UPDATE rooms SET teller = $3, teller_until = {now+$4}
			WHERE tenant = $1 AND id {any $2} AND told_event < last_event
			AND (teller = $3 OR teller_until IS NULL OR teller_until <= {now}){lazy}
			RETURNING id, told_event, last_event, true`,
			tenant, roomIDs, owner, ttl.Microseconds())
		return err
	})
	return heldOf(claimed), annotate(err, "claim the telling of %d rooms", len(roomIDs))
}

// roomTelling is the telling of a room.
type roomTelling struct {
	roomID string
	chat.Telling
}

func scanTelling(row rows) (t roomTelling, err error) {
	return t, row.Scan(&t.roomID, &t.Told, &t.Last, &t.Held)
}

func heldOf(list []roomTelling) map[string]chat.Telling {
	held := map[string]chat.Telling{}
	for _, t := range list {
		if t.Held {
			held[t.roomID] = t.Telling
		}
	}
	return held
}

// Told notes how far the listeners of some rooms have been told.
func (s eventStore) Told(ctx context.Context, tenant, owner string, upTo map[string]int64, ttl time.Duration) (map[string]chat.Telling, error) {
	var roomIDs []string
	var marks []int64
	for id, mark := range upTo {
		roomIDs, marks = append(roomIDs, id), append(marks, mark)
	}
	if err := chat.CheckIDs(append([]string{tenant, owner}, roomIDs...)...); err != nil {
		return nil, err
	}
	var told []roomTelling
	err := s.write(ctx, func(t tx) (err error) {
		t.send(`SELECT 1 FROM rooms WHERE tenant = $1 AND id {any $2} ORDER BY id {lock}`, tenant, roomIDs)
		table, args := s.given(4, column{"room_id", "text", roomIDs}, column{"up_to", "bigint", marks})
		told, err = collect(ctx, t, scanTelling, `
			UPDATE rooms SET told_event = {greatest}(told_event, {least}(up_to, last_event)),
				untold = {greatest}(told_event, up_to) < last_event,
				teller = CASE WHEN {greatest}(told_event, up_to) < last_event THEN teller END,
				teller_until = CASE WHEN {greatest}(told_event, up_to) < last_event THEN {now+$3} END
			FROM `+table+` WHERE tenant = $1 AND id = room_id AND teller = $2{lazy}
			RETURNING id, told_event, last_event, teller IS NOT NULL`,
			append([]any{tenant, owner, ttl.Microseconds()}, args...)...)
		return err
	})
	return heldOf(told), annotate(err, "note that %d rooms are told", len(upTo))
}

// TellingOf says how far a room is told, and whether somebody is at it.
func (s eventStore) TellingOf(ctx context.Context, tenant, roomID string) (t chat.Telling, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return t, err
	}
	err = find(ctx, s, into{&t.Told, &t.Last, &t.Held}, `
		SELECT told_event, last_event, coalesce(teller_until > {now}, false) FROM rooms WHERE tenant = $1 AND id = $2`, tenant, roomID)
	return t, annotate(err, "load how far room %q is told", roomID)
}

// Untold returns rooms with events to tell that nobody tells.
func (s eventStore) Untold(ctx context.Context, tenant string, limit int) ([]string, error) {
	if err := chat.CheckIDs(tenant); err != nil {
		return nil, err
	}
	ids, err := collect(ctx, s, scanString, `
		SELECT id FROM rooms WHERE tenant = $1 AND {true untold} AND (teller_until IS NULL OR teller_until <= {now}) LIMIT $2`,
		tenant, max(0, min(limit, chat.MaxListed)))
	return ids, annotate(err, "list the rooms to tell")
}
