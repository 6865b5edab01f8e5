package rules

import (
	"context"
	"errors"
	"regexp"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// publicID is a UUID in lower case. It can be neither a direct room's id nor a name with a meaning elsewhere.
var publicID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// title returns a room's title as it is kept.
func title(given string) (string, error) {
	kept, err := chat.CheckTitle(given)
	if err != nil {
		return "", Refuse(Invalid, "%v", err)
	}
	return kept, nil
}

// CreatePublic creates a public room under the id that its owner's page made, once and for all. The owner is its first
// member. Asked again by the same owner with the same title it changes nothing.
func (r *Rules) CreatePublic(ctx context.Context, a Actor, id, name string) (chat.Room, error) {
	if !publicID.MatchString(id) {
		return chat.Room{}, Refuse(Invalid, "id must be a new random UUID in lower case, such as 3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77")
	}
	kept, err := title(name)
	if err != nil {
		return chat.Room{}, err
	}
	if err := r.mayCreate(ctx, a.User.ID); err != nil {
		return chat.Room{}, err
	}
	room, err := r.store.CreateRoom(ctx, r.tenant, chat.Room{ID: id, Title: kept, Kind: chat.KindPublic, OwnerID: a.User.ID})
	if !errors.Is(err, chat.ErrExists) {
		return room, outcome{limit: errRoomLimit}.of(err)
	}
	there, err := r.store.Room(ctx, r.tenant, id)
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return there, err
	}
	if err != nil || there.OwnerID != a.User.ID || there.Title != kept {
		return there, Refuse(RoomExists, "this chat id has been used before; make a new random one")
	}
	return there, nil
}

// CreatePrivate creates a private room and puts people into it, who need not be known yet. An empty id means one that
// nobody guesses.
func (r *Rules) CreatePrivate(ctx context.Context, a Actor, id, name string, members []string) (chat.Room, error) {
	room := chat.Room{ID: id, Kind: chat.KindPrivate, OwnerID: a.User.ID}
	if id == "" {
		room.ID = a.newID()
	}
	if !chat.IsRoomID(room.ID) {
		return room, Refuse(Invalid, "a room id has 1 to 64 letters, digits, - and _, and does not start with %s", chat.DirectPrefix)
	}
	if again, err := r.repeated(ctx, a, room.ID); err != nil || again {
		return r.created(ctx, room.ID, err)
	}
	if err := r.mayCreate(ctx, a.User.ID); err != nil {
		return chat.Room{}, err
	}
	var err error
	if room.Title, err = title(name); err != nil {
		return room, err
	}
	if len(members) > chat.MaxMembers {
		return room, Refuse(RoomLimit, "a room has at most %d members", chat.MaxMembers)
	}
	for _, id := range members {
		room.Members = append(room.Members, chat.Member{UserID: id})
	}
	if err := r.meet(ctx, a, room.Founders()[1:], MayNotCreate); err != nil {
		return room, err
	}
	found, err := r.store.CreateRoom(a.causing(ctx), r.tenant, room)
	if !errors.Is(err, chat.ErrExists) {
		return found, outcome{limit: errRoomLimit}.of(err)
	}
	return r.created(ctx, room.ID, r.unlessRepeated(ctx, a, room.ID, Refuse(RoomExists, "there is or was a room with this id; choose another")))
}

// created returns a room that was created before, unless there is an error.
func (r *Rules) created(ctx context.Context, id string, err error) (chat.Room, error) {
	if err != nil {
		return chat.Room{}, err
	}
	found, err := r.store.Room(ctx, r.tenant, id)
	return found, outcome{notFound: errNoRoom}.of(err) // it was deleted since
}

// DeleteRoom deletes a room for its owner.
func (r *Rules) DeleteRoom(ctx context.Context, a Actor, id string) error {
	if again, err := r.repeated(ctx, a, id); err != nil || again {
		return err
	}
	_, err := r.store.DeleteRoom(a.causing(ctx), r.tenant, id, a.User.ID)
	return outcome{notFound: errNoRoom, forbidden: Refuse(MayNot, "only the owner of a chat may delete it")}.of(err)
}

// Membership returns how somebody stands to a room that has a conversation of the chat protocol: one that is not direct.
func (r *Rules) Membership(ctx context.Context, a Actor, roomID string) (chat.Membership, error) {
	switch {
	case len(roomID) > 64 || roomID == "":
		return chat.Membership{}, Refuse(Invalid, "a room id has 1 to 64 letters, digits, - and _")
	case !chat.IsRoomID(roomID): // no other can be there
		return chat.Membership{}, errNoRoom
	}
	m, err := r.store.Membership(ctx, r.tenant, roomID, a.User.ID)
	return m, outcome{notFound: errNoRoom}.of(err)
}

// Room describes a room, without or with its members, to one of these.
func (r *Rules) Room(ctx context.Context, a Actor, id string, withMembers bool) (chat.Room, error) {
	m, err := r.Membership(ctx, a, id)
	switch {
	case err != nil:
		return chat.Room{}, err
	case !m.In:
		return chat.Room{}, errNotIn
	case !withMembers:
		return m.Room, nil
	}
	room, err := r.store.Room(ctx, r.tenant, id)
	return room, outcome{notFound: errNoRoom}.of(err)
}

// IsOut refuses if somebody, who has left a room, is in it again.
func (r *Rules) IsOut(ctx context.Context, a Actor, roomID string) error {
	m, err := r.store.Membership(ctx, r.tenant, roomID, a.User.ID)
	switch {
	case errors.Is(err, chat.ErrNotFound): // it was deleted since
		return nil
	case err == nil && m.In:
		return Refuse(AlreadyIn, "somebody has added you again")
	}
	return err
}

// Rooms returns the ids of somebody's rooms that are not direct, unless the role does not allow to see them: direct ones
// are between two people with names, and the chat protocol has no invitation that one accepts.
func (r *Rules) Rooms(ctx context.Context, a Actor, role chat.Role) (ids []string, err error) {
	if !role.Allows(chat.UserFetchAllRooms) {
		return nil, nil
	}
	all, err := r.store.Memberships(ctx, r.tenant, a.User.ID)
	for _, id := range all {
		if chat.IsRoomID(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Look refuses to let somebody look at a room, of any kind, who is not in it.
func (r *Rules) Look(ctx context.Context, a Actor, roomID string) error {
	m, err := r.store.Membership(ctx, r.tenant, roomID, a.User.ID)
	if err == nil && !m.In {
		err = errNoRoom
	}
	return outcome{notFound: errNoRoom}.of(err)
}
