package system_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/tests/people"
	"github.com/chatr-dev/chatr/tests/topology"
)

// TestEventsAway stops the events service while people are connected and starts it again.
func TestEventsAway(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{Env: []string{"CHATR_GATEWAY_UPSTREAM_EVENT_TIMEOUT=2s", "CHATR_GATEWAY_UPSTREAM_CONNECT_TIMEOUT=2s"}})
	ada, bob, carol := people.Come(t, top.A, "Ada", people.Plain), people.Come(t, top.A, "Bob", people.Plain), people.Come(t, top.B, "Carol", people.Plain)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	carol.Do("joinChat", tea)

	top.Events.Stop()
	stopped := time.Now()
	if err := ada.Send("createChat", people.Object{"id": people.UUID(2), "name": "Coffee"}); !people.IsNack(err) {
		t.Errorf("an event while the events service is away: got %v, want a nack", err)
	}
	t.Logf("nacked after %v", time.Since(stopped))
	asked := time.Now()
	if err := ada.Say(tea, "still here"); !people.IsNack(err) {
		t.Errorf("talking while the events service is away: got %v, want a nack, as nobody can keep it", err)
	}
	t.Logf("what was said was nacked after %v", time.Since(asked))
	if err := people.SignIn(t, top.A, "Frank").TryOpen(people.Plain); err == nil {
		t.Error("a connection was let in that nobody could decide about")
	}
	bob.Conn.Drop()

	top.Events.Start()
	back := time.Now()
	testkit.Eventually(t, people.Patience, func() bool {
		return ada.Send("createChat", people.Object{"id": people.UUID(2), "name": "Coffee"}) == nil
	}, "events are handled again")
	t.Logf("handled again after %v", time.Since(back))
	carol.AwaitFor(presenceTime, "Bob is gone", people.Is("userOffline", bob.ID))
	t.Logf("presence right after %v", time.Since(back))
	insist(t, ada, tea, "still here")
	carol.Await("what is said again", people.Line("still here"))
	if told := carol.All(people.Named("userOffline")); len(told) != 1 {
		t.Errorf("people said to be gone: got %+v, want Bob alone", told)
	}
	ada.Keeps(tea, []string{"still here"})
	people.Come(t, top.A, "Grace", people.Plain)
}

// insist says something until it is acked, as a page does. The text is its own key, so that it is the same message each time.
func insist(t *testing.T, p *people.Person, chatID, text string) {
	t.Helper()
	testkit.Eventually(t, people.Patience, func() bool { return p.Say(chatID, text) == nil }, fmt.Sprintf("%q is acked", text))
}

// TestEventsKilled kills the events service, which then gives nothing back of what it was storing, nor its turn to store. Meanwhile nothing
// is acked.
func TestEventsKilled(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{})
	ada := people.Come(t, top.A, "Ada", people.Plain)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	var said []string
	talk := func(what string) {
		for i := range 20 {
			said = append(said, fmt.Sprint(what, " ", i))
			insist(t, ada, tea, said[len(said)-1])
		}
	}
	talk("before")
	top.Events.Kill()
	killed := time.Now()
	said = append(said, "meanwhile")
	if err := ada.Say(tea, "meanwhile"); !people.IsNack(err) {
		t.Errorf("talking while the events service is away: got %v, want a nack, as nobody can keep it", err)
	}
	top.Events.Start()
	insist(t, ada, tea, "meanwhile")
	talk("after")
	ada.Keeps(tea, said)
	took := time.Since(killed)
	t.Logf("history is complete %v after the kill", took)
	if took > presenceTime {
		t.Errorf("history is complete %v after the kill, want at most %v", took, presenceTime)
	}
}

// TestHandlerAway keeps an application's handler away while connections come and go. When it is there it hears of
// every connection, first connected and then disconnected, once each. A gateway that stops meanwhile tells it before
// it ends, also of connections whose clients are away.
func TestHandlerAway(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	top := topology.Standalone(t, topology.Options{Hubs: `
      - name: lab
        handlers:
          - {url: "http://` + address + `/{event}", systemEvents: [connected, disconnected], skipValidation: true}
`})
	var all []string
	connect := func(subprotocol string) *people.Page {
		g, err := people.Dial(t, clientURL(t, top.A, "lab", token.Options{Subject: "ada"}), subprotocol)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, g.Conn.Info().ConnectionID)
		return g
	}
	for range 10 {
		connect(people.Plain).Conn.Drop()
	}
	heard := &application{events: map[string][]string{}}
	heard.listen(t, address)
	testkit.Eventually(t, people.Patience, func() bool { return heard.complete(all) }, "the handler has heard of all connections")
	for range 3 {
		connect(people.Reliable).Conn.Drop() // it waits for its client
	}
	if code := top.Gateways[0].Stop(); code != 0 {
		t.Errorf("status after SIGTERM: got %d, want 0", code)
	}
	if !heard.complete(all) {
		t.Errorf("events that the handler has heard when the gateway has stopped: %v, want both for each of %v", heard.events, all)
	}
	if log := top.Gateways[0].Log(); strings.Contains(log, "not delivered") {
		t.Errorf("the gateway has given up events: %s", log)
	}
}

// application is an event handler that notes the events of each connection.
type application struct {
	mu     sync.Mutex // guards events
	events map[string][]string
}

func (a *application) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	id := r.Header.Get("ce-connectionId")
	a.events[id] = append(a.events[id], r.Header.Get("ce-eventName"))
}

func (a *application) listen(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(a)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
}

// complete reports whether each connection has come and gone, once, and in that order.
func (a *application) complete(connections []string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range connections {
		if !slices.Equal(a.events[id], []string{"connected", "disconnected"}) {
			return false
		}
	}
	return len(a.events) == len(connections)
}

// clientURL is where a client of a hub connects to, with a token in it.
func clientURL(t *testing.T, front, hub string, o token.Options) string {
	t.Helper()
	endpoint := front + "/client/hubs/" + hub
	signed, err := token.Sign(topology.AccessKey, endpoint, time.Hour, o)
	if err != nil {
		t.Fatal(err)
	}
	return "ws" + strings.TrimPrefix(endpoint, "http") + "?access_token=" + signed
}

// TestPostgresAway stops Postgres and starts it again. What people say meanwhile is nacked, as nobody can keep it, and heard by nobody;
// said again afterwards it is heard, and in the history once.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	top := topology.Services(t, topology.Options{Env: []string{"CHATR_GATEWAY_UPSTREAM_EVENT_TIMEOUT=2s"}})
	ada, bob := people.Come(t, top.A, "Ada", people.Reliable), people.Come(t, top.B, "Bob", people.Reliable)
	tea := people.UUID(1)
	ada.Do("createChat", people.Object{"id": tea, "name": "Tea"})
	bob.Do("joinChat", tea)
	said := []string{"before"}
	if err := ada.Say(tea, "before"); err != nil {
		t.Fatal(err)
	}
	ada.Keeps(tea, said)

	top.Postgres.Stop()
	said = append(said, "without Postgres")
	if err := ada.Say(tea, "without Postgres"); !people.IsNack(err) {
		t.Errorf("talking while Postgres is away: got %v, want a nack", err)
	}
	for _, path := range []string{"/api/chats", "/api/users", "/api/chats/" + tea + "/messages", "/.auth/me"} {
		if status, body := ada.Call("GET", path, nil); status != http.StatusServiceUnavailable || body["detail"] == nil {
			t.Errorf("%s while Postgres is away: got %d %v, want 503 with a detail", path, status, body)
		}
	}
	if err := ada.Send("createChat", people.Object{"id": people.UUID(2), "name": "Coffee"}); !people.IsNack(err) {
		t.Errorf("an event that has to be stored: got %v, want a nack", err)
	}
	for _, p := range []*topology.Process{top.Events, top.API} {
		testkit.Eventually(t, people.Patience, func() bool { return strings.HasPrefix(p.Ready(), "503 ") }, p.Name+" is not ready")
		if reason := p.Ready(); strings.Contains(reason, "password") || !strings.Contains(reason, "postgres") {
			t.Errorf("readiness of %s: got %q, want that Postgres is away, without secrets", p.Name, reason)
		}
	}
	for _, g := range top.Gateways {
		if reason := g.Ready(); reason != "" {
			t.Errorf("%s needs no Postgres, but says %q", g.Name, reason)
		}
	}
	t.Logf("events service: %s", top.Events.Ready())

	top.Postgres.Start()
	back := time.Now()
	for _, p := range []*topology.Process{top.Events, top.API} {
		testkit.Eventually(t, people.Patience, func() bool { return p.Ready() == "" }, p.Name+" is ready again")
	}
	t.Logf("ready again after %v", time.Since(back))
	if heard := bob.All(people.Line("without Postgres")); heard != nil {
		t.Errorf("Bob has heard %+v, which nobody has kept", heard)
	}
	insist(t, ada, tea, "without Postgres")
	bob.Await("what was said", people.Line("without Postgres"))
	ada.Keeps(tea, said)
	t.Logf("history complete after %v", time.Since(back))
	ada.Do("createChat", people.Object{"id": people.UUID(2), "name": "Coffee"})
	for _, p := range []*people.Person{ada, bob} {
		if p.Closed() {
			t.Errorf("the socket of %s did not stay", p.Name)
		}
		if told := p.All(people.Named("userOffline")); told != nil {
			t.Errorf("people said to be gone: %+v, want none", told)
		}
	}
}
