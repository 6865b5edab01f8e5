package main

import (
	"fmt"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/measure"
)

// scenario is how many clients there are and what they do.
type scenario struct {
	name    string
	groups  int
	members int
	outside bool // one more client sends, which is in no group
	shift   int  // members of group g send to group g+shift
	nodes   int
	window  int // messages in flight in the closed loop
	rate    int // messages a second at the fixed rate
	idle    time.Duration
}

var scenarios = []scenario{
	{name: "S1", groups: 1, members: 1000, outside: true, nodes: 1, window: 64, rate: 50},
	{name: "S2", groups: 200, members: 50, nodes: 1, window: 400, rate: 1000},
	{name: "S3", groups: 5000, members: 1, nodes: 1, idle: 4 * time.Second},
	{name: "S4", groups: 1000, members: 1, shift: 1, nodes: 1, window: 500, rate: 15_000},
	{name: "S5a", groups: 1, members: 1000, outside: true, nodes: 2, window: 64, rate: 50},
	{name: "S5b", groups: 200, members: 50, nodes: 2, window: 400, rate: 500},
	{name: "S5c", groups: 1000, members: 1, shift: 1, nodes: 2, window: 500, rate: 8000},
}

// shrunk is the scenario at a scale that shows only that it works.
func (s scenario) shrunk() scenario {
	s.groups, s.members = min(s.groups, 4), min(s.members, 5)
	s.window, s.rate = min(s.window, 8), min(s.rate, 50)
	s.idle = min(s.idle, 100*time.Millisecond)
	return s
}

// result is what one phase of one run has shown.
type result struct {
	Server, Scenario, Phase string

	CPU       float64 // microseconds of the server per delivery, or per connection
	BrokerCPU float64 // of Redis, in the same unit
	PerSecond float64
	KiB       float64 // memory of the server per connection
	P50, P99  time.Duration
	Missing   int64 // deliveries that have not come
}

// run plays a scenario against running servers and hands out a result for each phase.
func (s scenario) run(d dialect, n *nodes, o options, report func(result)) error {
	clients := s.groups * s.members
	if s.outside {
		clients++
	}
	before := n.usage()
	started := time.Now()
	c, err := gather(d, n.addresses, clients, func(i int) string {
		if s.outside && i == clients-1 {
			return ""
		}
		return groupName(i / s.members)
	})
	if err != nil {
		return err
	}
	defer c.leave()
	report(n.result(before, "connect", time.Since(started), int64(clients)))
	if s.idle > 0 {
		before := n.usage()
		time.Sleep(s.idle)
		r := n.result(before, "idle", s.idle, int64(clients))
		r.KiB = float64(n.usage().memory) / 1024 / float64(clients)
		report(r)
		return nil
	}
	s.aim(c)
	for _, rate := range []int{0, s.rate} {
		if err := s.phase(c, n, o, rate, report); err != nil {
			return err
		}
	}
	return nil
}

func (s scenario) aim(c *crowd) {
	for i, cl := range c.clients {
		switch {
		case s.outside && i == len(c.clients)-1:
			for g := range s.groups {
				cl.aim(payloadSize, groupName(g))
			}
		case !s.outside:
			cl.aim(payloadSize, groupName((i/s.members+s.shift)%s.groups))
		}
	}
}

// payloadSize is the bytes of a message's data.
const payloadSize = 128

// phase measures the closed loop, or with a rate the open one, after a warm-up.
func (s scenario) phase(c *crowd, n *nodes, o options, rate int, report func(result)) error {
	p := &pace{s: s, c: c, fan: int64(s.members), from: c.delivered.Load()}
	if err := p.play(o.warm, rate); err != nil {
		return err
	}
	c.timing.Store(rate > 0) // in a closed loop they say how long its window takes
	before, delivered, started := n.usage(), c.delivered.Load(), time.Now()
	if err := p.play(o.phase, rate); err != nil {
		return err
	}
	name := "max"
	if rate > 0 {
		name = "rate"
	}
	r := n.result(before, name, time.Since(started), c.delivered.Load()-delivered)
	for deadline := time.Now().Add(3 * time.Second); p.inFlight() > 0 && time.Now().Before(deadline); {
		p.await(20 * time.Millisecond)
	}
	c.timing.Store(false)
	r.Missing = p.sent*p.fan - (c.delivered.Load() - p.from)
	if lost := c.lost.Load(); lost > 0 {
		return fmt.Errorf("%d of %d clients have lost their connection", lost, len(c.clients))
	}
	r.P50, r.P99 = c.latencies.take()
	report(r)
	return nil
}

// pace is the sender's state through a phase.
type pace struct {
	s    scenario
	c    *crowd
	fan  int64
	from int64 // deliveries before the phase
	sent int64
	next int
}

func (p *pace) inFlight() int64 { return p.sent - (p.c.delivered.Load()-p.from)/p.fan }

// await waits until something is delivered, but not for longer than d.
func (p *pace) await(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.c.progress:
	case <-t.C:
	}
}

// play sends for d: whenever fewer than the window are in flight, or when each is due.
func (p *pace) play(d time.Duration, rate int) error {
	start := time.Since(p.c.epoch)
	for i := int64(0); ; {
		now := time.Since(p.c.epoch)
		switch {
		case now-start >= d:
			return nil
		case p.c.lost.Load() > 0:
			return fmt.Errorf("%d of %d clients have lost their connection", p.c.lost.Load(), len(p.c.clients))
		case rate == 0 && p.inFlight() >= int64(p.s.window):
			p.await(20 * time.Millisecond)
			continue
		}
		due := now
		if rate > 0 {
			if due = start + time.Duration(i)*time.Second/time.Duration(rate); due > now {
				time.Sleep(min(due-now, start+d-now))
				continue
			}
		}
		if err := p.send(due); err != nil {
			return err
		}
		i++
	}
}

// send lets the next client send, or the one outside.
func (p *pace) send(due time.Duration) error {
	clients := p.c.clients
	p.sent++
	p.next++
	if p.s.outside {
		return clients[len(clients)-1].send(p.next%p.s.groups, due)
	}
	group, member := p.next%p.s.groups, p.next/p.s.groups%p.s.members
	return clients[group*p.s.members+member].send(0, due)
}

// usage is what servers and Redis have used.
type usage struct {
	cpu, broker time.Duration
	memory      int64
}

func (n *nodes) usage() (u usage) {
	for _, pid := range n.pids {
		if p, err := measure.ProcessUsage(pid); err == nil {
			u.cpu += p.CPU
			u.memory += p.RSS
		}
	}
	if n.broker != 0 {
		if p, err := measure.ProcessUsage(n.broker); err == nil {
			u.broker = p.CPU
		}
	}
	return u
}

// result divides what was used since before by a count.
func (n *nodes) result(before usage, phase string, took time.Duration, count int64) result {
	now := n.usage()
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(count, 1)) }
	return result{Phase: phase, CPU: per(now.cpu - before.cpu), BrokerCPU: per(now.broker - before.broker),
		PerSecond: float64(count) / took.Seconds()}
}
