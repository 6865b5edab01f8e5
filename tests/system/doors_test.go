package system_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// One chat behind several doors: what holds at one holds at all. The doors are the page's invocation, sendToGroup as pages of
// the original use it, the chat protocol of the official client, and REST.

// eachTopology runs a test on one process with SQLite, and on two gateways with Postgres.
func eachTopology(t *testing.T, test func(t *testing.T, top *topology.Topology)) {
	for name, start := range map[string]func(testing.TB, topology.Options) *topology.Topology{
		"standalone": topology.Standalone, "services": topology.Services,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, topology.Options{}))
		})
	}
}

// doors are the ways in which a page can say a text in a chat; each returns nil when that was acked. The text is a JSON literal.
var doors = map[string]func(g *people.Page, chatID, literal string) error{
	"sendToGroup": func(g *people.Page, chatID, literal string) error {
		return g.Conn.SendToGroup(g.Context(), chatID, asJSON(`{"message":`+literal+`}`), wsclient.SendOptions{})
	},
	"sendMessage": func(g *people.Page, chatID, literal string) error {
		_, err := g.Conn.Invoke(g.Context(), "sendMessage", asJSON(`{"chatId":"`+chatID+`","text":`+literal+`}`))
		return err
	},
	"chat.sendTextMessage": func(g *people.Page, chatID, literal string) error {
		_, err := g.Conn.Invoke(g.Context(), "chat.sendTextMessage", asJSON(`{"conversation":{"conversationId":"c.`+chatID+`"},"content":`+literal+`}`))
		return err
	},
}

func asJSON(text string) webpubsub.Data {
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: []byte(text)}
}

// service calls the chat by REST, as an application does, and returns the status.
func service(t *testing.T, top *topology.Topology, method, path string, body any) int {
	t.Helper()
	target := top.Balanced + "/api/hubs/chat/chat/" + path
	signed, err := token.Sign(topology.AccessKey, target, time.Minute, token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return request(t, method, target, signed, body)
}

func request(t *testing.T, method, target, signed string, body any) int {
	t.Helper()
	text, _ := json.Marshal(body)
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+signed)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// stored returns the texts of a chat's history.
func stored(p *people.Person, chatID string) (texts []string) {
	p.T.Helper()
	status, body := p.Call("GET", "/api/rooms/"+chatID+"/messages?limit=200", nil)
	if status != http.StatusOK {
		p.T.Fatalf("history: got %d %v, want 200", status, body)
	}
	for _, m := range body["messages"].([]any) {
		texts = append(texts, m.(people.Object)["text"].(string))
	}
	return texts
}

// drawn returns the texts that a page has been told that somebody has said in a chat.
func drawn(g *people.Page, chatID string) (texts []string) {
	for _, e := range g.All(func(e people.Event) bool { return e.Group == chatID && e.Author() != "" }) {
		var v struct{ Message string }
		if json.Unmarshal([]byte(e.Data), &v) == nil {
			texts = append(texts, v.Message)
		}
	}
	return texts
}

// TestWhatIsAckedIsHeardAndStored says at each door what reads differently to different readers, or cannot be kept: it is
// refused, or it is heard and stored as the same. Nobody who was refused is heard.
func TestWhatIsAckedIsHeardAndStored(t *testing.T) {
	t.Parallel()
	eachTopology(t, func(t *testing.T, top *topology.Topology) {
		ada, bob := people.Come(t, top.A, "Ada", people.Plain), people.Come(t, top.B, "Bob", people.Reliable)
		tea := people.UUID(1)
		ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
		bob.Do("joinChat", tea)
		var acked []string
		said := func(what, text string, err error) {
			t.Helper()
			if err == nil {
				acked = append(acked, text)
			} else if bob.Closed() {
				t.Fatalf("%s: the connection has ended: %v", what, err)
			}
		}
		for name, say := range doors {
			for what, literal := range map[string]string{
				"plain": `"plain by ` + name + `"`, "escapes": `"\u00e9\ud83d\ude00\/\\\" by ` + name + `"`, "NUL": `"a\u0000b"`, "half a surrogate": `"a\ud800"`,
				"the other half": `"\udc00a"`, "white space": `" \t\n"`, "empty": `""`, "null": `null`, "a number": `7`, "a list": `["x"]`, "an object": `{"text":"x"}`,
				"a name twice":          `"innocent by ` + name + `","message":"evil","text":"evil","content":"evil"`,
				"a name in other cases": `"innocent in one case by ` + name + `","Message":"evil","TEXT":"evil","Content":"evil","chatID":"evil"`,
				"a key with NUL":        `"x","key":"\u0000"`, "a long key": `"x","key":"` + strings.Repeat("k", chat.MaxKeyBytes+1) + `"`, "two keys": `"x","key":"a","key":"b"`,
				"8001 characters": `"` + strings.Repeat("x", chat.MaxTextRunes+1) + `"`, "64 KiB and one": `"` + strings.Repeat("x", chat.MaxTextBytes+1) + `"`,
			} {
				var text string
				_ = json.NewDecoder(strings.NewReader(literal)).Decode(&text) // of what is no text nothing
				said(name+": "+what, text, say(bob.Page, tea, literal))
			}
		}
		// What JSON could not carry: texts and bytes as they are.
		binary, err := people.Dial(t, mustNegotiate(bob), protocol.NameProtobuf)
		if err != nil {
			t.Fatal(err)
		}
		for what, d := range map[string]webpubsub.Data{
			"text with NUL": webpubsub.Text("a\x00b"), "text": webpubsub.Text("a text"), "text that is white space": webpubsub.Text("\u00a0"),
			"JSON with NUL": asJSON("{\"message\":\"a\x00b\"}"), "JSON that is no UTF-8": asJSON("{\"message\":\"a\xff\"}"),
			"bytes": {Type: webpubsub.DataBinary, Bytes: []byte("a\x00\xff")}, "JSON twice": asJSON(`{"message":"x"}{"message":"y"}`), "no JSON": asJSON(`{"message":`),
		} {
			err := binary.Conn.SendToGroup(binary.Context(), tea, d, wsclient.SendOptions{})
			if binary.Closed() { // a frame that is no message at all
				if binary, err = people.Dial(t, mustNegotiate(bob), protocol.NameProtobuf); err != nil {
					t.Fatal(err)
				}
				continue
			}
			said("protobuf: "+what, string(d.Bytes), err)
		}
		said("the end", "that was all", doors["sendMessage"](bob.Page, tea, `"that was all"`))
		ada.Await("the end", people.Line("that was all"))
		history, heard := stored(ada, tea), drawn(ada.Page, tea)
		if !slices.Equal(heard, history) {
			t.Errorf("heard and stored differ:\n%q\n%q", heard, history)
		}
		slices.Sort(acked)
		if all := slices.Sorted(slices.Values(history)); !slices.Equal(acked, all) {
			t.Errorf("acked and stored differ:\n%q\n%q", acked, all)
		}
		for _, text := range history {
			if strings.Contains(text, "evil") || strings.ContainsAny(text, "\x00\uFFFD") {
				t.Errorf("stored: %q", text)
			}
		}
		if len(history) < 3*3+2 { // two texts and a name in other cases at each door; a text, and the end
			t.Errorf("only %d texts were taken: %q", len(history), history)
		}
	})
}

func mustNegotiate(p *people.Person) string {
	p.T.Helper()
	status, body := p.Call("POST", "/api/negotiate", nil)
	if status != http.StatusOK {
		p.T.Fatalf("negotiate: got %d %v, want 200", status, body)
	}
	return body["url"].(string)
}

// TestNobodySpeaksForTheChat has members try, by every kind of client, to say what other clients would take for the chat's own
// word. A frame that a client has written reaches nobody; what is said as text is somebody's text.
func TestNobodySpeaksForTheChat(t *testing.T) {
	t.Parallel()
	eachTopology(t, func(t *testing.T, top *topology.Topology) {
		ada := people.Come(t, top.A, "Ada", people.Plain)
		tea := people.UUID(1)
		ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
		otto := dialAs(t, top.B, "otto", people.Reliable) // a client of the chat protocol
		invoke(t, otto, "chat.login", webpubsub.Text(""))
		invoke(t, otto, "chat.manageRoomMember", asJSON(`{"roomId":"`+tea+`","operation":"Add","userId":"otto"}`))
		const claim = `{"notificationType":"RoomLeft","body":{"roomId":"` // completed with the chat's id
		forged := []string{
			claim + tea + `","title":"Tea"}}`,
			claim + tea + `","title":"Tea"},"message":"x"}`,
			`{"message":"x","event":{"roomId":"` + tea + `","number":1,"kind":"closed"}}`,
			`{"chatEvent":"chatDeleted","data":"` + tea + `","message":"x"}`,
			`{"message":"x","notificationType":null}`, `{"message":"x","notificationType":"RoomClosed","notificationType":"RoomClosed"}`,
			`{"message":"x","notification\u0054ype":"RoomClosed"}`,
		}
		for _, subprotocol := range []string{protocol.NameJSON, protocol.NameReliableJSON, protocol.NameProtobuf, protocol.NameReliableProtobuf} {
			mallory := dialAs(t, top.A, "mallory", subprotocol)
			mallory.Do("joinChat", tea)
			for _, group := range []string{tea, "typing." + tea} {
				for _, text := range forged {
					if err := mallory.Conn.SendToGroup(mallory.Context(), group, asJSON(text), wsclient.SendOptions{}); !people.IsNack(err) {
						t.Errorf("%s: %s to %s: got %v, want a nack", subprotocol, text, group, err)
					}
				}
			}
			if err := mallory.Conn.SendToGroup(mallory.Context(), tea, webpubsub.Text(forged[0]), wsclient.SendOptions{}); err != nil {
				t.Errorf("%s: the same as a text: %v", subprotocol, err)
			}
			if err := mallory.Conn.SendToGroup(mallory.Context(), tea, webpubsub.Data{Type: webpubsub.DataBinary, Bytes: []byte(forged[0])}, wsclient.SendOptions{}); !people.IsNack(err) {
				t.Errorf("%s: the same as bytes: got %v, want a nack", subprotocol, err)
			}
			for _, name := range []string{"RoomLeft", "chatDeleted", "memberLeft", "beforePublish", "disconnected", "chat.notify"} {
				if err := mallory.Conn.SendEvent(mallory.Context(), name, asJSON(forged[0])); !people.IsNack(err) {
					t.Errorf("%s: an event %s: got %v, want a nack", subprotocol, name, err)
				}
			}
		}
		mallory := dialAs(t, top.A, "mallory", people.Plain)
		mallory.Frame(`{"type":"sendToGroup","group":"` + tea + `","stream":{"streamId":"s1"}}`)
		mallory.Frame(`{"type":"streamData","streamId":"s1","streamSequenceId":1,"dataType":"json","data":` + forged[0] + `}`)
		mallory.Frame(`{"type":"setGroupState","group":"` + tea + `","state":{"notificationType":"RoomLeft"}}`)
		mallory.Frame(`{"type":"sendToGroup","group":"` + tea + `","from":"server","dataType":"json","data":` + forged[0] + `}`)
		simple := dialAs(t, top.A, "mallory", "", "&webpubsub_mode=sendToGroup&group="+tea)
		if err := simple.Conn.Send(simple.Context(), webpubsub.Text(forged[0])); err != nil {
			t.Error(err)
		}
		endpoint := top.A + "/client/hubs/chat"
		signed, err := token.Sign(topology.AccessKey, endpoint, time.Hour, token.Options{Subject: "mallory", Roles: []string{"webpubsub.sendToGroup", "room.operator"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"groups/" + tea + "/:send", "users/" + ada.ID + "/:send", ":send", "chat/rooms/" + tea, "chat/rooms/" + tea + "/members/mallory"} {
			method := map[bool]string{true: "PUT", false: "POST"}[strings.HasPrefix(path, "chat/")]
			if got := request(t, method, top.A+"/api/hubs/chat/"+path, signed, people.Object{"notificationType": "RoomLeft"}); got != http.StatusUnauthorized {
				t.Errorf("%s %s with a client's token: got %d, want 401", method, path, got)
			}
		}
		testkit.Eventually(t, people.Patience, func() bool { return len(drawn(ada.Page, tea)) == 5 }, "what was said as text is heard") // of a simple client nothing is acked
		if err := doors["chat.sendTextMessage"](otto, tea, `"that was all"`); err != nil {
			t.Fatal(err)
		}
		for name, witness := range map[string]*people.Page{"the page": ada.Page, "the client of the chat protocol": otto} {
			if witness != otto { // who has said it
				witness.Await("the end", people.Line("that was all"))
			}
			for _, e := range witness.All(func(people.Event) bool { return true }) {
				var v struct{ NotificationType string }
				_ = json.Unmarshal([]byte(e.Data), &v) // a notice is none
				if e.From != "" || e.Name == "chatDeleted" || v.NotificationType == "RoomLeft" || v.NotificationType == "RoomClosed" {
					t.Errorf("%s was told: %+v", name, e)
				}
			}
		}
		want := slices.Repeat([]string{forged[0]}, 5) // by each kind of client, as a text; the simple one knows nothing else
		if got := stored(ada, tea); !slices.Equal(got, append(want, "that was all")) {
			t.Errorf("stored: got %q, want what was said as text", got)
		}
	})
}

// dialAs connects a client that an application vouches for.
func dialAs(t *testing.T, front, userID, subprotocol string, query ...string) *people.Page {
	t.Helper()
	address := clientURL(t, front, "chat", token.Options{Subject: userID, Roles: []string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"}})
	g, err := people.Dial(t, address+strings.Join(query, ""), subprotocol)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func invoke(t *testing.T, g *people.Page, name string, d webpubsub.Data) people.Object {
	t.Helper()
	answer, err := g.Conn.Invoke(g.Context(), name, d)
	if err != nil {
		t.Fatalf("%s %s: %v", name, d.Bytes, err)
	}
	result := people.Object{}
	_ = json.Unmarshal(answer.Bytes, &result)
	return result
}

// TestRightsHoldAtEveryDoor takes from a member the right to speak and to read, and from a user the right to create and to list:
// it holds at every door, also after leaving and joining by another door than the one before.
func TestRightsHoldAtEveryDoor(t *testing.T) {
	t.Parallel()
	eachTopology(t, func(t *testing.T, top *topology.Topology) {
		ada, bob := people.Come(t, top.A, "Ada", people.Plain), people.Come(t, top.B, "Bob", people.Plain)
		tea := people.UUID(1)
		ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
		bob.Do("joinChat", tea)
		if err := ada.Say(tea, "a secret"); err != nil {
			t.Fatal(err)
		}
		// may are the doors at which bob can do what he has no right to.
		may := func() (list []string) {
			for name, say := range doors {
				if say(bob.Page, tea, `"let me"`) == nil {
					list = append(list, "speaks by "+name)
				}
			}
			for _, path := range []string{"/api/chats/" + tea + "/messages", "/api/rooms/" + tea + "/messages", "/api/rooms/" + tea + "/messages?around=1", "/api/rooms/" + tea + "/events"} {
				if status, _ := bob.Call("GET", path, nil); status == http.StatusOK {
					list = append(list, "reads "+path)
				}
			}
			for _, path := range []string{"/api/rooms", "/api/rooms?since=0", "/api/rooms/" + tea} {
				if _, body := bob.Call("GET", path, nil); body["last"] != nil || strings.Contains(fmt.Sprint(body), "let me") {
					list = append(list, "is shown it by "+path)
				}
			}
			if _, err := bob.Conn.Invoke(bob.Context(), "chat.queryMessageHistory", asJSON(`{"conversation":{"conversationId":"c.`+tea+`"}}`)); err == nil {
				list = append(list, "reads by the chat protocol")
			}
			return list
		}
		if got := may(); len(got) != 3+4+3+1 {
			t.Fatalf("with all rights: %q", got)
		}
		want := func(what string, status, wanted int) {
			t.Helper()
			if status != wanted {
				t.Fatalf("%s: got %d, want %d", what, status, wanted)
			}
		}
		want("a role", service(t, top, "PUT", "roles/room.silent", people.Object{"permissions": []string{}}), http.StatusCreated)
		want("giving it", service(t, top, "PUT", "rooms/"+tea+"/members/"+bob.ID, people.Object{"roleName": "room.silent"}), http.StatusOK)
		member := func(operation string) {
			t.Helper()
			invoke(t, bob.Page, "chat.manageRoomMember", asJSON(`{"roomId":"`+tea+`","operation":"`+operation+`","userId":"`+bob.ID+`"}`))
		}
		for _, back := range []struct {
			how  string
			come func()
		}{
			{"at once", func() {}},
			{"left and joined by the page", func() { bob.Do("leaveChat", tea); bob.Do("joinChat", tea) }},
			{"left by the page and joined by the protocol", func() { bob.Do("leaveChat", tea); member("Add") }},
			{"left by the protocol and joined by the page", func() { member("Delete"); bob.Do("joinChat", tea) }},
			{"put out by an application", func() {
				want("putting out", service(t, top, "DELETE", "rooms/"+tea+"/members/"+bob.ID, nil), http.StatusNoContent)
				bob.Do("joinChat", tea)
			}},
			{"on another connection", func() { bob.Open(people.Reliable) }},
		} {
			back.come()
			if got := may(); got != nil {
				t.Errorf("without rights, %s: %q", back.how, got)
			}
		}
		if got := stored(ada, tea); !slices.Equal(got, []string{"a secret", "let me", "let me", "let me"}) {
			t.Errorf("stored: %q", got)
		}

		want("a role of users", service(t, top, "PUT", "roles/user.quiet", people.Object{"permissions": []string{}}), http.StatusCreated)
		want("giving it", service(t, top, "PUT", "users/"+bob.ID, people.Object{"kind": "Human", "nickname": "Bob", "roleName": "user.quiet"}), http.StatusOK)
		if err := bob.Send("createChat", people.Object{"id": people.UUID(2), "name": "Mine"}); !people.IsNack(err) {
			t.Errorf("creating by the page: got %v, want a nack", err)
		}
		if err := bob.Send("createPrivateChat", people.Object{"targetUserId": ada.ID}); !people.IsNack(err) {
			t.Errorf("a private chat by the page: got %v, want a nack", err)
		}
		if _, err := bob.Conn.Invoke(bob.Context(), "chat.createRoom", asJSON(`{"title":"Mine","members":[]}`)); err == nil {
			t.Error("creating by the protocol: done, want a refusal")
		}
		if got := invoke(t, bob.Page, "chat.login", webpubsub.Text("")); got["roomIds"] != nil {
			t.Errorf("the rooms by the protocol: got %v, want none", got)
		}
		for _, path := range []string{"/api/rooms", "/api/rooms?since=0"} {
			if status, _ := bob.Call("GET", path, nil); status != http.StatusForbidden {
				t.Errorf("%s: got %d, want 403", path, status)
			}
		}
	})
}

// TestOwnWordsAreNotUnread: who has read all before has read what comes by the own hand, by whatever door.
func TestOwnWordsAreNotUnread(t *testing.T) {
	t.Parallel()
	eachTopology(t, func(t *testing.T, top *topology.Topology) {
		bot, bob := people.Come(t, top.A, "Bot", people.Reliable), people.Come(t, top.B, "Bob", people.Plain)
		tea := people.UUID(1)
		bot.Do("createChat", people.Object{"id": tea, "name": "Tea"})
		bob.Do("joinChat", tea)
		said := 0
		say := func(p *people.Person, door string) {
			t.Helper()
			said++
			if err := doors[door](p.Page, tea, fmt.Sprintf(`"line %d"`, said)); err != nil {
				t.Fatalf("%s by %s: %v", p.Name, door, err)
			}
		}
		unread := func(what string, p *people.Person, want int) {
			t.Helper()
			_, body := p.Call("GET", "/api/rooms", nil)
			room := body["rooms"].([]any)[0].(people.Object)
			_, list := p.Call("GET", "/api/chats", nil) // of the version before: without the own words only if they are read
			old := list["chats"].(people.Object)[tea].(people.Object)
			if got := int(room["unread"].(float64)); got != want {
				t.Errorf("%s: %s has %d unread, want %d", what, p.Name, got, want)
			}
			if got := int(old["lastSeq"].(float64) - old["readSeq"].(float64)); want == 0 && got != 0 {
				t.Errorf("%s: %s has %d unread in the list of the version before, want none", what, p.Name, got)
			}
		}
		for name := range doors {
			for range 5 {
				say(bot, name)
			}
		}
		unread("fifteen of one's own", bot, 0)
		unread("fifteen of another", bob, 15)
		say(bob, "sendToGroup")
		unread("one's own after what was not read", bob, 15)
		unread("another's", bot, 1)
		say(bot, "chat.sendTextMessage")
		unread("another's, and one's own", bot, 1)
		for name := range doors {
			bob.Do("markRead", people.Object{"chatId": tea, "seq": said})
			say(bob, name)
			unread("one's own by "+name+" after all was read", bob, 0)
		}
		bob.Do("leaveChat", tea)
		bob.Do("joinChat", tea)
		unread("back", bob, 0)
	})
}

// TestListsArePackedAndTagged: what the page reads first is small, in parts, and of no length when nothing has changed, whoever has read
// it before in the same browser.
func TestListsArePackedAndTagged(t *testing.T) {
	t.Parallel()
	eachTopology(t, func(t *testing.T, top *topology.Topology) {
		ada, bob := people.Come(t, top.A, "Ada", people.Plain), people.Come(t, top.B, "Bob", people.Plain)
		const rooms = 30
		for i := range rooms {
			ada.Do("createChat", people.Object{"id": people.UUID(i), "name": fmt.Sprint("Tea ", i)})
			if err := ada.Say(people.UUID(i), "the last word"); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(p *people.Person, path, tag string) (res *http.Response, body string) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), "GET", p.Front+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", "gzip") // as it is sent
			r.Header.Set("If-None-Match", tag)
			if res, err = p.HTTP.Do(r); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res, string(text)
		}
		for _, path := range []string{"/api/rooms", "/api/rooms?since=0", "/api/chats"} {
			res, body := ask(ada, path, "")
			tag := res.Header.Get("Etag")
			if res.Header.Get("Content-Encoding") != "gzip" || len(body) > 4000 || tag == "" {
				t.Errorf("%s: got %d bytes of %q with the tag %q, want them packed and tagged", path, len(body), res.Header.Get("Content-Encoding"), tag)
			}
			if res, body := ask(ada, path, tag); res.StatusCode != http.StatusNotModified || body != "" {
				t.Errorf("%s again: got %d and %d bytes, want 304 and none", path, res.StatusCode, len(body))
			}
			if res, _ := ask(bob, path, tag); res.StatusCode != http.StatusOK {
				t.Errorf("%s by somebody else with the same browser: got %d, want 200", path, res.StatusCode)
			}
		}
		var ids []string
		for after := ""; ; {
			_, page := ada.Call("GET", "/api/rooms?limit=7&after="+after, nil)
			for _, room := range page["rooms"].([]any) {
				ids = append(ids, room.(people.Object)["id"].(string))
			}
			if after, _ = page["next"].(string); after == "" {
				break
			}
		}
		var want []string
		for i := range rooms {
			want = append(want, people.UUID(rooms-1-i))
		}
		if !slices.Equal(ids, want) {
			t.Errorf("in parts: got %q, want the most recent first", ids)
		}
	})
}
