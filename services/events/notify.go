package events

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// conversation is a conversation as clients of the chat protocol see it.
type conversation struct {
	ConversationID string  `json:"conversationId"`
	RoomID         string  `json:"roomId,omitempty"`
	TopicID        *string `json:"topicId"`
}

// messageInfo is a message as they see it (chat-preview.md section 2.6).
type messageInfo struct {
	MessageID       string  `json:"messageId"`
	CreatedBy       string  `json:"createdBy"`
	CreatedAt       string  `json:"createdAt"`
	BodyType        string  `json:"bodyType"`
	MessageBodyType string  `json:"messageBodyType"`
	Content         content `json:"content"`
	RefMessageID    *string `json:"refMessageId"`
}

type content struct {
	Text   *string `json:"text"`
	Binary *string `json:"binary"` // base64
}

func infoOf(m chat.Message) messageInfo {
	info := messageInfo{
		MessageID: messageID(m.Seq), CreatedBy: m.AuthorID, CreatedAt: m.SentAt.UTC().Format(timeForm),
		BodyType: "Text", MessageBodyType: "Inline", Content: content{Text: &m.Text},
	}
	if m.Binary != "" {
		info.Content.Binary = &m.Binary
	}
	if m.Ref > 0 {
		ref := messageID(m.Ref)
		info.RefMessageID = &ref
	}
	return info
}

// timeForm has milliseconds always: the official clients' languages all read it.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

func messageID(seq int64) string { return strconv.FormatInt(seq, 10) }

// Bodies of notifications (chat-preview.md section 3).
type (
	roomJoined struct {
		RoomID                string  `json:"roomId"`
		Title                 string  `json:"title"`
		DefaultConversationID string  `json:"defaultConversationId"`
		Properties            *string `json:"properties"`
	}
	roomNamed struct { // RoomLeft, RoomClosed
		RoomID string `json:"roomId"`
		Title  string `json:"title"`
	}
	roomMember struct { // RoomMemberJoined, RoomMemberLeft
		RoomID string `json:"roomId"`
		Title  string `json:"title"`
		UserID string `json:"userId"`
	}
	messageDeleted struct {
		Conversation conversation `json:"conversation"`
		MessageID    string       `json:"messageId"`
	}
	messageCreated struct { // MessageUpdated, too
		Conversation conversation `json:"conversation"`
		Message      messageInfo  `json:"message"`
	}
)

// notification is one of these for clients of the chat protocol, and with said also a line for our own page and the
// original's, which know it by its members: one frame for all of them.
type notification struct {
	Type string `json:"notificationType"`
	Body any    `json:"body"`
	*said
}

// said is what somebody has said, as pages send it to the group themselves.
type said struct {
	Message      string `json:"message"`
	FromUserID   string `json:"fromUserId"`
	FromUserName string `json:"fromUserName"`
	Key          string `json:"key"`
}

func (n notification) data() webpubsub.Data {
	body, _ := json.Marshal(n) // structs of strings
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}
}

func created(m chat.Message) notification {
	return notification{Type: "MessageCreated", Body: messageCreated{conversationIn(m.RoomID), infoOf(m)}}
}

// conversationIn is the conversation of a room, or of a topic.
func conversationIn(where string) conversation {
	roomID, topicID := chat.SplitTopic(where)
	c := conversation{ConversationID: chat.Conversation(where), RoomID: roomID}
	if topicID != "" {
		c.TopicID = &topicID
	}
	return c
}

// notifyRoom notifies the connections that hear a room. Pages of the original draw whatever comes from a group, so
// where there may be some it comes from the server, at the price of looking at every connection of the hub.
func (s *Service) notifyRoom(ctx context.Context, roomID string, n notification, options ...dataplane.SendOption) error {
	if s.cfg.LegacyGuests && n.said == nil {
		return s.gateway.SendToAll(ctx, n.data(), append(options, dataplane.Filter(quote(roomID)+" in groups"))...)
	}
	return s.gateway.SendToGroup(ctx, roomID, n.data(), options...)
}

// notifyOthers is notifyRoom for everybody but one user.
func (s *Service) notifyOthers(ctx context.Context, roomID, userID string, n notification) error {
	filter := dataplane.Filter("userId ne " + quote(userID))
	if s.cfg.LegacyGuests {
		return s.gateway.SendToAll(ctx, n.data(), dataplane.Filter(quote(roomID)+" in groups and userId ne "+quote(userID)))
	}
	return s.gateway.SendToGroup(ctx, roomID, n.data(), filter)
}

// hasChatUsers reports whether anybody would understand a notification about a room. Of what pages do in their own
// rooms there is none else.
func (s *Service) hasChatUsers(ctx context.Context, roomID string) (bool, error) {
	rooms, err := s.store.WithChatUsers(ctx, s.cfg.Tenant, []string{roomID})
	return len(rooms) > 0, err
}

// tellJoined tells everybody that a user is in a room now: pages, and the clients of the chat protocol, of whom the
// user's own come last. Who has been told may speak at once.
func (s *Service) tellJoined(ctx context.Context, room chat.Room, user chat.User) error {
	joined := member{ChatID: room.ID, UserID: user.ID, UserName: user.Name, State: chat.StateJoined}
	if err := s.tellRoom(ctx, room.ID, user.ID, "memberJoined", joined); err != nil || room.Kind == chat.KindDirect {
		return err
	}
	if err := s.notice(ctx, room.ID, user.Name, "has joined the chat"); err != nil {
		return err
	}
	if there, err := s.hasChatUsers(ctx, room.ID); err != nil || !there {
		return err
	}
	err := s.notifyOthers(ctx, room.ID, user.ID, notification{Type: "RoomMemberJoined", Body: roomMember{room.ID, room.Title, user.ID}})
	if err != nil {
		return err
	}
	return s.gateway.SendToUser(ctx, user.ID, joinedNotification(room).data())
}

func joinedNotification(room chat.Room) notification {
	return notification{Type: "RoomJoined", Body: roomJoined{RoomID: room.ID, Title: room.Title, DefaultConversationID: chat.Conversation(room.ID)}}
}

// tellLeft tells everybody that a user is in a room no longer.
func (s *Service) tellLeft(ctx context.Context, room chat.Room, user chat.User) error {
	if err := s.tellRoom(ctx, room.ID, user.ID, "memberLeft", member{ChatID: room.ID, UserID: user.ID}); err != nil {
		return err
	}
	if err := s.notice(ctx, room.ID, user.Name, "has left the chat"); err != nil || room.Kind == chat.KindDirect {
		return err
	}
	if there, err := s.hasChatUsers(ctx, room.ID); err != nil {
		return err
	} else if there {
		err := s.notifyOthers(ctx, room.ID, user.ID, notification{Type: "RoomMemberLeft", Body: roomMember{room.ID, room.Title, user.ID}})
		if err != nil {
			return err
		}
	}
	return s.gateway.SendToUser(ctx, user.ID, notification{Type: "RoomLeft", Body: roomNamed{room.ID, room.Title}}.data())
}

// tellSaid tells everybody in a room but the connection that said it. The message is stored, so its author is not
// told of a failure: saying it again would store another.
func (s *Service) tellSaid(ctx context.Context, m chat.Message, fromConnection string) {
	n := created(m)
	roomID, topicID := chat.SplitTopic(m.RoomID)
	if topicID == "" { // of topics pages know nothing
		n.said = &said{m.Text, m.AuthorID, m.AuthorName, m.Key}
	}
	s.tryToTell(ctx, n, roomID, dataplane.Except(fromConnection))
}

// tryToTell counts what could not be told. Clients find it in the history.
func (s *Service) tryToTell(ctx context.Context, n notification, roomID string, options ...dataplane.SendOption) {
	if err := s.notifyRoom(ctx, roomID, n, options...); err != nil {
		s.metrics.untold.Inc()
		s.logger.Warn("message stored and not told", "room", roomID, "error", err)
	}
}

// remembered is a message of a page that has got its place in the history, and the connection that it came from.
type remembered struct {
	message chat.Message
	from    string
}

// tellRemembered tells clients of the chat protocol what pages have said; the pages have heard it already.
func (s *Service) tellRemembered(ctx context.Context, list []remembered) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	var rooms []string
	for _, r := range list {
		rooms = append(rooms, r.message.RoomID)
	}
	listening, err := s.store.WithChatUsers(ctx, s.cfg.Tenant, rooms)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.logger.Warn("messages stored and not told", "error", err)
		}
		return
	}
	heard := map[string]bool{}
	for _, id := range listening {
		heard[id] = true
	}
	for _, r := range list {
		if heard[r.message.RoomID] {
			s.tryToTell(ctx, created(r.message), r.message.RoomID, dataplane.Except(r.from))
		}
	}
}
