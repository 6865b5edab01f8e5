package chattest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

func messages(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann", "bob")
	s.room("other", "ann")
	sent := time.Now().Add(-time.Minute).UTC().Truncate(time.Microsecond)
	first := chat.Message{RoomID: "r", AuthorID: "ann", AuthorName: "forged", Text: "hello", Key: "k1", SentAt: sent}
	m, created, err := s.store.AddMessage(s.ctx, tenant, first)
	s.must(err)
	want := first
	want.Seq, want.AuthorName = 1, "ANN"
	equal(s, "created", created, true)
	equal(s, "stored message", m, want)

	resent := first
	resent.Text, resent.SentAt = "changed", sent.Add(time.Second)
	m, created, err = s.store.AddMessage(s.ctx, tenant, resent)
	s.must(err)
	equal(s, "created by a resend", created, false)
	equal(s, "message of a resend", m, want)

	equal(s, "same key of another author", s.message("r", "bob", "hi", "k1").Seq, 2)
	equal(s, "same key in another room", s.message("other", "ann", "hi", "k1").Seq, 1)
	equal(s, "no key", s.message("r", "ann", "one", "").Seq, 3)
	m = s.message("r", "ann", "one", "")
	equal(s, "no key again", m.Seq, 4)
	if age := time.Since(m.SentAt); age < -time.Second || age > time.Minute {
		s.Errorf("time of a message sent without one: got %v, want about %v", m.SentAt, time.Now())
	}
	equal(s, "last sequence", s.loadRoom("r").LastSeq, 4)

	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "cid", Text: "hi"})
	wantError(s, "message of a stranger", err, chat.ErrForbidden)
	_, err = s.store.Leave(s.ctx, tenant, "r", "ann")
	s.must(err)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi"})
	wantError(s, "message of one who has left", err, chat.ErrForbidden)
	m, created, err = s.store.AddMessage(s.ctx, tenant, first)
	s.must(err)
	equal(s, "created by a resend after leaving", created, false)
	equal(s, "message of a resend after leaving", m, want)
	m, created, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi", Key: "gone", SentAt: sent})
	s.must(err)
	equal(s, "a message that was under way, created", created, true)
	equal(s, "its sequence", m.Seq, 5)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi", SentAt: time.Now().Add(time.Minute)})
	wantError(s, "message sent after leaving", err, chat.ErrForbidden)
	_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "cid", Text: "hi", SentAt: sent})
	wantError(s, "old message of a stranger", err, chat.ErrForbidden)
	equal(s, "sequence after refusals", s.message("r", "bob", "still here", "").Seq, 6)

	pair := s.direct("ann", "bob")
	equal(s, "message of an invited member", s.message(pair.ID, "bob", "yes?", "").Seq, 1)
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	late := chat.Message{RoomID: pair.ID, AuthorID: "bob", Text: "no?", SentAt: sent}
	_, created, err = s.store.AddMessage(s.ctx, tenant, late)
	s.must(err)
	equal(s, "sent before being blocked, created", created, true)
	late.SentAt = time.Now().Add(time.Minute)
	_, _, err = s.store.AddMessage(s.ctx, tenant, late)
	wantError(s, "sent after being blocked", err, chat.ErrForbidden)
}

func history(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann", "bob")
	page := func(before int64, limit int) []chat.Message {
		s.Helper()
		list, err := s.store.History(s.ctx, tenant, "r", "bob", before, limit)
		s.must(err)
		return list
	}
	equalList(s, "an empty room", page(0, 10))
	var all []chat.Message
	for i := range chat.MaxPage + 5 {
		all = append(all, s.message("r", "ann", fmt.Sprintf("line %d", i), fmt.Sprint(i)))
	}
	last := int64(len(all))
	equalList(s, "the newest", page(0, 3), all[last-3:]...)
	equalList(s, "those before", seqs(page(last-2, 3)), last-5, last-4, last-3)
	equalList(s, "the oldest", seqs(page(3, 10)), 1, 2)
	equalList(s, "before the oldest", page(1, 10))
	equalList(s, "beyond the newest", seqs(page(last+100, 1)), last)
	equalList(s, "before a negative one", page(-1, 10))
	for _, limit := range []int{0, -1, chat.MaxPage, chat.MaxPage + 1} {
		equal(s, fmt.Sprintf("messages with limit %d", limit), len(page(0, limit)), chat.MaxPage)
	}
	_, err := s.store.History(s.ctx, tenant, "r", "cid", 0, 10)
	wantError(s, "history for a stranger", err, chat.ErrForbidden)
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)
	_, err = s.store.History(s.ctx, tenant, "r", "bob", 0, 10)
	wantError(s, "history for one who has left", err, chat.ErrForbidden)

	s.must(s.store.SaveUser(s.ctx, tenant, chat.User{ID: "ann", Name: "Annabel", Provider: "guest"}))
	list, err := s.store.History(s.ctx, tenant, "r", "ann", 0, 1)
	s.must(err)
	equal(s, "name after renaming", list[0].AuthorName, "Annabel")
}

func reading(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann")
	for i := range 5 {
		s.message("r", "ann", fmt.Sprint("line ", i), "")
	}
	_, err := s.store.Join(s.ctx, tenant, "r", "bob")
	s.must(err)
	s.message("r", "ann", "welcome", "")
	s.message("r", "ann", "well?", "")
	wantRead := func(user string, want int64) {
		s.Helper()
		m, _ := s.loadRoom("r").Member(user)
		equal(s, "read by "+user, m.ReadSeq, want)
	}
	wantRead("bob", 5) // what was there when he joined
	wantRead("ann", 0)
	for _, step := range []struct{ mark, want int64 }{{6, 6}, {2, 6}, {-1, 6}, {100, 7}} {
		s.must(s.store.MarkRead(s.ctx, tenant, "r", "bob", step.mark))
		wantRead("bob", step.want)
	}
	wantRead("ann", 0)
	wantError(s, "marked by a stranger", s.store.MarkRead(s.ctx, tenant, "r", "cid", 1), chat.ErrForbidden)
	wantError(s, "an unknown room", s.store.MarkRead(s.ctx, tenant, "nowhere", "bob", 1), chat.ErrNotFound)
}

// strangeInput is unusual and must be kept as it is.
func strangeInput(s *suite) {
	for _, id := range []string{
		"__proto__", "constructor", "hasOwnProperty", "toString", "' OR 1=1 --", "%", "_", "a b", " a ", "null", "0",
		"../../etc", "Ünïcödé", "👩‍💻", "\t\n", "\u202egnp", strings.Repeat("x", chat.MaxIDBytes), "\xef\xbf\xbd",
	} {
		s.must(s.store.SaveUser(s.ctx, tenant, chat.User{ID: id, Name: "Name of " + string([]rune(id)[:1]), Provider: id}))
		r, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: id, Title: "<b>__proto__</b>", OwnerID: id})
		s.must(err)
		equal(s, "room id", r.ID, id)
		equal(s, "members", memberList(r), id+" joined")
		text := "<script>" + id + "</script>\r\n'\";--\\ \u0001"
		m := s.message(id, id, text, id)
		page, err := s.store.History(s.ctx, tenant, id, id, 0, 10)
		s.must(err)
		equalList(s, "history of "+id, page, m)
		equal(s, "text", page[0].Text, text)
		s.connect(id, id)
		s.wantConnections(id, id)
	}
	long := strings.Repeat("é", chat.MaxTextRunes)
	equal(s, "the longest text", s.message("__proto__", "__proto__", long, "").Text, long)
	s.must(s.store.SaveUser(s.ctx, tenant, chat.User{ID: "long", Name: strings.Repeat("é", chat.MaxNameRunes)}))
	_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "long", Title: strings.Repeat("é", chat.MaxTitleRunes), OwnerID: "long"})
	s.must(err)
}

// invalidInput cannot be stored, or not by every store.
func invalidInput(s *suite) {
	s.users("ann", "bob")
	s.room("r", "ann")
	for name, bad := range map[string]string{
		"empty": "", "too long": strings.Repeat("x", chat.MaxIDBytes+1), "with NUL": "a\x00b", "not UTF-8": "a\xff", "half a rune": "é"[:1],
	} {
		s.Run(name, func(t *testing.T) {
			for method, call := range s.calls(bad, "ann", "bob", "r", "c") {
				wantError(t, method+" with a bad tenant", call(), chat.ErrInvalid)
			}
			for method, call := range s.calls(tenant, bad, "bob", bad, bad) {
				switch {
				case method == "SweepOffline" || method == "ClaimConnections" || method == "Online":
				case method == "Rooms" && bad == "": // anybody
				default:
					wantError(t, method+" with bad ids", call(), chat.ErrInvalid)
				}
			}
			if bad == "" || len(bad) > chat.MaxIDBytes {
				return
			}
			wantError(t, "name", s.store.SaveUser(s.ctx, tenant, chat.User{ID: "cid", Name: bad}), chat.ErrInvalid)
			wantError(t, "provider", s.store.SaveUser(s.ctx, tenant, chat.User{ID: "cid", Name: "Cid", Provider: bad}), chat.ErrInvalid)
			_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "new", Title: bad, OwnerID: "ann"})
			wantError(t, "title", err, chat.ErrInvalid)
			_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: bad})
			wantError(t, "text", err, chat.ErrInvalid)
			_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi", Key: bad})
			wantError(t, "key", err, chat.ErrInvalid)
		})
	}
	long := func(n int) string { return strings.Repeat("é", n+1) }
	for _, name := range []string{"", long(chat.MaxNameRunes)} {
		wantError(s, "name", s.store.SaveUser(s.ctx, tenant, chat.User{ID: "cid", Name: name}), chat.ErrInvalid)
	}
	for _, title := range []string{"", long(chat.MaxTitleRunes)} {
		_, err := s.store.CreateRoom(s.ctx, tenant, chat.Room{ID: "new", Title: title, OwnerID: "ann"})
		wantError(s, "title", err, chat.ErrInvalid)
	}
	for _, m := range []chat.Message{{Text: ""}, {Text: long(chat.MaxTextRunes)}, {Text: "hi", Key: long(chat.MaxKeyBytes / 2)}} {
		m.RoomID, m.AuthorID = "r", "ann"
		_, _, err := s.store.AddMessage(s.ctx, tenant, m)
		wantError(s, "message", err, chat.ErrInvalid)
	}
	wantError(s, "blocking oneself", s.store.Block(s.ctx, tenant, "ann", "ann"), chat.ErrInvalid)
	wantError(s, "unblocking oneself", s.store.Unblock(s.ctx, tenant, "ann", "ann"), chat.ErrInvalid)
	equal(s, "last sequence after refusals", s.loadRoom("r").LastSeq, 0)
}
