package rules

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// MaxConnections is how many connections one person may have at once: more than anybody has pages, and too few to use up
// what a tenant may have.
const MaxConnections = 100

// ProviderToken is where those users come from of whom an application vouches with an access key: it signed a token for
// them, or they were put into a room before they came.
const ProviderToken = "token"

// Access is what a user may do now.
type Access struct {
	Rooms     []string        // that the user hears
	Muted     map[string]bool // those of them where the user may not speak
	SignedOut time.Time       // the last time; zero for never
}

// Speaks reports whether a user may speak in a room, and Hears whether the user may hear it.
func (a Access) Speaks(roomID string) bool { return a.Hears(roomID) && !a.Muted[roomID] }

// Hears reports whether a user may hear a room.
func (a Access) Hears(roomID string) bool { return slices.Contains(a.Rooms, roomID) }

// Access returns what a user may do now. Nobody may do anything whom nobody knows.
func (r *Rules) Access(ctx context.Context, userID string) (Access, error) {
	stored, err := r.store.Access(ctx, r.tenant, userID)
	if errors.Is(err, chat.ErrNotFound) {
		err = nil
	}
	return accessOf(stored), err
}

func accessOf(stored chat.Access) Access {
	a := Access{Muted: map[string]bool{}, SignedOut: stored.SignedOut}
	for _, room := range stored.Rooms {
		a.Rooms = append(a.Rooms, room.RoomID)
		if !room.MaySpeak {
			a.Muted[room.RoomID] = true
		}
	}
	return a
}

// Connect decides whether a connection may be of the user that a token names, which was signed at some time; zero for one
// that does not say when.
//
// The gateway has seen that the token is signed with an access key, and we sign none but for who is signed in, so that a
// user who is not known is one of an application's own, or, where they are allowed, a guest of the original, whose page
// will tell a name.
func (r *Rules) Connect(ctx context.Context, userID string, signed time.Time) (Access, error) {
	if userID == "" || userID == chat.ServiceUser {
		return Access{}, Refuse(NotSignedIn, "the token names no user; sign in and connect again")
	}
	stored, err := r.store.Access(ctx, r.tenant, userID)
	if errors.Is(err, chat.ErrNotFound) {
		user := chat.User{ID: userID, Name: chat.NameOf(userID), Provider: ProviderToken}
		if r.legacyGuests && chat.IsLegacyID(userID) {
			user.Name, user.Provider = unnamed(userID), "guest"
		}
		return Access{}, r.store.AddUsers(ctx, r.tenant, user)
	}
	switch {
	case err != nil:
		return Access{}, err
	case !stored.SignedOut.IsZero() && signed.Unix() <= stored.SignedOut.Unix():
		return Access{}, Refuse(NotSignedIn, "this user has signed out; sign in and connect again")
	case stored.Connections >= MaxConnections:
		return Access{}, Refuse(TooMany, "you have %d pages open; close some first", stored.Connections)
	}
	return accessOf(stored), nil
}

// User returns a user who is known, for one who acts.
func (r *Rules) User(ctx context.Context, id string) (chat.User, error) {
	user, err := r.store.User(ctx, r.tenant, id)
	return user, outcome{notFound: Refuse(NotSignedIn, "this user is not known; sign in and connect again")}.of(err)
}

// unnamed is what a guest of the original is called until the page tells a name.
func unnamed(id string) string { return "Guest " + id[max(0, len(id)-4):] }

// IsUnnamed reports whether a user is a guest of the original who has not told a name yet.
func (r *Rules) IsUnnamed(u chat.User) bool {
	return r.legacyGuests && chat.IsLegacyID(u.ID) && u.Name == unnamed(u.ID)
}

// Named returns a guest of the original, who has none yet, with the name that its page tells. One whose name cannot be
// stays as it is: its page would wait for ever.
func (r *Rules) Named(u chat.User, name string) chat.User {
	if name, err := chat.CheckName(name); err == nil && r.IsUnnamed(u) {
		u.Name = name
	}
	return u
}

// SpeakProtocol notes that a user speaks the chat protocol of the official client, so that a client that comes back and
// does not log in again hears of everything, and returns the user's role.
func (r *Rules) SpeakProtocol(ctx context.Context, userID string) (chat.Role, error) {
	return r.store.EnterChat(ctx, r.tenant, userID)
}

// meet makes sure that users are known whom somebody names: they need not have connected yet. Nobody is put into a room
// by somebody whom they have blocked.
func (r *Rules) meet(ctx context.Context, a Actor, ids []string, reason Reason) error {
	var users []chat.User
	for _, id := range ids {
		if chat.CheckIDs(id) != nil || id == chat.ServiceUser {
			return errNoUserID()
		}
		users = append(users, chat.User{ID: id, Name: chat.NameOf(id), Provider: ProviderToken})
	}
	if len(users) == 0 {
		return nil
	}
	by, err := r.store.BlockedBy(ctx, r.tenant, a.User.ID, ids)
	if err != nil {
		return err
	}
	if len(by) > 0 {
		return Refuse(reason, "%.100q does not want to be in a room with you", by[0])
	}
	return r.store.AddUsers(ctx, r.tenant, users...)
}

// mayCreate refuses who has a role that does not allow to create rooms.
func (r *Rules) mayCreate(ctx context.Context, userID string) error {
	name := chat.RoleUser
	switch p, err := r.store.Profile(ctx, r.tenant, userID); {
	case err == nil:
		name = p.Role
	case !errors.Is(err, chat.ErrNotFound): // that is a user who was removed, and is back as anybody
		return err
	}
	role, err := r.role(ctx, name)
	if err == nil && !role.Allows(chat.UserCreateRoom) {
		err = Refuse(MayNotCreate, "your role %.100s does not allow to create rooms", role.Name)
	}
	return err
}

// role returns a role by its name. One that is not there allows nothing.
func (r *Rules) role(ctx context.Context, name string) (chat.Role, error) {
	roles, err := r.store.Roles(ctx, r.tenant)
	for _, role := range roles {
		if role.Name == name {
			return role, err
		}
	}
	return chat.Role{Name: name}, err
}
