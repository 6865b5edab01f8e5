package chat

import (
	"context"
	"time"
)

// EffectKind is what has to be brought in line with the store.
type EffectKind string

// The kinds of effect.
const (
	// EffectMember is owed for a room and a user: the user's connections hear, speak or are out, as Membership says now.
	EffectMember EffectKind = "member"
	// EffectUser is owed for a user who has signed out or was removed: connections from before, which have Ended, are closed.
	EffectUser EffectKind = "user"
	// EffectRoom is owed for a room that was deleted: its live group is emptied. If the room is there again, nothing.
	EffectRoom EffectKind = "room"
	// EffectPresence is owed for a user whose presence has changed: who may know is told how it is now.
	EffectPresence EffectKind = "presence"
	// EffectRead is owed for a room and a user who has read on there: the user's pages are told how far it is read now.
	EffectRead EffectKind = "read"
	// EffectBlocked is owed for a user who blocks somebody, or does so no longer: the user's pages are told whom the user
	// blocks now.
	EffectBlocked EffectKind = "blocked"
)

// Effect is something outside the store that has to follow a change in it. The method that makes the change owes it, in
// the change's own transaction, so that neither is without the other. It names what is to be brought in line, and not
// how: whoever pays it reads the store when paying, so that paying late, twice, or in another order does no harm.
//
// Effects with the same Kind, RoomID and UserID are one: owing it again raises its Version.
type Effect struct {
	Kind     EffectKind
	RoomID   string // of member, room and read, else empty
	UserID   string // of all but room, else empty
	Version  int64
	OwedAt   time.Time // since when it has been owed without being paid
	Attempts int       // how often paying has failed since it was last owed
	Lease    int64     // tells this claim from others
}

// Effects are what processes owe to the world. Leases and times are by the database's clock.
type Effects interface {
	// ClaimEffects returns up to limit effects (at most MaxListed) that are due and that nobody has claimed, longest
	// owed first, and claims them for ttl. Each is with one process at a time.
	ClaimEffects(ctx context.Context, tenant string, limit int, ttl time.Duration) ([]Effect, error)
	// ClaimEffectsOf does the same for the effects of any of the rooms or users, at most MaxListed: for paying at once
	// what one has just owed.
	ClaimEffectsOf(ctx context.Context, tenant string, roomIDs, userIDs []string, ttl time.Duration) ([]Effect, error)
	// MembersOwed returns the users, at most MaxMembers, of the effects of kind EffectMember that are owed in a room, whoever has
	// claimed them.
	MembersOwed(ctx context.Context, tenant, roomID string) ([]string, error)
	// EffectPaid ends what was claimed. If it was owed again meanwhile, it stays owed, and is due now.
	EffectPaid(ctx context.Context, tenant string, e Effect) error
	// EffectFailed gives back what was claimed, to be due after a time; if it was owed again meanwhile, now.
	EffectFailed(ctx context.Context, tenant string, e Effect, retryIn time.Duration) error
	// EffectsOwed returns how many effects are owed and since when the oldest is; the zero time for none.
	EffectsOwed(ctx context.Context, tenant string) (n int, oldest time.Time, err error)
}

// Access is what a user may, for who lets the user in.
type Access struct {
	User        User
	Role        Role // everywhere
	Removed     bool // by an application, and has not come back
	SignedOut   time.Time
	Connections int // live ones
	Rooms       []RoomAccess
}

// RoomAccess is how a user stands to one room.
type RoomAccess struct {
	RoomID   string
	State    MemberState
	MaySpeak bool
}
