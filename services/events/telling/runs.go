package telling

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/dataplane"
)

const (
	width     = 64               // rooms that one process tells at a time
	leaseTime = 5 * time.Second  // for which a process that has died keeps others from telling a room
	renewTime = leaseTime / 3    // after which it is renewed
	noLease   = time.Millisecond // for giving one back: after a failure whoever looks next tries again, see Work
	runTime   = time.Minute      // for one run, at most: what is left is found by Work
)

// run is the telling of one room by this process.
type run struct {
	done chan struct{} // closed when it has ended
	next chan struct{} // the same for one more, which has to follow; nil: none has
}

// Changed has a room's events told that are not told yet, by this process or by the one that is telling them. The channel is
// closed when they have been told, or could not be, or another process is at it.
func (t *Teller) Changed(roomID string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.runs[roomID]; r != nil { // which may be past the place where it would have seen the change
		if r.next == nil {
			r.next = make(chan struct{})
		}
		return r.next
	}
	r := &run{done: make(chan struct{})}
	t.runs[roomID] = r
	t.work.Go(func() { t.run(roomID, r) })
	return r.done
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
	lease, err := t.Store.ClaimTelling(ctx, t.Tenant, roomID, t.owner, noLease)
	return lease.Told >= lease.Last, err
}

// Wait returns when no room is being told.
func (t *Teller) Wait() { t.work.Wait() }

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
	lease, err := t.Store.ClaimTelling(ctx, t.Tenant, roomID, t.owner, leaseTime)
	for err == nil && lease.Held {
		lease, err = t.tellSome(ctx, roomID, lease)
	}
	if errors.Is(err, chat.ErrNotFound) { // of a tenant that is gone
		return nil
	}
	return err
}

// tellSome tells the next events and moves the mark, as far as they could be told.
func (t *Teller) tellSome(ctx context.Context, roomID string, lease chat.Telling) (chat.Telling, error) {
	events, _, err := t.Store.Events(ctx, t.Tenant, roomID, lease.Told, chat.MaxEvents)
	if errors.Is(err, chat.ErrGone) || err == nil && len(events) == 0 { // nobody can be told of them any more
		return t.Store.Told(ctx, t.Tenant, roomID, t.owner, lease.Last, leaseTime)
	}
	if err != nil {
		return lease, err
	}
	upTo, renewed := lease.Told, time.Now()
	for _, e := range events {
		if time.Since(renewed) > renewTime {
			if lease, err = t.Store.Told(ctx, t.Tenant, roomID, t.owner, upTo, leaseTime); err != nil || !lease.Held {
				return lease, err
			}
			renewed = time.Now()
		}
		if err := t.tellOne(ctx, e); err != nil {
			_, errBack := t.Store.Told(ctx, t.Tenant, roomID, t.owner, upTo, noLease)
			return chat.Telling{}, errors.Join(err, errBack)
		}
		upTo = e.Number
	}
	return t.Store.Told(ctx, t.Tenant, roomID, t.owner, upTo, leaseTime)
}

// tellOne tells an event. One that gateways refuse for good holds up nobody.
func (t *Teller) tellOne(ctx context.Context, e chat.Event) error {
	err := t.event(ctx, e)
	var g *dataplane.Error
	if errors.As(err, &g) && g.Status >= 400 && g.Status < 500 && g.Status != http.StatusTooManyRequests && g.Status != http.StatusRequestTimeout {
		t.skipped.Inc()
		t.Logger.Error("event of a room not told", "room", e.RoomID, "kind", e.Kind, "number", e.Number, "error", err)
		return nil
	}
	return err
}
