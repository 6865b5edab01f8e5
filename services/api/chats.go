package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
)

// chatOf is a chat as one person sees it.
type chatOf struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Owner     string            `json:"owner"`
	CreatedAt time.Time         `json:"createdAt"`
	Kind      chat.Kind         `json:"kind"`
	Members   map[string]member `json:"members"`
	LastSeq   int64             `json:"lastSeq"`
	ReadSeq   int64             `json:"readSeq"`
	State     chat.MemberState  `json:"state"`
}

type member struct {
	UserID   string           `json:"userId"`
	UserName string           `json:"userName"`
	State    chat.MemberState `json:"state"`
}

// asSeenBy returns what a person may know of a room, with its members. A direct room has the name of the
// other person in it.
func asSeenBy(userID string, r chat.Room) chatOf {
	v := chatOf{
		ID:        r.ID,
		Name:      r.Title,
		Owner:     r.OwnerID,
		CreatedAt: r.CreatedAt.UTC(),
		Kind:      r.Kind,
		Members:   make(map[string]member, len(r.Members)),
		LastSeq:   r.LastSeq,
		State:     stateNone,
	}
	if r.Kind == chat.KindDirect {
		v.Owner = "" // it is of both: pages of the original would offer who began it to delete it
	}
	for _, m := range r.Members {
		v.Members[m.UserID] = member{m.UserID, m.Name, m.State}
		switch {
		case m.UserID == userID:
			v.ReadSeq, v.State = m.ReadSeq, m.State
		case r.Kind == chat.KindDirect:
			v.Name = m.Name
		}
	}
	if v.Name == "" {
		v.Name = "Private chat" // its other member has left
	}
	return v
}

// errNoHistory says of a member that the role does not allow to read.
var errNoHistory = errors.New("the role does not allow to read")

// reader returns who asks for a list, nobody for a stranger, which only LegacyGuests allows.
func (s *Service) reader(r *http.Request) (chat.Person, error) {
	person, err := s.signedIn(r)
	if errors.Is(err, errSignedOut) && s.cfg.LegacyGuests {
		return chat.Person{}, nil
	}
	return person, err
}

// chats lists what a person may see: public chats and, if the person's role allows to list rooms, the person's others.
func (s *Service) chats(w http.ResponseWriter, r *http.Request) {
	person, err := s.reader(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	rooms, err := s.store.Rooms(r.Context(), s.cfg.Tenant, person.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	byID := make(map[string]chatOf, len(rooms))
	for _, v := range rooms {
		if v.Kind == chat.KindPublic || person.Role.Allows(chat.UserFetchAllRooms) {
			byID[v.ID] = asSeenBy(person.ID, v)
		}
	}
	writeTagged(w, r, map[string]any{"chats": byID})
}

// chat answers with one chat. A direct room does not exist for anybody but its two members.
func (s *Service) chat(w http.ResponseWriter, r *http.Request) {
	user, id, err := s.roomRequest(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	found, err := s.store.Room(r.Context(), s.cfg.Tenant, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if _, in := found.Member(user.ID); !in && found.Kind != chat.KindPublic {
		s.fail(w, r, chat.ErrNotFound)
		return
	}
	writeTagged(w, r, asSeenBy(user.ID, found))
}

// roomRequest returns the user who asks, and the room.
func (s *Service) roomRequest(r *http.Request) (user chat.Person, id string, err error) {
	user, err = s.signedIn(r)
	return user, r.PathValue("id"), err
}

type line struct {
	Seq      int64     `json:"seq"`
	UserID   string    `json:"userId"`
	UserName string    `json:"userName"`
	Text     string    `json:"text"`
	Key      string    `json:"key"`
	SentAt   time.Time `json:"sentAt"`
}

type history struct {
	Messages []line `json:"messages"`
	Next     int64  `json:"next,omitempty"` // before of the page that comes before this one
}

// messages is a page of a chat's history: the newest, or the one before a sequence.
func (s *Service) messages(w http.ResponseWriter, r *http.Request) {
	user, id, err := s.roomRequest(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	before, ok := number(r, "before", 0, 0, 1<<62)
	limit, ok2 := number(r, "limit", 50, 1, chat.MaxPage)
	if !ok || !ok2 {
		problem(w, r, http.StatusBadRequest, "before must be the sequence of a message, limit a number from 1 to "+strconv.Itoa(chat.MaxPage))
		return
	}
	stored, err := s.history(r.Context(), id, user.ID, before, int(limit))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page := history{Messages: make([]line, len(stored))}
	for i, m := range stored {
		page.Messages[i] = line{m.Seq, m.AuthorID, m.AuthorName, m.Text, m.Key, m.SentAt.UTC()}
	}
	if len(stored) > 0 && stored[0].Seq > 1 { // sequences count from 1 without gaps
		page.Next = stored[0].Seq
	}
	writeTagged(w, r, page)
}

// history returns a page of a chat's messages to somebody who may read there.
func (s *Service) history(ctx context.Context, roomID, userID string, before int64, limit int) ([]chat.Message, error) {
	if err := s.mayRead(ctx, roomID, userID); err != nil {
		return nil, err
	}
	return s.store.History(ctx, s.cfg.Tenant, roomID, userID, before, limit)
}

// mayRead returns nil if somebody may read what is said in a room. Only its members may know that there is one which is
// not public: for all others it is chat.ErrNotFound.
func (s *Service) mayRead(ctx context.Context, roomID, userID string) error {
	m, err := s.store.Membership(ctx, s.cfg.Tenant, roomID, userID)
	switch {
	case err != nil:
		return err
	case m.MayRead():
		return nil
	case m.In:
		return errNoHistory
	case m.Room.Kind != chat.KindPublic:
		return chat.ErrNotFound
	}
	return chat.ErrForbidden
}

// number reads a query parameter between low and high.
func number(r *http.Request, name string, missing, low, high int64) (int64, bool) {
	text := httpx.ParseQuery(r.URL.RawQuery).Get(name)
	if text == "" {
		return missing, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= low && n <= high
}

type presence struct {
	UserName     string `json:"userName"`
	UserProvider string `json:"userProvider"`
	Idle         bool   `json:"idle"`
}

// users lists the people who are online.
func (s *Service) users(w http.ResponseWriter, r *http.Request) {
	if _, err := s.reader(r); err != nil {
		s.fail(w, r, err)
		return
	}
	online, err := s.store.Online(r.Context(), s.cfg.Tenant)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	byID := make(map[string]presence, len(online))
	for _, p := range online {
		byID[p.ID] = presence{p.Name, p.Provider, p.Idle}
	}
	writeTagged(w, r, map[string]any{"users": byID})
}

// blocked lists the people whom a person has blocked.
func (s *Service) blocked(w http.ResponseWriter, r *http.Request) {
	user, err := s.signedIn(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ids, err := s.store.Blocked(r.Context(), s.cfg.Tenant, user.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeTagged(w, r, map[string]any{"blocked": orEmpty(ids)})
}
