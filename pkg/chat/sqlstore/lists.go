package sqlstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// listStore is chat.Lists. Each part of a list is read by one statement, so that it is as the list was at one moment.
type listStore struct{ driver }

// Person returns who somebody is and may.
func (s listStore) Person(ctx context.Context, tenant, userID string) (p chat.Person, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return p, err
	}
	var out *time.Time
	var role string
	var permissions *string
	err = find(ctx, s, into{&p.ID, &p.Name, &p.Provider, &out, &role, &permissions}, `
		SELECT u.id, u.name, u.provider, u.signed_out_at, `+userRole+`, permissions
		FROM users u LEFT JOIN roles ON roles.tenant = u.tenant AND roles.name = `+userRole+`
		WHERE u.tenant = $1 AND u.id = $2`, tenant, userID)
	if err != nil {
		return chat.Person{}, annotate(err, "load user %q", userID)
	}
	p.Role = chat.StoredRole(role, permissions)
	if out != nil {
		p.SignedOut = *out
	}
	return p, nil
}

// newestShown is the sequence of a room's newest message that is not deleted: nearly always that of the newest of all.
const newestShown = `CASE WHEN newest.deleted_at IS NULL THEN r.last_seq ELSE
	(SELECT seq FROM messages WHERE tenant = r.tenant AND room_id = r.id AND deleted_at IS NULL ORDER BY seq DESC LIMIT 1) END`

// viewColumns and viewTables are rooms r as the user $2 sees them. What is 1000 is chat.MaxUnread, 200 chat.MaxPreviewRunes.
const (
	viewColumns = `r.title, r.kind, r.owner_id, r.created_at, r.last_seq, r.last_event,
		m.state, m.read_seq, ` + memberRole + `, permissions, ` + isBlocked + `,
		(SELECT count(*) FROM members WHERE tenant = r.tenant AND room_id = r.id),
		CASE WHEN m.read_seq < r.last_seq THEN
			(SELECT count(*) FROM (SELECT 1 FROM messages WHERE tenant = r.tenant AND room_id = r.id AND seq > m.read_seq
				AND deleted_at IS NULL AND author_id <> m.user_id LIMIT 1000) AS unread) ELSE 0 END,
		newest.sent_at, coalesce(shown.number, shown.seq), shown.seq, shown.author_id, author.name, substr(shown.text, 1, 200), shown.sent_at,
		peer.id, peer.name, peer_member.state`
	viewTables = `
		LEFT JOIN members m ON m.tenant = r.tenant AND m.room_id = r.id AND m.user_id = $2
		LEFT JOIN roles ON roles.tenant = r.tenant AND roles.name = ` + memberRole + `
		LEFT JOIN messages newest ON newest.tenant = r.tenant AND newest.room_id = r.id AND newest.seq = r.last_seq
		LEFT JOIN messages shown ON shown.tenant = r.tenant AND shown.room_id = r.id AND shown.seq = ` + newestShown + `
		LEFT JOIN users author ON author.tenant = r.tenant AND author.id = shown.author_id
		LEFT JOIN users peer ON peer.tenant = r.tenant AND peer.id = CASE r.low_id WHEN $2 THEN r.high_id ELSE r.low_id END
		LEFT JOIN members peer_member ON peer_member.tenant = r.tenant AND peer_member.room_id = r.id AND peer_member.user_id = peer.id`
)

// view are the columns of a room as a user sees it. There may be none: then everything is null.
type view struct {
	id, title, kind, owner            *string
	created                           *time.Time
	lastSeq, lastEvent                *int64
	state                             *string
	readSeq                           *int64
	role, permissions                 *string
	blocked                           *bool
	members, unread                   *int
	newestAt                          *time.Time
	shownNumber, shownSeq             *int64
	shownAuthor, shownName, shownText *string
	shownAt                           *time.Time
	peerID, peerName, peerState       *string
}

func (v *view) columns() into {
	return into{&v.title, &v.kind, &v.owner, &v.created, &v.lastSeq, &v.lastEvent, &v.state, &v.readSeq, &v.role, &v.permissions, &v.blocked,
		&v.members, &v.unread, &v.newestAt, &v.shownNumber, &v.shownSeq, &v.shownAuthor, &v.shownName, &v.shownText, &v.shownAt,
		&v.peerID, &v.peerName, &v.peerState}
}

// room returns what a view says, unless there is none.
func (v *view) room() (r chat.RoomView, there bool) {
	if v.id == nil || v.title == nil {
		return r, false
	}
	r.Room = chat.Room{ID: *v.id, Title: *v.title, Kind: chat.Kind(*v.kind), OwnerID: *v.owner, CreatedAt: *v.created, LastSeq: *v.lastSeq}
	r.LastEvent, r.Count, r.At = *v.lastEvent, *v.members, *v.created
	if v.newestAt != nil {
		r.At = *v.newestAt
	}
	if v.state != nil {
		r.In, r.State, r.Role = true, chat.MemberState(*v.state), chat.StoredRole(*v.role, v.permissions)
		r.MaySpeak = chat.MaySpeak(r.Role, *v.blocked)
		r.ReadSeq, r.Unread = *v.readSeq, *v.unread
	}
	if v.shownSeq != nil && r.MayRead() {
		r.Last = &chat.Message{RoomID: *v.id, Seq: *v.shownSeq, Number: *v.shownNumber, AuthorID: *v.shownAuthor, AuthorName: *v.shownName,
			Text: *v.shownText, SentAt: *v.shownAt}
	}
	if r.Room.Kind == chat.KindDirect && v.peerID != nil {
		r.Peer = &chat.Member{UserID: *v.peerID, Name: *v.peerName}
		if v.peerState != nil {
			r.Peer.State = chat.MemberState(*v.peerState)
		}
	}
	return r, true
}

// atMost returns a limit, or most when it is not one.
func atMost(limit, most int) int {
	if limit < 1 || limit > most {
		return most
	}
	return limit
}

// endOfTime is later than all that a list can hold.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// orEnd returns where a list that goes back in time begins.
func orEnd(p chat.Place) chat.Place {
	if p == (chat.Place{}) {
		p.At = endOfTime
	}
	return p
}

// OwnRooms returns rooms that a user is in, from the most recent.
func (s listStore) OwnRooms(ctx context.Context, tenant, userID string, after chat.Place, limit int) (own chat.OwnRooms, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return own, err
	}
	limit, after = atMost(limit, chat.MaxMemberships), orEnd(after)
	known := false
	rooms, err := collect(ctx, s, func(row rows) (v view, err error) {
		known = true
		return v, row.Scan(append(into{&own.Revision, &v.id}, v.columns()...)...)
	}, `
		WITH own AS (
			SELECT r.id, coalesce(newest.sent_at, r.created_at) AS at
			FROM members m
			JOIN rooms r ON r.tenant = m.tenant AND r.id = m.room_id AND r.deleted_at IS NULL
			LEFT JOIN messages newest ON newest.tenant = r.tenant AND newest.room_id = r.id AND newest.seq = r.last_seq
			WHERE m.tenant = $1 AND m.user_id = $2),
		part AS (SELECT id, at FROM own WHERE (at, id) < ($3, $4) ORDER BY at DESC, id DESC LIMIT $5)
		SELECT me.list_revision, part.id, `+viewColumns+`
		FROM users me
		LEFT JOIN part ON true
		LEFT JOIN rooms r ON r.tenant = me.tenant AND r.id = part.id`+viewTables+`
		WHERE me.tenant = $1 AND me.id = $2
		ORDER BY part.at DESC, part.id DESC`,
		tenant, userID, after.At, after.ID, limit+1)
	if err == nil && !known {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.OwnRooms{}, annotate(err, "list the own rooms of user %q", userID)
	}
	for _, v := range rooms {
		if r, there := v.room(); there {
			own.Rooms = append(own.Rooms, r)
		}
	}
	if own.More = len(own.Rooms) > limit; own.More {
		own.Rooms = own.Rooms[:limit]
		last := own.Rooms[limit-1]
		own.Next = chat.Place{At: last.At, ID: last.Room.ID}
	}
	return own, nil
}

// ChangedRooms returns what has changed in a user's own list after a revision. Revisions are taken under the lock of the
// user's row and until their transaction has ended, so that there is none to come below one that is seen.
func (s listStore) ChangedRooms(ctx context.Context, tenant, userID string, since int64, limit int) (changed chat.ChangedRooms, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return changed, err
	}
	var newest, keptAfter int64 // of the list
	known := false
	_, err = collect(ctx, s, func(row rows) (v view, err error) {
		known = true
		var revision *int64 // null when nothing has changed
		if err := row.Scan(append(into{&newest, &keptAfter, &revision, &v.id}, v.columns()...)...); err != nil || revision == nil {
			return v, err
		}
		changed.Revision = *revision
		if r, there := v.room(); there && r.In {
			changed.Rooms = append(changed.Rooms, r)
		} else {
			changed.Gone = append(changed.Gone, *v.id)
		}
		return v, nil
	}, `
		WITH changed AS (
			SELECT room_id, revision FROM members WHERE tenant = $1 AND user_id = $2 AND revision > $3
			UNION ALL
			SELECT room_id, revision FROM departures d WHERE tenant = $1 AND user_id = $2 AND revision > $3
			AND NOT EXISTS (SELECT 1 FROM members WHERE tenant = $1 AND user_id = $2 AND room_id = d.room_id)),
		part AS (
			SELECT room_id, revision FROM changed
			WHERE revision <= coalesce((SELECT revision FROM changed ORDER BY revision LIMIT 1 OFFSET $4), (SELECT max(revision) FROM changed)))
		SELECT me.list_revision, me.list_kept_after, part.revision, part.room_id, `+viewColumns+`
		FROM users me
		LEFT JOIN part ON true
		LEFT JOIN rooms r ON r.tenant = me.tenant AND r.id = part.room_id AND r.deleted_at IS NULL`+viewTables+`
		WHERE me.tenant = $1 AND me.id = $2
		ORDER BY part.revision, part.room_id`,
		tenant, userID, since, atMost(limit, chat.MaxMemberships)-1)
	switch {
	case err != nil:
	case !known:
		err = chat.ErrNotFound
	case since > newest || since < keptAfter || since < 0:
		err = chat.ErrGone
	}
	if err != nil {
		return chat.ChangedRooms{}, annotate(err, "list what has changed in the rooms of user %q after %d", userID, since)
	}
	changed.More = len(changed.Rooms)+len(changed.Gone) >= atMost(limit, chat.MaxMemberships) && changed.Revision < newest
	if !changed.More {
		changed.Revision = newest
	}
	return changed, nil
}

// RoomView returns a room as a user sees it.
func (s listStore) RoomView(ctx context.Context, tenant, userID, roomID string) (chat.RoomView, error) {
	if err := chat.CheckIDs(tenant, userID, roomID); err != nil {
		return chat.RoomView{}, err
	}
	v := view{id: &roomID}
	err := find(ctx, s, v.columns(), `SELECT `+viewColumns+` FROM rooms r`+viewTables+`
		WHERE r.tenant = $1 AND r.id = $3 AND r.deleted_at IS NULL`, tenant, userID, roomID)
	if err != nil {
		return chat.RoomView{}, annotate(err, "load room %q for user %q", roomID, userID)
	}
	r, _ := v.room()
	return r, nil
}

// How far one call looks for titles. Titles are compared here, since the databases know other letters than we do.
const (
	directoryStep  = 500
	directorySteps = 20
)

// Directory returns public rooms that a user is not in.
func (s listStore) Directory(ctx context.Context, tenant, userID, looked string, after chat.Place, limit int) (found []chat.DirectoryRoom, next chat.Place, more bool, err error) {
	if err := chat.CheckIDs(tenant, userID); err != nil {
		return nil, next, false, err
	}
	limit, next = atMost(limit, chat.MaxDirectory), orEnd(after)
	step, matches := limit+1, chat.Matching(looked)
	if looked != "" {
		step = directoryStep
	}
	more = true
	for steps := 0; more && len(found) <= limit && steps < directorySteps; steps++ {
		public, err := collect(ctx, s, func(row rows) (r chat.Room, err error) {
			r.Kind = chat.KindPublic
			return r, row.Scan(&r.ID, &r.Title, &r.OwnerID, &r.CreatedAt, &r.LastSeq)
		}, `
			SELECT id, title, owner_id, created_at, last_seq FROM rooms
			WHERE tenant = $1 AND kind = 'public' AND deleted_at IS NULL AND (created_at, id) < ($3, $4)
			AND id NOT IN (SELECT room_id FROM members WHERE tenant = $1 AND user_id = $2) -- read once, whatever is planned
			ORDER BY created_at DESC, id DESC LIMIT $5`, tenant, userID, next.At, next.ID, step)
		if err != nil {
			return nil, next, false, annotate(err, "list the directory")
		}
		more = len(public) == step
		for _, r := range public {
			if !matches(r.Title) {
				next = chat.Place{At: r.CreatedAt, ID: r.ID}
				continue
			}
			if len(found) == limit {
				more = true
				return found, next, more, s.count(ctx, tenant, found)
			}
			found, next = append(found, chat.DirectoryRoom{Room: r}), chat.Place{At: r.CreatedAt, ID: r.ID}
		}
	}
	return found, next, more, s.count(ctx, tenant, found)
}

// count notes how many members the rooms have.
func (s listStore) count(ctx context.Context, tenant string, list []chat.DirectoryRoom) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]string, len(list))
	for i, r := range list {
		ids[i] = r.Room.ID
	}
	_, err := collect(ctx, s, func(row rows) (id string, err error) {
		var n int
		err = row.Scan(&id, &n)
		if i := slices.Index(ids, id); i >= 0 {
			list[i].Count = n
		}
		return id, err
	}, `SELECT room_id, count(*) FROM members WHERE tenant = $1 AND room_id {any $2} GROUP BY room_id`, tenant, ids)
	return annotate(err, "count members")
}

// MembersPage returns members of a room in the order of joining.
func (s listStore) MembersPage(ctx context.Context, tenant, roomID string, after chat.Place, limit int) (members []chat.Member, next chat.Place, more bool, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return nil, next, false, err
	}
	limit = atMost(limit, chat.MaxMembersPage)
	var joined []time.Time
	members, err = collect(ctx, s, func(row rows) (m chat.Member, err error) {
		var at time.Time
		err = row.Scan(&m.UserID, &m.Name, &m.State, &m.ReadSeq, &m.Role, &at)
		joined = append(joined, at)
		return m, err
	}, `
		SELECT u.id, u.name, m.state, m.read_seq, `+memberRole+`, m.joined_at
		FROM members m
		JOIN rooms r ON r.tenant = m.tenant AND r.id = m.room_id AND r.deleted_at IS NULL
		JOIN users u ON u.tenant = m.tenant AND u.id = m.user_id
		WHERE m.tenant = $1 AND m.room_id = $2 AND (m.joined_at, m.user_id) > ($3, $4)
		ORDER BY m.joined_at, m.user_id LIMIT $5`,
		tenant, roomID, after.At, after.ID, limit+1)
	if err != nil {
		return nil, next, false, annotate(err, "list the members of room %q", roomID)
	}
	if more = len(members) > limit; more {
		members = members[:limit]
		next = chat.Place{At: joined[limit-1], ID: members[limit-1].UserID}
	}
	return members, next, more, nil
}

// MessageWindow returns messages of a room that are next to a sequence.
func (s listStore) MessageWindow(ctx context.Context, tenant, roomID string, w chat.Window) (window chat.MessageWindow, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return window, err
	}
	w.Before, w.After = max(0, min(w.Before, chat.MaxPage)), max(0, min(w.After, chat.MaxPage))
	there := false
	var list []chat.WindowMessage
	_, err = collect(ctx, s, func(row rows) (m chat.WindowMessage, err error) {
		there = true
		var seq *int64 // null when there is no message
		var at *time.Time
		err = row.Scan(&window.LastEvent, &seq, &m.Number, &m.AuthorID, &m.AuthorName, &m.Text, &m.Key, &at, &m.Ref, &m.Binary, &m.Edited)
		if err == nil && seq != nil {
			m.RoomID, m.Seq, m.SentAt = roomID, *seq, *at
			list = append(list, m)
		}
		return m, err
	}, `
		WITH older AS (
			SELECT seq FROM messages WHERE tenant = $1 AND room_id = $2 AND seq < $3 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $4),
		newer AS (
			SELECT seq FROM messages WHERE tenant = $1 AND room_id = $2 AND seq >= $3 AND deleted_at IS NULL ORDER BY seq LIMIT $5),
		part AS (SELECT seq FROM older UNION ALL SELECT seq FROM newer)
		SELECT r.last_event, part.seq, coalesce(m.number, m.seq, 0), coalesce(m.author_id, ''), coalesce(u.name, ''), coalesce(m.text, ''),
			coalesce(m.key, ''), m.sent_at, coalesce(m.ref, 0), coalesce(m.binary_text, ''),
			EXISTS (SELECT 1 FROM message_events e WHERE e.tenant = r.tenant AND e.room_id = r.id AND e.seq = part.seq AND e.kind = 'edited')
		FROM rooms r
		LEFT JOIN part ON true
		LEFT JOIN messages m ON m.tenant = r.tenant AND m.room_id = r.id AND m.seq = part.seq
		LEFT JOIN users u ON u.tenant = r.tenant AND u.id = m.author_id
		WHERE r.tenant = $1 AND r.id = $2 AND r.deleted_at IS NULL
		ORDER BY part.seq`,
		tenant, roomID, w.Seq, w.Before+1, w.After+1)
	if err == nil && !there {
		err = chat.ErrNotFound
	}
	if err != nil {
		return chat.MessageWindow{}, annotate(err, "load messages of room %q around %d", roomID, w.Seq)
	}
	older, _ := slices.BinarySearchFunc(list, w.Seq, func(m chat.WindowMessage, seq int64) int { return cmp.Compare(m.Seq, seq) })
	window.Older, window.Newer = older > w.Before, len(list)-older > w.After
	window.Messages = list[max(0, older-w.Before):min(len(list), older+w.After)]
	return window, nil
}
