package drive

import (
	"context"
	"fmt"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// Team ties together the processes that carry out one plan. Each does its share; the members of a group may be
// anywhere. All count time from one moment, on clocks that agree as well as was found out.
type Team struct {
	Share scenario.Share
	Run   truth.Run // the same for all
	Rooms []string  // ids of the chats, in chat journeys, the same for all; the first process opens them

	// Meet returns when all processes have come to the point: a moment that is the same for all, on this process's clock.
	Meet func(ctx context.Context, point Point) (time.Time, error)
	// Exchange gives away what this process sent, and gives take what each of the others did, with the bound of what
	// clocks may differ. Of a process that is gone, nothing comes.
	Exchange func(ctx context.Context, sent []byte, take func(sent []byte, apart time.Duration) error) error
}

// Point is where the processes of a team wait for each other.
type Point string

// The points, in order.
const (
	Begin   Point = "begin"   // from here on time is counted
	Ready   Point = "ready"   // everything is connected; the load begins at the moment returned
	Settled Point = "settled" // nothing of this process is under way any more
)

// Points lists the points in order.
var Points = []Point{Begin, Ready, Settled}

// begin starts the clock, the same one for all processes.
func (r *run) begin(ctx context.Context) error {
	r.epoch = time.Now()
	if r.team == nil {
		return nil
	}
	at, err := r.team.Meet(ctx, Begin)
	if err != nil {
		return fmt.Errorf("wait for the other processes to begin: %w", err)
	}
	r.epoch = at
	return nil
}

// meetReady waits until the load is to begin.
func (m *meter) meetReady(ctx context.Context) error {
	m.from = m.now()
	if m.team == nil {
		return nil
	}
	at, err := m.team.Meet(ctx, Ready)
	if err != nil {
		return fmt.Errorf("wait for the other processes to be ready: %w", err)
	}
	m.from = int64(at.Sub(m.epoch))
	m.sleep(ctx, time.Until(at))
	m.second(ctx) // else the wait would count as warm-up
	return nil
}

// reunite keeps receiving until nobody has anything under way any more, and learns what the others have sent. Whoever is
// stopped before its time has no account to give: the others would go on without it.
func (m *meter) reunite(ctx context.Context) error {
	met := make(chan error, 1)
	go func() {
		_, err := m.team.Meet(ctx, Settled)
		met <- err
	}()
	for len(met) == 0 && ctx.Err() == nil {
		m.pass(ctx, "settle", time.Second, func() bool { return len(met) > 0 })
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before its time: %w", context.Cause(ctx))
	}
	if err := <-met; err != nil {
		return fmt.Errorf("wait for the other processes to settle: %w", err)
	}
	m.settle(ctx) // for what the last of them has sent
	take := func(sent []byte, apart time.Duration) error {
		m.apart = max(m.apart, apart)
		return m.log.Import(sent, apart)
	}
	if err := m.team.Exchange(ctx, m.log.Export(), take); err != nil {
		return fmt.Errorf("exchange what was sent: %w", err)
	}
	return nil
}
