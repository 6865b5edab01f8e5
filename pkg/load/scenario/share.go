package scenario

import (
	"errors"
)

// Share is the part of a plan that one of several processes carries out: every Of-th client, from number Index on.
// All make the same plan and each does what is its own, so the plan is the same whatever the number of processes, and
// every group of some size has members in all of them. The zero Share is all of the plan.
type Share struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// Has reports whether client i is in the share.
func (s Share) Has(i int) bool { return s.Owner(i) == s.Index }

// Owner returns the index of the share that client i is in.
func (s Share) Owner(i int) int { return i % max(s.Of, 1) }

// Position returns the place of client i among those of its share.
func (s Share) Position(i int) int { return i / max(s.Of, 1) }

// Count returns how many of the first n clients are in the share.
func (s Share) Count(n int) int {
	of := max(s.Of, 1)
	return max(n-s.Index+of-1, 0) / of
}

// Window returns how many unanswered messages of a closed loop are the share's: an even part, among those that have
// somebody to publish.
func (s Share) Window(total int, publishers []Publisher) int {
	able := make([]bool, max(s.Of, 1))
	able[0] = len(publishers) == 0 // somebody has to notice
	for _, p := range publishers {
		able[s.Owner(p.Client)] = true
	}
	of, position := 0, 0
	for i, yes := range able {
		if !yes {
			continue
		}
		if i < s.Index {
			position++
		}
		of++
	}
	if !able[s.Index] {
		return 0
	}
	return total*(position+1)/of - total*position/of
}

// CheckWorkers reports why n processes cannot share the scenario.
func (s *Scenario) CheckWorkers(n int) error {
	if err := s.Validate(); err != nil {
		return err
	}
	var p problems
	few := func(name string, have int) {
		if have < n {
			p.add("%s is %d; %d processes need at least one each", name, have, n)
		}
	}
	few("connections", s.Connections)
	if s.Publish.Window > 0 {
		few("publish.window", s.Publish.Window)
	}
	if most := s.mostSent(n); most > MaxSent {
		p.add("at these rates a worker may send %.0f messages in %v; at most %d are allowed, so use a shorter duration, lower rates or more workers", most, s.Warmup+s.Duration, int64(MaxSent))
	}
	return errors.Join(p...)
}

// MaxSent bounds the messages that one of several processes sends: in the end it tells the others of each.
const MaxSent = 25_000_000

// mostSent is how many messages the busiest of n processes sends, in open loop.
func (s *Scenario) mostSent(n int) float64 {
	publishing := n
	if s.Publish.Outside > 0 {
		publishing = min(n, s.Publish.Outside)
	}
	perSecond := float64(s.Publish.Rate)/float64(publishing) + float64(s.REST.GroupRate+s.REST.UserRate)/float64(n)
	return perSecond * (s.Warmup + s.Duration).Seconds()
}
