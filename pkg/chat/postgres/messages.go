package postgres

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// AddMessage stores a message with the room's next sequence and reports whether it is new. It is one statement
// unless there is something to explain; two resends at once meet at the unique key.
func (s *Store) AddMessage(ctx context.Context, tenant string, m chat.Message) (stored chat.Message, created bool, err error) {
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckMessage(m)); err != nil {
		return stored, false, err
	}
	barFrom := m.MayBarFrom()
	m.SentAt = orNow(m.SentAt)
	err = s.pool.QueryRow(ctx, `
		WITH room AS (
			UPDATE rooms SET last_seq = last_seq + 1 WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL
			AND (EXISTS (SELECT 1 FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3)
				OR EXISTS (SELECT 1 FROM departures WHERE tenant = $1 AND room_id = $2 AND user_id = $3 AND left_at >= $7))
			AND NOT EXISTS (
				SELECT 1 FROM blocks WHERE tenant = $1 AND other_id = $3 AND by_id IN (low_id, high_id) AND blocked_at < $7)
			AND NOT EXISTS (SELECT 1 FROM messages WHERE tenant = $1 AND room_id = $2 AND author_id = $3 AND key = nullif($5, ''))
			RETURNING last_seq
		), message AS (
			INSERT INTO messages (tenant, room_id, seq, author_id, text, key, sent_at)
			SELECT $1, $2, last_seq, $3, $4, nullif($5, ''), $6 FROM room
			RETURNING seq
		)
		SELECT seq, name FROM message, users WHERE tenant = $1 AND id = $3`,
		tenant, m.RoomID, m.AuthorID, m.Text, m.Key, m.SentAt, barFrom).Scan(&m.Seq, &m.AuthorName)
	if errors.Is(err, pgx.ErrNoRows) || hasCode(err, uniqueViolation) {
		stored, err = s.storedMessage(ctx, tenant, m)
		return stored, false, annotate(err, "store a message of user %q in room %q", m.AuthorID, m.RoomID)
	}
	if err != nil {
		return stored, false, annotate(err, "store a message of user %q in room %q", m.AuthorID, m.RoomID)
	}
	return m, true, nil
}

// storedMessage returns the message with m's key, or why there is none.
func (s *Store) storedMessage(ctx context.Context, tenant string, m chat.Message) (chat.Message, error) {
	if _, err := s.isMember(ctx, tenant, m.RoomID, m.AuthorID); err != nil {
		return chat.Message{}, err
	}
	known, err := s.messages(ctx, tenant, m.RoomID, `author_id = $3 AND key = $4`, m.AuthorID, m.Key)
	if err != nil {
		return chat.Message{}, err
	}
	if len(known) == 0 {
		return chat.Message{}, chat.ErrForbidden
	}
	return known[0], nil
}

// isMember says whether a user is a member of a room, or chat.ErrNotFound for an unknown room.
func (s *Store) isMember(ctx context.Context, tenant, roomID, userID string) (member bool, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT 1 FROM members WHERE tenant = $1 AND room_id = $2 AND user_id = $3)
		FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL`,
		tenant, roomID, userID).Scan(&member)
	if errors.Is(err, pgx.ErrNoRows) {
		err = chat.ErrNotFound
	}
	return member, err
}

// messages returns those of a room that meet the condition, which counts its arguments from $3 and may order and
// limit them.
func (s *Store) messages(ctx context.Context, tenant, roomID, condition string, args ...any) ([]chat.Message, error) {
	return collect(ctx, s.pool, scanMessage, `
		SELECT room_id, seq, author_id, name, text, coalesce(key, ''), sent_at
		FROM messages JOIN users ON users.tenant = messages.tenant AND users.id = author_id
		WHERE messages.tenant = $1 AND room_id = $2 AND `+condition,
		append([]any{tenant, roomID}, args...)...)
}

func scanMessage(row pgx.CollectableRow) (chat.Message, error) {
	m, err := pgx.RowToStructByPos[chat.Message](row)
	m.SentAt = m.SentAt.UTC()
	return m, err
}

// History returns a page of a room's messages in ascending order.
func (s *Store) History(ctx context.Context, tenant, roomID, userID string, before int64, limit int) ([]chat.Message, error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return nil, err
	}
	if limit < 1 || limit > chat.MaxPage {
		limit = chat.MaxPage
	}
	if before == 0 {
		before = math.MaxInt64
	}
	page, err := s.history(ctx, tenant, roomID, userID, before, limit)
	return page, annotate(err, "load the history of room %q for user %q", roomID, userID)
}

func (s *Store) history(ctx context.Context, tenant, roomID, userID string, before int64, limit int) ([]chat.Message, error) {
	if err := s.needMember(ctx, tenant, roomID, userID); err != nil {
		return nil, err
	}
	page, err := s.messages(ctx, tenant, roomID, `seq < $3 ORDER BY seq DESC LIMIT $4`, before, limit)
	slices.Reverse(page)
	return page, err
}

// needMember returns chat.ErrNotFound for an unknown room and chat.ErrForbidden for who is not a member.
func (s *Store) needMember(ctx context.Context, tenant, roomID, userID string) error {
	member, err := s.isMember(ctx, tenant, roomID, userID)
	if err == nil && !member {
		err = chat.ErrForbidden
	}
	return err
}

// MarkRead raises a member's ReadSeq.
func (s *Store) MarkRead(ctx context.Context, tenant, roomID, userID string, seq int64) error {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, `
		UPDATE members SET read_seq = greatest(read_seq, least($4, last_seq)) FROM rooms
		WHERE members.tenant = $1 AND room_id = $2 AND user_id = $3
		AND rooms.tenant = $1 AND rooms.id = $2 AND deleted_at IS NULL`,
		tenant, roomID, userID, seq)
	if err == nil && tag.RowsAffected() == 0 {
		err = s.needMember(ctx, tenant, roomID, userID)
	}
	return annotate(err, "mark room %q read for user %q", roomID, userID)
}
