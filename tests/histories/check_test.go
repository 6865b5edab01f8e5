package histories

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// check looks whether everything is as the store says, and returns what is not. who says of whom that is asked.
func (w *world) check(who string) (found []string) {
	w.mu.Lock()
	w.differs = nil
	w.mu.Unlock()
	w.checkOwed()
	var ids []string
	for _, name := range rooms {
		if id := w.room(name); id != "" {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		w.checkRoom(id)
	}
	w.checkAcked()
	for _, name := range devices {
		d := w.people[name]
		d.mu.Lock()
		c, page, sdk := d.conn, d.page, d.sdk
		d.mu.Unlock()
		if c == nil {
			continue
		}
		w.checkRights(c, ids)
		switch {
		case name == "sdk1":
			w.checkProtocolClient(c, sdk)
			w.checkHeard(c, ids)
		case name == "eve1":
			w.checkHeard(c, ids)
		default:
			w.checkPage(c, page)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if found = w.differs; len(found) > 0 {
		found = append(found, "that was when "+who+" were asked")
	}
	return found
}

// checkOwed looks whether anything is owed.
func (w *world) checkOwed() {
	n, oldest, err := w.store.EffectsOwed(w.ctx, tenantID)
	if err != nil || n > 0 {
		w.differ("effects owed: %d since %v, %v", n, oldest, err)
	}
	for _, name := range rooms {
		if id := w.room(name); id != "" {
			if t, err := w.store.TellingOf(w.ctx, tenantID, id); err == nil && t.Told < t.Last {
				w.differ("%s is told up to %d of %d", id, t.Told, t.Last)
			}
		}
	}
}

// newest returns the number of a room's newest event.
func (w *world) newest(id string) (int64, error) {
	t, err := w.store.TellingOf(w.ctx, tenantID, id)
	return t.Last, err
}

// events returns all events of a room, and the number before the first that is kept.
func (w *world) events(id string) (all []chat.Event, before int64) {
	for after := int64(0); ; {
		events, last, err := w.store.Events(w.ctx, tenantID, id, after, 0)
		if errors.Is(err, chat.ErrGone) && len(all) == 0 { // it was there before, and was deleted
			after++
			before = after
			continue
		}
		if errors.Is(err, chat.ErrNotFound) {
			return nil, 0
		}
		if err != nil || len(events) == 0 && after < last {
			w.differ("events of %s after %d: %v, %v", id, after, events, err)
			return nil, 0
		}
		all = append(all, events...)
		if after += int64(len(events)); after >= last {
			return all, before
		}
	}
}

// stored returns a room as the store has it, for one of its members; nil for one that is not there.
func (w *world) stored(id, user string) *view {
	r, err := w.store.Room(w.ctx, tenantID, id)
	if errors.Is(err, chat.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.differ("room %s: %v", id, err)
		return nil
	}
	v := newView()
	v.Title = r.Title
	for _, m := range r.Members {
		v.Members[m.UserID] = string(m.State)
		if m.UserID == user {
			v.Read = m.ReadSeq
		}
	}
	list, err := w.store.Messages(w.ctx, tenantID, id, 1, r.LastSeq, 0)
	if err != nil {
		w.differ("messages of %s: %v", id, err)
	}
	slices.Reverse(list)
	for _, m := range list {
		v.Messages = append(v.Messages, line{m.Seq, m.AuthorID, m.Text})
	}
	if v.Number, err = w.newest(id); err != nil {
		w.differ("newest event of %s: %v", id, err)
	}
	return v
}

// checkRoom looks whether a room's events are numbered without gaps, its messages too, and make what the room is.
func (w *world) checkRoom(id string) {
	events, before := w.events(id)
	folded := newView()
	seq := int64(0)
	for i, e := range events {
		if want := before + int64(i+1); e.Number != want {
			w.differ("%s: event %d is where %d should be", id, e.Number, want)
		}
		if e.Kind == chat.EventMessage {
			if seq++; e.Seq != seq {
				w.differ("%s: event %d is message %d where %d should be", id, e.Number, e.Seq, seq)
			}
		}
		folded.apply(e.Wire(), "")
	}
	if want := w.stored(id, ""); want != nil {
		w.same("what the events make of "+id, folded, want)
	}
}

func (w *world) same(what string, got, want any) {
	g, _ := json.Marshal(got)
	s, _ := json.Marshal(want)
	if string(g) != string(s) {
		w.differ("%s:\n\tgot  %s\n\twant %s", what, g, s)
	}
}

// checkAcked looks whether everything is there that somebody was told is kept, once, where the answer said.
func (w *world) checkAcked() {
	rooms := map[string][]chat.Event{}
	for _, s := range w.acked {
		if _, known := rooms[s.room]; !known {
			rooms[s.room], _ = w.events(s.room)
		}
		events := rooms[s.room]
		if len(events) == 0 || events[0].Kind == chat.EventCreated && events[0].At.After(s.at) { // created anew since
			continue
		}
		found, erased := 0, 0
		for _, e := range events {
			if e.Kind != chat.EventMessage || e.UserID != s.author {
				continue
			}
			if e.Message == nil {
				erased++
				if s.seq == e.Seq {
					found++
				}
				continue
			}
			if s.key != "" && e.Message.Key == s.key || s.key == "" && e.Seq == s.seq {
				found++
				if s.seq != 0 && e.Seq != s.seq || s.number != 0 && e.Number != s.number {
					w.differ("%s: %q is message %d and event %d; the answer was %d and %d", s.room, s.text, e.Seq, e.Number, s.seq, s.number)
				}
				if e.Message.Text != s.text && !strings.HasPrefix(e.Message.Text, "edited ") {
					w.differ("%s: message %d is %q; said was %q", s.room, e.Seq, e.Message.Text, s.text)
				}
			}
		}
		if found == 0 && (s.seq != 0 || erased == 0) || found > 1 {
			w.differ("%s: %q of %s was acked and is there %d times", s.room, s.text, s.author, found)
		}
	}
	for id, events := range rooms {
		texts := map[string]int64{}
		for _, e := range events {
			if e.Kind != chat.EventMessage || e.Message == nil || strings.HasPrefix(e.Message.Text, "edited ") {
				continue
			}
			if first, twice := texts[e.UserID+e.Message.Text]; twice {
				w.differ("%s: %q is there twice, as message %d and %d", id, e.Message.Text, first, e.Seq)
			}
			texts[e.UserID+e.Message.Text] = e.Seq
		}
	}
}

// checkRights looks whether a connection hears the rooms, and may speak there, where its user does.
func (w *world) checkRights(c *conn, ids []string) {
	groups, rights := w.net.access(c, ids)
	for _, id := range ids {
		m, err := w.store.Membership(w.ctx, tenantID, id, c.d.user)
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			w.differ("membership of %s in %s: %v", c.d.user, id, err)
		}
		in := err == nil && m.In
		if groups[id] != in || rights[id] != (in && m.MaySpeak) {
			w.differ("%s in %s: hears %v and speaks %v; by the store %v and %v", c.id, id, groups[id], rights[id], in, in && m.MaySpeak)
		}
	}
	if a, err := w.store.Access(w.ctx, tenantID, c.d.user); err == nil && c.signed.Before(a.SignedOut) {
		w.differ("%s is of a session that ended", c.id)
	}
	conns, err := w.store.Connections(w.ctx, tenantID, c.d.user)
	if err != nil || !slices.ContainsFunc(conns, func(k chat.Connection) bool { return k.ID == c.id }) {
		w.differ("%s is not among the stored connections %v, %v", c.id, conns, err)
	}
}

// checkPage looks whether a page has what the store has.
func (w *world) checkPage(c *conn, p *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]*view{}
	mine, err := w.store.Memberships(w.ctx, tenantID, c.d.user)
	if err != nil {
		w.differ("memberships of %s: %v", c.d.user, err)
	}
	for _, id := range mine {
		want[id] = w.stored(id, c.d.user)
	}
	if slices.Compare(slices.Sorted(maps.Keys(p.rooms)), slices.Sorted(maps.Keys(want))) != 0 {
		w.differ("%s shows the rooms %v; by the store %v", c.id, slices.Sorted(maps.Keys(p.rooms)), slices.Sorted(maps.Keys(want)))
		return
	}
	for id := range want {
		w.same(c.id+" in "+id, p.rooms[id].marked(p.user), want[id].marked(p.user))
	}
	online := map[string]bool{}
	list, err := w.store.Online(w.ctx, tenantID)
	for _, u := range list {
		if w.cast.has(u.ID) {
			online[u.ID] = u.Idle
		}
	}
	shown := maps.Clone(p.online)
	maps.DeleteFunc(shown, func(id string, _ bool) bool { return !w.cast.has(id) })
	if err != nil || !maps.Equal(online, shown) {
		w.differ("%s shows as online %v; by the store %v, %v", c.id, shown, online, err)
	}
	blocked, err := w.store.Blocked(w.ctx, tenantID, c.d.user)
	slices.Sort(blocked)
	if got := slices.Sorted(maps.Keys(p.blocked)); err != nil || !slices.Equal(got, blocked) {
		w.differ("%s shows as blocked %v; by the store %v, %v", c.id, got, blocked, err)
	}
}

// checkProtocolClient looks whether a client of the chat protocol knows its rooms, and its messages as they are.
func (w *world) checkProtocolClient(c *conn, s *protocolClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var want []string
	mine, err := w.store.Memberships(w.ctx, tenantID, c.d.user)
	if err != nil {
		w.differ("memberships of %s: %v", c.d.user, err)
	}
	for _, id := range mine {
		if chat.IsRoomID(id) {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(s.rooms)); !slices.Equal(got, want) {
		w.differ("%s knows the rooms %v; by the store %v", c.id, got, want)
	}
	for _, id := range want {
		for seq, text := range s.messages[id] {
			v := w.stored(id, "")
			if !slices.ContainsFunc(v.Messages, func(l line) bool { return fmt.Sprint(l.Seq) == seq && l.Text == text }) {
				w.differ("%s has %q as message %s of %s", c.id, text, seq, id)
			}
		}
	}
}

// enters notes that a connection is in a group from now on, and leaves that it no longer is; the gateway's mutex is held.
func (w *world) enters(c *conn, group string) {
	t, err := w.store.TellingOf(w.ctx, tenantID, group)
	if err == nil {
		c.since[group] = t.Last
	}
}

func (w *world) leaves(c *conn, group string) { delete(c.since, group) }

// hears notes the messages that a connection hears, whose order is all that a client without numbers has.
func (w *world) hears(c *conn, f frame) {
	if c.d.page != nil || f.own != nil {
		return
	}
	var in struct {
		NotificationType string
		Event            *chat.WireEvent
	}
	if json.Unmarshal(f.body, &in) != nil || in.NotificationType != "MessageCreated" || in.Event == nil {
		return
	}
	n, id := in.Event.Number, in.Event.RoomID
	if in.Event.Kind == chat.EventMessage && f.group != id {
		w.failed("%s heard message %d of %s from %q", c.id, n, id, f.group)
	}
	w.mu.Lock()
	heard := c.heard[id]
	late := len(heard) > 0 && n < heard[len(heard)-1]
	double := slices.Contains(heard, n)
	if double {
		w.doubles++
	}
	c.heard[id] = append(heard, n)
	faults := len(w.h.Faults) > 0 || len(w.h.Outages) > 0 || slices.ContainsFunc(w.h.Steps, func(s Step) bool { return s.Do == Kill })
	w.mu.Unlock()
	if double && !faults {
		w.failed("%s heard message %d of %s twice, and nothing had failed", c.id, n, id)
	}
	if late && !double {
		w.failed("%s heard message %d of %s after %d", c.id, n, id, heard[len(heard)-1])
	}
}

// checkHeard looks whether a connection without numbers has heard every message since it is in a room.
func (w *world) checkHeard(c *conn, ids []string) {
	for _, id := range ids {
		events, _ := w.events(id)
		due := w.net.due(c, id, events)
		w.mu.Lock()
		heard := slices.Clone(c.heard[id])
		w.mu.Unlock()
		for _, e := range events {
			if due(e.Number) && e.Kind == chat.EventMessage && e.Message != nil && e.Connection != c.id && !slices.Contains(heard, e.Number) {
				w.differ("%s has not heard message %d of %s, %q", c.id, e.Seq, id, e.Message.Text)
			}
		}
	}
}
