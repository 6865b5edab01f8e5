package events

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/fnv"
	"net/http"
	"regexp"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// width bounds the calls to the gateway that one event makes at a time.
const width = 8

// connect decides whether a connection may be, and gives it what its user is entitled to: to hear the user's rooms
// and to speak there, and nothing else, whatever its token says.
func (s *Service) connect(ctx context.Context, e cloudevents.Event) (cloudevents.Response, error) {
	user, err := s.knownUser(ctx, e.UserID)
	if err != nil {
		return cloudevents.Response{}, err
	}
	rooms, err := s.store.Memberships(ctx, s.cfg.Tenant, user.ID)
	if err != nil {
		return cloudevents.Response{}, err
	}
	muted, err := s.mutedRooms(ctx, user.ID, rooms)
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
	state := fingerprint(rooms)
	return cloudevents.Response{Status: http.StatusOK, ContentType: "application/json", Body: body, State: &state}, err
}

// knownUser returns the user that a token named. The ids of the original's guests come from their browsers; they
// have no provider prefix, so that none can be a signed-in user.
func (s *Service) knownUser(ctx context.Context, id string) (chat.User, error) {
	if id == "" {
		return chat.User{}, refuse(http.StatusUnauthorized, "the token names no user; sign in and connect again")
	}
	user, err := s.store.User(ctx, s.cfg.Tenant, id)
	switch {
	case err == nil && (s.cfg.LegacyGuests || !legacyID.MatchString(id)):
		return user, nil
	case err != nil && !errors.Is(err, chat.ErrNotFound):
		return chat.User{}, err
	case !s.cfg.LegacyGuests || !legacyID.MatchString(id):
		return chat.User{}, refuse(http.StatusUnauthorized, "this user is not known; sign in and connect again")
	}
	user = chat.User{ID: id, Name: unnamed(id), Provider: "guest"}
	return user, s.store.SaveUser(ctx, s.cfg.Tenant, user)
}

var legacyID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// unnamed is what a guest of the original is called until the page tells a name.
func unnamed(id string) string { return "Guest " + id[max(0, len(id)-4):] }

// fingerprint is the connection state from connect to connected: which rooms the connection was given.
func fingerprint(rooms []string) string {
	sorted := slices.Sorted(slices.Values(rooms))
	h := fnv.New64a()
	for _, room := range sorted {
		_, _ = h.Write([]byte(room))
		_, _ = h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
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
	// A room joined in another tab between connect and now found no connection of this name in the store.
	rooms, err := s.store.Memberships(ctx, s.cfg.Tenant, user.ID)
	if err != nil || fingerprint(rooms) == e.State {
		return err
	}
	for _, room := range rooms {
		if err := s.enter(ctx, room, user.ID, []string{e.ConnectionID}); err != nil {
			return err
		}
	}
	return nil
}

// disconnected forgets a connection. Its user goes offline by sweep, unless another connection comes in time.
func (s *Service) disconnected(ctx context.Context, e cloudevents.Event) error {
	return s.gone(ctx, chat.Connection{ID: e.ConnectionID, UserID: e.UserID})
}

// live returns the user's connections. It makes sure that conn is one of them: a signature only proves that a
// gateway once knew the connection (event-handler.md section 4.1), so an old request could be played again.
func (s *Service) live(ctx context.Context, user chat.User, conn string) ([]string, error) {
	ids, err := s.connections(ctx, user.ID)
	if err != nil || slices.Contains(ids, conn) {
		return ids, err
	}
	there, err := s.gateway.ConnectionExists(ctx, conn)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, refuse(http.StatusForbidden, "this connection is closed")
	}
	return append(ids, conn), s.present(ctx, user, conn)
}

func (s *Service) connections(ctx context.Context, userID string) ([]string, error) {
	conns, err := s.store.Connections(ctx, s.cfg.Tenant, userID)
	ids := make([]string, len(conns))
	for i, c := range conns {
		ids[i] = c.ID
	}
	return ids, err
}

// enter lets connections of a user hear a room and speak in it, unless the user may not speak there.
func (s *Service) enter(ctx context.Context, roomID, userID string, conns []string) error {
	muted, err := s.mutedRooms(ctx, userID, []string{roomID})
	if err != nil {
		return err
	}
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		if !muted[roomID] {
			if err := s.gateway.Grant(ctx, conn, webpubsub.SendToGroup, roomID); err != nil {
				return err
			}
		}
		return s.gateway.AddConnectionToGroup(ctx, roomID, conn)
	})
}

// exit takes both away.
func (s *Service) exit(ctx context.Context, roomID string, conns []string) error {
	return each(ctx, conns, func(ctx context.Context, conn string) error {
		return errors.Join(s.mute(ctx, roomID, conn), s.gateway.RemoveConnectionFromGroup(ctx, roomID, conn))
	})
}

func (s *Service) mute(ctx context.Context, roomID, conn string) error {
	return s.gateway.Revoke(ctx, conn, webpubsub.SendToGroup, roomID)
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
