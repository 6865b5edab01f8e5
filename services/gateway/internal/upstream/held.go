package upstream

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Held collects for which connections this process has to send a disconnected event. Package orphans takes the changes from it
// and writes them where other processes find them, so that one of those can send the event when this process dies. Its
// methods are safe for concurrent use and do not block.
type Held struct {
	mu      sync.Mutex
	changes map[string][]byte // by connection, since they were taken last; nil: there is no event to send any more
}

// TrackHeld has the Upstream collect what Held is about. It is to be called before anything else.
func (u *Upstream) TrackHeld() *Held {
	u.held = &Held{changes: map[string][]byte{}}
	return u.held
}

// Hold says that the event of a connection is to be sent when it ends; entry is what another process needs to send it.
func (h *Held) Hold(connID string, entry []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes[connID] = entry
}

// Release says that the event of a connection has been sent, or need not be.
func (h *Held) Release(connID string) { h.Hold(connID, nil) }

// TakeChanges returns the latest entry of each connection about which something has changed since it was called last, nil
// for those that are released.
func (h *Held) TakeChanges() map[string][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := h.changes
	h.changes = map[string][]byte{}
	return changes
}

// heldEntry is what is held of a connection. Processes of the version before read it, and write it.
type heldEntry struct {
	Tenant  string          `json:"tenant"`
	Hub     string          `json:"hub"`
	Session json.RawMessage `json:"session"`
}

// hold has the session held if a handler wants its disconnected event.
func (s *Session) hold() {
	if s.up.held == nil {
		return
	}
	if _, ok := s.up.systemTarget(s.hub, string(kindDisconnected)); !ok {
		return
	}
	s.mu.Lock()
	s.held = true
	s.mu.Unlock()
	if entry, ok := s.HeldEntry(); ok {
		s.up.held.Hold(s.id, entry)
	}
}

// HeldEntry returns what is to be held of the session; ok is false when there is no disconnected event to send.
func (s *Session) HeldEntry() (b []byte, ok bool) {
	urls := s.up.handlerURLs(s.hub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return nil, false
	}
	b, err := json.Marshal(heldEntry{s.hub.Tenant, s.hub.Hub, s.makeSnapshot(urls, false)})
	return b, err == nil
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
	defer s.mu.Unlock()
	s.handedOver, s.held = true, false
}

// afterDeath is added to the ids of the events that are sent for a dead process: it may have sent some since its session was held,
// and no id may be used twice.
const afterDeath = 1 << 32

// OpenOrphan returns the session of a connection whose process is dead, from the entry that was held of it. Closed sends
// its disconnected event, and releases it when the handler has that.
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
	s.held = true
	session.LastID += afterDeath
	s.restore(session)
	return s, nil
}

// Hub returns the hub of the session's connection.
func (s *Session) Hub() webpubsub.HubKey { return s.hub }
