package chattest

import (
	"errors"
	"fmt"
	"slices"
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
	want.Seq, want.Number, want.AuthorName = 1, 3, "ANN" // the room was created, and bob came
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

// batches mixes all outcomes: what is wrong with a message is nobody else's trouble.
func batches(s *suite) {
	s.users("ann", "bob", "cid")
	s.room("r", "ann", "bob")
	s.room("other", "ann")
	s.room("gone", "ann")
	_, err := s.store.DeleteRoom(s.ctx, tenant, "gone", "ann")
	s.must(err)
	pair := s.direct("ann", "bob").ID
	s.must(s.store.Block(s.ctx, tenant, "ann", "bob"))
	known := s.message("r", "bob", "before", "known")
	_, err = s.store.Leave(s.ctx, tenant, "r", "bob")
	s.must(err)

	early, late := time.Now().Add(-time.Minute).UTC().Truncate(time.Microsecond), time.Now().Add(time.Minute)
	steps := []struct {
		room, author, text, key string
		sent                    time.Time
		want                    string // sequence, text and whether it is new, or the error
	}{
		{"r", "ann", "one", "k", early, "2 one new"},
		{"r", "ann", "one again", "k", early, "2 one"},
		{"r", "ann", "one once more", "k", late, "2 one"},
		{"other", "ann", "one elsewhere", "k", early, "1 one elsewhere new"},
		{"r", "bob", "after leaving", "late", late, "forbidden"},
		{"r", "bob", "before leaving", "late", early, "3 before leaving new"},
		{"r", "bob", "after leaving again", "late", late, "3 before leaving"},
		{"r", "bob", "after", "known", late, "1 before"},
		{"r", "cid", "let me in", "k", early, "forbidden"},
		{"r", "nobody", "let me in", "k", early, "forbidden"},
		{"nowhere", "ann", "hello?", "k", early, "not found"},
		{"gone", "ann", "hello?", "k", early, "not found"},
		{pair, "bob", "no?", "k1", late, "forbidden"},
		{pair, "bob", "yes?", "k2", early, "1 yes? new"},
		{pair, "ann", "no", "", late, "forbidden"},
		{"", "ann", "hi", "", early, "invalid"},
		{"r", "", "hi", "", early, "invalid"},
		{"r", "ann", "", "", early, "invalid"},
		{"r", "ann", "a\x00b", "", early, "invalid"},
		{"r", "ann", strings.Repeat("x", chat.MaxTextBytes+1), "", early, "invalid"},
		{"r", "ann", "hi", "\xff", early, "invalid"},
		{"r", "ann", "hi", "", early.AddDate(-3000, 0, 0), "invalid"},
		{"r", "ann", "hi", "", early.AddDate(300_000, 0, 0), "invalid"},
		{"r", "ann", "same", "", early, "4 same new"},
		{"r", "ann", "same", "", early, "5 same new"},
	}
	var batch []chat.Message
	for _, step := range steps {
		batch = append(batch, chat.Message{RoomID: step.room, AuthorID: step.author, Text: step.text, Key: step.key, SentAt: step.sent})
	}
	outcomes, err := s.store.AddMessages(s.ctx, tenant, batch)
	s.must(err)
	equal(s, "outcomes", len(outcomes), len(steps))
	stored := map[string][]chat.Message{"r": {known}}
	for i, step := range steps {
		equal(s, fmt.Sprintf("outcome of %.30q of %s in %q", step.text, step.author, step.room), outcome(outcomes[i]), step.want)
		if m := outcomes[i].Message; outcomes[i].Created {
			equal(s, "name of the author", m.AuthorName, strings.ToUpper(step.author))
			stored[step.room] = append(stored[step.room], m)
		}
	}
	for _, room := range []string{"r", "other", pair} {
		page, err := s.store.History(s.ctx, tenant, room, "ann", 0, chat.MaxPage)
		s.must(err)
		equalList(s, "history of "+room, page, stored[room]...)
		equal(s, "last sequence of "+room, s.loadRoom(room).LastSeq, int64(len(page)))
	}

	again, err := s.store.AddMessages(s.ctx, tenant, batch[:4])
	s.must(err)
	for i, want := range []string{"2 one", "2 one", "2 one", "1 one elsewhere"} {
		equal(s, "outcome in the next batch", outcome(again[i]), want)
	}
}

// outcome says what has become of a message, in a few words.
func outcome(o chat.Outcome) string {
	for _, err := range []error{chat.ErrNotFound, chat.ErrForbidden, chat.ErrInvalid} {
		if errors.Is(o.Err, err) && o.Message == (chat.Message{}) && !o.Created {
			return err.Error()
		}
	}
	if o.Err != nil {
		return fmt.Sprintf("%v with %v, %v", o.Err, o.Message, o.Created)
	}
	text := fmt.Sprint(o.Message.Seq, " ", o.Message.Text)
	if o.Created {
		text += " new"
	}
	return text
}

// batchSizes are none, all that is allowed, and one more.
func batchSizes(s *suite) {
	s.users("ann")
	s.room("r", "ann")
	outcomes, err := s.store.AddMessages(s.ctx, tenant, nil)
	s.must(err)
	equal(s, "outcomes of nothing", len(outcomes), 0)
	batch := make([]chat.Message, chat.MaxBatch+1)
	for i := range batch {
		batch[i] = chat.Message{RoomID: "r", AuthorID: "ann", Text: fmt.Sprint("line ", i)}
	}
	_, err = s.store.AddMessages(s.ctx, tenant, batch)
	wantError(s, "a message too many", err, chat.ErrInvalid)
	equal(s, "last sequence", s.loadRoom("r").LastSeq, 0)
	outcomes, err = s.store.AddMessages(s.ctx, tenant, batch[1:])
	s.must(err)
	for i, o := range outcomes {
		equal(s, "outcome", outcome(o), fmt.Sprintf("%d line %d new", i+1, i+1))
	}
	equal(s, "last sequence", s.loadRoom("r").LastSeq, chat.MaxBatch)
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
	wantRead("ann", 7)
	// ann has said all there is herself.
	for _, step := range []struct{ mark, want int64 }{{6, 6}, {2, 6}, {-1, 6}, {100, 7}} {
		s.must(s.store.MarkRead(s.ctx, tenant, "r", "bob", step.mark))
		wantRead("bob", step.want)
	}
	wantRead("ann", 7)
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
	long := strings.Repeat("é", chat.MaxTextBytes/2)
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
				case slices.Contains([]string{"SweepOffline", "Roles", "ClaimConnections", "Online", "Untold", "ClaimEffects", "EffectsOwed"}, method):
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
			_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi", Binary: bad})
			wantError(t, "binary", err, chat.ErrInvalid)
			_, _, err = s.store.AddMessage(s.ctx, tenant, chat.Message{RoomID: "r", AuthorID: "ann", Text: "hi", Connection: bad})
			wantError(t, "connection", err, chat.ErrInvalid)
			wantError(t, "edited text", second(s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 1, Text: bad}, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "edited binary", second(s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 1, Text: "hi", Binary: bad}, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "title of an application", third(s.store.PutRoom(s.ctx, tenant, chat.Room{ID: "r", Title: bad}, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "role", second(s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room." + bad}, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "permission", second(s.store.PutRole(s.ctx, tenant, chat.Role{Name: "room.x", Permissions: []chat.Permission{chat.Permission("room." + bad)}}, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "member's role", second(s.store.PutMember(s.ctx, tenant, "r", "ann", "room."+bad, chat.Condition{})), chat.ErrInvalid)
			wantError(t, "profile's name", second(s.store.PutProfile(s.ctx, tenant, chat.Profile{User: chat.User{ID: "ann", Name: bad}, Role: chat.RoleUser}, chat.Condition{})), chat.ErrInvalid)
			// What a condition says is compared, and not stored.
			wantError(t, "condition", second(s.store.EditMessage(s.ctx, tenant, chat.Message{RoomID: "r", Seq: 1, Text: "hi"}, chat.Condition{IfMatch: bad})), chat.ErrCondition)
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
	for _, m := range []chat.Message{{Text: ""}, {Text: long(chat.MaxTextBytes / 2)}, {Text: "hi", Key: long(chat.MaxKeyBytes / 2)}} {
		m.RoomID, m.AuthorID = "r", "ann"
		_, _, err := s.store.AddMessage(s.ctx, tenant, m)
		wantError(s, "message", err, chat.ErrInvalid)
	}
	wantError(s, "blocking oneself", s.store.Block(s.ctx, tenant, "ann", "ann"), chat.ErrInvalid)
	wantError(s, "unblocking oneself", s.store.Unblock(s.ctx, tenant, "ann", "ann"), chat.ErrInvalid)
	equal(s, "last sequence after refusals", s.loadRoom("r").LastSeq, 0)
	equal(s, "events after refusals", kinds(s.events("r", 0)), "created ann")
}
