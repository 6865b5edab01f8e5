package chat

import (
	"strings"
	"testing"
)

func TestProtocolIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"r": true, "A_b-9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a.b": false, "é": false, "a/b": false, "r\n": false, DirectPrefix + "x": false, topicPrefix + "x": false,
	} {
		if got := IsRoomID(id); got != want {
			t.Errorf("room id %q: got %v, want %v", id, got, want)
		}
		if got := ConversationRoom(Conversation(id)) == id && id != "" && !strings.Contains(id, "."); got != want { // with one it is a topic's
			t.Errorf("conversation of room %q leads back: got %v, want %v", id, got, want)
		}
	}
	for id, want := range map[string]bool{
		"c.r": true, "c.r.topic_1": true, "c.r.": false, "c.": false, "r": false, "c.r.t.u": false, "C.r": false, "c.é": false,
	} {
		if got := IsConversationID(id); got != want {
			t.Errorf("conversation id %q: got %v, want %v", id, got, want)
		}
	}
	if got := ConversationRoom(Conversation(TopicRoom("r", "t"))); got != TopicRoom("r", "t") {
		t.Errorf("room of a topic's conversation: got %q, want %q", got, TopicRoom("r", "t"))
	}
	for _, id := range []string{"", "c.", "r", "c.r.", "c.r.t.u", "c." + DirectPrefix + "x", "c.r." + DirectPrefix + "x"} {
		if got := ConversationRoom(id); got != "" {
			t.Errorf("room of conversation %q: got %q, want none", id, got)
		}
	}
}

func TestNameOf(t *testing.T) {
	for id, want := range map[string]string{
		"ana": "ana", "<b>x</b>": "bx/b", "\u202eevil": "evil", "  ": "Guest", "\xff": "Guest", strings.Repeat("é", 80): strings.Repeat("é", MaxNameRunes),
	} {
		got := NameOf(id)
		if got != want {
			t.Errorf("name of %q: got %q, want %q", id, got, want)
		}
		if _, err := CheckName(got); err != nil {
			t.Errorf("name of %q: %v", id, err)
		}
	}
}
