package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// AddMessage stores one message.
func (s *Store) AddMessage(ctx context.Context, tenant string, m chat.Message) (stored chat.Message, created bool, err error) {
	return chat.One(s.AddMessages(ctx, tenant, []chat.Message{m}))
}

// AddMessages stores a batch.
func (s *Store) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	outcomes, err := chat.CheckBatch(tenant, batch)
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		for i, m := range batch {
			if outcomes[i].Err != nil {
				continue
			}
			stored, created, err := addMessage(ctx, tx, tenant, m)
			if err != nil && !errors.Is(err, chat.ErrNotFound) && !errors.Is(err, chat.ErrForbidden) {
				return err
			}
			outcomes[i] = chat.Outcome{Message: stored, Created: created, Err: err}
		}
		return nil
	})
	if err != nil {
		return nil, annotate(err, "store %d messages", len(batch))
	}
	return outcomes, nil
}

// addMessage stores m unless there is one with its key, and reports whether it did.
func addMessage(ctx context.Context, tx *sql.Tx, tenant string, m chat.Message) (stored chat.Message, created bool, err error) {
	if _, err := roomKind(ctx, tx, tenant, m.RoomID); err != nil {
		return stored, false, err
	}
	known, err := messages(ctx, tx, tenant, m.RoomID, `author_id = ?3 AND key = ?4`, m.AuthorID, m.Key)
	if err != nil {
		return stored, false, err
	}
	if len(known) > 0 {
		return known[0], false, nil
	}
	stored, err = insertMessage(ctx, tx, tenant, m)
	return stored, err == nil, err
}

// insertMessage takes the room's next sequence if the author may write there.
func insertMessage(ctx context.Context, tx *sql.Tx, tenant string, m chat.Message) (chat.Message, error) {
	whoseMembers, _ := chat.SplitTopic(m.RoomID)
	err := tx.QueryRowContext(ctx, `
		UPDATE rooms SET last_seq = last_seq + 1 WHERE tenant = ?1 AND id = ?2
		AND (EXISTS (SELECT 1 FROM members WHERE tenant = ?1 AND room_id = ?5 AND user_id = ?3)
			OR EXISTS (SELECT 1 FROM departures WHERE tenant = ?1 AND room_id = ?5 AND user_id = ?3 AND left_at >= ?4))
		AND NOT EXISTS (
			SELECT 1 FROM blocks WHERE tenant = ?1 AND other_id = ?3 AND by_id IN (low_id, high_id) AND blocked_at < ?4)
		RETURNING last_seq`,
		tenant, m.RoomID, m.AuthorID, m.MayBarFrom().UnixMicro(), whoseMembers).Scan(&m.Seq)
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Message{}, chat.ErrForbidden
	}
	if err != nil {
		return chat.Message{}, err
	}
	m.SentAt = orNow(m.SentAt)
	_, err = tx.ExecContext(ctx, `
		INSERT INTO messages (tenant, room_id, seq, author_id, text, key, sent_at, ref)
		VALUES (?1, ?2, ?3, ?4, ?5, nullif(?6, ''), ?7, nullif(?8, 0))`,
		tenant, m.RoomID, m.Seq, m.AuthorID, m.Text, m.Key, m.SentAt.UnixMicro(), m.Ref)
	if err != nil {
		return chat.Message{}, err
	}
	err = tx.QueryRowContext(ctx, `SELECT name FROM users WHERE tenant = ?1 AND id = ?2`, tenant, m.AuthorID).Scan(&m.AuthorName)
	return m, err
}

// messages returns those of a room, newest first, that meet the condition, which counts its arguments from ?3
// and may end in a limit.
func messages(ctx context.Context, q querier, tenant, roomID, condition string, args ...any) ([]chat.Message, error) {
	return collect(ctx, q, scanMessage, `
		SELECT room_id, seq, author_id, name, text, coalesce(key, ''), sent_at, coalesce(ref, 0), coalesce(binary_text, '')
		FROM messages JOIN users ON users.tenant = messages.tenant AND users.id = author_id
		WHERE messages.tenant = ?1 AND room_id = ?2 AND `+condition,
		append([]any{tenant, roomID}, args...)...)
}

func scanMessage(rows *sql.Rows) (m chat.Message, err error) {
	var sentAt int64
	err = rows.Scan(&m.RoomID, &m.Seq, &m.AuthorID, &m.AuthorName, &m.Text, &m.Key, &sentAt, &m.Ref, &m.Binary)
	m.SentAt = time.UnixMicro(sentAt).UTC()
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
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if err := needMember(ctx, tx, tenant, roomID, userID); err != nil {
		return nil, err
	}
	page, err := messages(ctx, tx, tenant, roomID, `seq < ?3 AND deleted_at IS NULL ORDER BY seq DESC LIMIT ?4`, before, limit)
	slices.Reverse(page)
	return page, err
}

// Messages returns messages of a room between two sequences, newest first.
func (s *Store) Messages(ctx context.Context, tenant, roomID string, low, high int64, limit int) ([]chat.Message, error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return nil, err
	}
	if limit < 1 || limit > chat.MaxPage {
		limit = chat.MaxPage
	}
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var page []chat.Message
	if _, err = roomKind(ctx, tx, tenant, roomID); err == nil {
		page, err = messages(ctx, tx, tenant, roomID, `seq BETWEEN ?3 AND ?4 AND deleted_at IS NULL ORDER BY seq DESC LIMIT ?5`, low, high, limit)
	}
	return page, annotate(err, "load messages of room %q", roomID)
}

// needMember returns chat.ErrNotFound for an unknown room and chat.ErrForbidden for anyone who is not a member.
func needMember(ctx context.Context, tx *sql.Tx, tenant, roomID, userID string) error {
	if _, err := roomKind(ctx, tx, tenant, roomID); err != nil {
		return err
	}
	state, err := memberState(ctx, tx, tenant, roomID, userID)
	if err == nil && state == "" {
		err = chat.ErrForbidden
	}
	return err
}

// MarkRead raises a member's ReadSeq.
func (s *Store) MarkRead(ctx context.Context, tenant, roomID, userID string, seq int64) error {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return err
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := needMember(ctx, tx, tenant, roomID, userID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			UPDATE members SET read_seq = max(read_seq, min(?4,
				(SELECT last_seq FROM rooms WHERE tenant = ?1 AND id = ?2)))
			WHERE tenant = ?1 AND room_id = ?2 AND user_id = ?3`,
			tenant, roomID, userID, seq)
		return err
	})
	return annotate(err, "mark room %q read for user %q", roomID, userID)
}
