package rules

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Join makes somebody a member of a public room, or accepts the invitation to a direct one, and reports whether that
// changed anything.
func (r *Rules) Join(ctx context.Context, a Actor, roomID string) (changed bool, err error) {
	changed, err = r.store.Join(ctx, r.tenant, roomID, a.User.ID)
	return changed, outcome{notFound: errNoRoom, forbidden: errNoRoom, limit: errMemberLimit}.of(err)
}

// Leave ends somebody's own membership and reports whether there was one. Pages of the original leave a chat that has
// just been deleted, so having nothing to leave is fine.
func (r *Rules) Leave(ctx context.Context, a Actor, roomID string) (left bool, err error) {
	left, err = r.store.Leave(ctx, r.tenant, roomID, a.User.ID)
	if errors.Is(err, chat.ErrNotFound) {
		err = nil
	}
	return left, err
}

// AddMember makes a user a member of a room, who need not be known yet. Everybody may put themselves into a public one. It
// returns the room, without its members.
func (r *Rules) AddMember(ctx context.Context, a Actor, roomID, userID string) (chat.Room, error) {
	if chat.CheckIDs(userID) != nil {
		return chat.Room{}, errNoUserID()
	}
	m, err := r.Membership(ctx, a, roomID)
	if err != nil {
		return chat.Room{}, err
	}
	self, again := userID == a.User.ID, r.done.is(a.Event)
	switch {
	case self && m.In && !again:
		return m.Room, Refuse(AlreadyIn, "you are a member already")
	case self && m.Room.Kind == chat.KindPublic:
	case !m.Role.Allows(chat.RoomInvite):
		return m.Room, mayNot(m, "add members to")
	}
	put := r.store.Join
	if !self {
		put = r.store.AddMember
		if err := r.meet(ctx, a, []string{userID}, MayNot); err != nil {
			return m.Room, err
		}
	}
	added, err := put(ctx, r.tenant, roomID, userID)
	if err != nil {
		return m.Room, outcome{notFound: errNoRoom, forbidden: mayNot(m, "join"), limit: errMemberLimit}.of(err)
	}
	if !added && !again {
		return m.Room, Refuse(AlreadyIn, "%.100q is a member already", userID)
	}
	r.done.mark(a.Event)
	return m.Room, nil
}

// RemoveMember ends a membership. Everybody may leave. It returns the room, without its members.
func (r *Rules) RemoveMember(ctx context.Context, a Actor, roomID, userID string) (chat.Room, error) {
	if chat.CheckIDs(userID) != nil {
		return chat.Room{}, errNoUserID()
	}
	m, err := r.Membership(ctx, a, roomID)
	if err != nil {
		return chat.Room{}, err
	}
	if !m.Role.Allows(chat.RoomRemoveUser) && userID != a.User.ID {
		return m.Room, mayNot(m, "remove members from")
	}
	left, err := r.store.Leave(ctx, r.tenant, roomID, userID)
	if err != nil {
		return m.Room, err
	}
	if !left && !r.done.is(a.Event) {
		return m.Room, Refuse(NoMember, "%.100q is not a member of this room", userID)
	}
	r.done.mark(a.Event)
	return m.Room, nil
}
