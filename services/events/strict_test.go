package events

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/token"
)

// What reads differently to different readers is refused at every door, in the door's own form, and changes nothing: a name
// in another case is no name of ours, one that stands twice none at all, and a text is UTF-8 without NUL.
func TestAmbiguousDataIsRefusedAtEveryDoor(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	ada := w.open("a", "guest_ada")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})

	for what, data := range map[string]string{
		"twice":             `{"id":"` + room1 + `","name":"Innocent","name":"Evil"}`,
		"twice, escaped":    `{"id":"` + room1 + `","name":"Innocent","n\u0061me":"Evil"}`,
		"another case":      `{"id":"` + room1 + `","NAME":"Evil"}`,
		"NUL":               `{"id":"` + room1 + `","name":"a\u0000b"}`,
		"not UTF-8":         "{\"id\":\"" + room1 + "\",\"name\":\"a\xffb\"}",
		"half a surrogate":  `{"id":"` + room1 + `","name":"\ud800"}`,
		"twice, deep":       `{"id":"` + room1 + `","name":"x","more":{"a":1,"a":2}}`,
		"another case's id": `{"ID":"` + room1 + `","name":"x"}`,
	} {
		before := len(ada.told("error"))
		answer := ada.post(cloudevents.UserPrefix+"createChat", "createChat", cloudevents.TypeJSON, data)
		equal(t, "page: "+what, answer.Code, http.StatusBadRequest)
		equal(t, "page is told why: "+what, len(ada.told("error"))-before, 1)
	}
	for what, data := range map[string]string{"NUL": "a\x00b", "not UTF-8": "a\xffb"} {
		answer := ada.post(cloudevents.UserPrefix+"joinChat", "joinChat", cloudevents.TypeText, data)
		equal(t, "page's text: "+what, answer.Code, http.StatusBadRequest)
	}
	answer := ada.post(cloudevents.UserPrefix+"markRead", "markRead", cloudevents.TypeJSON, `{"chatId":"r1","chatId":"`+room1+`","seq":1}`)
	equal(t, "page: two rooms", answer.Code, http.StatusBadRequest)
	answer = ada.post(cloudevents.UserPrefix+"leaveChat", "leaveChat", cloudevents.TypeJSON, `{"chatId":"r1","chatId":"`+room1+`"}`)
	equal(t, "page: two ids", answer.Code, http.StatusBadRequest)

	for what, data := range map[string]string{
		"twice":        `{"conversation":{"conversationId":"c.r1"},"content":"innocent","content":"evil"}`,
		"another case": `{"conversation":{"conversationId":"c.r1"},"Content":"evil"}`,
		"NUL":          `{"conversation":{"conversationId":"c.r1"},"content":"a\u0000b"}`,
		"not UTF-8":    "{\"conversation\":{\"conversationId\":\"c.r1\"},\"content\":\"a\xffb\"}",
		"twice, deep":  `{"conversation":{"conversationId":"c.r1","conversationId":"c.r1"},"content":"x"}`,
	} {
		_, code := ana.result(ana.post(cloudevents.UserPrefix+"chat.sendTextMessage", "chat.sendTextMessage", cloudevents.TypeJSON, data))
		equal(t, "invocation: "+what, code, "InvalidRequest")
	}

	for what, data := range map[string]string{
		"twice": `{"title":"Innocent","title":"Evil"}`, "another case": `{"Title":"Evil"}`, "NUL": `{"title":"a\u0000b"}`, "not UTF-8": "{\"title\":\"a\xffb\"}",
	} {
		equal(t, "REST: "+what, w.rawRequest("PUT", "rooms/r1", data), http.StatusBadRequest)
	}
	ana.send("r1", "kept")
	for what, data := range map[string]string{
		"twice": `{"content":{"text":"a","text":"b"}}`, "NUL": `{"content":{"text":"a\u0000b"}}`, "not UTF-8": "{\"content\":{\"text\":\"a\xff\"}}",
	} {
		equal(t, "REST, message: "+what, w.rawRequest("PATCH", "conversations/c.r1/messages/1", data), http.StatusBadRequest)
	}

	room, err := w.store.Room(t.Context(), "default", "r1")
	if err != nil || room.Title != "Tea" || room.LastSeq != 1 {
		t.Errorf("the room after all that: got %+v, %v, want it unchanged", room, err)
	}
	if _, err := w.store.Room(t.Context(), "default", room1); err == nil {
		t.Error("a chat was created all the same")
	}
}

// rawRequest makes a REST request with a body as it is.
func (w *world) rawRequest(method, path, body string) int {
	w.t.Helper()
	target := "http://events/api/hubs/chat/chat/" + path
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	signed, err := token.Sign(testKey, target, time.Minute, token.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+signed)
	answer := httptest.NewRecorder()
	w.events.ServeHTTP(answer, r)
	return answer.Code
}

// What a gateway of the version before has acked and delivered, without asking, is in the history as it was heard: browsers
// take the last of two members, know names exactly, and show something for NUL.
func TestWhatWasHeardIsStored(t *testing.T) {
	w := newWorld(t, Config{})
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Tea"})
	if err := w.s.heard.Keep(t.Context(), []messagelog.Entry{
		said1("1", room1, "guest_ada", `{"message":"innocent","Message":"evil","KEY":"evil","key":"k1"}`),
		said1("2", room1, "guest_ada", `{"message":"first","message":"heard"}`),
		said1("3", room1, "guest_ada", `{"message":"a\u0000b","key":"k\u0000"}`),
		said1("4", room1, "guest_ada", `{"Message":"not heard"}`),
	}); err != nil {
		t.Fatal(err)
	}
	equal(t, "history", w.lines(room1), []string{"innocent k1", "heard 2", "a\uFFFDb 3"})
}

// lines returns a room's texts with their keys.
func (w *world) lines(room string) []string {
	w.t.Helper()
	list, err := w.store.Messages(context.WithoutCancel(w.t.Context()), "default", room, 0, 1<<62, chat.MaxPage)
	if err != nil {
		w.t.Fatal(err)
	}
	lines := make([]string, len(list))
	for i, m := range list {
		lines[len(list)-1-i] = strings.TrimSpace(m.Text + " " + m.Key)
	}
	return lines
}

// A role that allows nothing is the same at every door.
func TestRolesHoldAtEveryDoor(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	bob.must("createPrivateChat", object{"targetUserId": "ana"})
	w.mustRequest(http.StatusCreated, "PUT", "roles/user.guest", object{"permissions": []string{}})
	w.mustRequest(http.StatusOK, "PUT", "users/ana", object{"kind": "Human", "nickname": "Ana", "roleName": "user.guest"})
	_, code := ana.invoke("chat.createRoom", object{"title": "T"})
	equal(t, "by invocation", code, "NoPermissionCreateRoom")
	equal(t, "by the page", ana.event("createChat", object{"id": room1, "name": "T"}), http.StatusForbidden)
	equal(t, "a direct chat by the page", ana.event("createPrivateChat", object{"targetUserId": "eve"}), http.StatusForbidden)
	ana.must("createPrivateChat", object{"targetUserId": "bob"}) // that one is there
	if _, err := w.store.Room(t.Context(), "default", room1); err == nil {
		t.Error("the chat was created all the same")
	}
}
