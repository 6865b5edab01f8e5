package rules

import (
	"context"
	"errors"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// Direct is what has become of the wish to talk to one other person.
type Direct struct {
	Room    chat.Room
	Created bool
	Other   chat.User
}

// OpenDirect opens the direct room of somebody and another user, who is invited. Asking back accepts the other's
// invitation; coming back is a return.
func (r *Rules) OpenDirect(ctx context.Context, a Actor, otherID string) (Direct, error) {
	other, err := r.other(ctx, a, otherID)
	if err != nil {
		return Direct{}, err
	}
	if err := r.mayCreate(ctx, a.User.ID); err != nil {
		there, errThere := r.directWith(ctx, a.User.ID, other.ID)
		if there == "" { // one that is there is not created
			return Direct{}, errors.Join(errThere, err)
		}
	}
	room, created, err := r.store.DirectRoom(ctx, r.tenant, a.User.ID, other.ID)
	return Direct{room, created, other}, outcome{
		forbidden: Refuse(MayNot, "no private chat with this person is possible: one of you has blocked the other"), limit: errRoomLimit,
	}.of(err)
}

// other returns a user who is known and is not the one who acts.
func (r *Rules) other(ctx context.Context, a Actor, id string) (chat.User, error) {
	if id == a.User.ID {
		return chat.User{}, Refuse(Invalid, "this is you; choose somebody else")
	}
	user, err := r.store.User(ctx, r.tenant, id)
	return user, outcome{notFound: Refuse(NoUser, "there is nobody with this user id")}.of(err)
}

// Block keeps two people from saying anything to each other in their direct room, and from opening one.
func (r *Rules) Block(ctx context.Context, a Actor, otherID string) error {
	return r.setBlock(ctx, a, otherID, r.store.Block)
}

// Unblock ends that, unless the other one blocks too.
func (r *Rules) Unblock(ctx context.Context, a Actor, otherID string) error {
	return r.setBlock(ctx, a, otherID, r.store.Unblock)
}

func (r *Rules) setBlock(ctx context.Context, a Actor, otherID string, set func(ctx context.Context, tenant, by, other string) error) error {
	other, err := r.other(ctx, a, otherID)
	if err != nil {
		return err
	}
	return outcome{limit: errMemberLimit}.of(set(ctx, r.tenant, a.User.ID, other.ID))
}

// directWith returns the id of the direct room that a user is in with another, or "".
func (r *Rules) directWith(ctx context.Context, userID, otherID string) (string, error) {
	rooms, err := r.store.Memberships(ctx, r.tenant, userID)
	if err != nil {
		return "", err
	}
	for _, id := range rooms {
		if !strings.HasPrefix(id, chat.DirectPrefix) {
			continue
		}
		room, err := r.store.Room(ctx, r.tenant, id)
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			return "", err
		}
		if _, there := room.Member(otherID); there {
			return id, nil
		}
	}
	return "", nil
}
