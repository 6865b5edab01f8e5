package events

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// maxMessageID is how many digits a message id may have; those of ours have fewer.
const maxMessageID = 128

// sequence reads a message id: digits only. What is beyond all messages there can be is as good as the last.
func sequence(id string) (int64, error) {
	if id == "" || len(id) > maxMessageID || strings.Trim(id, "0123456789") != "" {
		return 0, faulty(http.StatusBadRequest, codeBadMessageID, "a message id has 1 to %d digits", maxMessageID)
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return math.MaxInt64, nil //nolint:nilerr // out of range
	}
	return n, nil
}

// talk returns the id of the room, or of its topic, that a conversation is in, if the acting user may do there what needs
// the permission.
func (s *Service) talk(ctx context.Context, a *act, conversationID string, need chat.Permission, what string) (where string, err error) {
	where = chat.ConversationRoom(conversationID)
	if where == "" {
		return "", errNoConversation
	}
	roomID, topicID := chat.SplitTopic(where)
	m, err := s.membership(ctx, a, roomID)
	var f *fault
	switch {
	case errors.As(err, &f) && f.Code == codeRoomNotFound:
		return "", errNoConversation
	case err != nil:
		return "", err
	case !m.In:
		return "", errNotInRoom
	case !m.Role.Allows(need):
		return "", mayNot(m, what)
	}
	if topicID != "" {
		_, err = s.store.Room(ctx, s.cfg.Tenant, where)
	}
	return where, missing(err, codeBadConversation, "conversation")
}

var errNoConversation = faulty(http.StatusNotFound, codeBadConversation, "there is no such conversation")

// sendTextMessage stores a message and tells everybody else. One that a gateway posts again is the same message.
func (s *Service) sendTextMessage(ctx context.Context, a *act) (any, error) {
	var in struct {
		Conversation struct{ ConversationID string }
		Content      *string
		Message      *string // what drafts called the content
		RefMessageID *string
	}
	if err := a.read(&in); err != nil {
		return nil, err
	}
	text := in.Content
	if text == nil {
		text = in.Message
	}
	switch {
	case text == nil || *text == "":
		return nil, invalid("content must be a text that is not empty")
	case len(*text) > chat.MaxTextBytes:
		return nil, invalid("the content has %d bytes; at most %d are allowed", len(*text), chat.MaxTextBytes)
	case strings.ContainsRune(*text, 0):
		return nil, invalid("the content must not contain NUL characters")
	}
	where, err := s.talk(ctx, a, in.Conversation.ConversationID, chat.RoomPublishMessage, "write to")
	if err != nil {
		return nil, err
	}
	message := chat.Message{RoomID: where, AuthorID: a.user.ID, Text: *text, Key: a.key()}
	if in.RefMessageID != nil {
		if message.Ref, err = s.reference(ctx, where, *in.RefMessageID); err != nil {
			return nil, err
		}
	}
	stored, isNew, err := s.store.AddMessage(ctx, s.cfg.Tenant, message)
	switch {
	case errors.Is(err, chat.ErrNotFound):
		return nil, errNoConversation
	case errors.Is(err, chat.ErrForbidden): // taken out meanwhile
		return nil, errNotInRoom
	case errors.Is(err, chat.ErrInvalid):
		return nil, faulty(http.StatusBadRequest, codeFailedSend, "the message cannot be stored")
	case err != nil:
		return nil, err
	}
	if isNew {
		s.tellSaid(ctx, stored, a.conn)
	}
	return struct {
		ID string `json:"id"`
	}{messageID(stored.Seq)}, nil
}

// reference returns the sequence of a message that another is about.
func (s *Service) reference(ctx context.Context, roomID, id string) (int64, error) {
	seq, err := sequence(id)
	if err != nil {
		return 0, err
	}
	list, err := s.store.Messages(ctx, s.cfg.Tenant, roomID, seq, seq, 1)
	if err == nil && len(list) == 0 {
		err = faulty(http.StatusNotFound, codeMessageNotFound, "refMessageId names no message of this conversation")
	}
	return seq, err
}

// messageQuery asks for the messages between two, both included, newest first; without one there is no bound.
type messageQuery struct {
	Conversation struct {
		ConversationID string `json:"conversationId"`
	} `json:"conversation"`
	Start    *string `json:"start"`
	End      *string `json:"end"`
	MaxCount *int    `json:"maxCount"`
}

// defaultPage is how many messages a query gets that does not say.
const defaultPage = 100

// queryMessageHistory returns a page of a room's messages and the query for the next.
func (s *Service) queryMessageHistory(ctx context.Context, a *act) (any, error) {
	var in messageQuery
	if err := a.read(&in); err != nil {
		return nil, err
	}
	low, high, count := int64(0), int64(math.MaxInt64), defaultPage
	var err error
	if in.Start != nil {
		if low, err = sequence(*in.Start); err != nil {
			return nil, err
		}
	}
	if in.End != nil {
		if high, err = sequence(*in.End); err != nil {
			return nil, err
		}
	}
	if in.MaxCount != nil {
		if *in.MaxCount < 1 {
			return nil, invalid("maxCount is %d; it must be at least 1", *in.MaxCount)
		}
		count = min(*in.MaxCount, chat.MaxPage)
	}
	where, err := s.talk(ctx, a, in.Conversation.ConversationID, chat.RoomHistory, "read")
	if err != nil {
		return nil, err
	}
	list, err := s.store.Messages(ctx, s.cfg.Tenant, where, low, high, count)
	if errors.Is(err, chat.ErrNotFound) {
		return nil, errNoConversation
	}
	if err != nil {
		return nil, err
	}
	page := struct {
		Messages  []messageInfo `json:"messages"`
		NextQuery *messageQuery `json:"nextQuery"`
	}{Messages: []messageInfo{}}
	for _, message := range list {
		page.Messages = append(page.Messages, infoOf(message))
	}
	if len(list) == count {
		if next := list[count-1].Seq - 1; next >= max(low, 1) {
			end := messageID(next)
			page.NextQuery = &in
			page.NextQuery.End = &end
		}
	}
	return page, nil
}
