// Package chat is the stored side of the product: users, presence, rooms, members, messages.
//
// A Store keeps them; package sqlstore implements it for Postgres and SQLite, package chattest holds both to one suite.
// Rules that need only stored facts (who owns a room, who is a member, who has blocked whom) are kept here,
// inside one statement or transaction, so that two processes cannot break them together.
package chat

import (
	"errors"
	"fmt"
	"time"
)

// What a Store's methods may answer beside internal failures. An error that wraps none of these is internal.
var (
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrForbidden = errors.New("forbidden")
	ErrLimit     = errors.New("limit reached")
	ErrInvalid   = errors.New("invalid") // an argument no store can hold; the text says what would be right
	ErrMuted     = fmt.Errorf("%w: may not speak there", ErrForbidden)
	ErrNoRef     = fmt.Errorf("%w: the message that it is about is not there", ErrInvalid)
	ErrCondition = errors.New("condition not met")
	ErrGone      = errors.New("no longer kept") // begin again
)

// Limits of what is stored.
const (
	MaxNameRunes   = 64       // a user's display name
	MaxTitleRunes  = 100      // a room's title
	MaxTextRunes   = 8_000    // a message's text, as pages send it
	MaxTextBytes   = 64 << 10 // a message's text, whoever sends it
	MaxKeyBytes    = 128      // a message's client key
	MaxIDBytes     = 128      // a user, room or connection id
	MaxOwnedRooms  = 100      // rooms a user may own at once
	MaxMemberships = 500      // rooms a user may be in at once; below the 1000 roles of a connection
	MaxPutInto     = 400      // rooms a user may be in for others to put the user into one more
	MaxInvitations = 100      // direct rooms a user may be invited to and has not joined; strangers can fill no more
	MaxMembers     = 1_000    // members of a room
	MaxBlocked     = 1_000    // users whom a user may have blocked at once
	MaxPage        = 200      // messages of one page of history
	MaxBatch       = 256      // messages stored by one call
	MaxRoles       = 1_000    // stored roles
	MaxListed      = 1_000    // public rooms of a listing; users swept or connections claimed by one call
	MaxOnline      = 5_000    // users of a listing of those online
)

// User is a person as the identity provider (or the guest sign-in) described them.
type User struct {
	ID       string // carries its provider as a prefix, e.g. "guest_8c2f…"; legacy guests have none
	Name     string
	Provider string // "guest", "github", "aad", …
}

// Presence is a user who is online now.
type Presence struct {
	User
	Idle bool // all of the user's connections are idle
}

// Connection ties a live connection to its user.
type Connection struct {
	ID     string
	UserID string
	Ended  bool // its user has signed out or was removed since it came, so that it is to be closed; of Connections only
}

// Kind is what a room is.
type Kind string

// The kinds of room.
const (
	KindPublic  Kind = "public"  // a group chat that everybody may find and join
	KindPrivate Kind = "private" // a group chat of those whom its members have put into it
	KindDirect  Kind = "direct"  // between two users; its id starts with DirectPrefix
)

// DirectPrefix starts the id of every direct room and of no other.
const DirectPrefix = "private_"

// MemberState says whether a member has agreed to be one.
type MemberState string

// The states of a member. An invited member of a direct room hears it but has not yet accepted.
const (
	StateJoined  MemberState = "joined"
	StateInvited MemberState = "invited"
)

// Member is a user in a room.
type Member struct {
	UserID  string
	Name    string
	State   MemberState
	ReadSeq int64 // the newest message this member has read; at first the newest there was on joining
	Role    string
}

// Membership is a room as one user stands to it.
type Membership struct {
	Room     Room        // without its members
	In       bool        // the user is a member, in either state
	State    MemberState // of a member
	Role     Role        // what the user is there; the zero Role for anyone who is no member
	ReadSeq  int64       // of a member: the newest message read
	MaySpeak bool        // is a member, and neither the role nor a block is in the way
}

// Room is a chat. Its id is also the name of its live group.
type Room struct {
	ID        string
	Title     string // empty for a direct room: each side sees the other's name
	Kind      Kind
	OwnerID   string // who created it
	CreatedAt time.Time
	LastSeq   int64    // sequence of the newest message, 0 for none
	Members   []Member // in order of joining
}

// Member returns the member with the given user id.
func (r Room) Member(userID string) (Member, bool) {
	for _, m := range r.Members {
		if m.UserID == userID {
			return m, true
		}
	}
	return Member{}, false
}

// Message is one line of a room's history. Sequences count 1, 2, 3 … without gaps per room.
type Message struct {
	RoomID     string
	Seq        int64
	Number     int64 // of the message's event in the room
	AuthorID   string
	AuthorName string // what the author is called now
	Text       string
	Key        string // made by the client; one author's message with the same key is the same message; empty: none
	SentAt     time.Time
	Ref        int64  // the sequence of the message that this one is about; 0: none
	Binary     string // what an application has put beside the text, in base64; empty: nothing
	Connection string // that it came from, as its event has it; empty: none
	// Heard says that clients have heard it already, in the way of the version before, without its number: it was sent
	// through a gateway that does not ask, or stored by a process of that version.
	Heard bool
}

// LeaveTime is how long after a user has left a room, or was blocked, gateways may still have let the user's messages
// through to the others.
const LeaveTime = 5 * time.Second

// MayBarFrom returns since when the author has to be out of the room, or blocked, for the message not to be stored.
// Messages are stored some time after they were sent, and who leaves at once has said what all have heard.
func (m Message) MayBarFrom() time.Time {
	if m.SentAt.IsZero() {
		return time.Now().Add(LeaveTime) // whoever is out now
	}
	return m.SentAt.Add(-LeaveTime)
}

// Outcome is what has become of one message of a batch.
type Outcome struct {
	Message Message // as it is stored
	Created bool    // it is new
	Err     error   // why it is not stored: wraps ErrNotFound, ErrForbidden or ErrInvalid
}

// One returns the outcome of a batch of one.
func One(batch []Outcome, err error) (stored Message, created bool, _ error) {
	if err != nil {
		return Message{}, false, err
	}
	return batch[0].Message, batch[0].Created, batch[0].Err
}
