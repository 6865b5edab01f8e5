package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// appStore is of chat.Admin what is about rooms, members and messages.
type appStore struct{ driver }

// PutRoom creates a private room of nobody's, or gives a room its title.
func (s appStore) PutRoom(ctx context.Context, tenant string, r chat.Room, c chat.Condition) (room chat.Room, created bool, err error) {
	r.OwnerID, r.Kind = chat.ServiceUser, chat.KindPrivate
	if err := errors.Join(chat.CheckIDs(tenant), chat.CheckPutRoom(r)); err != nil {
		return room, false, err
	}
	err = s.write(ctx, func(t tx) error {
		t.lockName("room", tenant, r.ID)
		was, err := lockedRoom(ctx, t, tenant, r.ID)
		tag := ""
		switch {
		case err == nil:
			tag = was.Tag()
		case !errors.Is(err, chat.ErrNotFound):
			return err
		}
		if err := c.Check(tag); err != nil {
			return err
		}
		created = tag == ""
		switch {
		case created:
			insertServiceRoom(t, tenant, r)
			record(ctx, t, tenant, r.ID, chat.Event{Kind: chat.EventCreated, UserID: r.OwnerID, Title: r.Title})
		case was.Kind == chat.KindDirect:
			return chat.ErrForbidden
		case was.Title != r.Title:
			record(ctx, t, tenant, r.ID, chat.Event{Kind: chat.EventTitle, UserID: chat.ServiceUser, Title: r.Title})
			t.send(`UPDATE rooms SET title = $3 WHERE tenant = $1 AND id = $2`, tenant, r.ID, r.Title)
		}
		room, err = loadRoom(ctx, t, tenant, r.ID)
		return err
	})
	return room, created && err == nil, annotate(err, "put room %q", r.ID)
}

// insertServiceRoom creates a room that is not there, or is deleted; then nothing of what it was stays, but its events go
// on counting, so that who knew it begins again, and nobody can be told any more of those that have not been. That somebody was in it is kept, for who has not heard of its end.
func insertServiceRoom(t tx, tenant string, r chat.Room) {
	topics := chat.TopicRoom(r.ID, "")
	t.send(`INSERT INTO users (tenant, id, name, provider) VALUES ($1, $2, 'Service', 'service') ON CONFLICT (tenant, id) DO NOTHING`,
		tenant, chat.ServiceUser)
	for _, table := range []string{"messages", "room_events"} {
		t.send(`DELETE FROM `+table+` WHERE tenant = $1 AND (room_id = $2 OR substr(room_id, 1, length($3)) = $3)`, tenant, r.ID, topics)
	}
	t.send(`
		UPDATE rooms SET deleted_at = coalesce(deleted_at, $3), deleted_by = $4, kept_after = last_event
		WHERE tenant = $1 AND substr(id, 1, length($2)) = $2`, tenant, topics, time.Now(), chat.ServiceUser)
	t.send(`UPDATE departures SET left_at = $3, role = NULL WHERE tenant = $1 AND room_id = $2`, tenant, r.ID, time.Unix(0, 0))
	t.send(`
		INSERT INTO rooms (tenant, id, title, kind, owner_id, created_at) VALUES ($1, $2, $3, 'private', $4, $5)
		ON CONFLICT (tenant, id) DO UPDATE SET title = $3, kind = 'private', owner_id = $4, created_at = $5, last_seq = 0,
			kept_after = rooms.last_event, told_event = rooms.last_event, deleted_at = NULL, deleted_by = NULL`,
		tenant, r.ID, r.Title, chat.ServiceUser, time.Now())
}

// RemoveRoom deletes a room that is not direct.
func (s appStore) RemoveRoom(ctx context.Context, tenant, roomID string, c chat.Condition) (was chat.Room, err error) {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return was, err
	}
	err = s.write(ctx, func(t tx) error {
		was, err = roomToClose(ctx, t, tenant, roomID)
		if errors.Is(err, chat.ErrNotFound) {
			err = checkThere("", c)
		}
		if err != nil {
			return err
		}
		if err := c.Check(was.Tag()); err != nil {
			return err
		}
		if was.Kind == chat.KindDirect {
			return chat.ErrForbidden
		}
		closeRoom(ctx, t, tenant, was, chat.ServiceUser)
		return nil
	})
	return was, annotate(err, "remove room %q", roomID)
}

// memberToChange returns a membership in a room that is not direct, with its tag, or the tag "", and locks the room.
func memberToChange(ctx context.Context, t tx, tenant, roomID, userID string) (m chat.Member, tag string, err error) {
	room, err := lockedRoom(ctx, t, tenant, roomID)
	if err != nil {
		return m, "", err
	}
	if room.Kind == chat.KindDirect {
		return m, "", chat.ErrForbidden
	}
	if m, in := room.Member(userID); in {
		return m, m.Tag(), nil
	}
	return m, "", nil
}

// PutMember makes a user a member with a role, or gives a member that role.
func (s appStore) PutMember(ctx context.Context, tenant, roomID, userID, role string, c chat.Condition) (added bool, err error) {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return false, err
	}
	if err := chat.CheckRoleName(role); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t tx) error {
		getsRole(t, tenant)
		if err := lockUsers(ctx, t, tenant, userID); err != nil {
			return err
		}
		was, tag, err := memberToChange(ctx, t, tenant, roomID, userID)
		if err != nil {
			return err
		}
		stored, err := storedRole(ctx, t, tenant, role)
		if err != nil {
			return err
		}
		if err := errors.Join(chat.CheckGiven(role, "room", stored != ""), c.Check(tag)); err != nil {
			return err
		}
		if added = tag == ""; added {
			if err := addMember(ctx, t, tenant, roomID, userID, chat.StateJoined, chat.MaxMemberships); err != nil {
				return err
			}
			record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventJoined, UserID: userID})
			was.Role = chat.RoleMember // as who hears of the joining takes it
		}
		t.send(`UPDATE members SET role = $4 WHERE tenant = $1 AND room_id = $2 AND user_id = $3`, tenant, roomID, userID, role)
		if was.Role != role {
			membershipChanged(t, tenant, roomID, userID)
			record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventRole, UserID: userID, Role: role})
		}
		return nil
	})
	return added && err == nil, annotate(err, "put user %q into room %q", userID, roomID)
}

// RemoveMember ends a membership.
func (s appStore) RemoveMember(ctx context.Context, tenant, roomID, userID string, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, roomID, userID); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		unknown := lockUsers(ctx, t, tenant, userID)
		if unknown != nil && !errors.Is(unknown, chat.ErrNotFound) {
			return unknown
		}
		_, tag, err := memberToChange(ctx, t, tenant, roomID, userID)
		if err != nil {
			return err
		}
		if err := checkThere(tag, c); err != nil {
			return err
		}
		_, err = depart(ctx, t, tenant, roomID, userID)
		return err
	})
	return annotate(err, "remove user %q from room %q", userID, roomID)
}

// messageToChange returns a message that is in the history and meets the condition, and locks its room.
func messageToChange(ctx context.Context, t tx, tenant, roomID string, seq int64, c chat.Condition) (m chat.Message, err error) {
	if _, err := lockRoom(ctx, t, tenant, roomID); err != nil {
		return m, err
	}
	list, err := messages(ctx, t, tenant, roomID, `seq = $3 AND deleted_at IS NULL`, seq)
	if err != nil {
		return m, err
	}
	if len(list) == 0 {
		return m, checkThere("", c)
	}
	return list[0], c.Check(list[0].Tag())
}

// keep notes what a message was.
func keep(t tx, tenant, kind string, was chat.Message) {
	t.send(`INSERT INTO message_events (tenant, room_id, seq, at, kind, text, binary_text) VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''))`,
		tenant, was.RoomID, was.Seq, time.Now(), kind, was.Text, was.Binary)
}

// EditMessage replaces a message's content.
func (s appStore) EditMessage(ctx context.Context, tenant string, m chat.Message, c chat.Condition) (edited chat.Message, err error) {
	if err := errors.Join(chat.CheckIDs(tenant, m.RoomID), chat.CheckContent(m)); err != nil {
		return edited, err
	}
	err = s.write(ctx, func(t tx) error {
		was, err := messageToChange(ctx, t, tenant, m.RoomID, m.Seq, c)
		if err != nil {
			return err
		}
		keep(t, tenant, "edited", was)
		edited = was
		edited.Text, edited.Binary = m.Text, m.Binary
		t.send(`UPDATE messages SET text = $4, binary_text = nullif($5, '') WHERE tenant = $1 AND room_id = $2 AND seq = $3`,
			tenant, m.RoomID, m.Seq, m.Text, m.Binary)
		record(ctx, t, tenant, m.RoomID, chat.Event{Kind: chat.EventEdited, UserID: was.AuthorID, Seq: was.Seq})
		return nil
	})
	return edited, annotate(err, "edit message %d of room %q", m.Seq, m.RoomID)
}

// DeleteMessage takes a message out of the history.
func (s appStore) DeleteMessage(ctx context.Context, tenant, roomID string, seq int64, c chat.Condition) error {
	if err := chat.CheckIDs(tenant, roomID); err != nil {
		return err
	}
	err := s.write(ctx, func(t tx) error {
		was, err := messageToChange(ctx, t, tenant, roomID, seq, c)
		if err != nil {
			return err
		}
		keep(t, tenant, "deleted", was)
		t.send(`UPDATE messages SET deleted_at = $4 WHERE tenant = $1 AND room_id = $2 AND seq = $3`, tenant, roomID, seq, time.Now())
		record(ctx, t, tenant, roomID, chat.Event{Kind: chat.EventDeleted, UserID: was.AuthorID, Seq: seq})
		return nil
	})
	return annotate(err, "delete message %d of room %q", seq, roomID)
}
