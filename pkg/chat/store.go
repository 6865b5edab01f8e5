package chat

import (
	"context"
	"time"
)

// Store keeps the chat of all tenants: one interface for each kind of reader. Every method takes the tenant first and
// never reaches beyond it. Methods are safe for concurrent use, also by several processes on one database. Any may
// return ErrInvalid for an id that is empty, longer than MaxIDBytes, or not text (UTF-8 without NUL). Times are kept to
// the microsecond.
//
// A method that changes something does all of it in one transaction. An error means that nothing has changed, unless the
// answer was lost on its way.
type Store interface {
	Users
	Presences
	Rooms
	Messages
	Events
	Effects
	Lists
	Admin

	// Migrate brings the schema up to date under a lock. A schema newer than the program is an error.
	Migrate(ctx context.Context) error
	// Ready returns nil, or a *NotReady that says why the store cannot be used now. It writes to see whether it can, at
	// most once a second. A file of SQLite with a newer schema is not ready either: only one program uses it.
	Ready(ctx context.Context) error
	Close() error
}

// Users are people, and whom they have blocked.
type Users interface {
	// SaveUser inserts u or replaces its name and provider; of one who is online and is called otherwise now, presence is
	// owed. ErrInvalid for a name that is empty, too long or not text.
	SaveUser(ctx context.Context, tenant string, u User) error
	// User returns the user, or ErrNotFound.
	User(ctx context.Context, tenant, id string) (User, error)
	// AddUsers inserts those users who are not known, with their names and providers, and changes no others. ErrInvalid
	// as SaveUser, for all of them.
	AddUsers(ctx context.Context, tenant string, users ...User) error
	// EnterChat notes that a known user (else ErrNotFound) speaks the chat protocol of the official client, and returns
	// the user's role.
	EnterChat(ctx context.Context, tenant, userID string) (Role, error)
	// SignOut notes that the user has signed out now. Sessions and tokens from before count no more. ErrNotFound for an
	// unknown user.
	SignOut(ctx context.Context, tenant, id string) error
	// Access returns what a user may, all of one moment, or ErrNotFound.
	Access(ctx context.Context, tenant, userID string) (Access, error)
	// Block keeps other from starting or continuing a direct room with by. Unblock ends that. ErrNotFound for
	// unknown users, ErrInvalid for oneself, ErrLimit for more than MaxBlocked.
	Block(ctx context.Context, tenant, by, other string) error
	Unblock(ctx context.Context, tenant, by, other string) error
	// Blocked returns the ids that a user has blocked, in their order.
	Blocked(ctx context.Context, tenant, by string) ([]string, error)
	// BlockedBy returns those of the users with the given ids who have blocked userID.
	BlockedBy(ctx context.Context, tenant, userID string, ids []string) ([]string, error)
}

// Presences are who is here.
type Presences interface {
	// Connect records a live connection of a known user (else ErrNotFound) and reports whether the user has
	// come online by it. A new connection is not idle, nor is its user then, and counts as claimed now. Recording one
	// twice changes nothing; ErrExists if the id is another user's connection.
	Connect(ctx context.Context, tenant string, c Connection) (cameOnline bool, err error)
	// Disconnect forgets a connection; an unknown one is fine. Its user stays online until SweepOffline, and is idle if all
	// others are.
	Disconnect(ctx context.Context, tenant, connectionID string) error
	// SetIdle marks a connection of userID (else ErrNotFound) and reports whether the user's own idleness, which
	// needs all connections to be idle, is now idle and whether that changed.
	SetIdle(ctx context.Context, tenant string, c Connection, idle bool) (nowIdle, changed bool, err error)
	// RefreshIdle returns a user's idleness, recomputed; results as SetIdle. Without any connection it stays as it is. ErrNotFound for an unknown user.
	RefreshIdle(ctx context.Context, tenant, userID string) (nowIdle, changed bool, err error)
	// SweepOffline turns users offline whose last connection went before the given time and returns them, at
	// most MaxListed, longest gone first. Each is returned once, however many processes sweep.
	SweepOffline(ctx context.Context, tenant string, before time.Time) ([]User, error)
	// Connections returns the live connections of a user.
	Connections(ctx context.Context, tenant, userID string) ([]Connection, error)
	// ClaimConnections returns up to limit (at most MaxListed) connections that nobody has claimed since the
	// given time and marks them claimed now: the reconciler asks a gateway whether they are still there.
	ClaimConnections(ctx context.Context, tenant string, before time.Time, limit int) ([]Connection, error)
	// PresenceOf returns how a user is now and whether the user is online, or ErrNotFound.
	PresenceOf(ctx context.Context, tenant, userID string) (p Presence, online bool, err error)
	// Online returns who is online, by name and then id, at most MaxOnline.
	Online(ctx context.Context, tenant string) ([]Presence, error)
}

// Rooms are chats and who is in them.
type Rooms interface {
	// CreateRoom creates a room of r's id, title, kind (public unless it says private) and owner, who becomes its
	// first member; a private one also with r's other members, of whom only the ids count. ErrExists if the id was
	// ever used, ErrLimit if one of them owns or is in too many rooms, or it has too many members, ErrNotFound if one
	// is not a known user, ErrInvalid for a bad title or an id with DirectPrefix.
	CreateRoom(ctx context.Context, tenant string, r Room) (Room, error)
	// DirectRoom returns the direct room of two known users (else ErrNotFound), creating it if need be with
	// from as joined and to as invited member. The id is random, unique per unordered pair, with
	// DirectPrefix. ErrForbidden if either has blocked the other; ErrLimit as for Join, or when to has MaxInvitations. A member
	// who had left is a member again: from as joined, to as invited; an invited from has accepted by it. ErrInvalid for a
	// room with oneself.
	DirectRoom(ctx context.Context, tenant, from, to string) (r Room, created bool, err error)
	// Room returns a room with its members, or ErrNotFound, also when it has been deleted.
	Room(ctx context.Context, tenant, id string) (Room, error)
	// Rooms returns what a user may see: the newest MaxListed public rooms and all rooms the user is in, oldest
	// first. Members are in no order and without Role, and only the user's own has its ReadSeq. An empty userID sees public
	// rooms only.
	Rooms(ctx context.Context, tenant, userID string) ([]Room, error)
	// Memberships returns the ids of the rooms a user is in, in either state.
	Memberships(ctx context.Context, tenant, userID string) ([]string, error)
	// Membership returns how a user, known or not, stands to a room; ErrNotFound for an unknown room.
	Membership(ctx context.Context, tenant, roomID, userID string) (Membership, error)
	// Join makes a known user a joined member of a public room, or accepts the invitation to a direct one, and
	// reports whether that changed anything. ErrNotFound for an unknown room or user, ErrForbidden for any other
	// room the user is not in, ErrLimit for too many rooms of the user or members of the room.
	Join(ctx context.Context, tenant, roomID, userID string) (changed bool, err error)
	// AddMember makes a known user, whom somebody else has chosen, a joined member of a room that is not direct (else
	// ErrForbidden), and reports whether the user was none before. ErrNotFound as for Join; ErrLimit as for Join, or
	// when the user is in MaxPutInto rooms, so that nobody's rooms are all chosen by others.
	AddMember(ctx context.Context, tenant, roomID, userID string) (added bool, err error)
	// Leave ends a membership and reports whether there was one. The member's role is kept: whoever comes back has it again.
	Leave(ctx context.Context, tenant, roomID, userID string) (left bool, err error)
	// DeleteRoom deletes a room for its owner and returns it as it was; ErrNotFound, or ErrForbidden for
	// anybody else and for direct rooms. Its id is not used again.
	DeleteRoom(ctx context.Context, tenant, roomID, byUserID string) (Room, error)
}

// Messages are what is said in rooms.
type Messages interface {
	// In a topic, whose id is that of TopicRoom, speaks who may in its room.
	//
	// AddMessages stores up to MaxBatch messages (else ErrInvalid) in their order, each with its room's next
	// sequence and event number, and returns an outcome for each. They are stored together: with an error none of them is,
	// unless the answer was lost on its way. The zero SentAt means now. What an Outcome says of one message:
	// a room, author and key that are there already, or earlier in the batch, give the stored one back, also after
	// the author has left; ErrNotFound for an unknown or deleted room; ErrForbidden when the author was not a member
	// when the message was sent (see LeaveTime); ErrMuted when a member may not speak (MaySpeak), or had blocked the other
	// in a direct room, or had been blocked, before the message was sent; ErrNoRef when Ref is no message of the room's
	// history; ErrInvalid for a text that is empty, too long or not text, such a key or Binary, a negative Ref, or a time that
	// is not of the years 1 to 9999.
	//
	// A message raises its author's ReadSeq if the author had read all before it. That has no revision of its own in
	// the author's list: whoever hears the message knows.
	AddMessages(ctx context.Context, tenant string, batch []Message) ([]Outcome, error)
	// AddMessage is AddMessages of one.
	AddMessage(ctx context.Context, tenant string, m Message) (stored Message, created bool, err error)
	// History returns up to limit messages of a room with a sequence below before (0: the newest), in ascending
	// order; a limit that is not 1 to MaxPage means MaxPage. ErrNotFound, or ErrForbidden unless userID is a
	// member.
	History(ctx context.Context, tenant, roomID, userID string, before int64, limit int) ([]Message, error)
	// Messages returns up to limit messages of a room with a sequence from low to high, both included, newest first; a
	// limit that is not 1 to MaxPage means MaxPage. Who may see them is for the caller to know. ErrNotFound for an
	// unknown room.
	Messages(ctx context.Context, tenant, roomID string, low, high int64, limit int) ([]Message, error)
	// MarkRead raises a member's ReadSeq, never above the room's LastSeq; a lower one changes nothing.
	// ErrNotFound, or ErrForbidden unless userID is a member.
	MarkRead(ctx context.Context, tenant, roomID, userID string, seq int64) error
}

// Admin is for applications, who may change anything. Each change takes a Condition on what is there now, and
// says ErrCondition when that is not met.
type Admin interface {
	// Roles returns the stored roles and those built in that none of them replaces, by name.
	Roles(ctx context.Context, tenant string) ([]Role, error)
	// PutRole stores a role and reports whether there was none stored of its name. DeleteRole deletes a stored one, else
	// ErrNotFound. ErrInvalid for a role that is not as CheckRole wants it, ErrLimit for more than MaxRoles.
	PutRole(ctx context.Context, tenant string, r Role, c Condition) (created bool, err error)
	DeleteRole(ctx context.Context, tenant, name string, c Condition) error
	// PutRoom creates a private room of r's id and title without members, owned by ServiceUser, or gives a room that is
	// there (and not direct, else ErrForbidden) its title. A deleted room is created anew, with nothing of what it was, its
	// topics neither.
	PutRoom(ctx context.Context, tenant string, r Room, c Condition) (room Room, created bool, err error)
	// RemoveRoom is DeleteRoom for whoever asks.
	RemoveRoom(ctx context.Context, tenant, roomID string, c Condition) (Room, error)
	// PutMember makes a known user a joined member of a room, with a role, or gives a member that role, and reports
	// whether the user was none before. Errors as AddMember's, and ErrInvalid unless there is such a role of rooms.
	PutMember(ctx context.Context, tenant, roomID, userID, role string, c Condition) (added bool, err error)
	// RemoveMember is Leave; ErrNotFound for anyone who is no member, too, ErrForbidden for a direct room.
	RemoveMember(ctx context.Context, tenant, roomID, userID string, c Condition) error
	// Profile returns a user with the role, or ErrNotFound, also when the user has been removed and has not come back.
	Profile(ctx context.Context, tenant, id string) (Profile, error)
	// PutProfile stores a user's name and role and reports whether there was none. The provider is kept. ErrInvalid
	// unless there is such a role of users.
	PutProfile(ctx context.Context, tenant string, p Profile, c Condition) (created bool, err error)
	// RemoveProfile takes a user out of all rooms, whose ids it returns, and takes the role away. What the user has said
	// and owns stays.
	RemoveProfile(ctx context.Context, tenant, id string, c Condition) (rooms []string, err error)
	// EditMessage replaces text and binary of the message with m's room and sequence. DeleteMessage takes it out of the
	// history. Both keep what it was. ErrNotFound for an unknown or deleted one.
	EditMessage(ctx context.Context, tenant string, m Message, c Condition) (Message, error)
	DeleteMessage(ctx context.Context, tenant, roomID string, seq int64, c Condition) error
}
