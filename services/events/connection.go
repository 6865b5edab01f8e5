package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// width bounds the calls to the gateway that one event makes at a time.
const width = 8

// maxConnections is how many connections one person may have at once: more than anybody has pages, and too few to use
// up what a tenant may have.
const maxConnections = 100

// connect decides whether a connection may be, and gives it what its user is entitled to: to hear the user's rooms
// and to speak there, and nothing else, whatever its token says.
func (s *Service) connect(ctx context.Context, e cloudevents.Event) (cloudevents.Response, error) {
	user, err := s.knownUser(ctx, e.UserID)
	if err != nil {
		return cloudevents.Response{}, err
	}
	if err := s.checkToken(ctx, user.ID, e.Body); err != nil {
		return cloudevents.Response{}, err
	}
	conns, err := s.connections(ctx, user.ID)
	if err != nil {
		return cloudevents.Response{}, err
	}
	if len(conns) >= maxConnections {
		return cloudevents.Response{}, refuse(http.StatusTooManyRequests, "you have %d pages open; close some first", len(conns))
	}
	rooms, muted, err := s.rooms(ctx, user.ID)
	if err != nil {
		return cloudevents.Response{}, err
	}
	roles := []string{} // not nil: an empty list takes all roles of the token away
	for _, room := range rooms {
		if !muted[room] {
			roles = append(roles, "webpubsub.sendToGroup."+room)
		}
	}
	body, err := json.Marshal(cloudevents.ConnectResponse{Groups: rooms, Roles: roles})
	state := strings.Join(marks(rooms, muted), "")
	return cloudevents.Response{Status: http.StatusOK, ContentType: "application/json", Body: body, State: &state}, err
}

// providerToken is where those users come from of whom an application vouches with an access key: it signed a token
// for them, or they were put into a room before they came.
const providerToken = "token"

// knownUser returns the user that a token named. The gateway has seen that it is signed with an access key, and we sign
// none but for who is signed in, so that a user who is not known is one of an application's own, or, where they are
// allowed, a guest of the original, whose page will tell a name.
func (s *Service) knownUser(ctx context.Context, id string) (chat.User, error) {
	if id == "" || id == chat.ServiceUser {
		return chat.User{}, refuse(http.StatusUnauthorized, "the token names no user; sign in and connect again")
	}
	user, err := s.store.User(ctx, s.cfg.Tenant, id)
	if !errors.Is(err, chat.ErrNotFound) {
		return user, err
	}
	user = chat.User{ID: id, Name: chat.NameOf(id), Provider: providerToken}
	if s.cfg.LegacyGuests && chat.IsLegacyID(id) {
		user.Name, user.Provider = unnamed(id), "guest"
	}
	return user, s.store.AddUsers(ctx, s.cfg.Tenant, user)
}

// checkToken refuses a token that was made before its user signed out, or that does not say when.
func (s *Service) checkToken(ctx context.Context, userID string, body []byte) error {
	out, err := s.store.SignedOut(ctx, s.cfg.Tenant, userID)
	if err != nil || out.IsZero() {
		return err
	}
	var connect cloudevents.ConnectRequest
	_ = json.Unmarshal(body, &connect) // what cannot be read has no claim
	if made := connect.Claims["iat"]; len(made) == 1 {
		if seconds, err := strconv.ParseInt(made[0], 10, 64); err == nil && seconds > out.Unix() {
			return nil
		}
	}
	return refuse(http.StatusUnauthorized, "this user has signed out; sign in and connect again")
}

// unnamed is what a guest of the original is called until the page tells a name.
func unnamed(id string) string { return "Guest " + id[max(0, len(id)-4):] }

// rooms returns the rooms a user is in, and in which of them the user may not speak.
func (s *Service) rooms(ctx context.Context, userID string) (rooms []string, muted map[string]bool, err error) {
	if rooms, err = s.store.Memberships(ctx, s.cfg.Tenant, userID); err != nil {
		return nil, nil, err
	}
	ids, err := s.store.Muted(ctx, s.cfg.Tenant, userID)
	muted = map[string]bool{}
	for _, id := range ids {
		muted[id] = true
	}
	return rooms, muted, err
}

// marks returns a short mark of each room and whether it is muted. They are the connection's state from connect to
// connected: what the connection was given. Even chat.MaxMemberships of them fit.
func marks(rooms []string, muted map[string]bool) []string {
	list := make([]string, len(rooms))
	for i, room := range rooms {
		h := fnv.New32a()
		_, _ = fmt.Fprintf(h, "%s %v", room, muted[room])
		list[i] = fmt.Sprintf("%08x", h.Sum32())
	}
	return list
}

// connected makes a connection part of its user's presence.
func (s *Service) connected(ctx context.Context, e cloudevents.Event) error {
	user, err := s.store.User(ctx, s.cfg.Tenant, e.UserID)
	if err != nil {
		return err
	}
	if err := s.present(ctx, user, e.ConnectionID); err != nil {
		return err
	}
	return s.catchUp(ctx, e)
}

// catchUp puts right what has changed between connect and now, when no other event knew of the connection: it gets
// the rooms that have come. If one has gone, or has been muted, the client has to connect again.
func (s *Service) catchUp(ctx context.Context, e cloudevents.Event) error {
	rooms, muted, err := s.rooms(ctx, e.UserID)
	if err != nil {
		return err
	}
	given, now := slices.Collect(chunks(e.State)), marks(rooms, muted)
	for _, mark := range given {
		if !slices.Contains(now, mark) {
			return s.gateway.CloseConnection(ctx, e.ConnectionID, "the person's chats have changed; connect again")
		}
	}
	for i, mark := range now {
		if slices.Contains(given, mark) {
			continue
		}
		if err := s.enter(ctx, rooms[i], e.UserID, []string{e.ConnectionID}); err != nil {
			return err
		}
	}
	return nil
}

// chunks takes a connection state apart into its marks.
func chunks(state string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for ; len(state) >= 8; state = state[8:] {
			if !yield(state[:8]) {
				return
			}
		}
	}
}

// disconnected forgets a connection. Its user goes offline by sweep, unless another connection comes in time.
func (s *Service) disconnected(ctx context.Context, e cloudevents.Event) error {
	return s.gone(ctx, chat.Connection{ID: e.ConnectionID, UserID: e.UserID})
}

// live makes sure that conn is one of the user's connections: a signature only proves that a gateway once knew the
// connection (event-handler.md section 4.1), so an old request could be played again.
func (s *Service) live(ctx context.Context, user chat.User, conn string) error {
	ids, err := s.connections(ctx, user.ID)
	if err != nil || slices.Contains(ids, conn) {
		return err
	}
	there, err := s.gateway.ConnectionExists(ctx, conn)
	if err != nil {
		return err
	}
	if !there {
		return refuse(http.StatusForbidden, "this connection is closed")
	}
	return s.present(ctx, user, conn)
}

// connections returns the user's live connections. What an event changes in the store it has to change before it
// asks for them: a connection that comes later finds the change by itself, in catchUp.
func (s *Service) connections(ctx context.Context, userID string) ([]string, error) {
	conns, err := s.store.Connections(ctx, s.cfg.Tenant, userID)
	ids := make([]string, len(conns))
	for i, c := range conns {
		ids[i] = c.ID
	}
	return ids, err
}

// enterAll is enter for the connections that the user has now.
func (s *Service) enterAll(ctx context.Context, roomID, userID string) error {
	conns, err := s.connections(ctx, userID)
	if err != nil || len(conns) == 0 {
		return err
	}
	return s.enter(ctx, roomID, userID, conns)
}

// enter lets connections of a user hear a room and speak in it, as far as the user may. What the user may is looked
// at again afterwards: who is blocked or taken out of the room in between must not get in by hurrying.
func (s *Service) enter(ctx context.Context, roomID, userID string, conns []string) error {
	_, speak, err := s.access(ctx, roomID, userID)
	if err != nil {
		return err
	}
	err = each(ctx, conns, func(ctx context.Context, conn string) error {
		if speak {
			if err := s.gateway.Grant(ctx, conn, webpubsub.SendToGroup, roomID); err != nil {
				return err
			}
		}
		return s.gateway.AddConnectionToGroup(ctx, roomID, conn)
	})
	if err != nil {
		return err
	}
	hear, still, err := s.access(ctx, roomID, userID)
	switch {
	case err != nil:
		return err
	case !hear:
		return s.exit(ctx, roomID, conns)
	case speak && !still:
		return s.mute(ctx, roomID, conns)
	}
	return nil
}

// access reports whether a user may hear a room and speak in it.
func (s *Service) access(ctx context.Context, roomID, userID string) (hear, speak bool, err error) {
	rooms, muted, err := s.rooms(ctx, userID)
	if err != nil || !slices.Contains(rooms, roomID) {
		return false, false, err
	}
	return true, !muted[roomID], nil
}

// exitAll is exit for the connections that the user has now.
func (s *Service) exitAll(ctx context.Context, roomID, userID string) error {
	conns, err := s.connections(ctx, userID)
	if err != nil {
		return err
	}
	return s.exit(ctx, roomID, conns)
}

// exit takes both away.
func (s *Service) exit(ctx context.Context, roomID string, conns []string) error {
	if err := s.mute(ctx, roomID, conns); err != nil {
		return err
	}
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		return s.gateway.RemoveConnectionFromGroup(ctx, roomID, conn)
	})
}

// muteAll is mute for the connections that the user has now.
func (s *Service) muteAll(ctx context.Context, roomID, userID string) error {
	conns, err := s.connections(ctx, userID)
	if err != nil {
		return err
	}
	return s.mute(ctx, roomID, conns)
}

// mute takes the right to speak away.
func (s *Service) mute(ctx context.Context, roomID string, conns []string) error {
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		return s.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, roomID)
	})
}

// each does work for every connection, several at a time, and returns the first error. A connection that has gone
// meanwhile is none.
func each(ctx context.Context, conns []string, work func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, conn := range conns {
		group.Go(func() error {
			if err := work(ctx, conn); !errors.Is(err, dataplane.ErrNotFound) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}
