// Package telling is what the service says to clients: the frames, and to whom they go.
//
// Frames are of two kinds. {"chatEvent", "data"} is for pages, ours and the original's; {"notificationType", "body"} for
// clients of the chat protocol, and with the members of a page's line beside them for all. docs/chat.md has the tables.
package telling

import (
	"encoding/json"
	"html"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// page is what pages know a server message by. Data is itself JSON, unless it is a single text.
type page struct {
	ChatEvent string `json:"chatEvent"`
	Data      string `json:"data"`
}

func pageMessage(event string, value any) page {
	text, plain := value.(string)
	if !plain {
		inner, _ := json.Marshal(value) // structs and maps of strings, numbers and truth values
		text = string(inner)
	}
	return page{event, text}
}

// Message is a server message for pages: {"chatEvent", "data"}, where data is a string, itself JSON unless value is one.
func Message(event string, value any) webpubsub.Data {
	body, _ := json.Marshal(pageMessage(event, value))
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}
}

// Online is the message that a user is online.
func Online(u chat.User, idle bool) webpubsub.Data {
	return Message("userOnline", struct {
		UserID       string `json:"userId"`
		UserName     string `json:"userName"`
		UserProvider string `json:"userProvider"`
		Idle         bool   `json:"idle"`
	}{u.ID, u.Name, u.Provider, idle})
}

// Offline is the message that a user is online no longer.
func Offline(userID string) webpubsub.Data { return Message("userOffline", userID) }

// Idle is the message that a user is idle, or is so no longer.
func Idle(userID string, idle bool) webpubsub.Data {
	if idle {
		return Message("userIsIdle", userID)
	}
	return Message("userNotIdle", userID)
}

// Error is the message that a connection's own event failed.
func Error(event, text string) webpubsub.Data {
	return Message("error", struct {
		Event   string `json:"event"`
		Message string `json:"message"`
	}{event, text})
}

// read is the message to a user's own pages of how far the user has read a room.
func read(roomID string, seq int64) webpubsub.Data {
	return Message("chatRead", struct {
		ChatID string `json:"chatId"`
		Seq    int64  `json:"seq"`
	}{roomID, seq})
}

// blocked is the message to a user's own pages that the user blocks another, or does so no longer.
func blocked(otherID string, blocked bool) webpubsub.Data {
	if blocked {
		return Message("userBlocked", otherID)
	}
	return Message("userUnblocked", otherID)
}

// member is a person in a chat, as pages know one.
type member struct {
	ChatID   string           `json:"chatId,omitempty"`
	UserID   string           `json:"userId"`
	UserName string           `json:"userName,omitempty"`
	State    chat.MemberState `json:"state,omitempty"`
}

func memberJoined(roomID string, u chat.User) webpubsub.Data {
	return Message("memberJoined", member{ChatID: roomID, UserID: u.ID, UserName: u.Name, State: chat.StateJoined})
}

func memberLeft(roomID, userID string) webpubsub.Data {
	return Message("memberLeft", member{ChatID: roomID, UserID: userID})
}

// chatCreated is the message that there is a room, with the members it has.
func chatCreated(r chat.Room) webpubsub.Data {
	members := map[string]member{}
	for _, m := range r.Members {
		members[m.UserID] = member{UserID: m.UserID, UserName: m.Name, State: m.State}
	}
	return Message("chatCreated", struct {
		ID      string            `json:"id"`
		Name    string            `json:"name"`
		Members map[string]member `json:"members"`
		Owner   string            `json:"owner"`
		Kind    chat.Kind         `json:"kind"`
	}{r.ID, r.Title, members, r.OwnerID, r.Kind})
}

// invitation is the message by which a page shows a direct room, as one of the two sees it.
func invitation(roomID string, peer chat.User, focus bool, state chat.MemberState) webpubsub.Data {
	return Message("joinPrivateChat", struct {
		ID        string           `json:"id"`
		Name      string           `json:"name"`
		GrabFocus bool             `json:"grabFocus"`
		Kind      chat.Kind        `json:"kind"`
		Peer      member           `json:"peer"`
		State     chat.MemberState `json:"state"`
	}{roomID, "Chat with " + peer.Name, focus, chat.KindDirect, member{UserID: peer.ID, UserName: peer.Name}, state})
}

// notice is a line about somebody, for pages of the original, which draw it as HTML.
func notice(name, what string) webpubsub.Data {
	return webpubsub.Text(html.EscapeString(name) + " " + what)
}
