package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
)

// request makes a REST request as a gateway passes it on, and returns the status, the body and the entity tag.
func (w *world) request(method, path string, body any, headers ...string) (int, map[string]any, string) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	target := "http://events/api/hubs/chat/chat/" + path
	if !strings.Contains(path, "api-version=") {
		target += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "api-version=2026-02-01-preview"
	}
	r := httptest.NewRequest(method, target, bytes.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Host", "chat.example")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	signed, err := token.Sign(testKey, target, time.Minute, token.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+signed)
	}
	answer := httptest.NewRecorder()
	w.events.ServeHTTP(answer, r)
	var got map[string]any
	if answer.Body.Len() > 0 {
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			w.t.Fatalf("%s %s: got %q, want JSON", method, path, answer.Body)
		}
	}
	if code, _ := got["code"].(string); (answer.Code >= 400) != (code != "") || code != answer.Header().Get("X-Ms-Error-Code") {
		w.t.Errorf("%s %s: got %d %v, want an error code exactly with an error", method, path, answer.Code, got)
	}
	return answer.Code, got, answer.Header().Get("ETag")
}

// must is request for one that is answered with this status.
func (w *world) mustRequest(want int, method, path string, body any, headers ...string) map[string]any {
	w.t.Helper()
	status, got, tag := w.request(method, path, body, headers...)
	if status != want {
		w.t.Fatalf("%s %s: got %d %v, want %d", method, path, status, got, want)
	}
	if tag != "" && got["etag"] != tag {
		w.t.Errorf("%s %s: got the tags %v and %s, want the same", method, path, got["etag"], tag)
	}
	return got
}

func without(m map[string]any, member string) map[string]any {
	delete(m, member)
	return m
}

// checklist:H09
func TestRESTMessages(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	for i := range 5 {
		ana.send("r1", fmt.Sprintf("line %d", i+1))
	}
	same(t, "conversation", without(w.mustRequest(200, "GET", "conversations/c.r1", nil), "etag"), object{"id": "c.r1", "parentRoom": "r1"})

	list := func(path string) (ids string, next string) {
		t.Helper()
		page := w.mustRequest(200, "GET", path, nil)
		for _, m := range page["value"].([]any) {
			ids += m.(map[string]any)["id"].(string)
		}
		next, _ = page["nextLink"].(string)
		return ids, next
	}
	for query, want := range map[string]string{
		"": "54321", "?latestMessageId=4": "321", "?earliestMessageId=2": "543", "?latestMessageId=5&earliestMessageId=1": "432",
		"?latestMessageId=1": "", "?earliestMessageId=5": "", "?latestMessageId=" + strings.Repeat("9", 128): "54321", "?maxpagesize=1000000": "54321",
	} {
		ids, next := list("conversations/c.r1/messages" + query)
		same(t, "messages"+query, []string{ids, next}, []string{want, ""})
	}
	var pages []string
	for path := "conversations/c.r1/messages?earliestMessageId=0&maxpagesize=2"; path != ""; {
		ids, next := list(path)
		pages = append(pages, ids)
		path = ""
		if next != "" {
			var ok bool
			if path, ok = strings.CutPrefix(next, "https://chat.example/api/hubs/chat/chat/"); !ok {
				t.Fatalf("next link: got %s, want one at the caller's endpoint", next)
			}
		}
	}
	same(t, "pages", pages, []string{"54", "32", "1"})

	const second = "conversations/c.r1/messages/2"
	m := w.mustRequest(200, "GET", "conversations/c.r1/messages?latestMessageId=3&maxpagesize=1", nil)["value"].([]any)[0].(map[string]any)
	if _, err := time.Parse(time.RFC3339, m["createdAt"].(string)); err != nil {
		t.Errorf("createdAt: %v", err)
	}
	tag := m["etag"].(string)
	same(t, "message", without(without(m, "etag"), "createdAt"), object{"id": "2", "createdBy": "ana", "content": object{"text": "line 2"}})
	edited := w.mustRequest(200, "PATCH", second, object{"createdBy": "ana", "content": object{"text": "other"}},
		"Content-Type", "application/merge-patch+json", "If-Match", tag)
	same(t, "edited", edited["content"], object{"text": "other"})
	same(t, "what it does not name stays", w.mustRequest(200, "PATCH", second, object{"content": object{"binary": "AAEC/v8="}})["content"], object{"text": "other", "binary": "AAEC/v8="})
	same(t, "null takes away", w.mustRequest(200, "PATCH", second, object{"content": object{"binary": nil}})["content"], object{"text": "other"})
	w.mustRequest(412, "PATCH", second, object{"content": object{"text": "too late"}}, "If-Match", tag)
	w.mustRequest(412, "DELETE", second, nil, "If-Match", tag)
	w.mustRequest(204, "DELETE", second, nil)
	w.mustRequest(404, "DELETE", second, nil)
	ids, _ := list("conversations/c.r1/messages")
	same(t, "after deleting", ids, "5431")
	same(t, "the next id", bob.send("r1", "six"), "6")
	same(t, "notified of edits", texts(bob.notified("MessageUpdated")), []string{"2 other", "2 other", "2 other"})
	same(t, "notified of the deletion", bob.notified("MessageDeleted"),
		[]object{{"conversation": object{"conversationId": "c.r1", "roomId": "r1", "topicId": nil}, "messageId": "2"}})
	page := bob.mustInvoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1"}})
	same(t, "history of clients", len(page["messages"].([]any)), 5)

	for _, test := range []struct {
		why, method, path string
		body              any
		status            int
		code              string
	}{
		{"a malformed conversation", "GET", "conversations/r1", nil, 400, invoke.CodeBadConversation},
		{"an unknown conversation", "GET", "conversations/c.nowhere", nil, 404, invoke.CodeBadConversation},
		{"messages of an unknown conversation", "GET", "conversations/c.nowhere/messages", nil, 404, invoke.CodeBadConversation},
		{"a bound that is no number", "GET", "conversations/c.r1/messages?latestMessageId=x", nil, 400, invoke.CodeBadMessageID},
		{"an empty page", "GET", "conversations/c.r1/messages?maxpagesize=0", nil, 400, invoke.CodeInvalidRequest},
		{"an unknown message", "PATCH", "conversations/c.r1/messages/99", object{"content": object{"text": "x"}}, 404, invoke.CodeMessageNotFound},
		{"a message id that is none", "DELETE", "conversations/c.r1/messages/-1", nil, 400, invoke.CodeBadMessageID},
		{"another author", "PATCH", "conversations/c.r1/messages/1", object{"createdBy": "bob", "content": object{"text": "x"}}, 400, invoke.CodeInvalidRequest},
		{"no text", "PATCH", "conversations/c.r1/messages/1", object{"content": object{"text": ""}}, 400, invoke.CodeInvalidRequest},
		{"binary that is not base64", "PATCH", "conversations/c.r1/messages/1", object{"content": object{"binary": "%"}}, 400, invoke.CodeInvalidRequest},
		{"posting", "POST", "conversations/c.r1/messages", object{}, 405, invoke.CodeUnsupported},
	} {
		status, got, _ := w.request(test.method, test.path, test.body)
		same(t, test.why, []any{status, got["code"]}, []any{test.status, test.code})
	}
}

// checklist:H10
func TestRESTRoomsMembersUsersAndRoles(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)

	// Roles.
	made := w.mustRequest(201, "PUT", "roles/room.reader", object{"permissions": []string{"room.history"}}, "If-None-Match", "*")
	tag := made["etag"].(string)
	same(t, "role", without(made, "etag"), object{"name": "room.reader", "permissions": []string{"room.history"}})
	w.mustRequest(412, "PUT", "roles/room.reader", object{"permissions": []string{}}, "If-None-Match", "*")
	w.mustRequest(200, "PUT", "roles/room.reader", object{"permissions": []string{"room.history", "room.invite"}}, "If-Match", tag)
	w.mustRequest(412, "PUT", "roles/room.reader", object{"permissions": []string{}}, "If-Match", tag)
	w.mustRequest(201, "PUT", "roles/user.guest", object{"permissions": []string{}})
	var names []string
	for path := "roles?maxpagesize=2"; path != ""; {
		page := w.mustRequest(200, "GET", path, nil)
		for _, r := range page["value"].([]any) {
			names = append(names, r.(map[string]any)["name"].(string))
		}
		next, _ := page["nextLink"].(string)
		path = strings.TrimPrefix(next, "https://chat.example/api/hubs/chat/chat/")
	}
	same(t, "roles", names, []string{"room.member", "room.operator", "room.reader", "user.guest", "user.normal"})
	same(t, "a built-in role", w.mustRequest(200, "GET", "roles/user.normal", nil)["permissions"], []string{"user.create_room", "user.fetch_all_rooms"})

	// Users.
	w.mustRequest(201, "PUT", "users/new%2Fone", object{"kind": "Human", "nickname": "New", "roleName": "user.normal"})
	same(t, "user", without(w.mustRequest(200, "GET", "users/new%2Fone", nil), "etag"), object{"kind": "Human", "id": "new/one", "nickname": "New", "roleName": "user.normal"})
	w.mustRequest(200, "PUT", "users/eve", object{"kind": "Human", "nickname": "Eve", "roleName": "user.guest"})
	_, code := eve.invoke("chat.createRoom", object{"title": "T"})
	same(t, "who may not create rooms", code, invoke.CodeMayNotCreateRoom)

	// Rooms and their members.
	room := w.mustRequest(201, "PUT", "rooms/r1", object{"title": "Tea"})
	same(t, "room", without(room, "etag"), object{"id": "r1", "title": "Tea", "defaultConversation": "c.r1"})
	w.mustRequest(200, "PUT", "rooms/r1", object{"title": "Tea time"})
	same(t, "title", w.mustRequest(200, "GET", "rooms/r1", nil)["title"], "Tea time")
	same(t, "members at first", w.mustRequest(200, "GET", "rooms/r1/members", nil)["value"], []any{})
	same(t, "messages at first", w.mustRequest(200, "GET", "conversations/c.r1/messages", nil)["value"], []any{})
	w.mustRequest(201, "PUT", "rooms/r1/members/ana", object{"roleName": "room.operator"})
	same(t, "joined", rooms(ana.notified("RoomJoined")), []string{"r1"})
	w.mustRequest(201, "PUT", "rooms/r1/members/bob", object{"roleName": "room.member"})
	same(t, "others learn who", ana.notified("RoomMemberJoined"), []object{{"roomId": "r1", "title": "Tea time", "userId": "bob"}})
	same(t, "first message", bob.send("r1", "hi"), "1")
	w.mustRequest(200, "PUT", "rooms/r1/members/bob", object{"roleName": "room.reader"})
	_, code = bob.invoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "content": "hi"})
	same(t, "who may only read", code, invoke.CodeMayNotInRoom)
	hear, speak := bob.may("r1")
	same(t, "the group's right goes, too", []bool{hear, speak}, []bool{true, false})
	bob.mustInvoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1"}})
	w.mustRequest(200, "PUT", "rooms/r1/members/bob", object{"roleName": "room.member"})
	hear, speak = bob.may("r1")
	same(t, "and comes back", []bool{hear, speak}, []bool{true, true})
	page := w.mustRequest(200, "GET", "rooms/r1/members?maxpagesize=1", nil)
	same(t, "first member", without(page["value"].([]any)[0].(map[string]any), "etag"), object{"userId": "ana", "roleName": "room.operator"})
	page = w.mustRequest(200, "GET", strings.TrimPrefix(page["nextLink"].(string), "https://chat.example/api/hubs/chat/chat/"), nil)
	same(t, "last member", []any{page["value"].([]any)[0].(map[string]any)["userId"], page["nextLink"]}, []any{"bob", nil})

	w.mustRequest(204, "DELETE", "rooms/r1/members/bob", nil)
	same(t, "left", rooms(bob.notified("RoomLeft")), []string{"r1"})
	w.mustRequest(404, "DELETE", "rooms/r1/members/bob", nil)
	w.mustRequest(204, "DELETE", "rooms/r1", nil)
	same(t, "closed", rooms(ana.notified("RoomClosed")), []string{"r1"})
	w.mustRequest(404, "GET", "rooms/r1", nil)
	w.mustRequest(404, "DELETE", "rooms/r1", nil)
	w.mustRequest(201, "PUT", "rooms/r1", object{"title": "Again"})
	same(t, "nothing of what it was", w.mustRequest(200, "GET", "conversations/c.r1/messages", nil)["value"], []any{})

	w.mustRequest(201, "PUT", "rooms/r1/members/ana", object{"roleName": "room.member"})
	w.mustRequest(204, "DELETE", "users/ana", nil)
	w.mustRequest(404, "GET", "users/ana", nil)
	same(t, "members", len(w.members("r1")), 0)
	w.mustRequest(204, "DELETE", "roles/user.guest", nil)
	w.mustRequest(404, "DELETE", "roles/user.guest", nil)
	w.mustRequest(404, "GET", "roles/user.guest", nil)
	w.mustRequest(404, "DELETE", "roles/user.normal", nil)

	for _, test := range []struct {
		why, method, path string
		body              any
		status            int
		code              string
	}{
		{"a role of another kind", "PUT", "roles/admin", object{"permissions": []string{}}, 400, invoke.CodeInvalidRequest},
		{"permissions of both kinds", "PUT", "roles/room.x", object{"permissions": []string{"room.history", "user.create_room"}}, 400, invoke.CodeInvalidRequest},
		{"an unknown permission", "PUT", "roles/room.x", object{"permissions": []string{"room.everything"}}, 400, invoke.CodeInvalidRequest},
		{"no permissions", "PUT", "roles/room.x", object{}, 400, invoke.CodeInvalidRequest},
		{"a token that is not ours", "GET", "roles?continuationToken=eA", nil, 400, invoke.CodeInvalidRequest},
		{"a room id with a dot", "PUT", "rooms/a.b", object{"title": "T"}, 400, invoke.CodeInvalidRequest},
		{"a direct room's id", "GET", "rooms/private_x", nil, 404, invoke.CodeRoomNotFound},
		{"no title", "PUT", "rooms/r2", object{}, 400, invoke.CodeInvalidRequest},
		{"a role that is not there", "PUT", "rooms/r1/members/bob", object{"roleName": "room.none"}, 400, invoke.CodeInvalidRequest},
		{"a user role in a room", "PUT", "rooms/r1/members/bob", object{"roleName": "user.normal"}, 400, invoke.CodeInvalidRequest},
		{"a member of no room", "PUT", "rooms/nowhere/members/bob", object{"roleName": "room.member"}, 404, invoke.CodeRoomNotFound},
		{"a user with NUL", "PUT", "users/a%00b", object{"kind": "Human", "nickname": "N"}, 400, invoke.CodeInvalidUserID},
		{"the service itself", "PUT", "users/chatr.service", object{"kind": "Human", "nickname": "N"}, 400, invoke.CodeInvalidUserID},
		{"a robot", "PUT", "users/r2d2", object{"kind": "Robot", "nickname": "N"}, 400, invoke.CodeInvalidRequest},
		{"markup in a name", "PUT", "users/x", object{"kind": "Human", "nickname": "<b>"}, 400, invoke.CodeInvalidRequest},
		{"an unknown user", "GET", "users/nobody", nil, 404, invoke.CodeUserNotFound},
		{"a list for an object", "PUT", "rooms/r1", []string{"title"}, 400, invoke.CodeInvalidRequest},
		{"a version of something else", "GET", "roles?api-version=2024-12-01", nil, 400, invoke.CodeInvalidRequest},
		{"no such route", "GET", "contacts", nil, 404, "NotFound"},
		{"a route with more", "GET", "rooms/r1/members/bob/role", nil, 404, "NotFound"},
	} {
		status, got, _ := w.request(test.method, test.path, test.body)
		same(t, fmt.Sprintf("%s (%v)", test.why, got["message"]), []any{status, got["code"]}, []any{test.status, test.code})
	}
}

// checklist:H10
func TestRESTTopics(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	const path, version = "rooms/r1/topics/t1", "?api-version=2026-08-01-preview"
	made := w.mustRequest(201, "PUT", path+version, object{"title": "Milk?", "state": "Normal"})
	if _, err := time.Parse(time.RFC3339, made["createdAt"].(string)); err != nil {
		t.Errorf("createdAt: %v", err)
	}
	same(t, "topic", without(without(made, "etag"), "createdAt"), object{"id": "t1", "title": "Milk?", "createdBy": chat.ServiceUser, "state": "Normal", "conversationId": "c.r1.t1"})
	w.mustRequest(412, "PUT", path+version, object{"title": "x"}, "If-None-Match", "*")
	w.mustRequest(200, "PUT", path+version, object{"title": "Milk or lemon?"})
	same(t, "patched", w.mustRequest(200, "PATCH", path+version, object{"state": "Normal"})["title"], "Milk or lemon?")
	same(t, "conversation", w.mustRequest(200, "GET", "conversations/c.r1.t1", nil)["parentRoom"], "r1")

	say := func(c *conn, text string) (map[string]any, string) {
		return c.invoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1.t1"}, "content": text})
	}
	ana.send("r1", "in the room")
	w.quiet() // a room and its topics have no order together
	result, _ := say(ana, "milk")
	same(t, "ids of its own", result["id"], "1")
	result, _ = say(bob, "lemon")
	same(t, "and consecutive", result["id"], "2")
	_, code := say(eve, "coffee")
	same(t, "a stranger", code, invoke.CodeNotInRoom)
	n := bob.notified("MessageCreated")
	same(t, "heard", texts(n), []string{"1 in the room", "1 milk"})
	same(t, "where", n[1]["conversation"], object{"conversationId": "c.r1.t1", "roomId": "r1", "topicId": "t1"})
	page := bob.mustInvoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1.t1"}})
	same(t, "history", len(page["messages"].([]any)), 2)
	w.mustRequest(204, "DELETE", "conversations/c.r1.t1/messages/1", nil)
	same(t, "by REST", len(w.mustRequest(200, "GET", "conversations/c.r1.t1/messages", nil)["value"].([]any)), 1)
	same(t, "rooms of a member", ana.mustInvoke("chat.login", "")["roomIds"], []string{"r1"})

	for _, test := range []struct {
		why, method, path string
		body              any
		status            int
		code              string
	}{
		{"before there were topics", "PUT", path, object{"title": "T"}, 404, "NotFound"},
		{"a topic of no room", "PUT", "rooms/nowhere/topics/t1" + version, object{"title": "T"}, 404, invoke.CodeRoomNotFound},
		{"an id with a dot", "PUT", "rooms/r1/topics/a.b" + version, object{"title": "T"}, 400, invoke.CodeInvalidRequest},
		{"no title", "PUT", "rooms/r1/topics/t2" + version, object{}, 400, invoke.CodeInvalidRequest},
		{"another state", "PUT", path + version, object{"title": "T", "state": "Frozen"}, 400, invoke.CodeInvalidRequest},
		{"nothing to patch", "PATCH", "rooms/r1/topics/t2" + version, object{"title": "T"}, 404, "TopicNotFound"},
		{"a topic as a room", "GET", "rooms/r1.t1", nil, 404, invoke.CodeRoomNotFound},
	} {
		status, got, _ := w.request(test.method, test.path, test.body)
		same(t, test.why, []any{status, got["code"]}, []any{test.status, test.code})
	}
	w.mustRequest(204, "DELETE", path+version, nil)
	w.mustRequest(404, "DELETE", path+version, nil)
	_, code = say(ana, "milk!")
	same(t, "a deleted topic", code, invoke.CodeBadConversation)
	w.mustRequest(404, "GET", "conversations/c.r1.t1", nil)
}

// restOperations are all there are.
