package chat

import (
	"context"
	"strings"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits of lists.
const (
	MaxUnread       = 1_000 // RoomView.Unread counts up to it
	MaxPreviewRunes = 200   // text of RoomView.Last
	MaxMembersPage  = 200   // members of one page
	MaxDirectory    = 200   // rooms of one page of the directory
)

// Lists are what a person sees before opening anything: parts of lists, each as it was at one moment.
type Lists interface {
	// Person returns who somebody is and may, or ErrNotFound.
	Person(ctx context.Context, tenant, userID string) (Person, error)
	// OwnRooms returns rooms that a user is in, from the most recent, beginning after a place (the zero one: at the top). A
	// limit that is not 1 to MaxMemberships, the most that somebody can be in, means that. Rooms move up while somebody
	// turns pages: one that has moved past the page's end is in no later page. ErrNotFound for an unknown user.
	OwnRooms(ctx context.Context, tenant, userID string, after Place, limit int) (OwnRooms, error)
	// ChangedRooms returns what has changed in a user's own list after a revision: a membership, how far it is read, the
	// role, or a block, and not what has happened in the room. It returns at most limit rooms (one that is not 1 to
	// MaxMemberships means that) and those that have changed together with the last of them. ErrNotFound for an unknown
	// user, ErrGone for a revision that has never been.
	ChangedRooms(ctx context.Context, tenant, userID string, since int64, limit int) (ChangedRooms, error)
	// RoomView returns a room as a user sees it who may be no member; ErrNotFound for an unknown room.
	RoomView(ctx context.Context, tenant, userID, roomID string) (RoomView, error)
	// Directory returns public rooms that a user is not in, from the newest, beginning after a place, at most limit (one that
	// is not 1 to MaxDirectory means that), of those whose title has what is looked for in it (Matching). more says whether there may be
	// others after next; a page can be short, or empty, before the last.
	Directory(ctx context.Context, tenant, userID, looked string, after Place, limit int) (found []DirectoryRoom, next Place, more bool, err error)
	// MembersPage returns members of a room in the order of joining, beginning after a place, at most limit (one that is not
	// 1 to MaxMembersPage means that). Who may see them is for the caller to know.
	MembersPage(ctx context.Context, tenant, roomID string, after Place, limit int) (members []Member, next Place, more bool, err error)
	// MessageWindow returns messages of a room that are next to a sequence. Who may see them is for the caller to know.
	// ErrNotFound for an unknown room.
	MessageWindow(ctx context.Context, tenant, roomID string, w Window) (MessageWindow, error)
}

// Place is where a page of a list ends; the zero Place is before its beginning.
type Place struct {
	At time.Time
	ID string
}

// Person is a user with what holds everywhere.
type Person struct {
	User
	Role      Role
	SignedOut time.Time // the last time; zero for never
}

// RoomView is a room as one user sees it in a list.
type RoomView struct {
	Membership
	LastEvent int64
	Unread    int       // messages after ReadSeq that are neither deleted nor the user's own; MaxUnread for so many or more
	Count     int       // of members
	At        time.Time // of the newest message, deleted or not; of the room's creation when there is none
	Last      *Message  // the newest that is not deleted, with at most MaxPreviewRunes of its text; nil if there is none, or none to read
	Peer      *Member   // of a direct room: the other one, whose State is empty after leaving
}

// OwnRooms are some of the rooms that somebody is in.
type OwnRooms struct {
	Revision int64 // of the whole list at that moment
	Rooms    []RoomView
	Next     Place // where the next page begins
	More     bool  // there are more after Next
}

// ChangedRooms is what has changed in somebody's own list.
type ChangedRooms struct {
	Revision int64 // that has been reached: everything up to it is in Rooms and Gone
	Rooms    []RoomView
	Gone     []string // rooms that the user was in, and is in no more
	More     bool     // the list has changed after Revision, too
}

// DirectoryRoom is a public room as strangers see it.
type DirectoryRoom struct {
	Room  Room // without its members
	Count int  // of members
}

// Window says which messages to return: Before messages with a lower sequence than Seq, and After messages that begin with it,
// each as far as there are some that are not deleted.
type Window struct {
	Seq           int64
	Before, After int // 0 to MaxPage
}

// MessageWindow are messages that follow each other, in ascending order.
type MessageWindow struct {
	Messages     []WindowMessage
	LastEvent    int64 // of the room at that moment
	Older, Newer bool  // there are more
}

// WindowMessage is a message, and whether it was edited.
type WindowMessage struct {
	Message
	Edited bool
}

// MayRead says whether a user may read what is said in a room.
func (m Membership) MayRead() bool { return m.In && m.Role.Allows(RoomHistory) }

// Matching returns what says whether a title has what is looked for in it, whatever the case of the letters and how they are
// encoded. Everything has the empty text in it.
func Matching(looked string) func(title string) bool {
	looked = folded(looked)
	return func(title string) bool { return looked == "" || strings.Contains(folded(title), looked) }
}

func folded(s string) string { return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s))) }
