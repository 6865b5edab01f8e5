package chat

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Ids of the chat protocol (chat-preview.md section 1).
var (
	roomID         = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	conversationID = regexp.MustCompile(`^c\.[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$`)
)

// IsRoomID reports whether the protocol allows id as the id of a room that is not direct.
func IsRoomID(id string) bool { return roomID.MatchString(id) && !hasReservedPrefix(id) }

// IsConversationID reports whether id has the form of a conversation's id.
func IsConversationID(id string) bool { return conversationID.MatchString(id) }

// Conversation returns the id of the conversation in a room, or in a topic. It says which, so that none has to be looked
// up; clients need not know.
func Conversation(roomID string) string { return "c." + strings.TrimPrefix(roomID, topicPrefix) }

// ConversationRoom returns the id of the room or topic whose conversation id is, or "".
func ConversationRoom(id string) string {
	id, ok := strings.CutPrefix(id, "c.")
	roomID, topicID, isTopic := strings.Cut(id, ".")
	switch {
	case !ok || !IsRoomID(roomID) || isTopic && !IsRoomID(topicID):
		return ""
	case isTopic:
		return TopicRoom(roomID, topicID)
	}
	return roomID
}

// topicPrefix starts the id of every topic and of no room. Clients of the original choose any other id for their rooms, so
// that a full stop alone would not tell a topic from a room.
const topicPrefix = "topic_"

// TopicRoom returns under which id a topic of a room is stored: as a room that has no members of its own, and that no
// client can make or name.
func TopicRoom(roomID, topicID string) string { return topicPrefix + roomID + "." + topicID }

// SplitTopic returns the room and the topic that an id is of; no topic for a room's own.
func SplitTopic(id string) (roomID, topicID string) {
	topic, ok := strings.CutPrefix(id, topicPrefix)
	if !ok {
		return id, ""
	}
	roomID, topicID, _ = strings.Cut(topic, ".")
	return roomID, topicID
}

func hasReservedPrefix(id string) bool {
	return strings.HasPrefix(id, DirectPrefix) || strings.HasPrefix(id, topicPrefix)
}

// NameOf returns what a user is called of whom only the id is known: the id itself, as far as it can be shown.
func NameOf(id string) string {
	if name, err := CheckName(id); err == nil {
		return name
	}
	name := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r == '<' || r == '>' || unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) || leavesNoTrace(r) {
			return -1
		}
		return r
	}, id)
	if runes := []rune(strings.TrimSpace(name)); len(runes) > 0 {
		return strings.TrimSpace(string(runes[:min(len(runes), MaxNameRunes)]))
	}
	return "Guest"
}
