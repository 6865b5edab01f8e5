package upstream

import (
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// ErrEventInFlight says that an event is on its way to its handler, so that the session cannot be handed over now: two processes
// would send events of one connection at a time.
var ErrEventInFlight = errors.New("an event is on its way to its handler")

// exportedSession is a session for another process: one that takes it over, or one that reports its end when this one has
// died. Processes of the version before read and write it too.
type exportedSession struct {
	UserID      string         `json:"userId,omitempty"`
	Subprotocol string         `json:"subprotocol,omitempty"`
	State       []byte         `json:"state,omitempty"`
	LastID      uint64         `json:"lastId"`
	Cookies     []hostCookies  `json:"cookies,omitempty"`
	Pending     []pendingEvent `json:"owed,omitempty"` // connected, joined and left events that no handler has yet
}

// pendingEvent is a lifecycle event that no handler has yet. Group is bytes since its name need not be UTF-8.
type pendingEvent struct {
	Kind  eventKind `json:"kind"`
	Group []byte    `json:"group,omitempty"`
	ID    uint64    `json:"id"`
	Time  time.Time `json:"time"`
	Body  []byte    `json:"body"`
}

// export returns p for another process.
func (p *lifecycle) export() *pendingEvent {
	return &pendingEvent{p.kind, []byte(p.group), p.id, p.time, p.body}
}

// Export returns the session for another process, which goes on with it if this one fails before HandOver.
func (s *Session) Export() []byte {
	urls := s.up.handlerURLs(s.hub)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeSnapshot(urls, true)
}

// HandOver returns the session for another process, which goes on with it: from now on nothing that happens here reaches a
// handler, until CancelHandOver. The error is ErrEventInFlight when that cannot be now.
func (s *Session) HandOver() ([]byte, error) {
	urls := s.up.handlerURLs(s.hub)
	s.mu.Lock()
	if s.userEvents > 0 || s.posting {
		s.mu.Unlock()
		return nil, ErrEventInFlight
	}
	b := s.makeSnapshot(urls, true)
	s.handedOver = true
	s.mu.Unlock()
	s.release()
	return b, nil
}

// CancelHandOver says that no other process goes on with the session. If it has been closed meanwhile, the disconnected event goes
// out now.
func (s *Session) CancelHandOver() {
	s.mu.Lock()
	s.handedOver = false
	s.mu.Unlock()
	s.reportMissedClose()
}

// Resume makes a session that was just opened go on where another process has handed it over. b is what HandOver or Export
// returned there. If the session has been closed meanwhile, the disconnected event goes out now.
func (s *Session) Resume(b []byte) error {
	var e exportedSession
	if err := json.Unmarshal(b, &e); err != nil {
		return err
	}
	s.restore(e)
	s.reportMissedClose()
	return nil
}

// restore sets the session to what it was in another process, and queues the events that were pending there.
func (s *Session) restore(e exportedSession) {
	s.mu.Lock()
	s.accepted, s.established = true, true
	s.userID, s.subprotocol, s.state, s.lastID = e.UserID, e.Subprotocol, string(e.State), e.LastID
	s.mu.Unlock()
	s.cookies.restore(e.Cookies)
	if !s.claimed {
		s.hold(true)
	}
	for _, o := range e.Pending {
		s.queueLifecycle(lifecycle{kind: o.Kind, group: string(o.Group), id: o.ID, time: o.Time, body: o.Body})
	}
}

// reportMissedClose queues the disconnected event of a session that was closed while no process could say whose it was.
func (s *Session) reportMissedClose() {
	s.mu.Lock()
	report, reason := s.closeUnreported, s.closeReason
	s.closeUnreported = false
	s.mu.Unlock()
	if report {
		s.reportLifecycle(disconnected(reason))
	}
}

// makeSnapshot returns the session as it is, on request with the events that are pending. The caller has mu.
func (s *Session) makeSnapshot(urls []*url.URL, withPending bool) []byte {
	e := exportedSession{UserID: s.userID, Subprotocol: s.subprotocol, State: []byte(s.state), LastID: s.lastID, Cookies: s.cookies.of(urls)}
	for _, p := range s.pending {
		if withPending && p.kind != kindDisconnected {
			e.Pending = append(e.Pending, *p.export())
		}
	}
	b, err := json.Marshal(e)
	if err != nil { // it holds nothing that has no JSON form
		return []byte("{}")
	}
	return b
}

// handlerURLs returns an address at each host that serves handlers of hub.
func (u *Upstream) handlerURLs(hub webpubsub.HubKey) (urls []*url.URL) {
	t := u.tenants.ByName(hub.Tenant)
	if t == nil {
		return nil
	}
	known := map[string]bool{}
	for _, h := range t.Hub(hub.Hub).Handlers {
		address, err := h.URLFor(hub.Hub, string(kindConnected))
		if err != nil {
			continue
		}
		at, err := url.Parse(address)
		if err == nil && !known[at.Scheme+at.Host] {
			known[at.Scheme+at.Host] = true
			urls = append(urls, &url.URL{Scheme: at.Scheme, Host: at.Host, Path: "/"})
		}
	}
	return urls
}
