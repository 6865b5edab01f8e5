package groupstate

import (
	"context"
	"errors"

	"github.com/chatr-dev/chatr/services/gateway/internal/hub"
)

// ConnStates is what a connection says of itself, and of which groups it wants to hear, on its way to another node. Its
// JSON form travels between nodes.
type ConnStates struct {
	Last   int64    `json:"last"` // when it last said something, in Unix milliseconds
	Said   []Said   `json:"said,omitempty"`
	Wanted [][]byte `json:"wanted,omitempty"` // groups; not text, so that they stay what they are
}

// Said is what a connection says of itself in a group.
type Said struct {
	Group []byte `json:"group"`
	State []byte `json:"state"`
}

// Export returns what another node needs to go on with c; ok is false when there is nothing.
func (s *States) Export(c *hub.Conn) (of ConnStates, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known[c]
	if known == nil {
		return of, false
	}
	of.Last = known.last
	for topic, group := range known.said {
		of.Said = append(of.Said, Said{[]byte(group), s.groups[topic].items[c].State})
	}
	for _, group := range known.wanted {
		of.Wanted = append(of.Wanted, []byte(group))
	}
	return of, len(of.Said)+len(of.Wanted) > 0
}

// Restore says again what a connection that has come from another node has said there, and subscribes it again; it has
// its socket. What could not be done is in the error. Snapshots that could not be had are what Resume tries to get; a group that the
// bus could not be subscribed to within snapshotTimeout is given up.
func (s *States) Restore(ctx context.Context, c *hub.Conn, of ConnStates) error {
	s.mu.Lock()
	known := s.conn(c)
	known.last = max(known.last, of.Last)
	s.mu.Unlock()
	var errs []error
	for _, said := range of.Said {
		errs = append(errs, s.Set(ctx, c, string(said.Group), said.State))
	}
	for _, group := range of.Wanted {
		subscribing, cancel := context.WithTimeout(ctx, snapshotTimeout)
		_, _, err := s.subscribe(subscribing, c, string(group))
		cancel()
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.Resume(ctx, c))...)
}
