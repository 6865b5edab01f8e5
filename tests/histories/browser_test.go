package histories

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/tests/topology"
)

// browser is what a device asks the API service with.
type browser struct {
	n    *wires
	name string // of its person
	user string

	mu     sync.Mutex // guards the following
	cookie string
}

// signIn gives the browser a new session, as an identity provider does to whom it knows.
func (b *browser) signIn(ctx context.Context) error {
	if err := b.n.w.store.SaveUser(ctx, tenant, b.n.w.cast.person(b.name)); err != nil {
		return err
	}
	now := time.Now()
	payload, _ := json.Marshal(map[string]any{"t": tenant, "u": b.user, "i": now.Unix(), "e": now.Add(time.Hour).Unix()})
	text := base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(topology.SessionKey))
	mac.Write([]byte("chatr session 1\x00" + text))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookie = "chatr_session=" + text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return nil
}

// call makes a request once. Whoever is signed out signs in again, and has to ask again.
func (b *browser) call(method, path string, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(b.n.w.ctx, 10*time.Second)
	defer cancel()
	b.mu.Lock()
	cookie := b.cookie
	b.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, method, b.n.town.top.Balanced+path, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Cookie", cookie)
	res, err := b.n.town.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode == http.StatusUnauthorized:
		return res.StatusCode, b.signIn(ctx)
	case res.StatusCode != http.StatusOK:
		return res.StatusCode, fmt.Errorf("%s %s: %d %.200s", method, path, res.StatusCode, body)
	}
	return res.StatusCode, json.Unmarshal(body, into)
}

// get reads something, as often as it takes.
func (b *browser) get(path string, into any) error {
	for {
		status, err := b.call(http.MethodGet, path, into)
		switch {
		case status == http.StatusOK && err == nil:
			return nil
		case status == http.StatusNotFound:
			return chat.ErrNotFound
		case status == http.StatusGone:
			return chat.ErrGone
		case status == http.StatusForbidden:
			return chat.ErrForbidden
		case status >= 400 && status < 500 && status != http.StatusUnauthorized && status != http.StatusTooManyRequests:
			b.n.w.failed("%s is answered with %d: %v", path, status, err)
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-b.n.w.ctx.Done():
			return b.n.w.ctx.Err()
		}
	}
}

func (b *browser) online() (map[string]bool, error) {
	var answer struct {
		Users map[string]struct{ Idle bool }
	}
	err := b.get("/api/users", &answer)
	idle := map[string]bool{}
	for id, u := range answer.Users {
		if b.n.w.cast.has(id) {
			idle[id] = u.Idle
		}
	}
	return idle, err
}

// listed is a room in a list.
type listed struct {
	ID, Name, Kind, State, Role string
	MaySpeak                    bool
	LastEvent, LastSeq, ReadSeq int64
	Unread, Members             int
}

// reader is a page's source: it asks its browser. What cannot be read is asked for again until the history ends, as pages do.
type reader struct {
	*browser
	revision int64           // of own
	own      map[string]bool // rooms that the person is in; nil before they are read
}

// rooms reads the whole list once, and what has changed in it from then on.
func (b *reader) rooms() ([]string, error) {
	for {
		since := ""
		if b.own != nil {
			since = fmt.Sprintf("&since=%d", b.revision)
		}
		var answer struct {
			Revision int64
			Rooms    []listed
			Gone     []string
			More     bool
		}
		err := b.get("/api/rooms?limit=500"+since, &answer)
		if errors.Is(err, chat.ErrGone) {
			b.own = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		if b.own == nil {
			b.own = map[string]bool{}
		}
		for _, r := range answer.Rooms {
			b.own[r.ID] = true
		}
		for _, id := range answer.Gone {
			delete(b.own, id)
		}
		b.revision = answer.Revision
		if !answer.More {
			return slices.Sorted(maps.Keys(b.own)), nil
		}
	}
}

// listed reads a room that the person is in.
func (b *browser) listed(id string) (r listed, err error) {
	if err = b.get("/api/rooms/"+id, &r); err == nil && r.State == "none" {
		err = chat.ErrNotFound
	}
	return r, err
}

func (b *browser) room(id string) (place, error) {
	r, err := b.listed(id)
	return place{last: r.LastEvent, read: r.ReadSeq}, err
}

func (b *browser) view(id string) (*view, error) {
	r, err := b.listed(id)
	if err != nil {
		return nil, err
	}
	v := newView()
	v.Read = r.ReadSeq
	if r.Kind != string(chat.KindDirect) { // else it is called like the other person
		v.Title = r.Name
	}
	var members struct {
		Members []struct{ UserID, State string }
		Next    string
	}
	if err := b.get("/api/rooms/"+id+"/members?limit=100", &members); err != nil {
		return nil, err
	}
	for _, m := range members.Members {
		v.Members[m.UserID] = m.State
	}
	var said struct {
		Messages []struct {
			Seq          int64
			UserID, Text string
		}
		Older bool
	}
	if err := b.get("/api/rooms/"+id+"/messages?limit=200", &said); err != nil {
		return nil, b.left(id, err)
	}
	for _, m := range said.Messages {
		v.Messages = append(v.Messages, line{m.Seq, m.UserID, m.Text})
	}
	if said.Older || members.Next != "" {
		b.n.w.failed("%s is longer than a page", id)
	}
	return v, nil
}

func (b *browser) events(id string, after int64) ([]chat.WireEvent, int64, error) {
	var answer struct {
		Events []chat.WireEvent
		Last   int64
	}
	err := b.get(fmt.Sprintf("/api/rooms/%s/events?after=%d&limit=256", id, after), &answer)
	return answer.Events, answer.Last, b.left(id, err)
}

// left says of a public room whose words are refused that the person is not in it, if that is so.
func (b *browser) left(id string, err error) error {
	if !errors.Is(err, chat.ErrForbidden) {
		return err
	}
	if _, why := b.listed(id); why != nil {
		return why
	}
	return err
}
