package chat

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Ids of the chat protocol (chat-preview.md section 1).
var (
	roomID         = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	conversationID = regexp.MustCompile(`^c\.[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$`)
)

// IsRoomID reports whether the protocol allows id as the id of a room that is not direct.
func IsRoomID(id string) bool { return roomID.MatchString(id) && !strings.HasPrefix(id, DirectPrefix) }

// IsConversationID reports whether id has the form of a conversation's id.
func IsConversationID(id string) bool { return conversationID.MatchString(id) }

// Conversation returns the id of a room's conversation. It says which room's, so that none has to be looked up;
// clients need not know.
func Conversation(roomID string) string { return "c." + roomID }

// ConversationRoom returns the id of the room whose conversation id is, or "".
func ConversationRoom(id string) string {
	room, ok := strings.CutPrefix(id, "c.")
	if !ok || !IsRoomID(room) {
		return ""
	}
	return room
}

// NameOf returns what a user is called of whom only the id is known: the id itself, as far as it can be shown.
func NameOf(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r == '<' || r == '>' || invisible(r) {
			return -1
		}
		return r
	}, id)
	if runes := []rune(strings.TrimSpace(name)); len(runes) > 0 {
		return strings.TrimSpace(string(runes[:min(len(runes), MaxNameRunes)]))
	}
	return "Guest"
}
