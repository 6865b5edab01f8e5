package events

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/dataplane"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

const testKey = "a key for tests that is long enough, really"

// gateway stands in for the gateways: it holds connections with their groups and rights, delivers what it is
// asked to send, and posts events as a gateway does.
type gateway struct {
	t      testing.TB
	server *httptest.Server
	events http.Handler

	quiet func() // returns when the service has told what it has to tell

	mu    sync.Mutex // guards the following
	conns map[string]*conn
	down  bool // answers 503 to everything, or with
	says  int  // this status

	allowed *int // calls that are answered before the rest is as if it were down; nil: all
}

// conn is a client's connection. Its fields are guarded by the gateway's mutex.
type conn struct {
	g      *gateway
	id     string
	user   string
	state  string
	groups map[string]bool
	rights map[string]bool
	got    []received
	nextID uint64
}

type received struct {
	group string // empty: from the server
	kind  string // content type
	body  string
}

func newGateway(t testing.TB) *gateway {
	g := &gateway{t: t, quiet: func() {}, conns: map[string]*conn{}}
	g.server = httptest.NewUnstartedServer(g)
	g.server.Config.MaxHeaderBytes = 64 << 10 // as gateways read
	g.server.Start()
	t.Cleanup(g.server.Close)
	return g
}

func (g *gateway) client() *dataplane.Client {
	return dataplane.New(g.server.URL, testKey, "chat", dataplane.Options{Retries: -1})
}

var filterForm = regexp.MustCompile(`'((?:[^']|'')*)' in groups|userId (eq|ne) '((?:[^']|'')*)'`)

// passes evaluates the filters that the service uses: terms joined by "and" or by "or".
func passes(filter string, c *conn) bool {
	passed := 0
	terms := filterForm.FindAllStringSubmatch(filter, -1)
	for _, term := range terms {
		if term[2] == "" && c.groups[unquote(term[1])] || term[2] != "" && (c.user == unquote(term[3])) == (term[2] == "eq") {
			passed++
		}
	}
	return passed == len(terms) || passed > 0 && strings.Contains(filter, " or ")
}

// ServeHTTP is the part of the data plane that the service uses.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.allowed != nil {
		*g.allowed--
	}
	if g.down || g.allowed != nil && *g.allowed < 0 {
		w.WriteHeader(cmp.Or(g.says, http.StatusServiceUnavailable))
		return
	}
	var p []string
	for _, segment := range strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/api/hubs/chat/"), "/") {
		plain, _ := url.PathUnescape(segment)
		p = append(p, plain)
	}
	body, _ := io.ReadAll(r.Body)
	message := received{kind: r.Header.Get("Content-Type"), body: string(body)}
	switch {
	case p[len(p)-1] == ":closeConnections" && p[0] == "users":
		for id, c := range g.conns {
			if c.user == p[1] && !slices.Contains(r.URL.Query()["excluded"], id) {
				delete(g.conns, id)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case p[len(p)-1] == ":send":
		for _, c := range g.conns {
			if !to(c, p) || !passes(r.URL.Query().Get("filter"), c) || slices.Contains(r.URL.Query()["excluded"], c.id) {
				continue
			}
			if p[0] == "groups" {
				message.group = p[1]
			}
			c.got = append(c.got, message)
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodGet && p[0] == "groups":
		members := []map[string]string{}
		for _, c := range g.conns {
			if c.groups[p[1]] {
				members = append(members, map[string]string{"connectionId": c.id, "userId": c.user})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"value": members})
	case p[0] == "groups" && p[2] == "connections":
		g.change(w, r, p[3], func(c *conn) map[string]bool { return c.groups }, p[1])
	case p[0] == "permissions":
		g.change(w, r, p[3], func(c *conn) map[string]bool { return c.rights }, r.URL.Query().Get("targetName"))
	case r.Method == http.MethodDelete && p[0] == "connections" && len(p) == 2:
		delete(g.conns, p[1])
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodHead && p[0] == "connections":
		if g.conns[p[1]] == nil {
			w.WriteHeader(http.StatusNotFound)
		}
	default:
		g.t.Errorf("unexpected data-plane call: %s %s", r.Method, r.URL)
	}
}

// change adds a name to, or removes it from, one of a connection's sets.
func (g *gateway) change(w http.ResponseWriter, r *http.Request, id string, set func(*conn) map[string]bool, name string) {
	c := g.conns[id]
	switch {
	case r.Method == http.MethodDelete:
		if c != nil {
			delete(set(c), name)
		}
		w.WriteHeader(http.StatusNoContent)
	case c == nil:
		w.WriteHeader(http.StatusNotFound)
	case len(set(c)) >= webpubsub.MaxRules:
		w.WriteHeader(http.StatusConflict)
	default:
		set(c)[name] = true
	}
}

func to(c *conn, p []string) bool {
	switch p[0] {
	case "groups":
		return c.groups[p[1]]
	case "users":
		return c.user == p[1]
	case "connections":
		return c.id == p[1]
	}
	return true
}

func unquote(s string) string { return strings.ReplaceAll(s, "''", "'") }

// post brings an event of c to the service, signed.
func (c *conn) post(kind, name, contentType, body string) *httptest.ResponseRecorder {
	c.g.t.Helper()
	c.nextID++
	e := cloudevents.Event{
		Type: kind, Name: name, Hub: "chat", ConnectionID: c.id, UserID: c.user, State: c.state, ID: c.nextID,
		Time: time.Now(), Origin: "gateway", ContentType: contentType, Body: []byte(body),
	}
	r, err := cloudevents.NewRequest(c.g.t.Context(), "http://events/eventhandler/"+name, e, testKey)
	if err != nil {
		c.g.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	c.g.events.ServeHTTP(w, r)
	return w
}

// open connects a client of a user, as the gateway does.
func (g *gateway) open(id, user string) *conn { return g.openSigned(id, user, time.Now()) }

// openSigned is open with a token that was signed at a time.
func (g *gateway) openSigned(id, user string, signed time.Time) *conn {
	g.t.Helper()
	c := g.connect(id, user, signed)
	g.mu.Lock()
	g.conns[id] = c
	g.mu.Unlock()
	if w := c.post(cloudevents.Connected, "connected", cloudevents.TypeSystem, `{}`); w.Code >= 300 {
		g.t.Fatalf("connected of %s: got %d %s, want success", user, w.Code, w.Body)
	}
	return c
}

// connect asks whether a client of a user may connect, who must be let in, and is not there yet.
func (g *gateway) connect(id, user string, signed time.Time) *conn {
	g.t.Helper()
	c := &conn{g: g, id: id, user: user, groups: map[string]bool{}, rights: map[string]bool{}}
	w := c.post(cloudevents.Connect, "connect", cloudevents.TypeSystem,
		fmt.Sprintf(`{"claims":{"iat":["%d"]},"query":{},"headers":{},"subprotocols":[],"clientCertificates":[]}`, signed.Unix()))
	if w.Code != http.StatusOK {
		g.t.Fatalf("connect of %s: got %d %s, want 200", user, w.Code, w.Body)
	}
	var answer struct{ Groups, Roles []string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		g.t.Fatal(err)
	}
	for _, group := range answer.Groups {
		c.groups[group] = true
	}
	for _, role := range answer.Roles {
		room, ok := strings.CutPrefix(role, "webpubsub.sendToGroup.")
		if !ok {
			g.t.Errorf("connect of %s gives role %q", user, role)
		}
		c.rights[room] = true
	}
	c.state = w.Header().Get("ce-connectionState")
	return c
}

// vanish drops the connection without telling anybody.
func (c *conn) vanish() {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	delete(c.g.conns, c.id)
}

// close drops the connection and posts disconnected.
func (c *conn) close() {
	c.g.t.Helper()
	c.vanish()
	if w := c.post(cloudevents.Disconnected, "disconnected", cloudevents.TypeSystem, `{"reason":"Client closed the connection."}`); w.Code >= 300 {
		c.g.t.Fatalf("disconnected: got %d %s, want success", w.Code, w.Body)
	}
}

// event sends a user event and returns the status it was answered with. data is sent as text if it is a string,
// else as JSON.
func (c *conn) event(name string, data any) int {
	c.g.t.Helper()
	if text, ok := data.(string); ok {
		return c.post(cloudevents.UserPrefix+name, name, cloudevents.TypeText, text).Code
	}
	body, _ := json.Marshal(data)
	return c.post(cloudevents.UserPrefix+name, name, cloudevents.TypeJSON, string(body)).Code
}

// invoke sends an invocation and returns its result, or the code of its fault.
func (c *conn) invoke(name string, data any) (result map[string]any, code string) {
	c.g.t.Helper()
	body, _ := json.Marshal(data)
	return c.result(c.post(cloudevents.UserPrefix+name, name, cloudevents.TypeJSON, string(body)))
}

// result reads the answer to an invocation.
func (c *conn) result(w *httptest.ResponseRecorder) (result map[string]any, code string) {
	c.g.t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil || w.Header().Get("Content-Type") != cloudevents.TypeJSON {
		c.g.t.Fatalf("answer to an invocation by %s: got %d %s %.200q, want a JSON object", c.user, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	code, faulty := result["code"].(string)
	if text, _ := result["message"].(string); faulty != (w.Code >= 400) || faulty && text == "" {
		c.g.t.Errorf("answer to an invocation by %s: got %d %.200q, want a code and a message exactly with an error", c.user, w.Code, w.Body)
	}
	return result, code
}

// mustInvoke is invoke for one that has to succeed.
func (c *conn) mustInvoke(name string, data any) map[string]any {
	c.g.t.Helper()
	result, code := c.invoke(name, data)
	if code != "" {
		c.g.t.Fatalf("%s %v by %s: got %s, want success", name, data, c.user, result)
	}
	return result
}

// frames returns what c has got so far of what there was to tell.
func (c *conn) frames() []received {
	c.g.quiet()
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return slices.Clone(c.got)
}

// notified returns the bodies of one kind of notification that c has got.
func (c *conn) notified(kind string) []map[string]any {
	var bodies []map[string]any
	for _, m := range c.frames() {
		var n struct {
			NotificationType string
			Body             map[string]any
		}
		if json.Unmarshal([]byte(m.body), &n) == nil && n.NotificationType == kind {
			bodies = append(bodies, n.Body)
		}
	}
	return bodies
}

// must is event for one that has to succeed.
func (c *conn) must(name string, data any) {
	c.g.t.Helper()
	if got := c.event(name, data); got >= 300 {
		c.g.t.Fatalf("%s %v by %s: got %d, want success; told %q", name, data, c.user, got, c.told("error"))
	}
}

// told returns the data of the server messages of one kind that c has got.
func (c *conn) told(chatEvent string) []string {
	var data []string
	for _, m := range c.frames() {
		var v struct{ ChatEvent, Data string }
		if m.group == "" && json.Unmarshal([]byte(m.body), &v) == nil && v.ChatEvent == chatEvent {
			data = append(data, v.Data)
		}
	}
	return data
}

// notices returns the texts that c has got from a group, without what is not for people.
func (c *conn) notices(group string) []string {
	var texts []string
	for _, m := range c.frames() {
		if m.group == group && strings.HasPrefix(m.kind, "text/plain") {
			texts = append(texts, m.body)
		}
	}
	return texts
}

// may reports whether c hears a room, and whether it may speak there.
func (c *conn) may(room string) (hear, speak bool) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.groups[room], c.rights[room]
}
