package team

import (
	"context"
	"os"
	"strings"
	"time"
)

// clock tells the time in nanoseconds since 1970. It runs steadily from the moment it was made, also when the
// machine's clock is set meanwhile.
type clock struct {
	base time.Time
	boot string
}

func newClock() *clock { return &clock{time.Now(), bootID()} }

func (c *clock) now() int64 { return c.reading(time.Now()) }

// reading is what the clock shows at t.
func (c *clock) reading(t time.Time) int64 { return c.base.UnixNano() + int64(t.Sub(c.base)) }

// when is the inverse of reading.
func (c *clock) when(reading int64) time.Time {
	return c.base.Add(time.Duration(reading - c.base.UnixNano()))
}

// bootID names what all processes under one kernel have in common, and so one clock, in whatever container; empty where
// that is not known.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // only Linux has it
	return strings.TrimSpace(string(b))
}

// estimate is how two clocks differ.
type estimate struct {
	offset     time.Duration // by which the other's is ahead
	clockError time.Duration // by which this may be wrong, in either direction
}

const rounds = 20

// compare asks for the other clock's reading several times, and believes the answer that came back fastest: the reading
// was taken somewhere between question and answer. Under one kernel both read the same clock, and do not differ; a kernel
// that says so may be a copy of another, so the answer has to fit.
func (c *clock) compare(ctx context.Context, ask func(ctx context.Context) (reading, error)) (estimate, error) {
	var best estimate
	var boot string
	for i := range rounds {
		asked := time.Now()
		r, err := ask(ctx)
		answered := time.Now()
		if err != nil {
			return best, err
		}
		took := answered.Sub(asked)
		e := estimate{offset: time.Duration(r.Now-c.reading(asked)) - took/2, clockError: (took + 1) / 2}
		if i == 0 || e.clockError < best.clockError {
			best, boot = e, r.Boot
		}
	}
	if boot != "" && boot == c.boot && best.offset.Abs() <= best.clockError {
		return estimate{}, nil
	}
	return best, nil
}

// since widens an earlier estimate by what a later one has shown: a clock that drifts was wrong by as much in between.
func (e estimate) since(later estimate) estimate {
	return estimate{e.offset, max(e.clockError, later.clockError) + (later.offset - e.offset).Abs()}
}
