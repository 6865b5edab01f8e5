package postgres

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// AddMessage stores one message.
func (s *Store) AddMessage(ctx context.Context, tenant string, m chat.Message) (stored chat.Message, created bool, err error) {
	return chat.One(s.AddMessages(ctx, tenant, []chat.Message{m}))
}

// AddMessages stores a batch, in as many round trips as a batch of one: whoever writes in a room locks it first,
// in the order of the ids, so that what is read of it then stays true.
func (s *Store) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	outcomes, err := chat.CheckBatch(tenant, batch)
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		facts, err := lockFacts(ctx, tx, tenant, batch, outcomes)
		if err != nil {
			return err
		}
		judge(batch, facts, outcomes)
		return insertMessages(ctx, tx, tenant, outcomes)
	})
	if err != nil {
		return nil, annotate(err, "store %d messages", len(batch))
	}
	return outcomes, nil
}

// fact is what decides about a message whose room is there.
type fact struct {
	Place   int   // in the batch
	LastSeq int64 // of the room
	Allowed bool  // the author may have said it
	Name    string
	Seq     int64 // of the stored message with its key; 0 for none
	Text    string
	SentAt  time.Time
	Ref     int64
}

// lockFacts locks the rooms of the messages that have no outcome yet and returns their facts, in the order of the
// batch.
func lockFacts(ctx context.Context, tx pgx.Tx, tenant string, batch []chat.Message, outcomes []chat.Outcome) ([]fact, error) {
	var places []int
	var rooms, authors, keys, whoseMembers []string
	var barFrom []time.Time
	for i, m := range batch {
		if outcomes[i].Err == nil {
			places, rooms, authors = append(places, i), append(rooms, m.RoomID), append(authors, m.AuthorID)
			keys, barFrom = append(keys, m.Key), append(barFrom, m.MayBarFrom())
			room, _ := chat.SplitTopic(m.RoomID)
			whoseMembers = append(whoseMembers, room)
		}
	}
	_, err := tx.Exec(ctx, `SELECT FROM rooms WHERE tenant = $1 AND id = ANY($2) ORDER BY id FOR NO KEY UPDATE`, tenant, rooms)
	if err != nil {
		return nil, err
	}
	return collect(ctx, tx, pgx.RowToStructByPos[fact], `
		SELECT place, last_seq,
			(EXISTS (SELECT FROM members WHERE tenant = $1 AND room_id = whose_members AND user_id = given.author_id)
				OR EXISTS (SELECT FROM departures
					WHERE tenant = $1 AND room_id = whose_members AND user_id = given.author_id AND left_at >= bar_from))
			AND NOT EXISTS (SELECT FROM blocks
				WHERE tenant = $1 AND other_id = given.author_id AND by_id IN (low_id, high_id) AND blocked_at < bar_from),
			coalesce(name, ''), coalesce(seq, 0), coalesce(text, ''), coalesce(sent_at, 'epoch'), coalesce(ref, 0)
		FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
			AS given (place, room_id, author_id, key, bar_from, whose_members)
		JOIN rooms ON rooms.tenant = $1 AND rooms.id = given.room_id AND deleted_at IS NULL
		LEFT JOIN users ON users.tenant = $1 AND users.id = given.author_id
		LEFT JOIN messages ON messages.tenant = $1 AND messages.room_id = given.room_id
			AND messages.author_id = given.author_id AND messages.key = nullif(given.key, '')
		ORDER BY place`,
		tenant, places, rooms, authors, keys, barFrom, whoseMembers)
}

// judge gives the messages their outcomes and, if they are new, their sequences.
func judge(batch []chat.Message, facts []fact, outcomes []chat.Outcome) {
	for i := range outcomes {
		if outcomes[i].Err == nil {
			outcomes[i].Err = chat.ErrNotFound // unless there are facts
		}
	}
	type identity struct{ room, author, key string }
	added := map[identity]chat.Message{}
	lastSeq := map[string]int64{} // of the rooms with new messages
	for _, f := range facts {
		m, outcome := batch[f.Place], &outcomes[f.Place]
		id := identity{m.RoomID, m.AuthorID, m.Key}
		earlier, known := added[id]
		m.AuthorName = f.Name
		switch {
		case f.Seq > 0:
			m.Seq, m.Text, m.SentAt, m.Ref = f.Seq, f.Text, f.SentAt.UTC(), f.Ref
			*outcome = chat.Outcome{Message: m}
		case known && m.Key != "":
			*outcome = chat.Outcome{Message: earlier}
		case !f.Allowed:
			outcome.Err = chat.ErrForbidden
		default:
			m.Seq, m.SentAt = max(f.LastSeq, lastSeq[m.RoomID])+1, orNow(m.SentAt)
			added[id], lastSeq[m.RoomID] = m, m.Seq
			*outcome = chat.Outcome{Message: m, Created: true}
		}
	}
}

// insertMessages stores what is new.
func insertMessages(ctx context.Context, tx pgx.Tx, tenant string, outcomes []chat.Outcome) error {
	var rooms, authors, texts, keys []string
	var seqs, refs []int64
	var sent []time.Time
	for _, o := range outcomes {
		if m := o.Message; o.Created {
			rooms, authors, texts, keys = append(rooms, m.RoomID), append(authors, m.AuthorID), append(texts, m.Text), append(keys, m.Key)
			seqs, sent, refs = append(seqs, m.Seq), append(sent, m.SentAt), append(refs, m.Ref)
		}
	}
	if len(rooms) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		WITH stored AS (
			INSERT INTO messages (tenant, room_id, seq, author_id, text, key, sent_at, ref)
			SELECT $1, room_id, seq, author_id, text, nullif(key, ''), sent_at, nullif(ref, 0)
			FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bigint[])
				AS given (room_id, seq, author_id, text, key, sent_at, ref)
			RETURNING room_id, seq
		), newest AS (SELECT room_id, max(seq) AS seq FROM stored GROUP BY room_id)
		UPDATE rooms SET last_seq = newest.seq FROM newest WHERE tenant = $1 AND id = newest.room_id`,
		tenant, rooms, seqs, authors, texts, keys, sent, refs)
	return err
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
func messages(ctx context.Context, q querier, tenant, roomID, condition string, args ...any) ([]chat.Message, error) {
	return collect(ctx, q, scanMessage, `
		SELECT room_id, seq, author_id, name, text, coalesce(key, ''), sent_at, coalesce(ref, 0), coalesce(binary_text, '')
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
	page, err := messages(ctx, s.pool, tenant, roomID, `seq < $3 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $4`, before, limit)
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
	var there bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL)`, tenant, roomID).
		Scan(&there)
	if err == nil && !there {
		err = chat.ErrNotFound
	}
	var page []chat.Message
	if err == nil {
		page, err = messages(ctx, s.pool, tenant, roomID, `seq BETWEEN $3 AND $4 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $5`, low, high, limit)
	}
	return page, annotate(err, "load messages of room %q", roomID)
}

// needMember returns chat.ErrNotFound for an unknown room and chat.ErrForbidden for anyone who is not a member.
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
