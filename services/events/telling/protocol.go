package telling

import (
	"encoding/json"
	"strconv"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Conversation is a conversation as clients of the chat protocol see it.
type Conversation struct {
	ConversationID string  `json:"conversationId"`
	RoomID         string  `json:"roomId,omitempty"`
	TopicID        *string `json:"topicId"`
}

// conversationIn is the conversation of a room, or of a topic.
func conversationIn(where string) Conversation {
	roomID, topicID := chat.SplitTopic(where)
	c := Conversation{ConversationID: chat.Conversation(where), RoomID: roomID}
	if topicID != "" {
		c.TopicID = &topicID
	}
	return c
}

// MessageInfo is a message as clients of the chat protocol see it (chat-preview.md section 2.6).
type MessageInfo struct {
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

// InfoOf returns a message as clients of the chat protocol see it.
func InfoOf(m chat.Message) MessageInfo {
	info := MessageInfo{
		MessageID: MessageID(m.Seq), CreatedBy: m.AuthorID, CreatedAt: chat.WireTime(m.SentAt),
		BodyType: "Text", MessageBodyType: "Inline", Content: content{Text: &m.Text},
	}
	if m.Binary != "" {
		info.Content.Binary = &m.Binary
	}
	if m.Ref > 0 {
		ref := MessageID(m.Ref)
		info.RefMessageID = &ref
	}
	return info
}

// MessageID is the id that clients know a message by.
func MessageID(seq int64) string { return strconv.FormatInt(seq, 10) }

// RoomInfo is a room as clients of the chat protocol see it.
type RoomInfo struct {
	RoomID                string   `json:"roomId"`
	Title                 string   `json:"title"`
	DefaultConversationID string   `json:"defaultConversationId"`
	Properties            *string  `json:"properties"`
	Members               []string `json:"members,omitempty"`
}

// RoomInfoOf returns a room as clients of the chat protocol see it, with the members that r has.
func RoomInfoOf(r chat.Room) RoomInfo {
	info := RoomInfo{RoomID: r.ID, Title: r.Title, DefaultConversationID: chat.Conversation(r.ID)}
	for _, m := range r.Members {
		info.Members = append(info.Members, m.UserID)
	}
	return info
}

// Bodies of notifications (chat-preview.md section 3).
type (
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
		Conversation Conversation `json:"conversation"`
		MessageID    string       `json:"messageId"`
	}
	messageCreated struct { // MessageUpdated, too
		Conversation Conversation `json:"conversation"`
		Message      MessageInfo  `json:"message"`
	}
)

// notification is one of these for clients of the chat protocol, and with said also a line for our own page and the
// original's, which know it by its members: one frame for all of them. Without a Type it is for our own page alone.
type notification struct {
	Type  string          `json:"notificationType,omitempty"`
	Body  any             `json:"body,omitempty"`
	Event *chat.WireEvent `json:"event,omitempty"` // for our own page: what it is in the room's sequence
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

func roomJoined(r chat.Room) notification {
	r.Members = nil
	return notification{Type: "RoomJoined", Body: RoomInfoOf(r)}
}
