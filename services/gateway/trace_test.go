package gateway

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/wsclient"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit"
	"github.com/chatr-dev/chatr/services/gateway/internal/audit/livetrace"
)

// watcher is a SignalR client that does nothing by itself.
type watcher struct {
	t    *testing.T
	ws   *websocket.Conn
	rest []string // of the last message
}

type traceMessage struct {
	Type          int
	InvocationID  string
	Target, Error string
	Arguments     []struct {
		EventID    int
		EventName  string
		Template   string
		LogLevel   int
		Time       time.Time
		LogContext map[string]string
		Values     []string
	}
}

func withTrace(categories ...string) setup {
	return setup{tenant: tenant.Tenant{LiveTrace: tenant.LiveTrace{Enabled: true, Categories: categories}}}
}

func (s *server) traceURL() string {
	raw, err := token.Sign(key, s.url+"/livetrace", time.Hour, token.Options{})
	must(s.t, err)
	return s.url + "/livetrace?access_token=" + raw
}

func (s *server) dialTrace(t *testing.T) *watcher {
	t.Helper()
	ws, _, err := websocket.Dial(within(t), s.traceURL(), nil)
	must(t, err)
	t.Cleanup(func() { ws.CloseNow() })
	return &watcher{t: t, ws: ws}
}

func (w *watcher) send(text string) {
	w.t.Helper()
	must(w.t, w.ws.Write(within(w.t), websocket.MessageText, []byte(text)))
}

func (w *watcher) text() string {
	w.t.Helper()
	if len(w.rest) == 0 {
		_, message, err := w.ws.Read(within(w.t))
		must(w.t, err)
		w.rest = strings.Split(strings.TrimSuffix(string(message), "\x1e"), "\x1e")
	}
	text := w.rest[0]
	w.rest = w.rest[1:]
	return text
}

// next returns the next message that is not a ping.
func (w *watcher) next() (r traceMessage) {
	w.t.Helper()
	for {
		text := w.text()
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			w.t.Fatalf("%q: %v", text, err)
		}
		if r.Type != 6 {
			return r
		}
	}
}

// listen shakes hands and asks for events.
func (w *watcher) listen() {
	w.t.Helper()
	w.send("{\"protocol\":\"json\",\"version\":1}\x1e")
	if got := w.text(); got != "{}" {
		w.t.Fatalf("got %q for the handshake, want {}", got)
	}
	w.send("{\"type\":6}\x1e{\"type\":1,\"target\":\"startListeningToLogEvents\",\"invocationId\":\"7\",\"arguments\":[]}\x1e")
	if r := w.next(); r.Type != 3 || r.InvocationID != "7" || r.Error != "" {
		w.t.Fatalf("got %+v, want the completion", r)
	}
}

// find returns the first event of an id for whom ok holds.
func (w *watcher) find(id int, ok func(context map[string]string) bool) traceMessage {
	w.t.Helper()
	for {
		if r := w.next(); r.Target == "logEvent" && r.Arguments[0].EventID == id && ok(r.Arguments[0].LogContext) {
			return r
		}
	}
}

// TestLiveTrace watches on one node what happens on another.
//
// checklist:O08
func TestLiveTrace(t *testing.T) {
	t.Parallel()
	pairsOf(t, withTrace(), func(t *testing.T, a, b *server) {
		w := a.dialTrace(t)
		w.listen()
		eventually(t, "b knows that somebody watches", func() bool { return b.audit.Wants("default", audit.Messaging) })
		c := b.join(protocol.NameReliableJSON, "ana", "room")
		id := c.Info().ConnectionID
		hers := func(context map[string]string) bool { return context["connectionId"] == id }

		started := w.find(livetrace.ConnectionStarted, hers).Arguments[0]
		if started.LogContext["userId"] != "ana" || started.LogContext["hub"] != "chat" || started.LogContext["callerIpAddress"] != "127.0.0.1" || time.Since(started.Time) > time.Minute {
			t.Errorf("got %+v for a new connection", started)
		}
		must(t, c.SendToGroup(within(t), "room", text("a secret"), wsclient.SendOptions{}))
		sent := w.find(livetrace.MessageReceived, hers).Arguments[0]
		for sent.Values[0] == "joinGroup" {
			sent = w.find(livetrace.MessageReceived, hers).Arguments[0]
		}
		if len(sent.Values) != 1 || sent.Values[0] != "sendToGroup" {
			t.Errorf("got %+v for a message", sent)
		}
		w.send("{\"type\":1,\"target\":\"LogProperty\",\"arguments\":[6]}\x1e")
		if r := w.next(); r.Target != "LogProperty" || r.Arguments[0].EventName != "MessageReceived" || r.Arguments[0].Template != "Client asked for {operation}." || r.Arguments[0].LogLevel != 2 {
			t.Errorf("got %+v for a property", r)
		}
		if status, _ := b.call("POST", "/api/hubs/chat/:send", b.keyToken(key, "/api/hubs/chat/:send")); status != 202 {
			t.Errorf("got %d from REST", status)
		}
		request := w.find(livetrace.RequestAnswered, func(map[string]string) bool { return true }).Arguments[0]
		if len(request.Values) != 4 || request.Values[0] != "POST" || request.Values[1] != "/api/hubs/chat/:send" || request.Values[2] != "202" {
			t.Errorf("got %+v for a request", request)
		}
		must(t, c.Close(1000, ""))
		if ended := w.find(livetrace.ConnectionEnded, hers).Arguments[0]; len(ended.Values) != 1 || !strings.Contains(ended.Values[0], "client") {
			t.Errorf("got %+v for the end", ended)
		}
		if _, err := b.tryDial(b.url+"/client/hubs/chat?access_token=no", ""); err == nil {
			t.Error("got a connection without a right")
		}
		if refused := w.find(livetrace.AuthorizationFailed, func(map[string]string) bool { return true }).Arguments[0]; refused.Values[0] != "401" {
			t.Errorf("got %+v for a refusal", refused)
		}

		w.send("{\"type\":7}\x1e")
		eventually(t, "nobody watches any more", func() bool { return !b.audit.Wants("default", audit.Messaging) && a.watchers.Connected() == 0 })
	})
}

// TestNobodyWaitsForWatchers drains a node while somebody watches.
//
// checklist:O08
func TestNobodyWaitsForWatchers(t *testing.T) {
	t.Parallel()
	s := start(t, setup{tenant: withTrace().tenant})
	w := s.dialTrace(t)
	w.listen()
	s.stop()
	if r := w.next(); r.Type != 7 {
		t.Errorf("got %+v, want the goodbye", r)
	}
	select {
	case <-s.done:
	case <-within(t).Done(): // half the drain time
		t.Error("the node waits for those who only watch")
	}
}

// TestLiveTraceShowsWhatItMay watches messages only, and not what others do.
//
// checklist:O08
func TestLiveTraceShowsWhatItMay(t *testing.T) {
	t.Parallel()
	s := start(t, withTrace("messagingLogs"))
	w := s.dialTrace(t)
	w.listen()
	eventually(t, "the node knows", func() bool { return s.audit.Wants("default", audit.Messaging) })
	if s.audit.Wants("default", audit.Connectivity) || s.audit.Wants("default", audit.HTTP) || s.audit.Wants("other", audit.Messaging) {
		t.Error("more is told than may be watched")
	}
	c := s.join(protocol.NameJSON, "ana", "room")
	must(t, c.SendToGroup(within(t), "room", text("x"), wsclient.SendOptions{}))
	if r := w.next(); r.Target != "logEvent" || r.Arguments[0].EventID != livetrace.MessageReceived {
		t.Errorf("got %+v first, want a message", r)
	}
}

// TestLiveTraceRefuses has whoever may not watch told why.
//
// checklist:O08
func TestLiveTraceRefuses(t *testing.T) {
	t.Parallel()
	on := start(t, withTrace())
	off := start(t, setup{})
	private := start(t, setup{tenant: tenant.Tenant{LiveTrace: tenant.LiveTrace{Enabled: true}, NetworkACLs: tenant.Network{PublicNetwork: tenant.RequestRule{Deny: []string{"Trace"}}}}})
	client, err := token.Sign(key, on.url+"/client/hubs/chat", time.Hour, token.Options{})
	must(t, err)
	foreign, err := token.Sign(strings.Repeat("x", 40), on.url+"/livetrace", time.Hour, token.Options{})
	must(t, err)
	old, err := token.Sign(key, on.url+"/livetrace", -time.Hour, token.Options{})
	must(t, err)
	for name, test := range map[string]struct {
		url    string
		status int
		says   string
	}{
		"off":                {off.traceURL(), 404, "liveTrace.enabled"},
		"not from here":      {private.traceURL(), 403, "your network"},
		"no token":           {on.url + "/livetrace", 401, "access_token"},
		"a client's token":   {on.url + "/livetrace?access_token=" + client, 401, "audience"},
		"not our key":        {on.url + "/livetrace?access_token=" + foreign, 401, "signed"},
		"an old token":       {on.url + "/livetrace?access_token=" + old, 401, "expired"},
		"a malformed query":  {on.url + "/livetrace?%zz", 401, "needs a token"},
		"something below it": {on.url + "/livetrace/negotiate", 401, ""},
	} {
		_, answer, err := websocket.Dial(within(t), test.url, nil)
		if err == nil || answer == nil || answer.StatusCode != test.status {
			t.Errorf("%s: got %v, want %d", name, err, test.status)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		if !strings.Contains(string(body), test.says) {
			t.Errorf("%s: got %q, want it to speak of %q", name, body, test.says)
		}
	}
	if answer, err := httpClient.Get(on.traceURL()); err != nil || answer.StatusCode != 400 {
		t.Errorf("got %v %v without a handshake, want 400", answer, err)
	}
	for range livetrace.MaxListeners {
		on.dialTrace(t)
	}
	if _, answer, err := websocket.Dial(within(t), on.traceURL(), nil); err == nil || answer.StatusCode != 429 {
		t.Errorf("got %v with too many, want 429", err)
	}
}

// TestLiveTraceIsHardened sends what no SignalR client would; it costs whoever does it the connection, and nobody else.
//
// checklist:O08
func TestLiveTraceIsHardened(t *testing.T) {
	t.Parallel()
	s := start(t, withTrace())
	good := s.dialTrace(t)
	good.listen()
	hello := "{\"protocol\":\"json\",\"version\":1}\x1e"
	for name, test := range map[string]struct {
		messages []string
		says     string // before the end
	}{
		"another protocol":              {[]string{"{\"protocol\":\"messagepack\",\"version\":1}\x1e"}, "first message"},
		"another version":               {[]string{"{\"protocol\":\"json\",\"version\":2}\x1e"}, "first message"},
		"no JSON":                       {[]string{"hello\x1e"}, "first message"},
		"more than the first record":    {[]string{hello + "{\"type\":6}\x1e"}, "first message"},
		"no separator":                  {[]string{strings.TrimSuffix(hello, "\x1e")}, ""},
		"nothing":                       {[]string{""}, ""},
		"garbage later":                 {[]string{hello, "{]\x1e"}, "{}"},
		"an array":                      {[]string{hello, "[]\x1e"}, "{}"},
		"a type that is no number":      {[]string{hello, "{\"type\":\"1\"}\x1e"}, "{}"},
		"more than a client has to say": {[]string{hello, strings.Repeat("x", 20<<10) + "\x1e"}, "{}"},
		"its goodbye":                   {[]string{hello, "{\"type\":7}\x1e{]\x1e"}, "{}"},
	} {
		w := s.dialTrace(t)
		for _, m := range test.messages {
			w.send(m)
		}
		var heard strings.Builder
		for {
			_, message, err := w.ws.Read(within(t))
			if err != nil {
				break
			}
			heard.Write(message)
		}
		if !strings.Contains(heard.String(), test.says) {
			t.Errorf("%s: heard %q, want %q", name, heard.String(), test.says)
		}
	}
	good.send("{\"type\":1,\"target\":\"dropTables\",\"invocationId\":\"8\"}\x1e{\"type\":1,\"target\":\"LogProperty\",\"arguments\":[4711]}\x1e{\"type\":1,\"target\":\"LogProperty\",\"arguments\":[{}],\"invocationId\":\"9\"}\x1e{\"type\":42}\x1e")
	if r := good.next(); r.Type != 3 || r.InvocationID != "8" || !strings.Contains(r.Error, "dropTables") {
		t.Errorf("got %+v for an unknown method", r)
	}
	if r := good.next(); r.Target != "LogProperty" || r.Arguments[0].EventID != 4711 {
		t.Errorf("got %+v for an unknown event", r)
	}
	if r := good.next(); r.Type != 3 || r.InvocationID != "9" {
		t.Errorf("got %+v for no event", r)
	}
	eventually(t, "the others are gone", func() bool { return s.watchers.Connected() == 1 })
}
