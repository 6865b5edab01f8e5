package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// ErrEventInFlight says that an event is on its way to its handler, so that the session cannot be given away now.
var ErrEventInFlight = errors.New("an event is on its way to its handler")

// luggage is a session on its way to another process.
type luggage struct {
	UserID      string    `json:"userId,omitempty"`
	Subprotocol string    `json:"subprotocol,omitempty"`
	State       []byte    `json:"state,omitempty"`
	LastID      uint64    `json:"lastId"`
	Cookies     []cookies `json:"cookies,omitempty"`
	Owed        []owed    `json:"owed,omitempty"` // what no handler has yet: connected, joined and left
}

type cookies struct {
	URL  string         `json:"url"`
	List []*http.Cookie `json:"list"`
}

type owed struct {
	Kind  kind      `json:"kind"`
	Group []byte    `json:"group,omitempty"`
	ID    uint64    `json:"id"`
	Time  time.Time `json:"time"`
	Body  []byte    `json:"body"`
}

// Snapshot returns the session for another process that may go on with it.
func (s *Session) Snapshot() []byte {
	urls := s.handlers()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pack(urls, true)
}

// HandOver returns the session for another process, which goes on with it: nothing that happens here any more reaches a
// handler. The error is ErrBusy when that cannot be now.
func (s *Session) HandOver() ([]byte, error) {
	urls := s.handlers()
	s.mu.Lock()
	if s.events > 0 || s.posting {
		s.mu.Unlock()
		return nil, ErrEventInFlight
	}
	b := s.pack(urls, true)
	s.given = true
	s.mu.Unlock()
	s.release()
	return b, nil
}

// CancelHandOver says that nobody has taken the session. If it has been closed meanwhile, the disconnected event goes out now.
func (s *Session) CancelHandOver() {
	s.mu.Lock()
	s.given = false
	s.mu.Unlock()
	s.catchUp()
}

// Resume makes a session that was just opened go on with what another process gave. If it has been closed meanwhile, the
// disconnected event goes out now.
func (s *Session) Resume(b []byte) error {
	var l luggage
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	s.unpack(l)
	s.hold()
	s.catchUp()
	return nil
}

// unpack takes in what another process knew of the session.
func (s *Session) unpack(l luggage) {
	s.mu.Lock()
	s.accepted, s.established = true, true
	s.userID, s.subprotocol, s.state, s.lastID = l.UserID, l.Subprotocol, string(l.State), l.LastID
	for _, c := range l.Cookies {
		if u, err := url.Parse(c.URL); err == nil {
			if s.jar == nil {
				s.jar = newJar()
			}
			s.jar.SetCookies(u, c.List)
		}
	}
	s.mu.Unlock()
	for _, o := range l.Owed {
		s.queue(lifecycle{kind: o.Kind, group: string(o.Group), id: o.ID, time: o.Time, body: o.Body})
	}
}

// catchUp queues the disconnected event of a session that was closed while it was nobody's.
func (s *Session) catchUp() {
	s.mu.Lock()
	owed, reason := s.unsaid, s.reason
	s.unsaid = false
	s.mu.Unlock()
	if owed {
		s.tell(disconnected(reason))
	}
}

// pack returns the session as it is, on request with the events that it still owes. The caller has mu.
func (s *Session) pack(urls []*url.URL, owing bool) []byte {
	l := luggage{UserID: s.userID, Subprotocol: s.subprotocol, State: []byte(s.state), LastID: s.lastID}
	for _, p := range s.pending {
		if owing && p.kind != kindDisconnected {
			l.Owed = append(l.Owed, owed{p.kind, []byte(p.group), p.id, p.time, p.body})
		}
	}
	if s.jar != nil {
		for _, u := range urls {
			if list := s.jar.Cookies(u); len(list) > 0 {
				l.Cookies = append(l.Cookies, cookies{u.String(), list})
			}
		}
	}
	b, err := json.Marshal(l)
	if err != nil { // it holds nothing that has no JSON form
		return []byte("{}")
	}
	return b
}

// handlers returns an address at each host that serves handlers of the session's hub.
func (s *Session) handlers() (urls []*url.URL) {
	t := s.up.tenants.ByName(s.hub.Tenant)
	if t == nil {
		return nil
	}
	known := map[string]bool{}
	for _, h := range t.Hub(s.hub.Hub).Handlers {
		address, err := h.URLFor(s.hub.Hub, string(kindConnected))
		if err != nil {
			continue
		}
		u, err := url.Parse(address)
		if err == nil && !known[u.Scheme+u.Host] {
			known[u.Scheme+u.Host] = true
			urls = append(urls, &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"})
		}
	}
	return urls
}
