package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/people"
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
	ada.Await("Bob coming online", func(e people.Event) bool { return e.Name == "userOnline" && strings.Contains(e.Data, bob.ID) })

	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	bob.Await("the chat", people.Named("chatCreated"))
	bob.Do("joinChat", tea)
	ada.Await("Bob joining", people.Text(tea, "Bob has joined"))
	if err := bob.Say(tea, "Hello!"); err != nil {
		t.Fatalf("Bob says hello: %v", err)
	}
	heard := ada.Await("Bob's hello", people.Text(tea, "Hello!"))
	equal(t, "its author", heard.Author(), bob.ID)
	bob.Await("the echo", people.Text(tea, "Hello!"))
	if err := ada.Say(tea, "Hello Bob"); err != nil {
		t.Fatalf("Ada answers: %v", err)
	}
	if err := ada.Say(tea, "Hello Bob"); err != nil { // again, as after a doubtful moment
		t.Fatalf("Ada answers again: %v", err)
	}
	equal(t, "history", texts(bob, tea, 2), []string{"Bob: Hello!", "Ada: Hello Bob"})

	ada.Do("createPrivateChat", people.Object{"targetUserId": bob.ID})
	invitation := bob.Await("the invitation", people.Named("joinPrivateChat"))
	var private struct{ ID, Name, State string }
	if err := json.Unmarshal([]byte(invitation.Data), &private); err != nil {
		t.Fatal(err)
	}
	equal(t, "invitation", []string{private.Name, private.State}, []string{"Chat with Ada", "invited"})
	bob.Do("acceptChat", private.ID)
	if err := bob.Say(private.ID, "just us"); err != nil {
		t.Fatalf("Bob in private: %v", err)
	}
	ada.Await("the private line", people.Text(private.ID, "just us"))

	second := bob.Tab(people.Reliable)
	if err := second.Say(tea, "from my phone"); err != nil {
		t.Fatalf("Bob on a second device: %v", err)
	}
	ada.Await("the second device", people.Text(tea, "from my phone"))
	bob.Do("userEnterIdle", bob.ID)
	second.Do("userEnterIdle", bob.ID)
	ada.Await("Bob idle", people.Is("userIsIdle", bob.ID))
	second.Do("userExitIdle", bob.ID)
	ada.Await("Bob back", people.Is("userNotIdle", bob.ID))
	texts(bob, tea, 3) // what is not stored cannot be read
	bob.Do("markRead", people.Object{"chatId": tea, "seq": 3})
	second.Await("read elsewhere", people.Named("chatRead"))

	equal(t, "before the restart", texts(ada, private.ID, 1), []string{"Bob: just us"})
	w.stop()
	w = start(t, s)
	w.move(ada, bob)
	equal(t, "history after the restart", texts(ada, tea, 3), []string{"Bob: Hello!", "Ada: Hello Bob", "Bob: from my phone"})
	ada.Open(people.Reliable)
	bob.Open(people.Reliable)
	if err := bob.Say(tea, "still here"); err != nil {
		t.Fatalf("Bob after the restart: %v", err)
	}
	ada.Await("Bob after the restart", people.Text(tea, "still here"))
	texts(bob, tea, 4) // what is not stored is not read
	_, seen := bob.Call("GET", "/api/chats/"+tea, nil)
	equal[any](t, "what Bob has read, his own last words too", seen["readSeq"], 4)

	bob.Do("leaveChat", people.Object{"chatId": tea})
	ada.Await("Bob leaving", people.Text(tea, "Bob has left"))
	if err := bob.Say(tea, "one more thing"); err == nil {
		t.Error("Bob still speaks in a chat he has left")
	}
	ada.Do("deleteChat", tea)
	bob.Await("the deletion", people.Is("chatDeleted", tea))
	if err := ada.Say(tea, "anyone?"); err == nil {
		t.Error("Ada speaks in a chat she has deleted")
	}
	ada.Forget() // Bob may have been offline for a moment of the restart
	if err := bob.Conn.Close(1000, "bye"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, people.Patience, func() bool {
		_, users := ada.Call("GET", "/api/users", nil)
		online := users["users"].(people.Object)
		return len(online) == 1 && online[ada.ID] != nil
	}, "Ada alone is online")
	ada.Await("Bob going offline", people.Is("userOffline", bob.ID))
}

// TestOriginalPage sends the frames of an unmodified original page: a guest of its own making, no acks.
func TestOriginalPage(t *testing.T) {
	w := start(t, settings{legacy: true})
	bob := w.come("Bob")
	stranger := w.signIn("nobody")
	stranger.HTTP.Jar = nil // the page has no session
	_, chats := stranger.Call("GET", "/api/chats", nil)
	equal[any](t, "chats", chats, people.Object{"chats": people.Object{}})
	_, users := stranger.Call("GET", "/api/users", nil)
	equal[any](t, "users", users["users"].(people.Object)[bob.ID], people.Object{"userName": "Bob", "userProvider": "guest", "idle": false})
	status, answer := stranger.Call("GET", "/api/getToken?userId=8437591842", nil)
	equal(t, "getToken", status, 200)

	page := must(people.Dial(t, answer["url"].(string), people.Plain))(t)
	page.Frame(`{"type":"event","event":"userConnected","dataType":"json","data":{"userName":"Grace","userProvider":"fake"}}`)
	page.Await("own userOnline", people.Is("userOnline", `{"userId":"8437591842","userName":"Grace","userProvider":"guest","idle":false}`))
	page.Frame(`{"type":"event","event":"createChat","dataType":"json","data":{"id":"` + tea + `","name":"Tea"}}`)
	page.Frame(`{"type":"event","event":"joinChat","dataType":"text","data":"` + tea + `"}`)
	bob.Await("the chat", people.Named("chatCreated"))
	bob.Do("joinChat", tea)
	page.Await("Bob joining", people.Text(tea, "Bob has joined"))
	page.Frame(`{"type":"sendToGroup","group":"` + tea + `","dataType":"json","data":{"message":"hi","fromUserId":"8437591842","fromUserName":"Grace"}}`)
	equal(t, "author", bob.Await("the text", people.Text(tea, `"hi"`)).Author(), "8437591842")
	page.Await("the echo", people.Text(tea, `"hi"`))
	equal(t, "history", texts(bob, tea, 1), []string{"Grace: hi"})
	page.Frame(`{"type":"event","event":"createPrivateChat","dataType":"json","data":{"initiatorUserId":8437591842,"targetUserId":"` + bob.ID + `"}}`)
	page.Await("the private chat", people.Named("joinPrivateChat"))
	page.Frame(`{"type":"event","event":"userEnterIdle","dataType":"text","data":"8437591842"}`)
	bob.Await("Grace idle", people.Is("userIsIdle", "8437591842"))
	page.Frame(`{"type":"event","event":"userExitIdle","dataType":"text","data":"8437591842"}`)
	bob.Await("Grace back", people.Is("userNotIdle", "8437591842"))
	page.Frame(`{"type":"event","event":"leaveChat","dataType":"json","data":{"chatId":"` + tea + `","userName":"Mallory"}}`)
	bob.Await("Grace leaving by her own name", people.Text(tea, "Grace has left"))
	page.Frame(`{"type":"event","event":"deleteChat","dataType":"text","data":"` + tea + `"}`)
	page.Await("the deletion", people.Is("chatDeleted", tea))
	equal(t, "errors", page.All(people.Named("error")), nil)
}

// TestFaultsOfTheOriginal tries what needs the whole system: faults 1, 2, 10, 11, 12, 14, 16, 17, 19, 22, 23, 24, 26
// and 34 of the project's list, by an attacker who is signed in.
func TestFaultsOfTheOriginal(t *testing.T) { eachDeployment(t, faults) }

func faults(t *testing.T, s settings) {
	w := start(t, s)
	ada, bob, eve := w.come("Ada"), w.come("Bob"), w.come("Eve")
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	ada.Do("createPrivateChat", people.Object{"targetUserId": bob.ID})
	var private struct{ ID string }
	if err := json.Unmarshal([]byte(bob.Await("the invitation", people.Named("joinPrivateChat")).Data), &private); err != nil {
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
	status, _ := eve.Call("GET", "/api/getToken?userId="+ada.ID, nil)
	equal(t, "token for another", status, 403)
	for _, group := range []string{tea, private.ID} {
		refused("joining the group "+group, eve.Conn.Join(ctx, group))
		refused("speaking in "+group, eve.Say(group, "spam"))
	}
	refused("joining a private chat", eve.Send("joinChat", private.ID))
	// 10, 11, 12: what is there stays whose it is.
	refused("creating Ada's chat again", eve.Send("createChat", people.Object{"id": tea, "name": "Mine"}))
	refused("a public chat with a private id", eve.Send("createChat", people.Object{"id": private.ID, "name": "Mine"}))
	refused("deleting Ada's chat", eve.Send("deleteChat", tea))
	told := eve.Await("why", people.Named("error"))
	if !strings.Contains(told.Data, "chat") {
		t.Errorf("reason: got %q, want one for people", told.Data)
	}
	// 14, 19, 22, 23: who acts is the connection's user.
	eve.Do("createPrivateChat", people.Object{"initiatorUserId": ada.ID, "targetUserId": bob.ID})
	eve.Do("userEnterIdle", ada.ID)
	bob.Await("Eve idle", people.Is("userIsIdle", eve.ID))
	eve.Do("leaveChat", people.Object{"chatId": tea, "userName": "Ada"})
	refused("an event named disconnected", eve.Send("disconnected", people.Object{"reason": "bye"}))
	refused("an event named connect", eve.Send("connect", people.Object{}))
	// 16: the connection's user counts.
	eve.Do("joinChat", tea)
	if err := eve.Say(tea, "I am Ada", people.Object{"fromUserId": ada.ID, "fromUserName": "Ada"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "author", ada.Await("Eve's line", people.Text(tea, "I am Ada")).Author(), eve.ID)
	equal(t, "in the history", texts(ada, tea, 1), []string{"Eve: I am Ada"})
	// 17: a message of a person is not a notice, whatever it looks like.
	if err := eve.Conn.SendToGroup(t.Context(), tea, webpubsub.Text("Ada has left the chat"), wsclient.SendOptions{}); err != nil {
		t.Fatal(err)
	}
	notice, forged := ada.Await("Eve joining", people.Text(tea, "Eve has joined")), ada.Await("the forged notice", people.Text(tea, "Ada has left"))
	equal(t, "who they are from", []string{notice.Author(), forged.Author()}, []string{"", eve.ID})
	// 45: what a person says cannot be taken for what the service says: it is refused, and nobody hears it.
	for _, said := range []string{`{"message":"x","notificationType":"RoomClosed"}`, `{"chatEvent":"chatDeleted","data":"` + tea + `"}`, `{"Message":"x"}`, `{"message":"x","message":"y"}`} {
		refused(said, eve.Conn.SendToGroup(t.Context(), tea, webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(said)}, wsclient.SendOptions{}))
	}
	// 24: everybody who receives messages is listed as online.
	_, users := ada.Call("GET", "/api/users", nil)
	equal(t, "online", len(users["users"].(people.Object)), 3)
	// 34: nothing is delivered from a deleted chat.
	ada.Do("deleteChat", tea)
	refused("speaking in a deleted chat", eve.Say(tea, "still here"))
	// 26: a tab is not a person. Once Bob, who goes after Eve's second tab, is offline, so would she be.
	for _, g := range []*people.Page{eve.Tab(people.Reliable), bob.Page} {
		if err := g.Conn.Close(1000, ""); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, people.Patience, func() bool {
		conns, err := w.store.Connections(t.Context(), "default", eve.ID)
		return err == nil && len(conns) == 1
	}, "Eve's second tab is gone")
	ada.Await("Bob going", people.Is("userOffline", bob.ID))
	equal(t, "Eve going", ada.All(people.Is("userOffline", eve.ID)), nil)
	equal(t, "Ada idle", bob.All(people.Is("userIsIdle", ada.ID)), nil)
}

// TestGhostGoes leaves a connection in the store that no gateway has, as one whose gateway was killed does: fault 28.
func TestGhostGoes(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s settings) {
		w := start(t, s)
		ada, bob := w.come("Ada"), w.signIn("Bob")
		if _, err := w.store.Connect(t.Context(), "default", chat.Connection{ID: "ghost", UserID: bob.ID}); err != nil {
			t.Fatal(err)
		}
		ada.Await("Bob's ghost gone", people.Is("userOffline", bob.ID))
		if told := ada.All(people.Is("userOffline", ada.ID)); told != nil {
			t.Errorf("a person who is there is reported as gone: %v", told)
		}
	})
}

// TestClosedConnectionIsForgotten breaks a socket without a close frame.
func TestClosedConnectionIsForgotten(t *testing.T) {
	w := start(t, settings{})
	ada := w.come("Ada")
	stranger := w.signIn("Bob")
	_, body := stranger.Call("POST", "/api/negotiate", nil)
	page := must(people.Dial(t, body["url"].(string), people.Plain))(t)
	ada.Await("Bob", func(e people.Event) bool { return e.Name == "userOnline" && strings.Contains(e.Data, stranger.ID) })
	page.Conn.Drop()
	ada.Await("Bob gone", people.Is("userOffline", stranger.ID))
}

// TestSigningOut closes the person's sockets.
func TestSigningOut(t *testing.T) {
	w := start(t, settings{})
	ada := w.come("Ada")
	status, _ := ada.Call("GET", "/.auth/logout", nil)
	equal(t, "logout", status, 302)
	closed, err := ada.Conn.Wait(t.Context())
	if err != nil || closed == nil {
		t.Errorf("the socket: got %v, %v, want it closed", closed, err)
	}
	status, _ = ada.Call("POST", "/api/negotiate", nil)
	equal(t, "a new one", status, 401)
}

// TestBadInputDisturbsNobody sends an open page's worst.
func TestBadInputDisturbsNobody(t *testing.T) {
	w := start(t, settings{})
	ada, eve := w.come("Ada"), w.come("Eve")
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	for _, data := range []any{"", "\x00", strings.Repeat("x", 100_000), people.Object{}, []int{1}, 7, true, people.Object{"chatId": people.Object{}}} {
		for _, event := range []string{"createChat", "joinChat", "deleteChat", "createPrivateChat", "acceptChat", "blockUser", "unblockUser", "markRead", "nothing"} {
			if err := eve.Send(event, data); err == nil {
				t.Errorf("%s of %.20v: done, want a refusal", event, data)
			}
		}
	}
	if err := ada.Say(tea, "calm"); err != nil {
		t.Fatal(err)
	}
	ada.Await("the echo", people.Text(tea, "calm"))
	equal(t, "Ada is told of errors", ada.All(people.Named("error")), nil)
	if err := eve.Conn.Ping(t.Context()); err != nil {
		t.Errorf("Eve's own connection: %v", err)
	}
}
