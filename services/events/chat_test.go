package events

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/messagelog"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// chatWorld has three clients of the chat protocol, who are known by their tokens alone. All have logged in.
func chatWorld(t *testing.T) (w *world, ana, bob, eve *conn) {
	w = newWorld(t, Config{})
	clients := map[string]*conn{}
	for _, id := range []string{"ana", "bob", "eve"} {
		c := w.open(id+"1", id)
		c.mustInvoke("chat.login", "")
		clients[id] = c
	}
	return w, clients["ana"], clients["bob"], clients["eve"]
}

func (c *conn) send(room, text string) string {
	c.g.t.Helper()
	id, _ := c.mustInvoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c." + room}, "content": text})["id"].(string)
	return id
}

func texts(notifications []map[string]any) []string {
	var list []string
	for _, n := range notifications {
		m := n["message"].(map[string]any)
		list = append(list, m["messageId"].(string)+" "+m["content"].(map[string]any)["text"].(string))
	}
	return list
}

// rooms returns the room ids of notifications.
func rooms(notifications []map[string]any) []string {
	var list []string
	for _, n := range notifications {
		list = append(list, n["roomId"].(string))
	}
	return list
}

// checklist:H01
func TestChatLogin(t *testing.T) {
	w := newWorld(t, Config{})
	ana := w.open("a1", "ana")
	same(t, "a new user", ana.mustInvoke("chat.login", ""), map[string]any{"userId": "ana"})
	answer := ana.post(cloudevents.UserPrefix+"chat.login", "chat.login", cloudevents.TypeText, "")
	same(t, "as the client sends it", answer.Body.String(), `{"userId":"ana"}`)
	user, err := w.store.User(t.Context(), "default", "ana")
	if err != nil || user.Name != "ana" || user.Provider != providerToken {
		t.Errorf("user: got %+v, %v, want ana by token", user, err)
	}

	ana.mustInvoke("chat.createRoom", object{"title": "T", "roomId": "r1", "members": []string{"zoe"}})
	ana.mustInvoke("chat.createRoom", object{"title": "T", "roomId": "r2"})
	w.open("b1", "guest_bob").must("createPrivateChat", object{"targetUserId": "ana"})
	again := w.open("a2", "ana").mustInvoke("chat.login", "")
	same(t, "rooms, without the direct one", again["roomIds"], []string{"r1", "r2"})
	same(t, "conversations", again["conversationIds"], []string{"c.r1", "c.r2"})
	same(t, "who was named before coming", w.open("z1", "zoe").mustInvoke("chat.login", "")["roomIds"], []string{"r1"})
	for _, id := range again["roomIds"].([]any) { // the client asks for each, and gives up if one cannot be read
		same(t, "room", w.conns["a2"].mustInvoke("chat.getRoom", object{"id": id, "withMembers": false})["roomId"], id)
	}
}

// checklist:H02 H03
func TestChatRooms(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	ana2, bob2 := w.open("ana2", "ana"), w.open("bob2", "bob")

	single := ana.mustInvoke("chat.createRoom", object{"title": "  Alone ", "roomId": "room-id-1", "members": []string{"ana"}})
	same(t, "a room of one", single, object{
		"roomId": "room-id-1", "title": "Alone", "defaultConversationId": "c.room-id-1", "properties": nil, "members": []string{"ana"},
	})
	made := ana.mustInvoke("chat.createRoom", object{"title": "Tea", "members": []string{"bob", "zoe", "bob", "ana"}})
	id := made["roomId"].(string)
	if !chat.IsRoomID(id) || len(id) < 20 {
		t.Errorf("made-up room id: got %q, want one that nobody guesses", id)
	}
	same(t, "members", made["members"], []string{"ana", "bob", "zoe"})
	same(t, "the invoking connection hears nothing", len(ana.notified("RoomJoined")), 0)
	same(t, "the creator's other connection does", rooms(ana2.notified("RoomJoined")), []string{"room-id-1", id})
	for _, c := range []*conn{bob, bob2} {
		same(t, "each connection of a member once", c.notified("RoomJoined"), []object{
			{"roomId": id, "title": "Tea", "defaultConversationId": "c." + id, "properties": nil},
		})
	}
	same(t, "a stranger hears nothing", len(eve.notified("RoomJoined")), 0)
	same(t, "a stranger's page neither", len(eve.told("chatCreated")), 0)

	same(t, "without members", bob.mustInvoke("chat.getRoom", object{"id": id})["members"], nil)
	same(t, "with members", bob.mustInvoke("chat.getRoom", object{"id": id, "withMembers": true})["members"], []string{"ana", "bob", "zoe"})
}

// checklist:H04
func TestChatMembers(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	bob2 := w.open("bob2", "bob")
	manage := func(c *conn, operation, user string) string {
		t.Helper()
		result, code := c.invoke("chat.manageRoomMember", object{"roomId": "r1", "operation": operation, "userId": user})
		if code == "" {
			same(t, "result", result, object{})
		}
		return code
	}
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})

	same(t, "a stranger adds", manage(eve, "Add", "eve"), codeMayNotInRoom)
	same(t, "a stranger removes", manage(eve, "Delete", "ana"), codeMayNotInRoom)
	same(t, "the operator adds", manage(ana, "Add", "bob"), "")
	for _, c := range []*conn{bob, bob2} {
		same(t, "joined", rooms(c.notified("RoomJoined")), []string{"r1"})
		same(t, "not of oneself", len(c.notified("RoomMemberJoined")), 0)
	}
	same(t, "others learn who", ana.notified("RoomMemberJoined"), []object{{"roomId": "r1", "title": "Tea", "userId": "bob"}})
	same(t, "and may speak at once", bob.send("r1", "hi"), "1")
	same(t, "adding again", manage(ana, "Add", "bob"), codeAlreadyInRoom)
	same(t, "adding oneself again", manage(bob, "Add", "bob"), codeAlreadyInRoom)
	same(t, "no second notification", len(bob.notified("RoomJoined")), 1)
	same(t, "a member adds somebody unknown", manage(bob, "Add", "zoe"), "")
	same(t, "members", w.members("r1"), []string{"ana", "bob", "zoe"})

	same(t, "a member removes", manage(bob, "Delete", "zoe"), codeMayNotInRoom)
	same(t, "the operator removes", manage(ana, "Delete", "zoe"), "")
	same(t, "others learn who", bob.notified("RoomMemberLeft"), []object{{"roomId": "r1", "title": "Tea", "userId": "zoe"}})
	same(t, "removing again", manage(ana, "Delete", "zoe"), codeNotInRoom)
	same(t, "a member leaves", manage(bob, "Delete", "bob"), "")
	for _, c := range []*conn{bob, bob2} {
		same(t, "left", c.notified("RoomLeft"), []object{{"roomId": "r1", "title": "Tea"}})
		hear, speak := c.may("r1")
		same(t, "hears or speaks still", []bool{hear, speak}, []bool{false, false})
	}
	same(t, "the operator leaves", manage(ana, "Delete", "ana"), "")
	same(t, "members", len(w.members("r1")), 0)
}

// checklist:H05 H07
func TestChatMessages(t *testing.T) {
	w, ana, bob, eve := chatWorld(t)
	ana2 := w.open("ana2", "ana")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	same(t, "first id", ana.send("r1", "one"), "1")
	same(t, "next, of another", bob.send("r1", "two"), "2")
	same(t, "next", ana.send("r1", "three"), "3")
	same(t, "the sending connection hears the others", texts(ana.notified("MessageCreated")), []string{"2 two"})
	same(t, "the sender's other connection hears all", texts(ana2.notified("MessageCreated")), []string{"1 one", "2 two", "3 three"})
	same(t, "another member", texts(bob.notified("MessageCreated")), []string{"1 one", "3 three"})
	same(t, "a stranger", len(eve.notified("MessageCreated")), 0)

	n := bob.notified("MessageCreated")[0]
	m := n["message"].(map[string]any)
	at, err := time.Parse(time.RFC3339, m["createdAt"].(string))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("createdAt: got %v, want about now", m["createdAt"])
	}
	delete(m, "createdAt")
	same(t, "body", n, object{
		"conversation": object{"conversationId": "c.r1", "roomId": "r1", "topicId": nil},
		"message": object{
			"messageId": "1", "createdBy": "ana", "bodyType": "Text", "messageBodyType": "Inline",
			"content": object{"text": "one", "binary": nil}, "refMessageId": nil,
		},
	})

	bob.mustInvoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "message": "about one", "refMessageId": "1"})
	last := ana.notified("MessageCreated")[1]["message"].(map[string]any)
	same(t, "reference", last["refMessageId"], "1")
}

// checklist:H06
func TestChatHistory(t *testing.T) {
	_, ana, bob, eve := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	for i := range 5 {
		ana.send("r1", fmt.Sprintf("line %d", i+1))
	}
	query := func(more object) (ids []string, next any) {
		t.Helper()
		q := object{"conversation": object{"conversationId": "c.r1"}}
		for k, v := range more {
			q[k] = v
		}
		page := bob.mustInvoke("chat.queryMessageHistory", q)
		for _, m := range page["messages"].([]any) {
			m := m.(map[string]any)
			ids = append(ids, m["messageId"].(string))
			same(t, "text", m["content"].(map[string]any)["text"], "line "+ids[len(ids)-1])
		}
		return ids, page["nextQuery"]
	}
	for _, test := range []struct {
		query object
		want  string
		next  bool
	}{
		{object{}, "5 4 3 2 1", false},
		{object{"start": "0", "end": nil, "maxCount": 100}, "5 4 3 2 1", false},
		{object{"start": "2", "end": "4"}, "4 3 2", false},
		{object{"end": "3", "maxCount": 2}, "3 2", true},
		{object{"start": "2", "end": "3", "maxCount": 2}, "3 2", false},
		{object{"maxCount": 5}, "5 4 3 2 1", false},
		{object{"maxCount": nil}, "5 4 3 2 1", false},
		{object{"maxCount": 1_000_000}, "5 4 3 2 1", false},
		{object{"start": "6"}, "", false},
		{object{"start": strings.Repeat("9", 128)}, "", false},
		{object{"end": strings.Repeat("9", 128)}, "5 4 3 2 1", false},
		{object{"start": "4", "end": "2"}, "", false},
	} {
		ids, next := query(test.query)
		same(t, fmt.Sprintf("%v", test.query), strings.Join(ids, " "), test.want)
		same(t, fmt.Sprintf("%v has more", test.query), next != nil, test.next)
	}

	// A client sends the next query as it is, until there is none or a page is empty.
	q, pages := object{"start": "0", "maxCount": 2}, []string{}
	for {
		ids, next := query(q)
		pages = append(pages, strings.Join(ids, " "))
		if next == nil {
			break
		}
		q = next.(map[string]any)
	}
	same(t, "pages", pages, []string{"5 4", "3 2", "1"})
	_, code := eve.invoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1"}})
	same(t, "a stranger", code, codeNotInRoom)
}

// checklist:H05
func TestChatTwoSendersAtOnce(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	var mu sync.Mutex
	var ids []string
	var sending sync.WaitGroup
	const each = 20
	for _, c := range []*conn{ana, bob, w.open("ana2", "ana"), w.open("bob2", "bob")} {
		sending.Go(func() {
			for i := range each {
				id := c.send("r1", fmt.Sprint(c.id, i))
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	sending.Wait()
	slices.SortFunc(ids, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) })
	for i, id := range ids {
		same(t, "consecutive", id, fmt.Sprint(i+1))
	}
	same(t, "heard, each once", len(ana.notified("MessageCreated")), 3*each)
}

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
		{"no such invocation", "chat.getUserProperties", object{}, codeUnsupported},
		{"a reserved prefix", "chat.", object{}, codeUnsupported},

		{"not an object", "chat.getRoom", []string{"r1"}, codeInvalidRequest},
		{"null", "chat.getRoom", nil, codeInvalidRequest},
		{"no id", "chat.getRoom", object{}, codeInvalidRequest},
		{"a number as id", "chat.getRoom", object{"id": 1}, codeInvalidRequest},
		{"an object as id", "chat.getRoom", object{"id": object{"$ne": ""}}, codeInvalidRequest},
		{"a long id", "chat.getRoom", object{"id": strings.Repeat("r", 65)}, codeInvalidRequest},
		{"a flag that is a text", "chat.getRoom", object{"id": "r1", "withMembers": "true"}, codeInvalidRequest},
		{"unknown", "chat.getRoom", object{"id": "nowhere"}, codeRoomNotFound},
		{"no room id", "chat.getRoom", object{"id": "../r1"}, codeRoomNotFound},
		{"a room of others", "chat.getRoom", object{"id": "r1"}, codeNotInRoom},
		{"a public room one is not in", "chat.getRoom", object{"id": room1}, codeNotInRoom},
		{"a direct room", "chat.getRoom", object{"id": invitation.ID}, codeRoomNotFound},

		{"an id in use", "chat.createRoom", object{"title": "Mine", "roomId": "r1"}, codeRoomExists},
		{"the id of a public room", "chat.createRoom", object{"title": "Mine", "roomId": room1}, codeRoomExists},
		{"an id like a direct room's", "chat.createRoom", object{"title": "Mine", "roomId": "private_x"}, codeInvalidRequest},
		{"an id with a dot", "chat.createRoom", object{"title": "Mine", "roomId": "c.r1"}, codeInvalidRequest},
		{"an empty id", "chat.createRoom", object{"title": "Mine", "roomId": ""}, codeInvalidRequest},
		{"no title", "chat.createRoom", object{"roomId": "r2"}, codeInvalidRequest},
		{"markup in the title", "chat.createRoom", object{"title": "<img src=x>", "roomId": "r2"}, codeInvalidRequest},
		{"a title of a megabyte", "chat.createRoom", object{"title": strings.Repeat("x", 1<<19), "roomId": "r2"}, codeInvalidRequest},
		{"members that are no list", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": "bob"}, codeInvalidRequest},
		{"a member that is a number", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{7}}, codeInvalidRequest},
		{"an empty member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{""}}, codeInvalidUserID},
		{"a null member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{nil}}, codeInvalidUserID},
		{"a long member", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": []any{strings.Repeat("x", 129)}}, codeInvalidUserID},
		{"too many members", "chat.createRoom", object{"title": "T", "roomId": "r2", "members": make([]string, chat.MaxMembers+1)}, codeFailedCreateRoom},

		{"no user", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add"}, codeInvalidUserID},
		{"a user with NUL", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "a\x00b"}, codeInvalidUserID},
		{"another operation", "chat.manageRoomMember", object{"roomId": "r1", "operation": "add", "userId": "zoe"}, codeInvalidRequest},
		{"an unknown room", "chat.manageRoomMember", object{"roomId": "nowhere", "operation": "Add", "userId": "zoe"}, codeRoomNotFound},
		{"a direct room", "chat.manageRoomMember", object{"roomId": invitation.ID, "operation": "Add", "userId": "eve"}, codeRoomNotFound},
		{"letting oneself in", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "eve"}, codeMayNotInRoom},
		{"putting another into a public room", "chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "bob"}, codeMayNotInRoom},
		{"taking out where one is not", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"}, codeMayNotInRoom},
		{"leaving where one is not", "chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "eve"}, codeNotInRoom},

		{"no conversation", "chat.sendTextMessage", text, codeBadConversation},
		{"a conversation that is a text", "chat.sendTextMessage", object{"conversation": "c.r1", "content": "hi"}, codeInvalidRequest},
		{"a malformed conversation", "chat.sendTextMessage", to("r1", text), codeBadConversation},
		{"an unknown conversation", "chat.sendTextMessage", to("c.nowhere", text), codeBadConversation},
		{"a direct room's conversation", "chat.sendTextMessage", to("c."+invitation.ID, text), codeBadConversation},
		{"a conversation of others", "chat.sendTextMessage", to("c.r1", text), codeNotInRoom},
		{"no content", "chat.sendTextMessage", to("c.r1", object{}), codeInvalidRequest},
		{"an empty content", "chat.sendTextMessage", to("c.r1", object{"content": ""}), codeInvalidRequest},
		{"a content that is an object", "chat.sendTextMessage", to("c.r1", object{"content": object{"text": "hi"}}), codeInvalidRequest},
		{"a content with NUL", "chat.sendTextMessage", to("c.r1", object{"content": "a\x00b"}), codeInvalidRequest},
		{"64 KiB and one", "chat.sendTextMessage", to("c.r1", object{"content": strings.Repeat("x", 64<<10+1)}), codeInvalidRequest},

		{"a start that is a number", "chat.queryMessageHistory", to("c.r1", object{"start": 1}), codeInvalidRequest},
		{"a start that is no number", "chat.queryMessageHistory", to("c.r1", object{"start": "1; DROP TABLE messages"}), codeBadMessageID},
		{"a negative start", "chat.queryMessageHistory", to("c.r1", object{"start": "-1"}), codeBadMessageID},
		{"an empty end", "chat.queryMessageHistory", to("c.r1", object{"end": ""}), codeBadMessageID},
		{"129 digits", "chat.queryMessageHistory", to("c.r1", object{"end": strings.Repeat("1", 129)}), codeBadMessageID},
		{"no messages", "chat.queryMessageHistory", to("c.r1", object{"maxCount": 0}), codeInvalidRequest},
		{"half a message", "chat.queryMessageHistory", to("c.r1", object{"maxCount": 0.5}), codeInvalidRequest},
		{"a conversation of others", "chat.queryMessageHistory", to("c.r1", object{}), codeNotInRoom},
		{"an unknown conversation", "chat.queryMessageHistory", to("c.nowhere", object{}), codeBadConversation},
	} {
		result, code := eve.invoke(test.event, test.data)
		same(t, fmt.Sprintf("%s of %s (%v)", test.event, test.why, result["message"]), code, test.want)
	}
	for _, test := range []struct{ why, ref, want string }{
		{"no number", "one", codeBadMessageID}, {"not there", "7", codeMessageNotFound}, {"zero", "0", codeMessageNotFound},
	} {
		_, code := bob.invoke("chat.sendTextMessage", to("c.r1", object{"content": "hi", "refMessageId": test.ref}))
		same(t, "a reference that is "+test.why, code, test.want)
	}
	for operation, want := range map[string]string{"chat.manageRoomMember": codeMayNotInRoom, "chat.createRoom": codeMayNotCreateRoom} {
		_, code := ana.invoke(operation, object{"roomId": map[string]string{"chat.manageRoomMember": "r1", "chat.createRoom": "r9"}[operation],
			"operation": "Add", "userId": "eve", "title": "T", "members": []string{"eve"}})
		same(t, operation+" with who has blocked one", code, want)
	}
	same(t, "members, after all that", w.members("r1"), []string{"ana", "bob"})
	same(t, "nothing was heard", len(bob.notified("MessageCreated")), 1)

	for kind, body := range map[string]string{cloudevents.TypeText: `{"id":"r1"}`, cloudevents.TypeBinary: `{"id":"r1"}`} {
		_, code := ana.result(ana.post(cloudevents.UserPrefix+"chat.getRoom", "chat.getRoom", kind, body))
		same(t, "data as "+kind, code, codeUnsupportedFormat)
	}
	nobody := &conn{g: w.gateway, id: "n"}
	_, code := nobody.result(nobody.post(cloudevents.UserPrefix+"chat.login", "chat.login", cloudevents.TypeText, ""))
	same(t, "nobody", code, codeNoAnonymous)
	ghost := &conn{g: w.gateway, id: "gone", user: "ana"}
	_, code = ghost.result(ghost.post(cloudevents.UserPrefix+"chat.login", "chat.login", cloudevents.TypeText, ""))
	same(t, "a connection that is closed", code, codeLoginRequired)
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
	same(t, "posing as the system", code, codeUnsupported)
	// 34: nothing is said or heard in a room that is gone.
	ana.must("deleteChat", "r1")
	_, code = bob.invoke("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "content": "still here"})
	same(t, "speaking in a deleted room", code, codeBadConversation)
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

// What a gateway posts again, not knowing that it was done, is done once and answered alike.
func TestChatInvocationsPostedAgain(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	twice := func(name string, data any) map[string]any {
		t.Helper()
		w.mu.Lock()
		before := ana.nextID
		w.mu.Unlock()
		first := ana.mustInvoke(name, data)
		ana.nextID = before
		same(t, name+" again", ana.mustInvoke(name, data), first)
		return first
	}
	twice("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	twice("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "bob"})
	same(t, "message", twice("chat.sendTextMessage", object{"conversation": object{"conversationId": "c.r1"}, "content": "hi"})["id"], "1")
	same(t, "heard once", texts(bob.notified("MessageCreated")), []string{"1 hi"})
	same(t, "the next", ana.send("r1", "ho"), "2")
	twice("chat.manageRoomMember", object{"roomId": "r1", "operation": "Delete", "userId": "bob"})
	_, code := ana.invoke("chat.createRoom", object{"title": "Tea", "roomId": "r1"})
	same(t, "another event with the same data", code, codeRoomExists)
}

func TestChatWhenSomethingIsAway(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	down := func(is bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.down = is
	}
	down(true)
	same(t, "what is stored is said to be, although nobody heard it", ana.send("r1", "hello?"), "1")
	_, code := ana.invoke("chat.createRoom", object{"title": "Tea", "roomId": "r2"})
	same(t, "members could not be let in", code, codeInternalError)
	down(false)
	ana.nextID-- // the gateway tries again
	same(t, "tried again", ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r2"})["roomId"], "r2")
	page := bob.mustInvoke("chat.queryMessageHistory", object{"conversation": object{"conversationId": "c.r1"}})
	same(t, "history has it", len(page["messages"].([]any)), 1)

	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]object{"chat.login": {}, "chat.getRoom": {"id": "r1"}} {
		result, code := ana.invoke(name, data)
		same(t, name+" without a store", code, codeStorageUnavailable)
		if text := fmt.Sprint(result["message"]); strings.Contains(text, "sql") {
			t.Errorf("the fault tells of the inside: %s", text)
		}
	}
}

// A page says something by sending to the group, and clients of the chat protocol hear it when it has its place in the
// history; what they say pages hear as if another page had said it. Each line is in the history once.
//
// checklist:H07
func TestChatOneTruthBehindTheDoors(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ada := w.open("ada1", "guest_ada")
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob", "guest_ada"}})
	same(t, "a page is shown the room", len(ada.told("chatCreated")), 1)
	if !strings.Contains(ada.told("chatCreated")[0], `"kind":"private"`) {
		t.Errorf("chatCreated: got %s, want a private room", ada.told("chatCreated")[0])
	}
	if hear, speak := ada.may("r1"); !hear || !speak {
		t.Error("the page may not hear or speak")
	}

	ana.send("r1", "from a client")
	entry := messagelog.Entry{ID: "e1", Hub: hubKey, Group: "r1", ConnectionID: ada.id, FromUserID: "guest_ada", Time: time.Now(),
		Data: webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(`{"message":"from a page","key":"k1"}`)}}
	for range 2 { // the log hands it over at least once
		if err := w.s.remember(t.Context(), []messagelog.Entry{entry}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "bob hears both, in order, once", texts(bob.notified("MessageCreated")), []string{"1 from a client", "2 from a page"})
	same(t, "the page hears the client's line", texts(ada.notified("MessageCreated")), []string{"1 from a client"})
	line := ada.got[len(ada.got)-1]
	var said struct{ Message, FromUserID, FromUserName, Key string }
	if err := json.Unmarshal([]byte(line.body), &said); err != nil || line.group != "r1" {
		t.Fatalf("line: got %+v, %v", line, err)
	}
	stored, err := w.store.History(t.Context(), "default", "r1", "guest_ada", 0, 10)
	if err != nil || len(stored) != 2 {
		t.Fatalf("history: got %v, %v, want 2 lines", stored, err)
	}
	same(t, "as a line of a page", []string{said.Message, said.FromUserID, said.FromUserName, said.Key},
		[]string{"from a client", "ana", "ana", stored[0].Key})

	// The other way: a public chat of a page is a room of who joins it.
	ada.must("createChat", object{"id": room1, "name": "Open"})
	ana.mustInvoke("chat.manageRoomMember", object{"roomId": room1, "operation": "Add", "userId": "ana"})
	same(t, "joined", rooms(ana.notified("RoomJoined")), []string{room1})
	same(t, "the page sees who", len(ada.told("memberJoined")), 1)
	same(t, "its title", ana.mustInvoke("chat.getRoom", object{"id": room1})["title"], "Open")
	w.conns["ada1"].must("leaveChat", object{"chatId": room1})
	same(t, "the client sees who left", ana.notified("RoomMemberLeft"), []object{{"roomId": room1, "title": "Open", "userId": "guest_ada"}})
	bob.must("joinChat", room1)
	same(t, "the client sees who joined", ana.notified("RoomMemberJoined"), []object{{"roomId": room1, "title": "Open", "userId": "bob"}})
	ada.must("deleteChat", room1)
	same(t, "closed", ana.notified("RoomClosed"), []object{{"roomId": room1, "title": "Open"}})
}

var hubKey = webpubsub.HubKey{Tenant: "default", Hub: "chat"}

// Pages that nobody else listens with cost nothing more.
func TestChatNotifiesNobodyInVain(t *testing.T) {
	w := newWorld(t, Config{})
	ada, bob := w.open("a", "guest_ada"), w.open("b", "guest_bob")
	ada.must("createChat", object{"id": room1, "name": "Tea"})
	bob.must("joinChat", room1)
	entry := messagelog.Entry{ID: "e1", Hub: hubKey, Group: room1, ConnectionID: "a", FromUserID: "guest_ada", Time: time.Now(), Data: webpubsub.Text("hi")}
	if err := w.s.remember(t.Context(), []messagelog.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"MessageCreated", "RoomJoined", "RoomMemberJoined"} {
		same(t, kind, len(ada.notified(kind))+len(bob.notified(kind)), 0)
	}
}

// A client that comes back under another connection id does not log in again, and misses nothing.
func TestChatToleratesALoginThatIsMissing(t *testing.T) {
	w, ana, bob, _ := chatWorld(t)
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"bob"}})
	bob.close()
	back := w.open("bob2", "bob")
	ana.send("r1", "still there?")
	same(t, "hears", texts(back.notified("MessageCreated")), []string{"1 still there?"})
	same(t, "speaks", back.send("r1", "yes"), "2")
}

// Where pages of the original may be, which draw whatever comes from a group, notifications come from the server.
func TestChatBesidePagesOfTheOriginal(t *testing.T) {
	w := newWorld(t, Config{LegacyGuests: true})
	ana, page := w.open("a1", "ana"), w.open("p1", "0123456789")
	same(t, "nobody is called Guest who logs in", ana.mustInvoke("chat.login", "")["userId"], "ana")
	user, err := w.store.User(t.Context(), "default", "ana")
	if err != nil || user.Name != "ana" {
		t.Errorf("name: got %q, %v, want ana", user.Name, err)
	}
	ana.mustInvoke("chat.createRoom", object{"title": "Tea", "roomId": "r1", "members": []string{"0123456789"}})
	ana.mustInvoke("chat.manageRoomMember", object{"roomId": "r1", "operation": "Add", "userId": "zoe"})
	ana.send("r1", "hello")
	for _, m := range page.got {
		var line struct{ Message, FromUserName string }
		if m.group == "" || strings.HasPrefix(m.kind, "text/plain") {
			continue
		}
		if err := json.Unmarshal([]byte(m.body), &line); err != nil || line.Message != "hello" || line.FromUserName != "ana" {
			t.Errorf("the page is given %s to draw", m.body)
		}
	}
	same(t, "notified all the same", len(page.notified("RoomJoined")), 1)
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
	names := slices.Sorted(maps.Keys(w.s.invocations))
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		name := names[int(which)%len(names)]
		_, res := w.s.invoke(t.Context(), cloudevents.Event{
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

// same is equal for what differs only in how it is held here.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	equal(t, what, got, want)
}
