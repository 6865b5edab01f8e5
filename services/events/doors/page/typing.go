package page

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/strictjson"
	"github.com/chatr-dev/chatr/services/events/telling"
)

// Typing is an event of a room that is not kept: who is typing is of no use a moment later. A page that looks at a room says
// so (lookAt), is then in the room's typing group and may send there. From then on no store is asked: gateways know who
// may send, and ask us about each message (beforePublish), which is told on to those who look, for at most three people of a
// room at a time. It ends by itself.

// lookAt is how a page says that it shows a room now, or does so no longer.
func (d *Door) lookAt(ctx context.Context, e event) error {
	var in struct {
		ChatID  string `json:"chatId"`
		Looking *bool  `json:"looking"`
	}
	if err := e.decode(&in); err != nil {
		return err
	}
	if in.Looking == nil {
		return refuse(http.StatusBadRequest, `the data must be {"chatId": id, "looking": true or false}`)
	}
	if err := chat.CheckIDs(in.ChatID); err != nil { // no rule sees that of a room that nobody looks at any more
		return err
	}
	if !*in.Looking {
		return d.Live.LookAway(ctx, in.ChatID, e.Connection)
	}
	if err := d.Rules.Look(ctx, e.Actor, in.ChatID); err != nil {
		return err
	}
	return d.Live.Look(ctx, in.ChatID, e.User.ID, e.Connection)
}

// typing takes what a page says to a room's typing group: {"typing": true} while somebody is typing, every few seconds, and
// {"typing": false} at the end.
func (d *Door) typing(ctx context.Context, e cloudevents.Event, roomID string) error {
	if ok, _ := d.limit.Allow(e.UserID); !ok || e.UserID == "" {
		return refuse(http.StatusTooManyRequests, "too many events; at most %d a second are taken", d.EventsPerSecond)
	}
	var in struct {
		Typing *bool `json:"typing"`
	}
	if !strings.HasPrefix(e.ContentType, cloudevents.TypeJSON) || strictjson.Decode(e.Body, &in) != nil || in.Typing == nil {
		return refuse(http.StatusBadRequest, `the data must be {"typing": true or false}`)
	}
	if !d.typists.set(roomID, e.UserID, *in.Typing, time.Now()) {
		return nil
	}
	return d.Tell.Typing(ctx, roomID, e.UserID, *in.Typing, e.ConnectionID)
}

// typists remembers who is typing, by room, as far as this process has told of it. Rooms that everybody has left without a
// word are looked for when there are many.
type typists struct {
	mu    sync.Mutex // guards the following
	rooms map[string]map[string]time.Time
	many  int // so many rooms are worth looking
}

const manyRooms = 1_000 // at least

const maxTypists = 3 // of a room, who are told of at a time: a page shows as many names

// set notes that a user is typing, or no longer, and reports whether that is to be told.
func (t *typists) set(roomID, userID string, typing bool, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rooms) > max(t.many, manyRooms) {
		maps.DeleteFunc(t.rooms, func(_ string, room map[string]time.Time) bool { return over(room, now) })
		t.many = 2 * len(t.rooms)
	}
	room := t.rooms[roomID]
	over(room, now)
	_, known := room[userID]
	switch {
	case !typing:
		delete(room, userID)
	case known || len(room) < maxTypists:
		if room == nil {
			room = map[string]time.Time{}
			t.rooms[roomID] = room
		}
		room[userID] = now.Add(telling.TypingTime)
		known = true
	}
	if len(room) == 0 {
		delete(t.rooms, roomID)
	}
	return known
}

// over forgets those of a room whose time is over, and reports whether that is all.
func over(room map[string]time.Time, now time.Time) bool {
	maps.DeleteFunc(room, func(_ string, until time.Time) bool { return now.After(until) })
	return len(room) == 0
}
