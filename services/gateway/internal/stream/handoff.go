package stream

import (
	"time"

	"github.com/chatr-dev/chatr/pkg/protocol"
)

// State is the streams of a connection on its way to another node. Nothing of theirs is on its way to the bus then, except
// ends, which the node publishes on which they began.
type State struct {
	Open  []Open  `json:"open,omitempty"`
	Ended []Ended `json:"ended,omitempty"`
}

// Open is a stream that goes on.
type Open struct {
	ID       []byte        `json:"id"` // not text, so that it stays what it is
	Group    []byte        `json:"group"`
	NoEcho   bool          `json:"noEcho,omitempty"`
	Idle     time.Duration `json:"idle"`
	Silent   time.Duration `json:"silent"` // how long its publisher has said nothing
	Expected uint64        `json:"expected"`
}

// Ended is a stream whose publisher may not know how it ended.
type Ended struct {
	ID      []byte            `json:"id"`
	Failure *protocol.Failure `json:"failure,omitempty"`
}

// Export returns the streams for another node that may go on with them.
func (s *Set) Export() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot()
}

func (s *Set) snapshot() State {
	var state State
	for _, e := range s.ended {
		state.Ended = append(state.Ended, Ended{[]byte(e.id), e.failure})
	}
	for _, st := range s.open {
		if st.end != nil {
			state.Ended = append(state.Ended, Ended{[]byte(st.id), st.end.failure})
			continue
		}
		state.Open = append(state.Open, Open{ID: []byte(st.id), Group: []byte(st.group), NoEcho: st.noEcho,
			Idle: st.idle, Silent: time.Since(st.heard), Expected: st.expected})
	}
	return state
}

// HandOver returns the streams for another node, which goes on with them: they end there. Either CancelHandOver or
// EndHandedOver follows.
func (s *Set) HandOver() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handedOver = true
	for _, st := range s.open {
		st.timer.Stop()
	}
	return s.snapshot()
}

// CancelHandOver says that no other node goes on with the streams. If their connection has ended meanwhile, they end now.
func (s *Set) CancelHandOver() {
	s.mu.Lock()
	s.handedOver = false
	ended := s.connEnded
	for _, st := range s.open {
		if st.end == nil {
			st.timer.Reset(max(0, st.idle-time.Since(st.heard)))
		}
	}
	s.mu.Unlock()
	if ended {
		s.Cancel()
	}
}

// EndHandedOver forgets the streams that were handed over.
func (s *Set) EndHandedOver() {
	s.mu.Lock()
	s.connEnded = true
	handedOver := 0
	for id, st := range s.open {
		if st.end == nil {
			delete(s.open, id)
			handedOver++
		}
	}
	s.mu.Unlock()
	for range handedOver {
		s.port.Over()
	}
}

// Restore goes on with the streams that another node has handed over. If their connection has ended meanwhile, they end now.
func (s *Set) Restore(state State) {
	s.mu.Lock()
	for _, e := range state.Ended {
		s.ended = append(s.ended, ended{string(e.ID), e.Failure, s.sockets - 1})
	}
	for _, o := range state.Open {
		st := &stream{id: string(o.ID), group: string(o.Group), noEcho: o.NoEcho, idle: o.Idle,
			heard: time.Now().Add(-o.Silent), expected: o.Expected, told: o.Expected}
		st.timer = time.AfterFunc(max(0, st.idle-o.Silent), func() { s.expire(st) })
		s.open[st.id] = st
	}
	ended := s.connEnded
	s.mu.Unlock()
	if ended {
		s.Cancel()
	}
}
