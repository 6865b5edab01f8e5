// Package rules says what may be done in a chat, and commits it.
//
// It knows neither HTTP nor JSON nor gateways: whichever door a wish comes in by, it is decided here, once. Who acts is
// always an Actor, who has been made sure of, never somebody that a payload names. What a change means for live
// connections, and who is told of it, is for packages effects and telling.
package rules

import (
	"errors"
	"fmt"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/together"
)

// Rules are those of one tenant's chat. They are safe for concurrent use.
type Rules struct {
	store        chat.Store
	tenant       string
	legacyGuests bool
	said         together.Calls[chat.Message, chat.Outcome] // messages that come at the same time: a transaction for each would cost as many waits for the disk
}

// New returns the rules of a tenant's chat. With legacyGuests the original Chatr's guests may come, whose ids are from
// their browsers.
func New(store chat.Store, tenant string, legacyGuests bool) *Rules {
	r := &Rules{store: store, tenant: tenant, legacyGuests: legacyGuests}
	r.said = together.Calls[chat.Message, chat.Outcome]{Most: chat.MaxBatch, AtOnce: 2, Time: 5 * time.Second, Do: r.Keep}
	return r
}

// Actor is who does something: a known user, on a live connection.
type Actor struct {
	User       chat.User
	Connection string
	Event      string // names the client's event for good: the same in each attempt of a gateway, and no other's
}

// Reason is why something is not done. It is for doors to say it in their own words and numbers.
type Reason string

// The reasons there are.
const (
	Invalid        Reason = "invalid"              // an argument is not as it has to be
	InvalidUser    Reason = "invalid user"         // not the id of a user
	InvalidMessage Reason = "invalid message id"   //
	NotStorable    Reason = "not storable"         // a message that cannot be kept
	NotSignedIn    Reason = "not signed in"        // nobody known, or signed out since
	NotConnected   Reason = "not connected"        // the connection is closed
	TooMany        Reason = "too many connections" // of one user
	NoRoom         Reason = "no room"              // or none that the actor may know of
	NoTopic        Reason = "no topic"             //
	NoConversation Reason = "no conversation"      //
	NoMessage      Reason = "no message"           //
	NoUser         Reason = "no user"              //
	NoRole         Reason = "no role"              //
	NotIn          Reason = "not in room"          // the actor is no member
	NoMember       Reason = "no member"            // somebody else is none
	RoomExists     Reason = "room exists"          // or has existed
	AlreadyIn      Reason = "already in room"      //
	MayNotCreate   Reason = "may not create rooms" //
	MayNot         Reason = "not allowed"          // in this room, or with this person
	RoomLimit      Reason = "too many to create"   // see LimitText
	MemberLimit    Reason = "too many to join"     // see LimitText
)

// Refusal is a wish that is not granted, with a text for the person who had it: what would be right.
type Refusal struct {
	Reason Reason
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Refuse returns a Refusal.
func Refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// LimitText tells a person about every limit of how many there may be of something.
var LimitText = fmt.Sprintf("this is one too many: a person may own %d chats, be in %d, be invited to %d and block %d people, a chat may have %d members",
	chat.MaxOwnedRooms, chat.MaxMemberships, chat.MaxInvitations, chat.MaxBlocked, chat.MaxMembers)

var (
	errNoRoom         = Refuse(NoRoom, "there is no such chat, or it is not yours to see; it may have been deleted")
	errNoConversation = Refuse(NoConversation, "there is no such conversation")
	errNotIn          = Refuse(NotIn, "you are not a member of this room")
)

// outcome gives what the store says of somebody's or something's state the reasons of a rule. The rest stays as it is.
type outcome struct {
	notFound, forbidden, limit error
}

func (o outcome) of(err error) error {
	switch {
	case o.notFound != nil && errors.Is(err, chat.ErrNotFound):
		return o.notFound
	case o.forbidden != nil && errors.Is(err, chat.ErrForbidden):
		return o.forbidden
	case o.limit != nil && errors.Is(err, chat.ErrLimit):
		return o.limit
	}
	return err
}

var (
	errRoomLimit   = Refuse(RoomLimit, "%s", LimitText)
	errMemberLimit = Refuse(MemberLimit, "%s", LimitText)
)

// mayNot says what a member's role does not allow. Who is no member has none.
func mayNot(m chat.Membership, what string) error {
	if !m.In {
		return Refuse(MayNot, "only members may %s this room", what)
	}
	return Refuse(MayNot, "your role %.100s does not allow to %s this room", m.Role.Name, what)
}

func errNoUserID() error {
	return Refuse(InvalidUser, "a user id is a text of 1 to %d bytes", chat.MaxIDBytes)
}
