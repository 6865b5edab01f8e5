package histories

import (
	"encoding/json"
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

// answered takes that it is in a room, or out of it, by an answer that it has got.
func (s *protocolClient) answered(id string, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[id] = true; in {
		s.rooms[id] = true
	} else {
		s.goes(id)
	}
}

func (s *protocolClient) knows(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[id]
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
