package rules

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Join makes somebody a member of a public room, or accepts the invitation to a direct one.
func (r *Rules) Join(ctx context.Context, a Actor, roomID string) error {
	if again, err := r.repeated(ctx, a, roomID); err != nil || again {
		return err
	}
	_, err := r.store.Join(a.causing(ctx), r.tenant, roomID, a.User.ID)
	return outcome{notFound: errNoRoom, forbidden: errNoRoom, limit: errMemberLimit}.of(err)
}

// Leave ends somebody's own membership. Pages of the original leave a chat that has just been deleted, so having nothing
// to leave is fine.
func (r *Rules) Leave(ctx context.Context, a Actor, roomID string) error {
	if again, err := r.repeated(ctx, a, roomID); err != nil || again {
		return err
	}
	_, err := r.store.Leave(a.causing(ctx), r.tenant, roomID, a.User.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	return err
}

// AddMember makes a user a member of a room, who need not be known yet. Everybody may put themselves into a public one.
func (r *Rules) AddMember(ctx context.Context, a Actor, roomID, userID string) error {
	if chat.CheckIDs(userID) != nil {
		return errNoUserID()
	}
	m, err := r.Membership(ctx, a, roomID)
	if err != nil {
		return err
	}
	if again, err := r.repeated(ctx, a, roomID); err != nil || again {
		return err
	}
	already := Refuse(AlreadyIn, "%.100q is a member already", userID)
	self := userID == a.User.ID
	switch {
	case self && m.In:
		return r.unlessRepeated(ctx, a, roomID, already)
	case self && m.Room.Kind == chat.KindPublic:
	case !m.Role.Allows(chat.RoomInvite):
		return mayNot(m, "add members to")
	}
	put := r.store.Join
	if !self {
		put = r.store.AddMember
		if err := r.meet(ctx, a, []string{userID}, MayNot); err != nil {
			return err
		}
	}
	added, err := put(a.causing(ctx), r.tenant, roomID, userID)
	if err == nil && !added {
		return r.unlessRepeated(ctx, a, roomID, already)
	}
	return outcome{notFound: errNoRoom, forbidden: mayNot(m, "join"), limit: errMemberLimit}.of(err)
}

// RemoveMember ends a membership. Everybody may leave.
func (r *Rules) RemoveMember(ctx context.Context, a Actor, roomID, userID string) error {
	if chat.CheckIDs(userID) != nil {
		return errNoUserID()
	}
	m, err := r.Membership(ctx, a, roomID)
	if err != nil {
		return err
	}
	if again, err := r.repeated(ctx, a, roomID); err != nil || again {
		return err
	}
	none := Refuse(NoMember, "%.100q is not a member of this room", userID)
	self := userID == a.User.ID
	switch {
	case self && !m.In:
		return r.unlessRepeated(ctx, a, roomID, none)
	case !self && !m.Role.Allows(chat.RoomRemoveUser):
		return mayNot(m, "remove members from")
	}
	left, err := r.store.Leave(a.causing(ctx), r.tenant, roomID, userID)
	if err == nil && !left {
		return r.unlessRepeated(ctx, a, roomID, none)
	}
	return err
}
