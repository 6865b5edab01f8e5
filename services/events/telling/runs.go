package telling

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

const (
	width     = 64               // rooms that one process tells at a time
	leaseTime = 5 * time.Second  // for which a process that has died keeps others from telling a room
	renewTime = leaseTime / 3    // after which it is renewed
	noLease   = time.Millisecond // for giving one back: after a failure whoever looks next tries again, see Work
	storeTime = 5 * time.Second  // for one claim or mark of some rooms
	runTime   = time.Minute      // for one run, at most: what is left is found by Work

	// storeAtOnce is how many claims, and how many marks, are under way at a time. More make each smaller and the database
	// busier: at 2,000 messages a second in 1,000 rooms the slowest hundredth was told after 42 ms with two, 139 ms with
	// eight and 318 ms with sixteen (BenchmarkSay). With one, a room that somebody else has locked would hold up all.
	storeAtOnce = 2
)

// run is the telling of one room by this process.
type run struct {
	done chan struct{} // closed when it has ended
	next chan struct{} // the same for one more, which has to follow; nil: none has
	said []chat.Event  // messages stored by this process of late, which need not be read; see Said
}

// saidMost is how many messages wait with a run; more are read.
const saidMost = 4 * chat.MaxEvents

// Changed has a room's events told that are not told yet, by this process or by the one that is telling them. The channel is
// closed when they have been told, or could not be, or another process is at it.
func (t *Teller) Changed(roomID string) <-chan struct{} { return t.changed(roomID, nil) }

// Said is Changed for a message that has just been stored, for the first time.
func (t *Teller) Said(m chat.Message) {
	t.changed(m.RoomID, &chat.Event{
		RoomID: m.RoomID, Number: m.Number, Kind: chat.EventMessage, UserID: m.AuthorID, UserName: m.AuthorName, Seq: m.Seq,
		Message: &m, At: m.SentAt, Connection: m.Connection, Heard: m.Heard,
	})
}

func (t *Teller) changed(roomID string, said *chat.Event) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, first := t.runs[roomID], false
	if r == nil {
		r, first = &run{done: make(chan struct{})}, true
		t.runs[roomID] = r
	}
	if said != nil && len(r.said) < saidMost {
		r.said = append(r.said, *said)
	}
	if first {
		go t.run(roomID, r)
		return r.done
	}
	if r.next == nil { // the run may be past the place where it would have seen the change
		r.next = make(chan struct{})
	}
	return r.next
}

// Work has those rooms told that nobody is telling: whose process has died, or could not reach the gateways.
func (t *Teller) Work(ctx context.Context) error {
	rooms, err := t.Store.Untold(ctx, t.Tenant, width)
	for _, id := range rooms {
		t.Changed(id)
	}
	return err
}

// IsTold reports whether all events of a room have been told. It keeps nobody from telling.
func (t *Teller) IsTold(ctx context.Context, roomID string) (bool, error) {
	now, err := t.Store.TellingOf(ctx, t.Tenant, roomID)
	return now.Told >= now.Last, err
}

// ToTheEnd has a deleted room's events told, if they are not yet. It returns nil when they have been.
func (t *Teller) ToTheEnd(ctx context.Context, roomID string) error {
	if told, err := t.IsTold(ctx, roomID); err != nil || told {
		return err
	}
	select {
	case <-t.Changed(roomID):
	case <-ctx.Done():
		return ctx.Err()
	}
	told, err := t.IsTold(ctx, roomID)
	if err == nil && !told {
		err = errors.New("the members of a deleted room are not told yet")
	}
	return err
}

// Wait returns when no room is being told. While a process ends, what is asked of it still brings more to tell.
func (t *Teller) Wait() {
	for {
		t.mu.Lock()
		var done <-chan struct{}
		for _, r := range t.runs {
			done = r.done
			break
		}
		t.mu.Unlock()
		if done == nil {
			return
		}
		<-done
	}
}

func (t *Teller) run(roomID string, r *run) {
	t.slots <- struct{}{}
	defer func() { <-t.slots }()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), runTime)
		if err := t.tell(ctx, roomID); err != nil {
			t.Logger.Warn("room not told; it will be tried again", "room", roomID, "error", err)
		}
		cancel()
		t.mu.Lock()
		close(r.done)
		if r.next == nil {
			delete(t.runs, roomID)
			t.mu.Unlock()
			return
		}
		r.done, r.next = r.next, nil
		t.mu.Unlock()
	}
}

// tell tells the events of a room that are not told yet, in their order, unless another process is at it.
func (t *Teller) tell(ctx context.Context, roomID string) error {
	lease, err := t.claims.Call(ctx, roomID)
	for err == nil && lease.Held {
		lease, err = t.tellSome(ctx, roomID, lease)
	}
	return err
}

// claim claims the telling of some rooms. Those that another process tells, or that are told, are not held.
func (t *Teller) claim(ctx context.Context, roomIDs []string) ([]chat.Telling, error) {
	held, err := t.Store.ClaimTellings(ctx, t.Tenant, roomIDs, t.owner, leaseTime)
	leases := make([]chat.Telling, len(roomIDs))
	for i, id := range roomIDs {
		leases[i] = held[id]
	}
	return leases, err
}

// mark is how far a room has been told.
type mark struct {
	roomID string
	upTo   int64
}

// setMarks notes how far some rooms have been told. What is told whole is not held any more.
func (t *Teller) setMarks(ctx context.Context, list []mark) ([]chat.Telling, error) {
	upTo := map[string]int64{}
	for _, m := range list {
		upTo[m.roomID] = m.upTo
	}
	held, err := t.Store.Told(ctx, t.Tenant, t.owner, upTo, leaseTime)
	leases := make([]chat.Telling, len(list))
	for i, m := range list {
		leases[i] = held[m.roomID]
	}
	return leases, err
}

// tellSome tells the next events and moves the mark, as far as they could be told.
func (t *Teller) tellSome(ctx context.Context, roomID string, lease chat.Telling) (chat.Telling, error) {
	events, err := t.next(ctx, roomID, lease.Told)
	if errors.Is(err, chat.ErrGone) || err == nil && len(events) == 0 { // nobody can be told of them any more
		return t.marks.Call(ctx, mark{roomID, lease.Last})
	}
	if err != nil {
		return lease, err
	}
	upTo, renewed := lease.Told, time.Now()
	for _, e := range events {
		if time.Since(renewed) > renewTime {
			if lease, err = t.marks.Call(ctx, mark{roomID, upTo}); err != nil || !lease.Held {
				return lease, err
			}
			renewed = time.Now()
		}
		if err := t.tellOne(ctx, e); err != nil {
			_, errBack := t.Store.Told(ctx, t.Tenant, t.owner, map[string]int64{roomID: upTo}, noLease)
			return chat.Telling{}, errors.Join(err, errBack)
		}
		upTo = e.Number
	}
	return t.marks.Call(ctx, mark{roomID, upTo})
}

// next returns the events of a room after a number: messages that this process has stored itself, if they are the next, or
// what the store has.
func (t *Teller) next(ctx context.Context, roomID string, after int64) ([]chat.Event, error) {
	t.mu.Lock()
	var known, rest []chat.Event
	if r := t.runs[roomID]; r != nil {
		slices.SortFunc(r.said, func(a, b chat.Event) int { return cmp.Compare(a.Number, b.Number) })
		for _, e := range r.said {
			switch want := after + int64(len(known)) + 1; {
			case e.Number == want:
				known = append(known, e)
			case e.Number > want:
				rest = append(rest, e)
			}
		}
		r.said = rest
	}
	t.mu.Unlock()
	if len(known) > 0 {
		return known, nil
	}
	events, _, err := t.Store.Events(ctx, t.Tenant, roomID, after, chat.MaxEvents)
	return events, err
}

// tellOne tells an event. One that gateways refuse for good holds up nobody.
func (t *Teller) tellOne(ctx context.Context, e chat.Event) error {
	err := t.event(ctx, e)
	var g *dataplane.Error
	if errors.As(err, &g) && isForGood(g.Status) {
		t.skipped.Inc()
		t.Logger.Error("event of a room not told", "room", e.RoomID, "kind", e.Kind, "number", e.Number, "error", err)
		return nil
	}
	return err
}

// isForGood reports whether a gateway that answers with a status will do so whenever it is asked the same. That it does not know
// our key or our tenant lasts until it has read its settings again.
func isForGood(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status < 500
}
