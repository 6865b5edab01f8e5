package events

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/token"
)

func TestRESTIsForWhoHasTheKey(t *testing.T) {
	w := newWorld(t, Config{})
	other, err := token.Sign(testKey, "http://events/api/hubs/chat/chat/roles", time.Minute, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := token.Sign(strings.Repeat("x", 40), "http://events/api/hubs/chat/chat/rooms/r1", time.Minute, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for why, header := range map[string]string{"nothing": "Basic x", "a token for another path": "Bearer " + other, "another key": "Bearer " + forged} {
		status, _, _ := w.request(http.MethodPut, "rooms/r1", object{"title": "T"}, "Authorization", header)
		same(t, why, status, http.StatusUnauthorized)
	}
	if _, err := w.store.Room(t.Context(), "default", "r1"); err == nil {
		t.Error("the room was made all the same")
	}
}

var restOperations = []struct{ method, path string }{
	{"GET", "conversations/{conversationId}"},
	{"GET", "conversations/{conversationId}/messages"},
	{"PATCH", "conversations/{conversationId}/messages/{messageId}"},
	{"DELETE", "conversations/{conversationId}/messages/{messageId}"},
	{"GET", "roles"},
	{"GET", "roles/{roleName}"},
	{"PUT", "roles/{roleName}"},
	{"DELETE", "roles/{roleName}"},
	{"GET", "rooms/{roomId}"},
	{"PUT", "rooms/{roomId}"},
	{"DELETE", "rooms/{roomId}"},
	{"GET", "rooms/{roomId}/members"},
	{"PUT", "rooms/{roomId}/members/{userId}"},
	{"DELETE", "rooms/{roomId}/members/{userId}"},
	{"PUT", "rooms/{roomId}/topics/{topicId}"},
	{"PATCH", "rooms/{roomId}/topics/{topicId}"},
	{"DELETE", "rooms/{roomId}/topics/{topicId}"},
	{"GET", "users/{userId}"},
	{"PUT", "users/{userId}"},
	{"DELETE", "users/{userId}"},
}

// FuzzChatREST looks for requests that are answered by anything but a success or a fault of the caller's.
func FuzzChatREST(f *testing.F) {
	for i, seed := range []struct{ name, query, body, condition string }{
		{"c.r1", "maxpagesize=2&continuationToken=YWZ0ZXI6YQ", ``, ``},
		{"c.r1", "earliestMessageId=0&latestMessageId=99999999999999999999", ``, `*`},
		{"c.r1.t1", "api-version=2026-08-01-preview", `{"createdBy":"ana","content":{"text":"x","binary":null}}`, `"1"`},
		{"r1", "api-version=2026-08-01-preview", `{"title":"T"}`, `W/"1"`},
		{"r%2F1", "%zz", `{"permissions":["room.history","\u0000"]}`, `"`},
		{"", "maxpagesize=-1", `{"roleName":"room.member"}`, ``},
		{"ana", "continuationToken=%00", `{"kind":"Human","nickname":"","roleName":"user.normal"}`, ``},
		{"..", "a;b", `[]`, ``},
	} {
		for op := range restOperations {
			f.Add(uint8(op), uint8(i), seed.name, seed.query, seed.body, seed.condition)
		}
	}
	w := newWorld(f, Config{EventsPerSecond: 1 << 20})
	ana := w.open("a", "ana")
	ana.mustInvoke("chat.createRoom", object{"title": "T", "roomId": "r1"})
	ana.send("r1", "hi")
	w.mustRequest(201, "PUT", "rooms/r1/topics/t1?api-version=2026-08-01-preview", object{"title": "T"})
	types := []string{"application/json", "application/merge-patch+json", "text/plain", "application/json; charset=", ""}
	f.Fuzz(func(t *testing.T, which, kind uint8, name, query, body, condition string) {
		op := restOperations[int(which)%len(restOperations)]
		segments := strings.Split(op.path, "/")
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") {
				segments[i] = url.PathEscape(name)
				name = "1" // the next is another thing's
			}
		}
		target := "http://events/api/hubs/chat/chat/" + strings.Join(segments, "/")
		r := httptest.NewRequest(op.method, target, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header = http.Header{"Content-Type": {types[int(kind)%len(types)]}, "If-Match": {condition}}
		signed, err := token.Sign(testKey, target, time.Minute, token.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+signed)
		answer := httptest.NewRecorder()
		w.events.ServeHTTP(answer, r)
		var got map[string]any
		if answer.Code != http.StatusNoContent {
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
				t.Fatalf("%s %s: got %d %q, want a JSON object", op.method, r.URL, answer.Code, answer.Body)
			}
		}
		_, faulty := got["code"].(string)
		if faulty != (answer.Code >= 400) || answer.Code >= 500 {
			t.Errorf("%s %s %q: got %d %q, want a success or a fault of the caller's", op.method, r.URL, body, answer.Code, answer.Body)
		}
	})
}

// TestHealthPath: load balancers in front ask each service at the same path as they ask gateways.
func TestHealthPath(t *testing.T) {
	w := newWorld(t, Config{})
	for _, path := range []string{"/api/health", "/api/v1/health"} {
		for _, method := range []string{"GET", "HEAD"} {
			answer := httptest.NewRecorder()
			w.s.Handler().ServeHTTP(answer, httptest.NewRequest(method, path, nil))
			if answer.Code != http.StatusOK {
				t.Errorf("%s %s: got %d, want 200", method, path, answer.Code)
			}
		}
	}
}
