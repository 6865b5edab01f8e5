package api

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// fetch makes a GET as browsers do, and returns the answer's body as it came.
func (b *browser) fetch(path string, headers ...string) (*http.Response, []byte) {
	b.w.t.Helper()
	r, err := http.NewRequestWithContext(b.w.t.Context(), "GET", b.w.server.URL+path, nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	if r.Header.Get("Accept-Encoding") == "" {
		r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd") // one's own, so that nothing is unpacked on the way
	}
	res, err := b.http.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return res, body
}

// unpack returns what is in a packed body.
func unpack(t *testing.T, body []byte) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manyRooms gives somebody enough chats for an answer that is worth packing.
func (w *world) manyRooms(owner string) {
	w.t.Helper()
	for _, id := range strings.Fields("r1 r2 r3 r4 r5 r6 r7 r8 r9") {
		if _, err := w.store.CreateRoom(w.t.Context(), "default", chat.Room{ID: id, Title: "About " + id, OwnerID: owner}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestAnswersArePacked(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	w.manyRooms(ada.id)
	plain, want := ada.fetch("/api/chats", "Accept-Encoding", "identity")
	equal(t, "plain", []any{plain.Header.Get("Content-Encoding"), plain.Header.Get("Vary")}, []any{"", "Accept-Encoding"})
	packed, body := ada.fetch("/api/chats")
	equal(t, "packed", []any{packed.Header.Get("Content-Encoding"), packed.Header.Get("Vary")}, []any{"gzip", "Accept-Encoding"})
	if len(body) > len(want)/3 || unpack(t, body) != string(want) {
		t.Errorf("got %d bytes packed of %d, want the same in at most a third", len(body), len(want))
	}
	refused, _ := ada.fetch("/api/chats", "Accept-Encoding", "gzip;q=0, *;q=0")
	equal(t, "who cannot unpack", refused.Header.Get("Content-Encoding"), "")
	tiny, _ := ada.fetch("/api/blocked")
	equal(t, "tiny", tiny.Header.Get("Content-Encoding"), "")
	foreign, _ := ada.fetch("/api/chats", "Sec-Fetch-Site", "cross-site")
	equal(t, "for another site", foreign.Header.Get("Content-Encoding"), "")

	_, page := ada.fetch("/", "Accept-Encoding", "identity")
	packed, body = ada.fetch("/")
	equal(t, "page", []any{packed.Header.Get("Content-Encoding"), unpack(t, body) == string(page)}, []any{"gzip", true})
	for _, accepts := range []string{"gzip;q=0", "identity", "br"} {
		res, _ := ada.fetch("/", "Accept-Encoding", accepts)
		equal(t, "page for "+accepts, []any{res.Header.Get("Content-Encoding"), res.Header.Get("Vary")}, []any{"", "Accept-Encoding"})
	}
}

// TestTokensAreNotPacked: what stands beside a token could tell it by the answer's size.
func TestTokensAreNotPacked(t *testing.T) {
	w := newWorld(t, Config{PublicURL: "https://" + strings.Repeat("long.", 220) + "example"})
	ada := w.guest("Ada", "X-Forwarded-Proto", "https")
	for _, path := range []string{"/api/getToken?userId=" + ada.id} {
		res, body := ada.fetch(path, "Cookie", ada.cookie)
		if res.StatusCode != 200 || len(body) < leastCompressed {
			t.Fatalf("%s: got %d with %d bytes, want 200 and more than is packed", path, res.StatusCode, len(body))
		}
		equal(t, path, []string{res.Header.Get("Content-Encoding"), res.Header.Get("Cache-Control")}, []string{"", "no-store"})
	}
}

// TestUnchangedAnswers: what has a tag is sent again only when it is another, packed or not.
func TestUnchangedAnswers(t *testing.T) {
	w := newWorld(t, Config{})
	ada := w.guest("Ada")
	w.manyRooms(ada.id)
	for _, path := range []string{"/api/chats", "/api/chats/r1", "/api/chats/r1/messages", "/api/users", "/api/blocked", "/api/rooms", "/api/rooms?since=0", "/api/directory", "/api/rooms/r1",
		"/api/rooms/r1/members", "/api/rooms/r1/messages", "/api/rooms/r1/events", "/"} {
		first, _ := ada.fetch(path)
		plain, _ := ada.fetch(path, "Accept-Encoding", "identity")
		tag := first.Header.Get("Etag")
		if !strings.HasPrefix(tag, `W/"`) || plain.Header.Get("Etag") != tag {
			t.Errorf("%s: got tags %q and %q, want one weak tag", path, tag, plain.Header.Get("Etag"))
		}
		for header, want := range map[string]int{
			tag: 304, `"other", ` + tag: 304, strings.TrimPrefix(tag, "W/"): 304, "*": 304, `"other"`: 200, strings.ReplaceAll(tag, `"`, ""): 200, "": 200,
		} {
			res, body := ada.fetch(path, "If-None-Match", header)
			equal(t, path+" "+header, res.StatusCode, want)
			if want == 304 {
				equal(t, path+" unchanged", []any{len(body), res.Header.Get("Etag"), res.Header.Get("Cache-Control"), res.Header.Values("Vary")},
					[]any{0, tag, first.Header.Get("Cache-Control"), first.Header.Values("Vary")})
			}
		}
	}
	before, _ := ada.fetch("/api/chats")
	if _, err := w.store.Leave(t.Context(), "default", "r1", ada.id); err != nil {
		t.Fatal(err)
	}
	after, body := ada.fetch("/api/chats", "If-None-Match", before.Header.Get("Etag"))
	if after.StatusCode != 200 || !json.Valid([]byte(unpack(t, body))) {
		t.Errorf("changed: got %d, want 200 with the list", after.StatusCode)
	}
	equal(t, "nobody else keeps it", after.Header.Get("Cache-Control"), "private, no-cache")
}

// TestRoleWithoutHistory: a role that does not allow to read holds at this door too.
func TestRoleWithoutHistory(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob, eve := w.guest("Ada"), w.guest("Bob"), w.guest("Eve")
	w.manyRooms(ada.id)
	if _, err := w.store.PutRole(t.Context(), "default", chat.Role{Name: "room.mute", Permissions: []chat.Permission{chat.RoomPublishMessage}}, chat.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.PutMember(t.Context(), "default", "r1", bob.id, "room.mute", chat.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range w.readingPaths("r1") {
		status, body, _ := bob.do("GET", path, nil)
		equal[any](t, path, []any{status, body["detail"]}, []any{403, "your role in this chat does not allow to read what is said there"})
		status, _, _ = ada.do("GET", path, nil)
		equal(t, path+" for its owner", status, 200)
		status, body, _ = eve.do("GET", path, nil)
		equal[any](t, path+" for a stranger", []any{status, body["detail"]}, []any{403, "only members of this chat may read it; join it first"})
	}
}

// readingPaths are all paths at which what is said in a room can be read.
func (w *world) readingPaths(room string) []string {
	return []string{"/api/chats/" + room + "/messages", "/api/rooms/" + room + "/messages", "/api/rooms/" + room + "/messages?around=1", "/api/rooms/" + room + "/events"}
}
