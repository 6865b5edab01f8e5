package rules

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// CheckLine refuses a text that a page does not send: one of nothing but white space, or of more than chat.MaxTextRunes
// characters. Clients of the chat protocol may send more (chat.MaxTextBytes).
func CheckLine(text string) error {
	switch n := utf8.RuneCountInString(text); {
	case strings.TrimSpace(text) == "":
		return Refuse(Invalid, "the text is empty; give 1 to %d characters, not only white space", chat.MaxTextRunes)
	case n > chat.MaxTextRunes:
		return Refuse(Invalid, "the text has %d characters; at most %d are allowed", n, chat.MaxTextRunes)
	}
	return CheckText(text)
}

// CheckText refuses a text that cannot be kept.
func CheckText(text string) error {
	switch {
	case text == "":
		return Refuse(Invalid, "the content must be a text that is not empty")
	case len(text) > chat.MaxTextBytes:
		return Refuse(Invalid, "the content has %d bytes; at most %d are allowed", len(text), chat.MaxTextBytes)
	case !utf8.ValidString(text):
		return Refuse(Invalid, "the content must be valid UTF-8")
	case strings.ContainsRune(text, 0):
		return Refuse(Invalid, "the content must not contain NUL characters")
	}
	return nil
}

// maxMessageID is how many digits a message id may have; those of ours have fewer.
const maxMessageID = 128

// Sequence reads a message id: digits only. What is beyond all messages there can be is as good as the last.
func Sequence(id string) (int64, error) {
	if id == "" || len(id) > maxMessageID || strings.Trim(id, "0123456789") != "" {
		return 0, Refuse(InvalidMessage, "a message id has 1 to %d digits", maxMessageID)
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return math.MaxInt64, nil //nolint:nilerr // out of range
	}
	return n, nil
}

// Line is something that somebody says.
type Line struct {
	Text       string
	Key        string // the same message is said again with the same key
	About      string // id of the message that it is about; empty: none
	Connection string // that is told by its answer, and not told again; empty: none
}

// Say stores what somebody says in a conversation of the chat protocol, and returns it as it is stored, and whether that is
// new: the same line may have been stored before.
func (r *Rules) Say(ctx context.Context, a Actor, conversationID string, l Line) (stored chat.Message, isNew bool, err error) {
	if err := CheckText(l.Text); err != nil {
		return stored, false, err
	}
	where := chat.ConversationRoom(conversationID)
	if where == "" {
		return stored, false, errNoConversation
	}
	m := chat.Message{RoomID: where, AuthorID: a.User.ID, Text: l.Text, Key: l.Key, Connection: l.Connection}
	if l.About != "" {
		if m.Ref, err = Sequence(l.About); err == nil && m.Ref == 0 { // which would mean nothing
			err = errNoRef
		}
		if err != nil {
			return m, false, err
		}
	}
	return r.say(ctx, m, errNoConversation)
}

// SayInRoom does the same for a line of a page, which names a room of any kind, and whose texts are shorter.
func (r *Rules) SayInRoom(ctx context.Context, a Actor, roomID string, l Line) (stored chat.Message, isNew bool, err error) {
	if err := CheckLine(l.Text); err != nil {
		return stored, false, err
	}
	if len(l.Key) > chat.MaxKeyBytes {
		return stored, false, Refuse(Invalid, "the key has %d bytes; at most %d are allowed", len(l.Key), chat.MaxKeyBytes)
	}
	if _, topicID := chat.SplitTopic(roomID); topicID != "" {
		return stored, false, errNoRoom
	}
	m := chat.Message{RoomID: roomID, AuthorID: a.User.ID, Text: l.Text, Key: l.Key, Connection: l.Connection}
	return r.say(ctx, m, errNoRoom)
}

func (r *Rules) say(ctx context.Context, m chat.Message, errNowhere error) (stored chat.Message, isNew bool, err error) {
	o, err := r.said.Call(ctx, m)
	if err == nil {
		err = o.Err
	}
	stored, isNew = o.Message, o.Created
	switch {
	case errors.Is(err, chat.ErrMuted):
		return stored, false, Refuse(MayNot, "you may not write here: your role does not allow it, or one of you has blocked the other")
	case errors.Is(err, chat.ErrNoRef):
		return stored, false, errNoRef
	case errors.Is(err, chat.ErrInvalid):
		return stored, false, Refuse(NotStorable, "the message cannot be stored")
	}
	return stored, isNew, outcome{notFound: errNowhere, forbidden: errNotIn}.of(err)
}

var errNoRef = Refuse(NoMessage, "refMessageId names no message of this conversation")

// talk returns the id of the room, or of its topic, that a conversation is in, if somebody may do there what needs the
// permission.
func (r *Rules) talk(ctx context.Context, a Actor, conversationID string, need chat.Permission, what string) (where string, err error) {
	where = chat.ConversationRoom(conversationID)
	if where == "" {
		return "", errNoConversation
	}
	roomID, topicID := chat.SplitTopic(where)
	m, err := r.Membership(ctx, a, roomID)
	switch {
	case errors.Is(err, errNoRoom):
		return "", errNoConversation
	case err != nil:
		return "", err
	case !m.In:
		return "", errNotIn
	case !m.Role.Allows(need):
		return "", mayNot(m, what)
	}
	if topicID != "" {
		_, err = r.store.Room(ctx, r.tenant, where)
	}
	return where, outcome{notFound: errNoConversation}.of(err)
}

// History returns up to limit messages of a conversation with a sequence from low to high, both included, newest first.
func (r *Rules) History(ctx context.Context, a Actor, conversationID string, low, high int64, limit int) ([]chat.Message, error) {
	where, err := r.talk(ctx, a, conversationID, chat.RoomHistory, "read")
	if err != nil {
		return nil, err
	}
	list, err := r.store.Messages(ctx, r.tenant, where, low, high, limit)
	return list, outcome{notFound: errNoConversation}.of(err)
}

// MarkRead remembers how far somebody has read.
func (r *Rules) MarkRead(ctx context.Context, a Actor, roomID string, seq int64) error {
	return outcome{notFound: errNoRoom, forbidden: errNoRoom}.of(r.store.MarkRead(ctx, r.tenant, roomID, a.User.ID, seq))
}

// Keep stores what has been heard already, in its order: what is kept of it is decided by what the store knows of its
// authors at the time it was sent. There is an outcome for each.
func (r *Rules) Keep(ctx context.Context, heard []chat.Message) ([]chat.Outcome, error) {
	return r.store.AddMessages(ctx, r.tenant, heard)
}
