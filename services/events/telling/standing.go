package telling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Standing returns what connections of a user are to be told that have just been brought in line with how the user stands to a
// room; nothing, if they will hear it. What has been told to those who heard the room before, they may have missed. Who
// hears it now gets its newest event, by whose number a page sees whether it lacks some; who does not is told to be out
// of it. To whom that is known already it says nothing new.
func (t *Teller) Standing(ctx context.Context, roomID, userID string) (webpubsub.Data, error) {
	for range 3 {
		v, err := t.Store.RoomView(ctx, t.Tenant, userID, roomID)
		if err == nil {
			return t.standing(ctx, roomID, userID, v)
		}
		if !errors.Is(err, chat.ErrNotFound) {
			return webpubsub.Data{}, err
		}
		if news, has, err := t.ended(ctx, roomID); err != nil || has {
			return news, err
		}
	}
	return webpubsub.Data{}, fmt.Errorf("room %q comes and goes", roomID) // it will be tried again
}

// standing is Standing for a room that is there.
func (t *Teller) standing(ctx context.Context, roomID, userID string, v chat.RoomView) (webpubsub.Data, error) {
	told, will, err := t.willTell(ctx, roomID)
	if err == nil && will && !v.In {
		will, err = t.willSayOut(ctx, roomID, userID, told)
	}
	switch {
	case err != nil || will:
		return webpubsub.Data{}, err
	case !v.In:
		return out(roomID, userID), nil
	case !v.MayRead():
		return webpubsub.Data{}, nil
	}
	e, err := t.newest(ctx, roomID, v.LastEvent)
	if err != nil || e == nil {
		return webpubsub.Data{}, err
	}
	return notification{Event: e}.data(), nil
}

// out tells a user, whose pages and clients of the chat protocol know it by different members, to be out of a room. The room's
// title is for those who are in it.
func out(roomID, userID string) webpubsub.Data {
	body, _ := json.Marshal(struct {
		page
		Type string    `json:"notificationType"`
		Body roomNamed `json:"body"`
	}{pageMessage("memberLeft", member{ChatID: roomID, UserID: userID}), "RoomLeft", roomNamed{RoomID: roomID}}) // structs of strings
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: body}
}

// willTell reports whether there are events of a room to tell, after the one up to which it is told, and nobody has begun to.
func (t *Teller) willTell(ctx context.Context, roomID string) (told int64, will bool, err error) {
	t.mu.Lock()
	telling := t.runs[roomID] != nil
	t.mu.Unlock()
	if telling {
		return 0, false, nil
	}
	now, err := t.Store.TellingOf(ctx, t.Tenant, roomID)
	return now.Told, now.Told < now.Last && !now.Held, err
}

// willSayOut reports whether events of a room after a number say that a user has left it. Those of a room that was deleted, and is
// there again without the user, do not.
func (t *Teller) willSayOut(ctx context.Context, roomID, userID string, told int64) (bool, error) {
	events, _, err := t.Store.Events(ctx, t.Tenant, roomID, told, chat.MaxEvents)
	if errors.Is(err, chat.ErrGone) || errors.Is(err, chat.ErrNotFound) {
		return false, nil
	}
	return slices.ContainsFunc(events, func(e chat.Event) bool { return e.Kind == chat.EventLeft && e.UserID == userID }), err
}

// ended is what those are told who were in a room that has been deleted, if it has an end and is not there again by now.
func (t *Teller) ended(ctx context.Context, roomID string) (news webpubsub.Data, has bool, err error) {
	now, err := t.Store.TellingOf(ctx, t.Tenant, roomID)
	if errors.Is(err, chat.ErrNotFound) || err == nil && now.Last == 0 { // it never was, or not since rooms have events
		return webpubsub.Data{}, true, nil
	}
	if err != nil {
		return webpubsub.Data{}, false, err
	}
	e, err := t.newest(ctx, roomID, now.Last)
	if err != nil || e == nil || e.Kind != chat.EventClosed {
		return webpubsub.Data{}, false, err
	}
	return notification{Type: "RoomClosed", Body: roomNamed{roomID, e.Title}, Event: e}.data(), true, nil
}

// newest returns the event of a room that has a number, which is its newest; nil when it is kept no longer, or is none.
func (t *Teller) newest(ctx context.Context, roomID string, number int64) (*chat.WireEvent, error) {
	if number == 0 {
		return nil, nil
	}
	events, _, err := t.Store.Events(ctx, t.Tenant, roomID, number-1, 1)
	if errors.Is(err, chat.ErrGone) || errors.Is(err, chat.ErrNotFound) || err == nil && len(events) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w := events[0].Wire()
	return &w, nil
}
