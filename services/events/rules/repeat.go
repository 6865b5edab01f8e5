package rules

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// A gateway that does not get the answer to an event posts it again, and whoever takes it then, in whichever process, has to
// find what it has done already. Messages are found by their key. Other changes are found by their event in the room, which
// the store keeps with the client's event that has caused it: "already so" is an answer like the first one when it was this
// very event that has made it so, and a refusal otherwise.

// causing returns ctx for changes that are asked for by a's event.
func (a Actor) causing(ctx context.Context) context.Context {
	return chat.CausedBy(ctx, a.Connection, a.Event)
}

// newID returns an id for what a's event creates: nobody guesses it who does not know the connection's, and the event has the same
// when it is posted again.
func (a Actor) newID() string {
	sum := sha256.Sum256([]byte(a.Event))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

// repeated reports whether a's event has changed the room already. Then what the rules say by now does not matter: somebody may have
// undone the change since, or have seen to it that it could not be made again.
func (r *Rules) repeated(ctx context.Context, a Actor, roomID string) (bool, error) {
	return r.store.Caused(ctx, r.tenant, roomID, a.Event)
}

// unlessRepeated returns a refusal, or nil if a's event has changed the room already.
func (r *Rules) unlessRepeated(ctx context.Context, a Actor, roomID string, refusal error) error {
	again, err := r.repeated(ctx, a, roomID)
	if err != nil || again {
		return err
	}
	return refusal
}

// IsSoAlready reports whether err refuses to change something to what it is already. Whoever made it so may have been kept
// from what follows, so this is the moment to make good for that.
func IsSoAlready(err error) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.Reason {
	case AlreadyIn, NoMember, NoRoom, NoUser:
		return true
	}
	return false
}
