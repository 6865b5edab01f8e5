package chat

import "errors"

// Why a store is not ready: a closed set, for metrics.
const (
	ReasonUnreachable = "unreachable"
	ReasonSchema      = "schema"    // older than the program's, or newer where that may not be
	ReasonReadOnly    = "read-only" // as after a switchover, until a server that can write is found
	ReasonFull        = "full"
	ReasonStopping    = "stopping" // or starting
	ReasonSlow        = "slow"     // not done in its time: overloaded, or it waits for a lock
	ReasonFailing     = "failing"
)

// NotReady says why a store cannot be used now. Any call may return it, wrapped: what was asked for may be tried again later.
type NotReady struct {
	Reason string // one of the constants
	Err    error
}

func (e *NotReady) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *NotReady) Unwrap() error { return e.Err }

// IsNotReady reports whether err says that the store could not be used.
func IsNotReady(err error) bool {
	var e *NotReady
	return errors.As(err, &e)
}

// NotReadyReason returns the reason, for those who know nothing of chats.
func (e *NotReady) NotReadyReason() string { return e.Reason }

// NotReadyReasons are all reasons there are.
func NotReadyReasons() []string {
	return []string{ReasonUnreachable, ReasonSchema, ReasonReadOnly, ReasonFull, ReasonStopping, ReasonSlow, ReasonFailing}
}
