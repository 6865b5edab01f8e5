package sqlstore

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// messageStore is chat.Messages.
type messageStore struct{ driver }

// AddMessage stores one message.
func (s messageStore) AddMessage(ctx context.Context, tenant string, m chat.Message) (stored chat.Message, created bool, err error) {
	return chat.One(s.AddMessages(ctx, tenant, []chat.Message{m}))
}

// AddMessages stores a batch, in as many round trips as a batch of one: whoever writes in a room locks it first,
// in the order of the ids, so that what is read of it then stays true.
func (s messageStore) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	checked, err := chat.CheckBatch(tenant, batch)
	if err != nil {
		return nil, err
	}
	var outcomes []chat.Outcome
	err = s.write(ctx, func(t tx) error {
		outcomes = slices.Clone(checked)
		facts, err := s.lockFacts(ctx, t, tenant, batch, outcomes)
		if err != nil {
			return err
		}
		if err := judge(batch, facts, outcomes, func(m chat.Message, seq int64) (chat.Message, error) {
			return storedMessage(ctx, t, tenant, m.RoomID, seq)
		}); err != nil {
			return err
		}
		s.insert(t, tenant, outcomes)
		return nil
	})
	if err != nil {
		return nil, annotate(err, "store %d messages", len(batch))
	}
	return outcomes, nil
}

// fact is what decides about a message whose room is there.
type fact struct {
	place    int   // in the batch
	lastSeq  int64 // of the room
	allowed  bool  // the author may have said it
	name     string
	knownSeq int64 // of the stored message with its key; 0 for none
}

func scanFact(row rows) (f fact, err error) {
	return f, row.Scan(&f.place, &f.lastSeq, &f.allowed, &f.name, &f.knownSeq)
}

// lockFacts locks the rooms of the messages that have no outcome yet and returns their facts, in the order of the
// batch.
func (s messageStore) lockFacts(ctx context.Context, t tx, tenant string, batch []chat.Message, outcomes []chat.Outcome) ([]fact, error) {
	var places []int64
	var rooms, authors, keys, whoseMembers []string
	var barFrom []time.Time
	for i, m := range batch {
		if outcomes[i].Err == nil {
			places, rooms, authors = append(places, int64(i)), append(rooms, m.RoomID), append(authors, m.AuthorID)
			keys, barFrom = append(keys, m.Key), append(barFrom, m.MayBarFrom())
			room, _ := chat.SplitTopic(m.RoomID)
			whoseMembers = append(whoseMembers, room)
		}
	}
	if len(places) == 0 {
		return nil, nil
	}
	t.send(`SELECT 1 FROM rooms WHERE tenant = $1 AND id {any $2} ORDER BY id {lock}`, tenant, rooms)
	table, args := s.given(2, column{"place", "int", places}, column{"room_id", "text", rooms}, column{"author_id", "text", authors},
		column{"key", "text", keys}, column{"bar_from", "timestamptz", barFrom}, column{"whose_members", "text", whoseMembers})
	return collect(ctx, t, scanFact, `
		SELECT place, last_seq,
			(EXISTS (SELECT 1 FROM members WHERE tenant = $1 AND room_id = whose_members AND user_id = given.author_id)
				OR EXISTS (SELECT 1 FROM departures
					WHERE tenant = $1 AND room_id = whose_members AND user_id = given.author_id AND left_at >= bar_from))
			AND NOT EXISTS (SELECT 1 FROM blocks
				WHERE tenant = $1 AND other_id = given.author_id AND by_id IN (low_id, high_id) AND blocked_at < bar_from),
			coalesce((SELECT name FROM users WHERE tenant = $1 AND id = given.author_id), ''),
			coalesce((SELECT seq FROM messages WHERE tenant = $1 AND room_id = given.room_id
				AND author_id = given.author_id AND key = nullif(given.key, '')), 0)
		FROM `+table+`
		CROSS JOIN rooms WHERE rooms.tenant = $1 AND rooms.id = given.room_id AND deleted_at IS NULL -- SQLite keeps this order
		ORDER BY place`, append([]any{tenant}, args...)...)
}

// judge gives the messages their outcomes and, if they are new, their sequences. Those that are stored already it loads,
// which are few.
func judge(batch []chat.Message, facts []fact, outcomes []chat.Outcome, load func(m chat.Message, seq int64) (chat.Message, error)) error {
	for i := range outcomes {
		if outcomes[i].Err == nil {
			outcomes[i].Err = chat.ErrNotFound // unless there are facts
		}
	}
	type identity struct{ room, author, key string }
	added := map[identity]chat.Message{}
	lastSeq := map[string]int64{} // of the rooms with new messages
	for _, f := range facts {
		m, outcome := batch[f.place], &outcomes[f.place]
		id := identity{m.RoomID, m.AuthorID, m.Key}
		earlier, known := added[id]
		m.AuthorName = f.name
		switch {
		case f.knownSeq > 0:
			stored, err := load(m, f.knownSeq)
			if err != nil {
				return err
			}
			*outcome = chat.Outcome{Message: stored}
		case known && m.Key != "":
			*outcome = chat.Outcome{Message: earlier}
		case !f.allowed:
			outcome.Err = chat.ErrForbidden
		default:
			m.Seq, m.SentAt = max(f.lastSeq, lastSeq[m.RoomID])+1, orNow(m.SentAt)
			added[id], lastSeq[m.RoomID] = m, m.Seq
			*outcome = chat.Outcome{Message: m, Created: true}
		}
	}
	return nil
}

// storedMessage returns a message that is stored, deleted or not.
func storedMessage(ctx context.Context, q reader, tenant, roomID string, seq int64) (chat.Message, error) {
	list, err := messages(ctx, q, tenant, roomID, `seq = $3`, seq)
	if err == nil && len(list) == 0 {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.Message{}, err
	}
	return list[0], nil
}

// insert stores what is new.
func (s messageStore) insert(t tx, tenant string, outcomes []chat.Outcome) {
	var rooms, authors, texts, keys []string
	var seqs, refs []int64
	var sent []time.Time
	newest := map[string]int64{}
	for _, o := range outcomes {
		if m := o.Message; o.Created {
			rooms, authors, texts, keys = append(rooms, m.RoomID), append(authors, m.AuthorID), append(texts, m.Text), append(keys, m.Key)
			seqs, sent, refs = append(seqs, m.Seq), append(sent, m.SentAt), append(refs, m.Ref)
			newest[m.RoomID] = m.Seq
		}
	}
	if len(rooms) == 0 {
		return
	}
	table, args := s.given(2, column{"room_id", "text", rooms}, column{"seq", "bigint", seqs}, column{"author_id", "text", authors},
		column{"text", "text", texts}, column{"key", "text", keys}, column{"sent_at", "timestamptz", sent}, column{"ref", "bigint", refs})
	t.send(`
		INSERT INTO messages (tenant, room_id, seq, author_id, text, key, sent_at, ref)
		SELECT $1, room_id, seq, author_id, text, nullif(key, ''), sent_at, nullif(ref, 0) FROM `+table,
		append([]any{tenant}, args...)...)
	var changed []string
	var last []int64
	for room, seq := range newest {
		changed, last = append(changed, room), append(last, seq)
	}
	table, args = s.given(2, column{"room_id", "text", changed}, column{"seq", "bigint", last})
	t.send(`UPDATE rooms SET last_seq = given.seq FROM `+table+` WHERE tenant = $1 AND id = given.room_id`,
		append([]any{tenant}, args...)...)
}

// messages returns those of a room that meet the condition, which counts its arguments from $3 and may order and
// limit them.
func messages(ctx context.Context, q reader, tenant, roomID, condition string, args ...any) ([]chat.Message, error) {
	return collect(ctx, q, scanMessage, `
		SELECT room_id, seq, author_id, name, text, coalesce(key, ''), sent_at, coalesce(ref, 0), coalesce(binary_text, '')
		FROM messages JOIN users ON users.tenant = messages.tenant AND users.id = author_id
		WHERE messages.tenant = $1 AND room_id = $2 AND `+condition,
		append([]any{tenant, roomID}, args...)...)
}

func scanMessage(row rows) (m chat.Message, err error) {
	return m, row.Scan(&m.RoomID, &m.Seq, &m.AuthorID, &m.AuthorName, &m.Text, &m.Key, &m.SentAt, &m.Ref, &m.Binary)
}

// pageSize is how many messages a page has that was asked for with a limit.
func pageSize(limit int) int {
	if limit < 1 || limit > chat.MaxPage {
		return chat.MaxPage
	}
	return limit
}

// History returns a page of a room's messages in ascending order.
func (s messageStore) History(ctx context.Context, tenant, roomID, userID string, before int64, limit int) (page []chat.Message, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return nil, err
	}
	if before == 0 {
		before = math.MaxInt64
	}
	if err = needMember(ctx, s, tenant, roomID, userID); err == nil {
		page, err = messages(ctx, s, tenant, roomID, `seq < $3 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $4`, before, pageSize(limit))
	}
	slices.Reverse(page)
	return page, annotate(err, "load the history of room %q for user %q", roomID, userID)
}

// Messages returns messages of a room between two sequences, newest first.
func (s messageStore) Messages(ctx context.Context, tenant, roomID string, low, high int64, limit int) (page []chat.Message, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return nil, err
	}
	var there bool
	err = find(ctx, s, into{&there}, `SELECT true FROM rooms WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL`, tenant, roomID)
	if err == nil {
		page, err = messages(ctx, s, tenant, roomID, `seq BETWEEN $3 AND $4 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $5`,
			low, high, pageSize(limit))
	}
	return page, annotate(err, "load messages of room %q", roomID)
}
