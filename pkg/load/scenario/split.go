package scenario

import (
	"errors"
	"fmt"
)

// Split divides the scenario among n processes. Each gets its share of connections and rates, groups of its own and
// a seed of its own. A group is never spread over processes, so each process can judge by itself, on its own clock,
// what its receivers got.
func (s *Scenario) Split(n int) ([]Scenario, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var p problems
	few := func(name string, have int) {
		if have > 0 && have < n {
			p.add("%s is %d; %d processes need at least one each", name, have, n)
		}
	}
	few("connections", s.Connections)
	few("groups.count", s.Groups.Count)
	few("publish.window", s.Publish.Window)
	few("publish.outside", s.Publish.Outside)
	if s.Groups.Count > 0 && s.Groups.PerConnection > s.Groups.Count/n {
		p.add("groups.perConnection is %d; each of %d processes has only %d groups", s.Groups.PerConnection, n, s.Groups.Count/n)
	}
	if len(p) > 0 {
		return nil, errors.Join(p...)
	}
	parts := make([]Scenario, n)
	for i := range parts {
		part := *s
		part.Name = fmt.Sprintf("%s, process %d", s.Name, i+1)
		part.Seed = s.Seed + int64(i)
		for _, total := range []*int{&part.Connections, &part.Groups.Count, &part.Publish.Rate, &part.Publish.Window, &part.Publish.Outside,
			&part.Churn.Rate, &part.REST.GroupRate, &part.REST.UserRate, &part.Event.Rate, &part.Slow.Connections} {
			*total = *total*(i+1)/n - *total*i/n
		}
		parts[i] = part
	}
	return parts, nil
}
