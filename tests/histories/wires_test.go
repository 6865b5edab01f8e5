package histories

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// wires is the network of a history on real processes: WebSockets and HTTP through the fronts of a town.
type wires struct {
	town *town
	w    *world

	mu       sync.Mutex // guards the following
	browsers map[*device]*browser
	wires    map[*conn]*wire
	unheard  map[string]bool // what connections without sequence ids have not heard; see due
}

// wire is what carries a connection.
type wire struct {
	n      *wires
	c      *conn
	client *wsclient.Client
	opened time.Time
	plain  bool            // without sequence ids
	left   context.Context // ends when its device leaves it, or the history ends
	leave  func()
}

// How a client of the platform's SDK behaves, and our page.
const (
	answerTime   = 10 * time.Second // that is waited for an answer
	pingEvery    = 4 * time.Second
	deafAfter    = 4500 * time.Millisecond // whoever has heard nothing for so long reads everything again
	hopeless     = 20 * time.Second        // then a socket is given up
	recoveryTime = 30 * time.Second        // for which a lost connection is tried to be taken up again
)

func (n *wires) browser(d *device) *browser {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.browsers[d] == nil {
		n.browsers[d] = newBrowser(n.w, d, n.town.top.Balanced, topology.SessionKey, n.town.http.Do)
	}
	return n.browsers[d]
}

func (n *wires) wire(c *conn) *wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wires[c]
}

// address asks where a device is to connect to.
func (n *wires) address(d *device) (address, subprotocol string, err error) {
	var answer struct{ URL string }
	switch d.name {
	case "sdk1":
		endpoint := n.town.top.Balanced + "/client/hubs/chat"
		signed, err := token.Sign(topology.AccessKey, endpoint, time.Hour, token.Options{Subject: d.user})
		return "ws" + strings.TrimPrefix(endpoint, "http") + "?access_token=" + signed, people.Reliable, err
	case "eve1":
		subprotocol = people.Plain
		_, err = n.browser(d).call(http.MethodGet, "/api/getToken?userId="+d.user, &answer)
	default:
		subprotocol = people.Reliable
		_, err = n.browser(d).call(http.MethodPost, "/api/negotiate", &answer)
	}
	if err == nil && answer.URL == "" {
		err = errors.New("signed in again")
	}
	return answer.URL, subprotocol, err
}

func (n *wires) open(d *device, _ string) *conn {
	signed := time.Now()
	address, subprotocol, err := n.address(d)
	if err != nil {
		n.w.note("%s: no address: %v", d.name, err)
		return nil
	}
	c := &conn{d: d, signed: signed, heard: map[string][]int64{}, inbox: make(chan frame, 10_000), closed: make(chan struct{})}
	ctx, cancel := context.WithTimeout(n.w.ctx, answerTime)
	defer cancel()
	client, err := wsclient.Dial(ctx, address, wsclient.Options{Subprotocols: []string{subprotocol}, OnMessage: func(m wsclient.Message) {
		if m.FromUserID == "" { // else a client has said it
			c.inbox <- frame{group: m.Group, body: slices.Clone(m.Data.Bytes)}
		}
	}})
	if err != nil {
		n.w.note("%s: no connection: %v", d.name, err)
		return nil
	}
	wire := &wire{n: n, c: c, client: client, opened: time.Now(), plain: subprotocol == people.Plain}
	wire.left, wire.leave = context.WithCancel(n.w.ctx)
	c.id, c.carry = client.Info().ConnectionID, wire.carry
	n.mu.Lock()
	n.wires[c] = wire
	n.mu.Unlock()
	n.w.note("%s: connection %s", d.name, c.id)
	n.w.work.Go(wire.keep)
	n.w.work.Go(wire.ping)
	return c
}

// keep takes the connection up again when its socket is lost, until that cannot be done.
func (x *wire) keep() {
	defer close(x.c.closed)
	for {
		end, err := x.client.Wait(x.left)
		if err != nil {
			_ = x.client.Close(1000, "") // a socket that is lost already is closed, too
			return
		}
		x.n.w.note("%s: %v", x.c.id, end)
		if x.plain || end.Code == 1008 || !x.recover() {
			return
		}
		x.n.w.note("%s is taken up again", x.c.id)
		x.sync()
	}
}

// recover takes the connection up on another socket, and reports whether it could.
func (x *wire) recover() bool {
	for began := time.Now(); time.Since(began) < recoveryTime && x.left.Err() == nil; {
		ctx, cancel := context.WithTimeout(x.left, answerTime)
		err := x.client.Recover(ctx)
		cancel()
		if err == nil {
			return true
		}
		x.n.w.note("%s: not taken up: %v", x.c.id, err)
		var end *wsclient.CloseError
		if errors.As(err, &end) && end.Code == 1008 {
			return false
		}
		select {
		case <-time.After(time.Second):
		case <-x.left.Done():
		}
	}
	return false
}

// sync has a page read everything again, since something may have been missed.
func (x *wire) sync() {
	x.c.d.mu.Lock()
	page := x.c.d.page
	x.c.d.mu.Unlock()
	if page != nil {
		x.c.inbox <- frame{own: page.sync}
	}
}

// ping looks whether the socket lives.
func (x *wire) ping() {
	for {
		select {
		case <-time.After(pingEvery):
		case <-x.c.closed:
			return
		}
		ctx, cancel := context.WithTimeout(x.left, hopeless)
		began := time.Now()
		err := x.client.Ping(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			x.client.Drop()
		}
		if err == nil && time.Since(began) > deafAfter {
			x.sync()
		}
		cancel()
	}
}

func (n *wires) shut(c *conn) {
	n.wire(c).leave()
	<-c.closed
}

func (n *wires) cut(c *conn) { n.wire(c).client.Drop() }

// carry sends an event, or what the original says to a group, and waits for the answer.
func (x *wire) carry(e cloudevents.Event, _ []time.Duration) answer {
	ctx, cancel := context.WithTimeout(x.n.w.ctx, answerTime)
	defer cancel()
	data := webpubsub.Data{Type: webpubsub.DataJSON, Bytes: e.Body}
	if e.ContentType == cloudevents.TypeText {
		data.Type = webpubsub.DataText
	}
	var result webpubsub.Data
	var err error
	code := http.StatusOK
	switch {
	case e.Type == cloudevents.BeforePublish:
		code = http.StatusAccepted
		id, _ := strconv.ParseUint(e.AckID, 10, 64)
		r := &protocol.Request{Kind: protocol.SendToGroup, Group: e.Group, HasAck: true, AckID: id}
		r.SetData(data)
		err = x.client.Do(ctx, r)
	case e.Name == "sendMessage" || strings.HasPrefix(e.Name, "chat."):
		result, err = x.client.Invoke(ctx, e.Name, data)
	default:
		err = x.client.SendEvent(ctx, e.Name, data)
	}
	got := httptest.NewRecorder()
	var refused *wsclient.AckError
	switch {
	case err == nil:
		got.Code = code
		got.Body.Write(result.Bytes)
	case !errors.As(err, &refused):
		x.n.w.note("%s: %s %.60s: no answer: %v", x.c.id, e.Name, e.Body, err)
		return nil
	case refused.Name == protocol.Duplicate: // the client takes that as success
		got.Code = code
	case slices.Contains([]string{protocol.InternalServerError, protocol.Timeout, "StorageUnavailable", "InternalError"}, refused.Name):
		got.Code = http.StatusServiceUnavailable
	default:
		got.Code = http.StatusForbidden
	}
	if refused != nil {
		_ = json.NewEncoder(got.Body).Encode(map[string]string{"code": refused.Name, "message": refused.Message})
	}
	x.n.w.note("%s: %s %.60s: %d %.100s %v", x.c.id, e.Name, e.Body, got.Code, got.Body, err)
	return got
}

// rest makes a request of an application to the data plane, once.
func (n *wires) rest(method, path string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(n.w.ctx, answerTime)
	defer cancel()
	target := n.town.top.Balanced + "/api/hubs/chat/" + path
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	signed, err := token.Sign(topology.AccessKey, target, time.Minute, token.Options{})
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+signed)
	r.Header.Set("Content-Type", "application/json")
	res, err := n.town.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

// request makes a request of an application to the chat, which asks again while there is no answer.
func (n *wires) request(method, path string, body any) int {
	text, _ := json.Marshal(body)
	if body == nil {
		text = nil
	}
	for attempt := 0; ; attempt++ {
		status, answer, err := n.rest(method, "chat/"+path+"?api-version=2026-02-01-preview", text)
		n.w.note("bot: %s %s: %d %.100s %v", method, path, status, answer, err)
		if err == nil && status < 500 {
			return status
		}
		if attempt == len(retryDelays) {
			return http.StatusBadGateway
		}
		select {
		case <-time.After(retryDelays[attempt]):
		case <-n.w.ctx.Done():
			return 0
		}
	}
}

func (n *wires) access(c *conn, rooms []string) (hears, speaks map[string]bool) {
	hears, speaks = map[string]bool{}, map[string]bool{}
	for _, id := range rooms {
		var members struct {
			Value []struct{ ConnectionID string }
		}
		status, body, err := n.rest(http.MethodGet, "groups/"+id+"/connections?api-version=2024-12-01", nil)
		if err == nil {
			err = json.Unmarshal(body, &members)
		}
		if err != nil || status != http.StatusOK {
			n.w.differ("members of group %s: %d %.100s, %v", id, status, body, err)
		}
		for _, m := range members.Value {
			hears[id] = hears[id] || m.ConnectionID == c.id
		}
		path := fmt.Sprintf("permissions/sendToGroup/connections/%s?api-version=2024-12-01&targetName=%s", c.id, id)
		status, _, err = n.rest(http.MethodHead, path, nil)
		if err != nil || status != http.StatusOK && status != http.StatusNotFound {
			n.w.differ("right of %s in %s: %d, %v", c.id, id, status, err)
		}
		speaks[id] = status == http.StatusOK
	}
	return hears, speaks
}

// due says which events have happened while the connection was there and its user in the room: whoever comes is brought in before
// that is told. When Redis has been away, gateways come back one after the other, and what is told meanwhile is missed by those who are
// not back yet. They close their reliable connections, whose clients begin anew; connections without sequence ids are promised
// nothing and not closed (docs/decisions/0006-bus-loss.md), so that what they have missed is counted.
func (n *wires) due(c *conn, room string, events []chat.Event) func(number int64) bool {
	x := n.wire(c)
	due := map[int64]bool{}
	in := false
	for _, e := range events {
		switch {
		case e.Kind == chat.EventClosed:
			in = false
		case e.UserID != c.d.user:
		case e.Kind == chat.EventCreated, e.Kind == chat.EventJoined, e.Kind == chat.EventInvited:
			in = true
		case e.Kind == chat.EventLeft: // by then what was said before may not have been told
			in = false
			clear(due)
		}
		due[e.Number] = in && e.At.After(x.opened)
		if !due[e.Number] || !x.plain || !n.town.busWasAway(e.At) || e.Kind != chat.EventMessage || e.Connection == c.id {
			continue
		}
		due[e.Number] = false
		n.w.mu.Lock()
		heard := slices.Contains(c.heard[room], e.Number)
		n.w.mu.Unlock()
		if !heard {
			n.mu.Lock()
			n.unheard[fmt.Sprint(c.id, room, e.Number)] = true
			n.mu.Unlock()
		}
	}
	return func(number int64) bool { return due[number] }
}
