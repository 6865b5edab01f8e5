package telling

import (
	"context"
	"errors"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

// Said tells everybody in a room but the connection that said it. The message is stored, so its author is not told of a
// failure: saying it again would store another.
func (t *Teller) Said(ctx context.Context, m chat.Message, fromConnection string) {
	n := created(m)
	roomID, topicID := chat.SplitTopic(m.RoomID)
	if topicID == "" { // of topics pages know nothing
		n.said = &said{m.Text, m.AuthorID, m.AuthorName, m.Key}
	}
	t.try(ctx, n, roomID, dataplane.Except(fromConnection))
}

// try counts what could not be told. Clients find it in the history.
func (t *Teller) try(ctx context.Context, n notification, roomID string, options ...dataplane.SendOption) {
	if err := t.notifyRoom(ctx, roomID, n, options...); err != nil {
		t.unsent.Inc()
		t.logger.Warn("message stored and not told", "room", roomID, "error", err)
	}
}

// Heard is a message of a page that all pages of the room have heard, and that has got its place in the history.
type Heard struct {
	Message    chat.Message
	Connection string // that it came from
}

// AlsoSaid tells clients of the chat protocol what pages have said.
func (t *Teller) AlsoSaid(ctx context.Context, list []Heard) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var rooms []string
	for _, h := range list {
		rooms = append(rooms, h.Message.RoomID)
	}
	listening, err := t.store.WithChatUsers(ctx, t.tenant, rooms)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			t.logger.Warn("messages stored and not told", "error", err)
		}
		return
	}
	there := map[string]bool{}
	for _, id := range listening {
		there[id] = true
	}
	for _, h := range list {
		if there[h.Message.RoomID] {
			t.try(ctx, created(h.Message), h.Message.RoomID, dataplane.Except(h.Connection))
		}
	}
}

// Edited tells clients of the chat protocol what a message says now, and Deleted that one is gone.
func (t *Teller) Edited(ctx context.Context, m chat.Message) {
	t.changed(ctx, m, notification{Type: "MessageUpdated", Body: messageCreated{conversationIn(m.RoomID), InfoOf(m)}})
}

// Deleted tells clients of the chat protocol that a message is gone.
func (t *Teller) Deleted(ctx context.Context, m chat.Message) {
	t.changed(ctx, m, notification{Type: "MessageDeleted", Body: messageDeleted{conversationIn(m.RoomID), MessageID(m.Seq)}})
}

func (t *Teller) changed(ctx context.Context, m chat.Message, n notification) {
	roomID, _ := chat.SplitTopic(m.RoomID)
	there, err := t.hasChatUsers(ctx, roomID)
	if err != nil {
		t.logger.Warn("change of a message not told", "room", roomID, "error", err)
	} else if there {
		t.try(ctx, n, roomID)
	}
}
