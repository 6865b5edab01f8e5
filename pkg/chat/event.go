package chat

import (
	"context"
	"time"
)

// EventKind is what has happened in a room.
type EventKind string

// The kinds of event.
const (
	EventCreated EventKind = "created" // the room, with a title, by its owner, who is a member from then on
	EventMessage EventKind = "message"
	EventEdited  EventKind = "edited"
	EventDeleted EventKind = "deleted" // a message
	EventJoined  EventKind = "joined"  // also by accepting an invitation, or put there by somebody
	EventInvited EventKind = "invited" // to a direct room
	EventLeft    EventKind = "left"    // also when taken out by somebody
	EventRole    EventKind = "role"    // a member was given one
	EventTitle   EventKind = "title"   // the room was given one
	EventClosed  EventKind = "closed"  // the room was deleted; whoever was in it no longer is
)

// Event is one step of a room's life. A room is the sequence of its events 1, 2, 3 …: they are numbered when they are
// committed, under the room's lock, so that whoever has seen number n will never see a lower one appear. A topic has
// events of its own.
type Event struct {
	RoomID     string
	RoomKind   Kind
	Number     int64 // without gaps
	Kind       EventKind
	UserID     string    // whose: the author, who joined, left, was given a role; who changed or deleted the room
	UserName   string    // what that user is called now
	Seq        int64     // of the message that a message, edited or deleted event is about; else 0
	Message    *Message  // of a message or edited event, as it is now; nil when it is deleted by now
	Title      string    // of a created, title or closed event
	Role       string    // of a role event
	At         time.Time // of the server; of a message, its SentAt
	Connection string    // that asked for it and is told by its answer; empty: none
	Cause      string    // that Caused finds; of no message
	Heard      bool      // clients of the version before have heard it in its way already: see Message.Heard
}

// ToldBefore reports whether a process of the version before has made the event, and told everybody of it in its way: nothing
// but its number is news then.
func (e Event) ToldBefore() bool { return e.Heard && e.Connection == "" }

// MaxEvents is how many events one call returns.
const MaxEvents = 256

// Telling is how far a room's listeners have been told of its events. It is stored, so that what has been committed is
// told by some process, whatever becomes of the one that committed it, and in the order of the numbers.
//
// One process at a time tells a room: it claims the telling, reads the events after Told, tells them, and calls Told,
// until the answer says that the telling is no longer its own.
//
//	held, err := s.ClaimTellings(ctx, tenant, []string{roomID}, owner, ttl)
//	for err == nil && held[roomID].Held {
//		events, _, err := s.Events(ctx, tenant, roomID, held[roomID].Told, chat.MaxEvents)
//		… tell them in their order …
//		held, err = s.Told(ctx, tenant, owner, map[string]int64{roomID: upTo}, ttl)
//	}
//
// Nobody needs to be woken: who stores an event and finds the telling with another process is done, since that one
// gives it back only when, under the room's lock, all is told. What a process leaves behind that ends is in Untold once
// its lease is over. So events are told at least once: twice by a process that is killed between telling and Told.
type Telling struct {
	Told int64 // listeners have been told up to this event
	Last int64 // the room's newest event
	Held bool  // the owner has the lease: it is the one to tell the events after Told, and there are some
}

// Events says what has happened in rooms, and who tells it.
type Events interface {
	// Events returns events of a room after a number, in ascending order, at most limit (one that is not 1 to MaxEvents
	// means MaxEvents), and the number of the room's newest. Who may see them is for the caller to know. ErrNotFound for
	// an unknown room; a deleted one still has its events. ErrGone when events after that number are no longer kept, or
	// it is above the newest: the caller has to begin again.
	Events(ctx context.Context, tenant, roomID string, after int64, limit int) (events []Event, last int64, err error)

	// Caused reports whether one of the newest MaxEvents events of a room has a cause (see CausedBy).
	Caused(ctx context.Context, tenant, roomID, cause string) (bool, error)

	// ClaimTellings takes, or renews, the leases of telling some rooms, at most MaxListed, for an owner (any text of a process, at
	// most MaxIDBytes bytes), for ttl from now by the database's clock. Those that the owner has the lease of are in the
	// answer; those that another tells, that there is nothing to tell of, or that are unknown, are not.
	ClaimTellings(ctx context.Context, tenant string, roomIDs []string, owner string, ttl time.Duration) (map[string]Telling, error)
	// Told notes how far the listeners of some rooms have been told, and renews the owner's leases, or gives them back where
	// there is nothing more to tell. It does nothing where the owner has lost the lease. Those that the owner still has
	// the lease of are in the answer. A mark never falls, and a lost Told costs at most that events are told twice.
	Told(ctx context.Context, tenant, owner string, upTo map[string]int64, ttl time.Duration) (map[string]Telling, error)
	// TellingOf says how it is, and changes nothing: Held is whether somebody has the lease now. ErrNotFound for an unknown
	// room.
	TellingOf(ctx context.Context, tenant, roomID string) (Telling, error)
	// Untold returns up to limit rooms (at most MaxListed) with events to tell that nobody has the lease of.
	Untold(ctx context.Context, tenant string, limit int) ([]string, error)
}

type causeKey struct{}

// cause is what has asked for a change.
type cause struct{ connection, event string }

// CausedBy returns a context whose changes are noted as asked for by a connection, by an event of it, both texts that a store
// can hold. Their events carry them as Connection and Cause: who tells them can leave the connection out, since it has its
// answer, and who is asked for the same event again finds what it has done (Caused).
func CausedBy(ctx context.Context, connectionID, event string) context.Context {
	return context.WithValue(ctx, causeKey{}, cause{connectionID, event})
}

// CauseOf returns what CausedBy has noted; empty for nothing, and for what no store could hold.
func CauseOf(ctx context.Context) (connectionID, event string) {
	c, _ := ctx.Value(causeKey{}).(cause)
	if CheckIDs(c.connection, c.event) != nil {
		return "", ""
	}
	return c.connection, c.event
}
