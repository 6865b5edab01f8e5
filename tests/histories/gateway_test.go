package histories

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/token"
)

// gateway stands for the gateways: it holds connections with their groups and rights, sends what it is asked to send, and
// brings events to a process that lives, again when that has not answered.
type gateway struct {
	w *world

	mu       sync.Mutex // guards the following, and the groups and rights of connections
	conns    map[string]*conn
	browsers map[*device]*browser
}

// network is what is between devices and the service: gateways that are played, or real ones.
type network interface {
	open(d *device, id string) *conn // makes a connection, or returns nil if it may not be
	shut(c *conn)                    // ends one for its device
	cut(c *conn)                     // loses one without a word to either side
	browser(d *device) *browser      // what d's page asks with
	request(method, path string, body any) int
	access(c *conn, rooms []string) (hears, speaks map[string]bool)        // where c hears and may speak, for those rooms
	due(c *conn, room string, events []chat.Event) func(number int64) bool // whether c has to have heard an event of a room, of which all are given
}

// conn is a client's connection.
type conn struct {
	g      *gateway // that has it, where gateways are played
	d      *device
	id     string
	carry  func(e cloudevents.Event, delays []time.Duration) answer // brings what the client sends to a process, again after the delays
	state  string
	groups map[string]bool
	rights map[string]bool
	since  map[string]int64 // the newest message of a group that was told when the connection came into it
	heard  map[string][]int64
	inbox  chan frame
	closed chan struct{} // closed under the gateway's mutex
	order  chan struct{} // holds one value: what a client sends is one sequence
	nextID uint64
	signed time.Time // when its token was made
}

// frame is something that a connection gets, or that its client does itself.
type frame struct {
	group string
	kind  string
	body  []byte
	own   func() // instead
}

// port is the gateways as one process sees them.
type port struct{ p *process }

func (t port) RoundTrip(r *http.Request) (res *http.Response, err error) {
	body := []byte{}
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	err = t.p.call(r.Method+" "+r.URL.RequestURI(), func() error {
		w := httptest.NewRecorder()
		t.p.w.g.serve(w, r, body)
		res = w.Result()
		return nil
	})
	if errors.Is(err, errFails) { // half of the time it answers that it cannot
		if t.p.w.dice("unavailable")%2 == 0 {
			w := httptest.NewRecorder()
			w.WriteHeader(http.StatusServiceUnavailable)
			return w.Result(), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

var filterForm = regexp.MustCompile(`'((?:[^']|'')*)' in groups|userId (eq|ne) '((?:[^']|'')*)'`)

// passes evaluates the filters that the service uses: terms joined by "and" or by "or".
func passes(filter string, c *conn) bool {
	unquote := func(s string) string { return strings.ReplaceAll(s, "''", "'") }
	passed := 0
	terms := filterForm.FindAllStringSubmatch(filter, -1)
	for _, term := range terms {
		if term[2] == "" && c.groups[unquote(term[1])] || term[2] != "" && (c.d.user == unquote(term[3])) == (term[2] == "eq") {
			passed++
		}
	}
	return passed == len(terms) || passed > 0 && strings.Contains(filter, " or ")
}

// serve is the part of the data plane that the service uses.
func (g *gateway) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var p []string
	for _, segment := range strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/api/hubs/chat/"), "/") {
		plain, _ := url.PathUnescape(segment)
		p = append(p, plain)
	}
	switch {
	case p[len(p)-1] == ":closeConnections" && p[0] == "users":
		for _, id := range slices.Sorted(maps.Keys(g.conns)) {
			if c := g.conns[id]; c.d.user == p[1] && !slices.Contains(r.URL.Query()["excluded"], id) {
				g.close(c)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case p[len(p)-1] == ":send":
		f := frame{kind: r.Header.Get("Content-Type"), body: body}
		if p[0] == "groups" {
			f.group = p[1]
		}
		for _, id := range slices.Sorted(maps.Keys(g.conns)) {
			c := g.conns[id]
			if to(c, p) && passes(r.URL.Query().Get("filter"), c) && !slices.Contains(r.URL.Query()["excluded"], c.id) {
				c.deliver(f)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodGet && p[0] == "groups":
		members := []map[string]string{}
		for _, id := range slices.Sorted(maps.Keys(g.conns)) {
			if c := g.conns[id]; c.groups[p[1]] {
				members = append(members, map[string]string{"connectionId": c.id, "userId": c.d.user})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"value": members})
	case p[0] == "groups" && p[2] == "connections":
		c := g.conns[p[3]]
		switch {
		case r.Method == http.MethodDelete && c != nil:
			g.w.leaves(c, p[1])
			delete(c.groups, p[1])
		case r.Method == http.MethodPut && c == nil:
			w.WriteHeader(http.StatusNotFound)
			return
		case r.Method == http.MethodPut && !c.groups[p[1]]:
			c.groups[p[1]] = true
			g.w.enters(c, p[1])
		}
		w.WriteHeader(http.StatusNoContent)
	case p[0] == "permissions":
		c, name := g.conns[p[3]], r.URL.Query().Get("targetName")
		switch {
		case r.Method == http.MethodDelete && c != nil:
			delete(c.rights, name)
		case r.Method == http.MethodPut && c == nil:
			w.WriteHeader(http.StatusNotFound)
			return
		case r.Method == http.MethodPut:
			c.rights[name] = true
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete && p[0] == "connections" && len(p) == 2:
		if c := g.conns[p[1]]; c != nil {
			g.close(c)
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodHead && p[0] == "connections":
		if g.conns[p[1]] == nil {
			w.WriteHeader(http.StatusNotFound)
		}
	default:
		panic("unexpected data-plane call: " + r.Method + " " + r.URL.String())
	}
}

func to(c *conn, p []string) bool {
	switch p[0] {
	case "groups":
		return c.groups[p[1]]
	case "users":
		return c.d.user == p[1]
	case "connections":
		return c.id == p[1]
	}
	return true
}

func (c *conn) deliver(f frame) {
	select {
	case c.inbox <- f:
	default:
		panic("a client does not read")
	}
}

// close ends a connection; the gateway's mutex is held.
func (g *gateway) close(c *conn) {
	if g.conns[c.id] == c {
		delete(g.conns, c.id)
		close(c.closed)
		g.w.note("connection %s is closed", c.id)
	}
}

// answer is what a process has answered; nil when none has.
type answer = *httptest.ResponseRecorder

// retryDelays are those of gateways.
var retryDelays = []time.Duration{time.Second, 3 * time.Second, 5 * time.Second}

// ask brings a request to a process that lives. One that dies meanwhile, or cannot answer, is asked again, or another, after
// each of the delays.
func (g *gateway) ask(what string, make func() *http.Request, delays []time.Duration) answer {
	for attempt := 0; ; attempt++ {
		got := g.try(what, make())
		if got != nil && got.Code < 500 && got.Code != http.StatusRequestTimeout || attempt == len(delays) {
			return got
		}
		select {
		case <-time.After(delays[attempt]):
		case <-g.w.ctx.Done():
			return nil
		}
	}
}

func (g *gateway) try(what string, r *http.Request) answer {
	p := g.w.anyProcess(what)
	if p == nil {
		return nil
	}
	got, done := httptest.NewRecorder(), make(chan struct{})
	g.w.work.Go(func() {
		defer close(done)
		p.handler.ServeHTTP(got, r)
	})
	select {
	case <-done:
		if p.isDead() { // its last word was not heard
			return nil
		}
		return got
	case <-p.died:
		return nil
	}
}

// post brings an event of the connection, signed.
func (c *conn) post(e cloudevents.Event, delays []time.Duration) answer {
	<-c.order
	c.nextID++
	e.ID = c.nextID
	e.Hub, e.ConnectionID, e.UserID, e.State, e.Origin, e.Time = "chat", c.id, c.d.user, c.state, "gateway", time.Now()
	got := c.g.ask(c.id+e.Name, func() *http.Request {
		r, err := cloudevents.NewRequest(c.g.w.ctx, "http://events/eventhandler/"+e.Name, e, testKey)
		if err != nil {
			panic(err)
		}
		return r
	}, delays)
	c.order <- struct{}{}
	if got != nil {
		c.g.w.note("%s: %s %.60s: %d %.100s", c.id, e.Name, e.Body, got.Code, got.Body)
	} else {
		c.g.w.note("%s: %s %.60s: no answer", c.id, e.Name, e.Body)
	}
	return got
}

// system posts a system event until it is taken.
func (c *conn) system(kind, name, body string) {
	for {
		got := c.post(cloudevents.Event{Type: kind, Name: name, ContentType: cloudevents.TypeSystem, Body: []byte(body)}, retryDelays)
		if got != nil && got.Code < 500 {
			return
		}
		select {
		case <-time.After(5 * time.Second):
		case <-c.g.w.ctx.Done():
			return
		}
	}
}

// open makes a connection for a device, or returns nil if it may not be.
func (g *gateway) open(d *device, id string) *conn {
	if d.isPage() && !g.browser(d).mayConnect() {
		return nil
	}
	c := &conn{
		g: g, d: d, id: id, groups: map[string]bool{}, rights: map[string]bool{}, since: map[string]int64{}, heard: map[string][]int64{},
		inbox: make(chan frame, 10_000), closed: make(chan struct{}), order: make(chan struct{}, 1), signed: time.Now(),
	}
	c.order <- struct{}{}
	c.carry = c.post
	body, _ := json.Marshal(map[string]any{
		"claims": map[string][]string{"iat": {fmt.Sprint(c.signed.Unix())}}, "query": map[string]any{}, "headers": map[string]any{},
		"subprotocols": []string{}, "clientCertificates": []string{},
	})
	got := c.post(cloudevents.Event{Type: cloudevents.Connect, Name: "connect", ContentType: cloudevents.TypeSystem, Body: body}, retryDelays[:2])
	if got == nil || got.Code != http.StatusOK {
		return nil
	}
	var access struct{ Groups, Roles []string }
	if err := json.Unmarshal(got.Body.Bytes(), &access); err != nil {
		panic(err)
	}
	g.mu.Lock()
	for _, group := range access.Groups {
		c.groups[group] = true
	}
	for _, role := range access.Roles {
		c.rights[strings.TrimPrefix(role, "webpubsub.sendToGroup.")] = true
	}
	c.state = got.Header().Get("ce-connectionState")
	g.conns[id] = c
	for group := range c.groups {
		g.w.enters(c, group)
	}
	g.mu.Unlock()
	g.w.work.Go(func() {
		c.system(cloudevents.Connected, "connected", `{}`)
		select {
		case <-c.closed:
			c.system(cloudevents.Disconnected, "disconnected", `{"reason":""}`)
		case <-g.w.ctx.Done():
		}
	})
	return c
}

// shut is what a client does that leaves.
func (g *gateway) shut(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for group := range c.groups {
		g.w.leaves(c, group)
	}
	g.close(c)
}

func (g *gateway) cut(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close(c)
}

func (g *gateway) access(c *conn, _ []string) (hears, speaks map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(c.groups), maps.Clone(c.rights)
}

func (g *gateway) due(c *conn, room string, _ []chat.Event) func(number int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	since, in := c.since[room]
	return func(number int64) bool { return in && number > since }
}

func (g *gateway) browser(d *device) *browser {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.browsers[d] == nil {
		g.browsers[d] = newBrowser(g.w, d, "http://chat.example", sessionKey, g.read(d))
	}
	return g.browsers[d]
}

// read returns how a device's requests get to the API service: now and then they do not.
func (g *gateway) read(d *device) func(r *http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		what := d.name + " " + r.Method + " " + r.URL.Path
		if g.w.wait(what); g.w.misfortune(what) {
			return nil, errFails
		}
		g.w.tick()
		got := httptest.NewRecorder()
		if g.w.api.ServeHTTP(got, r); got.Code >= 500 && g.w.ctx.Err() == nil {
			g.w.failed("%s: %d %s", what, got.Code, got.Body)
		}
		return got.Result(), g.w.ctx.Err()
	}
}

// request makes a request of an application, which tries again when it gets no answer.
func (g *gateway) request(method, path string, body any) int {
	text, _ := json.Marshal(body)
	if body == nil {
		text = nil
	}
	got := g.ask(path, func() *http.Request {
		target := "http://events/api/hubs/chat/chat/" + path + "?api-version=2026-02-01-preview"
		r := httptest.NewRequest(method, target, bytes.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		signed, err := token.Sign(testKey, target, time.Minute, token.Options{})
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+signed)
		return r
	}, retryDelays)
	if got == nil {
		g.w.note("bot: %s %s: no answer", method, path)
		return http.StatusBadGateway
	}
	g.w.note("bot: %s %s: %d %.100s", method, path, got.Code, got.Body)
	return got.Code
}
