package upstream

import "context"

// sequence says among which events of its connection an event takes its turn.
type sequence uint8

const (
	amongEvents    sequence = iota // user events
	amongQuestions                 // questions about messages to groups
)

// turn is the place of a user event, or of a question about a message, among those of its connection, which are posted one at a time. Until
// it is given up or finished the disconnected event waits, and the session is not handed over. It is for one goroutine at a time.
type turn struct {
	session *Session
	of      sequence
	id      uint64 // of the event
}

// takeTurn takes a place. It reports false after the end of the connection; else giveUp is to be called, or await.
func (s *Session) takeTurn(of sequence) (t turn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return t, false
	}
	s.lastID++
	if s.turns[of] == nil {
		s.turns[of] = make(chan struct{}, 1)
	}
	s.userEvents++
	return turn{s, of, s.lastID}, true
}

// await waits until no other event of the sequence is under way and, if h is where the connected event goes too, until h has that. If
// it fails the turn is over, else finish is to be called.
func (t turn) await(ctx context.Context, h *host) *Failure {
	select {
	case t.session.turns[t.of] <- struct{}{}:
	case <-ctx.Done():
		t.giveUp()
		return interrupted(ctx)
	}
	if failure := t.session.awaitConnected(ctx, h); failure != nil {
		t.finish()
		return failure
	}
	return nil
}

// finish lets the next event start.
func (t turn) finish() {
	<-t.session.turns[t.of]
	t.giveUp()
}

// giveUp ends a turn that has not come, and lets a disconnected event go that has waited for it.
func (t turn) giveUp() {
	t.session.mu.Lock()
	t.session.userEvents--
	t.session.mu.Unlock()
	t.session.submit()
}
