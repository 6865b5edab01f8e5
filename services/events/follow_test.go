package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// verbs are the changes there are, by each door that has them. Before each, ana owns the rooms den (with bob and guest_eve)
// and room1, and guest_ada and guest_bob have a direct room.
var verbs = map[string]func(w *world){
	"page createChat":         func(w *world) { w.conns["ada1"].event("createChat", object{"id": room2, "name": "New"}) },
	"page joinChat":           func(w *world) { w.conns["ada1"].event("joinChat", room1) },
	"page leaveChat":          func(w *world) { w.conns["eve1"].event("leaveChat", "den") },
	"page deleteChat":         func(w *world) { w.conns["ana1"].event("deleteChat", "den") },
	"page deleteChat, public": func(w *world) { w.conns["ana1"].event("deleteChat", room1) },
	"page createPrivateChat":  func(w *world) { w.conns["ada1"].event("createPrivateChat", object{"targetUserId": "ana"}) },
	"page acceptChat":         func(w *world) { w.conns["bobby1"].event("acceptChat", w.direct) },
	"page blockUser":          func(w *world) { w.conns["bobby1"].event("blockUser", object{"userId": "guest_ada"}) },
	"page blockUser, of none": func(w *world) { w.conns["bob1"].event("blockUser", object{"userId": "guest_ada"}) },
	"page unblockUser":        func(w *world) { w.conns["bob1"].event("unblockUser", object{"userId": "guest_eve"}) },
	"page markRead":           func(w *world) { w.conns["bob1"].event("markRead", object{"chatId": "den", "seq": 1}) },
	"page unblockUser, of a direct chat": func(w *world) {
		w.must(w.store.Block(w.t.Context(), "default", "guest_bob", "guest_ada"))
		w.conns["bobby1"].event("unblockUser", object{"userId": "guest_ada"})
	},
	"signing out": func(w *world) { w.must(w.store.SignOut(w.t.Context(), "default", "bob")) }, // as the API service does it
	"page sendMessage": func(w *world) {
		w.conns["eve1"].invokeAnyhow("sendMessage", object{"chatId": "den", "text": "x", "key": "k"})
	},
	"original's message": func(w *world) { w.conns["eve1"].publish("den", cloudevents.TypeJSON, `{"message":"x"}`, "1") },
	"page goes":          func(w *world) { w.conns["eve1"].goAnyhow() },
	"page is idle":       func(w *world) { w.conns["eve1"].event("userEnterIdle", "") },
	"invocation createRoom": func(w *world) {
		w.conns["ana1"].invokeAnyhow("chat.createRoom", object{"title": "T", "roomId": "r9", "members": []string{"bob", "guest_eve", "zoe"}})
	},
	"invocation Add": func(w *world) {
		w.conns["ana1"].invokeAnyhow("chat.manageRoomMember", object{"roomId": "den", "operation": "Add", "userId": "guest_ada"})
	},
	"invocation Add oneself": func(w *world) {
		w.conns["bob1"].invokeAnyhow("chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "bob"})
	},
	"invocation Delete": func(w *world) {
		w.conns["ana1"].invokeAnyhow("chat.manageRoomMember", object{"roomId": "den", "operation": "Delete", "userId": "bob"})
	},
	"invocation sendTextMessage": func(w *world) {
		w.conns["bob1"].invokeAnyhow("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.den"}, "content": "x"})
	},
	"REST PUT room":           func(w *world) { w.request("PUT", "rooms/den", object{"title": "Other"}) },
	"REST DELETE room":        func(w *world) { w.request("DELETE", "rooms/den", nil) },
	"REST DELETE public room": func(w *world) { w.request("DELETE", "rooms/"+room1, nil) },
	"REST PUT member":         func(w *world) { w.request("PUT", "rooms/den/members/guest_ada", object{"roleName": "room.member"}) },
	"REST PUT member's role":  func(w *world) { w.request("PUT", "rooms/den/members/bob", object{"roleName": "room.reader"}) },
	"REST DELETE member":      func(w *world) { w.request("DELETE", "rooms/den/members/bob", nil) },
	"REST DELETE user":        func(w *world) { w.request("DELETE", "users/bob", nil) },
	"REST PUT role":           func(w *world) { w.request("PUT", "roles/room.member", object{"permissions": []string{"room.history"}}) },
	"REST DELETE role": func(w *world) {
		_, err := w.store.PutMember(w.t.Context(), "default", "den", "bob", "room.reader", chat.Condition{})
		w.must(err)
		w.request("DELETE", "roles/room.reader", nil)
	},
	"REST PUT user": func(w *world) {
		w.request("PUT", "users/bob", object{"kind": "Human", "nickname": "Robert", "roleName": "user.normal"})
	},
	"REST PUT topic": func(w *world) { w.request("PUT", "rooms/den/topics/t1", object{"title": "T"}) },
	"REST PATCH message": func(w *world) {
		w.request("PATCH", "conversations/c.den/messages/1", object{"content": object{"text": "y"}})
	},
	"REST DELETE message": func(w *world) { w.request("DELETE", "conversations/c.den/messages/1", nil) },
}

// own is what other pages of the person are told at last of changes that are nobody else's, by the server message.
var own = map[string]map[string]string{
	"page blockUser, of none": {"blocked": `["guest_ada","guest_eve"]`},
	"page unblockUser":        {"blocked": `[]`},
	"page markRead":           {"chatRead": `{"chatId":"den","seq":1}`},
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (c *conn) invokeAnyhow(name string, data object) {
	c.g.t.Helper()
	c.invoke(name, data)
}

func (c *conn) goAnyhow() {
	c.vanish()
	c.post(cloudevents.Disconnected, "disconnected", cloudevents.TypeSystem, `{}`)
}

// crowd is a world with people in rooms, each of whom looks on.
func crowd(t *testing.T) *world {
	w := newWorld(t, Config{OfflineGrace: 1})
	for id, user := range map[string]string{"ana1": "ana", "ana2": "ana", "bob1": "bob", "bob2": "bob", "eve1": "guest_eve", "ada1": "guest_ada", "bobby1": "guest_bob"} {
		w.open(id, user)
	}
	w.mustRequest(http.StatusCreated, "PUT", "roles/room.reader", object{"permissions": []string{"room.history"}})
	w.conns["ana1"].mustInvoke("chat.createRoom", object{"title": "Den", "roomId": "den", "members": []string{"bob", "guest_eve"}})
	w.conns["ana1"].must("createChat", object{"id": room1, "name": "Tea"})
	w.conns["ana1"].send("den", "first")
	w.conns["ada1"].must("createPrivateChat", object{"targetUserId": "guest_bob"})
	w.direct = in[object](t, w.conns["bobby1"].told("joinPrivateChat")[0])["id"].(string)
	w.conns["bob1"].must("blockUser", object{"userId": "guest_eve"})
	w.payAll()
	w.mu.Lock()
	for _, c := range w.conns {
		c.got = nil
	}
	w.mu.Unlock()
	return w
}

// TestEveryVerbIsFinishedByAnotherProcess carries out each change while the gateways fail from a certain call on, and kills
// the process when it has answered: after the change and before what follows from it, and in the middle of that. Another
// process, which knows nothing but the store, finishes it. Then the connections are as the store says, whoever
// could has been told, and nothing is owed.
func TestEveryVerbIsFinishedByAnotherProcess(t *testing.T) {
	for name, verb := range verbs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for calls, done := 0, false; !done; calls += 1 + calls/3 { // not each of many that are alike
				w := crowd(t)
				before := w.numbers()
				w.mu.Lock()
				left := calls // what follows fails from then on
				w.allowed = &left
				w.mu.Unlock()
				verb(w)
				w.s.tell.Wait()
				w.mu.Lock()
				done, w.allowed = left >= 0, nil // all calls that there are went well
				w.mu.Unlock()
				w.replace()
				w.payAll()
				if name == "page goes" {
					w.keepPresence()
					w.payAll()
				}
				what := fmt.Sprintf("%s, gateways fail after %d calls", name, calls)
				w.consistent(what, before)
				for chatEvent, data := range own[name] {
					if told := w.conns["bob2"].told(chatEvent); len(told) == 0 || told[len(told)-1] != data {
						t.Errorf("%s: another page of the same person was told of %s %q, want %s at last", what, chatEvent, told, data)
					}
				}
				if calls > 60 {
					t.Fatal("a verb makes more than 60 calls")
				}
			}
		})
	}
}

// replace puts another process in the place of the service, with the same store.
func (w *world) replace() {
	w.t.Helper()
	s, err := New(w.s.cfg, Deps{Store: w.store, Log: noLog{}, Gateway: w.client(), Keys: w.s.deps.Keys, Logger: w.s.deps.Logger, Metrics: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s, w.events = s, s.Handler()
	w.quiet = s.tell.Wait
}

// numbers returns the newest event of each room.
func (w *world) numbers() map[string]int64 {
	w.t.Helper()
	newest := map[string]int64{}
	for _, id := range w.allRooms() {
		_, last, err := w.store.Events(w.t.Context(), "default", id, 0, 1)
		if err == nil {
			newest[id] = last
		}
	}
	return newest
}

func (w *world) allRooms() []string { return []string{"den", room1, room2, "r9", w.direct} }

// consistent checks that every connection hears and speaks as the store says, and that those who hear a room, and did
// before, have been told of each event of it since.
func (w *world) consistent(what string, before map[string]int64) {
	w.t.Helper()
	w.mu.Lock()
	conns := map[string]*conn{}
	for id, c := range w.conns {
		conns[id] = c
	}
	w.mu.Unlock()
	for _, room := range w.allRooms() {
		for id, c := range conns {
			m, err := w.store.Membership(w.t.Context(), "default", room, c.user)
			hear, speak := c.may(room)
			in, may := err == nil && m.In, err == nil && m.In && m.MaySpeak
			if hear != in || speak != may {
				w.t.Errorf("%s: %s in %s hears %v and speaks %v, want %v and %v", what, id, room, hear, speak, in, may)
			}
			if err != nil || !in {
				continue
			}
			events, _, err := w.store.Events(w.t.Context(), "default", room, before[room], 100)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, e := range events {
				if e.Connection != id && !c.knows(e) {
					w.t.Errorf("%s: %s was not told of event %d of %s: %s of %s", what, id, e.Number, room, e.Kind, e.UserID)
				}
			}
		}
	}
	ended, err := w.store.Connections(w.t.Context(), "default", "bob")
	w.must(err)
	for _, c := range ended {
		if c.Ended && conns[c.ID] != nil {
			w.t.Errorf("%s: %s of a user who was removed, or has signed out, is connected", what, c.ID)
		}
	}
}

// knows reports whether c has been told of an event, or of one by which it has to look at the room anew.
func (c *conn) knows(e chat.Event) bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	for _, m := range c.got {
		var v struct {
			Event     *chat.WireEvent
			ChatEvent string
			Data      string
		}
		_ = json.Unmarshal([]byte(m.body), &v) // a notice is none
		if v.Event != nil && v.Event.RoomID == e.RoomID && v.Event.Number == e.Number || v.ChatEvent == "chatCreated" && e.Kind == chat.EventJoined {
			return true
		}
	}
	return false
}

// While a process ends, and waits for what it is telling, it is still asked, and has more to tell.
func TestMoreIsToldWhileAProcessEnds(t *testing.T) {
	w, ana, _, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	var all sync.WaitGroup
	for range 50 {
		all.Go(w.s.tell.Wait)
		all.Go(func() { <-w.s.tell.Changed("r1") })
	}
	all.Wait()
}
