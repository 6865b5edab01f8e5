package events

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/services/events/doors/invoke"
	"github.com/chatr-dev/chatr/services/events/rules"
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
	if err != nil || user.Name != "ana" || user.Provider != rules.ProviderToken {
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

	same(t, "a stranger adds", manage(eve, "Add", "eve"), invoke.CodeMayNotInRoom)
	same(t, "a stranger removes", manage(eve, "Delete", "ana"), invoke.CodeMayNotInRoom)
	same(t, "the operator adds", manage(ana, "Add", "bob"), "")
	for _, c := range []*conn{bob, bob2} {
		same(t, "joined", rooms(c.notified("RoomJoined")), []string{"r1"})
		same(t, "not of oneself", len(c.notified("RoomMemberJoined")), 0)
	}
	same(t, "others learn who", ana.notified("RoomMemberJoined"), []object{{"roomId": "r1", "title": "Tea", "userId": "bob"}})
	same(t, "and may speak at once", bob.send("r1", "hi"), "1")
	same(t, "adding again", manage(ana, "Add", "bob"), invoke.CodeAlreadyInRoom)
	same(t, "adding oneself again", manage(bob, "Add", "bob"), invoke.CodeAlreadyInRoom)
	same(t, "no second notification", len(bob.notified("RoomJoined")), 1)
	same(t, "a member adds somebody unknown", manage(bob, "Add", "zoe"), "")
	same(t, "members", w.members("r1"), []string{"ana", "bob", "zoe"})

	same(t, "a member removes", manage(bob, "Delete", "zoe"), invoke.CodeMayNotInRoom)
	same(t, "the operator removes", manage(ana, "Delete", "zoe"), "")
	same(t, "others learn who", bob.notified("RoomMemberLeft"), []object{{"roomId": "r1", "title": "Tea", "userId": "zoe"}})
	same(t, "removing again", manage(ana, "Delete", "zoe"), invoke.CodeNotInRoom)
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
	same(t, "a stranger", code, invoke.CodeNotInRoom)
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

// same is equal for what differs only in how it is held here.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	equal(t, what, got, want)
}
