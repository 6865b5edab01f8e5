package upstream

import (
	"encoding/json"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// SessionStore keeps, outside of this process, whose disconnected event is owed, so that another process can send it when
// this one dies. Its functions do not block.
type SessionStore struct {
	Save   func(connID string, entry []byte)
	Delete func(connID string)
}

// entry is what a Keeper keeps about a connection.
type entry struct {
	Tenant  string          `json:"tenant"`
	Hub     string          `json:"hub"`
	Session json.RawMessage `json:"session"`
}

// SetSessionStore is to be called before anything else.
func (u *Upstream) SetSessionStore(k SessionStore) { u.keeper = k }

// keep has the session kept if a handler wants to hear of its end.
func (s *Session) keep() {
	if s.up.keeper.Save == nil {
		return
	}
	if _, ok := s.up.systemTarget(s.hub, string(kindDisconnected)); !ok {
		return
	}
	s.mu.Lock()
	s.kept = true
	s.mu.Unlock()
	if e, ok := s.StoredEntry(); ok {
		s.up.keeper.Save(s.id, e)
	}
}

// StoredEntry returns what is to be kept about the session; ok is false when nothing is.
func (s *Session) StoredEntry() (b []byte, ok bool) {
	urls := s.handlers()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.kept {
		return nil, false
	}
	b, err := json.Marshal(entry{s.hub.Tenant, s.hub.Hub, s.pack(urls, false)})
	return b, err == nil
}

// drop says that nothing is owed any more.
func (s *Session) drop() {
	s.mu.Lock()
	kept := s.kept
	s.kept = false
	s.mu.Unlock()
	if kept {
		s.up.keeper.Delete(s.id)
	}
}

// StopReporting lets nothing that happens to the session reach a handler: others have told its end.
func (s *Session) StopReporting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given, s.kept = true, false
}

// afterDeath is added to the ids of the events that are sent for a dead process, which may have sent more than is kept.
const afterDeath = 1 << 32

// ReportOrphan sends the disconnected event of a connection whose process is dead, unless exists says that the connection lives
// elsewhere. Then, or when the entry cannot be read, it is dropped.
func (u *Upstream) ReportOrphan(connID string, kept []byte, reason string, exists func(webpubsub.HubKey) (bool, error)) (sent bool) {
	var e entry
	var l luggage
	if json.Unmarshal(kept, &e) != nil || json.Unmarshal(e.Session, &l) != nil {
		u.log.Error("an entry about a connection of a dead node cannot be read", "connection", connID)
		u.keeper.Delete(connID)
		return false
	}
	hub := webpubsub.HubKey{Tenant: e.Tenant, Hub: e.Hub}
	lives, err := exists(hub)
	if err != nil { // it stays for others
		return false
	}
	if lives {
		u.keeper.Delete(connID)
		return false
	}
	s := u.Open(hub, connID)
	s.kept = true
	l.LastID += afterDeath
	s.unpack(l)
	s.Closed(reason)
	return true
}
