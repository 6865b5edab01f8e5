package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// say stores a message.
func (w *world) say(room, author, text string) chat.Message {
	w.t.Helper()
	m, _, err := w.store.AddMessage(w.t.Context(), "default", chat.Message{RoomID: room, AuthorID: author, Text: text, Key: "k" + text})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ids are the members of that name in the objects of a list.
func ids(list any, name string) (all []string) {
	for _, v := range list.([]any) {
		all = append(all, fmt.Sprint(v.(object)[name]))
	}
	return all
}

func TestRooms(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	public, direct := fill(t, w, ada, bob, 2)
	_, body, _ := ada.do("GET", "/api/rooms", nil)
	equal(t, "rooms", ids(body["rooms"], "id"), []string{public, direct})
	row := body["rooms"].([]any)[0].(object)
	at := row["at"].(string)
	if when, err := time.Parse("2006-01-02T15:04:05.000Z", at); err != nil || time.Since(when) > time.Hour {
		t.Errorf("at: got %q (%v), want now, in UTC with milliseconds", at, err)
	}
	last := row["last"].(object)
	if last["userId"] != ada.id && last["userId"] != bob.id || last["text"] == "" || last["at"] != at {
		t.Errorf("last: got %v", last)
	}
	for _, name := range strings.Fields("id name kind owner state role maySpeak lastEvent lastSeq readSeq unread members at last") {
		if _, there := row[name]; !there {
			t.Errorf("a room has no %s: %v", name, row)
		}
	}
	row = body["rooms"].([]any)[1].(object)
	equal[any](t, "direct room", []any{row["name"], row["kind"], row["owner"], row["peer"]},
		[]any{"Bob", "direct", "", object{"userId": bob.id, "userName": "Bob", "state": "invited"}})
	equal[any](t, "next after all", body["next"], nil)

	_, one, _ := ada.do("GET", "/api/rooms/"+direct, nil)
	equal[any](t, "the same by itself", one, row)
	_, list, _ := ada.do("GET", "/api/chats/"+direct, nil)
	equal[any](t, "owner of a direct chat in the old list", list["owner"], "")

	_, body, _ = ada.do("GET", "/api/rooms?limit=1", nil)
	next, _ := body["next"].(string)
	_, rest, _ := ada.do("GET", "/api/rooms?limit=1&after="+url.QueryEscape(next), nil)
	equal(t, "in pages", append(ids(body["rooms"], "id"), ids(rest["rooms"], "id")...), []string{public, direct})
	equal[any](t, "next after the last page", rest["next"], nil)
	for _, query := range []string{"limit=0", "limit=501", "limit=x", "after=x", "after=MTIz", "since=", "since=-1", "since=x"} {
		status, body, _ := ada.do("GET", "/api/rooms?"+query, nil)
		equal(t, query, status, 400)
		if body["detail"] == nil {
			t.Errorf("%s: got %v, want what would be right", query, body)
		}
	}
}

func TestRoomsSince(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	w.manyRooms(ada.id)
	_, body, _ := bob.do("GET", "/api/rooms", nil)
	equal[any](t, "empty", body, object{"revision": 0, "rooms": []any{}})
	for _, id := range []string{"r1", "r2", "r3"} {
		_, err := w.store.Join(t.Context(), "default", id, bob.id)
		w.must(err)
	}
	_, body, _ = bob.do("GET", "/api/rooms?since=0", nil)
	equal(t, "joined", ids(body["rooms"], "id"), []string{"r1", "r2", "r3"})
	revision := body["revision"]
	_, err := w.store.Leave(t.Context(), "default", "r2", bob.id)
	w.must(err)
	_, body, _ = bob.do("GET", fmt.Sprint("/api/rooms?since=", revision), nil)
	equal[any](t, "left", []any{body["rooms"], body["gone"], body["more"]}, []any{[]any{}, []any{"r2"}, false})
	_, body, _ = bob.do("GET", "/api/rooms?since=0&limit=1", nil)
	equal[any](t, "a page", []any{ids(body["rooms"], "id"), body["gone"], body["more"]}, []any{[]string{"r1"}, []any{}, true})
	status, body, _ := bob.do("GET", "/api/rooms?since=1000", nil)
	equal[any](t, "a revision that was never given", []any{status, body["status"]}, []any{410, 410})
}

// TestRoleThatMayNotList: a role without user.fetch_all_rooms sees no list of its rooms at any door.
func TestRoleThatMayNotList(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	public, _ := fill(t, w, ada, bob, 1)
	_, err := w.store.PutRole(t.Context(), "default", chat.Role{Name: "user.blind"}, chat.Condition{})
	w.must(err)
	_, err = w.store.PutProfile(t.Context(), "default", chat.Profile{User: chat.User{ID: bob.id, Name: "Bob"}, Role: "user.blind"}, chat.Condition{})
	w.must(err)
	for _, path := range []string{"/api/rooms", "/api/rooms?since=0"} {
		status, _, _ := bob.do("GET", path, nil)
		equal(t, path, status, 403)
	}
	_, body, _ := bob.do("GET", "/api/chats", nil)
	if chats := body["chats"].(object); len(chats) != 1 || chats[public] == nil {
		t.Errorf("old list: got %v, want the public chat only", chats)
	}
}

func TestDirectory(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	w.manyRooms(ada.id)
	_, err := w.store.CreateRoom(t.Context(), "default", chat.Room{ID: "secret", Title: "About secrets", OwnerID: ada.id, Kind: chat.KindPrivate})
	w.must(err)
	_, body, _ := bob.do("GET", "/api/directory?limit=2", nil)
	equal(t, "newest", ids(body["rooms"], "id"), []string{"r9", "r8"})
	row := body["rooms"].([]any)[0].(object)
	equal[any](t, "row", []any{row["name"], row["owner"], row["members"], len(row["at"].(string))}, []any{"About r9", ada.id, 1, 24})
	_, body, _ = bob.do("GET", "/api/directory?limit=200&after="+body["next"].(string), nil)
	equal[any](t, "rest", []any{len(body["rooms"].([]any)), body["next"]}, []any{7, nil})
	_, body, _ = bob.do("GET", "/api/directory?q=+aBOUT+R3", nil)
	equal(t, "looked for", ids(body["rooms"], "id"), []string{"r3"})
	_, body, _ = ada.do("GET", "/api/directory", nil)
	equal[any](t, "for who is in all", body, object{"rooms": []any{}})
	status, _, _ := bob.do("GET", "/api/directory?q="+strings.Repeat("x", 500), nil)
	equal(t, "too long", status, 400)
}

func TestMembers(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.guest("Ada"), w.guest("Bob"), w.guest("Eve")
	public, direct := fill(t, w, ada, bob, 1)
	_, body, _ := eve.do("GET", "/api/rooms/"+public+"/members", nil)
	equal[any](t, "of a public room", body["members"].([]any)[0], object{"userId": ada.id, "userName": "Ada", "state": "joined", "role": "room.operator"})
	_, body, _ = bob.do("GET", "/api/rooms/"+direct+"/members?limit=1", nil)
	equal(t, "first", ids(body["members"], "userName"), []string{"Ada"})
	_, body, _ = bob.do("GET", "/api/rooms/"+direct+"/members?limit=1&after="+body["next"].(string), nil)
	equal[any](t, "second", []any{ids(body["members"], "userName"), body["next"]}, []any{[]string{"Bob"}, nil})
	for _, path := range []string{"", "/members", "/messages", "/events"} {
		status, _, _ := eve.do("GET", "/api/rooms/"+direct+path, nil)
		equal(t, "a direct room of others"+path, status, 404)
	}
	_, body, _ = eve.do("GET", "/api/rooms/"+public, nil)
	equal[any](t, "a public room from outside", []any{body["state"], body["maySpeak"], body["role"], body["last"], body["unread"]}, []any{"none", false, "", nil, 0})
}

func TestMessageWindows(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	w.manyRooms(ada.id)
	for i := range 6 {
		w.say("r1", ada.id, fmt.Sprint(i+1))
	}
	_, err := w.store.EditMessage(t.Context(), "default", chat.Message{RoomID: "r1", Seq: 2, Text: "two"}, chat.Condition{})
	w.must(err)
	w.must(w.store.DeleteMessage(t.Context(), "default", "r1", 4, chat.Condition{}))
	for query, want := range map[string]string{
		"":                 "[1 2 3 5 6] false false",
		"limit=2":          "[5 6] true false",
		"before=5&limit=2": "[2 3] true true",
		"after=2&limit=2":  "[3 5] true true",
		"after=3":          "[5 6] true false",
		"around=4&limit=2": "[3 5] true true",
		"around=3&limit=3": "[2 3 5] true true",
		"around=1&limit=9": "[1 2 3 5 6] false false",
		"before=1":         "[] false true",
		"after=6":          "[] true false",
	} {
		_, body, _ := ada.do("GET", "/api/rooms/r1/messages?"+query, nil)
		equal(t, query, fmt.Sprint(ids(body["messages"], "seq"), " ", body["older"], " ", body["newer"]), want)
		equal[any](t, query+": last event", body["lastEvent"], 9)
	}
	_, body, _ := ada.do("GET", "/api/rooms/r1/messages?around=2&limit=1", nil)
	row := body["messages"].([]any)[0].(object)
	delete(row, "at")
	equal[any](t, "row", row, object{"seq": 2, "number": 3, "userId": ada.id, "userName": "Ada", "text": "two", "key": "k2", "edited": true})
	for _, query := range []string{"before=1&after=1", "before=", "before=x", "after=-1", "around=1.5", "limit=201"} {
		status, _, _ := ada.do("GET", "/api/rooms/r1/messages?"+query, nil)
		equal(t, query, status, 400)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.guest("Ada"), w.guest("Bob")
	w.manyRooms(ada.id)
	_, err := w.store.Join(t.Context(), "default", "r1", bob.id)
	w.must(err)
	m := w.say("r1", bob.id, "hello")
	_, body, _ := ada.do("GET", "/api/rooms/r1/events?after=1", nil)
	list := body["events"].([]any)
	equal(t, "kinds", ids(list, "kind"), []string{"joined", "message"})
	equal[any](t, "message", list[1], object{"roomId": "r1", "number": 3, "kind": "message", "userId": bob.id, "userName": "Bob", "seq": 1, "text": "hello",
		"key": "khello", "at": chat.WireTime(m.SentAt)})
	equal[any](t, "last", body["last"], 3)
	_, body, _ = ada.do("GET", "/api/rooms/r1/events?limit=1", nil)
	equal[any](t, "first page", []any{ids(body["events"], "kind"), body["last"]}, []any{[]string{"created"}, 3})
	_, body, _ = ada.do("GET", "/api/rooms/r1/events?after=3", nil)
	equal[any](t, "nothing new", body, object{"events": []any{}, "last": 3})
	status, body, _ := ada.do("GET", "/api/rooms/r1/events?after=4", nil)
	equal[any](t, "after what has never been", []any{status, body["status"]}, []any{410, 410})
	status, _, _ = ada.do("GET", "/api/rooms/r1/events?after=x", nil)
	equal(t, "no number", status, 400)
}

// TestReadsNeedASession: all of them, whoever else may read the old lists.
func TestReadsNeedASession(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	ada := w.guest("Ada")
	w.manyRooms(ada.id)
	for _, path := range []string{"/api/rooms", "/api/rooms?since=0", "/api/directory", "/api/rooms/r1", "/api/rooms/r1/members", "/api/rooms/r1/messages", "/api/rooms/r1/events"} {
		status, _, _ := w.browser().do("GET", path, nil)
		equal(t, path, status, 401)
		status, _, _ = ada.do("GET", path, nil)
		equal(t, path+" with one", status, 200)
	}
}
