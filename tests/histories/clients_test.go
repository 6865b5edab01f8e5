package histories

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// view is a room as a page has it, or as the store has it.
type view struct {
	Number   int64             `json:"number"` // of the newest event
	Title    string            `json:"title"`
	Members  map[string]string `json:"members"`
	Messages []line            `json:"messages"` // by sequence
	Read     int64             `json:"-"`        // by the page's person
	Unread   []int64           `json:"unread"`   // what the mark is for; set by marked
}

type line struct {
	Seq    int64  `json:"seq"`
	Author string `json:"author"`
	Text   string `json:"text"`
}

func newView() *view { return &view{Members: map[string]string{}, Messages: []line{}} }

// marked sets the messages that a person has not read. The mark itself may be said in either order with the person's own words
// after it, which are never unread, so that it can be before or after them.
func (v *view) marked(user string) *view {
	v.Unread = []int64{}
	for _, l := range v.Messages {
		if l.Seq > v.Read && l.Author != user {
			v.Unread = append(v.Unread, l.Seq)
		}
	}
	return v
}

// apply takes the next event.
func (v *view) apply(e chat.WireEvent, user string) {
	v.Number = e.Number
	at, there := slices.BinarySearchFunc(v.Messages, e.Seq, func(l line, seq int64) int { return int(l.Seq - seq) })
	switch e.Kind {
	case chat.EventCreated:
		v.Title = e.Title
		if e.UserID != chat.ServiceUser {
			v.Members[e.UserID] = string(chat.StateJoined)
		}
	case chat.EventJoined:
		v.Members[e.UserID] = string(chat.StateJoined)
	case chat.EventInvited:
		v.Members[e.UserID] = string(chat.StateInvited)
	case chat.EventLeft:
		delete(v.Members, e.UserID)
	case chat.EventTitle:
		v.Title = e.Title
	case chat.EventMessage:
		if e.Text != "" && !there { // else it has been erased
			v.Messages = slices.Insert(v.Messages, at, line{e.Seq, e.UserID, e.Text})
		}
		if e.UserID == user && v.Read == e.Seq-1 {
			v.Read = e.Seq
		}
	case chat.EventEdited:
		if e.Text != "" && there {
			v.Messages[at].Text = e.Text
		}
	case chat.EventDeleted:
		if there {
			v.Messages = slices.Delete(v.Messages, at, at+1)
		}
	case chat.EventClosed:
		v.Members = map[string]string{}
	}
}

// page is what our page knows. It takes events by their number: what it has it drops, and where one is missing it asks. All
// but newest is for the one goroutine that reads its connection.
type page struct {
	user string
	from source

	mu     sync.Mutex // guards the following
	rooms  map[string]*view
	online map[string]bool // and whether they are idle
}

// source is what a page reads from. It returns chat.ErrNotFound for a room that its person is not in, and chat.ErrGone for a
// number that is too old. After any other error the page keeps what it has.
type source interface {
	online() (idle map[string]bool, err error)
	rooms() (ids []string, err error) // that the person is in
	room(id string) (place, error)
	view(id string) (*view, error)                                                  // all but the number
	events(id string, after int64) (events []chat.WireEvent, last int64, err error) // in parts
}

// place is how far a room is, and its reader.
type place struct{ last, read int64 }

func newPage(user string, from source) *page {
	return &page{user: user, from: from, rooms: map[string]*view{}, online: map[string]bool{}}
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

// sync reads everything, as a page does that has a new connection.
func (p *page) sync() {
	online, err := p.from.online()
	if err != nil {
		return
	}
	p.mu.Lock()
	p.online = online
	p.mu.Unlock()
	mine, err := p.from.rooms()
	if err != nil {
		return
	}
	p.mu.Lock()
	known := slices.Sorted(maps.Keys(p.rooms))
	p.mu.Unlock()
	for _, id := range append(mine, known...) {
		p.read(id)
	}
}

// read reads a room, and what has happened in it since.
func (p *page) read(id string) {
	now, err := p.from.room(id)
	if errors.Is(err, chat.ErrNotFound) {
		p.mu.Lock()
		delete(p.rooms, id)
		p.mu.Unlock()
	}
	if err != nil {
		return
	}
	p.mu.Lock()
	v := p.rooms[id]
	if v != nil {
		v.Read = max(v.Read, now.read)
	}
	p.mu.Unlock()
	if v == nil {
		v, err := p.from.view(id)
		if err != nil {
			return
		}
		v.Number = now.last // it was read before: what has happened meanwhile is read twice, and not left out
		p.mu.Lock()
		p.rooms[id] = v
		p.mu.Unlock()
	}
	p.fill(id)
}

// fill reads the events of a room that the page does not have.
func (p *page) fill(id string) {
	for {
		p.mu.Lock()
		v := p.rooms[id]
		p.mu.Unlock()
		if v == nil {
			return
		}
		events, last, err := p.from.events(id, v.Number)
		if errors.Is(err, chat.ErrGone) {
			p.mu.Lock()
			delete(p.rooms, id)
			p.mu.Unlock()
		}
		if errors.Is(err, chat.ErrGone) || errors.Is(err, chat.ErrNotFound) {
			p.read(id)
		}
		if err != nil {
			return
		}
		again := false
		p.mu.Lock()
		for _, e := range events {
			v.apply(e, p.user)
			again = again || e.Kind == chat.EventJoined && e.UserID == p.user
		}
		p.mu.Unlock()
		if again { // what is read counts anew
			if now, err := p.from.room(id); err == nil {
				p.mu.Lock()
				v.Read = now.read
				p.mu.Unlock()
			}
		}
		if v.Number >= last {
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
	case "chatDeleted":
		p.read(in.Data)
	case "memberJoined", "memberLeft":
		if data.UserID == p.user {
			p.read(data.ChatID)
		}
	case "chatRead":
		p.mu.Lock()
		if v := p.rooms[data.ChatID]; v != nil {
			v.Read = max(v.Read, data.Seq)
		}
		p.mu.Unlock()
	case "userOnline", "userOffline", "userIsIdle", "userNotIdle":
		p.mu.Lock()
		defer p.mu.Unlock()
		if in.ChatEvent == "userOnline" {
			p.online[data.UserID] = data.Idle
			return
		}
		if in.ChatEvent == "userOffline" {
			delete(p.online, in.Data)
			return
		}
		if _, there := p.online[in.Data]; there {
			p.online[in.Data] = in.ChatEvent == "userIsIdle"
		}
	}
}

// heard takes an event. own says that it is the answer to something that the page has said.
func (p *page) heard(e chat.WireEvent, own bool) {
	p.mu.Lock()
	v := p.rooms[e.RoomID]
	next := v != nil && e.Number == v.Number+1
	if next {
		v.apply(e, p.user)
	}
	p.mu.Unlock()
	aboutMe := e.UserID == p.user && !own && slices.Contains([]chat.EventKind{chat.EventJoined, chat.EventInvited, chat.EventLeft, chat.EventRole}, e.Kind)
	switch {
	case v == nil, aboutMe, e.Kind == chat.EventClosed:
		p.read(e.RoomID)
	case !next && e.Number > v.Number:
		p.fill(e.RoomID)
	}
}

// protocolClient is what a client of the chat protocol knows of its rooms, and of the messages that it has heard.
type protocolClient struct {
	w    *world
	user string

	mu       sync.Mutex // guards the following
	rooms    map[string]bool
	messages map[string]map[string]string // text by room and id
	changed  map[string]bool              // rooms that came or went since the last login was asked for
}

func newProtocolClient(w *world, user string) *protocolClient {
	return &protocolClient{w: w, user: user, rooms: map[string]bool{}, messages: map[string]map[string]string{}, changed: map[string]bool{}}
}

// login asks for the rooms. What has changed while the answer was on its way is newer than it.
func (s *protocolClient) login(c *conn) {
	s.w.wait("login")
	for s.w.ctx.Err() == nil {
		s.mu.Lock()
		clear(s.changed)
		s.mu.Unlock()
		got := c.event("chat.login", map[string]any{})
		if got == nil || got.Code >= 500 {
			select {
			case <-c.closed:
				return
			case <-time.After(time.Second):
				continue
			}
		}
		var profile struct{ RoomIDs []string }
		if got.Code != 200 || json.Unmarshal(got.Body.Bytes(), &profile) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range s.rooms {
			if !s.changed[id] && !slices.Contains(profile.RoomIDs, id) {
				s.goes(id)
			}
		}
		for _, id := range profile.RoomIDs {
			if !s.changed[id] {
				s.rooms[id] = true
			}
		}
		return
	}
}

func (s *protocolClient) goes(id string) {
	delete(s.rooms, id)
	delete(s.messages, id)
}

// answered takes a room that it has created.
func (s *protocolClient) answered(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[id], s.changed[id] = true, true
}

func (s *protocolClient) hear(f frame) {
	var n struct {
		NotificationType string
		Body             struct {
			RoomID       string `json:"roomId"`
			MessageID    string `json:"messageId"`
			Conversation struct {
				RoomID string `json:"roomId"`
			} `json:"conversation"`
			Message struct {
				MessageID string `json:"messageId"`
				Content   struct {
					Text string `json:"text"`
				} `json:"content"`
			} `json:"message"`
		}
	}
	if json.Unmarshal(f.body, &n) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	room := n.Body.RoomID
	if where := n.Body.Conversation.RoomID; where != "" {
		room = where
	}
	if strings.HasPrefix(room, chat.DirectPrefix) {
		return
	}
	switch n.NotificationType {
	case "RoomJoined":
		s.rooms[room], s.changed[room] = true, true
	case "RoomLeft", "RoomClosed":
		s.goes(room)
		s.changed[room] = true
	case "MessageCreated", "MessageUpdated":
		if n.NotificationType == "MessageUpdated" && s.messages[room][n.Body.Message.MessageID] == "" {
			return
		}
		if s.messages[room] == nil {
			s.messages[room] = map[string]string{}
		}
		s.messages[room][n.Body.Message.MessageID] = n.Body.Message.Content.Text
	case "MessageDeleted":
		delete(s.messages[room], n.Body.MessageID)
	}
}
