package histories

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
)

// device is something that somebody uses: one of our pages, a page of the original, a client of the chat protocol, or, as
// "bot", an application. It does one step after the other.
type device struct {
	w     *world
	name  string
	user  string
	steps chan numbered

	mu     sync.Mutex // guards the following
	conn   *conn
	count  int  // of connections so far
	wanted bool // to be connected
	page   *page
	sdk    *protocolClient
}

type numbered struct {
	number int
	step   Step
	done   chan struct{} // closed when it has been made; may be nil
}

func newDevice(w *world, name string) *device {
	d := &device{w: w, name: name, user: w.cast.user(userOf[name]), steps: make(chan numbered, 100)}
	w.work.Go(func() {
		for {
			select {
			case n := <-d.steps:
				if n.step.Do != "" {
					d.do(n.number, n.step)
				}
				if n.done != nil {
					close(n.done)
				}
			case <-w.ctx.Done():
				return
			}
		}
	})
	return d
}

func (d *device) isPage() bool { return d.name != "eve1" && d.name != "sdk1" }

func (d *device) live() *conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// await waits for a connection, of a device that is to have one.
func (d *device) await() *conn {
	for d.w.ctx.Err() == nil {
		d.mu.Lock()
		c, wanted := d.conn, d.wanted
		d.mu.Unlock()
		if c != nil || !wanted {
			return c
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-d.w.ctx.Done():
		}
	}
	return nil
}

// connect makes a connection unless there is one, and keeps trying: whoever may not come signs in again.
func (d *device) connect() {
	d.mu.Lock()
	d.wanted = true
	d.mu.Unlock()
	for attempt := 0; d.w.ctx.Err() == nil; attempt++ {
		d.mu.Lock()
		if d.conn != nil || !d.wanted {
			d.mu.Unlock()
			return
		}
		d.count++
		id := fmt.Sprintf("%s-%d", d.name, d.count)
		d.mu.Unlock()
		if c := d.w.net.open(d, id); c != nil {
			d.use(c)
			return
		}
		select {
		case <-time.After(2 * time.Second):
		case <-d.w.ctx.Done():
		}
	}
}

// use makes c the device's connection: its client reads what comes, and connects again when the server closes it.
func (d *device) use(c *conn) {
	d.mu.Lock()
	d.conn = c
	switch d.name {
	case "eve1":
	case "sdk1":
		d.sdk = newProtocolClient(d.w, d.user)
		client := d.sdk
		d.w.work.Go(func() { client.login(c) })
	default:
		if d.page == nil {
			d.page = newPage(d.w.net.browser(d))
		}
		c.inbox <- frame{own: d.page.sync}
	}
	page, sdk := d.page, d.sdk
	d.mu.Unlock()
	d.w.work.Go(func() {
		for {
			select {
			case f := <-c.inbox:
				switch {
				case page != nil:
					d.show(c, page, f)
				case sdk != nil:
					sdk.hear(f)
				}
				d.w.hears(c, f)
			case <-c.closed:
				d.mu.Lock()
				again := d.conn == c
				if again {
					d.conn = nil
				}
				d.mu.Unlock()
				if again {
					time.Sleep(2 * time.Second) // signed in again, if that was why
					d.connect()
				}
				return
			case <-d.w.ctx.Done():
				return
			}
		}
	})
}

// show has a page take what came over a connection, unless it has another one by now.
func (d *device) show(c *conn, page *page, f frame) {
	<-page.turn
	defer func() { page.turn <- struct{}{} }()
	switch {
	case d.live() != c:
	case f.own != nil:
		f.own()
	default:
		page.hear(f)
	}
}

// drop ends the connection.
func (d *device) drop() {
	d.mu.Lock()
	c := d.conn
	d.conn, d.wanted = nil, false
	d.mu.Unlock()
	if c == nil {
		return
	}
	d.w.net.shut(c)
}

// room returns the id of a room, or "" for the direct one that is not there.
func (w *world) room(name string) string {
	if id, ok := idOf[name]; ok {
		return w.cast.room(id)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.direct
}

func (d *device) do(number int, s Step) {
	d.w.note("step %d: %+v", number, s)
	if d.name == "bot" {
		d.w.administer(number, s)
		return
	}
	switch s.Do {
	case Drop:
		d.drop()
		return
	case Connect:
		d.connect()
		return
	case Cut:
		if c := d.live(); c != nil {
			d.w.net.cut(c)
		}
		return
	case Reconnect:
		d.drop()
		d.connect()
		return
	}
	c := d.await()
	if c == nil {
		return
	}
	room := d.w.room(s.Room)
	if s.Room != "" && room == "" {
		return
	}
	switch d.name {
	case "sdk1":
		d.invoke(c, number, s, room)
		return
	case "eve1":
		d.original(c, number, s, room)
		return
	}
	switch s.Do {
	case Say:
		d.say(c, said{room: room, author: d.user, text: fmt.Sprintf("%s says %d", d.user, number), key: fmt.Sprintf("k%d", number)})
	case SayAgain:
		d.w.mu.Lock()
		last, ok := d.w.last[d.user]
		d.w.mu.Unlock()
		if ok {
			d.say(c, last)
		}
	case Join:
		c.event("joinChat", room)
	case Accept:
		c.event("acceptChat", room)
	case Leave:
		c.event("leaveChat", map[string]string{"chatId": room})
	case Create:
		if s.Room == "club" || s.Room == "tea" {
			c.event("createChat", map[string]string{"id": room, "name": s.Room})
		}
	case Delete:
		c.event("deleteChat", room)
	case Open:
		c.event("createPrivateChat", map[string]string{"targetUserId": s.User})
		d.w.findDirect()
	case Block:
		c.event("blockUser", map[string]string{"userId": s.User})
	case Unblock:
		c.event("unblockUser", map[string]string{"userId": s.User})
	case Read:
		d.mu.Lock()
		newest := d.page.newest(room)
		d.mu.Unlock()
		if seq := newest - int64(s.N); seq > 0 {
			c.event("markRead", map[string]any{"chatId": room, "seq": seq})
		}
	case Idle:
		c.event("userEnterIdle", "")
	case Active:
		c.event("userExitIdle", "")
	}
}

// event sends a user event; data is a text, or becomes JSON. It returns the status, 0 for none.
func (c *conn) event(name string, data any) answer {
	e := cloudevents.Event{Type: cloudevents.UserPrefix + name, Name: name}
	if text, ok := data.(string); ok {
		e.ContentType, e.Body = cloudevents.TypeText, []byte(text)
	} else {
		e.ContentType = cloudevents.TypeJSON
		e.Body, _ = json.Marshal(data)
	}
	return c.carry(e, retryDelays)
}

// say has a page say something until it knows what has become of it.
func (d *device) say(c *conn, s said) {
	d.w.mu.Lock()
	d.w.last[d.user] = s
	d.w.mu.Unlock()
	for d.w.ctx.Err() == nil {
		got := c.event("sendMessage", map[string]string{"chatId": s.room, "text": s.text, "key": s.key})
		if got != nil && got.Code == 200 {
			var place struct {
				Seq, Number int64
				At          string
			}
			if err := json.Unmarshal(got.Body.Bytes(), &place); err != nil || place.Seq == 0 || place.Number == 0 {
				d.w.failed("%s: answer to sendMessage: %s", c.id, got.Body)
				return
			}
			s.seq, s.number, s.at = place.Seq, place.Number, time.Now()
			d.w.isAcked(s)
			d.mu.Lock()
			page := d.page
			d.mu.Unlock()
			own := chat.WireEvent{
				RoomID: s.room, Number: place.Number, Kind: chat.EventMessage, UserID: d.user, Seq: place.Seq, Text: s.text, Key: s.key, At: place.At,
			}
			select {
			case c.inbox <- frame{own: func() { page.heard(own, true) }}:
			default:
			}
			return
		}
		if got != nil && got.Code < 500 { // refused
			return
		}
		select {
		case <-time.After(time.Second):
		case <-d.w.ctx.Done():
		}
		if next := d.live(); next != nil { // the outbox goes with the page, not with its connection
			c = next
		}
	}
}

func (w *world) isAcked(s said) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, s)
}

// original does a step of a page of the original.
func (d *device) original(c *conn, number int, s Step, room string) {
	switch s.Do {
	case Say, SayAgain:
		m := said{room: room, author: d.user, text: fmt.Sprintf("%s says %d", d.user, number), ackID: fmt.Sprint(1000 * (number + 1)), conn: c.id}
		if s.Do == SayAgain {
			d.w.mu.Lock()
			last, ok := d.w.last[d.user]
			d.w.mu.Unlock()
			if !ok || last.conn != c.id {
				return
			}
			m = last
		}
		d.w.mu.Lock()
		d.w.last[d.user] = m
		d.w.mu.Unlock()
		body, _ := json.Marshal(map[string]string{"message": m.text, "fromUserId": "somebody", "fromUserName": "Somebody"})
		got := c.carry(cloudevents.Event{
			Type: cloudevents.BeforePublish, Name: cloudevents.BeforePublishName, ContentType: cloudevents.TypeJSON, Body: body, Group: m.room, AckID: m.ackID,
		}, retryDelays[:2])
		if got != nil && got.Code == 202 {
			m.key, m.at = fmt.Sprintf("ack/%s/%s", c.id, m.ackID), time.Now()
			d.w.isAcked(m)
		}
	case Join:
		c.event("joinChat", room)
	case Leave:
		c.event("leaveChat", map[string]string{"chatId": room})
	}
}

// invoke does a step of a client of the chat protocol.
func (d *device) invoke(c *conn, number int, s Step, room string) {
	d.mu.Lock()
	client := d.sdk
	d.mu.Unlock()
	var got answer
	switch s.Do {
	case Say:
		m := said{room: room, author: d.user, text: fmt.Sprintf("%s says %d", d.user, number)}
		got = c.event("chat.sendTextMessage", map[string]any{"conversation": map[string]string{"conversationId": "c." + room}, "content": m.text})
		if got != nil && got.Code == 200 {
			var sent struct {
				ID int64 `json:"id,string"`
			}
			if err := json.Unmarshal(got.Body.Bytes(), &sent); err != nil {
				d.w.failed("%s: answer to sendTextMessage: %s", c.id, got.Body)
			}
			m.seq, m.at = sent.ID, time.Now()
			d.w.isAcked(m)
		}
	case Create:
		got = c.event("chat.createRoom", map[string]any{"title": s.Room, "roomId": room, "members": []string{d.w.cast.user("guest_ada"), d.w.cast.user("guest_bob")}})
		if got != nil && got.Code == 200 {
			client.answered(room, true)
		}
	default:
		change := map[Verb]string{Add: "Add", Join: "Add", Remove: "Delete", Leave: "Delete"}[s.Do]
		user := s.User
		if user == "" {
			user = d.user
		}
		knew := client.knows(room)
		got = c.event("chat.manageRoomMember", map[string]string{"roomId": room, "operation": change, "userId": user})
		if user == d.user && got != nil {
			got = d.changedOneself(c, client, room, change, knew, got)
		}
	}
	if got == nil || got.Code >= 500 { // it does not know what has become of that
		client.login(c)
	}
}

// changedOneself does what the official client does with an answer about itself.
func (d *device) changedOneself(c *conn, client *protocolClient, room, change string, knew bool, got answer) answer {
	var fault struct{ Code string }
	_ = json.Unmarshal(got.Body.Bytes(), &fault)
	switch {
	case change == "Delete" && got.Code == 200:
		client.answered(room, false)
	case change == "Add" && (got.Code == 200 || fault.Code == "UserAlreadyInRoom") && !knew && !client.knows(room): // not notified
		if got = c.event("chat.getRoom", map[string]any{"id": room, "withMembers": false}); got != nil && got.Code == 200 {
			client.answered(room, true)
		}
	}
	return got
}

// administer does a step of an application.
func (w *world) administer(number int, s Step) {
	room := w.room(s.Room)
	isRoom := chat.IsRoomID(room)
	if s.Room != "" && !isRoom {
		return
	}
	switch s.Do {
	case Create:
		w.net.request("PUT", "rooms/"+room, map[string]string{"title": s.Room})
	case Delete:
		w.net.request("DELETE", "rooms/"+room, nil)
	case Add:
		w.net.request("PUT", "rooms/"+room+"/members/"+s.User, map[string]string{"roleName": chat.RoleMember})
	case Remove:
		w.net.request("DELETE", "rooms/"+room+"/members/"+s.User, nil)
	case GiveRole:
		role := []string{chat.RoleMember, "room.reader", "room.reader", chat.RoleOperator}[s.N]
		w.net.request("PUT", "rooms/"+room+"/members/"+s.User, map[string]string{"roleName": role})
	case ChangeRole:
		may := []chat.Permission{chat.RoomHistory, chat.RoomInvite, chat.RoomPublishMessage}
		w.net.request("PUT", "roles/"+chat.RoleMember, map[string]any{"permissions": may[:2+s.N%2]})
	case Title:
		w.net.request("PUT", "rooms/"+room, map[string]string{"title": fmt.Sprintf("%s %d", s.Room, s.N)})
	case Edit, Erase:
		r, err := w.store.Room(w.ctx, tenantID, room)
		seq := r.LastSeq - int64(s.N)
		if err != nil || seq < 1 {
			return
		}
		path := fmt.Sprintf("conversations/c.%s/messages/%d", room, seq)
		if s.Do == Erase {
			w.net.request("DELETE", path, nil)
		} else {
			w.net.request("PATCH", path, map[string]any{"content": map[string]string{"text": fmt.Sprintf("edited %d", number)}})
		}
	case RemoveUser:
		w.net.request("DELETE", "users/"+s.User, nil)
	case SignOut: // by another service, on the same store
		err := w.store.SignOut(w.ctx, tenantID, s.User)
		for range 30 { // seconds that the store may be away
			if err == nil {
				return
			}
			time.Sleep(time.Second)
			err = w.store.SignOut(w.ctx, tenantID, s.User)
		}
		w.failed("sign out %s: %v", s.User, err)
	}
}

// findDirect looks for the direct room of ada and bob.
func (w *world) findDirect() {
	list, err := w.store.Memberships(w.ctx, tenantID, w.cast.user("guest_ada"))
	i := slices.IndexFunc(list, func(id string) bool {
		if !chat.IsRoomID(id) {
			r, err := w.store.Room(w.ctx, tenantID, id)
			_, bob := r.Member(w.cast.user("guest_bob"))
			return err == nil && bob
		}
		return false
	})
	if err == nil && i >= 0 {
		w.mu.Lock()
		w.direct = list[i]
		w.mu.Unlock()
	}
}
