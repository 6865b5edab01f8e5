package upstream

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Held collects for which connections this process has to send a disconnected event. Package orphans takes the changes from it
// and writes them where other processes find them, so that one of those can send the event when this process dies. Its
// methods are safe for concurrent use and do not block.
//
// Two events wait until that is written. A handler that has heard connected is told the end whatever happens, so an entry is there
// before. And disconnected is sent by one process, the one that has the entry when the end is written into it: another one may have
// taken it, while this one was cut off or asleep.
type Held struct {
	mayReport func() bool
	wake      chan struct{} // has a token when somebody waits

	mu      sync.Mutex          // guards the following
	changes map[string][]byte   // by connection, since they were taken last; nil: there is no event to send any more
	waiting map[string]*Session // those whose next event waits for a change
	writing map[string]*Session // the same, of changes that have been taken
	ending  map[string]*Session // those that have ended, and whose disconnected event is not delivered
}

// TrackHeld has the Upstream collect what Held is about. It is to be called before anything else. mayReport says whether no other process
// can have taken what this one has written; lifecycle events wait until it does.
func (u *Upstream) TrackHeld(mayReport func() bool) *Held {
	u.held = &Held{mayReport: mayReport, wake: make(chan struct{}, 1), changes: map[string][]byte{}, waiting: map[string]*Session{},
		writing: map[string]*Session{}, ending: map[string]*Session{}}
	return u.held
}

// Hold says that the event of a connection is to be sent when it ends; entry is what another process needs to send it.
func (h *Held) Hold(connID string, entry []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes[connID] = entry
}

// Release says that the event of a connection has been sent, or need not be.
func (h *Held) Release(connID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes[connID] = nil
	delete(h.ending, connID)
}

// holdFor is Hold for a session whose next event waits for it.
func (h *Held) holdFor(s *Session, entry []byte, ending bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes[s.id], h.waiting[s.id] = entry, s
	if ending {
		h.ending[s.id] = s
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// addEnding says that a session has ended whose event does not wait: it has been taken from another process.
func (h *Held) addEnding(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending[s.id] = s
}

// Waiting receives when an event waits for changes to be written.
func (h *Held) Waiting() <-chan struct{} { return h.wake }

// TakeChanges returns the latest entry of each connection about which something has changed since it was called last, nil
// for those that are released. Written is to be called before it is called again.
func (h *Held) TakeChanges() map[string][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := h.changes
	h.changes = map[string][]byte{}
	maps.Copy(h.writing, h.waiting)
	clear(h.waiting)
	return changes
}

// Written says that what TakeChanges has returned is written, and lets the events go that have waited for it. If it is not, an end waits on:
// it is to be written with all that is held. Other events go, as it is not known when that will be.
func (h *Held) Written(all bool) {
	h.mu.Lock()
	written := h.writing
	h.writing = map[string]*Session{}
	if !all {
		for id, s := range written {
			if h.ending[id] != nil {
				h.writing[id] = s
				delete(written, id)
			}
		}
	}
	h.mu.Unlock()
	for _, s := range written {
		s.setWritten()
	}
}

// Ending returns the sessions that have ended and whose disconnected event is not delivered, by connection.
func (h *Held) Ending() map[string]*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.ending)
}

// StopReporting lets nothing that happens to a connection that has ended reach a handler: another process reports its end. It reports
// whether there is such a connection.
func (h *Held) StopReporting(connID string) bool {
	h.mu.Lock()
	s := h.ending[connID]
	h.mu.Unlock()
	if s != nil {
		s.StopReporting()
	}
	return s != nil
}

// heldEntry is what is held of a connection. Processes of the version before read it, and write it.
type heldEntry struct {
	Tenant  string          `json:"tenant"`
	Hub     string          `json:"hub"`
	Session json.RawMessage `json:"session"`
	End     *pendingEvent   `json:"end,omitempty"` // the disconnected event, if the connection has ended
}

// hold has the session held if a handler wants its disconnected event. If wait is set the next event waits for that.
func (s *Session) hold(wait bool) {
	if s.up.held == nil {
		return
	}
	if _, ok := s.up.systemTarget(s.hub, string(kindDisconnected)); !ok {
		return
	}
	s.mu.Lock()
	s.held = true
	s.unwritten = s.unwritten || wait
	s.mu.Unlock()
	entry, ok := s.HeldEntry()
	switch {
	case !ok:
		s.setWritten()
	case wait:
		s.up.held.holdFor(s, entry, false)
	default:
		s.up.held.Hold(s.id, entry)
	}
}

// holdEnd writes the end into what is held of the session, if there is something held. The event waits for that.
func (s *Session) holdEnd() {
	s.mu.Lock()
	held, wait := s.held, s.unwritten
	s.mu.Unlock()
	switch {
	case !held:
		return
	case !wait:
		s.up.held.addEnding(s)
		return
	}
	if entry, ok := s.HeldEntry(); ok {
		s.up.held.holdFor(s, entry, true)
	} else {
		s.setWritten()
	}
}

// setWritten lets the session's next event go.
func (s *Session) setWritten() {
	s.mu.Lock()
	s.unwritten = false
	var end lifecycle
	if n := len(s.pending); n > 0 && !s.handedOver {
		end = s.pending[n-1]
		s.pending[n-1].copyTo = nil
	}
	s.mu.Unlock()
	s.copyToLogs(end)
	s.submit()
}

// HeldEntry returns what is to be held of the session; ok is false when there is no disconnected event to send.
func (s *Session) HeldEntry() (b []byte, ok bool) {
	urls := s.up.handlerURLs(s.hub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return nil, false
	}
	e := heldEntry{Tenant: s.hub.Tenant, Hub: s.hub.Hub, Session: s.makeSnapshot(urls, false)}
	if n := len(s.pending); n > 0 && s.pending[n-1].kind == kindDisconnected {
		e.End = s.pending[n-1].export()
	}
	b, err := json.Marshal(e)
	return b, err == nil
}

// isHeld reports whether the end is decided by what is held of the session: another process might report it too.
func (s *Session) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// release says that there is no disconnected event to send any more.
func (s *Session) release() {
	s.mu.Lock()
	held := s.held
	s.held = false
	s.mu.Unlock()
	if held {
		s.up.held.Release(s.id)
	}
}

// StopReporting lets nothing that happens to the session reach a handler: another process has reported its end.
func (s *Session) StopReporting() {
	s.mu.Lock()
	s.handedOver = true
	s.mu.Unlock()
	s.release()
	s.setWritten() // what is pending is dropped when its turn comes
}

// afterDeath is added to the ids of the events that are sent for a dead process: it may have sent some since its session was held,
// and no id may be used twice.
const afterDeath = 1 << 32

// OpenOrphan returns the session of a connection whose process is dead, from the entry that was held of it. Closed sends
// its disconnected event, the one that the process was about to send if there is one, and releases it when the handler has that.
func (u *Upstream) OpenOrphan(connID string, entry []byte) (*Session, error) {
	var e heldEntry
	if err := json.Unmarshal(entry, &e); err != nil {
		return nil, fmt.Errorf("read what is held of a connection: %w", err)
	}
	var session exportedSession
	if err := json.Unmarshal(e.Session, &session); err != nil {
		return nil, fmt.Errorf("read the session that is held of a connection: %w", err)
	}
	s := u.Open(webpubsub.HubKey{Tenant: e.Tenant, Hub: e.Hub}, connID)
	s.held, s.claimed, s.end = true, true, e.End
	session.LastID += afterDeath
	s.restore(session)
	return s, nil
}

// Hub returns the hub of the session's connection.
func (s *Session) Hub() webpubsub.HubKey { return s.hub }
