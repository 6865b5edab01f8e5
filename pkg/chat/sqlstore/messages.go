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
		v, err := judge(batch, facts, outcomes, func(roomID string, seq int64) (chat.Message, error) {
			return storedMessage(ctx, t, tenant, roomID, seq)
		})
		if err != nil {
			return err
		}
		s.insert(t, tenant, v)
		return nil
	})
	if err != nil {
		return nil, annotate(err, "store %d messages", len(batch))
	}
	s.stored(len(batch))
	return outcomes, nil
}

// fact is what decides about a message whose room is there.
type fact struct {
	place     int   // in the batch
	lastSeq   int64 // of the room, or topic
	lastEvent int64
	in        bool       // the author is a member
	leftAt    *time.Time // of an author who has been one
	role      chat.Role  // the author's, in the room, or of when the author left
	blockedAt *time.Time // by either of the two in a direct room
	readSeq   *int64     // of a member, in the room itself; topics have none
	name      string     // the author's
	knownSeq  int64      // of the stored message with its key; 0 for none
	refThere  bool       // what it is about is in the history, or it is about nothing
}

func scanFact(row rows) (f fact, err error) {
	var role string
	var permissions *string
	err = row.Scan(&f.place, &f.lastSeq, &f.lastEvent, &f.in, &f.leftAt, &role, &permissions, &f.blockedAt, &f.readSeq, &f.name, &f.knownSeq, &f.refThere)
	f.role = chat.StoredRole(role, permissions)
	return f, err
}

// refusal says why a message may not be stored, or nil.
func (f fact) refusal(m chat.Message) error {
	barFrom := m.MayBarFrom()
	switch blocked := f.blockedAt != nil && f.blockedAt.Before(barFrom); {
	case !f.in && (f.leftAt == nil || f.leftAt.Before(barFrom)):
		return chat.ErrForbidden
	case !chat.MaySpeak(f.role, blocked):
		return chat.ErrMuted
	case !f.refThere: // strangers have not been told so much
		return chat.ErrNoRef
	}
	return nil
}

// lockFacts locks the rooms of the messages that have no outcome yet and returns their facts, in the order of the
// batch.
func (s messageStore) lockFacts(ctx context.Context, t tx, tenant string, batch []chat.Message, outcomes []chat.Outcome) ([]fact, error) {
	var places, refs []int64
	var rooms, authors, keys, whoseMembers []string
	for i, m := range batch {
		if outcomes[i].Err == nil {
			places, rooms, authors, keys = append(places, int64(i)), append(rooms, m.RoomID), append(authors, m.AuthorID), append(keys, m.Key)
			refs = append(refs, m.Ref)
			room, _ := chat.SplitTopic(m.RoomID)
			whoseMembers = append(whoseMembers, room)
		}
	}
	if len(places) == 0 {
		return nil, nil
	}
	t.send(`SELECT 1 FROM rooms WHERE tenant = $1 AND id {any $2} ORDER BY id {lock}`, tenant, rooms)
	table, args := s.given(2, column{"place", "int", places}, column{"room_id", "text", rooms}, column{"author_id", "text", authors},
		column{"key", "text", keys}, column{"whose_members", "text", whoseMembers}, column{"ref", "bigint", refs})
	// CROSS JOIN: SQLite keeps this order. A key is looked up as a range and in order, which only the index of keys has: a
	// planner that does not know the tables yet would as well read the whole room.
	return collect(ctx, t, scanFact, `
		SELECT place, c.last_seq, c.last_event, m.user_id IS NOT NULL, d.left_at, `+speakerRole+`, permissions,
			(SELECT min(blocked_at) FROM blocks WHERE tenant = $1
				AND (by_id = c.low_id AND other_id = c.high_id OR by_id = c.high_id AND other_id = c.low_id)),
			m.read_seq,
			coalesce((SELECT name FROM users WHERE tenant = $1 AND id = given.author_id), ''),
			CASE given.key WHEN '' THEN 0 ELSE coalesce((SELECT seq FROM messages WHERE tenant = $1 AND room_id = given.room_id
				AND author_id = given.author_id AND key >= given.key AND key <= given.key ORDER BY key LIMIT 1), 0) END,
			CASE given.ref WHEN 0 THEN true ELSE EXISTS (SELECT 1 FROM messages
				WHERE tenant = $1 AND room_id = given.room_id AND seq = given.ref AND deleted_at IS NULL) END
		FROM `+table+`
		CROSS JOIN rooms c CROSS JOIN rooms r
		LEFT JOIN members m ON m.tenant = $1 AND m.room_id = given.whose_members AND m.user_id = given.author_id
		LEFT JOIN departures d ON d.tenant = $1 AND d.room_id = given.whose_members AND d.user_id = given.author_id
		LEFT JOIN roles ON roles.tenant = $1 AND roles.name = `+speakerRole+`
		WHERE c.tenant = $1 AND c.id = given.room_id AND c.deleted_at IS NULL
			AND r.tenant = $1 AND r.id = given.whose_members AND r.deleted_at IS NULL
		ORDER BY place`, append([]any{tenant}, args...)...)
}

// speakerRole is the role of a member m of a room r, or that with which the author of a message has departed (d).
const speakerRole = `coalesce(CASE WHEN m.user_id IS NULL THEN d.role ELSE m.role END,
	CASE r.owner_id WHEN given.author_id THEN '` + chat.RoleOperator + `' ELSE '` + chat.RoleMember + `' END)`

// verdict is what a batch changes.
type verdict struct {
	outcomes []chat.Outcome
	last     map[string]chat.Message // by room, the newest of those with new messages
	read     map[membership]int64    // up to where authors have now read
}

type membership struct{ room, user string }

// judge gives the messages their outcomes and, if they are new, their sequences and numbers. Those that are stored already
// it loads, which are few.
func judge(batch []chat.Message, facts []fact, outcomes []chat.Outcome, load func(roomID string, seq int64) (chat.Message, error)) (verdict, error) {
	for i := range outcomes {
		if outcomes[i].Err == nil {
			outcomes[i].Err = chat.ErrNotFound // unless there are facts
		}
	}
	type identity struct{ room, author, key string }
	added := map[identity]chat.Message{}
	v := verdict{outcomes, map[string]chat.Message{}, map[membership]int64{}}
	for _, f := range facts {
		m, outcome := batch[f.place], &outcomes[f.place]
		id := identity{m.RoomID, m.AuthorID, m.Key}
		earlier, known := added[id]
		m.AuthorName = f.name
		switch {
		case f.knownSeq > 0:
			stored, err := load(m.RoomID, f.knownSeq)
			if err != nil {
				return v, err
			}
			*outcome = chat.Outcome{Message: stored}
		case known && m.Key != "":
			*outcome = chat.Outcome{Message: earlier}
		default:
			if outcome.Err = f.refusal(m); outcome.Err != nil {
				continue
			}
			last, isLater := v.last[m.RoomID]
			if !isLater {
				last.Seq, last.Number = f.lastSeq, f.lastEvent
			}
			m.Seq, m.Number, m.SentAt = last.Seq+1, last.Number+1, orNow(m.SentAt)
			added[id], v.last[m.RoomID] = m, m
			*outcome = chat.Outcome{Message: m, Created: true}
		}
		v.spoken(f, outcome.Message)
	}
	return v, nil
}

// spoken notes that who has said a message, and had read all before, has read that, too.
func (v verdict) spoken(f fact, m chat.Message) {
	if _, topic := chat.SplitTopic(m.RoomID); f.readSeq == nil || topic != "" {
		return
	}
	who := membership{m.RoomID, m.AuthorID}
	if max(*f.readSeq, v.read[who]) == m.Seq-1 {
		v.read[who] = m.Seq
	}
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
func (s messageStore) insert(t tx, tenant string, v verdict) {
	var rooms, authors, texts, keys, binaries, connections []string
	var seqs, numbers, refs []int64
	var sent []time.Time
	var heard []bool
	for _, o := range v.outcomes {
		if m := o.Message; o.Created {
			rooms, authors, texts, keys = append(rooms, m.RoomID), append(authors, m.AuthorID), append(texts, m.Text), append(keys, m.Key)
			seqs, numbers, refs, sent = append(seqs, m.Seq), append(numbers, m.Number), append(refs, m.Ref), append(sent, m.SentAt)
			binaries, connections, heard = append(binaries, m.Binary), append(connections, m.Connection), append(heard, m.Heard)
		}
	}
	if len(rooms) > 0 {
		table, args := s.given(2, column{"room_id", "text", rooms}, column{"seq", "bigint", seqs}, column{"number", "bigint", numbers},
			column{"author_id", "text", authors}, column{"text", "text", texts}, column{"key", "text", keys},
			column{"sent_at", "timestamptz", sent}, column{"ref", "bigint", refs}, column{"binary_text", "text", binaries},
			column{"connection", "text", connections}, column{"heard", "boolean", heard})
		t.send(`
			INSERT INTO messages (tenant, room_id, seq, number, author_id, text, key, sent_at, ref, binary_text, connection, heard)
			SELECT $1, room_id, seq, number, author_id, text, nullif(key, ''), sent_at, nullif(ref, 0), nullif(binary_text, ''),
				nullif(connection, ''), heard FROM `+table,
			append([]any{tenant}, args...)...)
		rooms, seqs, numbers = nil, nil, nil
		for room, m := range v.last {
			rooms, seqs, numbers = append(rooms, room), append(seqs, m.Seq), append(numbers, m.Number)
		}
		table, args = s.given(2, column{"room_id", "text", rooms}, column{"seq", "bigint", seqs}, column{"number", "bigint", numbers})
		t.send(`UPDATE rooms SET last_seq = given.seq, last_event = given.number, untold = true
			FROM `+table+` WHERE tenant = $1 AND id = given.room_id`, append([]any{tenant}, args...)...)
	}
	if len(v.read) > 0 {
		var rooms, users []string
		var seqs []int64
		for who, seq := range v.read {
			rooms, users, seqs = append(rooms, who.room), append(users, who.user), append(seqs, seq)
		}
		table, args := s.given(2, column{"in_room", "text", rooms}, column{"author", "text", users}, column{"seq", "bigint", seqs})
		t.send(`UPDATE members SET read_seq = given.seq FROM `+table+`
			WHERE tenant = $1 AND room_id = in_room AND user_id = author AND read_seq < given.seq`, append([]any{tenant}, args...)...)
	}
}

// messages returns those of a room that meet the condition, which counts its arguments from $3 and may order and
// limit them.
func messages(ctx context.Context, q reader, tenant, roomID, condition string, args ...any) ([]chat.Message, error) {
	return collect(ctx, q, scanMessage, `
		SELECT room_id, seq, coalesce(number, seq), author_id, name, text, coalesce(key, ''), sent_at, coalesce(ref, 0),
			coalesce(binary_text, ''), coalesce(connection, ''), heard
		FROM messages JOIN users ON users.tenant = messages.tenant AND users.id = author_id
		WHERE messages.tenant = $1 AND room_id = $2 AND `+condition,
		append([]any{tenant, roomID}, args...)...)
}

func scanMessage(row rows) (m chat.Message, err error) {
	return m, row.Scan(&m.RoomID, &m.Seq, &m.Number, &m.AuthorID, &m.AuthorName, &m.Text, &m.Key, &m.SentAt, &m.Ref,
		&m.Binary, &m.Connection, &m.Heard)
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
