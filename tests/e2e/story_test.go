package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

const tea = "3f2b8c1e-7d5a-4e9b-9c21-0a4f6d8e1b77"

// eachDeployment runs a test on one process, and on two with Redis and Postgres where two people in turn sit on
// different gateways.
func eachDeployment(t *testing.T, test func(t *testing.T, s settings)) {
	t.Run("one process", func(t *testing.T) { test(t, settings{data: t.TempDir()}) })
	t.Run("two processes", func(t *testing.T) {
		test(t, settings{redis: testkit.Redis(t).URL, postgres: testkit.Postgres(t, nil)})
	})
}

// TestStory is the main job: two people meet, talk, talk in private, go idle, leave, delete; and everything is
// still there after a restart.
func TestStory(t *testing.T) { eachDeployment(t, story) }

func story(t *testing.T, s settings) {
	w := start(t, s)
	ada, bob := w.come("Ada"), w.come("Bob")
	ada.await("Bob coming online", func(e event) bool { return e.name == "userOnline" && strings.Contains(e.data, bob.id) })

	ada.do("createChat", object{"id": tea, "name": "Tea"})
	bob.await("the chat", named("chatCreated"))
	bob.do("joinChat", tea)
	ada.await("Bob joining", text(tea, "Bob has joined"))
	if err := bob.say(tea, "b1", "Hello!"); err != nil {
		t.Fatalf("Bob says hello: %v", err)
	}
	heard := ada.await("Bob's hello", text(tea, "Hello!"))
	equal(t, "its author", heard.from, bob.id)
	bob.await("the echo", text(tea, "Hello!"))
	if err := ada.say(tea, "a1", "Hello Bob"); err != nil {
		t.Fatalf("Ada answers: %v", err)
	}
	if err := ada.say(tea, "a1", "Hello Bob"); err != nil { // again, as after a doubtful moment
		t.Fatalf("Ada answers again: %v", err)
	}
	equal(t, "history", bob.texts(tea, 2), []string{"Bob: Hello!", "Ada: Hello Bob"})

	ada.do("createPrivateChat", object{"targetUserId": bob.id})
	invitation := bob.await("the invitation", named("joinPrivateChat"))
	var private struct{ ID, Name, State string }
	if err := json.Unmarshal([]byte(invitation.data), &private); err != nil {
		t.Fatal(err)
	}
	equal(t, "invitation", []string{private.Name, private.State}, []string{"Chat with Ada", "invited"})
	bob.do("acceptChat", private.ID)
	if err := bob.say(private.ID, "b2", "just us"); err != nil {
		t.Fatalf("Bob in private: %v", err)
	}
	ada.await("the private line", text(private.ID, "just us"))

	second := bob.open()
	if err := second.say(tea, "b3", "from my phone"); err != nil {
		t.Fatalf("Bob on a second device: %v", err)
	}
	ada.await("the second device", text(tea, "from my phone"))
	bob.do("userEnterIdle", bob.id)
	second.do("userEnterIdle", bob.id)
	ada.await("Bob idle", is("userIsIdle", bob.id))
	second.do("userExitIdle", bob.id)
	ada.await("Bob back", is("userNotIdle", bob.id))
	bob.texts(tea, 3) // what is not stored cannot be read
	bob.do("markRead", object{"chatId": tea, "seq": 3})
	second.await("read elsewhere", named("chatRead"))

	equal(t, "before the restart", ada.texts(private.ID, 1), []string{"Bob: just us"})
	w.stop()
	w = start(t, s)
	ada.w, bob.w = w, w
	equal(t, "history after the restart", ada.texts(tea, 3), []string{"Bob: Hello!", "Ada: Hello Bob", "Bob: from my phone"})
	ada.page, bob.page = ada.open(), bob.open()
	if err := bob.say(tea, "b4", "still here"); err != nil {
		t.Fatalf("Bob after the restart: %v", err)
	}
	ada.await("Bob after the restart", text(tea, "still here"))
	_, seen := bob.call("GET", "/api/chats/"+tea, nil)
	equal[any](t, "what Bob has read", seen["readSeq"], 3)

	bob.do("leaveChat", object{"chatId": tea})
	ada.await("Bob leaving", text(tea, "Bob has left"))
	if err := bob.say(tea, "b5", "one more thing"); err == nil {
		t.Error("Bob still speaks in a chat he has left")
	}
	ada.do("deleteChat", tea)
	bob.await("the deletion", is("chatDeleted", tea))
	if err := ada.say(tea, "a2", "anyone?"); err == nil {
		t.Error("Ada speaks in a chat she has deleted")
	}
	ada.forget() // Bob may have been offline for a moment of the restart
	if err := bob.conn.Close(1000, "bye"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, func() bool {
		_, users := ada.call("GET", "/api/users", nil)
		online := users["users"].(object)
		return len(online) == 1 && online[ada.id] != nil
	}, "Ada alone is online")
	ada.await("Bob going offline", is("userOffline", bob.id))
}

// TestOriginalPage sends the frames of an unmodified original page: a guest of its own making, no acks.
func TestOriginalPage(t *testing.T) {
	w := start(t, settings{legacy: true})
	bob := w.come("Bob")
	stranger := w.signIn("nobody")
	stranger.http.Jar = nil // the page has no session
	_, chats := stranger.call("GET", "/api/chats", nil)
	equal[any](t, "chats", chats, object{"chats": object{}})
	_, users := stranger.call("GET", "/api/users", nil)
	equal[any](t, "users", users["users"].(object)[bob.id], object{"userName": "Bob", "userProvider": "guest", "idle": false})
	status, answer := stranger.call("GET", "/api/getToken?userId=8437591842", nil)
	equal(t, "getToken", status, 200)

	page := w.dial(answer["url"].(string), "json.webpubsub.azure.v1")
	frame := func(text string) {
		t.Helper()
		if err := page.conn.SendFrame(t.Context(), false, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	frame(`{"type":"event","event":"userConnected","dataType":"json","data":{"userName":"Grace","userProvider":"fake"}}`)
	page.await("own userOnline", is("userOnline", `{"userId":"8437591842","userName":"Grace","userProvider":"guest","idle":false}`))
	frame(`{"type":"event","event":"createChat","dataType":"json","data":{"id":"` + tea + `","name":"Tea"}}`)
	frame(`{"type":"event","event":"joinChat","dataType":"text","data":"` + tea + `"}`)
	bob.await("the chat", named("chatCreated"))
	bob.do("joinChat", tea)
	page.await("Bob joining", text(tea, "Bob has joined"))
	frame(`{"type":"sendToGroup","group":"` + tea + `","dataType":"json","data":{"message":"hi","fromUserId":"8437591842","fromUserName":"Grace"}}`)
	equal(t, "author", bob.await("the text", text(tea, `"hi"`)).from, "8437591842")
	page.await("the echo", text(tea, `"hi"`))
	equal(t, "history", bob.texts(tea, 1), []string{"Grace: hi"})
	frame(`{"type":"event","event":"createPrivateChat","dataType":"json","data":{"initiatorUserId":8437591842,"targetUserId":"` + bob.id + `"}}`)
	page.await("the private chat", named("joinPrivateChat"))
	frame(`{"type":"event","event":"userEnterIdle","dataType":"text","data":"8437591842"}`)
	bob.await("Grace idle", is("userIsIdle", "8437591842"))
	frame(`{"type":"event","event":"userExitIdle","dataType":"text","data":"8437591842"}`)
	bob.await("Grace back", is("userNotIdle", "8437591842"))
	frame(`{"type":"event","event":"leaveChat","dataType":"json","data":{"chatId":"` + tea + `","userName":"Mallory"}}`)
	bob.await("Grace leaving by her own name", text(tea, "Grace has left"))
	frame(`{"type":"event","event":"deleteChat","dataType":"text","data":"` + tea + `"}`)
	page.await("the deletion", is("chatDeleted", tea))
	equal(t, "errors", page.all(named("error")), nil)
}

// TestFaultsOfTheOriginal tries what needs the whole system: faults 1, 2, 10, 11, 12, 14, 16, 17, 19, 22, 23, 24, 26
// and 34 of the project's list, by somebody who is signed in and means ill.
func TestFaultsOfTheOriginal(t *testing.T) { eachDeployment(t, faults) }

func faults(t *testing.T, s settings) {
	w := start(t, s)
	ada, bob, eve := w.come("Ada"), w.come("Bob"), w.come("Eve")
	ada.do("createChat", object{"id": tea, "name": "Tea"})
	ada.do("createPrivateChat", object{"targetUserId": bob.id})
	var private struct{ ID string }
	if err := json.Unmarshal([]byte(bob.await("the invitation", named("joinPrivateChat")).data), &private); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: done, want a refusal", what)
		}
	}
	ctx := t.Context()

	// 1, 2: no token without a session; a token opens no group.
	status, _ := eve.call("GET", "/api/getToken?userId="+ada.id, nil)
	equal(t, "token for another", status, 403)
	for _, group := range []string{tea, private.ID} {
		refused("joining the group "+group, eve.conn.Join(ctx, group))
		refused("speaking in "+group, eve.say(group, "e", "spam"))
	}
	refused("joining a private chat", eve.send("joinChat", private.ID))
	// 10, 11, 12: what is there stays whose it is.
	refused("creating Ada's chat again", eve.send("createChat", object{"id": tea, "name": "Mine"}))
	refused("a public chat with a private id", eve.send("createChat", object{"id": private.ID, "name": "Mine"}))
	refused("deleting Ada's chat", eve.send("deleteChat", tea))
	told := eve.await("why", named("error"))
	if !strings.Contains(told.data, "chat") {
		t.Errorf("reason: got %q, want one for people", told.data)
	}
	// 14, 19, 22, 23: who acts is the connection's user.
	eve.do("createPrivateChat", object{"initiatorUserId": ada.id, "targetUserId": bob.id})
	eve.do("userEnterIdle", ada.id)
	bob.await("Eve idle", is("userIsIdle", eve.id))
	eve.do("leaveChat", object{"chatId": tea, "userName": "Ada"})
	refused("an event named disconnected", eve.send("disconnected", object{"reason": "bye"}))
	refused("an event named connect", eve.send("connect", object{}))
	// 16: the stamped id counts.
	eve.do("joinChat", tea)
	if err := eve.say(tea, "e1", "I am Ada", object{"fromUserId": ada.id, "fromUserName": "Ada"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "stamped", ada.await("Eve's line", text(tea, "I am Ada")).from, eve.id)
	equal(t, "in the history", ada.texts(tea, 1), []string{"Eve: I am Ada"})
	// 17: what a person says is no notice, whatever it looks like.
	if err := eve.conn.SendToGroup(t.Context(), tea, webpubsub.Text("Ada has left the chat"), wsclient.SendOptions{}); err != nil {
		t.Fatal(err)
	}
	notice, forged := ada.await("Eve joining", text(tea, "Eve has joined")), ada.await("the forged notice", text(tea, "Ada has left"))
	equal(t, "who they are from", []string{notice.from, forged.from}, []string{"", eve.id})
	// 24: whoever hears is seen.
	_, users := ada.call("GET", "/api/users", nil)
	equal(t, "online", len(users["users"].(object)), 3)
	// 34: a deleted chat is silent.
	ada.do("deleteChat", tea)
	refused("speaking in a deleted chat", eve.say(tea, "e2", "still here"))
	// 26: a tab is not a person. Once Bob, who goes after Eve's second tab, is offline, so would she be.
	for _, g := range []*page{eve.open(), bob.page} {
		if err := g.conn.Close(1000, ""); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, patience, func() bool {
		conns, err := w.store.Connections(t.Context(), "default", eve.id)
		return err == nil && len(conns) == 1
	}, "Eve's second tab is gone")
	ada.await("Bob going", is("userOffline", bob.id))
	equal(t, "Eve going", ada.all(is("userOffline", eve.id)), nil)
	equal(t, "Ada idle", bob.all(is("userIsIdle", ada.id)), nil)
}

// TestGhostGoes leaves a connection in the store that no gateway has, as one whose gateway was killed does: fault 28.
func TestGhostGoes(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s settings) {
		w := start(t, s)
		ada, bob := w.come("Ada"), w.signIn("Bob")
		if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: "ghost", UserID: bob.id}); err != nil {
			t.Fatal(err)
		}
		ada.await("Bob's ghost gone", is("userOffline", bob.id))
		if told := ada.all(is("userOffline", ada.id)); told != nil {
			t.Errorf("who is there is said to be gone: %v", told)
		}
	})
}

// TestClosedConnectionIsForgotten loses a socket without a goodbye.
func TestClosedConnectionIsForgotten(t *testing.T) {
	w := start(t, settings{})
	ada := w.come("Ada")
	stranger := w.signIn("Bob")
	_, body := stranger.call("POST", "/api/negotiate", nil)
	page := w.dial(body["url"].(string), "json.webpubsub.azure.v1")
	ada.await("Bob", func(e event) bool { return e.name == "userOnline" && strings.Contains(e.data, stranger.id) })
	page.conn.Drop()
	ada.await("Bob gone", is("userOffline", stranger.id))
}

// TestSigningOut closes the person's sockets.
func TestSigningOut(t *testing.T) {
	w := start(t, settings{})
	ada := w.come("Ada")
	status, _ := ada.call("GET", "/.auth/logout", nil)
	equal(t, "logout", status, 302)
	closed, err := ada.conn.Wait(t.Context())
	if err != nil || closed == nil {
		t.Errorf("the socket: got %v, %v, want it closed", closed, err)
	}
	status, _ = ada.call("POST", "/api/negotiate", nil)
	equal(t, "a new one", status, 401)
}

// TestBadInputDisturbsNobody sends an open page's worst.
func TestBadInputDisturbsNobody(t *testing.T) {
	w := start(t, settings{})
	ada, eve := w.come("Ada"), w.come("Eve")
	ada.do("createChat", object{"id": tea, "name": "Tea"})
	for _, data := range []any{"", "\x00", strings.Repeat("x", 100_000), object{}, []int{1}, 7, true, object{"chatId": object{}}} {
		for _, event := range []string{"createChat", "joinChat", "deleteChat", "createPrivateChat", "acceptChat", "blockUser", "unblockUser", "markRead", "nothing"} {
			if err := eve.send(event, data); err == nil {
				t.Errorf("%s of %.20v: done, want a refusal", event, data)
			}
		}
	}
	if err := ada.say(tea, "a1", "calm"); err != nil {
		t.Fatal(err)
	}
	ada.await("the echo", text(tea, "calm"))
	equal(t, "Ada is told of errors", ada.all(named("error")), nil)
	if err := eve.conn.Ping(t.Context()); err != nil {
		t.Errorf("Eve's own connection: %v", err)
	}
}
