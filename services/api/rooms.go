package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
)

// The reads of our page (docs/chat.md, "Reading"): lists in parts, most recent first, each with what a row of it shows.

// listed is a room as one person sees it in a list.
type listed struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"` // of a direct room: the other person's
	Kind      chat.Kind        `json:"kind"`
	Owner     string           `json:"owner"` // empty for a direct room: it is of both
	State     chat.MemberState `json:"state"` // "none" for anyone who is no member
	Role      string           `json:"role"`
	MaySpeak  bool             `json:"maySpeak"`
	LastEvent int64            `json:"lastEvent"`
	LastSeq   int64            `json:"lastSeq"`
	ReadSeq   int64            `json:"readSeq"`
	Unread    int              `json:"unread"`
	Members   int              `json:"members"` // how many
	At        string           `json:"at"`
	Last      *preview         `json:"last"`
	Peer      *peer            `json:"peer,omitempty"`
}

// preview is a room's newest message, shortened.
type preview struct {
	Seq      int64  `json:"seq"`
	UserID   string `json:"userId"`
	UserName string `json:"userName"`
	Text     string `json:"text"`
	At       string `json:"at"`
}

// peer is the other person of a direct room.
type peer struct {
	UserID   string           `json:"userId"`
	UserName string           `json:"userName"`
	State    chat.MemberState `json:"state"`
}

// stateNone is the state of anyone who is no member.
const stateNone chat.MemberState = "none"

func orNone(s chat.MemberState) chat.MemberState {
	if s == "" {
		return stateNone
	}
	return s
}

func asListed(v chat.RoomView) listed {
	l := listed{
		ID: v.Room.ID, Name: v.Room.Title, Kind: v.Room.Kind, Owner: v.Room.OwnerID, State: orNone(v.State), Role: v.Role.Name,
		MaySpeak: v.MaySpeak, LastEvent: v.LastEvent, LastSeq: v.Room.LastSeq, ReadSeq: v.ReadSeq, Unread: v.Unread, Members: v.Count,
		At: chat.WireTime(v.At),
	}
	if m := v.Last; m != nil {
		l.Last = &preview{m.Seq, m.AuthorID, m.AuthorName, m.Text, chat.WireTime(m.SentAt)}
	}
	if v.Room.Kind == chat.KindDirect {
		l.Owner = ""
	}
	if p := v.Peer; p != nil {
		l.Name, l.Peer = p.Name, &peer{p.UserID, p.Name, orNone(p.State)}
	}
	return l
}

func asListedAll(views []chat.RoomView) []listed {
	list := make([]listed, len(views))
	for i, v := range views {
		list[i] = asListed(v)
	}
	return list
}

// cursor is a place in a list as clients carry it: they need not know what is in it. What it says gives nobody anything that
// the list would not.
func cursor(p chat.Place, more bool) string {
	if !more {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMicro(), 10) + " " + p.ID))
}

// errPlace says that a place is none of ours.
var errPlace = &httpx.BodyError{Status: http.StatusBadRequest, Text: "after must be what next was in the page before, or be left out"}

// place reads the query parameter after.
func place(r *http.Request) (chat.Place, error) {
	text := httpx.ParseQuery(r.URL.RawQuery).Get("after")
	if text == "" {
		return chat.Place{}, nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	at, id, found := strings.Cut(string(decoded), " ")
	micros, err2 := strconv.ParseInt(at, 10, 64)
	if err != nil || err2 != nil || !found || chat.CheckIDs(id) != nil || micros < 0 || micros > math.MaxInt64/1000 {
		return chat.Place{}, errPlace
	}
	return chat.Place{At: time.UnixMicro(micros).UTC(), ID: id}, nil
}

// limitOf reads the query parameter limit.
func limitOf(r *http.Request, usual, most int) (int, error) {
	n, ok := number(r, "limit", int64(usual), 1, int64(most))
	if !ok {
		return 0, &httpx.BodyError{Status: http.StatusBadRequest, Text: fmt.Sprintf("limit must be a number from 1 to %d", most)}
	}
	return int(n), nil
}

// How many rows a page has unless its reader says.
const (
	usualRooms    = 50
	usualMembers  = 100
	usualMessages = 50
	usualEvents   = 100
)

// errNoRooms says of a person that the role does not allow to list rooms.
var errNoRooms = errors.New("the role does not allow to list rooms")

// respond answers with what read returns.
func (s *Service) respond(read func(r *http.Request, me chat.Person) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		me, err := s.signedIn(r)
		var body any
		if err == nil {
			body, err = read(r, me)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeTagged(w, r, body)
	}
}

type roomsPage struct {
	Revision int64    `json:"revision"`
	Rooms    []listed `json:"rooms"`
	Next     string   `json:"next,omitempty"`
}

type roomsChanged struct {
	Revision int64    `json:"revision"`
	Rooms    []listed `json:"rooms"`
	Gone     []string `json:"gone"`
	More     bool     `json:"more"`
}

// rooms lists the rooms a person is in, or what has changed in the list since a revision of it.
func (s *Service) rooms(r *http.Request, me chat.Person) (any, error) {
	if !me.Role.Allows(chat.UserFetchAllRooms) {
		return nil, errNoRooms
	}
	limit, err := limitOf(r, usualRooms, chat.MaxMemberships)
	if err != nil {
		return nil, err
	}
	if httpx.ParseQuery(r.URL.RawQuery).Has("since") {
		return s.roomsSince(r, me, limit)
	}
	after, err := place(r)
	if err != nil {
		return nil, err
	}
	own, err := s.store.OwnRooms(r.Context(), s.cfg.Tenant, me.ID, after, limit)
	return roomsPage{own.Revision, asListedAll(own.Rooms), cursor(own.Next, own.More)}, err
}

func (s *Service) roomsSince(r *http.Request, me chat.Person, limit int) (any, error) {
	since, ok := number(r, "since", -1, 0, math.MaxInt64)
	if !ok || since < 0 {
		return nil, &httpx.BodyError{Status: http.StatusBadRequest, Text: "since must be the revision of a list that was read before"}
	}
	changed, err := s.store.ChangedRooms(r.Context(), s.cfg.Tenant, me.ID, since, limit)
	return roomsChanged{changed.Revision, asListedAll(changed.Rooms), orEmpty(changed.Gone), changed.More}, err
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

type directoryPage struct {
	Rooms []directoryRoom `json:"rooms"`
	Next  string          `json:"next,omitempty"`
}

type directoryRoom struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Members int    `json:"members"`
	At      string `json:"at"` // of its creation
}

// directory lists the public rooms that a person could join.
func (s *Service) directory(r *http.Request, me chat.Person) (any, error) {
	limit, err := limitOf(r, usualRooms, chat.MaxDirectory)
	if err != nil {
		return nil, err
	}
	after, err := place(r)
	if err != nil {
		return nil, err
	}
	looked := strings.TrimSpace(httpx.ParseQuery(r.URL.RawQuery).Get("q"))
	if len(looked) > 4*chat.MaxTitleRunes {
		return nil, &httpx.BodyError{Status: http.StatusBadRequest, Text: fmt.Sprintf("q is longer than a name can be, which has at most %d characters", chat.MaxTitleRunes)}
	}
	found, next, more, err := s.store.Directory(r.Context(), s.cfg.Tenant, me.ID, looked, after, limit)
	page := directoryPage{make([]directoryRoom, len(found)), cursor(next, more)}
	for i, v := range found {
		page.Rooms[i] = directoryRoom{v.Room.ID, v.Room.Title, v.Room.OwnerID, v.Count, chat.WireTime(v.Room.CreatedAt)}
	}
	return page, err
}

// view returns a room as a person may see it. One that is not public does not exist for anybody but its members.
func (s *Service) view(ctx context.Context, me chat.Person, id string) (chat.RoomView, error) {
	v, err := s.store.RoomView(ctx, s.cfg.Tenant, me.ID, id)
	if err == nil && !v.In && v.Room.Kind != chat.KindPublic {
		err = chat.ErrNotFound
	}
	return v, err
}

// room answers with one room.
func (s *Service) room(r *http.Request, me chat.Person) (any, error) {
	v, err := s.view(r.Context(), me, r.PathValue("id"))
	return asListed(v), err
}

type membersPage struct {
	Members []roomMember `json:"members"`
	Next    string       `json:"next,omitempty"`
}

type roomMember struct {
	member
	Role string `json:"role"`
}

// members lists who is in a room, in the order of joining.
func (s *Service) members(r *http.Request, me chat.Person) (any, error) {
	limit, err := limitOf(r, usualMembers, chat.MaxMembersPage)
	if err != nil {
		return nil, err
	}
	after, err := place(r)
	if err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	switch m, err := s.store.Membership(r.Context(), s.cfg.Tenant, id, me.ID); {
	case err != nil:
		return nil, err
	case !m.In && m.Room.Kind != chat.KindPublic:
		return nil, chat.ErrNotFound
	}
	list, next, more, err := s.store.MembersPage(r.Context(), s.cfg.Tenant, id, after, limit)
	page := membersPage{make([]roomMember, len(list)), cursor(next, more)}
	for i, m := range list {
		page.Members[i] = roomMember{member{m.UserID, m.Name, m.State}, m.Role}
	}
	return page, err
}

type windowPage struct {
	Messages  []windowLine `json:"messages"`
	LastEvent int64        `json:"lastEvent"`
	Older     bool         `json:"older"`
	Newer     bool         `json:"newer"`
}

type windowLine struct {
	Seq      int64  `json:"seq"`
	Number   int64  `json:"number"`
	UserID   string `json:"userId"`
	UserName string `json:"userName"`
	Text     string `json:"text"`
	Binary   string `json:"binary,omitempty"`
	Key      string `json:"key"`
	Ref      int64  `json:"ref,omitempty"`
	At       string `json:"at"`
	Edited   bool   `json:"edited,omitempty"`
}

// window answers with the messages of a room that are before, after, or around a sequence; with the newest when none is
// given.
func (s *Service) window(r *http.Request, me chat.Person) (any, error) {
	limit, err := limitOf(r, usualMessages, chat.MaxPage)
	if err != nil {
		return nil, err
	}
	asked, err := windowOf(r, limit)
	if err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	if err := s.mayRead(r.Context(), id, me.ID); err != nil {
		return nil, err
	}
	found, err := s.store.MessageWindow(r.Context(), s.cfg.Tenant, id, asked)
	page := windowPage{make([]windowLine, len(found.Messages)), found.LastEvent, found.Older, found.Newer}
	for i, m := range found.Messages {
		page.Messages[i] = windowLine{m.Seq, m.Number, m.AuthorID, m.AuthorName, m.Text, m.Binary, m.Key, m.Ref, chat.WireTime(m.SentAt), m.Edited}
	}
	return page, err
}

// windowOf reads which messages are asked for.
func windowOf(r *http.Request, limit int) (chat.Window, error) {
	query := httpx.ParseQuery(r.URL.RawQuery)
	window := chat.Window{Seq: math.MaxInt64, Before: limit}
	given := 0
	for name, of := range map[string]func(seq int64) chat.Window{
		"before": func(seq int64) chat.Window { return chat.Window{Seq: seq, Before: limit} },
		"after":  func(seq int64) chat.Window { return chat.Window{Seq: seq + 1, After: limit} },
		"around": func(seq int64) chat.Window { return chat.Window{Seq: seq, Before: limit / 2, After: limit - limit/2} },
	} {
		if !query.Has(name) {
			continue
		}
		seq, ok := number(r, name, -1, 0, 1<<62)
		if given++; !ok || seq < 0 || given > 1 {
			return window, &httpx.BodyError{Status: http.StatusBadRequest, Text: "give one of before, after and around, the sequence of a message"}
		}
		window = of(seq)
	}
	return window, nil
}

type eventsPage struct {
	Events []chat.WireEvent `json:"events"`
	Last   int64            `json:"last"` // number of the room's newest
}

// events answers with what has happened in a room after an event.
func (s *Service) events(r *http.Request, me chat.Person) (any, error) {
	limit, err := limitOf(r, usualEvents, chat.MaxEvents)
	if err != nil {
		return nil, err
	}
	after, ok := number(r, "after", 0, 0, math.MaxInt64)
	if !ok {
		return nil, &httpx.BodyError{Status: http.StatusBadRequest, Text: "after must be the number of an event"}
	}
	id := r.PathValue("id")
	if err := s.mayRead(r.Context(), id, me.ID); err != nil {
		return nil, err
	}
	found, last, err := s.store.Events(r.Context(), s.cfg.Tenant, id, after, limit)
	page := eventsPage{make([]chat.WireEvent, len(found)), last}
	for i, e := range found {
		page.Events[i] = e.Wire()
	}
	return page, err
}
