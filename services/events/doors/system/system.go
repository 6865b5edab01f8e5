// Package system is the door for what gateways say of connections: that one wants to be, is, or is no more.
package system

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/services/events/effects"
	"github.com/chatr-dev/chatr/services/events/presence"
	"github.com/chatr-dev/chatr/services/events/rules"
)

// Door takes system events. All fields are required.
type Door struct {
	Rules    *rules.Rules
	Presence *presence.Presence
	Live     *effects.Live
	Gateway  *dataplane.Client
}

// Connect decides whether a connection may be, and gives it what its user is entitled to: to hear the user's rooms
// and to speak there, and nothing else, whatever its token says.
func (d *Door) Connect(ctx context.Context, e cloudevents.Event) (cloudevents.Response, error) {
	access, err := d.Rules.Connect(ctx, e.UserID, signed(e.Body))
	if err != nil {
		return cloudevents.Response{}, err
	}
	roles := []string{} // not nil: an empty list takes all roles of the token away
	for _, room := range access.Rooms {
		if access.Speaks(room) {
			roles = append(roles, "webpubsub.sendToGroup."+room)
		}
	}
	body, err := json.Marshal(cloudevents.ConnectResponse{Groups: access.Rooms, Roles: roles})
	state := strings.Join(marks(access), "") + signedOutMark(access)
	return cloudevents.Response{Status: http.StatusOK, ContentType: "application/json", Body: body, State: &state}, err
}

// signed returns when a connection's token was made, as its claims say, or the zero time. The gateway wrote them.
func signed(body []byte) time.Time {
	var connect cloudevents.ConnectRequest
	_ = json.Unmarshal(body, &connect) // what cannot be read has no claim
	if made := connect.Claims["iat"]; len(made) == 1 {
		if seconds, err := strconv.ParseInt(made[0], 10, 64); err == nil {
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

// signedOutMark returns a mark of when the user has signed out last. It ends the connection's state, shorter than the marks of
// rooms, so that the version before sees none in it.
func signedOutMark(a rules.Access) string { return mark(a.SignedOut.UnixMicro())[:markSize-1] }

const markSize = 8 // bytes

func mark(of ...any) string {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, of...)
	return fmt.Sprintf("%08x", h.Sum32())
}

// marks returns a short mark of each room and whether it is muted. They are the connection's state from connect to
// connected: what the connection was given. Even chat.MaxMemberships of them fit.
func marks(a rules.Access) []string {
	list := make([]string, len(a.Rooms))
	for i, room := range a.Rooms {
		list[i] = mark(room, " ", a.Muted[room])
	}
	return list
}

// Connected makes a connection part of its user's presence, and puts right what has changed since Connect.
func (d *Door) Connected(ctx context.Context, e cloudevents.Event) error {
	user, err := d.Rules.User(ctx, e.UserID)
	if err != nil {
		return err
	}
	if err := d.Presence.Came(ctx, user, e.ConnectionID); err != nil {
		return err
	}
	return d.catchUp(ctx, e)
}

// catchUp puts right what has changed between connect and now, when no other event knew of the connection: it gets
// the rooms that have come. If one has gone, or has been muted, the client has to connect again, and so it has if the user
// has signed out.
func (d *Door) catchUp(ctx context.Context, e cloudevents.Event) error {
	access, err := d.Rules.Access(ctx, e.UserID)
	if err != nil {
		return err
	}
	given, now := slices.Collect(chunks(e.State)), marks(access)
	if was := e.State[len(given)*markSize:]; was != "" && was != signedOutMark(access) { // "": from the version before
		return d.Gateway.CloseConnection(ctx, e.ConnectionID, "this user has signed out; sign in and connect again")
	}
	for _, was := range given {
		if !slices.Contains(now, was) {
			return d.Gateway.CloseConnection(ctx, e.ConnectionID, "the person's chats have changed; connect again")
		}
	}
	for i, is := range now {
		if slices.Contains(given, is) {
			continue
		}
		if err := d.Live.Bring(ctx, access.Rooms[i], e.UserID, []string{e.ConnectionID}); err != nil {
			return err
		}
	}
	return nil
}

// chunks takes a connection state apart into its marks.
func chunks(state string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for ; len(state) >= markSize; state = state[markSize:] {
			if !yield(state[:markSize]) {
				return
			}
		}
	}
}

// Disconnected forgets a connection.
func (d *Door) Disconnected(ctx context.Context, e cloudevents.Event) error {
	return d.Presence.Gone(ctx, chat.Connection{ID: e.ConnectionID, UserID: e.UserID})
}
