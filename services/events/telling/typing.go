package telling

import (
	"context"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/dataplane"
)

// TypingTime is for how long somebody who was said to be typing is, unless that is said again.
const TypingTime = 6 * time.Second

const typingPrefix = "typing."

// TypingGroup is the live group of the connections that look at a room: no room has such an id.
func TypingGroup(roomID string) string { return typingPrefix + roomID }

// TypingRoom returns the room whose typing group a group is.
func TypingRoom(group string) (roomID string, ok bool) { return strings.CutPrefix(group, typingPrefix) }

// Typing tells those who look at a room, but for one connection, that somebody is typing there, or does so no longer. It is
// told now or never.
func (t *Teller) Typing(ctx context.Context, roomID, userID string, typing bool, except string) error {
	n := notification{Type: "RoomMemberTyping", Body: struct {
		RoomID string `json:"roomId"`
		UserID string `json:"userId"`
		Typing bool   `json:"typing"`
	}{roomID, userID, typing}}
	return t.Gateway.SendToGroup(ctx, TypingGroup(roomID), n.data(), dataplane.Except(except), dataplane.TTL(TypingTime))
}
