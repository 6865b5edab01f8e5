package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
)

// checklist:H08
func TestChatFaults(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	w.open("a", "guest_ada").must("createChat", object{"id": room1, "name": "Public"})
	bob.must("createPrivateChat", object{"targetUserId": "ana"})
	direct := ana.told("joinPrivateChat")[0]
	var invitation struct{ ID string }
	if err := json.Unmarshal([]byte(direct), &invitation); err != nil {
		t.Fatal(err)
	}
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	ana.send("r1", "secret")
	eve.must("blockUser", object{"userId": "ana"})

	to := func(conversation any, more object) object {
		q := object{"conversation": object{"conversationId": conversation}}
		for k, v := range more {
			q[k] = v
		}
		return q
	}
	text := object{"content": "hi"}
	for _, test := range []struct {
		why, event string
		data       any
		want       string
	}{
		{"no such invocation", "chat.getUserProperties", object{}, invoke.CodeUnsupported},
		{"a reserved prefix", "chat.", object{}, invoke.CodeUnsupported},

		{"not an object", "chat.getRoom", []string{"r1"}, invoke.CodeInvalidRequest},
		{"null", "chat.getRoom", nil, invoke.CodeInvalidRequest},
		{"no id", "chat.getRoom", object{}, invoke.CodeInvalidRequest},
		{"a number as id", "chat.getRoom", object{"id": 1}, invoke.CodeInvalidRequest},
		{"an object as id", "chat.getRoom", object{"id": object{"$ne": ""}}, invoke.CodeInvalidRequest},
		{"a long id", "chat.getRoom", object{"id": strings.Repeat("r", 65)}, invoke.CodeInvalidRequest},
		{"a flag that is a text", "chat.getRoom", object{"id": "r1", "withMembers": "true"}, invoke.CodeInvalidRequest},
		{"unknown", "chat.getRoom", object{"id": "nowhere"}, invoke.CodeRoomNotFound},
		{"no room id", "chat.getRoom", object{"id": "../r1"}, invoke.CodeRoomNotFound},
		{"a room of others", "chat.getRoom", object{"id": "r1"}, invoke.CodeNotInRoom},
		{"a public room one is not in", "chat.getRoom", object{"id": room1}, invoke.CodeNotInRoom},
		{"a direct room", "chat.getRoom", object{"id": invitation.ID}, invoke.CodeRoomNotFound},

		{"an id in use", "chat.createRoom", object{"title": "Mine", "roomId": "r1"}, invoke.CodeRoomExists},
		{"the id of a public room", "chat.createRoom", object{"title": "Mine", "roomId": room1}, invoke.CodeRoomExists},
		{"an id like a direct room's", "chat.createRoom", object{"title": "Mine", "roomId": "private_x"}, invoke.CodeInvalidRequest},
		{"an id with a dot", "chat.createRoom", object{"title": "Mine", "roomId": "c.r1"}, invoke.CodeInvalidRequest},
		{"an empty id", "chat.createRoom", object{"title": "Mine", "roomId": ""}, invoke.CodeInvalidRequest},
		{"no title", "chat.createRoom", object{"roomId": "r2"}, invoke.CodeInvalidRequest},
		{"markup in the title", "chat.createRoom", object{"title": "<img src=x>", "roomId": "r2"}, invoke.CodeInvalidRequest},
		{"a title of a megabyte", "chat.createRoom", object{"title": strings.Repeat("x", 1<<19), "roomId": "r2"}, invoke.CodeInvalidRequest},
		{"members that are no list", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": "bob"}, invoke.CodeInvalidRequest},
		{"a member that is a number", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{7}}, invoke.CodeInvalidRequest},
		{"an empty member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{""}}, invoke.CodeInvalidUserID},
		{"a null member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{nil}}, invoke.CodeInvalidUserID},
		{"a long member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{strings.Repeat("x", 129)}}, invoke.CodeInvalidUserID},
		{"too many members", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": make([]string, chat.MaxMembers+1)}, invoke.CodeFailedCreateRoom},

		{"no user", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add"}, invoke.CodeInvalidUserID},
		{"a user with NUL", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "a\x00b"}, invoke.CodeInvalidRequest},
		{"another operation", "chat.manageRoomMember", object{"roomId": "r1", "operation": "add", "userId": "zoe"}, invoke.CodeInvalidRequest},
		{"an unknown room", "chat.manageRoomMember", object{"roomId": "nowhere", "operation": "Add", "userId": "zoe"}, invoke.CodeRoomNotFound},
		{"a direct room", "chat.manageRoomMember", object{"roomId": invitation.ID, "operation": "Add", "userId": "eve"}, invoke.CodeRoomNotFound},
		{"letting oneself in", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "eve"}, invoke.CodeMayNotInRoom},
		{"putting another into a public room", "chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "bob"}, invoke.CodeMayNotInRoom},
		{"taking out where one is not", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"}, invoke.CodeMayNotInRoom},
		{"leaving where one is not", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "eve"}, invoke.CodeNotInRoom},

		{"no conversation", "chat.sendTextMessage", text, invoke.CodeBadConversation},
		{"a conversation that is a text", "chat.sendTextMessage", object{"conversation": "c.r1", "content": "hi"}, invoke.CodeInvalidRequest},
		{"a malformed conversation", "chat.sendTextMessage", to("r1", text), invoke.CodeBadConversation},
		{"an unknown conversation", "chat.sendTextMessage", to("c.nowhere", text), invoke.CodeBadConversation},
		{"a direct room's conversation", "chat.sendTextMessage", to("c."+invitation.ID, text), invoke.CodeBadConversation},
		{"a conversation of others", "chat.sendTextMessage", to("c.r1", text), invoke.CodeNotInRoom},
		{"a message in an unknown conversation", "chat.sendTextMessage", to("c.nowhere", object{"content": "hi", "refMessageId": "1"}), invoke.CodeBadConversation},
		{"a message of others", "chat.sendTextMessage", to("c.r1", object{"content": "hi", "refMessageId": "1"}), invoke.CodeNotInRoom},
		{"a message that others do not have", "chat.sendTextMessage", to("c.r1", object{"content": "hi", "refMessageId": "7"}), invoke.CodeNotInRoom},
		{"no content", "chat.sendTextMessage", to("c.r1", object{}), invoke.CodeInvalidRequest},
		{"an empty content", "chat.sendTextMessage", to("c.r1", object{"content": ""}), invoke.CodeInvalidRequest},
		{"a content that is an object", "chat.sendTextMessage", to("c.r1", object{"content": object{"text": "hi"}}), invoke.CodeInvalidRequest},
		{"a content with NUL", "chat.sendTextMessage", to("c.r1", object{"content": "a\x00b"}), invoke.CodeInvalidRequest},
		{"64 KiB and one", "chat.sendTextMessage", to("c.r1", object{"content": strings.Repeat("x", 64<<10+1)}), invoke.CodeInvalidRequest},

		{"a start that is a number", "chat.queryMessageHistory", to("c.r1", object{"start": 1}), invoke.CodeInvalidRequest},
		{"a start that is no number", "chat.queryMessageHistory", to("c.r1", object{"start": "1; DROP TABLE messages"}), invoke.CodeBadMessageID},
		{"a negative start", "chat.queryMessageHistory", to("c.r1", object{"start": "-1"}), invoke.CodeBadMessageID},
		{"an empty end", "chat.queryMessageHistory", to("c.r1", object{"end": ""}), invoke.CodeBadMessageID},
		{"129 digits", "chat.queryMessageHistory", to("c.r1", object{"end": strings.Repeat("1", 129)}), invoke.CodeBadMessageID},
		{"no messages", "chat.queryMessageHistory", to("c.r1", object{"maxCount": 0}), invoke.CodeInvalidRequest},
		{"half a message", "chat.queryMessageHistory", to("c.r1", object{"maxCount": 0.5}), invoke.CodeInvalidRequest},
		{"a conversation of others", "chat.queryMessageHistory", to("c.r1", object{}), invoke.CodeNotInRoom},
		{"an unknown conversation", "chat.queryMessageHistory", to("c.nowhere", object{}), invoke.CodeBadConversation},
	} {
		result, code := eve.invoke(test.event, test.data)
		same(t, fmt.Sprintf("%s of %s (%v)", test.event, test.why, result["message"]), code, test.want)
	}
	for _, test := range []struct{ why, ref, want string }{
		{"no number", "one", invoke.CodeBadMessageID}, {"not there", "7", invoke.CodeMessageNotFound}, {"zero", "0", invoke.CodeMessageNotFound},
	} {
		_, code := bob.invoke("chat.sendTextMessage", to("c.r1", object{"content": "hi", "refMessageId": test.ref}))
		same(t, "a reference that is "+test.why, code, test.want)
	}
	for operation, want := range map[string]string{"chat.manageRoomMember": invoke.CodeMayNotInRoom, "chat.createRoom": invoke.CodeMayNotCreateRoom} {
		_, code := ana.invoke(operation, object{"roomId": map[string]string{"chat.manageRoomMember": "r1", "chat.createRoom": "r9"}[operation],
			"operation": "Add", "userId": "eve", "title": "T", "members": []string{"eve"}})
		same(t, operation+" with who has blocked one", code, want)
	}
	same(t, "members, after all that", w.members("r1"), []string{"ana", "bob"})
	same(t, "nothing was heard", len(bob.notified("MessageCreated")), 1)

	for kind, body := range map[string]string{cloudevents.TypeText: `{"id":"r1"}`, cloudevents.TypeBinary: `{"id":"r1"}`} {
		_, code := ana.result(ana.post(cloudevents.UserPrefix+"chat.getRoom", "chat.getRoom", kind, body))
		same(t, "data as "+kind, code, invoke.CodeUnsupportedFormat)
	}
	nobody := &conn{g: w.gateway, id: "n"}
	_, code := nobody.result(nobody.post(cloudevents.UserPrefix+"chat.login", "chat.login", cloudevents.TypeText, ""))
	same(t, "nobody", code, invoke.CodeNoAnonymous)
	ghost := &conn{g: w.gateway, id: "gone", user: "ana"}
	_, code = ghost.result(ghost.post(cloudevents.UserPrefix+"chat.login", "chat.login", cloudevents.TypeText, ""))
	same(t, "a connection that is closed", code, invoke.CodeLoginRequired)
	if w.logs.Len() > 0 {
		t.Errorf("faults of clients are logged: %.500s", w.logs)
	}
}

// The faults of security-faults that have a door here: each is tried.
func TestChatFaultClasses(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	forged := object{"userId": "bob", "createdBy": "bob", "fromUserId": "bob", "ownerId": "bob", "roleName": "room.operator", "roles": []string{"room.operator"}}
	with := func(more object) object {
		all := object{}
		for _, m := range []object{forged, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	// 1, 14, 16: who acts is the connection's user, whatever the payload says.
	same(t, "login as another", ana.mustInvoke("chat.login", forged)["userId"], "ana")
	ana.mustInvoke("chat.createRoom", with(object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}}))
	room, err := w.store.Room(t.Context(), "default", "r1")
	if err != nil || room.OwnerID != "ana" {
		t.Errorf("owner: got %q, %v, want ana", room.OwnerID, err)
	}
	ana.mustInvoke("chat.sendTextMessage", with(object{"conversation": object{"conversationId": "c.r1", "roomId": "r2"}, "content": "I am bob"}))
	said := bob.notified("MessageCreated")[0]
	same(t, "author", said["message"].(map[string]any)["createdBy"], "ana")
	same(t, "room", said["conversation"].(map[string]any)["roomId"], "r1")
	// 2, 10, 11, 25: neither a guessed id nor a room of the same id lets anybody in or shows anything.
	for name, data := range map[string]object{
		"chat.getRoom": {"id": "r1", "withMembers": true}, "chat.createRoom": {"title": "Tea", "roomId": "r1", "members": []string{"eve"}},
		"chat.manageRoomMember":    {"roomId": "r1", "operation": "Add", "userId": "eve"},
		"chat.sendTextMessage":     {"conversation": object{"conversationId": "c.r1"}, "content": "let me in"},
		"chat.queryMessageHistory": {"conversation": object{"conversationId": "c.r1"}},
	} {
		result, code := eve.invoke(name, data)
		if text := fmt.Sprint(result); code == "" || strings.Contains(text, "Tea") || strings.Contains(text, "bob") {
			t.Errorf("%s by a stranger: got %v, want a fault that tells nothing", name, result)
		}
	}
	eve.event("joinChat", "r1") // 11: nor the page's door
	hear, speak := eve.may("r1")
	same(t, "eve hears or speaks", []bool{hear, speak}, []bool{false, false})
	// 12: only its owner deletes a room, by the page's door, which is the only one that can.
	same(t, "another deletes", bob.event("deleteChat", "r1"), http.StatusForbidden)
	// 3, 4, 5: titles and names hold no markup; a text is only ever a text.
	ana.send("r1", "<script>alert(1)</script>")
	same(t, "text", texts(bob.notified("MessageCreated"))[1], "2 <script>alert(1)</script>")
	w.open("x", "<img src=x>").mustInvoke("chat.login", "")
	user, err := w.store.User(t.Context(), "default", "<img src=x>")
	if err != nil || strings.ContainsAny(user.Name, "<>") {
		t.Errorf("name: got %q, %v, want one without markup", user.Name, err)
	}
	// 23: a client's event is no system event, whatever its name.
	_, code := eve.invoke("chat.azure.webpubsub.sys.disconnected", object{})
	same(t, "posing as the system", code, invoke.CodeUnsupported)
	// 34: nothing is said or heard in a room that is gone.
	ana.must("deleteChat", "r1")
	_, code = bob.invoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "content": "still here"})
	same(t, "speaking in a deleted room", code, invoke.CodeBadConversation)
	hear, speak = bob.may("r1")
	same(t, "bob hears or speaks", []bool{hear, speak}, []bool{false, false})
	same(t, "a stranger is not told of its end", len(eve.told("chatDeleted")), 0)
}

func TestChatFloodIsStopped(t *testing.T) {
	w := newWorld(t, Config{EventsPerSecond: 1})
	ana, bob := w.open("a", "ana"), w.open("b", "bob")
	stopped := false
	for range 3 * chat.MaxMemberships {
		if w := ana.post(cloudevents.UserPrefix+"chat.getRoom", "chat.getRoom", cloudevents.TypeText, ""); w.Code == http.StatusTooManyRequests {
			stopped = true
			break
		}
	}
	same(t, "stopped", stopped, true)
	bob.mustInvoke("chat.login", "") // nobody else notices
}

// FuzzChatInvocations looks for data that is answered by anything but a result or a fault of the client's.
func FuzzChatInvocations(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `{"id":"r1","withMembers":true}`, `{"title":"T","members":["bob"],"roomId":"x"}`,
		`{"roomId":"r1","operation":"Add","userId":"bob"}`, `{"conversation":{"conversationId":"c.r1"},"content":"hi","refMessageId":"1"}`,
		`{"conversation":{"conversationId":"c.r1"},"start":"0","end":"99999999999999999999","maxCount":1}`,
	} {
		for which := range uint8(6) {
			f.Add(which, seed)
		}
	}
	w := newWorld(f, Config{EventsPerSecond: 1 << 20})
	ana := w.open("a", "ana")
	ana.mustInvoke("chat.createRoom", object{"title": "T", "roomId": "r1"})
	names := []string{"chat.createRoom", "chat.getRoom", "chat.login", "chat.manageRoomMember", "chat.queryMessageHistory", "chat.sendTextMessage"}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		name := names[int(which)%len(names)]
		_, res := w.s.invoke.Handle(t.Context(), cloudevents.Event{
			Type: cloudevents.UserPrefix + name, Name: name, Hub: "chat", ConnectionID: "a", UserID: "ana",
			ID: uint64(time.Now().UnixNano()), ContentType: cloudevents.TypeJSON, Body: []byte(body),
		})
		var answer map[string]any
		if err := json.Unmarshal(res.Body, &answer); err != nil {
			t.Fatalf("%s %q: got %q, want a JSON object", name, body, res.Body)
		}
		_, faulty := answer["code"].(string)
		if faulty != (res.Status != http.StatusOK) || res.Status >= http.StatusInternalServerError {
			t.Errorf("%s %q: got %d %q, want a result or a fault of the client's", name, body, res.Status, res.Body)
		}
	})
}
