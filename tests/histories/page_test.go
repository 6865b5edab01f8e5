package histories

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// page is what our page knows, over all its connections. It reads as the page does, from the API service: all of its rooms, then
// what has changed in the list; a room's messages from the newest back, then what has happened there. It takes events by their
// number: what it has it drops, and where one is missing it asks.
type page struct {
	*browser
	turn     chan struct{} // holds one value: what reads and changes the following is one sequence
	loaded   bool          // the list of rooms is
	revision int64         // of that list

	mu      sync.Mutex // guards the following
	rooms   map[string]*view
	online  map[string]bool // and whether they are idle
	blocked map[string]bool
}

func newPage(b *browser) *page {
	p := &page{browser: b, turn: make(chan struct{}, 1), rooms: map[string]*view{}, online: map[string]bool{}, blocked: map[string]bool{}}
	p.turn <- struct{}{}
	return p
}

// change changes what the page knows.
func (p *page) change(how func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	how()
}

// room returns a room that the page shows, or nil. Only the page's own sequence changes it.
func (p *page) room(id string) *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rooms[id]
}

// newest returns the sequence of the newest message of a room that the page shows.
func (p *page) newest(room string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.rooms[room]; v != nil && len(v.Messages) > 0 {
		return v.Messages[len(v.Messages)-1].Seq
	}
	return 0
}

// listed is a room in a list.
type listed struct {
	ID, Name, Kind, State string
	ReadSeq               int64
}

// sync reads what may have changed unheard, as a page does that has a new connection.
func (p *page) sync() {
	var around struct {
		Users map[string]struct{ Idle bool }
	}
	var blocked struct{ Blocked []string }
	if p.get(&around, "/api/users") != http.StatusOK || p.get(&blocked, "/api/blocked") != http.StatusOK {
		return
	}
	p.change(func() {
		clear(p.online)
		for id, u := range around.Users {
			p.online[id] = u.Idle
		}
		clear(p.blocked)
		for _, id := range blocked.Blocked {
			p.blocked[id] = true
		}
	})
	if !p.loaded || !p.readChanges() {
		p.readRooms()
	}
	p.mu.Lock()
	known := slices.Sorted(maps.Keys(p.rooms))
	p.mu.Unlock()
	for _, id := range known {
		p.catchUp(id)
	}
}

// readChanges reads what has changed in the list of rooms, and returns false if it has to be read whole.
func (p *page) readChanges() bool {
	for {
		var changed struct {
			Revision int64
			Rooms    []listed
			Gone     []string
			More     bool
		}
		if status := p.get(&changed, "/api/rooms?since=%d&limit=3", p.revision); status != http.StatusOK {
			return status != http.StatusGone
		}
		for _, r := range changed.Rooms {
			p.take(r)
		}
		p.change(func() {
			for _, id := range changed.Gone {
				delete(p.rooms, id)
			}
		})
		if p.revision = changed.Revision; !changed.More {
			return true
		}
	}
}

// readRooms reads the list of rooms in pages. What was known and is in none of them may have moved up meanwhile.
func (p *page) readRooms() {
	p.mu.Lock()
	absent := maps.Clone(p.rooms)
	p.mu.Unlock()
	first := int64(0)
	for after := ""; ; {
		var list struct {
			Revision int64
			Rooms    []listed
			Next     string
		}
		if p.get(&list, "/api/rooms?limit=3&after=%s", after) != http.StatusOK {
			return
		}
		if first == 0 {
			first = list.Revision
		}
		for _, r := range list.Rooms {
			delete(absent, r.ID)
			p.take(r)
		}
		if after = list.Next; after == "" {
			break
		}
	}
	p.loaded, p.revision = true, first
	for _, id := range slices.Sorted(maps.Keys(absent)) {
		p.read(id)
	}
}

// take takes a room as it was when it was asked for.
func (p *page) take(r listed) {
	v := p.room(r.ID)
	switch {
	case r.State == "none":
		p.forget(r.ID)
	case v == nil:
		p.begin(r.ID)
	default:
		p.change(func() { v.Read = max(v.Read, r.ReadSeq) })
	}
}

func (p *page) forget(id string) { p.change(func() { delete(p.rooms, id) }) }

// read reads how its person stands to a room, and what has happened in it since. It is gone if the person may not see it.
func (p *page) read(id string) {
	var r listed
	switch p.get(&r, "/api/rooms/%s", url.PathEscape(id)) {
	case http.StatusOK:
		p.take(r)
		p.catchUp(id)
	case http.StatusNotFound:
		p.forget(id)
	}
}

// begin reads a room from its newest messages back, and then what is not told by events after those.
func (p *page) begin(id string) {
	v, path := newView(), "/api/rooms/"+url.PathEscape(id)
	for before, older := "", true; older; {
		var window struct {
			Messages []struct {
				Seq          int64
				UserID, Text string
			}
			LastEvent int64
			Older     bool
		}
		if p.get(&window, "%s/messages?limit=10%s", path, before) != http.StatusOK {
			p.forget(id)
			return
		}
		if before == "" {
			v.Number = window.LastEvent
		}
		var lines []line
		for _, m := range window.Messages {
			lines = append(lines, line{m.Seq, m.UserID, m.Text})
		}
		v.Messages = slices.Insert(v.Messages, 0, lines...)
		if older = window.Older && len(lines) > 0; older {
			before = fmt.Sprintf("&before=%d", lines[0].Seq)
		}
	}
	for after, more := "", true; more; more = after != "" {
		var list struct {
			Members []struct{ UserID, State string }
			Next    string
		}
		if p.get(&list, "%s/members?limit=3&after=%s", path, after) != http.StatusOK {
			p.forget(id)
			return
		}
		for _, m := range list.Members {
			v.Members[m.UserID] = m.State
		}
		after = list.Next
	}
	var r listed
	if p.get(&r, "%s", path) != http.StatusOK || r.State == "none" {
		p.forget(id)
		return
	}
	if v.Read = r.ReadSeq; r.Kind != string(chat.KindDirect) {
		v.Title = r.Name
	}
	p.change(func() { p.rooms[id] = v })
}

// catchUp reads the events of a room that the page does not have.
func (p *page) catchUp(id string) {
	for {
		v := p.room(id)
		if v == nil {
			return
		}
		var next struct {
			Events []chat.WireEvent
			Last   int64
		}
		switch p.get(&next, "/api/rooms/%s/events?limit=20&after=%d", url.PathEscape(id), v.Number) {
		case http.StatusOK:
		case http.StatusGone:
			p.forget(id)
			p.read(id)
			return
		case http.StatusNotFound, http.StatusForbidden:
			p.read(id)
			return
		default:
			return
		}
		again := false
		p.change(func() {
			for _, e := range next.Events {
				v.apply(e, p.user)
				again = again || e.Kind == chat.EventJoined && e.UserID == p.user
			}
		})
		if again { // what is read counts anew
			var r listed
			if p.get(&r, "/api/rooms/%s", url.PathEscape(id)) == http.StatusOK {
				p.change(func() { v.Read = r.ReadSeq })
			}
		}
		if v.Number >= next.Last {
			return
		}
	}
}

// hear takes what comes over the connection.
func (p *page) hear(f frame) {
	var in struct {
		Event   *chat.WireEvent
		Message *string
		Key     string

		ChatEvent string
		Data      string
	}
	if json.Unmarshal(f.body, &in) != nil { // a notice
		return
	}
	if in.Event != nil {
		if in.Message != nil && in.Event.Text == "" {
			in.Event.Text, in.Event.Key = *in.Message, in.Key
		}
		p.heard(*in.Event, false)
		return
	}
	var data struct {
		ID     string `json:"id"`
		ChatID string `json:"chatId"`
		UserID string `json:"userId"`
		Idle   bool   `json:"idle"`
		Seq    int64  `json:"seq"`
	}
	_ = json.Unmarshal([]byte(in.Data), &data) // a text is no object
	switch in.ChatEvent {
	case "chatCreated", "joinPrivateChat":
		p.read(data.ID)
		return
	case "chatDeleted":
		p.read(in.Data)
		return
	case "memberJoined", "memberLeft":
		if data.UserID == p.user {
			p.read(data.ChatID)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch in.ChatEvent {
	case "chatRead":
		if v := p.rooms[data.ChatID]; v != nil {
			v.Read = max(v.Read, data.Seq)
		}
	case "userOnline":
		p.online[data.UserID] = data.Idle
	case "userOffline":
		delete(p.online, in.Data)
	case "userIsIdle", "userNotIdle":
		if _, there := p.online[in.Data]; there {
			p.online[in.Data] = in.ChatEvent == "userIsIdle"
		}
	case "blocked":
		var ids []string
		if err := json.Unmarshal([]byte(in.Data), &ids); err != nil {
			p.w.failed("blocked: %v", err)
		}
		clear(p.blocked)
		for _, id := range ids {
			p.blocked[id] = true
		}
	}
}

// heard takes an event. own says that it is the answer to something that the page has said.
func (p *page) heard(e chat.WireEvent, own bool) {
	v := p.room(e.RoomID)
	next := v != nil && e.Number == v.Number+1
	if next {
		p.change(func() { v.apply(e, p.user) })
	}
	aboutMe := e.UserID == p.user && !own && slices.Contains([]chat.EventKind{chat.EventJoined, chat.EventInvited, chat.EventLeft, chat.EventRole}, e.Kind)
	switch {
	case v == nil, aboutMe, e.Kind == chat.EventClosed:
		p.read(e.RoomID)
	case !next && e.Number > v.Number:
		p.catchUp(e.RoomID)
	}
}
