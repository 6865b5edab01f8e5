package drive

import (
	"context"
	"fmt"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/scenario"
	"github.com/chatr-dev/chatr/pkg/load/truth"
)

// Team connects the processes that carry out one plan. Each process does its share; the members of a group may be in
// different processes. All count time from the same moment, as well as their clocks could be compared.
type Team struct {
	Share scenario.Share
	Run   truth.Run // the same for all
	Rooms []string  // ids of the chats, in chat journeys, the same for all; the first process opens them

	// Meet waits until all processes have reached the point, and returns a moment that is the same for all, on this process's
	// clock.
	Meet func(ctx context.Context, point Point) (time.Time, error)
	// Exchange tells the other processes what this one has sent, and calls take with what each of the others has sent and by how
	// much its clock may differ. Processes that are gone are left out.
	Exchange func(ctx context.Context, sent []byte, take func(sent []byte, clockError time.Duration) error) error
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

// startClock sets the moment from which time is counted, the same for all processes.
func (r *run) startClock(ctx context.Context) error {
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

// waitForStart waits until the load is to begin.
func (m *meter) waitForStart(ctx context.Context) error {
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
	m.recordSecond(ctx) // otherwise the wait would count as warm-up
	return nil
}

// exchangeSent keeps receiving until no process has anything under way, and then learns what the other processes have sent.
// A process that is stopped early takes no part, since the others go on without it.
func (m *meter) exchangeSent(ctx context.Context) error {
	met := make(chan error, 1)
	go func() {
		_, err := m.team.Meet(ctx, Settled)
		met <- err
	}()
	for len(met) == 0 && ctx.Err() == nil {
		m.runPhase(ctx, "settle", time.Second, func() bool { return len(met) > 0 })
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before its time: %w", context.Cause(ctx))
	}
	if err := <-met; err != nil {
		return fmt.Errorf("wait for the other processes to settle: %w", err)
	}
	m.waitUntilIdle(ctx) // for what the last of them has sent
	take := func(sent []byte, clockError time.Duration) error {
		m.clockError = max(m.clockError, clockError)
		return m.log.Import(sent, clockError)
	}
	if err := m.team.Exchange(ctx, m.log.Export(), take); err != nil {
		return fmt.Errorf("exchange what was sent: %w", err)
	}
	return nil
}
