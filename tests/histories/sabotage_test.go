package histories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// TestSabotageIsFound spoils the store in ways in which it could be wrong, and wants each to be found.
func TestSabotageIsFound(t *testing.T) {
	open := copies(t, template(t))
	for name, c := range map[string]struct {
		wrap  func(w *world, s chat.Store) chat.Store
		found string // of these one has to be among what is said to be wrong
	}{
		"nothing is owed when somebody leaves":     {func(_ *world, s chat.Store) chat.Store { return forgetful{s} }, "hears true and speaks true"},
		"told before it is committed":              {func(w *world, s chat.Store) chat.Store { return hasty{s, w} }, " in "},
		"the mark is raised before the telling":    {func(w *world, s chat.Store) chat.Store { return &boastful{Store: s, w: w} }, "has not heard"},
		"what is sent again is not recognised":     {func(w *world, s chat.Store) chat.Store { return oblivious{s, w} }, "is there twice"},
		"numbers are not committed in their order": {func(w *world, s chat.Store) chat.Store { return unordered{s, w} }, "has not heard"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 100; seed++ {
				r := run(t, crowded(draw(seed)), open, c.wrap)
				if slices.ContainsFunc(r.problems, func(p string) bool { return strings.Contains(p, c.found) }) {
					t.Logf("found by history %d: %s", seed, r.problems[0])
					return
				}
			}
			t.Error("not found")
		})
	}
}

// crowded is a history in which much happens at once in one room, and a process dies.
func crowded(h History) History {
	for i := range h.Steps {
		s := &h.Steps[i]
		s.After %= 3 * time.Millisecond
		if s.Room != "" {
			s.Room = "den"
		}
	}
	h.Processes, h.Faults = 1, []Fault{{Call: 10 + int(h.Seed*37%150), Kind: DieBefore}}
	return h
}

// forgetful owes nothing when somebody leaves a room.
type forgetful struct{ chat.Store }

func (s forgetful) Leave(ctx context.Context, tenant, roomID, userID string) (bool, error) {
	left, err := s.Store.Leave(ctx, tenant, roomID, userID)
	return left, errors.Join(err, s.forget(ctx, tenant, roomID, userID))
}

func (s forgetful) RemoveMember(ctx context.Context, tenant, roomID, userID string, c chat.Condition) error {
	return errors.Join(s.Store.RemoveMember(ctx, tenant, roomID, userID, c), s.forget(ctx, tenant, roomID, userID))
}

func (s forgetful) forget(ctx context.Context, tenant, roomID, userID string) error {
	owed, err := s.ClaimEffectsOf(ctx, tenant, []string{roomID}, nil, time.Second)
	for _, e := range owed {
		if e.Kind == chat.EffectMember && e.UserID == userID {
			err = errors.Join(err, s.EffectPaid(ctx, tenant, e))
		} else {
			err = errors.Join(err, s.EffectFailed(ctx, tenant, e, 0))
		}
	}
	return err
}

// hasty tells a message before it is committed, which then goes wrong now and then.
type hasty struct {
	chat.Store
	w *world
}

func (s hasty) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	for _, m := range batch {
		newest, err := s.w.newest(m.RoomID)
		if err != nil {
			continue
		}
		e := chat.Event{RoomID: m.RoomID, Number: newest + 1, Kind: chat.EventMessage, UserID: m.AuthorID, Seq: newest, Message: &m, At: time.Now()}
		body, _ := json.Marshal(map[string]any{"notificationType": "MessageCreated", "event": e.Wire()})
		s.w.g.mu.Lock()
		for _, c := range s.w.g.conns {
			if c.groups[m.RoomID] {
				c.deliver(frame{group: m.RoomID, body: body})
			}
		}
		s.w.g.mu.Unlock()
	}
	if s.w.wait("commit"); s.w.dice("commit")%4 == 0 {
		return nil, errFails
	}
	return s.Store.AddMessages(ctx, tenant, batch)
}

// boastful notes that events are told as soon as they are read, after which its process dies now and then.
type boastful struct {
	chat.Store
	w *world

	mu     sync.Mutex
	owners map[string]string
}

func (s *boastful) ClaimTellings(ctx context.Context, tenant string, roomIDs []string, owner string, ttl time.Duration) (map[string]chat.Telling, error) {
	s.mu.Lock()
	if s.owners == nil {
		s.owners = map[string]string{}
	}
	for _, id := range roomIDs {
		s.owners[id] = owner
	}
	s.mu.Unlock()
	return s.Store.ClaimTellings(ctx, tenant, roomIDs, owner, ttl)
}

func (s *boastful) Events(ctx context.Context, tenant, roomID string, after int64, limit int) ([]chat.Event, int64, error) {
	events, last, err := s.Store.Events(ctx, tenant, roomID, after, limit)
	if err == nil && len(events) > 0 {
		s.mu.Lock()
		owner := s.owners[roomID]
		s.mu.Unlock()
		_, err = s.Told(ctx, tenant, owner, map[string]int64{roomID: events[len(events)-1].Number}, time.Second)
		if p := s.w.anyProcess("boast"); p != nil && s.w.dice("boast")%8 == 0 {
			p.die()
		}
	}
	return events, last, err
}

// oblivious takes a message that is sent again for a new one.
type oblivious struct {
	chat.Store
	w *world
}

func (s oblivious) AddMessages(ctx context.Context, tenant string, batch []chat.Message) ([]chat.Outcome, error) {
	batch = slices.Clone(batch)
	for i, m := range batch {
		known, err := s.Messages(ctx, tenant, m.RoomID, 1, 1<<40, 0)
		if err == nil && slices.ContainsFunc(known, func(k chat.Message) bool { return k.AuthorID == m.AuthorID && k.Key == m.Key }) {
			batch[i].Key = fmt.Sprintf("%s again %d", m.Key, s.w.dice("key"))
		}
	}
	return s.Store.AddMessages(ctx, tenant, batch)
}

// unordered does not show a new message now and then to who tells the room: it has its number before what is told next, and
// is committed after that.
type unordered struct {
	chat.Store
	w *world
}

func (s unordered) Events(ctx context.Context, tenant, roomID string, after int64, limit int) ([]chat.Event, int64, error) {
	events, last, err := s.Store.Events(ctx, tenant, roomID, after, limit)
	events = slices.DeleteFunc(events, func(e chat.Event) bool {
		return e.Kind == chat.EventMessage && s.w.dice(fmt.Sprint("order", e.Number))%3 == 0
	})
	return events, last, err
}
