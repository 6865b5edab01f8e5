package events

import (
	"context"
	"encoding/json"
	"html"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// message is a server message of the chat: {"chatEvent", "data"}, where data is a string, itself JSON unless
// value is one.
func message(event string, value any) webpubsub.Data {
	text, plain := value.(string)
	if !plain {
		inner, _ := json.Marshal(value) // structs and maps of strings, numbers and truth values
		text = string(inner)
	}
	body, _ := json.Marshal(struct {
		ChatEvent string `json:"chatEvent"`
		Data      string `json:"data"`
	}{event, text})
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}
}

// online is the data of userOnline.
type online struct {
	UserID       string `json:"userId"`
	UserName     string `json:"userName"`
	UserProvider string `json:"userProvider"`
	Idle         bool   `json:"idle"`
}

func onlineMessage(u chat.User, idle bool) webpubsub.Data {
	return message("userOnline", online{u.ID, u.Name, u.Provider, idle})
}

// member is a person in a chat, as chats carry them.
type member struct {
	ChatID   string           `json:"chatId,omitempty"`
	UserID   string           `json:"userId"`
	UserName string           `json:"userName,omitempty"`
	State    chat.MemberState `json:"state,omitempty"`
}

// chatCreated is the data of chatCreated.
type chatCreated struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Members map[string]member `json:"members"`
	Owner   string            `json:"owner"`
	Kind    chat.Kind         `json:"kind"`
}

func chatCreatedOf(r chat.Room) chatCreated {
	members := map[string]member{}
	for _, m := range r.Members {
		members[m.UserID] = member{UserID: m.UserID, UserName: m.Name, State: m.State}
	}
	return chatCreated{r.ID, r.Title, members, r.OwnerID, r.Kind}
}

func (s *Service) tellAll(ctx context.Context, event string, value any) error {
	return s.gateway.SendToAll(ctx, message(event, value))
}

func (s *Service) tellUser(ctx context.Context, userID, event string, value any) error {
	return s.gateway.SendToUser(ctx, userID, message(event, value))
}

// tellRoom tells the members of a room, and userID even when no longer one of them. It is a server message, which
// pages of the original ignore when they do not know it, and not a group message, which they would draw.
func (s *Service) tellRoom(ctx context.Context, roomID, userID, event string, value any) error {
	filter := quote(roomID) + " in groups or userId eq " + quote(userID)
	return s.gateway.SendToAll(ctx, message(event, value), dataplane.Filter(filter))
}

// tellMembers tells the pages of who hears a room.
func (s *Service) tellMembers(ctx context.Context, roomID, event string, value any) error {
	return s.gateway.SendToAll(ctx, message(event, value), dataplane.Filter(quote(roomID)+" in groups"))
}

// quote makes s a string literal of a filter (rest-api.md section 8).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// notice sends a line about somebody to a room's group, for pages of the original, which draw it as HTML.
func (s *Service) notice(ctx context.Context, roomID, name, what string) error {
	return s.gateway.SendToGroup(ctx, roomID, webpubsub.Text(html.EscapeString(name)+" "+what))
}

// tellError tells a connection why its event failed, before the failed ack does. It is a courtesy: that it cannot
// be told changes nothing.
func (s *Service) tellError(ctx context.Context, e cloudevents.Event, text string) {
	name := strings.TrimPrefix(e.Type, cloudevents.UserPrefix)
	d := message("error", struct {
		Event   string `json:"event"`
		Message string `json:"message"`
	}{name, text})
	if err := s.gateway.SendToConnection(ctx, e.ConnectionID, d); err != nil {
		s.logger.Debug("error not told", "connection", e.ConnectionID, "error", err)
	}
}
